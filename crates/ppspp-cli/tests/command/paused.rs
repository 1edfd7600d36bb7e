//! Readers that have paused: a signal ends the command whatever they do.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Place, Running};

/// A pipe without room, as a reader leaves it that has paused.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    // What a pipe holds on Linux.
    writer.write_all(&vec![b'\n'; 65_536]).unwrap();
    (reader, writer)
}

/// A seeder that takes some seconds for its file, and the link.
fn slow_seeder(place: &Place) -> (Running, String) {
    let mut seeder = place.seed(&place.file("original", 8_000_000), &["--upload-limit", "1MB", "--json"]);
    let first: Value = serde_json::from_str(&seeder.line()).unwrap();
    (seeder, first["link"].as_str().unwrap().to_owned())
}

#[test]
fn a_signal_ends_a_fetch_in_order() {
    let place = Place::new();
    let (mut seeder, link) = slow_seeder(&place);
    let (_reader, writer) = full();
    let mut command = place.ppspp();
    command.args(["get", &link, "-o", "copy", "--listen", "127.0.0.1:0", "--json"]);
    let mut getter = Running::start_with(command.stdout(writer).stderr(Stdio::piped()));
    getter.wait_for_bytes(&place.path("copy.part"));
    getter.signal("TERM");
    getter.wait().refused(130, "interrupted; ");
    assert!(place.path("copy.part").exists());
    assert!(seeder.line_with("peer_closed").contains("by_peer"));
}

/// Its objects go to standard error.
#[test]
fn a_signal_ends_a_stream() {
    let place = Place::new();
    let (mut seeder, link) = slow_seeder(&place);
    let (_reader, writer) = full();
    let mut command = place.ppspp();
    command.args(["get", &link, "-o", "-", "--listen", "127.0.0.1:0", "--json"]);
    let getter = Running::start_with(command.stdout(Stdio::null()).stderr(writer));
    seeder.line_with("peer_connected");
    getter.signal("INT");
    assert_eq!(getter.wait().code, Some(130));
    assert!(seeder.line_with("peer_closed").contains("by_peer"));
}

#[test]
fn a_signal_ends_a_seeder() {
    let place = Place::new();
    let (_reader, writer) = full();
    let mut command = place.ppspp();
    command.arg("seed").arg(place.file("f", 10)).args(["--listen", "127.0.0.1:0", "--json", "--stats"]);
    let mut seeder = Running::start_with(command.stdout(writer).stderr(Stdio::piped()));
    seeder.wait_for_thread("ppspp-output");
    seeder.signal("INT");
    assert_eq!(seeder.wait().code, Some(130));
}
