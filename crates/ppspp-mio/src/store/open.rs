//! Opening the files of a fetch: what is there, whose it is, and whether it can be used.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ppspp_core::Metadata;
use ppspp_core::chunk::{Geometry, GeometryError, RangeSet};
use ppspp_core::integrity::{SavedGroup, Tree, TreeParams};
use thiserror::Error;

use super::FileStore;
use super::gather::Gather;
use super::layout::{Owner, owner};
use super::paths::Paths;
use super::sidecar::{Saved, Sidecar};
use super::syncer::Syncer;
use crate::file::{DiskFile, FileAction, FileError, FileProblem, Stamp, Storage, check_regular};
use crate::hashing::{HashError, hash_file};

/// How often a sidecar that another process removes at just this moment is opened again.
const LOCK_ATTEMPTS: usize = 8;

/// An output that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum StoreOpenError {
    /// A file is in the way, missing, or cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The metadata describe no possible content.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The file that has the output's name could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Something about the files of an earlier run that the user should know; the fetch goes on.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum StoreWarning {
    /// The sidecar cannot be read as one.
    #[error("{} is damaged, so what was fetched earlier cannot be used: starting afresh", .0.display())]
    DamagedSidecar(PathBuf),
    /// The sidecar is there, but the bytes are not.
    #[error("{} is missing, so what was fetched earlier is lost: starting afresh", .0.display())]
    MissingPart(PathBuf),
    /// The bytes are a finished file's too, so that nothing may be written there.
    #[error("{} is a finished file as well, which is left alone: starting afresh", .0.display())]
    SharedPart(PathBuf),
    /// The file system has no locks.
    #[error("{} cannot be locked here; make sure that no other process fetches into it", .0.display())]
    NoLock(PathBuf),
}

/// What was found when an output was opened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each fetch, taken apart at once")]
pub enum Opened {
    /// Nothing that can be used: everything is to be fetched.
    Fresh {
        /// The files.
        store: FileStore,
    },
    /// Parts from an earlier run, to be handed to the endpoint as `Content::Resume`, which verifies them.
    Resume {
        /// The files.
        store: FileStore,
        /// The hash tree as far as it is proven.
        tree: Tree,
        /// Chunks that were stored, only such as the tree can verify.
        stored: RangeSet,
        /// Nodes of groups that were stored in part.
        open_groups: Vec<SavedGroup>,
    },
    /// The finished file is there, and was just hashed: it is the content (ruling R23).
    AlreadyComplete {
        /// The file.
        path: PathBuf,
        /// Its complete tree.
        tree: Tree,
    },
}

impl FileStore {
    /// Opens the files for fetching the content of `metadata` into `output`, making them if they are not there.
    ///
    /// If `output` is there already it is hashed with all cores, unless its length shows that it is other content.
    /// With `force`, an output with other content is replaced when the fetch is complete, not before; and partial files
    /// of another download, or of another program, are replaced at once.
    ///
    /// # Errors
    /// [`StoreOpenError`]: a sentence that names the file, the reason and the remedy.
    pub fn open(output: &Path, metadata: &Metadata, force: bool) -> Result<Opened, StoreOpenError> {
        Self::open_watched(output, metadata, force, &|_, _| {}, &AtomicBool::new(false))
    }

    /// [`FileStore::open`] that reports how far the hashing of an existing output is and can be interrupted, as
    /// [`hash_file`] does.
    ///
    /// # Errors
    /// As [`FileStore::open`], and [`HashError::Cancelled`].
    pub fn open_watched(
        output: &Path,
        metadata: &Metadata,
        force: bool,
        progress: &dyn Fn(u64, u64),
        cancel: &AtomicBool,
    ) -> Result<Opened, StoreOpenError> {
        let geometry = metadata.geometry()?;
        let paths = Paths::new(output)?;
        let existing = match existing(&paths, metadata, progress, cancel) {
            // It is to be replaced: never mind what it is.
            Err(StoreOpenError::Hash(HashError::File(_))) if force => None,
            result => result?,
        };
        if let Some(tree) = existing {
            tidy(&paths, metadata);
            return Ok(Opened::AlreadyComplete { path: paths.output, tree });
        }
        let is_there = || fs::symlink_metadata(&paths.output).is_ok();
        let in_the_way = is_there();
        if !force && in_the_way {
            return Err(FileError::new(FileAction::Create, &paths.output, FileProblem::Exists).into());
        }
        let locked = Locked::open(&paths)?;
        if !in_the_way && is_there() {
            // Another process finished it before we had the lock.
            locked.abandon(&paths);
            drop(locked);
            return Self::open_watched(output, metadata, force, progress, cancel);
        }
        let found = locked.take_stock(&paths, metadata, force).inspect_err(|_| locked.abandon(&paths))?;
        locked.into_store(paths, force, geometry, found)
    }
}

