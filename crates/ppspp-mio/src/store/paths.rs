//! The names of a download's files, and giving the finished one its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::file::{FileAction, FileError, FileProblem};

/// What the names of a download's files are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Paths {
    /// The finished file.
    pub(super) output: PathBuf,
    /// The content as far as it is there.
    pub(super) part: PathBuf,
    /// What is known of it.
    pub(super) sidecar: PathBuf,
    /// The directory of all three.
    pub(super) directory: PathBuf,
}

impl Paths {
    /// The names for `output`, whose directory must exist.
    pub(super) fn new(output: &Path) -> Result<Self, FileError> {
        let error = |problem| FileError::new(FileAction::Create, output, problem);
        let separated =
            output.as_os_str().as_encoded_bytes().last().is_some_and(|last| std::path::is_separator(char::from(*last)));
        if separated || output.file_name().is_none() {
            return Err(error(if output.is_dir() { FileProblem::IsDirectory } else { FileProblem::NoName }));
        }
        let directory = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        match fs::metadata(&directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(error(FileProblem::MissingDirectory)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(error(FileProblem::MissingDirectory)),
            Err(cause) => return Err(error(FileProblem::from(&cause))),
        }
        let with = |suffix: &str| {
            let mut name = OsString::from(output);
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self { part: with(".part"), sidecar: with(".ppspp"), output: output.to_owned(), directory })
    }

    /// Gives the complete part file the output's name, which then is durable, and removes the sidecar.
    ///
    /// Unless `force` is set a file that has that name is left alone, also one that appears just now.
    pub(super) fn publish(&self, force: bool) -> Result<(), FileError> {
        self.publish_with(force, |from, to| fs::hard_link(from, to))
    }

    fn publish_with(&self, force: bool, link: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<(), FileError> {
        let failed = |error: io::Error| FileError::io(FileAction::Rename, &self.output)(error);
        self.sync_directory()?;
        if force {
            fs::rename(&self.part, &self.output).map_err(failed)?;
        } else if let Err(error) = link(&self.part, &self.output) {
            // Not every file system has links; where it has them, a link never replaces a file.
            if error.kind() == io::ErrorKind::AlreadyExists || fs::symlink_metadata(&self.output).is_ok() {
                return Err(FileError::new(FileAction::Rename, &self.output, FileProblem::Exists));
            }
            fs::rename(&self.part, &self.output).map_err(failed)?;
        }
        self.sync_directory()?;
        self.remove_partial();
        self.sync_directory()
    }

    /// Removes the part file and the sidecar as far as they are there.
    pub(super) fn remove_partial(&self) {
        // The sidecar goes last: a part file without one would look like somebody else's.
        for path in [&self.part, &self.sidecar] {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a file that is no longer needed cannot be removed");
                return;
            }
        }
    }

    /// Makes the names in the directory durable.
    fn sync_directory(&self) -> Result<(), FileError> {
        // Elsewhere a directory is no file that could be opened.
        if !cfg!(unix) {
            return Ok(());
        }
        match File::open(&self.directory).and_then(|directory| directory.sync_all()) {
            // Some file systems do not know how to, and some directories may be written but not read.
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                ) =>
            {
                Err(FileError::io(FileAction::Sync, &self.directory)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("film")).unwrap();
        fs::write(&paths.part, "content").unwrap();
        fs::write(&paths.sidecar, "state").unwrap();
        (dir, paths)
    }

    #[test]
    fn names_lie_side_by_side() {
        let paths = Paths::new(Path::new("film.tar.gz")).unwrap();
        assert_eq!(paths.part, Path::new("film.tar.gz.part"));
        assert_eq!(paths.sidecar, Path::new("film.tar.gz.ppspp"));
        assert_eq!(paths.directory, Path::new("."));
    }

    #[test]
    fn a_file_system_without_links_renames() {
        let (dir, paths) = files();
        paths.publish_with(false, |_, _| Err(io::ErrorKind::Unsupported.into())).unwrap();
        assert_eq!(fs::read(&paths.output).unwrap(), b"content");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_system_without_links_replaces_nothing() {
        let (_dir, paths) = files();
        fs::write(&paths.output, "precious").unwrap();
        let error = paths.publish_with(false, |_, _| Err(io::ErrorKind::PermissionDenied.into())).unwrap_err();
        assert_eq!(error.problem, FileProblem::Exists);
        assert_eq!(fs::read(&paths.output).unwrap(), b"precious");
        assert_eq!(fs::read(&paths.part).unwrap(), b"content");
        assert_eq!(fs::read(&paths.sidecar).unwrap(), b"state");
        paths.publish_with(true, |_, _| Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        assert_eq!(fs::read(&paths.output).unwrap(), b"content");
    }
}
