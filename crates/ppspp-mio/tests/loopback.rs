//! Whole nodes in one process, over real sockets and files.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ppspp_core::CloseReason;
use ppspp_core::Metadata;
use ppspp_core::chunk::{ChunkAddressing, ChunkSize, Geometry};
use ppspp_core::integrity::{HashFunction, Tree, TreeBuilder, TreeParams};
use ppspp_mio::{
    FetchError, FetchRequest, Listen, Node, NodeConfig, PeerError, ShareSource, StartError, Transfer, TransferError,
    TransferEvent, TransferProgress,
};

/// How long anything here may take before the test fails; nothing waits that long otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

const SHA256: TreeParams = TreeParams { function: HashFunction::Sha256, chunk_size: ChunkSize::DEFAULT };

/// A place for files that vanishes with the test.
struct Bench {
    dir: tempfile::TempDir,
}

/// One content and what names it.
#[derive(Clone)]
struct Sample {
    data: Vec<u8>,
    path: PathBuf,
    metadata: Metadata,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sample(&self, len: usize) -> Sample {
        self.sample_with(len, SHA256)
    }

    fn sample_with(&self, len: usize, params: TreeParams) -> Sample {
        let sample = Sample::of(self.path("original"), bytes(len), params);
        fs::write(&sample.path, &sample.data).unwrap();
        sample
    }
}

impl Sample {
    fn of(path: PathBuf, data: Vec<u8>, params: TreeParams) -> Self {
        let metadata = Metadata {
            root: *tree(&data, params).root(),
            function: params.function,
            addressing: ChunkAddressing::default(),
            chunk_size: params.chunk_size,
            content_length: Some(data.len() as u64),
        };
        Self { data, path, metadata }
    }

    fn source(&self) -> ShareSource {
        let params = TreeParams { function: self.metadata.function, chunk_size: self.metadata.chunk_size };
        ShareSource { path: self.path.clone(), tree: tree(&self.data, params), metadata: self.metadata.clone() }
    }

    fn request(&self, output: PathBuf, peers: &[SocketAddr]) -> FetchRequest {
        FetchRequest { metadata: self.metadata.clone(), peers: peers.to_vec(), output, force: false }
    }
}

/// Bytes that differ from chunk to chunk.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn tree(data: &[u8], params: TreeParams) -> Tree {
    let geometry = Geometry::new(data.len() as u64, params.chunk_size).unwrap();
    let mut builder = TreeBuilder::new(params, geometry);
    for span in builder.spans() {
        let range = span.byte_range();
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        builder.add(TreeBuilder::hash_span(params, geometry, span, &data[range]).unwrap()).unwrap();
    }
    builder.finish().unwrap()
}

fn node(listen: &str) -> Node {
    Node::start(NodeConfig::listening_on(listen.parse().unwrap())).unwrap()
}

/// Waits for the event that `pick` picks.
fn wait_for<T>(transfer: &Transfer, mut pick: impl FnMut(&TransferEvent) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = transfer.events().recv_timeout(left).unwrap_or_else(|error| {
            panic!("{error} while waiting for an event; {:?}", transfer.progress());
        });
        if let Some(picked) = pick(&event) {
            return picked;
        }
        assert!(!matches!(event, TransferEvent::Failed(_)), "{event:?}");
    }
}

/// Waits for a snapshot that `is` accepts.
fn wait_until(transfer: &Transfer, is: impl Fn(&TransferProgress) -> bool) -> TransferProgress {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let progress = transfer.progress();
        if is(&progress) {
            return progress;
        }
        assert!(Instant::now() < deadline, "{progress:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn complete(transfer: &Transfer) -> Option<PathBuf> {
    wait_for(transfer, |event| match event {
        TransferEvent::Complete { path } => Some(path.clone()),
        _ => None,
    })
}

/// Waits for the transfer to fail.
fn failure(transfer: &Transfer) -> TransferError {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match transfer.events().recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(TransferEvent::Failed(error)) => {
                assert_eq!(transfer.progress().failure.as_ref(), Some(&error));
                return error;
            }
            Ok(TransferEvent::Complete { .. }) => panic!("it completed"),
            Ok(_) => {}
            Err(error) => panic!("{error} while waiting for a failure; {:?}", transfer.progress()),
        }
    }
}

