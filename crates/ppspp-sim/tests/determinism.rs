//! One seed, one history.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use ppspp_sim::scenarios::{Options, find};
use ppspp_sim::{Recording, Report};

/// Keeps what is written to it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?;
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(seed: u64) -> Options {
    Options { seed, peers: Some(5), size: Some(200_000) }
}

fn run(name: &str, seed: u64) -> Report {
    let mut scenario = find(name).unwrap().build(&options(seed));
    scenario.without_checkers();
    scenario.run().unwrap()
}

#[test]
fn the_same_seed_has_the_same_history() {
    let (first, second) = (run("flash-crowd", 7), run("flash-crowd", 7));
    assert_eq!(first.trace_hash, second.trace_hash);
    assert_eq!(first, second);
    assert_ne!(first.trace_hash, run("flash-crowd", 8).trace_hash);
}

#[test]
fn threads_beside_a_run_do_not_change_it() {
    let alone: Vec<String> = (1..=4).map(|seed| run("flash-crowd", seed).trace_hash).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = (1..=4).map(|seed| scope.spawn(move || run("flash-crowd", seed).trace_hash)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn recording_a_run_does_not_change_it() {
    let (trace, pcap) = (Shared::default(), Shared::default());
    let recording = Recording { trace: Some(Box::new(trace.clone())), pcap: Some(Box::new(pcap.clone())) };
    let mut scenario = find("flash-crowd").unwrap().build(&options(7));
    scenario.without_checkers();
    let report = scenario.run_recorded(recording).unwrap();
    assert_eq!(report.trace_hash, run("flash-crowd", 7).trace_hash);
    let lines = String::from_utf8(trace.0.lock().unwrap().clone()).unwrap();
    let sent = lines.lines().filter(|line| line.contains(" send ")).count() as u64;
    assert_eq!(sent, report.packets.sent);
    assert!(lines.contains(" note 1 complete"));
    assert!(pcap.0.lock().unwrap().len() > 200_000);
}
