use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ppspp_core::Metadata;
use ppspp_core::chunk::{ChunkIndex, ChunkRange, ChunkSize, GeometryError, RangeSet};
use ppspp_core::integrity::HashFunction;

use super::*;
use crate::hashing::HashError;
use crate::testing::{Content, Leecher, noise};

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

#[test]
fn a_whole_fetch_leaves_only_the_file() {
    for (len, function, chunk_size) in [
        (1, HashFunction::Sha256, 1024),
        (1024, HashFunction::Sha1, 1024),
        (1025, HashFunction::Sha224, 1024),
        (300 * 1024, HashFunction::Sha384, 512),
        (200_001, HashFunction::Sha512, 61_440),
    ] {
        let fetch = Fetch::new(Content::new(len, function, chunk_size, 2));
        let mut store = fetch.fresh();
        assert!(store.warning().is_none());
        fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..fetch.content.geometry.chunk_count());
        assert_eq!(fetch.files(), ["film.mp4.part", "film.mp4.ppspp"].map(String::from).into());
        let reader = store.reader().unwrap();
        assert_eq!(store.finish().unwrap(), fetch.output());
        assert_eq!(store.finish().unwrap(), fetch.output(), "again is harmless");
        assert_eq!(fetch.files(), ["film.mp4".to_owned()].into());
        assert_eq!(fs::read(fetch.output()).unwrap(), fetch.content.data);
        assert_eq!(reader.read(0, len).unwrap(), fetch.content.data);
        assert_eq!(store.read(0, len).unwrap(), fetch.content.data);
        drop(store);
        assert_eq!(fetch.files(), ["film.mp4".to_owned()].into());
    }
}

#[test]
fn r22_a_kill_at_any_instant_costs_only_what_came_after_the_last_checkpoint() {
    for (len, function, chunk_size) in [
        (100_000, HashFunction::Sha256, 1024),
        (70_001, HashFunction::Sha1, 512),
        (16_384, HashFunction::Sha256, 1024),
        (300_000, HashFunction::Sha512, 16_384),
    ] {
        let fetch = Fetch::new(Content::new(len, function, chunk_size, 3));
        let count = fetch.content.geometry.chunk_count();
        let mut store = fetch.fresh();
        let mut leecher = Leecher::new(&fetch.content);
        let mut saved = RangeSet::new();
        for (step, chunk) in shuffled(count, 4).into_iter().map(ChunkIndex::new).enumerate() {
            leecher.receive(&fetch.content, chunk);
            let (offset, data) = fetch.content.bytes(ChunkRange::single(chunk));
            store.write(offset, Bytes::copy_from_slice(data)).unwrap();
            if step % 7 == 6 {
                store.checkpoint(leecher.checkpoint()).unwrap();
                saved = leecher.stored.clone();
            }
            let copy = fetch.snapshot();
            assert_eq!(fetch.verified_in(copy.path()), saved, "after chunk number {step}");
            assert!(!copy.path().join("film.mp4").exists());
        }
        store.checkpoint(leecher.checkpoint()).unwrap();
        assert_eq!(fetch.verified_in(fetch.snapshot().path()), fetch.content.geometry.all().into());
        store.finish().unwrap();
        assert_eq!(fetch.verified_in(fetch.snapshot().path()), fetch.content.geometry.all().into());
    }
}

#[test]
fn a_kill_before_anything_was_written_leaves_a_fresh_start() {
    let fetch = Fetch::small();
    fs::write(fetch.sidecar(), "").unwrap();
    drop(fetch.fresh());
    fs::write(fetch.sidecar(), "").unwrap();
    fs::write(fetch.part(), "").unwrap();
    let store = fetch.fresh();
    assert_eq!(store.warning(), None);
    // With the header and nothing else.
    let copy = fetch.snapshot();
    drop(fresh(FileStore::open(&copy.path().join("film.mp4"), &fetch.content.metadata, false)));
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 0);
}

