//! Writes the corpora's first inputs from the captures in `crates/ppspp-core/tests/vectors`: the same files each time.
//!
//! `cargo run --example make_corpus` in `fuzz/`. What fuzzing added is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ppspp_core::chunk::{ChunkAddressing, ChunkSize};
use ppspp_core::wire::{Format, Messages, split_channel};

/// Captures, with the addressing method, hash length and signature length of their swarms.
const CAPTURES: [(&str, ChunkAddressing, usize, usize); 10] = [
    ("libswift-1-byte", ChunkAddressing::Chunk32, 20, 0),
    ("libswift-1024", ChunkAddressing::Chunk32, 20, 0),
    ("libswift-7162", ChunkAddressing::Chunk32, 20, 0),
    ("libswift-3peers", ChunkAddressing::Chunk32, 20, 0),
    ("libswift-keepalive", ChunkAddressing::Chunk32, 20, 0),
    ("libswift-live-ecdsa", ChunkAddressing::Chunk32, 20, 64),
    ("libswift-probe-handshakes", ChunkAddressing::Chunk32, 20, 0),
    ("peregrine-7162", ChunkAddressing::Chunk32, 20, 0),
    ("pyppspp-7162", ChunkAddressing::Chunk32, 20, 0),
    ("slugalisk-live-umt", ChunkAddressing::Bin32, 32, 64),
];

/// Datagrams taken of one capture: enough to see each of its shapes.
const MAX_OF_ONE: usize = 24;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors = root.join("../crates/ppspp-core/tests/vectors");
    let corpus = Corpus { folder: root.join("corpus") };
    for (name, addressing, hash_len, signature_len) in CAPTURES {
        let format = Format::new(addressing, ChunkSize::DEFAULT, hash_len, signature_len);
        let datagrams = datagrams(&fs::read(vectors.join(format!("{name}.pcap")))?);
        for (number, datagram) in distinct(datagrams, &format).iter().enumerate() {
            let name = format!("{name}-{number:02}");
            let header = header(&format);
            corpus.put("decode", &name, &[&header[..], datagram].concat())?;
            let body = &datagram[4..];
            corpus.put("roundtrip", &name, &[&header[..], &[6, 0], body].concat())?;
            if body.first() == Some(&0) {
                corpus.put("handshake_options", &name, &[&[0], &body[1..]].concat())?;
            }
        }
    }
    bins(&corpus)?;
    range_sets(&corpus)?;
    requests(&corpus)?;
    mangled(&corpus)?;
    proofs(&corpus)
}

struct Corpus {
    folder: PathBuf,
}

impl Corpus {
    fn put(&self, target: &str, name: &str, input: &[u8]) -> std::io::Result<()> {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), input)
    }
}

/// The six bytes that `Input::format` reads back as `format`.
fn header(format: &Format) -> [u8; 6] {
    let place = |found: Option<usize>| found.and_then(|at| u8::try_from(at).ok()).unwrap_or_default();
    let addressing = place(ChunkAddressing::ALL.iter().position(|method| *method == format.addressing()));
    let hash = place([20, 28, 32, 48, 64, 0].iter().position(|len| *len == format.hash_len()));
    let signature = place([0, 64, 96, 256].iter().position(|len| *len == format.signature_len()));
    [addressing, 0, hash, signature, 0, 0]
}

/// The UDP payloads over IPv4 of a little-endian Ethernet capture that hold a channel id.
fn datagrams(capture: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut records = capture.get(24..).unwrap_or_default();
    while let Some((head, rest)) = records.split_first_chunk::<16>() {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let (frame, rest) = rest.split_at(len.min(rest.len()));
        records = rest;
        if frame.len() < 42 || frame[12..14] != [8, 0] || frame[23] != 17 {
            continue;
        }
        let header = usize::from(frame[14] & 15) * 4;
        let payload = &frame[14 + header + 8..];
        if split_channel(payload).is_some() {
            found.push(payload.to_vec());
        }
    }
    found
}

/// The first datagram of each row of message types.
fn distinct(datagrams: Vec<Vec<u8>>, format: &Format) -> Vec<Vec<u8>> {
    let mut seen = BTreeSet::new();
    let shape = |datagram: &[u8]| {
        let body = &datagram[4..];
        let types = Messages::new(body, format).map(|message| {
            message.map_or_else(|error| error.to_string(), |message| message.message_type().to_string())
        });
        let mut row: Vec<String> = types.collect();
        if row.first().is_some_and(|first| first == "HANDSHAKE") {
            row.push(body.len().to_string());
        }
        row
    };
    datagrams.into_iter().filter(|datagram| seen.insert(shape(datagram))).take(MAX_OF_ONE).collect()
}

