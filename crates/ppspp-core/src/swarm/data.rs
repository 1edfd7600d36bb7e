//! DATA from a peer: judged, kept, acknowledged (RFC 7574 §5.2, §5.6, R1, R13, R17, R19).

use alloc::vec::Vec;

use crate::channel::{Arrival, Channel, PendingChunk, State};
use crate::chunk::{ChunkIndex, Geometry, GroupIndex};
use crate::context::Cx;
use crate::event::{CloseReason, Misbehaviour};
use crate::integrity::{AdoptError, Along, Hash, HashRow, PeakClaim, Verdict};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::swarm::assembly::Source;
use crate::swarm::gather::{Waiting, free_later};
use crate::time::Instant;
use crate::wire::DataMessage;

/// How often kept chunks are looked through at a time; what could be judged after that waits for the next time.
const MAX_RETRIES: usize = 64;

/// Most hashes that are found to be left over at a time.
const MAX_SETTLED: usize = 64;

impl Swarm {
    /// Takes in one chunk.
    pub(crate) fn on_data(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        DataMessage { chunk, timestamp, payload }: DataMessage<'_>,
    ) -> Result<(), Misbehaviour> {
        if self.download_mut(cx, slot).is_none() {
            return Ok(());
        }
        let arrival = Arrival { chunk, timestamp, at: cx.now };
        if self.is_backed_up(cx.config) {
            cx.stats.dropped.backpressure += 1;
            if let Some(download) = self.download_mut(cx, slot) {
                download.on_untaken(cx.now);
            }
            return Ok(());
        }
        let Some(geometry) = self.content.geometry() else { return self.detect_size(cx, slot, arrival, payload) };
        if self.requests.is_asked(&geometry, chunk) || self.is_expected(&geometry, slot, chunk) {
            return self.screen(cx, &geometry, slot, arrival, payload);
        }
        cx.stats.dropped.unrequested += 1;
        if let Some(download) = self.download_mut(cx, slot) {
            download.cancel_around(arrival.chunk, geometry.chunk_count());
        }
        Ok(())
    }

    /// Lets a chunk wait to be judged with others, with the hashes that came along; false if it waits already.
    fn stage(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        slot: PeerSlot,
        arrival: Arrival,
        payload: &[u8],
    ) -> bool {
        let from = Source { number: self.gathered.next_number(), slot };
        let bit = geometry.bit_of(arrival.chunk);
        let fill = self.content.assembly.stage(cx.now, geometry, arrival.chunk, payload, from, |_| bit);
        let Some(fill) = fill else { return false };
        self.gather(cx, geometry, slot, arrival, payload.len(), fill);
        true
    }

    /// Lets a chunk of a content whose size is known wait to be judged with others, unless that needs no hash.
    fn screen(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        slot: PeerSlot,
        arrival: Arrival,
        payload: &[u8],
    ) -> Result<(), Misbehaviour> {
        for _ in 0..2 {
            if let Some(verdict) = self.content.verifier.screen(arrival.chunk, payload.len()) {
                return self.on_verdict(cx, slot, arrival, payload.len(), verdict);
            }
            if self.stage(cx, geometry, slot, arrival, payload) {
                return Ok(());
            }
            // The same chunk waits already: whether it is good decides about this one.
            self.free_hashes(cx, slot);
            self.judge_gathered(cx);
        }
        Ok(())
    }

    /// Whether a chunk from `slot` that nobody is asked for is looked at.
    ///
    /// It is not (§12.6.3), unless it completes a group that is begun. A late answer counts: dropped, it would be sent
    /// again and again while newer requests wait behind it.
    fn is_expected(&self, geometry: &Geometry, slot: PeerSlot, chunk: ChunkIndex) -> bool {
        self.content.verifier.group_have(geometry.group_of(chunk)) != 0
            || chunk.value() >= geometry.chunk_count()
            || self.download(slot).is_some_and(|download| download.may_come_late(chunk))
    }