/// The tree of the file that has the output's name, if that is the content; `None` if there is none, or another.
pub(super) fn existing(
    paths: &Paths,
    metadata: &Metadata,
    progress: &dyn Fn(u64, u64),
    cancel: &AtomicBool,
) -> Result<Option<Tree>, StoreOpenError> {
    let found = match fs::metadata(&paths.output) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io(FileAction::Open, &paths.output)(error).into()),
    };
    check_regular(&paths.output, &found)?;
    if found.len() == 0 || metadata.content_length.is_some_and(|length| length != found.len()) {
        return Ok(None);
    }
    // R1: two hashes side by side look like the content whose top they are.
    let forgeable = metadata.content_length.is_none()
        && Geometry::new(found.len(), metadata.chunk_size)?.chunk_count() == 1
        && found.len() == 2 * metadata.function.len() as u64;
    if forgeable {
        return Ok(None);
    }
    let params = TreeParams { function: metadata.function, chunk_size: metadata.chunk_size };
    let tree = hash_file(&paths.output, params, progress, cancel)?;
    Ok((*tree.root() == metadata.root).then_some(tree))
}

/// Removes what an earlier run left beside a complete file, if it is this content's and nobody uses it.
fn tidy(paths: &Paths, metadata: &Metadata) {
    let Ok(file) = File::options().read(true).write(true).open(&paths.sidecar) else { return };
    if file.try_lock().is_ok() {
        let file = DiskFile::new(file);
        if matches!(owner(&file, metadata), Ok(Owner::Us(_))) {
            paths.remove_partial();
        }
    }
}

/// The sidecar, opened and locked.
struct Locked {
    lock: File,
    sidecar: Arc<dyn Storage>,
    /// Bytes in the part file; `None` if there is none.
    part_len: Option<u64>,
    /// Whether the part file has another name.
    shared: bool,
    no_lock: Option<StoreWarning>,
}

/// What an earlier run left.
struct Found {
    sidecar: Sidecar,
    saved: Option<Saved>,
    warning: Option<StoreWarning>,
}

impl Locked {
    fn open(paths: &Paths) -> Result<Self, FileError> {
        file_len(&paths.sidecar)?;
        file_len(&paths.part)?;
        let (lock, no_lock) = open_locked(&paths.sidecar, &paths.output)?;
        let sidecar = lock.try_clone().map_err(FileError::io(FileAction::Open, &paths.sidecar))?;
        // Only now: whoever had the lock may have removed it.
        let part_len = file_len(&paths.part)?;
        let shared = is_shared(&paths.part);
        Ok(Self { lock, sidecar: Arc::new(DiskFile::new(sidecar)), part_len, shared, no_lock })
    }

    /// Removes the sidecar again if it is empty: it was just made, or is of no use to anybody.
    fn abandon(&self, paths: &Paths) {
        if self.sidecar.len().is_ok_and(|len| len == 0) {
            let _ = fs::remove_file(&paths.sidecar);
        }
    }

    /// What of an earlier run can be used. Changes nothing.
    fn take_stock(&self, paths: &Paths, metadata: &Metadata, force: bool) -> Result<Found, FileError> {
        let whose = owner(&*self.sidecar, metadata).map_err(FileError::io(FileAction::Read, &paths.sidecar))?;
        let refuse = |problem| Err(FileError::new(FileAction::Open, &paths.sidecar, problem));
        let damaged = || Some(StoreWarning::DamagedSidecar(paths.sidecar.clone()));
        let mut sidecar = Sidecar::new(Arc::clone(&self.sidecar), metadata.clone());
        let (saved, warning) = match whose {
            Owner::Us(Some(_)) if self.part_len.is_none() => {
                (None, Some(StoreWarning::MissingPart(paths.part.clone())))
            }
            Owner::Us(Some(_)) if self.shared => (None, Some(StoreWarning::SharedPart(paths.part.clone()))),
            Owner::Us(Some(geometry)) => match sidecar.load(geometry) {
                Some(saved) => (Some(saved), None),
                None => (None, damaged()),
            },
            // A part file gets its length only after the sidecar has its header.
            Owner::Nobody if !force && self.part_len.is_some_and(|len| len > 0) => {
                return Err(FileError::new(FileAction::Open, &paths.part, FileProblem::NotOurs));
            }
            Owner::Us(None) | Owner::Nobody => (None, None),
            Owner::Damaged => (None, damaged()),
            // A pair of such names is a download whose sidecar is beyond recognition.
            Owner::Unknown if self.part_len.is_some() || force => (None, damaged()),
            Owner::Unknown => return refuse(FileProblem::NotOurs),
            Owner::OtherSwarm(_) | Owner::OtherVersion(_) if force => (None, None),
            Owner::OtherSwarm(id) => return refuse(FileProblem::OtherSwarm(id)),
            Owner::OtherVersion(version) => return refuse(FileProblem::OtherVersion(version)),
        };
        Ok(Found { sidecar, saved, warning })
    }

