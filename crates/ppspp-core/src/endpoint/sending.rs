//! What leaves next: control messages in order of becoming due, then DATA in turns, within the upload limits.

use alloc::vec::Vec;

use crate::context::Cx;
use crate::endpoint::ready::{SwarmSlot, Timer};
use crate::endpoint::{Endpoint, cx};
use crate::event::SwarmId;
use crate::io::{BatchLimit, Transmit};
use crate::policy::{Rates, Reserved};
use crate::schedule::PeerSlot;
use crate::time::Instant;

/// What a limit applies to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All swarms together.
    Endpoint,
    /// One swarm, within the limit of all.
    Swarm(SwarmId),
}

impl Endpoint {
    /// Limits what is sent and received, from now on. A new endpoint has the limits of its configuration, a new swarm
    /// has none of its own. Unknown swarms are ignored.
    pub fn set_rates(&mut self, scope: Scope, rates: Rates, now: Instant) {
        let now = self.begin(now);
        match scope {
            Scope::Endpoint => {
                self.up.set_rate(rates.up, Reserved::default(), now);
                self.timers.disarm(Timer::Up, &mut self.held);
                self.down.set_rate(rates.down, now);
                self.timers.disarm(Timer::Down, &mut self.starved);
                self.feed(now);
            }
            Scope::Swarm(id) => {
                let Some(slot) = self.slot_of(id) else { return };
                let swarm = &mut self.swarms[slot as usize];
                swarm.up.set_rate(rates.up, Reserved::default(), now);
                swarm.held_until = None;
                swarm.down.set_rate(rates.down, now);
                swarm.ask_at = None;
                swarm.wake_hungry(&self.down);
                self.settle(slot);
            }
        }
    }

    /// Appends the next datagrams to send to `buf`, all to one destination; `None` if there is nothing to send now.
    ///
    /// `limit` bounds their number and size. Nothing is held back for want of room: what does not fit follows.
    /// Control messages leave first. DATA is shared out among peers by bytes, and held back by the upload limits.
    #[must_use = "the datagrams in the buffer must be sent"]
    pub fn poll_transmit(&mut self, now: Instant, limit: BatchLimit, buf: &mut Vec<u8>) -> Option<Transmit> {
        let now = self.begin(now);
        self.transmit_control(now, buf).or_else(|| self.transmit_chunks(now, limit, buf))
    }

    /// The next datagram that is not DATA. Channels that have nothing of the kind join those with DATA to send.
    fn transmit_control(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        while let Some((slot, peer)) = self.ready.pop() {
            let Some(swarm) = self.swarms.get_mut(slot as usize) else { continue };
            let Some(channel) = swarm.peers.get_mut(peer as usize) else { continue };
            channel.queued = false;
            let transmit = swarm.transmit_control(&mut cx!(self, now), peer, buf);
            if let Some((_, true)) = transmit {
                swarm.wake.push(peer);
            } else {
                swarm.take_turn(peer);
                self.arm_channel(slot, peer);
            }
            let transmit = transmit.map(|(transmit, _)| transmit);
            if let Some(transmit) = &transmit {
                self.count_sent(slot, now, transmit);
            }
            self.swarms[slot as usize].remove_if_closed(peer);
            self.settle(slot);
            self.remove_if_left(slot);
            self.feed(now);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// The next batch of DATA, of the channel whose turn it is.
    fn transmit_chunks(&mut self, now: Instant, limit: BatchLimit, buf: &mut Vec<u8>) -> Option<Transmit> {
        loop {
            let (swarms, quantum) = (&self.swarms, self.up.quantum());
            // A swarm's turn is as long as that of all its channels: what counts is the peer. Its own limit shortens no
            // turn here, or it would get less than that.
            let (place, slot, share) =
                self.backlog.head(|slot| quantum * swarms[slot as usize].backlog.len() as u64)?;
            let budget = self.up.budget(now, Reserved::default());
            if budget == 0 {
                let at = self.up.opens_at(Reserved::default());
                self.timers.arm(Timer::Up, &mut self.held, at);
                return None;
            }
            let swarm = &mut self.swarms[slot as usize];
            let own = swarm.up.budget(now, Reserved::default());
            let quantum = swarm.up.quantum().min(quantum);
            let turn = if own == 0 { None } else { swarm.backlog.head(|_| quantum) };
            let Some((turn, peer, credit)) = turn else {
                if own == 0 {
                    swarm.held_until = Some(swarm.up.opens_at(Reserved::default()));
                }
                swarm.turn = None;
                self.backlog.remove(place);
                self.settle(slot);
                continue;
            };
            let most = [share, credit, budget, own].into_iter().fold(limit.bytes as u64, u64::min);
            let limit = BatchLimit { bytes: most as usize, ..limit };
            let transmit = swarm.transmit_chunks(&mut cx!(self, now), peer, limit, buf);
            if let Some(transmit) = &transmit {
                swarm.backlog.spend(turn, transmit.size as u64);
                self.backlog.spend(place, transmit.size as u64);
                self.count_sent(slot, now, transmit);
                self.watch_link(now);
            }
            self.swarms[slot as usize].end_turn_if_blocked(peer);
            self.arm_channel(slot, peer);
            self.settle(slot);
            if transmit.is_some() {
                return transmit;
            }
        }
    }

    /// Lets the next of the swarms ask that wait for the download limit, if it has room: they take turns.
    pub(super) fn feed(&mut self, now: Instant) {
        while let Some(&slot) = self.hungry.front() {
            if self.down.budget(now) == 0 {
                let at = self.down.opens_at();
                self.timers.arm(Timer::Down, &mut self.starved, at);
                return;
            }
            self.hungry.pop_front();
            let swarm = &mut self.swarms[slot as usize];
            (swarm.listed, swarm.starved) = (false, false);
            let woken = swarm.wake_hungry(&self.down);
            self.settle(slot);
            // Its channels may have gone: then it is the next one's turn.
            if woken {
                return;
            }
        }
    }

    /// Counts what leaves, and charges it to the limits.
    fn count_sent(&mut self, slot: SwarmSlot, now: Instant, transmit: &Transmit) {
        let datagrams = transmit.segment_size.map_or(1, |segment| transmit.size.div_ceil(segment.get()));
        let bytes = transmit.size as u64;
        self.stats.datagrams_sent += datagrams as u64;
        self.stats.bytes_sent += bytes;
        self.up.take(now, bytes, Reserved::default());
        self.swarms[slot as usize].up.take(now, bytes, Reserved::default());
    }

    /// Makes sure that the channel's next deadline is not missed.
    fn arm_channel(&mut self, slot: SwarmSlot, peer: PeerSlot) {
        let swarm = &mut self.swarms[slot as usize];
        if let Some(at) = swarm.channel_deadline(peer, &self.config) {
            let channel = &mut swarm.peers[peer as usize];
            self.timers.arm(Timer::Channel(slot, peer), &mut channel.armed, at);
        }
    }
}
