//! Files as this crate uses them: positional reads and writes, and errors that a user can act on.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// The file does not exist.
    #[error("there is no such file; check the path")]
    Missing,
    /// The directory the file would lie in does not exist.
    #[error("its directory does not exist; create it or choose another path")]
    MissingDirectory,
    /// Something else lies where the directory should be.
    #[error("it is not a directory; name one")]
    NotDirectory,
    /// The path ends in no file name.
    #[error("the path names no file; add a file name")]
    NoName,
    /// The user may not do this.
    #[error("permission denied; change its permissions or choose another path")]
    Denied,
    /// The file system takes no writes.
    #[error("the file system is read-only; choose another path")]
    ReadOnly,
    /// No room is left on the disk, or in the user's quota.
    #[error("the disk is full; make room and start again, what was saved is kept")]
    Full,
    /// The file system cannot hold a file of that size.
    #[error("the file system holds no file of that size; choose another disk")]
    TooLarge,
    /// This process, or the whole system, has as many files open as it may.
    #[error("too many files are open; use fewer at a time, close some programs, or raise the limit with ulimit -n")]
    TooManyOpen,
    /// A name in the path is longer than the file system allows.
    #[error("the name is too long or not allowed here; choose another one")]
    BadName,
    /// The path leads to a directory.
    #[error("it is a directory; name a file")]
    IsDirectory,
    /// The path leads to a device, a pipe, a socket or a link that leads nowhere.
    #[error("it is not a regular file; name one")]
    NotRegular,
    /// The file has no bytes.
    #[error("it is empty; there is nothing to share")]
    Empty,
    /// The file is not what it was a moment ago.
    #[error("it changed while it was being read; start again once it is complete")]
    Changed,
    /// The finished file's name is taken by other content.
    #[error("it exists and is not this content; use --force to replace it or choose another output")]
    Exists,
    /// The content's length is not even known yet: a bug of the caller.
    #[error("it is not complete; finish it once it is")]
    Unfinished,
    /// Another process holds the partial file (ruling R23).
    #[error("another process is fetching into it; wait for that one or choose another output")]
    InUse,
    /// The name of a partial file or its sidecar is taken by a file that this program did not make.
    #[error("it was not made by this program; move it away, choose another output, or use --force to replace it")]
    NotOurs,
    /// The sidecar belongs to the download of other content: of which swarm, and in what it differs if that is the same.
    #[error(
        "it belongs to an unfinished download of swarm {0}; finish that one, choose another output, or use --force to \
         discard it"
    )]
    OtherSwarm(String),
    /// The sidecar was written in a format this version does not know.
    #[error("its format is version {0}, this program reads version 1; use --force to discard it")]
    OtherVersion(u32),
    /// An offset or length does not lie within the content: a bug of the caller.
    #[error("bytes {offset}.. of length {len} do not lie within the content; report this as a bug")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: usize,
    },
    /// Anything else that the operating system reports.
    #[error("{message}; check the disk and the path")]
    Other {
        /// The kind of error.
        kind: io::ErrorKind,
        /// The operating system's words.
        message: String,
    },
}

impl From<&io::Error> for FileProblem {
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            _ if is_out_of_files(error) => Self::TooManyOpen,
            Kind::NotFound => Self::Missing,
            Kind::PermissionDenied => Self::Denied,
            Kind::ReadOnlyFilesystem => Self::ReadOnly,
            Kind::StorageFull | Kind::QuotaExceeded => Self::Full,
            Kind::FileTooLarge => Self::TooLarge,
            Kind::InvalidFilename => Self::BadName,
            Kind::IsADirectory => Self::IsDirectory,
            Kind::AlreadyExists => Self::Exists,
            Kind::NotADirectory => Self::MissingDirectory,
            Kind::UnexpectedEof => Self::Changed,
            kind => Self::Other { kind, message: error.to_string() },
        }
    }
}

