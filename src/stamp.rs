//! Files that are read at start, and again when they change: how they are read, and what tells one
//! that was replaced from the one that was read.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file as it was at one look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Of the last change of its contents and of the file itself: whoever gives the contents another
    /// time changes the file. Seconds and nanoseconds.
    changed: [(i64, i64); 2],
    /// Which file it is, as one may be renamed to the name of another.
    place: (u64, u64),
    bytes: u64,
}

impl Stamp {
    /// The file at `path` as it is now.
    ///
    /// # Errors
    ///
    /// Fails when there is none, or the system does not tell of it.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let changed =
            [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())];
        Ok(Self { changed, place: (metadata.dev(), metadata.ino()), bytes: metadata.len() })
    }
}

/// The whole of a regular file, or of one that a link leads to.
///
/// Whoever opens a pipe waits until somebody writes to it, and what was read of it once is gone.
///
/// # Errors
///
/// Fails when it cannot be read, or is no such file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The same as text.
///
/// # Errors
///
/// Fails besides when it is no UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_file_that_was_replaced_is_told_by_more_than_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["file", "other"].map(|name| folder.path().join(name));
        fs::write(&path, "first").unwrap();
        fs::write(&other, "again").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let first = Stamp::of(&path).unwrap();
        assert_eq!(Stamp::of(&path).unwrap(), first);

        OpenOptions::new().write(true).open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&path).unwrap(), first, "another file of the same length and time");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&*pipe, folder.path()] {
            assert_eq!(read(path).unwrap_err().to_string(), "it is no regular file", "{path:?}");
        }
        assert!(read(&folder.path().join("none")).is_err());
    }
}
