//! Captures that the simulator writes are read like those of a network.

use std::fs::File;
use std::io::{Write as _, pipe};
use std::path::Path;

use ppspp_sim::Recording;
use ppspp_sim::scenarios::{Options, find};

use crate::support::{Place, Running, finish};

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

#[test]
fn a_capture_that_goes_on_is_decoded_as_it_arrives() {
    let place = Place::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ppspp-core/tests/vectors/libswift-7162.pcap");
    let whole = finish(place.ppspp().arg("decode").arg(&file)).stdout;
    let bytes = std::fs::read(file).unwrap();
    let (reader, mut writer) = pipe().unwrap();
    let mut decoder = Running::start(place.ppspp().args(["decode", "-"]).stdin(reader));
    // The last packet is cut off.
    writer.write_all(&bytes[..bytes.len() - 1]).unwrap();
    let last = whole.lines().rfind(|line| line.starts_with('#')).unwrap();
    let before = &whole[..whole.find(last).unwrap()];
    let printed: Vec<_> = before.lines().map(|_| decoder.line()).collect();
    assert_eq!(printed, before.lines().collect::<Vec<_>>());
    decoder.signal("INT");
    let ended = decoder.wait();
    ended.refused(130, "interrupted after 33 datagrams, 0 of them invalid");
    assert_eq!(ended.stdout, before);
}
