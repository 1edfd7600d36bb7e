//! Replays the corpora of the fuzz targets, on any toolchain.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and shows its input")]

use std::fs;
use std::path::Path;

#[expect(clippy::missing_panics_doc, reason = "a target panics when a promise is broken")]
#[path = "../../../fuzz/src/lib.rs"]
pub mod targets;

/// Runs `target` on every input of its corpus, and on two that no corpus holds.
#[track_caller]
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    for input in inputs {
        // A failing test shows its output, and so which input it was.
        println!("{}", input.display());
        target(&fs::read(&input).unwrap());
    }
    target(&[]);
    target(&[0xff; 600]);
}

#[test]
fn decode() {
    replay("decode", targets::decode);
}

#[test]
fn roundtrip() {
    replay("roundtrip", targets::roundtrip);
}

#[test]
fn handshake_options() {
    replay("handshake_options", targets::handshake_options);
}

#[test]
fn bin_ops() {
    replay("bin_ops", targets::bin_ops);
}

#[test]
fn range_set_ops() {
    replay("range_set_ops", targets::range_set_ops);
}

#[test]
fn proof() {
    replay("proof", targets::proof);
}

#[test]
fn endpoint_receive() {
    replay("endpoint_receive", targets::endpoint_receive);
}

#[test]
fn mangled_pair() {
    replay("mangled_pair", targets::mangled_pair);
}