/// Whether no more files can be opened: the standard library has no kind for that.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    // ENFILE and EMFILE of every Unix, ERROR_TOO_MANY_OPEN_FILES of Windows.
    let codes: &[i32] = if cfg!(unix) { &[23, 24] } else { &[4] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// What was being done to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FileAction {
    /// Opening it.
    Open,
    /// Creating it.
    Create,
    /// Reading from it.
    Read,
    /// Writing to it.
    Write,
    /// Making its content durable.
    Sync,
    /// Locking it.
    Lock,
    /// Giving it its name.
    Rename,
    /// Removing it.
    Remove,
}

impl fmt::Display for FileAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Lock => "lock",
            Self::Rename => "finish",
            Self::Remove => "remove",
        })
    }
}

/// Something could not be done to a file: what, to which one, why, and what helps.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("cannot {action} {}: {problem}", path.display())]
#[non_exhaustive]
pub struct FileError {
    /// What was being done.
    pub action: FileAction,
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: FileProblem,
}

impl FileError {
    pub(crate) fn new(action: FileAction, path: &Path, problem: FileProblem) -> Self {
        Self { action, path: path.to_owned(), problem }
    }

    /// For `map_err`: the error of `action` on `path`.
    pub(crate) fn io(action: FileAction, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(action, path, FileProblem::from(&error))
    }
}

/// A file, or what stands in for one in a test: reads and writes name their place, so that threads can share it.
pub(crate) trait Storage: fmt::Debug + Send + Sync {
    /// Reads some bytes at `offset`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some bytes at `offset`.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize>;
    /// Writes some bytes of `pieces`, one behind the other, at `offset`.
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let first = pieces.iter().find(|piece| !piece.is_empty());
        self.write_at(first.map_or(&[], |piece| piece), offset)
    }
    /// Cuts the file, or extends it with a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Returns once what was written is on the disk.
    fn sync(&self) -> io::Result<()>;

    /// Fills `buffer` from `offset` on.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = buffer.get_mut(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads into the spare capacity of `bytes`, behind what is there, from `offset` on; 0 at the end.
    fn read_more_at(&self, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        let filled = bytes.len();
        bytes.resize(bytes.capacity(), 0);
        let read = self.read_at(bytes.get_mut(filled..).unwrap_or_default(), offset);
        bytes.truncate(filled + read.as_ref().map_or(0, |count| *count));
        read
    }

    /// The `len` bytes from `offset` on.
    fn read_vec_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let next = offset + bytes.len() as u64;
            match self.read_more_at(&mut bytes, next) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // There may be more room than was asked for.
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Writes all of `data` from `offset` on. After an error any part of it may have been written.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(data)], offset)
    }

    /// Writes all of `pieces`, one behind the other, from `offset` on. After an error any part of them may have been
    /// written.
    fn write_all_vectored_at(&self, mut pieces: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        // Takes away empty ones at the front: of the rest something can be written.
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            let written = match &*pieces {
                [piece] => self.write_at(piece, offset),
                pieces => self.write_vectored_at(pieces, offset),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    IoSlice::advance_slices(&mut pieces, count);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A file of the operating system.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    /// Systems without positional reads move the one cursor under this lock.
    #[cfg(not(any(unix, windows)))]
    cursor: std::sync::Mutex<()>,
}

impl DiskFile {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            #[cfg(not(any(unix, windows)))]
            cursor: std::sync::Mutex::new(()),
        }
    }
}

