//! Upload slots: who is served while more peers ask than there are slots (RFC 7574 §3.9).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::{Channel, Service, Standing, State};
use crate::context::Cx;
use crate::policy::{Candidate, Grant, Round};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::time::Instant;

/// How often slots are shared out anew.
const ROUND: Duration = Duration::from_secs(2);
/// How often slots whose peers ask for nothing are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// A slot is free for another when its peer has had nothing to ask for this long, or a round trip. On a crowded link, where
/// every newcomer adds to the queue, it has its turn.
const IDLE: Duration = Duration::from_millis(50);
const CROWDED_IDLE: Duration = Duration::from_secs(2);

/// The slots of a swarm. There are deadlines only while someone waits.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(super) served: BTreeSet<PeerSlot>,
    pub(super) waiting: BTreeSet<PeerSlot>,
    /// Most slots while the link is crowded (R25). They go round by time, not by merit.
    pub(super) crowded: Option<usize>,
    round_at: Option<Instant>,
    look_at: Option<Instant>,
}

impl Slots {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.round_at, self.look_at].into_iter().flatten().min()
    }

    /// How many there are.
    pub(super) fn count(&self, cx: &Cx<'_>) -> usize {
        cx.config.limits.upload_slots.min(self.crowded.unwrap_or(usize::MAX))
    }
}

impl Swarm {
    /// Whether the REQUEST that came from `slot` is served. If not, the peer is told.
    pub(crate) fn admit(&mut self, cx: &Cx<'_>, slot: PeerSlot) -> bool {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return false };
        let marks = (channel.stats.content_bytes_received, channel.stats.content_bytes_sent);
        let State::Established(peer) = &mut channel.state else { return false };
        let service = peer.service.get_or_insert_with(|| alloc::boxed::Box::new(Service::new(cx.now, marks)));
        service.on_request(cx.now);
        match service.standing {
            Standing::Served => return true,
            Standing::Choked => return false,
            Standing::Open => {}
        }
        let slots = self.slots.count(cx);
        if self.slots.served.len() >= slots {
            self.free_idle_slots(cx);
        }
        if self.slots.served.len() < slots {
            self.serve(cx.now, slot, false);
            return true;
        }
        self.choke(cx.now, slot);
        false
    }

    /// Acts on the deadlines of the slots.
    pub(crate) fn share_slots(&mut self, cx: &Cx<'_>) {
        if self.slots.look_at.is_some_and(|at| at <= cx.now) {
            self.slots.look_at = Some(cx.now + LOOK);
            self.free_idle_slots(cx);
        }
        if self.slots.round_at.is_some_and(|at| at <= cx.now) {
            self.slots.round_at = Some(cx.now + ROUND);
            self.hold_round(cx);
        }
        self.fill_slots(cx);
    }

    /// Forgets a channel that ends; its slot goes to the next.
    pub(crate) fn leave_slot(&mut self, cx: &Cx<'_>, slot: PeerSlot) {
        let freed = self.slots.served.remove(&slot);
        if self.slots.waiting.remove(&slot) || freed {
            self.fill_slots(cx);
        }
    }

    /// Gives free slots to those who have waited longest.
    pub(super) fn fill_slots(&mut self, cx: &Cx<'_>) {
        while self.slots.served.len() < self.slots.count(cx) {
            let next = self.slots.waiting.iter().copied().min_by_key(|&slot| (self.since(slot), slot));
            let Some(next) = next else { break };
            self.serve(cx.now, next, true);
        }
        if self.slots.waiting.is_empty() {
            (self.slots.round_at, self.slots.look_at) = (None, None);
        }
    }

    pub(super) fn since(&self, slot: PeerSlot) -> Option<Instant> {
        self.peers.get(slot as usize)?.established()?.service.as_ref().map(|service| service.since)
    }

    fn service_mut(&mut self, slot: PeerSlot) -> Option<&mut Service> {
        self.peers.get_mut(slot as usize)?.established_mut()?.service.as_deref_mut()
    }