    /// Judges chunks from the first of `waiting` on, as long as they are of one group and from one peer and are verified.
    /// Returns how many were, and what is true of the one after these.
    ///
    /// Their bytes lie in the assembly and hash to `leaves`; `hashes` are those that came along.
    pub(super) fn judge_staged(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        waiting: &mut [Waiting],
        leaves: &[Hash],
        hashes: &HashRow,
    ) -> (usize, Verdict) {
        let Some(&Waiting { slot, arrival, .. }) = waiting.first() else { return (0, Verdict::Verified) };
        let group = geometry.group_of(arrival.chunk);
        let same = |next: &&Waiting| {
            !next.is_verified() && next.slot == slot && geometry.group_of(next.arrival.chunk) == group
        };
        let run = waiting.iter().take_while(same).count();
        let mut good = 0;
        let mut verdict = Verdict::Verified;
        while good < run && verdict == Verdict::Verified {
            let next = waiting[good..run].iter().zip(&leaves[good..]);
            let next = next.map(|(next, leaf)| (next.arrival.chunk, leaf, next.along.of(hashes)));
            good += self.content.verifier.check_run(group, next);
            if good < run {
                verdict = self.judge_alone(&mut waiting[good..], &leaves[good], hashes);
                good += usize::from(verdict == Verdict::Verified);
            }
        }
        self.accept(cx, geometry, &waiting[..good]);
        (good, verdict)
    }

    /// Judges the first chunk of `waiting` by all hashes there are of its peer.
    fn judge_alone(&mut self, waiting: &mut [Waiting], leaf: &Hash, hashes: &HashRow) -> Verdict {
        let Some(first) = waiting.first() else { return Verdict::Missing };
        let (Waiting { slot, arrival: Arrival { chunk, at, .. }, along, .. }, len) = (*first, first.len());
        let peer = self.peers.get_mut(slot as usize).and_then(Channel::established_mut);
        let Some(download) = peer.and_then(|peer| peer.download.as_mut()) else { return Verdict::Missing };
        let (verifier, early) = (&mut self.content.verifier, &mut download.early);
        let along = Along { hashes: along.of(hashes), at };
        let verdict = verifier.check_hashed(chunk, len, leaf, along, early);
        if verdict == Verdict::Missing && free_later(waiting, slot, hashes, early) {
            return verifier.check_hashed(chunk, len, leaf, Along::NONE, early);
        }
        verdict
    }

    /// Draws the conclusions of what was found out about a staged chunk that was not verified.
    pub(super) fn on_staged(
        &mut self,
        cx: &Cx<'_>,
        geometry: &Geometry,
        chunk: Waiting,
        verdict: Verdict,
    ) -> Result<(), Misbehaviour> {
        let (Waiting { slot, arrival, .. }, len) = (chunk, chunk.len());
        let group = geometry.group_of(arrival.chunk);
        if verdict == Verdict::Missing {
            // R17: it is kept aside until its hashes arrive.
            let payload = self.content.assembly.staged(group).get(geometry, arrival.chunk, len).to_vec();
            let peer = self.peers.get_mut(slot as usize).and_then(Channel::established_mut);
            if let Some(download) = peer.and_then(|peer| peer.download.as_mut()) {
                let missing = self.content.verifier.missing_for(arrival.chunk, &download.early);
                // If nothing is, the peaks that came are not the content's: it would be tried again for ever.
                if missing.is_some() {
                    download.keep_pending(PendingChunk { arrival, payload, missing }, cx.config.limits.pending_chunks);
                }
            }
        }
        self.content.assembly.settle(group, geometry.bit_of(arrival.chunk), false);
        self.on_verdict(cx, slot, arrival, len, verdict)
    }

    /// Draws the conclusions of what was found out about a chunk that was not verified just now.
    fn on_verdict(
        &mut self,
        cx: &Cx<'_>,
        slot: PeerSlot,
        arrival: Arrival,
        len: usize,
        verdict: Verdict,
    ) -> Result<(), Misbehaviour> {
        match verdict {
            Verdict::AlreadyHave => self.on_duplicate(cx, slot, arrival, len),
            Verdict::Wrong => return Err(Misbehaviour::WrongHash),
            Verdict::WrongLength => return Err(Misbehaviour::WrongLength),
            Verdict::OutOfRange => return Err(Misbehaviour::OutOfRange),
            // These pass: hashes may follow, the bound on open groups frees up, and the size is known here.
            _ => {
                if let Some(download) = self.download_mut(cx, slot) {
                    download.on_untaken(cx.now);
                }
            }
        }
        Ok(())
    }

