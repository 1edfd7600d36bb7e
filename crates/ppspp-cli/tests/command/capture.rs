//! Captures that the simulator writes are read like those of a network.

use std::fs::File;

use ppspp_sim::Recording;
use ppspp_sim::scenarios::{Options, find};

use crate::support::Place;

#[test]
fn a_capture_of_the_simulator_is_decoded_whole() {
    let place = Place::new();
    let options = Options { peers: Some(2), size: Some(50_000), ..Options::seed(1) };
    let pcap = File::create(place.path("run.pcapng")).unwrap();
    let recording = Recording { pcap: Some(Box::new(pcap)), ..Recording::default() };
    let report = find("staggered").unwrap().build(&options).run_recorded(recording).unwrap();
    let ended = place.run(["decode", "run.pcapng"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let count = |begins: &str| ended.stdout.lines().filter(|line| line.starts_with(begins)).count() as u64;
    assert_eq!(count("#"), report.packets.sent);
    // 49 chunks to each of two leechers.
    assert!(count("    DATA chunk") >= 98, "{}", ended.stdout);
    for message in ["HANDSHAKE", "HAVE", "REQUEST", "INTEGRITY", "ACK"] {
        assert!(count(&format!("    {message} ")) > 0, "{message}");
    }
}