fn closed(transfer: &Transfer) {
    wait_for(transfer, |event| (*event == TransferEvent::Closed).then_some(()));
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn share_and_fetch(listen: &str, sample: &Sample, output: &Path) {
    let (seeder, leecher) = (node(listen), node(listen));
    let shared = seeder.share(sample.source()).unwrap();
    let fetched = leecher.fetch(sample.request(output.to_owned(), &[seeder.local_address()])).unwrap();
    assert_eq!(complete(&fetched).as_deref(), Some(output));
    assert!(fs::read(output).unwrap() == sample.data, "{} bytes differ", sample.data.len());
    let len = sample.data.len() as u64;
    let progress = fetched.progress();
    assert!(progress.complete);
    assert_eq!((progress.content_length, progress.bytes_stored), (Some(len), len));
    assert_eq!((progress.bytes_fetched, progress.bytes_resumed, progress.bytes_to_check), (len, 0, 0));
    assert!(wait_until(&shared, |progress| progress.bytes_up >= len).complete);
    assert!(leecher.shutdown(PATIENCE).drained);
    assert!(seeder.shutdown(PATIENCE).drained);
}

#[test]
fn files_of_every_awkward_size_arrive() {
    for len in [1, 1023, 1024, 1025, 7162, 300 * 1024] {
        let bench = Bench::new();
        let sample = bench.sample(len);
        share_and_fetch("127.0.0.1:0", &sample, &bench.path("copy"));
        // Neither the partial file nor its sidecar is left behind.
        assert_eq!(names_in(bench.dir.path()), ["copy", "original"]);
    }
}

#[test]
fn ipv6_works_as_ipv4_does() {
    let bench = Bench::new();
    share_and_fetch("[::1]:0", &bench.sample(300 * 1024), &bench.path("copy"));
}

#[test]
fn chunks_larger_than_a_path_mtu_arrive() {
    let bench = Bench::new();
    let params = TreeParams { function: HashFunction::Sha1, chunk_size: ChunkSize::new(8192).unwrap() };
    share_and_fetch("127.0.0.1:0", &bench.sample_with(300_001, params), &bench.path("copy"));
}

/// Runs one test of this file once more, in a network and with mounts of its own that `setup` prepares.
#[expect(clippy::print_stderr, reason = "whoever runs the tests is told what was not run")]
fn in_namespaces(setup: &str, test: &str) {
    let unshare = |script: &str| {
        let this = std::env::current_exe().unwrap();
        let script = format!("{setup} && {script}");
        Command::new("unshare").args(["-r", "-n", "-m", "sh", "-c", &script]).arg(this).output()
    };
    if !unshare("true").is_ok_and(|output| output.status.success()) {
        eprintln!("not run: this machine lacks unshare(1), ip(8) or tc(8), or forbids namespaces");
        return;
    }
    passes_alone(&unshare(&format!("exec \"$0\" --include-ignored --exact {test}")).unwrap());
}

/// Whether `output` is that of one test that passed.
fn passes_alone(output: &Output) {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

#[test]
fn chunks_larger_than_a_path_mtu_arrive_in_fragments() {
    // R3: the same once more in a network whose loopback has the MTU of an Ethernet.
    in_namespaces("ip link set lo mtu 1500 up", "chunks_larger_than_a_path_mtu_arrive");
}

#[test]
fn a_full_send_buffer_is_waited_for() {
    // A slow queue under the loopback, so that the kernel's buffer fills up.
    let slow = "ip link set lo up && tc qdisc add dev lo root tbf rate 40mbit burst 10k latency 1s";
    in_namespaces(slow, "inside_a_slow_network");
}

#[test]
#[ignore = "run by a_full_send_buffer_is_waited_for in a network of its own"]
fn inside_a_slow_network() {
    let bench = Bench::new();
    let sample = bench.sample(1_000_000);
    let mut config = NodeConfig::listening_on("127.0.0.1:0".parse().unwrap());
    config.socket_buffer = 1024;
    let (seeder, leecher) = (Node::start(config).unwrap(), node("127.0.0.1:0"));
    let _shared = seeder.share(sample.source()).unwrap();
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[seeder.local_address()])).unwrap();
    complete(&fetch);
    assert!(fs::read(bench.path("copy")).unwrap() == sample.data);
    let stats = seeder.stats().unwrap().socket;
    assert!(stats.send_blocked > 0, "{stats:?}");
    assert_eq!(stats.send_errors, 0, "{stats:?}");
}