#[test]
fn a_kill_while_the_file_gets_its_name_costs_nothing() {
    let fetch = Fetch::small().killed_after(0..98);
    // As hard links make it: both names, or the final one with the sidecar still there.
    fs::copy(fetch.part(), fetch.output()).unwrap();
    let whole = RangeSet::from(fetch.content.geometry.all());
    let copy = fetch.snapshot();
    assert_eq!(fetch.verified_in(copy.path()), whole);
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 1, "what was left over is removed");
    fs::remove_file(fetch.part()).unwrap();
    assert_eq!(fetch.verified(), whole);
    assert_eq!(fetch.files(), ["film.mp4".to_owned()].into());
}

#[test]
fn a_resumed_fetch_goes_on_and_is_resumed_again() {
    let fetch = Fetch::new(Content::new(3_000_000, HashFunction::Sha256, 1024, 5));
    let order = shuffled(fetch.content.geometry.chunk_count(), 6);
    let mut before = RangeSet::new();
    for part in order.chunks(700) {
        let (mut store, mut leecher) = match fetch.open().unwrap() {
            Opened::Resume { store, tree, stored, open_groups } => {
                let read = |offset, len| store.read(offset, len).unwrap();
                let leecher = Leecher::resume(tree, &stored, &open_groups, read);
                (store, leecher)
            }
            Opened::Fresh { store } => (store, Leecher::new(&fetch.content)),
            Opened::AlreadyComplete { .. } => panic!("not yet"),
        };
        assert_eq!(leecher.stored, before);
        fetch.store(&mut store, &mut leecher, part.iter().copied());
        before = leecher.stored;
    }
    assert_eq!(before, fetch.content.geometry.all().into());
}

#[test]
fn a_damaged_sidecar_never_yields_a_wrong_byte() {
    let fetch = Fetch::small().killed_after((0..40).chain(50..53).chain([60, 97]));
    let good = fs::read(fetch.sidecar()).unwrap();
    let everything = fetch.verified();
    assert_eq!(everything.count(), 45);
    let mut lost = 0;
    let mut check = |bytes: &[u8]| {
        let copy = fetch.snapshot();
        fs::write(copy.path().join("film.mp4.ppspp"), bytes).unwrap();
        let verified = fetch.verified_in(copy.path());
        assert!(verified.runs().all(|run| everything.covers(run)));
        lost += u64::from(verified != everything);
    };
    for cut in (1..130).step_by(3).chain((130..good.len()).step_by(487)) {
        check(&good[..cut]);
    }
    let written: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    for at in written.into_iter().step_by(17).chain((0..130).step_by(3)) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes);
    }
    check(&noise(good.len(), 7));
    check(vec![0xff; 200_000].as_slice());
    check(vec![0; 200_000].as_slice());
    assert!(lost > 100, "damage that matters was among it: {lost}");
}

#[test]
fn a_lying_sidecar_never_yields_a_wrong_byte() {
    // The header is right, everything else claims the most that it can.
    let fetch = Fetch::small().killed_after(0..40);
    let mut bytes = fs::read(fetch.sidecar()).unwrap();
    let lie = |bytes: &mut Vec<u8>, from: usize, to: usize| {
        bytes[from..to].fill(0xff);
        fs::write(fetch.sidecar(), &bytes).unwrap();
    };
    lie(&mut bytes, 8192, 12_288);
    assert_eq!(fetch.verified(), set(0..32), "all groups stored: of group 2 only the first half is");
    let len = bytes.len();
    lie(&mut bytes, 12_288, len);
    assert_eq!(fetch.verified(), RangeSet::new(), "and no tree to prove any");
}

