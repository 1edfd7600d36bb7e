//! Every limit that can be seen from outside holds.

use ppspp_core::chunk::ChunkRange;

use super::{Checker, Fact, Scene, slot};

/// Channels, unconfirmed bytes and reads in progress stay within `Limits`.
#[derive(Clone, Debug, Default)]
pub struct LimitsHold {
    hosts: Vec<Held>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    unconfirmed: u64,
    reads: usize,
}

fn bytes(scene: &Scene<'_>, range: ChunkRange) -> u64 {
    let bytes = scene.content.geometry().byte_range(range);
    bytes.end - bytes.start
}

fn within(what: &str, value: u64, limit: u64) -> Result<(), String> {
    if value <= limit { Ok(()) } else { Err(format!("{value} {what}, {limit} are allowed")) }
}

impl Checker for LimitsHold {
    fn name(&self) -> &'static str {
        "every limit holds"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        let limits = &scene.config.limits;
        match fact {
            Fact::Started => *slot(&mut self.hosts, scene.host) = Held::default(),
            Fact::Verified { range, .. } => {
                let held = slot(&mut self.hosts, scene.host);
                held.unconfirmed += bytes(scene, *range);
                // The bound is looked at before a chunk is taken in.
                let chunk = u64::from(scene.content.geometry().chunk_size().bytes());
                return within("bytes wait for the disk", held.unconfirmed, limits.unconfirmed_bytes + chunk);
            }
            Fact::Stored { range, .. } => {
                let held = slot(&mut self.hosts, scene.host);
                held.unconfirmed = held.unconfirmed.saturating_sub(bytes(scene, *range));
            }
            Fact::ReadNeeded(_) => {
                let held = slot(&mut self.hosts, scene.host);
                held.reads += 1;
                return within("reads are in progress", held.reads as u64, limits.pending_reads as u64);
            }
            Fact::Read(_) => {
                let held = slot(&mut self.hosts, scene.host);
                held.reads = held.reads.saturating_sub(1);
            }
            Fact::Sampled(peers) => {
                within("channels", peers.len() as u64, limits.channels as u64)?;
                let half_open = peers.iter().filter(|peer| !peer.established).count();
                return within("channels are half open", half_open as u64, limits.channels as u64);
            }
            _ => {}
        }
        Ok(())
    }
}
