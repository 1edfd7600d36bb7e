//! With disks that fail.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

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
    store.syncer = Syncer::start(files, Duration::from_millis(1));
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
    let words = "the disk is full; make room and start again, what was saved is kept";
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
    store.syncer = Syncer::start(files, Duration::MAX);
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
    store.syncer = Syncer::start(files, Duration::MAX);
    assert_eq!(store.finish().unwrap_err().action, FileAction::Sync);
    assert!(!fetch.output().exists() && fetch.part().exists() && fetch.sidecar().exists());
}

/// A disk that loses what it was given, and says so once, as operating systems do: when it may go on.
#[derive(Debug)]
struct Lossy {
    asked: Sender<()>,
    go: Mutex<Option<Receiver<()>>>,
}

impl Lossy {
    /// The disk, when it is asked, and the means to have it go on.
    fn disk() -> (Arc<dyn Storage>, Receiver<()>, Sender<()>) {
        let ((asked, is_asked), (go, may_go)) = (channel(), channel());
        (Arc::new(Self { asked, go: Mutex::new(Some(may_go)) }), is_asked, go)
    }
}

impl Storage for Lossy {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, data: &[u8], _offset: u64) -> io::Result<usize> {
        Ok(data.len())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn sync(&self) -> io::Result<()> {
        let Some(go) = self.go.lock().ok().and_then(|mut go| go.take()) else { return Ok(()) };
        self.asked.send(()).map_err(io::Error::other)?;
        Err(io::Error::other(format!("lost: {:?}", go.recv())))
    }
}

#[test]
fn r22_what_the_disk_lost_while_another_thread_waited_for_it_withholds_the_name() {
    let fetch = Fetch::small();
    let mut store = fetch.fresh();
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
    let (disk, is_asked, go) = Lossy::disk();
    let files = [(Arc::clone(&disk), fetch.part()), (disk, fetch.sidecar())];
    store.syncer = Syncer::start(files, Duration::from_millis(1));
    store.syncer.wrote().unwrap();
    is_asked.recv().unwrap();
    let finishing = std::thread::spawn(move || store.finish());
    let begun = std::time::Instant::now();
    while !finishing.is_finished() && begun.elapsed() < Duration::from_millis(100) {
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    assert_eq!(finishing.join().unwrap().unwrap_err().action, FileAction::Sync);
    assert!(!fetch.output().exists() && fetch.part().exists() && fetch.sidecar().exists());
}

#[test]
fn r22_what_the_disk_lost_withholds_the_name_for_good() {
    let fetch = Fetch::small();
    let mut store = fetch.fresh();
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
    let (disk, _is_asked, go) = Lossy::disk();
    go.send(()).unwrap();
    let files = [(Arc::clone(&disk), fetch.part()), (disk, fetch.sidecar())];
    store.syncer = Syncer::start(files, Duration::MAX);
    let error = store.finish().unwrap_err();
    assert_eq!(error.action, FileAction::Sync);
    assert_eq!(store.finish().unwrap_err(), error, "the system says it once");
    assert!(!fetch.output().exists() && fetch.part().exists() && fetch.sidecar().exists());
}