#[test]
fn a_full_disk_fails_the_transfer_and_keeps_what_there_is() {
    let setup = "ip link set lo up && TMPDIR=$(mktemp -d) && export TMPDIR && mount -t tmpfs -o size=600k none $TMPDIR";
    in_namespaces(setup, "inside_a_full_disk");
}

#[test]
#[ignore = "run by a_full_disk_fails_the_transfer_and_keeps_what_there_is on a disk of its own"]
fn inside_a_full_disk() {
    let bench = Bench::new();
    let sample = bench.sample(400_000);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let shared = seeder.share(sample.source()).unwrap();
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[seeder.local_address()])).unwrap();
    let error = failure(&fetch);
    assert!(error.to_string().contains("the disk is full"), "{error}");
    closed(&fetch);
    assert!(!bench.path("copy").exists());
    assert!(names_in(bench.dir.path()).contains(&"copy.part".to_owned()));
    // The other side is none the worse for it.
    wait_until(&shared, |progress| progress.peers == 0);
    assert!(!shared.progress().closed);
}

#[test]
#[cfg(unix)]
fn a_file_that_may_not_get_that_large_fails_the_transfer() {
    let bench = Bench::new();
    bench.sample(400_000);
    // At most 128 KiB for each file, and an error instead of the signal that kills.
    let script = "trap '' XFSZ && ulimit -f 128 && exec \"$0\" --include-ignored --exact inside_a_file_size_limit";
    let this = std::env::current_exe().unwrap();
    let output = Command::new("sh").args(["-c", script]).arg(this).env("TEST_DIR", bench.dir.path()).output();
    passes_alone(&output.unwrap());
}

#[test]
#[ignore = "run by a_file_that_may_not_get_that_large_fails_the_transfer under a limit of its own"]
fn inside_a_file_size_limit() {
    let dir = PathBuf::from(std::env::var_os("TEST_DIR").unwrap());
    let mut sample = Sample::of(dir.join("original"), bytes(400_000), SHA256);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _shared = seeder.share(sample.source()).unwrap();
    // The length comes from the seeder, when the fetch is on its way.
    sample.metadata.content_length = None;
    let fetch = leecher.fetch(sample.request(dir.join("copy"), &[seeder.local_address()])).unwrap();
    let error = failure(&fetch);
    assert!(error.to_string().contains("no file of that size"), "{error}");
    closed(&fetch);
    assert!(!dir.join("copy").exists());
}

#[test]
fn a_length_that_nobody_told_is_found_out() {
    let bench = Bench::new();
    for len in [1000, 1024, 100_000] {
        let mut sample = bench.sample(len);
        let source = sample.source();
        sample.metadata.content_length = None;
        let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
        let _shared = seeder.share(source).unwrap();
        let output = bench.path(&format!("copy {len}"));
        let fetch = leecher.fetch(sample.request(output.clone(), &[seeder.local_address()])).unwrap();
        let size = wait_for(&fetch, |event| match event {
            TransferEvent::SizeKnown(size) => Some(*size),
            _ => None,
        });
        assert_eq!(size, len as u64);
        complete(&fetch);
        assert!(fs::read(output).unwrap() == sample.data);
    }
}

