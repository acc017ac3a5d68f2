//! One file on disk, replaced whole: written aside, synced, renamed, and the rename synced.
//!
//! ```text
//!   FILE.0123456789abcdef.new    being written; left only where we were killed, and removed at start
//!   FILE                         whole, always
//!   FILE.refused                 what could not be taken, for the operator
//! ```
//! Knows nothing of what is in it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::warm::{Refusal, WriteError};

/// Whether there is a folder that a file at `path` could be in.
pub fn has_folder(path: &Path) -> bool {
    folder(path).is_dir()
}

/// The bytes at `path`, and when they were last said to be right. `None` where there is nothing.
///
/// # Errors
///
/// Fails when it is no regular file, too large, or cannot be read.
pub fn read(path: &Path, bytes_max: usize) -> Result<Option<(Vec<u8>, i64)>, Refusal> {
    // Looked at first, as to open a pipe would wait for its other end.
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => (),
        Ok(_) => return Err(Refusal::NoFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let file = File::open(path)?;
    let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(Refusal::TooLarge { bytes_max });
    }
    Ok(Some((bytes, i64::try_from(modified.as_millis()).unwrap_or(i64::MAX))))
}

/// Puts a file with `parts` in the place of the one at `path`.
///
/// # Errors
///
/// Fails when the system does, or when there is something else than a regular file. What was there
/// stays then.
pub fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), WriteError> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(WriteError::NoFile);
    }
    let aside = aside(path);
    let written = write_new(&aside, parts).and_then(|()| fs::rename(&aside, path));
    if let Err(error) = written {
        // A disk that is full has room for nothing of no use.
        fs::remove_file(&aside).ok();
        return Err(error.into());
    }
    Ok(File::open(folder(path))?.sync_all()?)
}

/// Finds out whether [`replace`] could write at `path`; nothing is left there.
///
/// # Errors
///
/// Fails when the system does.
pub fn try_folder(path: &Path) -> io::Result<()> {
    let aside = aside(path);
    write_new(&aside, &[]).and_then(|()| fs::remove_file(&aside))
}

/// Says that what is at `path` is right still.
///
/// # Errors
///
/// Fails when the system does, as when the file is gone.
pub fn touch(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.set_modified(SystemTime::now())
}

/// Renames what is at `path` to what is returned, in the place of what was set aside before.
///
/// # Errors
///
/// Fails when the system does.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let refused = beside(path, ".refused");
    fs::rename(path, &refused)?;
    Ok(refused)
}

/// Removes what was being written when an earlier run was killed, as far as it can be.
pub fn remove_leftovers(path: &Path) {
    let Ok(entries) = fs::read_dir(folder(path)) else { return };
    let Some(name) = path.file_name() else { return };
    for entry in entries.flatten() {
        if is_leftover(&entry.file_name().to_string_lossy(), &name.to_string_lossy()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn is_leftover(name: &str, of: &str) -> bool {
    let digits = name.strip_prefix(of).and_then(|rest| rest.strip_prefix('.'));
    let digits = digits.and_then(|rest| rest.strip_suffix(ASIDE));
    digits.is_some_and(|digits| {
        digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    // Who may not ask Consul need not read what it says.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

fn aside(path: &Path) -> PathBuf {
    beside(path, &format!(".{:016x}{ASIDE}", fastrand::u64(..)))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

const ASIDE: &str = ".new";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(read(&path, 9).unwrap().is_none());
        replace(&path, &[b"on", b"e"]).unwrap();
        replace(&path, &[b"two"]).unwrap();
        assert_eq!(read(&path, 3).unwrap().unwrap().0, b"two");
        assert_eq!(names(folder.path()), ["s"]);
        let refused = read(&path, 2).unwrap_err();
        assert_eq!(refused.to_string(), "it has more than 2 bytes, which is snapshot.bytes_max");
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::create_dir(&path).unwrap();
        assert!(matches!(replace(&path, &[b"x"]), Err(WriteError::NoFile)));
        assert!(matches!(read(&path, 9), Err(Refusal::NoFile)));
        assert!(replace(&folder.path().join("no/s"), &[b"x"]).is_err());
        assert_eq!(names(folder.path()), ["s"]);
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let others = ["s.0123456789abcde.new", "s.new", "s", "t.0123456789abcdef.new", "s.refused"];
        for name in others.iter().chain(&["s.0123456789abcdef.new"]) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_leftovers(&folder.path().join("s"));
        let mut expected = others;
        expected.sort_unstable();
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn what_is_right_still_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "x").unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert_eq!(read(&path, 9).unwrap().unwrap().1, 0);
        touch(&path).unwrap();
        assert!(read(&path, 9).unwrap().unwrap().1 > 0);
        assert!(touch(&folder.path().join("none")).is_err(), "nothing is made");
    }
}