#[test]
fn a_changed_partial_file_costs_only_what_changed() {
    let fetch = Fetch::small().killed_after(0..98);
    let mut bytes = fs::read(fetch.part()).unwrap();
    bytes[40_000] ^= 1;
    bytes.truncate(90_000);
    fs::write(fetch.part(), &bytes).unwrap();
    assert_eq!(fetch.verified(), set((0..32).chain(48..80)), "groups 2 and 5, and the cut last one");
    assert_eq!(fs::metadata(fetch.part()).unwrap().len(), 100_000, "and it has its length again");
}

#[test]
fn a_torn_slot_falls_back_to_the_one_before() {
    let fetch = Fetch::small();
    let mut store = fetch.fresh();
    let mut leecher = Leecher::new(&fetch.content);
    fetch.store(&mut store, &mut leecher, [0, 1, 2, 16]);
    fetch.store(&mut store, &mut leecher, [3, 17]);
    let layout = layout::Layout::new(HashFunction::Sha256, fetch.content.geometry).unwrap();
    let slot = |sequence| layout.slot_at(sequence) as usize;
    assert!(slot(2) < slot(1));
    drop(store);
    let good = fs::read(fetch.sidecar()).unwrap();
    assert_eq!(fetch.verified(), set([0, 1, 2, 3, 16, 17]));
    let mut torn = good.clone();
    torn[slot(2) + 200] ^= 1;
    fs::write(fetch.sidecar(), &torn).unwrap();
    assert_eq!(fetch.verified(), set([0, 1, 2, 16]));
    torn[slot(1) + 200] ^= 1;
    fs::write(fetch.sidecar(), &torn).unwrap();
    assert_eq!(fetch.verified(), RangeSet::new());
}

#[test]
fn without_a_known_length_the_sidecar_tells_it() {
    let mut fetch = Fetch::small();
    fetch.content.metadata.content_length = None;
    let mut store = fetch.fresh();
    let out_of_range = FileProblem::OutOfRange { offset: 0, len: 1 };
    assert_eq!(
        store.write(0, Bytes::from_static(b"x")).unwrap_err().problem,
        out_of_range,
        "before the length is known"
    );
    assert_eq!(store.finish().unwrap_err().problem, FileProblem::Unfinished);
    let unknown = Geometry::of_chunks(98, ChunkSize::DEFAULT).unwrap();
    store.set_geometry(unknown).unwrap();
    assert_eq!(store.write(0, Bytes::from_static(b"x")).unwrap_err().problem, out_of_range);
    let mut leecher = Leecher::new(&fetch.content);
    leecher.receive(&fetch.content, ChunkIndex::new(0));
    store.checkpoint(leecher.checkpoint()).unwrap();
    store.set_geometry(fetch.content.geometry).unwrap();
    fetch.store(&mut store, &mut leecher, 1..20);
    store.write(0, Bytes::copy_from_slice(&fetch.content.data[..1024])).unwrap();
    drop(store);
    let Opened::Resume { tree, .. } = fetch.open().unwrap() else { panic!() };
    assert_eq!(tree.geometry(), Some(fetch.content.geometry));
    assert_eq!(fetch.verified(), set(0..20), "pages that came before the length are there too");
}

#[test]
fn another_length_starts_afresh() {
    let mut fetch = Fetch::small();
    fetch.content.metadata.content_length = None;
    let mut store = fetch.fresh();
    store.set_geometry(Geometry::new(5000, ChunkSize::DEFAULT).unwrap()).unwrap();
    store.write(0, Bytes::from_static(&[1; 5000])).unwrap();
    store.set_geometry(fetch.content.geometry).unwrap();
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..33);
    drop(store);
    assert_eq!(fetch.verified(), set(0..33));
}

#[test]
fn r23_a_second_fetch_into_the_same_file_is_refused() {
    let fetch = Fetch::small();
    let store = fetch.fresh();
    assert_eq!(fetch.problem(), FileProblem::InUse);
    let forced = FileStore::open(&fetch.output(), &fetch.content.metadata, true);
    assert_eq!(problem(forced), FileProblem::InUse, "force does not break locks");
    drop(store);
    assert!(fetch.files().is_empty(), "nothing was fetched");
    let mut store = fetch.fresh();
    store.write(0, Bytes::from_static(&[0; 10])).unwrap();
    drop(store);
    assert_eq!(fetch.files().len(), 2, "something was");
    drop(fetch.fresh());
}

