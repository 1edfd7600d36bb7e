//! Which channels stand in line to send DATA.

use crate::channel::{Blocked, Upload};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

impl Swarm {
    /// Puts `slot` behind the others that have DATA to send, if it has any.
    pub(crate) fn take_turn(&mut self, slot: PeerSlot) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        if channel.turn.is_some() {
            return;
        }
        let Some(peer) = channel.established_mut() else { return };
        // Its turn is all it waits for, or nothing: what kept DATA back before is void.
        peer.blocked = Blocked::Idle;
        if !peer.is_choked_by_us() && peer.upload.as_deref().is_some_and(Upload::has_requests) {
            channel.turn = Some(self.backlog.insert(slot));
        }
    }

    /// Takes `slot` out of the line if it cannot send more now. Whatever changes that wakes it.
    pub(crate) fn end_turn_if_blocked(&mut self, slot: PeerSlot) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let blocked = channel.established().is_none_or(|peer| peer.blocked != Blocked::No);
        if blocked && let Some(place) = channel.turn.take() {
            self.backlog.remove(place);
        }
    }
}
