//! Nothing unverified is stored or sent; nothing unstored is announced.

use ppspp_core::chunk::{ChunkRange, Geometry};
use ppspp_core::wire::Message;

use super::{Checker, Fact, Scene};

/// Bytes that are handed out as verified, and bytes that are sent, are those of the content.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingUnverifiedIsUsed;

impl Checker for NothingUnverifiedIsUsed {
    fn name(&self) -> &'static str {
        "nothing unverified is stored or sent"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Verified { range, offset, data } => {
                let bytes = scene.content.geometry().byte_range(*range);
                let placed = bytes.start == *offset && bytes.end - bytes.start == data.len() as u64;
                if !placed || scene.content.slice(*range) != *data {
                    return Err(format!("chunks {} were handed out with other bytes", Shown(*range)));
                }
            }
            Fact::Said { to, message: Message::Data { chunk, payload, .. } } => {
                let range = ChunkRange::single(*chunk);
                if !scene.content.geometry().all().covers(range) || scene.content.slice(range) != *payload {
                    return Err(format!("chunk {} was sent to {to} with other bytes", chunk.value()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// HAVE names only chunks that are on the disk (R13, R22). That an octet changed there since is not for anyone to know
/// before it is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingUnstoredIsAnnounced;

impl Checker for NothingUnstoredIsAnnounced {
    fn name(&self) -> &'static str {
        "nothing unstored is announced"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Said { to, message: Message::Have(range) } = fact else { return Ok(()) };
        let inside = clip(scene.content.geometry(), *range);
        if scene.disk.has_stored(inside) {
            return Ok(());
        }
        Err(format!("chunks {} were announced to {to} and are not on the disk", Shown(inside)))
    }
}

/// The part of `range` within the content (R5).
pub(super) const fn clip(geometry: &Geometry, range: ChunkRange) -> ChunkRange {
    geometry.all().intersection(range)
}

/// A range as people read it.
pub(super) struct Shown(pub(super) ChunkRange);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.0.start(), self.0.end())
    }
}
