//! Tells the program which commit it is built from.
//!
//! Only where the sources are a checkout of git's: those of a crate's archive, or of an image's
//! build, are of no commit that could be told, and then the version stands alone.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let revision = revision().unwrap_or_default();
    let description = match &*revision {
        "" => version,
        revision => format!("{version} ({revision})"),
    };
    println!("cargo::rustc-env=FINGERPOST_REVISION={revision}");
    println!("cargo::rustc-env=FINGERPOST_DESCRIPTION={description}");
}

/// The commit that is checked out; `None` where git is missing or knows nothing of these sources.
fn revision() -> Option<String> {
    // An archive may be unpacked inside the checkout of something else, whose commit is not ours.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    watch(&git(&["rev-parse", "--git-path", "HEAD"])?);
    // A detached HEAD holds the commit itself.
    if let Some(reference) = git(&["symbolic-ref", "--quiet", "HEAD"]) {
        watch_reference(&git(&["rev-parse", "--git-path", &reference])?)?;
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// Has this run again when the branch moves.
fn watch_reference(path: &str) -> Option<()> {
    if Path::new(path).exists() {
        watch(path);
        return Some(());
    }
    // It is packed, and the next commit makes a file of it; to wait for that would build each time.
    watch(&git(&["rev-parse", "--git-path", "packed-refs"])?);
    let folder = Path::new(path).ancestors().find(|folder| folder.is_dir())?;
    watch(folder.to_str()?);
    Some(())
}

fn watch(path: &str) {
    println!("cargo::rerun-if-changed={path}");
}

/// What git says on one line; `None` where it says nothing good.
fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Of these sources, whatever repository git was told of.
    command.args(arguments).env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
