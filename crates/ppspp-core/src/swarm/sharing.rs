//! R25: the channels of the swarm that send while the link is crowded, in turns of a few seconds.
//!
//! A channel whose turn is over is choked: what is in flight is acknowledged still, and the peer can ask others. Without
//! the CHOKE its requests would expire.

use alloc::vec::Vec;
use core::time::Duration;

use crate::congestion::{MIN_WINDOW_SEGMENTS, Sending};
use crate::context::Cx;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::swarm::receive::segment_size;
use crate::time::Instant;

/// How long a turn is at least, if others wait: many round trips of what asking anew costs.
const TURN: Duration = Duration::from_secs(4);

impl Swarm {
    /// Channels that have a slot, or wait for one.
    pub(crate) fn slots_wanted(&self) -> usize {
        self.slots.served.len() + self.slots.waiting.len()
    }

    /// The channels that send.
    pub(crate) fn sending(&self) -> impl Iterator<Item = Sending> {
        self.slots.served.iter().filter_map(|&slot| {
            let channel = self.peers.get(slot as usize)?;
            let upload = channel.established()?.upload.as_deref()?;
            let busy = upload.has_requests() || upload.in_flight.chunks() > 0;
            busy.then(|| Sending {
                window: upload.flow.controller.window(),
                min_window: u64::from(MIN_WINDOW_SEGMENTS) * u64::from(segment_size(&self.format, channel.mtu)),
                queuing: upload.flow.controller.queuing_delay().unwrap_or_default(),
                base: upload.flow.rtt.min_rtt().unwrap_or_default(),
            })
        })
    }

    /// Keeps to `share` slots from now on, without one to those of the configuration; ends turns that have lasted.
    pub(crate) fn take_turns(&mut self, cx: &Cx<'_>, share: Option<usize>) {
        self.slots.crowded = share;
        if share.is_some() {
            let mut served: Vec<(Option<Instant>, PeerSlot)> =
                self.slots.served.iter().map(|&slot| (self.since(slot), slot)).collect();
            served.sort_unstable();
            let excess = served.len().saturating_sub(self.slots.count(cx));
            let others = self.slots.waiting.len();
            for (place, (since, slot)) in served.into_iter().enumerate() {
                let over = since.is_none_or(|since| cx.now - since >= TURN) && place < excess + others;
                if place < excess || over {
                    self.choke(cx.now, slot);
                }
            }
        }
        self.fill_slots(cx);
    }
}
