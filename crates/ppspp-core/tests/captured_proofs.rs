//! The hashes that other implementations send prove the chunks that they send, from the root alone.
//!
//! What is in each capture stands in `tests/vectors/README.md`. All are SHA-1, 1024-byte chunks, 32-bit chunk ranges.

#![expect(clippy::unwrap_used, reason = "a helper that cannot read its capture fails the test")]

use std::path::{Path, PathBuf};

use ppspp_core::Instant;
use ppspp_core::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkSize, Geometry};
use ppspp_core::integrity::{EarlyHashes, Hash, HashFunction, PeakClaim, TreeBuilder, TreeParams, Verdict, Verifier};
use ppspp_core::wire::{Format, Message, Messages, split_channel};

const PARAMS: TreeParams = TreeParams { function: HashFunction::Sha1, chunk_size: ChunkSize::DEFAULT };

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn hash(hex: &str) -> Hash {
    let bytes: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
    Hash::from_slice(&bytes).unwrap()
}

fn swarm_id(name: &str) -> Hash {
    hash(&std::fs::read_to_string(vector(&format!("{name}.swarm-id.txt"))).unwrap())
}

/// What follows the channel id in the UDP datagrams over IPv4 of a little-endian Ethernet capture.
fn bodies(capture: &str) -> Vec<Vec<u8>> {
    let file = std::fs::read(vector(&format!("{capture}.pcap"))).unwrap();
    let mut records = &file[24..];
    let mut bodies = Vec::new();
    while !records.is_empty() {
        let len = u32::from_le_bytes(*records[8..].first_chunk().unwrap()) as usize;
        let (frame, rest) = records[16..].split_at(len);
        records = rest;
        let ip = &frame[14..];
        let is_udp = frame[12..14] == [8, 0] && ip[9] == 17;
        let header = usize::from(ip[0] & 15) * 4;
        if is_udp && let Some((_, body)) = split_channel(&ip[header + 8..]) {
            bodies.push(body.to_vec());
        }
    }
    bodies
}

/// The tree's root, built from the content itself.
fn root_of(content: &[u8]) -> Hash {
    let geometry = Geometry::new(content.len() as u64, ChunkSize::DEFAULT).unwrap();
    let mut builder = TreeBuilder::new(PARAMS, geometry);
    for span in builder.spans() {
        let bytes = span.byte_range();
        let bytes = &content[usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap()];
        builder.add(TreeBuilder::hash_span(PARAMS, geometry, span, bytes).unwrap()).unwrap();
    }
    *builder.finish().unwrap().root()
}

/// Verifies every chunk in a capture, knowing the root and perhaps the size; returns the content length.
fn verify_capture(capture: &str, root: Hash, geometry: Option<Geometry>) -> u64 {
    let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 20, 0);
    let mut verifier = Verifier::new(PARAMS, root, geometry, 64);
    let mut early = EarlyHashes::new(4096);
    let mut sent: Vec<(Bin, Hash)> = Vec::new();
    let mut claim = None;
    let mut waiting: Vec<(ChunkIndex, Vec<u8>)> = Vec::new();
    for body in bodies(capture) {
        for message in Messages::new(&body, &format).map_while(Result::ok) {
            match message {
                Message::Integrity { node, hash } => {
                    early.insert(node, hash, Instant::ZERO);
                    sent.push((node, Hash::from_slice(hash).unwrap()));
                }
                Message::Data { chunk, payload, .. } => {
                    claim = claim.or_else(|| PeakClaim::find(PARAMS, &root, &sent));
                    claim = claim.or_else(|| PeakClaim::one_chunk(PARAMS, &root).filter(|_| sent.is_empty()));
                    let last = claim.as_ref().filter(|claim| claim.geometry().last_chunk() == chunk);
                    if let Some(claim) = last.filter(|_| verifier.geometry().is_none()) {
                        assert!(verifier.adopt(claim, payload, &early).is_ok(), "{capture}");
                    }
                    waiting.push((chunk, payload.to_vec()));
                }
                _ => {}
            }
        }
    }
    for (chunk, payload) in &waiting {
        let verdict = verifier.check(*chunk, payload, &early);
        assert!(matches!(verdict, Verdict::Verified | Verdict::AlreadyHave), "{capture}: {chunk:?} is {verdict:?}");
    }
    let geometry = verifier.geometry().unwrap();
    assert!(geometry.all().iter().all(|chunk| verifier.has(chunk)), "{capture}");
    geometry.content_length().unwrap()
}

#[test]
fn swarm_ids_are_the_roots_of_their_contents() {
    for name in ["libswift-1-byte", "libswift-1024", "libswift-7162"] {
        let content = std::fs::read(vector(&format!("{name}.content.bin"))).unwrap();
        assert_eq!(root_of(&content), swarm_id(name), "{name}");
    }
    let content = std::fs::read(vector("peregrine-and-pyppspp-7162.content.bin")).unwrap();
    assert_eq!(root_of(&content), hash("bf27efc3d68ca9c7020dabf26e794e7a568d7820"));
}

/// RFC 7574 §5.6: the size is found without being told.
#[test]
fn small_contents_are_proven_from_the_root_alone() {
    for (capture, length) in [("libswift-1-byte", 1), ("libswift-1024", 1024), ("libswift-7162", 7162)] {
        assert_eq!(verify_capture(capture, swarm_id(capture), None), length, "{capture}");
    }
    let root = hash("bf27efc3d68ca9c7020dabf26e794e7a568d7820");
    assert_eq!(verify_capture("peregrine-7162", root, None), 7162);
}

/// Here the last chunk came after many that its receiver had acknowledged, so that the hashes they imply were left out:
/// to detect the size one has to ask for the last chunk first.
#[test]
fn a_transfer_among_three_peers_is_proven_once_the_size_is_known() {
    let geometry = Geometry::new(307_200, ChunkSize::DEFAULT).unwrap();
    assert_eq!(verify_capture("libswift-3peers", swarm_id("libswift-3peers"), Some(geometry)), 307_200);
}