#[test]
fn a_name_that_is_taken_meanwhile_fails_the_transfer_and_keeps_both_files() {
    let bench = Bench::new();
    let sample = bench.sample(50_000);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _shared = seeder.share(sample.source()).unwrap();
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[])).unwrap();
    fs::write(bench.path("copy"), b"precious").unwrap();
    fetch.add_peer(seeder.local_address());
    let error = failure(&fetch);
    assert!(error.to_string().contains("exists"), "{error}");
    closed(&fetch);
    assert_eq!(fs::read(bench.path("copy")).unwrap(), b"precious");
    // Once the name is free, nothing has to be fetched again.
    fs::remove_file(bench.path("copy")).unwrap();
    let again = leecher.fetch(sample.request(bench.path("copy"), &[])).unwrap();
    complete(&again);
    assert_eq!(again.progress().bytes_fetched, 0);
    assert!(fs::read(bench.path("copy")).unwrap() == sample.data);
}

#[test]
fn a_dual_stack_node_serves_ipv4_and_ipv6_peers() {
    let bench = Bench::new();
    let sample = bench.sample(40_000);
    let seeder = node("[::]:0");
    let _shared = seeder.share(sample.source()).unwrap();
    let port = seeder.local_address().port();
    for (number, (listen, seen)) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")].into_iter().enumerate()
    {
        let leecher = node(listen);
        let peer = SocketAddr::new(seen.parse().unwrap(), port);
        let output = bench.path(&format!("copy {number}"));
        let fetched = leecher.fetch(sample.request(output.clone(), &[peer])).unwrap();
        let address = wait_for(&fetched, |event| match event {
            TransferEvent::PeerConnected { address } => Some(*address),
            _ => None,
        });
        // An IPv4 peer is one, whatever the socket makes of it.
        assert_eq!(address, peer);
        complete(&fetched);
        assert!(fs::read(&output).unwrap() == sample.data);
    }
}

#[test]
fn two_leechers_are_served_at_once() {
    let bench = Bench::new();
    let sample = bench.sample(2_000_000);
    let (seeder, one, two) = (node("127.0.0.1:0"), node("127.0.0.1:0"), node("127.0.0.1:0"));
    let shared = seeder.share(sample.source()).unwrap();
    let first = one.fetch(sample.request(bench.path("one"), &[seeder.local_address()])).unwrap();
    let second = two.fetch(sample.request(bench.path("two"), &[seeder.local_address(), one.local_address()])).unwrap();
    complete(&first);
    complete(&second);
    assert!(fs::read(bench.path("one")).unwrap() == sample.data);
    assert!(fs::read(bench.path("two")).unwrap() == sample.data);
    assert!(shared.progress().peers <= 2);
}

#[test]
fn a_leecher_that_is_complete_serves_others() {
    let bench = Bench::new();
    let sample = bench.sample(200_000);
    let (seeder, middle, last) = (node("127.0.0.1:0"), node("127.0.0.1:0"), node("127.0.0.1:0"));
    let shared = seeder.share(sample.source()).unwrap();
    let first = middle.fetch(sample.request(bench.path("first"), &[seeder.local_address()])).unwrap();
    complete(&first);
    shared.stop();
    closed(&shared);
    let second = last.fetch(sample.request(bench.path("second"), &[middle.local_address()])).unwrap();
    complete(&second);
    assert!(fs::read(bench.path("second")).unwrap() == sample.data);
}