    fn serve(&mut self, now: Instant, slot: PeerSlot, optimistic: bool) {
        self.slots.waiting.remove(&slot);
        self.slots.served.insert(slot);
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(Channel::established_mut) else { return };
        // What is to be repaired of what it asked for before it was choked is for it to ask again.
        if peer.is_choked_by_us()
            && let Some(upload) = &mut peer.upload
        {
            upload.clear_requests();
        }
        if let Some(service) = &mut peer.service {
            service.serve(now, optimistic);
        }
        self.wake.push(slot);
    }

    /// Stops serving `slot`: what it asked for is forgotten (§3.9), what is in flight may still be acknowledged.
    pub(super) fn choke(&mut self, now: Instant, slot: PeerSlot) {
        self.slots.served.remove(&slot);
        self.slots.waiting.insert(slot);
        self.slots.round_at.get_or_insert(now + ROUND);
        self.slots.look_at.get_or_insert(now + LOOK);
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        if let Some(place) = channel.turn.take() {
            self.backlog.remove(place);
        }
        let State::Established(peer) = &mut channel.state else { return };
        if let Some(upload) = &mut peer.upload {
            upload.clear_requests();
        }
        if let Some(service) = &mut peer.service {
            service.choke(now);
        }
        self.wake.push(slot);
    }

    /// Takes slots back from peers that ask for nothing.
    fn free_idle_slots(&mut self, cx: &Cx<'_>) {
        let crowded = self.slots.crowded.is_some();
        let served: Vec<PeerSlot> = self.slots.served.iter().copied().collect();
        for slot in served {
            let Some(peer) = self.peers.get_mut(slot as usize).and_then(Channel::established_mut) else {
                self.slots.served.remove(&slot);
                continue;
            };
            let busy = peer.upload.as_deref().is_some_and(|up| up.has_requests() || up.in_flight.chunks() > 0);
            let active = peer.flow().map_or(Instant::ZERO, |flow| flow.progress_at);
            let patience = if crowded { CROWDED_IDLE } else { IDLE.max(peer.srtt()) };
            let service = peer.service.as_deref_mut();
            if let Some(service) = service.filter(|service| !busy && service.is_idle(cx.now, active, patience)) {
                service.release(cx.now);
                self.slots.served.remove(&slot);
            }
        }
    }

    /// Shares the slots out among those who have one or wait for one.
    fn hold_round(&mut self, cx: &Cx<'_>) {
        if self.slots.crowded.is_some() {
            return;
        }
        let slots = self.slots.count(cx);
        let (keys, mut candidates): (Vec<PeerSlot>, Vec<Candidate>) = self
            .slots
            .served
            .iter()
            .chain(&self.slots.waiting)
            .filter_map(|&slot| {
                let channel = self.peers.get_mut(slot as usize)?;
                let marks = (channel.stats.content_bytes_received, channel.stats.content_bytes_sent);
                let service = channel.established_mut()?.service.as_deref_mut()?;
                service.measure(cx.now, marks);
                let grant = match (service.standing, service.optimistic) {
                    (Standing::Served, true) => Grant::Optimistic,
                    (Standing::Served, false) => Grant::Earned,
                    _ => Grant::Choked,
                };
                let (received, sent) = service.rates;
                Some((slot, Candidate { received, sent, ..Candidate::new(grant, cx.now - service.since) }))
            })
            .unzip();
        let before: Vec<Grant> = candidates.iter().map(|candidate| candidate.grant).collect();
        cx.config.unchoke.allot(Round::new(slots, self.content.complete), &mut candidates);
        let mut granted = 0;
        for ((slot, before), candidate) in keys.into_iter().zip(before).zip(&candidates) {
            let grant = if granted < slots { candidate.grant } else { Grant::Choked };
            granted += usize::from(grant != Grant::Choked);
            match (before, grant) {
                (Grant::Choked, Grant::Choked) => {}
                (Grant::Choked, _) => self.serve(cx.now, slot, grant == Grant::Optimistic),
                (_, Grant::Choked) => self.choke(cx.now, slot),
                _ => {
                    if let Some(service) = self.service_mut(slot) {
                        service.optimistic = grant == Grant::Optimistic;
                    }
                }
            }
        }
    }
}
