use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ppspp_core::Metadata;
use ppspp_core::chunk::{ChunkIndex, ChunkRange, ChunkSize, GeometryError, RangeSet};
use ppspp_core::integrity::HashFunction;

use super::*;
use crate::hashing::HashError;
use crate::testing::{Content, Leecher, noise};

mod crashes;
mod disk;
mod names;

/// A content and the directory it is fetched into.
struct Fetch {
    content: Content,
    dir: tempfile::TempDir,
}

impl Fetch {
    fn new(content: Content) -> Self {
        Self { content, dir: tempfile::tempdir().unwrap() }
    }

    fn small() -> Self {
        Self::new(Content::new(100_000, HashFunction::Sha256, 1024, 1))
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("film.mp4")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("film.mp4.part")
    }

    fn sidecar(&self) -> PathBuf {
        self.dir.path().join("film.mp4.ppspp")
    }

    fn open(&self) -> Result<Opened, StoreOpenError> {
        FileStore::open(&self.output(), &self.content.metadata, false)
    }

    fn fresh(&self) -> FileStore {
        fresh(self.open())
    }

    fn problem(&self) -> FileProblem {
        problem(self.open())
    }

    fn files(&self) -> BTreeSet<String> {
        fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Stores those chunks and saves a checkpoint.
    fn store(&self, store: &mut FileStore, leecher: &mut Leecher, chunks: impl IntoIterator<Item = u64>) {
        for chunk in chunks.into_iter().map(ChunkIndex::new) {
            leecher.receive(&self.content, chunk);
            let (offset, data) = self.content.bytes(ChunkRange::single(chunk));
            store.write(offset, Bytes::copy_from_slice(data)).unwrap();
        }
        store.checkpoint(leecher.checkpoint()).unwrap();
    }

    /// A download in which those chunks were stored before the process was killed.
    fn killed_after(self, chunks: impl IntoIterator<Item = u64>) -> Self {
        let mut store = self.fresh();
        self.store(&mut store, &mut Leecher::new(&self.content), chunks);
        self
    }

    /// Copies of the files as they are now, as if the process were killed at this instant.
    fn snapshot(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in self.files() {
            fs::copy(self.dir.path().join(&name), copy.path().join(&name)).unwrap();
        }
        copy
    }

    /// Opens the files in `dir` and returns the chunks that are verified there, after checking their bytes.
    fn verified_in(&self, dir: &Path) -> RangeSet {
        let opened = FileStore::open(&dir.join("film.mp4"), &self.content.metadata, false);
        match opened.unwrap() {
            Opened::Fresh { .. } => RangeSet::new(),
            Opened::AlreadyComplete { path, tree } => {
                assert_eq!(fs::read(path).unwrap(), self.content.data);
                assert!(tree.is_complete());
                self.content.geometry.all().into()
            }
            Opened::Resume { mut store, tree, stored, open_groups } => {
                let read = |offset, len| store.read(offset, len).unwrap();
                let leecher = Leecher::resume(tree, &stored, &open_groups, read);
                for run in leecher.stored.runs() {
                    let (offset, data) = self.content.bytes(run);
                    assert_eq!(store.read(offset, data.len()).unwrap(), data, "a wrong byte in {run:?}");
                }
                store.set_geometry(self.content.geometry).unwrap();
                leecher.stored
            }
        }
    }

    fn verified(&self) -> RangeSet {
        self.verified_in(self.dir.path())
    }
}

fn fresh(opened: Result<Opened, StoreOpenError>) -> FileStore {
    match opened {
        Ok(Opened::Fresh { store }) => store,
        other => panic!("{other:?}"),
    }
}

fn problem(opened: Result<Opened, StoreOpenError>) -> FileProblem {
    match opened {
        Err(StoreOpenError::File(error)) => {
            let text = error.to_string();
            assert!(text.contains(&error.path.display().to_string()) && text.contains("; "), "{text}");
            error.problem
        }
        other => panic!("{other:?}"),
    }
}

fn set(chunks: impl IntoIterator<Item = u64>) -> RangeSet {
    chunks.into_iter().map(|chunk| ChunkRange::new(chunk, chunk + 1)).collect()
}

/// The numbers below `count` in an order without a pattern.
fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let keys = noise(count as usize * 8, seed);
    let mut order: Vec<_> = keys.chunks(8).zip(0..count).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, chunk)| chunk).collect()
}
