//! The sending half: reads the file and sends it to whoever says hello, as often as asked.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::socket::{PATIENCE, Socket};
use super::tree::InOrderTree;
use super::{HELLO, Layout, WINDOW_BYTES};
use crate::args::BareSeedArgs;
use crate::report;

/// Prints its address, then serves one receiver after the other until it is killed.
pub(crate) fn run(args: &BareSeedArgs) -> Result<()> {
    let layout = Layout::new(args.format.hash, args.format.chunk_size);
    let mut socket = Socket::bind()?;
    report::line(&socket.local_address()?.to_string())?;
    loop {
        let mut receiver = None;
        while receiver.is_none() {
            socket.receive(None, |from, datagram| {
                if parse(datagram) == Some(HELLO) {
                    receiver = Some(from);
                }
                Ok(())
            })?;
        }
        if let Some(receiver) = receiver {
            let file = File::open(&args.path).with_context(|| format!("cannot open {}", args.path.display()))?;
            let tree = args.rehash.then(|| InOrderTree::new(args.format.hash));
            serve(&mut socket, receiver, file, layout, tree)?;
        }
    }
}

fn serve(
    socket: &mut Socket,
    receiver: SocketAddr,
    mut file: File,
    layout: Layout,
    mut rehashed: Option<InOrderTree>,
) -> Result<()> {
    let batch = socket.batch_of(layout.datagram_len());
    let window = (WINDOW_BYTES / layout.chunk_size as u64).max(batch as u64);
    let mut content = vec![0; batch * layout.chunk_size];
    let mut datagrams = Vec::with_capacity(batch * layout.datagram_len());
    let (mut sent, mut acknowledged) = (0_u64, 0_u64);
    loop {
        let filled = fill(&mut file, &mut content)?;
        if filled == 0 {
            return Ok(());
        }
        datagrams.clear();
        for chunk in content[..filled].chunks(layout.chunk_size) {
            if let Some(tree) = &mut rehashed {
                tree.push(chunk);
            }
            layout.put_header(sent, &mut datagrams);
            datagrams.extend_from_slice(chunk);
            sent += 1;
        }
        while sent > acknowledged + window {
            socket.receive(Some(PATIENCE), |_, datagram| {
                acknowledged = parse(datagram).filter(|count| *count != HELLO).unwrap_or(0).max(acknowledged);
                Ok(())
            })?;
        }
        socket.send(receiver, &datagrams, layout.datagram_len())?;
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    loop {
        match file.read(&mut buffer[filled..]).context("cannot read the content")? {
            0 => return Ok(filled),
            read => filled += read,
        }
    }
}

fn parse(datagram: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(datagram.try_into().ok()?))
}