#[test]
fn two_contents_in_one_node_do_not_meet() {
    let (one, two) = (Bench::new(), Bench::new());
    let (first, second) = (one.sample(50_000), two.sample(60_000));
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _shares = [seeder.share(first.source()).unwrap(), seeder.share(second.source()).unwrap()];
    let peer = [seeder.local_address()];
    let fetches = [
        leecher.fetch(first.request(one.path("copy"), &peer)).unwrap(),
        leecher.fetch(second.request(two.path("copy"), &peer)).unwrap(),
    ];
    for fetch in &fetches {
        complete(fetch);
    }
    assert!(fs::read(one.path("copy")).unwrap() == first.data);
    assert!(fs::read(two.path("copy")).unwrap() == second.data);
}

/// Fetches all but one group, ends as `end` does, and fetches again.
fn stop_and_resume(end: impl FnOnce(Transfer, Node)) {
    let bench = Bench::new();
    let sample = bench.sample(1_000_000);
    let output = bench.path("copy");
    let (len, rest) = (1_000_000, 1_000_000 - 16 * 1024);
    // A seeder whose copy is damaged in one group serves the others, so that the fetch cannot complete.
    let mut damaged = sample.data.clone();
    damaged[500_000] ^= 1;
    {
        let seeder = node("127.0.0.1:0");
        let source = sample.source();
        fs::write(&sample.path, &damaged).unwrap();
        let _shared = seeder.share(source).unwrap();
        let leecher = node("127.0.0.1:0");
        let fetch = leecher.fetch(sample.request(output.clone(), &[seeder.local_address()])).unwrap();
        wait_until(&fetch, |progress| progress.bytes_stored == rest);
        end(fetch, leecher);
    }
    assert!(!output.exists());
    fs::write(&sample.path, &sample.data).unwrap();

    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _shared = seeder.share(sample.source()).unwrap();
    let again = leecher.fetch(sample.request(output.clone(), &[seeder.local_address()])).unwrap();
    complete(&again);
    let progress = again.progress();
    assert_eq!((progress.bytes_resumed, progress.bytes_fetched), (rest, len - rest));
    assert!(fs::read(&output).unwrap() == sample.data);
    assert_eq!(names_in(bench.dir.path()), ["copy", "original"]);
}

#[test]
fn a_stopped_fetch_goes_on_where_it_was() {
    stop_and_resume(|fetch, _leecher| {
        fetch.stop();
        closed(&fetch);
    });
}

#[test]
fn a_dropped_fetch_goes_on_where_it_was() {
    stop_and_resume(|fetch, leecher| {
        drop(fetch);
        drop(leecher);
    });
}

#[test]
fn a_fetch_of_a_node_that_shut_down_goes_on_where_it_was() {
    stop_and_resume(|fetch, leecher| {
        assert!(leecher.shutdown(PATIENCE).drained);
        assert!(fetch.progress().closed);
    });
}

#[test]
fn a_complete_output_needs_no_peer_and_is_shared_on() {
    let bench = Bench::new();
    let sample = bench.sample(100_000);
    let (owner, other) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let fetch = owner.fetch(sample.request(sample.path.clone(), &[])).unwrap();
    assert_eq!(complete(&fetch), Some(sample.path.clone()));
    let progress = fetch.progress();
    assert!(progress.complete);
    assert_eq!(progress.bytes_fetched, 0);
    let copy = other.fetch(sample.request(bench.path("copy"), &[owner.local_address()])).unwrap();
    complete(&copy);
    assert!(fs::read(bench.path("copy")).unwrap() == sample.data);
}

#[test]
fn an_existing_file_of_other_content_is_kept() {
    let bench = Bench::new();
    let sample = bench.sample(5000);
    fs::write(bench.path("mine"), b"precious").unwrap();
    let leecher = node("127.0.0.1:0");
    let error = leecher.fetch(sample.request(bench.path("mine"), &[])).unwrap_err();
    assert!(matches!(error, FetchError::Open(_)), "{error}");
    assert_eq!(fs::read(bench.path("mine")).unwrap(), b"precious");
}

