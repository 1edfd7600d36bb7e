//! The output file of one fetch, with everything it takes to go on after a crash.
//!
//! While a content is being fetched into `film.mp4`, its bytes lie in `film.mp4.part`, a sparse file, and
//! `film.mp4.ppspp`, the sidecar, keeps the hash tree as far as it is proven and which chunks are stored. The name
//! `film.mp4` appears when the content is complete, in one step, and the other two go (ruling R22). A lock on the
//! sidecar keeps other processes out (ruling R23).
//!
//! A process that is killed loses what came after the last [`FileStore::checkpoint`]; a machine that crashes, two
//! seconds more. Neither ever leaves a wrong byte: what the sidecar says is verified again before it counts.

mod gather;
mod layout;
mod open;
mod paths;
mod sidecar;
mod syncer;

pub use open::{Opened, StoreOpenError, StoreWarning};

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use ppspp_core::Checkpoint;
use ppspp_core::chunk::Geometry;

use self::gather::Gather;
use self::paths::Paths;
use self::sidecar::Sidecar;
use self::syncer::Syncer;
use crate::file::{FileAction, FileError, FileProblem, Storage};
use crate::source::FileSource;

/// The output file of one fetch while it is incomplete.
///
/// Takes up to 256 KiB of memory for writes that are being gathered, in at most 64 pieces (each keeps the buffer that it
/// is a part of), plus one hash tree page (16 KiB with SHA-256) for each that a failed checkpoint could not write.
/// Dropping it keeps what was written, so that the fetch can be resumed; if nothing was, the two files are removed.
#[derive(Debug)]
pub struct FileStore {
    paths: Paths,
    force: bool,
    part: Arc<dyn Storage>,
    gather: Gather,
    sidecar: Sidecar,
    syncer: Syncer,
    warning: Option<StoreWarning>,
    /// Whether the files hold anything worth keeping.
    worth: bool,
    finished: bool,
    /// Holds the lock. Closed last, after the files are in order.
    _lock: File,
}

impl FileStore {
    /// Where the finished file will be.
    pub fn output(&self) -> &Path {
        &self.paths.output
    }

    /// The file that holds the content while it is incomplete.
    pub fn partial(&self) -> &Path {
        &self.paths.part
    }

    /// What was odd about the files that an earlier run left, if anything.
    pub const fn warning(&self) -> Option<&StoreWarning> {
        self.warning.as_ref()
    }

    /// Makes the length of the content known; nothing can be written before. A cut whose length is not known yet
    /// changes nothing.
    ///
    /// If an earlier run knew another length, what it stored is forgotten.
    ///
    /// # Errors
    /// [`FileProblem::TooLarge`] if the file system cannot hold such a file, others as it reports them.
    pub fn set_geometry(&mut self, geometry: Geometry) -> Result<(), FileError> {
        let Some(length) = geometry.content_length() else { return Ok(()) };
        self.sidecar.set_geometry(geometry).map_err(FileError::io(FileAction::Write, &self.paths.sidecar))?;
        let failed = |error| FileError::io(FileAction::Write, &self.paths.part)(error);
        if self.part.len().map_err(failed)? != length {
            self.part.set_len(length).map_err(failed)?;
        }
        Ok(())
    }

    /// Stores `data` at `offset`. Adjacent writes are gathered, in whatever order they come, without a copy;
    /// [`FileStore::read`] sees them at once.
    ///
    /// # Errors
    /// [`FileProblem::Full`] if the disk is, [`FileProblem::OutOfRange`] past the content's end or while its length is
    /// unknown, others as the operating system reports them, also for earlier bytes that it failed to make durable.
    /// `data` is then not stored, though part of it may be in the file; what was stored earlier stays readable.
    pub fn write(&mut self, offset: u64, data: Bytes) -> Result<(), FileError> {
        self.check_range(FileAction::Write, offset, data.len())?;
        self.syncer.wrote()?;
        let some = !data.is_empty();
        self.gather.write(&*self.part, offset, data).map_err(FileError::io(FileAction::Write, &self.paths.part))?;
        self.worth |= some;
        Ok(())
    }

