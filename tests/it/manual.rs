//! What is printed about the command line: scripts for shells, the manual page.
//!
//! What they must name is read from `--help`. The shells that are there judge their scripts, and
//! groff the page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::program::Program;
use crate::support::{on_path, skip};

const SUBCOMMANDS: [&str; 8] =
    ["serve", "demo", "check", "explain", "verify", "import", "completions", "man"];

const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// What a run with `args` prints; it ends with status 0 and says nothing else.
async fn printed(args: &[&str]) -> String {
    let mut program = Program::start(args, &[]);
    assert_eq!(program.status().await, Some(0), "{args:?}\n{}", program.stderr());
    assert_eq!(program.stderr(), "", "{args:?}");
    program.stdout()
}

/// The long flags in a text of help.
fn flags(help: &str) -> BTreeSet<&str> {
    let is_flag = |word: &&str| word.starts_with("--") && word.len() > 2;
    let words = help.lines().flat_map(|line| line.trim().split([' ', ',']).take(3));
    words.filter(is_flag).collect()
}

/// Puts `text` into a file of a new folder.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn run(program: &Path, args: &[&str], file: &Path) -> Output {
    Command::new(program).args(args).arg(file).output().unwrap()
}

#[tokio::test]
async fn help_names_the_subcommands_of_these_tests() {
    let help = printed(&["--help"]).await;
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = rest.split_once("\n\n").unwrap();
    let names = commands.lines().map(|line| line.split_whitespace().next().unwrap());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert_eq!(names, SUBCOMMANDS);
}

#[tokio::test]
async fn each_script_completes_every_subcommand_and_flag() {
    for shell in SHELLS {
        let script = printed(&["completions", shell]).await;
        for subcommand in SUBCOMMANDS {
            assert!(script.contains(subcommand), "{shell}: no {subcommand}\n{script}");
            for flag in flags(&printed(&[subcommand, "--help"]).await) {
                // fish has them without the dashes.
                let word = if shell == "fish" { format!("-l {}", &flag[2..]) } else { flag.into() };
                assert!(script.contains(&word), "{shell}: no {flag} of {subcommand}\n{script}");
            }
        }
    }
}

#[tokio::test]
async fn the_shells_that_are_there_take_their_scripts() {
    let mut judged = Vec::new();
    for shell in SHELLS {
        let Some(program) = on_path(shell) else { continue };
        let (_folder, path) = file(&printed(&["completions", shell]).await);
        let output = run(&program, &["-n"], &path);
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
        judged.push(shell);
    }
    assert!(judged.contains(&"bash"), "no bash to judge by");
}

#[tokio::test]
async fn bash_completes_what_is_typed() {
    let bash = on_path("bash").expect("bash");
    let (_folder, path) = file(&printed(&["completions", "bash"]).await);
    for (typed, expected) in [
        ("se", "serve"),
        ("serve --sn", "--snapshot"),
        ("verify --d", "--datacenter"),
        ("completions ", "bash fish zsh"),
    ] {
        let words: Vec<&str> = typed.split(' ').collect();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let last = words.last().unwrap();
        let line = format!(
            "source \"$0\"; COMP_WORDS=(fingerpost {}); COMP_CWORD={}; COMP_LINE='fingerpost {typed}'; \
             _fingerpost fingerpost '{last}' ''; echo \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len(),
        );
        let output = run(&bash, &["-c", &line], &path);
        let said = String::from_utf8(output.stdout).unwrap();
        // Where nothing is typed yet, flags are offered besides.
        let is_asked = |word: &&str| typed.contains("--") || !word.starts_with('-');
        let said: Vec<&str> = said.split_whitespace().filter(is_asked).collect();
        assert_eq!(said.join(" "), expected, "{typed}");
    }
}

#[tokio::test]
async fn the_manual_page_is_sound_and_has_every_flag() {
    let Some(groff) = on_path("groff") else { return skip("groff (tests/run provides it)") };
    let (_folder, path) = file(&printed(&["man"]).await);
    // -ww asks for all warnings. A page so wide breaks no line, and so no word.
    let output = run(&groff, &["-man", "-Tascii", "-ww", "-rLL=2000n", "-P-cbou"], &path);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let page = String::from_utf8(output.stdout).unwrap();
    for subcommand in SUBCOMMANDS {
        let section = section(&page, &subcommand.to_uppercase());
        let help = printed(&[subcommand, "--help"]).await;
        // These two are told once, at the top.
        let is_own = |flag: &&str| !["--help", "--version"].contains(flag);
        for flag in flags(&help).into_iter().filter(is_own) {
            assert!(section.contains(flag), "{subcommand}: no {flag}\n{section}");
        }
    }
    for (heading, word) in [
        ("NAME", "DNS"),
        ("SYNOPSIS", "<subcommands>"),
        ("OPTIONS", "--version"),
        ("EXIT STATUS", "78"),
    ] {
        assert!(section(&page, heading).contains(word), "{heading}\n{page}");
    }
}

/// The lines below a heading, which stands at the margin as nothing else does.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let (_, rest) =
        page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{heading}\n{page}"));
    let is_heading = |line: &str| line.starts_with(|c: char| c.is_ascii_uppercase());
    let end = rest.match_indices('\n').find(|(at, _)| is_heading(&rest[at + 1..]));
    end.map_or(rest, |(at, _)| &rest[..at])
}
