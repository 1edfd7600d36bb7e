//! The receiving half: receives, hashes and writes the content.

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};

use super::socket::{PATIENCE, Socket};
use super::tree::InOrderTree;
use super::{ACK_EVERY_BYTES, HELLO, Layout};
use crate::args::BareGetArgs;
use crate::report;

/// Content gathered for one write, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Fetches the content and prints the hash of its tree's top.
pub(crate) fn run(args: &BareGetArgs) -> Result<()> {
    let layout = Layout::new(args.format.hash, args.format.chunk_size);
    let ack_every = (ACK_EVERY_BYTES / layout.chunk_size as u64).max(1);
    let mut file = File::create(&args.output).with_context(|| format!("cannot create {}", args.output.display()))?;
    let mut socket = Socket::bind()?;
    socket.send(args.peer, &HELLO.to_be_bytes(), 8)?;
    let mut tree = InOrderTree::new(args.format.hash);
    let mut gathered = Vec::with_capacity(WRITE_BYTES + layout.chunk_size);
    let (mut count, mut received, mut acknowledged) = (0_u64, 0_u64, 0_u64);
    while received < args.len {
        socket.receive(Some(PATIENCE), |_, datagram| {
            let (index, chunk) = layout.split(datagram).context("a datagram is too short")?;
            ensure!(index == count, "chunk {index} came instead of {count}: a datagram was lost");
            tree.push(chunk);
            gathered.extend_from_slice(chunk);
            count += 1;
            received += chunk.len() as u64;
            if gathered.len() >= WRITE_BYTES {
                file.write_all(&gathered).context("cannot write the content")?;
                gathered.clear();
            }
            Ok(())
        })?;
        if count >= acknowledged + ack_every {
            acknowledged = count;
            socket.send(args.peer, &count.to_be_bytes(), 8)?;
        }
    }
    file.write_all(&gathered).context("cannot write the content")?;
    report::line(&tree.top().map_or_else(String::new, |hash| hash.to_string()))
}