    /// The `len` bytes from `offset` on; zeros where nothing was stored.
    ///
    /// # Errors
    /// [`FileProblem::OutOfRange`] past the content's end or while its length is unknown, others as the operating
    /// system reports them.
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes, FileError> {
        self.check_range(FileAction::Read, offset, len)?;
        let mut bytes =
            self.part.read_vec_at(offset, len).map_err(FileError::io(FileAction::Read, &self.paths.part))?;
        self.gather.overlay(offset, &mut bytes);
        Ok(bytes.into())
    }

    /// A second way to read the file, from any thread, that goes on when the file gets its final name.
    ///
    /// # Errors
    /// As [`FileStore::write`], for what is still being gathered. Later writes may reach the reader late.
    pub fn reader(&mut self) -> Result<FileSource, FileError> {
        self.flush()?;
        let len = self.part.len().map_err(FileError::io(FileAction::Read, &self.paths.part))?;
        Ok(FileSource::new(Arc::clone(&self.part), self.paths.output.clone(), len))
    }

    /// Saves what is known of the content, so that the fetch can be resumed: writes what changed since the last time.
    ///
    /// The bytes of all chunks it names as stored must have been written before. Does not wait for the disk: a thread
    /// makes everything durable every two seconds.
    ///
    /// # Errors
    /// As [`FileStore::write`]. The next checkpoint then writes what this one could not.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), FileError> {
        if self.finished {
            return Ok(());
        }
        let flushed = self.flush();
        self.worth |= !checkpoint.stored.is_empty();
        // Also after a failed flush: what it names beyond the file's bytes will not verify, the rest is saved.
        self.sidecar.save(checkpoint).map_err(FileError::io(FileAction::Write, &self.paths.sidecar))?;
        flushed?;
        self.syncer.wrote()
    }

    /// Makes the complete content durable and gives it its final name, which it returns (ruling R22).
    ///
    /// To be called when every chunk was verified in this run; waits for the disk. The sidecar goes.
    ///
    /// # Errors
    /// [`FileProblem::Exists`] if a file of other content got the name meanwhile and the store was not opened with force, others
    /// as the operating system reports them. Everything is then still as it was.
    pub fn finish(&mut self) -> Result<PathBuf, FileError> {
        if !self.finished {
            if self.sidecar.geometry().is_none() {
                return Err(FileError::new(FileAction::Rename, &self.paths.part, FileProblem::Unfinished));
            }
            self.flush()?;
            self.syncer.sync()?;
            match self.paths.publish(self.force) {
                Err(error) if error.problem == FileProblem::Exists && self.is_there() => self.paths.remove_partial(),
                result => result?,
            }
            self.finished = true;
        }
        Ok(self.paths.output.clone())
    }

    /// Whether the file that has the output's name is this content: another process may have fetched it meanwhile.
    fn is_there(&self) -> bool {
        let existing = open::existing(&self.paths, self.sidecar.metadata(), &|_, _| {}, &AtomicBool::new(false));
        existing.is_ok_and(|tree| tree.is_some())
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.gather.flush(&*self.part).map_err(FileError::io(FileAction::Write, &self.paths.part))
    }

    fn check_range(&self, action: FileAction, offset: u64, len: usize) -> Result<(), FileError> {
        let length = self.sidecar.geometry().and_then(Geometry::content_length).unwrap_or(0);
        if offset.checked_add(len as u64).is_none_or(|end| end > length) {
            return Err(FileError::new(action, &self.paths.part, FileProblem::OutOfRange { offset, len }));
        }
        Ok(())
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if self.worth {
            if let Err(error) = self.flush() {
                tracing::warn!(%error, "the last bytes fetched are lost");
            }
        } else {
            self.paths.remove_partial();
        }
    }
}

#[cfg(test)]
mod tests;
