//! What a node does while there is nothing to do. Alone in its process: the system counts by thread.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use ppspp_core::Metadata;
use ppspp_core::chunk::{ChunkAddressing, Geometry};
use ppspp_core::integrity::TreeParams;
use ppspp_mio::hashing::hash_file;
use ppspp_mio::{FetchRequest, Node, NodeConfig, ShareSource, Transfer, TransferEvent};

fn node() -> Node {
    Node::start(NodeConfig::listening_on("127.0.0.1:0".parse().unwrap())).unwrap()
}

fn wait_for(transfer: &Transfer, is: impl Fn(&TransferEvent) -> bool) {
    while !is(&transfer.events().recv_timeout(Duration::from_secs(60)).unwrap()) {}
}

/// How often the loops of this process's nodes went to sleep.
fn sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let loops = tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "ppspp\n"));
    let count = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    loops.map(count).sum()
}

#[test]
fn events_of_a_closed_transfer_that_nobody_reads_hardly_wake_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("original");
    fs::write(&path, [7; 1000]).unwrap();
    let params = TreeParams::default();
    let tree = hash_file(&path, params, &|_, _| {}, &AtomicBool::new(false)).unwrap();
    let metadata = Metadata {
        root: *tree.root(),
        function: params.function,
        addressing: ChunkAddressing::default(),
        chunk_size: params.chunk_size,
        content_length: tree.geometry().and_then(Geometry::content_length),
    };
    let (seeder, leecher) = (node(), node());
    let unread = seeder.share(ShareSource { path, tree, metadata: metadata.clone() }).unwrap();
    // Each comes and goes, two events at least: more than fit the queue.
    for visit in 0..150 {
        let output = dir.path().join(format!("copy {visit}"));
        let peers = vec![seeder.local_address()];
        let fetch = leecher.fetch(FetchRequest { metadata: metadata.clone(), peers, output, force: false }).unwrap();
        wait_for(&fetch, |event| matches!(event, TransferEvent::Complete { .. }));
        fetch.stop();
        wait_for(&fetch, |event| *event == TransferEvent::Closed);
    }
    leecher.shutdown(Duration::from_secs(10));
    unread.stop();
    while !unread.progress().closed {
        thread::sleep(Duration::from_millis(5));
    }
    let before = sleeps();
    thread::sleep(Duration::from_secs(3));
    let slept = sleeps() - before;
    assert!(slept < 15, "{slept} times in three seconds");
    // They wait all the same.
    wait_for(&unread, |event| *event == TransferEvent::Closed);
}