#[test]
fn content_that_changes_on_disk_is_not_sent_and_the_rest_is() {
    let bench = Bench::new();
    let sample = bench.sample(256 * 1024);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let shared = seeder.share(sample.source()).unwrap();
    // One byte of the fourth group.
    let mut changed = sample.data.clone();
    changed[50_000] ^= 1;
    fs::write(&sample.path, &changed).unwrap();
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[seeder.local_address()])).unwrap();
    let (offset, len) = wait_for(&shared, |event| match event {
        TransferEvent::ContentChanged { offset, len } => Some((*offset, *len)),
        _ => None,
    });
    assert!((offset..offset + len).contains(&50_000), "{offset} {len}");
    let rest = sample.data.len() as u64 - 16 * 1024;
    wait_until(&fetch, |progress| progress.bytes_stored == rest);
    // It is repaired, and found to be: the seeder is started again.
    assert!(!bench.path("copy").exists());
    assert!(!fetch.progress().complete);
}

#[test]
fn the_node_says_goodbye() {
    let bench = Bench::new();
    let sample = bench.sample(10_000);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _shared = seeder.share(sample.source()).unwrap();
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[seeder.local_address()])).unwrap();
    complete(&fetch);
    assert!(seeder.shutdown(PATIENCE).drained);
    let reason = wait_for(&fetch, |event| match event {
        TransferEvent::PeerClosed { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(reason, CloseReason::ByPeer);
}

#[test]
fn a_dropped_node_ends_its_transfers() {
    let bench = Bench::new();
    let sample = bench.sample(10_000);
    let seeder = node("127.0.0.1:0");
    let shared = seeder.share(sample.source()).unwrap();
    drop(seeder);
    closed(&shared);
    assert!(shared.progress().closed);
    assert!(shared.events().recv().is_err());
    // Its handle may still be used, to no effect.
    shared.add_peer("127.0.0.1:9".parse().unwrap());
    shared.stop();
}

#[test]
fn a_peer_added_later_is_used() {
    let bench = Bench::new();
    let sample = bench.sample(30_000);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _shared = seeder.share(sample.source()).unwrap();
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[])).unwrap();
    fetch.add_peer(seeder.local_address());
    complete(&fetch);
    assert!(fs::read(bench.path("copy")).unwrap() == sample.data);
}

#[test]
fn peers_that_cannot_be_talked_to_are_left_out() {
    let bench = Bench::new();
    let sample = bench.sample(100);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _shared = seeder.share(sample.source()).unwrap();
    let nobody = ["0.0.0.0:5", "127.0.0.1:0", "224.0.0.1:5", "[::1]:9"].map(|peer| peer.parse().unwrap());
    let error = leecher.fetch(sample.request(bench.path("copy"), &nobody)).unwrap_err();
    assert!(matches!(error, FetchError::Peer(PeerError::Refused(_))), "{error}");
    let peers = [&nobody[..], &[seeder.local_address()]].concat();
    let fetched = leecher.fetch(sample.request(bench.path("copy"), &peers)).unwrap();
    wait_for(&fetched, |event| matches!(event, TransferEvent::Complete { .. }).then_some(()));
    // What is complete needs none of them.
    drop((fetched, leecher));
    let another = node("127.0.0.1:0");
    assert!(another.fetch(sample.request(bench.path("copy"), &nobody)).unwrap().progress().complete);
}

#[test]
fn a_port_in_use_and_a_peer_out_of_reach_are_said() {
    let bench = Bench::new();
    let sample = bench.sample(100);
    let first = node("127.0.0.1:0");
    let config = NodeConfig::listening_on(first.local_address());
    assert!(matches!(config.listen, Listen::Address(_)));
    let error = Node::start(config).unwrap_err();
    assert!(matches!(error, StartError::Bind(_)));
    assert!(error.to_string().contains("in use"), "{error}");
    let error = first.fetch(sample.request(bench.path("copy"), &["[::1]:9".parse().unwrap()])).unwrap_err();
    assert!(matches!(error, FetchError::Peer(PeerError::Unreachable { .. })), "{error}");
}