impl Storage for DiskFile {
    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.file, data, offset)
    }

    // Spares the zeros that would be read over.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn read_more_at(&self, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.file, rustix::buffer::spare_capacity(bytes), offset)?)
    }

    // Not every Unix has this call; Apple's have it since macOS 11.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.file, pieces, offset)?)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.file, data, offset)
    }

    #[cfg(not(any(unix, windows)))]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use io::{Read as _, Seek as _};
        let _cursor = self.cursor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (&self.file).seek(io::SeekFrom::Start(offset))?;
        (&self.file).read(buffer)
    }

    #[cfg(not(any(unix, windows)))]
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        use io::{Seek as _, Write as _};
        let _cursor = self.cursor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (&self.file).seek(io::SeekFrom::Start(offset))?;
        (&self.file).write(data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What tells one state of a file from another: where it lies, how long it is, when it was last written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Length in bytes.
    pub(crate) len: u64,
    /// Nanoseconds from 1970 to the last modification; 0 where the system does not say.
    pub(crate) modified: i128,
    /// Device and inode; zero where there are none.
    pub(crate) place: (u64, u64),
}

impl From<&std::fs::Metadata> for Stamp {
    fn from(metadata: &std::fs::Metadata) -> Self {
        let modified = metadata.modified().map_or(0, |time| match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
            Err(before) => i128::try_from(before.duration().as_nanos()).map_or(i128::MIN, |nanos| -nanos),
        });
        Self { len: metadata.len(), modified, place: place_of(metadata) }
    }
}

#[cfg(unix)]
fn place_of(metadata: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn place_of(_metadata: &std::fs::Metadata) -> (u64, u64) {
    (0, 0)
}

/// Opens the regular file at `path` for reading and says how it looks.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Stamp), FileError> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(FileError::io(FileAction::Open, path))?;
    check_regular(path, &metadata)?;
    let file = File::open(path).map_err(FileError::io(FileAction::Open, path))?;
    let metadata = file.metadata().map_err(FileError::io(FileAction::Open, path))?;
    check_regular(path, &metadata)?;
    Ok((file, Stamp::from(&metadata)))
}