    /// R13: duplicate DATA is acknowledged again.
    fn on_duplicate(&mut self, cx: &Cx<'_>, slot: PeerSlot, arrival: Arrival, len: usize) {
        let channel = &mut self.peers[slot as usize];
        channel.stats.duplicate_chunks += 1;
        channel.stats.duplicate_bytes += len as u64;
        let State::Established(peer) = &mut channel.state else { return };
        let srtt = peer.srtt();
        if let Some(download) = &mut peer.download {
            // What may be late comes from this peer for the first time: another was faster.
            if !download.may_come_late(arrival.chunk) {
                download.acks.on_repeat(cx.now);
            }
            download.acks.on_data(cx.now, [arrival], srtt, true);
        }
    }

    /// Takes in chunks of one group and from one peer that were just verified and lie in the assembly.
    #[inline]
    fn accept(&mut self, cx: &mut Cx<'_>, geometry: &Geometry, verified: &[Waiting]) {
        let Some(&Waiting { slot, arrival, .. }) = verified.first() else { return };
        let group = geometry.group_of(arrival.chunk);
        let chunks = verified.iter().fold(0, |chunks, next| chunks | geometry.bit_of(next.arrival.chunk));
        self.take_in(cx, geometry, slot, (group, chunks), bytes_of(verified), None);
    }

    /// Takes in `chunks` of `group`, of `bytes` bytes together, that were just verified and lie in the assembly.
    pub(super) fn take_in(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        slot: PeerSlot,
        (group, chunks): (GroupIndex, u32),
        bytes: u64,
        leaves: Option<&[u8]>,
    ) {
        self.remember(cx.now, geometry, cx.config.limits.remembered_groups, group, leaves);
        self.content.on_verified(cx, geometry, self.id, (group, chunks), bytes);
        self.settle_requests(cx.now, slot, geometry, group, chunks);
    }

    /// Notes what one peer brought: chunks that were verified, in order of arrival.
    #[inline]
    pub(super) fn on_arrivals(&mut self, now: Instant, verified: &[Waiting]) {
        let Some(first) = verified.first() else { return };
        let Some(channel) = self.peers.get_mut(first.slot as usize) else { return };
        channel.stats.chunks_received += verified.len() as u64;
        channel.stats.content_bytes_received += bytes_of(verified);
        let State::Established(peer) = &mut channel.state else { return };
        let (srtt, known) = (peer.srtt(), peer.measured_rtt().is_some());
        let Some(download) = &mut peer.download else { return };
        download.on_delivery(now, known, verified.iter().map(|next| next.arrival.chunk));
        // Hashes are left over where others proved the same: what looks hashes up need not look for those.
        download.early.drop_settled(MAX_SETTLED, |node| self.content.verifier.is_settled(node));
        for together in verified.chunk_by(|one, next| one.arrival.at == next.arrival.at) {
            download.rate.on_bytes(together[0].arrival.at, bytes_of(together), srtt);
        }
        // R14: the last requested chunk is acknowledged at once, as is every chunk of a draft-10 peer, whose window
        // opens with each ACK.
        let urgent = download.outstanding() == 0 || peer.session.older;
        download.acks.on_data(now, verified.iter().map(|next| next.arrival), srtt, urgent);
    }