/// The queue of events is full when the last of them comes, and nothing moves any more when it is read.
#[test]
fn an_application_that_comes_late_hears_of_the_end() {
    let bench = Bench::new();
    let sample = bench.sample(1_600_000);
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let shared = seeder.share(sample.source()).unwrap();
    seeder.set_rates(ppspp_core::Rates { up: ppspp_core::ByteRate::new(100_000), ..Default::default() });
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[seeder.local_address()])).unwrap();
    // Some 16 seconds of 20 events each.
    wait_until(&fetch, |progress| progress.complete);
    drop(shared);
    seeder.shutdown(Duration::from_secs(1));
    let mut seen = 0;
    loop {
        match fetch.events().recv_timeout(Duration::from_secs(30)) {
            Ok(TransferEvent::Complete { .. }) => break,
            Ok(_) => seen += 1,
            Err(error) => panic!("{error}: {seen} events and no end"),
        }
    }
    assert!(seen >= 256, "{seen} events did not fill the queue");
}

/// The events of one transfer are never read: more of them wait than fit its queue.
#[test]
fn snapshots_stay_fresh_while_an_application_does_not_read_its_events() {
    let bench = Bench::new();
    let (small, sample) = (Sample::of(bench.path("small"), bytes(1000), SHA256), bench.sample(4_000_000));
    fs::write(&small.path, &small.data).unwrap();
    let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
    let _unread = seeder.share(small.source()).unwrap();
    // Each comes and goes: two events at least.
    for visit in 0..150 {
        let output = bench.path(&format!("copy {visit}"));
        let fetch = leecher.fetch(small.request(output, &[seeder.local_address()])).unwrap();
        complete(&fetch);
        fetch.stop();
        closed(&fetch);
    }
    let shared = seeder.share(sample.source()).unwrap();
    seeder.set_rates(ppspp_core::Rates { up: ppspp_core::ByteRate::new(1_000_000), ..Default::default() });
    let fetch = leecher.fetch(sample.request(bench.path("copy"), &[seeder.local_address()])).unwrap();
    let mut snapshots = std::collections::BTreeSet::new();
    while !fetch.progress().complete {
        snapshots.insert(shared.progress().bytes_up);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Some four seconds: eighty on a machine with time, five if they come once a second.
    assert!(snapshots.len() > 15, "{snapshots:?}");
}

#[test]
fn what_there_is_of_a_group_is_kept_though_no_peer_is_left() {
    for stop in [|fetch: Transfer, _| (fetch.stop(), closed(&fetch)).1, |_fetch, leecher| drop::<Node>(leecher)] {
        let bench = Bench::new();
        let sample = bench.sample(1_000_000);
        let (seeder, leecher) = (node("127.0.0.1:0"), node("127.0.0.1:0"));
        let _shared = seeder.share(sample.source()).unwrap();
        seeder.set_rates(ppspp_core::Rates { up: ppspp_core::ByteRate::new(30_000), ..Default::default() });
        let fetch = leecher.fetch(sample.request(bench.path("copy"), &[seeder.local_address()])).unwrap();
        wait_until(&fetch, |progress| progress.bytes_down > 20_000 && progress.bytes_down % 16_384 != 0);
        seeder.shutdown(PATIENCE);
        let fetched = wait_until(&fetch, |progress| progress.peers == 0).bytes_down;
        stop(fetch, leecher);

        let leecher = node("127.0.0.1:0");
        let again = leecher.fetch(sample.request(bench.path("copy"), &[])).unwrap();
        let resumed = wait_until(&again, |progress| progress.bytes_resumed > 0 && progress.bytes_to_check == 0);
        assert_eq!(resumed.bytes_resumed, fetched);
    }
}
