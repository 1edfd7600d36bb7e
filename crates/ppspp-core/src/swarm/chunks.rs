//! Datagrams of hashes and one chunk that was asked for: nearly all there are while content flows.
//!
//! What decides about them is looked up once for as many as come together. Whatever is not of that kind, or not as
//! expected, is left to the way of all datagrams.

use crate::channel::{Arrival, State};
use crate::chunk::Geometry;
use crate::context::Cx;
use crate::integrity::EarlyHashes;
use crate::schedule::{PeerSlot, Requests};
use crate::swarm::Swarm;
use crate::swarm::assembly::{Assembly, Source};
use crate::swarm::gather::Gathered;
use crate::time::Instant;
use crate::wire::{CHANNEL_ID_LEN, ChannelId, DataMessage, Format, IntegrityMessage, MessageType};

/// Datagrams from one peer on their way to be judged.
struct Lane<'a> {
    now: Instant,
    slot: PeerSlot,
    format: &'a Format,
    geometry: Geometry,
    /// Hashes of the peer's that wait for chunks to come.
    early: &'a EarlyHashes,
    requests: &'a Requests,
    assembly: &'a mut Assembly,
    gathered: &'a mut Gathered,
    /// Bytes that may wait to be judged (R19).
    room: u64,
    max_messages: usize,
}

impl Lane<'_> {
    /// Takes in one datagram; false if it is not of the kind, and nothing of it is kept then.
    #[inline]
    fn take(&mut self, body: &[u8]) -> bool {
        let taken = self.read(body).is_some();
        if !taken {
            self.gathered.drop_loose();
        }
        taken
    }

    /// Reads hashes, which wait with the chunk that follows them, and that chunk.
    #[inline]
    fn read(&mut self, body: &[u8]) -> Option<()> {
        let mut rest = body;
        while let Some((IntegrityMessage { node, hash }, after)) = IntegrityMessage::read(rest, self.format) {
            // It would replace the one that came before.
            if self.early.contains(node) || !self.gathered.keep_hash(node, hash) {
                return None;
            }
            rest = after;
        }
        match DataMessage::read(rest, self.format)? {
            (data, []) if self.gathered.loose_hashes() < self.max_messages && self.stage(&data) => Some(()),
            _ => None,
        }
    }

    /// Lets a chunk wait to be judged, if it was asked for and is as long as it must be.
    #[inline]
    fn stage(&mut self, data: &DataMessage<'_>) -> bool {
        let DataMessage { chunk, timestamp, payload } = *data;
        let fits = self.geometry.chunk_len(chunk).is_some_and(|due| payload.len() == due as usize);
        if !fits || self.gathered.bytes() >= self.room {
            return false;
        }
        let from = Source { number: self.gathered.next_number(), slot: self.slot };
        let asked = |group| self.requests.asked(group);
        let fill = self.assembly.stage(self.now, &self.geometry, chunk, payload, from, asked);
        let Some(fill) = fill else { return false };
        let arrival = Arrival { chunk, timestamp, at: self.now };
        self.gathered.push(&self.geometry, self.slot, arrival, payload.len(), fill);
        true
    }
}

impl Swarm {
    /// Takes in datagrams from the start of `payload`, each of `segment` bytes but for a shorter last one, as long as they
    /// are for our channel `local`, to the peer in `slot`, and of the usual kind. Returns what follows them, and whether
    /// there is more to do than to judge the chunks that wait.
    pub(crate) fn on_chunks<'d>(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        local: ChannelId,
        payload: &'d [u8],
        segment: usize,
    ) -> (&'d [u8], bool) {
        let id = local.value().to_be_bytes();
        let mut rest = payload;
        let mut more = false;
        while let Some(mut lane) = self.lane(cx, slot) {
            let (chunks, hashes, before) = (lane.gathered.count(), lane.gathered.tied_hashes(), rest.len());
            while !lane.gathered.is_due()
                && let Some((datagram, after)) = rest.split_at_checked(segment.min(rest.len()))
                && let Some(body) = datagram.strip_prefix(&id)
                && lane.take(body)
            {
                rest = after;
            }
            let (chunks, hashes) = (self.gathered.count() - chunks, self.gathered.tied_hashes() - hashes);
            self.count_chunks(cx, slot, chunks, hashes, before - rest.len());
            if !self.gathered.is_due() {
                break;
            }
            self.judge_gathered(cx);
            more = true;
        }
        if rest.len() < payload.len() && (more || self.peers.get(slot as usize).is_some_and(|channel| !channel.queued))
        {
            self.wake.push(slot);
            more = true;
        }
        (rest, more)
    }

    /// What takes in chunks from the peer in `slot`, unless there is something to be minded.
    fn lane(&mut self, cx: &Cx<'_>, slot: PeerSlot) -> Option<Lane<'_>> {
        let geometry = self.content.geometry()?;
        let verifier = &self.content.verifier;
        // Peaks go to the tree before anything that they prove.
        if verifier.tree().peaks().is_empty() || verifier.is_full() {
            return None;
        }
        let room = self.content.room(cx.config);
        let State::Established(peer) = &self.peers.get(slot as usize)?.state else { return None };
        let download = peer.download.as_deref()?;
        Some(Lane {
            now: cx.now,
            slot,
            format: &self.format,
            geometry,
            early: &download.early,
            requests: &self.requests,
            assembly: &mut self.content.assembly,
            gathered: &mut self.gathered,
            room,
            max_messages: cx.config.limits.messages_per_datagram,
        })
    }

    /// Counts what was taken in from the peer in `slot`: datagrams of `bytes` bytes together, each with a chunk.
    fn count_chunks(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, datagrams: usize, hashes: usize, bytes: usize) {
        if datagrams == 0 {
            return;
        }
        cx.stats.datagrams_received += datagrams as u64;
        cx.stats.bytes_received += bytes as u64;
        cx.down.on_received(cx.now, bytes as u64);
        self.down.on_received(cx.now, bytes as u64);
        let received = &mut self.traffic.received;
        let hash_bytes = hashes * self.format.integrity_len();
        received.on_datagrams(datagrams, bytes);
        received.on_messages(MessageType::Integrity, hashes as u64, hash_bytes);
        received.on_messages(MessageType::Data, datagrams as u64, bytes - hash_bytes - datagrams * CHANNEL_ID_LEN);
        if let Some(channel) = self.peers.get_mut(slot as usize) {
            channel.on_received(cx.now);
            channel.stats.integrity_received += hashes as u64;
        }
    }
}
