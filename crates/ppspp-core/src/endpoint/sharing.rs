//! R25: while the link is crowded, fewer channels send at a time. Looked at once a second while DATA leaves.

use alloc::vec::Vec;
use core::time::Duration;

use crate::congestion::deal;
use crate::context::Cx;
use crate::endpoint::ready::{SwarmSlot, Timer};
use crate::endpoint::{Endpoint, cx};
use crate::time::Instant;

/// How often the channels that send are looked at: long enough for a queue to have drained since.
const LOOK: Duration = Duration::from_secs(1);

impl Endpoint {
    /// Looks at the link soon: DATA leaves.
    pub(super) fn watch_link(&mut self, now: Instant) {
        if self.share_at.is_none() {
            self.timers.arm(Timer::Share, &mut self.share_at, now + LOOK);
        }
    }

    /// Decides how many channels may send until the next look, and shares that out among the swarms.
    pub(super) fn share_link(&mut self, now: Instant) {
        self.share_at = None;
        let mut sending = Vec::new();
        let mut wanting = 0;
        for (_, swarm) in &self.swarms {
            wanting += swarm.slots_wanted();
            sending.extend(swarm.sending());
        }
        let before = self.share.most();
        let most = self.share.assess(&sending, wanting, self.config.congestion.target);
        if before.is_none() && most.is_none() {
            return;
        }
        let wanted: Vec<(SwarmSlot, usize)> =
            self.swarms.iter().map(|(slot, swarm)| (slot as SwarmSlot, swarm.slots_wanted())).collect();
        let shares = most.map(|most| deal(most, wanted.iter().map(|&(_, wanted)| wanted), self.share.first()));
        for (place, &(slot, _)) in wanted.iter().enumerate() {
            let share = shares.as_ref().map(|shares| shares[place]);
            self.swarms[slot as usize].take_turns(&cx!(self, now), share);
            self.settle(slot);
        }
        if most.is_some() {
            // Turns go on also while those whose turn it is have not asked yet.
            self.watch_link(now);
        }
    }
}