#[test]
fn r23_of_many_that_come_at_once_one_gets_the_file() {
    let fetch = Fetch::small();
    let (alive, opened) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    match fetch.open() {
                        Ok(Opened::Fresh { store }) => {
                            assert_eq!(alive.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                            opened.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            alive.fetch_sub(1, Ordering::SeqCst);
                            drop(store);
                        }
                        other => assert_eq!(problem(other), FileProblem::InUse),
                    }
                }
            });
        }
    });
    assert!(opened.into_inner() > 0);
    assert!(fetch.files().is_empty());
}

#[test]
fn an_existing_file_is_never_replaced_without_force() {
    let fetch = Fetch::small();
    for other in [noise(100_000, 99), noise(50, 99), Vec::new()] {
        fs::write(fetch.output(), &other).unwrap();
        assert_eq!(fetch.problem(), FileProblem::Exists);
        assert_eq!(fs::read(fetch.output()).unwrap(), other);
        assert_eq!(fetch.files().len(), 1);
    }
    let other = noise(100_000, 99);
    fs::write(fetch.output(), &other).unwrap();
    let mut store = fresh(FileStore::open(&fetch.output(), &fetch.content.metadata, true));
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
    assert_eq!(fs::read(fetch.output()).unwrap(), other, "not before the fetch is complete");
    store.finish().unwrap();
    assert_eq!(fs::read(fetch.output()).unwrap(), fetch.content.data);
    assert_eq!(fetch.files().len(), 1);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let fetch = Fetch::small();
    let mut store = fetch.fresh();
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
    fs::write(fetch.output(), "precious").unwrap();
    let error = store.finish().unwrap_err();
    assert_eq!(error.problem, FileProblem::Exists);
    assert_eq!(error.path, fetch.output());
    assert_eq!(fs::read(fetch.output()).unwrap(), b"precious");
    fs::remove_file(fetch.output()).unwrap();
    store.finish().unwrap();
    assert_eq!(fs::read(fetch.output()).unwrap(), fetch.content.data);
}

#[test]
fn r23_a_complete_file_is_verified_and_enough() {
    let mut fetch = Fetch::small();
    fs::write(fetch.output(), &fetch.content.data).unwrap();
    for length in [Some(100_000), None] {
        fetch.content.metadata.content_length = length;
        let Opened::AlreadyComplete { path, tree } = fetch.open().unwrap() else { panic!() };
        assert_eq!(path, fetch.output());
        assert_eq!(tree.root(), fetch.content.tree.root());
    }
    let cancelled = AtomicBool::new(true);
    let opened = FileStore::open_watched(&fetch.output(), &fetch.content.metadata, false, &|_, _| {}, &cancelled);
    assert_eq!(opened.unwrap_err(), StoreOpenError::Hash(HashError::Cancelled));
}

