//! The memory of an endpoint stays within what its limits allow.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::{EndpointConfig, PeerView, TransferStats};

use super::{Checker, Fact, Scene, slot};
use crate::content::Content;
use crate::time::SimTime;

/// An idle channel takes so much at most, as `Limits::channels` says.
const IDLE: u64 = 2048;
/// A channel is idle when nothing was moved for so long: what a transfer needed goes with the next keep-alive.
const REST: Duration = Duration::from_secs(60);
/// An endpoint without channels, and the part of a swarm that no content and no limit decides.
const ENDPOINT: u64 = 64 << 10;
/// A host that is remembered for its misbehaviour, as `Limits::shunned_hosts` says.
const SHUNNED: u64 = 200;
/// A range that waits, a chunk in flight, and a chunk that is asked for, each with its place in an ordered map.
const ENTRY: u64 = 96;

/// What an endpoint holds stays within a bound made from its [`Limits`](ppspp_core::Limits), its content and its
/// channels: an idle channel may take 2 KiB, a busy one what its requests, its chunks in flight and its unproven chunks
/// may take. Watched on hosts whose memory is measured.
#[derive(Clone, Debug, Default)]
pub struct MemoryHolds {
    hosts: Vec<BTreeMap<SocketAddr, Moved>>,
}

/// What a channel moved, and when it did last.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    stats: TransferStats,
    at: SimTime,
}

impl MemoryHolds {
    /// How many of the channels are busy.
    fn busy(&mut self, scene: &Scene<'_>, peers: &[PeerView]) -> u64 {
        let known = slot(&mut self.hosts, scene.host);
        let mut busy = 0;
        let mut now = BTreeMap::new();
        for peer in peers {
            let before = known.get(&peer.address).copied().unwrap_or(Moved { at: scene.now, ..Moved::default() });
            let moved = peer.stats != before.stats || peer.in_flight > 0;
            let at = if moved { scene.now } else { before.at };
            busy += u64::from(scene.now.since(at) < REST);
            now.insert(peer.address, Moved { stats: peer.stats, at });
        }
        *known = now;
        busy
    }
}

/// What the swarm may hold besides its channels.
fn swarm(content: &Content, config: &EndpointConfig) -> u64 {
    let spec = content.spec();
    let limits = &config.limits;
    let chunks = content.geometry().chunk_count();
    // Twice as many nodes as chunks, each once more while it is not proven, and notes on each chunk.
    let tree = 4 * chunks * spec.function.len() as u64 + chunks * ENTRY;
    // Groups in work, read ahead, and on their way to the disk.
    let groups = (limits.open_groups + limits.cached_groups + limits.pending_reads) as u64;
    let group = u64::from(spec.chunk_size.bytes()).max(16 << 10);
    let buffers =
        (groups * group).min(3 * spec.length.next_multiple_of(group)) + limits.unconfirmed_bytes.min(spec.length);
    let remembered = (limits.remembered_groups as u64).min(spec.length.div_ceil(group))
        * (2 * ENTRY + group.div_ceil(u64::from(spec.chunk_size.bytes())) * spec.function.len() as u64);
    let addresses = (limits.candidates as u64) * ENTRY + limits.shunned_hosts as u64 * SHUNNED;
    ENDPOINT + addresses + tree + remembered + buffers
}

/// What a busy channel may hold.
fn channel(content: &Content, config: &EndpointConfig) -> u64 {
    let limits = &config.limits;
    let chunks = content.geometry().chunk_count();
    let chunk = u64::from(content.spec().chunk_size.bytes());
    let least = |limit: u64| limit.min(2 * chunks);
    IDLE + ENTRY
        * (least(limits.queued_requests as u64)
            + least(limits.in_flight as u64)
            + least(u64::from(limits.outstanding_requests))
            + least(limits.availability_runs as u64)
            + limits.early_hashes as u64)
        + least(limits.pending_chunks as u64) * (chunk + ENTRY)
}

impl Checker for MemoryHolds {
    fn name(&self) -> &'static str {
        "memory stays within its bound"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Started => slot(&mut self.hosts, scene.host).clear(),
            Fact::Sampled(peers) => {
                let Some(held) = scene.memory else { return Ok(()) };
                let busy = self.busy(scene, peers);
                let idle = peers.len() as u64 - busy;
                let bound =
                    swarm(scene.content, scene.config) + busy * channel(scene.content, scene.config) + idle * IDLE;
                if held > bound {
                    return Err(format!(
                        "{held} bytes are held for {busy} busy and {idle} idle channels, {bound} may be"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
