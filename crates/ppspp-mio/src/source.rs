//! Reading the bytes of a complete file, to share them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::file::{DiskFile, FileAction, FileError, FileProblem, Storage, open_regular};

/// A file whose bytes are read for peers. Stays open; a new file under the same name does not disturb it.
///
/// Nothing is checked here: whoever sends the bytes verifies each group against the tree first (ruling R2).
#[derive(Clone, Debug)]
pub struct FileSource {
    file: Arc<dyn Storage>,
    path: PathBuf,
    len: u64,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`FileError`] if it is missing, unreadable, empty, a directory, or anything else but a regular file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let (file, stamp) = open_regular(path)?;
        if stamp.len == 0 {
            return Err(FileError::new(FileAction::Open, path, FileProblem::Empty));
        }
        Ok(Self::new(Arc::new(DiskFile::new(file)), path.to_owned(), stamp.len))
    }

    pub(crate) fn new(file: Arc<dyn Storage>, path: PathBuf, len: u64) -> Self {
        Self { file, path, len }
    }

    /// Where the file was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes when the file was opened; never zero.
    #[expect(clippy::len_without_is_empty, reason = "an empty file cannot be opened")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`FileProblem::OutOfRange`] past the length the file had when it was opened, [`FileProblem::Changed`] if it has
    /// become shorter since, others as the operating system reports them.
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes, FileError> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(FileError::new(FileAction::Read, &self.path, FileProblem::OutOfRange { offset, len }));
        }
        let bytes = self.file.read_vec_at(offset, len).map_err(FileError::io(FileAction::Read, &self.path))?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_lies_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let source = FileSource::open(&path).unwrap();
        assert_eq!(source.len(), 10);
        assert_eq!(source.path(), path);
        assert_eq!(source.read(0, 10).unwrap(), "0123456789");
        assert_eq!(source.read(3, 4).unwrap(), "3456");
        assert_eq!(source.read(10, 0).unwrap(), "");
        for (offset, len) in [(0, 11), (10, 1), (u64::MAX, 1), (11, 0)] {
            let error = source.read(offset, len).unwrap_err();
            assert_eq!(error.problem, FileProblem::OutOfRange { offset, len });
        }
    }

    #[test]
    fn a_file_that_shrank_is_no_short_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        let source = FileSource::open(&path).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(50).unwrap();
        assert_eq!(source.read(0, 50).unwrap().len(), 50);
        assert_eq!(source.read(40, 20).unwrap_err().problem, FileProblem::Changed);
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        let cases = [
            (missing.clone(), FileProblem::Missing, "there is no such file; check the path"),
            (empty.clone(), FileProblem::Empty, "it is empty; there is nothing to share"),
            (dir.path().to_owned(), FileProblem::IsDirectory, "it is a directory; name a file"),
            #[cfg(unix)]
            ("/dev/null".into(), FileProblem::NotRegular, "it is not a regular file; name one"),
            #[cfg(unix)]
            (empty.join("below"), FileProblem::MissingDirectory, "its directory does not exist"),
        ];
        for (path, problem, words) in cases {
            let error = FileSource::open(&path).unwrap_err();
            assert_eq!(error.problem, problem);
            let text = error.to_string();
            assert!(text.starts_with(&format!("cannot open {}: {words}", path.display())), "{text}");
        }
    }
}