/// Numbers at the edges of their widths.
fn bins(corpus: &Corpus) -> std::io::Result<()> {
    let edges = [0, 1, 7, u64::from(u32::MAX) >> 1, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX - 1];
    for (number, edge) in edges.into_iter().enumerate() {
        let mut input = Vec::new();
        for value in [edge, edge ^ 4, edge, 1 << (number * 9)] {
            input.extend_from_slice(&value.to_be_bytes());
        }
        input.extend_from_slice(&[3, 40, 2, 0, 8]);
        input.extend_from_slice(&(edge | 7162).to_be_bytes());
        input.extend_from_slice(&edge.to_be_bytes());
        input.extend_from_slice(&[1, 0]);
        input.extend_from_slice(&edge.to_be_bytes());
        corpus.put("bin_ops", &format!("edge-{number}"), &input)?;
    }
    Ok(())
}

/// Each change, over runs that overlap, at both ends of the space of chunks and within.
fn range_sets(corpus: &Corpus) -> std::io::Result<()> {
    for place in 0..3_u8 {
        let mut input = vec![place];
        if place == 2 {
            input.extend_from_slice(&(1_u64 << 33).to_be_bytes());
        }
        for step in 0..48_u8 {
            input.extend_from_slice(&[step.wrapping_mul(5) & !7 | step % 7, step.wrapping_mul(37), 3 + step]);
        }
        corpus.put("range_set_ops", &format!("changes-{place}"), &input)?;
    }
    Ok(())
}

/// For each content: everything is wanted, asked of several peers, asked again, settled in part and released.
fn requests(corpus: &Corpus) -> std::io::Result<()> {
    const WANT: u8 = 0;
    const UNWANT: u8 = 1;
    const ASK: u8 = 2;
    const ASK_ALSO: u8 = 3;
    const SETTLE: u8 = 4;
    const RELEASE: u8 = 5;
    for content in 0..4_u8 {
        let mut input = vec![content];
        for start in [0, 35] {
            input.extend_from_slice(&[WANT, start, 39, 0, 0]);
        }
        for turn in 0..20_u8 {
            input.extend_from_slice(&[ASK, turn * 3, 4, turn % 6, turn % 3]);
            input.extend_from_slice(&[ASK_ALSO, turn * 3, 2, turn % 5, 1]);
            input.extend_from_slice(&[SETTLE, turn * 7, 0, 0, 0]);
        }
        input.extend_from_slice(&[UNWANT, 60, 20, 0, 0]);
        for peer in 0..6 {
            input.extend_from_slice(&[RELEASE, peer * 5, 39, peer, 0]);
        }
        corpus.put("request_ops", &format!("content-{content}"), &input)?;
    }
    Ok(())
}

/// Transfers of every mode: one with a bit of each fate, one in bursts of loss, one that forges all the time.
fn mangled(corpus: &Corpus) -> std::io::Result<()> {
    for mode in 0..16_u8 {
        let (small, large) = (mode % 8, 255 - mode);
        let mut mixed = vec![small, mode, 20];
        let mut lossy = vec![large, mode, 40];
        let mut forged = vec![small, mode, 5];
        for turn in 0..60_u8 {
            mixed.extend_from_slice(&[0, turn % 16, turn.wrapping_mul(91), turn, turn.wrapping_mul(7)]);
            lossy.extend_from_slice(&[0, 0, 0, 6 + turn % 3, turn / 2, 10, turn]);
            forged.extend_from_slice(&[0, 0, 11 + turn % 3, turn / 8, turn.wrapping_mul(29), turn, 13]);
        }
        corpus.put("mangled_pair", &format!("mixed-{mode:02}"), &mixed)?;
        corpus.put("mangled_pair", &format!("lossy-{mode:02}"), &lossy)?;
        corpus.put("mangled_pair", &format!("forged-{mode:02}"), &forged)?;
    }
    Ok(())
}

/// For each content and with its size known or not: every chunk in order with its proof, then everything else once.
fn proofs(corpus: &Corpus) -> std::io::Result<()> {
    for sample in 0..8_u8 {
        for known in 0..2_u8 {
            let mut input = vec![sample, known];
            if known == 0 {
                // Hear the proof of the last chunk and claim the size with it.
                for last in [6, 69, 32, 0, 31, 4, 2, 47] {
                    input.extend_from_slice(&[1, last, 4, 1, 3]);
                }
            }
            for chunk in 0..32 {
                input.extend_from_slice(&[2, chunk]);
            }
            input.extend_from_slice(&[6, 0, 5, 3, 9, 2, 70, 7, 1, 0, 0, 0, 3, 40, 2, 1]);
            input.extend_from_slice(&[0, 33, 0, 9, 8, 0, 3, 1, 0, 3, 0, 5, 0, 10, 1]);
            input.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 5]);
            corpus.put("proof", &format!("content-{sample}-{known}"), &input)?;
        }
    }
    Ok(())
}