#[test]
fn beside_a_complete_file_only_our_leftovers_go() {
    let fetch = Fetch::small().killed_after(0..50);
    fs::write(fetch.output(), &fetch.content.data).unwrap();
    let lock = File::open(fetch.sidecar()).unwrap();
    lock.try_lock().unwrap();
    assert!(matches!(fetch.open(), Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(fetch.files().len(), 3, "somebody uses them");
    drop(lock);
    assert!(matches!(fetch.open(), Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(fetch.files().len(), 1);

    let other = Fetch::new(Content::new(100_000, HashFunction::Sha256, 1024, 9)).killed_after(0..50);
    fs::write(other.output(), &fetch.content.data).unwrap();
    let opened = FileStore::open(&other.output(), &fetch.content.metadata, true);
    assert!(matches!(opened, Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(other.files().len(), 3, "another download's");
    fs::write(other.sidecar(), "").unwrap();
    let opened = FileStore::open(&other.output(), &fetch.content.metadata, false);
    assert!(matches!(opened, Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(other.files().len(), 3, "nobody's");
}

#[test]
fn r1_two_hashes_are_not_taken_for_the_content_above_them() {
    let content = Content::new(2048, HashFunction::Sha256, 1024, 8);
    let leaves: Vec<u8> =
        content.data.chunks(1024).flat_map(|chunk| HashFunction::Sha256.leaf(chunk).as_slice().to_vec()).collect();
    assert_eq!(HashFunction::Sha256.leaf(&leaves).as_slice(), content.metadata.root.as_slice());
    let mut fetch = Fetch::new(content);
    fetch.content.metadata.content_length = None;
    fs::write(fetch.output(), &leaves).unwrap();
    assert_eq!(fetch.problem(), FileProblem::Exists);
}

#[test]
fn another_download_is_not_discarded_without_force() {
    let fetch = Fetch::small().killed_after(0..50);
    let held = set(0..50);
    let other = Content::new(100_000, HashFunction::Sha256, 1024, 9).metadata;
    let longer = Metadata { content_length: Some(100_001), ..fetch.content.metadata.clone() };
    let chunked = Metadata { chunk_size: ChunkSize::new(2048).unwrap(), ..fetch.content.metadata.clone() };
    let sha1 = Content::new(10, HashFunction::Sha1, 1024, 9).metadata;
    for metadata in [other.clone(), longer, chunked, sha1] {
        let refused = problem(FileStore::open(&fetch.output(), &metadata, false));
        assert_eq!(refused, FileProblem::OtherSwarm(fetch.content.metadata.root.to_string()));
    }
    assert_eq!(fetch.verified(), held);
    drop(fresh(FileStore::open(&fetch.output(), &other, true)));
    assert!(fetch.files().is_empty());
}

#[test]
fn files_of_others_are_left_alone() {
    let fetch = Fetch::small();
    fs::write(fetch.part(), "a browser's download").unwrap();
    assert_eq!(fetch.problem(), FileProblem::NotOurs);
    assert_eq!(fs::read(fetch.part()).unwrap(), b"a browser's download");
    assert_eq!(fetch.files().len(), 1);
    fs::write(fetch.sidecar(), "").unwrap();
    assert_eq!(fetch.problem(), FileProblem::NotOurs, "an empty sidecar proves nothing");
    assert_eq!(fs::read(fetch.part()).unwrap(), b"a browser's download");
    fs::rename(fetch.part(), fetch.sidecar()).unwrap();
    assert_eq!(fetch.problem(), FileProblem::NotOurs);
    assert_eq!(fs::read(fetch.sidecar()).unwrap(), b"a browser's download");
    assert_eq!(fetch.files().len(), 1);
    drop(fresh(FileStore::open(&fetch.output(), &fetch.content.metadata, true)));
    assert!(fetch.files().is_empty());
}

#[test]
fn says_that_it_starts_afresh() {
    let fetch = Fetch::small().killed_after(0..50);
    fs::write(fetch.sidecar(), "beyond recognition").unwrap();
    let store = fetch.fresh();
    assert_eq!(store.warning(), Some(&StoreWarning::DamagedSidecar(fetch.sidecar())));
    assert_eq!(fs::metadata(store.partial()).unwrap().len(), 100_000);
    assert!(fs::read(store.partial()).unwrap().iter().all(|byte| *byte == 0));
    drop(store);
    let fetch = fetch.killed_after(0..50);
    fs::remove_file(fetch.part()).unwrap();
    assert_eq!(fetch.fresh().warning(), Some(&StoreWarning::MissingPart(fetch.part())));
}

#[test]
fn a_newer_format_is_not_touched() {
    let fetch = Fetch::small().killed_after(0..50);
    let mut bytes = fs::read(fetch.sidecar()).unwrap();
    bytes[11] = 2;
    let check = HashFunction::Sha256.leaf(&bytes[..96]);
    bytes[96..128].copy_from_slice(check.as_slice());
    fs::write(fetch.sidecar(), &bytes).unwrap();
    assert_eq!(fetch.problem(), FileProblem::OtherVersion(2));
    assert_eq!(fs::read(fetch.sidecar()).unwrap(), bytes);
}

#[test]
fn an_output_that_cannot_be_used_says_why() {
    let fetch = Fetch::small();
    let metadata = &fetch.content.metadata;
    let open = |path: &Path| problem(FileStore::open(path, metadata, false));
    let dir = fetch.dir.path();
    assert_eq!(open(dir), FileProblem::IsDirectory);
    assert_eq!(open(&dir.join("none").join("film")), FileProblem::MissingDirectory);
    assert_eq!(open(&dir.join("name/")), FileProblem::NoName);
    assert_eq!(open(&dir.join("sub").join("..")), FileProblem::NoName);
    assert_eq!(open(Path::new("")), FileProblem::NoName);
    fs::write(dir.join("plain"), "").unwrap();
    assert_eq!(open(&dir.join("plain").join("film")), FileProblem::MissingDirectory);
    fs::create_dir(fetch.part()).unwrap();
    assert_eq!(fetch.problem(), FileProblem::IsDirectory);
    #[cfg(unix)]
    {
        assert_eq!(open(&dir.join("n".repeat(300))), FileProblem::BadName);
        assert_eq!(open(Path::new("/dev/null")), FileProblem::NotRegular);
        std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
        assert_eq!(open(&dir.join("link")), FileProblem::Exists);
        std::os::unix::fs::symlink(dir.join("plain"), dir.join("other.part")).unwrap();
        assert_eq!(open(&dir.join("other")), FileProblem::NotRegular);
    }
}

#[test]
fn a_content_larger_than_any_file_is_refused() {
    let fetch = Fetch::small();
    for length in [i64::MAX as u64, 1 << 62] {
        let metadata = Metadata { content_length: Some(length), ..fetch.content.metadata.clone() };
        let refused = problem(FileStore::open(&fetch.output(), &metadata, false));
        assert!(matches!(refused, FileProblem::TooLarge | FileProblem::Full), "{refused:?}");
        assert!(fetch.files().is_empty());
    }
    let metadata = Metadata { content_length: Some(0), ..fetch.content.metadata.clone() };
    let opened = FileStore::open(&fetch.output(), &metadata, false);
    assert_eq!(opened.unwrap_err(), StoreOpenError::Geometry(GeometryError::Empty));
}

mod disk {
    //! With disks that fail.

    use std::io;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::file::DiskFile;
    use crate::testing::Memory;

    /// The store on other files than those that were opened.
    fn swap(store: &mut FileStore, part: &Arc<dyn Storage>, sidecar: Option<&Arc<dyn Storage>>) {
        let geometry = store.sidecar.geometry().unwrap();
        store.part = Arc::clone(part);
        let own = Arc::clone(sidecar.unwrap_or(part));
        if let Some(sidecar) = sidecar {
            store.sidecar = Sidecar::new(Arc::clone(sidecar), store.sidecar.metadata().clone());
            store.sidecar.reset().unwrap();
        }
        store.set_geometry(geometry).unwrap();
        let files = [(Arc::clone(part), store.paths.part.clone()), (own, store.paths.sidecar.clone())];
        store.syncer = Syncer::start(files, std::time::Duration::from_millis(1));
    }

    fn on_memory(fetch: &Fetch) -> (FileStore, Arc<Memory>, Arc<Memory>) {
        let mut store = fetch.fresh();
        let (part, sidecar) = (Arc::new(Memory::new(Vec::new())), Arc::new(Memory::new(Vec::new())));
        let storage: (Arc<dyn Storage>, Arc<dyn Storage>) =
            (Arc::clone(&part) as Arc<dyn Storage>, Arc::clone(&sidecar) as Arc<dyn Storage>);
        swap(&mut store, &storage.0, Some(&storage.1));
        (store, part, sidecar)
    }

    #[test]
    fn a_full_disk_is_an_error_that_passes() {
        let fetch = Fetch::new(Content::new(1 << 20, HashFunction::Sha256, 1024, 10));
        let (mut store, part, _) = on_memory(&fetch);
        part.set_room(300_000);
        let (mut at, step) = (0, 16_384);
        let group = |at: u64| Bytes::copy_from_slice(&fetch.content.data[at as usize..][..step]);
        let error = loop {
            match store.write(at, group(at)) {
                Ok(()) => at += step as u64,
                Err(error) => break error,
            }
        };
        assert_eq!((error.action, error.problem.clone()), (FileAction::Write, FileProblem::Full));
        let words = "the disk is full; make room and start again, what is stored is kept";
        assert_eq!(error.to_string(), format!("cannot write {}: {words}", fetch.part().display()));
        let taken = &fetch.content.data[..at as usize];
        assert_eq!(store.read(0, taken.len()).unwrap(), taken, "what was taken stays readable");
        assert_eq!(store.write(at, group(at)).unwrap_err().problem, FileProblem::Full, "still");
        assert_eq!(store.reader().unwrap_err().problem, FileProblem::Full);
        part.set_room(usize::MAX);
        store.write(at, Bytes::copy_from_slice(&fetch.content.data[at as usize..])).unwrap();
        store.flush().unwrap();
        assert_eq!(part.bytes(), fetch.content.data);
    }

    #[test]
    fn a_checkpoint_that_fails_is_made_up_for() {
        let fetch = Fetch::new(Content::new(9 << 20, HashFunction::Sha256, 8192, 11));
        let (mut store, part, sidecar) = on_memory(&fetch);
        let mut leecher = Leecher::new(&fetch.content);
        for room in [0, 20_000, 40_000, 50_000] {
            for chunk in shuffled(1152, 12).into_iter().skip(room / 1000).take(10).map(ChunkIndex::new) {
                if !leecher.stored.contains(chunk) {
                    leecher.receive(&fetch.content, chunk);
                    let (offset, data) = fetch.content.bytes(ChunkRange::single(chunk));
                    store.write(offset, Bytes::copy_from_slice(data)).unwrap();
                }
            }
            sidecar.set_room(room);
            let error = store.checkpoint(leecher.checkpoint()).unwrap_err();
            assert_eq!((error.path, error.problem), (fetch.sidecar(), FileProblem::Full));
        }
        sidecar.set_room(usize::MAX);
        store.checkpoint(leecher.checkpoint()).unwrap();
        fs::write(fetch.part(), part.bytes()).unwrap();
        fs::write(fetch.sidecar(), sidecar.bytes()).unwrap();
        assert_eq!(fetch.verified_in(fetch.snapshot().path()), leecher.stored);
    }

    #[test]
    fn a_full_disk_does_not_keep_a_checkpoint_from_what_is_there() {
        let fetch = Fetch::new(Content::new(1 << 20, HashFunction::Sha256, 1024, 13));
        let (mut store, part, sidecar) = on_memory(&fetch);
        let mut leecher = Leecher::new(&fetch.content);
        fetch.store(&mut store, &mut leecher, 0..128);
        part.set_room(0);
        for chunk in (128..140).map(ChunkIndex::new) {
            leecher.receive(&fetch.content, chunk);
            let (offset, data) = fetch.content.bytes(ChunkRange::single(chunk));
            store.write(offset, Bytes::copy_from_slice(data)).unwrap();
        }
        assert_eq!(store.checkpoint(leecher.checkpoint()).unwrap_err().problem, FileProblem::Full);
        fs::write(fetch.part(), part.bytes()).unwrap();
        fs::write(fetch.sidecar(), sidecar.bytes()).unwrap();
        assert_eq!(fetch.verified_in(fetch.snapshot().path()), set(0..128));
    }

    #[test]
    fn a_checkpoint_writes_only_what_changed() {
        let fetch = Fetch::new(Content::new(64 << 20, HashFunction::Sha256, 16_384, 14));
        let (mut store, _, sidecar) = on_memory(&fetch);
        let mut leecher = Leecher::new(&fetch.content);
        fetch.store(&mut store, &mut leecher, 0..4096);
        let whole = sidecar.written();
        assert!(whole > 16 * 16_384, "{whole}");
        fetch.store(&mut store, &mut leecher, []);
        assert_eq!(sidecar.written(), whole, "nothing");
        let resumed = Leecher::new(&fetch.content);
        leecher.stored = resumed.stored;
        leecher.stored.insert(ChunkRange::new(0, 4000));
        fetch.store(&mut store, &mut leecher, []);
        assert_eq!(sidecar.written() - whole, 4096, "one block of bits");
    }

    #[test]
    fn what_cannot_be_made_durable_ends_the_fetch() {
        let fetch = Fetch::small();
        let (mut store, part, sidecar) = on_memory(&fetch);
        store.write(0, Bytes::from_static(&[1; 10])).unwrap();
        while sidecar.syncs() == 0 {
            std::thread::yield_now();
        }
        assert!(part.syncs() > 0, "the bytes first");
        sidecar.fail_syncs(io::ErrorKind::StorageFull);
        let error = loop {
            match store.write(0, Bytes::from_static(&[1; 10])) {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!((error.action, error.path), (FileAction::Sync, fetch.sidecar()));
        assert_eq!(error.problem, FileProblem::Full);
        assert!(store.checkpoint(Checkpoint::default()).is_err());
        assert!(store.finish().is_err());
        assert!(!fetch.output().exists());
    }

    /// Notes for each sync whether the output was there.
    #[derive(Debug)]
    struct Spy {
        file: DiskFile,
        output: PathBuf,
        seen: Sender<bool>,
    }

    impl Storage for Spy {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.file.read_at(buffer, offset)
        }

        fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
            self.file.write_at(data, offset)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }

        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn sync(&self) -> io::Result<()> {
            self.seen.send(self.output.exists()).map_err(io::Error::other)?;
            self.file.sync()
        }
    }

    #[test]
    fn r22_both_files_are_durable_before_the_name_appears() {
        let fetch = Fetch::small();
        let mut store = fetch.fresh();
        let (sender, seen) = channel();
        let spy = |path: PathBuf| {
            let file = DiskFile::new(File::options().read(true).write(true).open(path).unwrap());
            Arc::new(Spy { file, output: fetch.output(), seen: sender.clone() }) as Arc<dyn Storage>
        };
        fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
        let files = [(spy(fetch.part()), fetch.part()), (spy(fetch.sidecar()), fetch.sidecar())];
        store.syncer = Syncer::start(files, std::time::Duration::MAX);
        store.finish().unwrap();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [false, false]);
        assert_eq!(fs::read(fetch.output()).unwrap(), fetch.content.data);
    }

    #[test]
    fn a_failed_sync_withholds_the_name() {
        let fetch = Fetch::small();
        let mut store = fetch.fresh();
        fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
        let bad = Arc::new(Memory::new(Vec::new()));
        bad.fail_syncs(io::ErrorKind::Other);
        let bad = bad as Arc<dyn Storage>;
        let files = [(Arc::clone(&bad), fetch.part()), (bad, fetch.sidecar())];
        store.syncer = Syncer::start(files, std::time::Duration::MAX);
        assert_eq!(store.finish().unwrap_err().action, FileAction::Sync);
        assert!(!fetch.output().exists() && fetch.part().exists() && fetch.sidecar().exists());
    }
}