    /// Judges the chunks of the peers in `slots` that were kept for want of hashes (R17) and lack none any more. A peer that
    /// sent a wrong one is closed.
    pub(super) fn retry_pending(&mut self, cx: &mut Cx<'_>, mut slots: Vec<PeerSlot>) {
        let Some(geometry) = self.content.geometry() else { return };
        for _ in 0..MAX_RETRIES {
            let Some(slot) = slots.pop() else { return };
            let peer = self.peers.get_mut(slot as usize).and_then(Channel::established_mut);
            let Some(download) = peer.and_then(|peer| peer.download.as_mut()) else { continue };
            let provable = download.take_provable(&self.content.verifier);
            if provable.is_empty() {
                continue;
            }
            let mut outcome = Ok(());
            for PendingChunk { arrival, payload, .. } in provable {
                if self.is_backed_up(cx.config) {
                    cx.stats.dropped.backpressure += 1;
                } else if outcome.is_ok() {
                    outcome = self.screen(cx, &geometry, slot, arrival, &payload);
                }
            }
            // What one proves may be what others wait for.
            for other in self.judge_waiting(cx) {
                if !slots.contains(&other) {
                    slots.push(other);
                }
            }
            if let Err(why) = outcome {
                self.close_channel(cx, slot, CloseReason::Misbehaved(why));
            }
        }
    }

    /// Learns the size from a peer's peaks and last chunk (RFC 7574 §5.6).
    ///
    /// R1: until its last chunk verifies, what the peaks claim is that peer's word alone. A chunk that arrives before
    /// is kept, within the bound on chunks that cannot be verified.
    fn detect_size(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        arrival: Arrival,
        payload: &[u8],
    ) -> Result<(), Misbehaviour> {
        let chunk = arrival.chunk;
        let params = self.content.verifier.tree().params();
        let root = *self.content.verifier.tree().root();
        let limit = cx.config.limits.pending_chunks;
        let Some(peer) = self.peers[slot as usize].established_mut() else { return Ok(()) };
        let srtt = peer.srtt();
        let Some(download) = &mut peer.download else { return Ok(()) };
        download.on_untaken(cx.now);
        if !download.on_unsized(cx.now, chunk) && !download.may_come_late(chunk) {
            cx.stats.dropped.unrequested += 1;
            return Ok(());
        }
        if download.claim.is_none() {
            let candidates: Vec<_> = download.early.iter().map(|(bin, hash)| (bin, *hash)).collect();
            // The hashes of a later chunk were lost on the way: it is not the only one.
            let alone = candidates.is_empty() && chunk.value() == 0;
            download.claim = PeakClaim::find(params, &root, &candidates)
                .or_else(|| alone.then(|| PeakClaim::one_chunk(params, &root)).flatten());
        }
        let Some(claim) = download.claim.clone() else { return Ok(()) };
        if chunk.value() + 1 != claim.chunks() {
            // It is good if the claim is. Unacknowledged it would keep the last chunk waiting for room in the window.
            if claim.proves(params, chunk, payload, &mut download.early, cx.now) {
                download.acks.on_data(cx.now, [arrival], srtt, true);
            }
            download.keep_pending(PendingChunk { arrival, payload: payload.to_vec(), missing: None }, limit);
            return Ok(());
        }
        let State::Established(peer) = &mut self.peers[slot as usize].state else { return Ok(()) };
        let Some(download) = &mut peer.download else { return Ok(()) };
        match self.content.verifier.adopt(&claim, payload, &download.early) {
            Ok(geometry) if geometry.check_addressing(self.metadata.addressing).is_ok() => {
                self.on_size_known(cx);
                let from = Source { number: self.gathered.next_number(), slot };
                let _ =
                    self.content.assembly.stage(cx.now, &geometry, chunk, payload, from, |_| geometry.bit_of(chunk));
                let last = Waiting::verified(slot, arrival, payload.len());
                self.accept(cx, &geometry, &[last]);
                self.on_arrivals(cx.now, &[last]);
                self.retry_pending(cx, Vec::from([slot]));
                Ok(())
            }
            // Without any hashes to claim a size by, one chunk was a guess: the hashes may have been lost on the way.
            Err(AdoptError::Wrong(_)) if claim.chunks() == 1 => {
                download.claim = None;
                Ok(())
            }
            Err(AdoptError::Missing(_)) => {
                // Its hashes may follow; the peer is asked again otherwise.
                Ok(())
            }
            Ok(_) | Err(_) => Err(Misbehaviour::WrongHash),
        }
    }
}

fn bytes_of(chunks: &[Waiting]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}