/// Refuses everything but a regular file.
pub(crate) fn check_regular(path: &Path, metadata: &std::fs::Metadata) -> Result<(), FileError> {
    if metadata.is_dir() {
        return Err(FileError::new(FileAction::Open, path, FileProblem::IsDirectory));
    }
    if !metadata.is_file() {
        return Err(FileError::new(FileAction::Open, path, FileProblem::NotRegular));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Memory, noise};

    #[test]
    #[cfg(target_os = "linux")]
    fn knows_what_the_system_says() {
        for (code, problem) in [
            (2, FileProblem::Missing),
            (13, FileProblem::Denied),
            (1, FileProblem::Denied),
            (17, FileProblem::Exists),
            (20, FileProblem::MissingDirectory),
            (23, FileProblem::TooManyOpen),
            (24, FileProblem::TooManyOpen),
            (21, FileProblem::IsDirectory),
            (27, FileProblem::TooLarge),
            (28, FileProblem::Full),
            (30, FileProblem::ReadOnly),
            (36, FileProblem::BadName),
            (122, FileProblem::Full),
        ] {
            assert_eq!(FileProblem::from(&io::Error::from_raw_os_error(code)), problem, "{code}");
        }
        let broken = FileProblem::from(&io::Error::from_raw_os_error(5));
        assert!(matches!(&broken, FileProblem::Other { message, .. } if message.contains("os error 5")), "{broken:?}");
    }

    /// Eleven bytes in six pieces.
    const PIECES: [&[u8]; 6] = [b"", b"a pie", b"", b"ce", b"of it", b""];

    fn write_pieces(file: &dyn Storage, offset: u64) -> io::Result<()> {
        file.write_all_vectored_at(&mut PIECES.map(IoSlice::new), offset)
    }

    #[test]
    fn pieces_are_written_to_their_end() {
        let file = Memory::new(b"0123456789abcdef".to_vec());
        write_pieces(&file, 2).unwrap();
        assert_eq!((file.bytes().as_slice(), file.writes()), (&b"01a pieceof itef"[..], 1));
        file.write_all_vectored_at(&mut [IoSlice::new(b""), IoSlice::new(b"")], 0).unwrap();
        file.write_all_vectored_at(&mut [], 0).unwrap();
        assert_eq!(file.writes(), 1, "there is nothing to write");

        // Cut off within a piece, at the end of one and within the last one, and interrupted.
        let file = Memory::new(vec![0; 14]);
        file.answer_writes([Err(io::ErrorKind::Interrupted), Ok(3), Ok(2), Ok(3), Err(io::ErrorKind::Interrupted)]);
        write_pieces(&file, 1).unwrap();
        assert_eq!((file.bytes().as_slice(), file.writes()), (&b"\0a pieceof it\0"[..], 4));
    }

    #[test]
    fn pieces_that_cannot_be_written_are_an_error() {
        for (answer, kind) in
            [(Ok(0), io::ErrorKind::WriteZero), (Err(io::ErrorKind::StorageFull), io::ErrorKind::StorageFull)]
        {
            let file = Memory::new(vec![0; 12]);
            file.answer_writes([Ok(6), answer]);
            assert_eq!(write_pieces(&file, 0).unwrap_err().kind(), kind);
            assert_eq!(file.bytes(), b"a piec\0\0\0\0\0\0");
            file.answer_writes([Ok(2), answer]);
            assert_eq!(file.write_all_at(b"word", 8).unwrap_err().kind(), kind);
            assert_eq!(file.bytes(), b"a piec\0\0wo\0\0");
        }
    }

    /// A file that writes one piece at a time.
    #[derive(Debug)]
    struct Plain(DiskFile);

    impl Storage for Plain {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buffer, offset)
        }

        fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
            self.0.write_at(data, offset)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
    }

    #[test]
    fn pieces_get_to_the_disk() {
        let disk = || DiskFile::new(tempfile::tempfile().unwrap());
        for file in [&disk() as &dyn Storage, &Plain(disk())] {
            // Beyond 4 GiB: all bits of the place count.
            let offset = (1 << 33) + 5;
            write_pieces(file, offset).unwrap();
            let mut read = [0; 14];
            file.read_exact_at(&mut read, offset - 2).unwrap();
            assert_eq!(&read, b"\0\0a pieceof it");
            // More pieces than the system takes at a time.
            let data = noise(5000, 1);
            let mut many: Vec<_> = data.chunks(2).map(IoSlice::new).collect();
            file.write_all_vectored_at(&mut many, 7).unwrap();
            let mut read = vec![0; 5000];
            file.read_exact_at(&mut read, 7).unwrap();
            assert_eq!(read, data);
        }
    }

    #[test]
    fn what_is_read_is_as_long_as_asked_for_or_an_error() {
        let data = noise(300_000, 1);
        let disk = || {
            let disk = DiskFile::new(tempfile::tempfile().unwrap());
            disk.write_all_at(&data, 0).unwrap();
            disk
        };
        let memory = Memory::new(data.clone());
        for file in [&disk() as &dyn Storage, &Plain(disk()), &memory] {
            // The last comes in several parts from memory.
            for range in [0..0, 0..1, 1000..17_384, 299_999..300_000, 0..300_000] {
                let read = file.read_vec_at(range.start as u64, range.len()).unwrap();
                assert_eq!(read, data[range]);
            }
            assert_eq!(file.read_vec_at(299_000, 1001).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            let mut more = Vec::with_capacity(64);
            more.extend_from_slice(b"there");
            assert_eq!(file.read_more_at(&mut more, 299_990).unwrap(), 10);
            assert_eq!(more, [b"there", &data[299_990..]].concat());
            assert_eq!(file.read_more_at(&mut more, 300_000).unwrap(), 0);
            assert_eq!(more.len(), 15);
        }
    }

    #[test]
    fn says_everything_in_one_sentence() {
        let path = Path::new("/films/a film");
        let error = FileError::io(FileAction::Write, path)(io::ErrorKind::StorageFull.into());
        let words = "cannot write /films/a film: the disk is full; make room and start again, what was saved is kept";
        assert_eq!(error.to_string(), words);
    }
}
