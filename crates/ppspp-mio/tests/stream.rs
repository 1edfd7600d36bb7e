//! Contents that are read while they arrive, over real sockets.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

use std::io::{ErrorKind, Read as _};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ppspp_core::Metadata;
use ppspp_core::chunk::{ChunkAddressing, ChunkSize, Geometry};
use ppspp_core::integrity::{HashFunction, TreeParams};
use ppspp_mio::hashing::hash_file;
use ppspp_mio::{
    ByteStream, FetchRequest, Node, NodeConfig, ShareSource, StreamRequest, Transfer, TransferEvent, TransferProgress,
};

/// How long anything here may take before the test fails; nothing waits that long otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes fetched ahead of the reader here.
const AHEAD: u64 = 256 << 10;

/// A seeder, what it shares, and the metadata of that.
struct Stage {
    dir: tempfile::TempDir,
    data: Vec<u8>,
    metadata: Metadata,
    seeder: Node,
    _shared: Transfer,
}

fn node() -> Node {
    Node::start(NodeConfig::listening_on("127.0.0.1:0".parse().unwrap())).unwrap()
}

impl Stage {
    fn new(len: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("original");
        let data: Vec<u8> = (0..len).map(|index| (index * index / 251) as u8 ^ (index >> 13) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let params = TreeParams { function: HashFunction::Sha256, chunk_size: ChunkSize::DEFAULT };
        let tree = hash_file(&path, params, &|_, _| {}, &AtomicBool::new(false)).unwrap();
        let metadata = Metadata {
            root: *tree.root(),
            function: params.function,
            addressing: ChunkAddressing::default(),
            chunk_size: params.chunk_size,
            content_length: tree.geometry().and_then(Geometry::content_length),
        };
        let seeder = node();
        let shared = seeder.share(ShareSource { path, tree, metadata: metadata.clone() }).unwrap();
        Self { dir, data, metadata, seeder, _shared: shared }
    }

    fn stream(&self, node: &Node, metadata: Metadata) -> (Transfer, ByteStream) {
        let (peers, spool) = (vec![self.seeder.local_address()], tempfile::tempfile().unwrap());
        node.stream(StreamRequest { metadata, peers, spool, ahead: AHEAD }).unwrap()
    }
}

/// Waits until the snapshot is as `done` wants it.
#[track_caller]
fn wait_until(transfer: &Transfer, done: impl Fn(&TransferProgress) -> bool) -> TransferProgress {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let progress = transfer.progress();
        if done(&progress) {
            return progress;
        }
        assert!(Instant::now() < deadline, "{progress:?}");
        let _ = transfer.events().recv_timeout(Duration::from_millis(50));
    }
}

#[test]
fn what_is_read_is_the_content() {
    let stage = Stage::new(3_000_001);
    for metadata in [stage.metadata.clone(), Metadata { content_length: None, ..stage.metadata.clone() }] {
        let node = node();
        let (transfer, mut stream) = stage.stream(&node, metadata);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        assert!(read == stage.data);
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
        let complete = wait_until(&transfer, |progress| progress.complete);
        assert_eq!((complete.bytes_stored, complete.failure), (3_000_001, None));
    }
}

#[test]
fn a_reader_that_waits_holds_the_download_back() {
    let stage = Stage::new(2_000_000);
    let node = node();
    let (transfer, mut stream) = stage.stream(&node, stage.metadata.clone());
    // The window ends in the group that holds its last byte.
    let mut window = AHEAD + 16_384;
    wait_until(&transfer, |progress| progress.bytes_stored == window);
    let mut buffer = vec![0; 65_536];
    let mut place = 0;
    while place < 500_000 {
        let expected = &stage.data[place..][..buffer.len()];
        stream.read_exact(&mut buffer).unwrap();
        assert!(buffer == expected);
        place += buffer.len();
        window = (place as u64 + AHEAD) / 16_384 * 16_384 + 16_384;
        let progress = wait_until(&transfer, |progress| progress.bytes_stored >= window);
        assert_eq!(progress.bytes_stored, window);
        assert_eq!(progress.stats.chunks_requested, window / 1024, "nothing beyond the window is asked for");
        assert!(!progress.complete);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest == stage.data[place..]);
    wait_until(&transfer, |progress| progress.complete);
}

#[test]
fn what_was_read_is_served_to_others() {
    let stage = Stage::new(400_000);
    let watcher = node();
    let (_transfer, mut stream) = stage.stream(&watcher, stage.metadata.clone());
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    let Stage { dir, data, metadata, seeder, .. } = stage;
    seeder.shutdown(Duration::ZERO);
    let other = node();
    let output = dir.path().join("copy");
    let peers = vec![watcher.local_address()];
    let fetched = other.fetch(FetchRequest { metadata, peers, output: output.clone(), force: false }).unwrap();
    wait_until(&fetched, |progress| progress.complete);
    assert!(std::fs::read(output).unwrap() == data);
}

#[test]
fn the_end_of_the_transfer_is_no_end_of_the_content() {
    let stage = Stage::new(2_000_000);
    let node = node();
    let (transfer, mut stream) = stage.stream(&node, stage.metadata.clone());
    let window = AHEAD + 16_384;
    wait_until(&transfer, |progress| progress.bytes_stored == window);
    transfer.stop();
    while !matches!(transfer.events().recv_timeout(PATIENCE).unwrap(), TransferEvent::Closed) {}
    // What is there can still be read.
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(read == stage.data[..window as usize]);
    node.shutdown(Duration::ZERO);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}