    fn into_store(
        self,
        paths: Paths,
        force: bool,
        geometry: Option<Geometry>,
        found: Found,
    ) -> Result<Opened, StoreOpenError> {
        let saved = found.saved.filter(|saved| !saved.stored.is_empty());
        let part = open_part(&paths.part, saved.is_some());
        if part.is_err() {
            self.abandon(&paths);
        }
        let part = part.map_err(FileError::io(FileAction::Create, &paths.part))?;
        let part: Arc<dyn Storage> = Arc::new(DiskFile::new(part));
        let files = [(Arc::clone(&part), paths.part.clone()), (self.sidecar, paths.sidecar.clone())];
        let mut store = FileStore {
            paths,
            force,
            part,
            gather: Gather::default(),
            sidecar: found.sidecar,
            syncer: Syncer::start_default(files),
            warning: found.warning.or(self.no_lock),
            worth: saved.is_some(),
            finished: false,
            _lock: self.lock,
        };
        if let Some(Saved { tree, stored, open_groups }) = saved {
            if let Some(geometry) = store.sidecar.geometry() {
                store.set_geometry(geometry)?;
            }
            return Ok(Opened::Resume { store, tree, stored, open_groups });
        }
        store.sidecar.reset().map_err(FileError::io(FileAction::Write, &store.paths.sidecar))?;
        if let Some(geometry) = geometry {
            store.set_geometry(geometry)?;
        }
        Ok(Opened::Fresh { store })
    }
}

/// Opens the part file, a new one unless what is in it goes `on` to be used: the old one may be the finished file as well,
/// where a process was killed between giving it that name and taking this one away.
fn open_part(path: &Path, on: bool) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true);
    if on {
        return options.open(path);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => options.create_new(true).open(path),
    }
}

/// Whether the file at `path` has another name.
#[cfg(unix)]
fn is_shared(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).is_ok_and(|found| found.nlink() > 1)
}

/// Not known here: what is gone on with is written as verified, so that no byte of a finished file changes.
#[cfg(not(unix))]
fn is_shared(_path: &Path) -> bool {
    false
}

/// Length of the file at `path`, if there is one; anything else there is an error.
fn file_len(path: &Path) -> Result<Option<u64>, FileError> {
    // A link is not followed: it may lead to a file that is to stay as it is.
    match fs::symlink_metadata(path) {
        Ok(found) => check_regular(path, &found).map(|()| Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io(FileAction::Open, path)(error)),
    }
}

/// Opens the sidecar, makes it if it is not there, and locks it (ruling R23).
fn open_locked(sidecar: &Path, output: &Path) -> Result<(File, Option<StoreWarning>), FileError> {
    for _ in 0..LOCK_ATTEMPTS {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(sidecar);
        let file = file.map_err(FileError::io(FileAction::Create, sidecar))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "no lock");
                return Ok((file, Some(StoreWarning::NoLock(sidecar.to_owned()))));
            }
        }
        if is_at(&file, sidecar).map_err(FileError::io(FileAction::Lock, sidecar))? {
            return Ok((file, None));
        }
    }
    Err(FileError::new(FileAction::Lock, output, FileProblem::InUse))
}

/// Whether `file` is still the one at `path`: whoever held its lock a moment ago may have removed it.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = Stamp::from(&file.metadata()?);
    Ok(fs::metadata(path).is_ok_and(|named| Stamp::from(&named).place == opened.place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_lock_on_a_removed_sidecar_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sidecar");
        let (file, warning) = open_locked(&path, &path).unwrap();
        assert_eq!(warning, None);
        assert!(is_at(&file, &path).unwrap());
        assert_eq!(open_locked(&path, &path).unwrap_err().problem, FileProblem::InUse);
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        let (new, _) = open_locked(&path, &path).unwrap();
        assert!(is_at(&new, &path).unwrap() && !is_at(&file, &path).unwrap());
    }
}
