//! Datagrams as an adversary writes them.

use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange};
use ppspp_core::integrity::{Hash, peaks_needed, uncles};
use ppspp_core::wire::{ChannelId, Handshake, Message, PROTOCOL_VERSION};

use crate::content::Content;

/// A datagram to `channel`; messages that cannot be written are left out.
pub(super) fn datagram(content: &Content, channel: ChannelId, messages: &[Message<'_>]) -> Vec<u8> {
    let mut bytes = channel.value().to_be_bytes().to_vec();
    for message in messages {
        // A run that is no specification of the addressing is left out: an adversary need not be complete.
        let _ = message.encode(content.format(), &mut bytes);
    }
    bytes
}

/// A HANDSHAKE with every option the swarm needs; the swarm's id only if it opens a channel.
pub(super) fn handshake(content: &Content, source: u32, opening: bool) -> Handshake<'_> {
    let metadata = content.metadata();
    Handshake {
        source: ChannelId::new(source),
        version: Some(PROTOCOL_VERSION),
        min_version: Some(PROTOCOL_VERSION),
        swarm_id: opening.then(|| metadata.root.as_slice()),
        integrity_method: Some(1),
        hash_function: Some(metadata.function.code()),
        addressing: Some(metadata.addressing.code()),
        chunk_size: Some(metadata.chunk_size.bytes()),
        ..Handshake::default()
    }
}

/// The hash of any node of the content's tree.
fn node(content: &Content, bin: Bin) -> Hash {
    let function = content.metadata().function;
    if bin.base_range().start() >= content.geometry().chunk_count() {
        return Hash::zero(function);
    }
    if let Some(hash) = content.tree().node(bin).and_then(Hash::from_slice) {
        return hash;
    }
    match bin.children() {
        None => function.leaf(&content.slice(ChunkRange::single(ChunkIndex::new(bin.base_range().start())))),
        Some((left, right)) => function.node(node(content, left).as_slice(), node(content, right).as_slice()),
    }
}

/// Every hash that could be missing to verify `chunk`.
pub(super) fn proof(content: &Content, chunk: ChunkIndex) -> Vec<(Bin, Hash)> {
    let geometry = content.geometry();
    let bins = peaks_needed(geometry, false).chain(uncles(geometry, chunk, |_| false));
    bins.map(|bin| (bin, node(content, bin))).collect()
}
