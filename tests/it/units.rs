//! The units for systemd, judged by systemd itself, without running it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::program::{ANY_PORT, Program};
use crate::support::{on_path, skip};

/// The tool, and the units in a folder of their own, with the binary under test where they say.
fn judge() -> Option<(PathBuf, tempfile::TempDir)> {
    let Some(tool) = on_path("systemd-analyze") else {
        skip("systemd-analyze (tests/run provides it)");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["fingerpost.service", "fingerpost.socket"] {
        let text = fs::read_to_string(units().join(name)).unwrap();
        let text = text.replace("/usr/local/bin/fingerpost", env!("CARGO_BIN_EXE_fingerpost"));
        fs::write(folder.path().join(name), text).unwrap();
    }
    Some((tool, folder))
}

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd")
}

fn run(tool: &Path, args: &[&str], folder: &Path) -> Output {
    Command::new(tool).args(args).current_dir(folder).output().unwrap()
}

#[test]
fn they_say_nothing_that_systemd_does_not_understand() {
    let Some((tool, folder)) = judge() else { return };
    for name in ["./fingerpost.service", "./fingerpost.socket"] {
        let output = run(&tool, &["verify", "--man=no", name], folder.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Complaints about other units of the machine are not ours.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("fingerpost")).collect();
        assert_eq!(ours, [""; 0], "{name}");
    }
}

#[test]
fn the_service_is_shut_in() {
    let Some((tool, folder)) = judge() else { return };
    let args = ["security", "--offline=true", "--threshold=20", "./fingerpost.service"];
    let output = run(&tool, &args, folder.path());
    // It fails above the threshold, which is of tenths.
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("Overall exposure level"), "{said}");
}

#[tokio::test]
async fn the_command_is_one_that_the_program_takes() {
    let text = fs::read_to_string(units().join("fingerpost.service")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = format!("dns.listen = [{ANY_PORT:?}]\nadmin.listen = {ANY_PORT:?}\n");
    fs::write(folder.path().join("fingerpost.toml"), config).unwrap();
    let here = folder.path().to_str().unwrap();
    let line = line.replace("/etc/fingerpost", here).replace("${STATE_DIRECTORY}", here);
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let mut program = Program::start(&words, &[("CONSUL_HTTP_ADDR", "127.0.0.1:1")]);
    program.dns_address().await;
    program.signal("TERM");
    assert_eq!(program.status().await, Some(0), "{}", program.stderr());
}
