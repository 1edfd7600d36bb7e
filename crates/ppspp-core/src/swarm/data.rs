//! DATA from a peer: judged, kept, acknowledged (RFC 7574 §5.2, §5.6, R1, R13, R17, R19).

use alloc::vec::Vec;

use crate::channel::{Arrival, Channel, PendingChunk, State};
use crate::chunk::{ChunkIndex, Geometry};
use crate::context::Cx;
use crate::event::Misbehaviour;
use crate::integrity::{AdoptError, Hash, PeakClaim, Verdict};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

impl Swarm {
    /// Takes in one chunk. `brought_hashes` tells whether INTEGRITY came in the same datagram.
    pub(crate) fn on_data(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        arrival: Arrival,
        payload: &[u8],
        brought_hashes: bool,
    ) -> Result<(), Misbehaviour> {
        if self.download_mut(cx, slot).is_none() {
            return Ok(());
        }
        if self.is_backed_up(cx.config) {
            cx.stats.dropped.backpressure += 1;
            return Ok(());
        }
        if self.content.geometry().is_none() && !self.detect_size(cx, slot, arrival, payload)? {
            return Ok(());
        }
        if self.content.geometry().is_some_and(|geometry| self.is_expected(&geometry, slot, arrival.chunk)) {
            return self.screen(cx, slot, arrival, payload, brought_hashes);
        }
        cx.stats.dropped.unrequested += 1;
        if brought_hashes { self.retry_pending(cx, slot) } else { Ok(()) }
    }

    /// Lets a chunk of a content whose size is known wait to be judged with others, unless that needs no hash.
    fn screen(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        arrival: Arrival,
        payload: &[u8],
        brought_hashes: bool,
    ) -> Result<(), Misbehaviour> {
        let Some(geometry) = self.content.geometry() else { return Ok(()) };
        for _ in 0..2 {
            if let Some(verdict) = self.content.verifier.screen(arrival.chunk, payload.len()) {
                self.on_verdict(cx, slot, arrival, payload.len(), verdict)?;
                return if brought_hashes { self.retry_pending(cx, slot) } else { Ok(()) };
            }
            if self.content.assembly.stage(cx.now, &geometry, arrival.chunk, payload) {
                self.gather(cx, slot, arrival, payload.len(), brought_hashes);
                return Ok(());
            }
            // The same chunk waits already: whether it is good decides about this one.
            self.judge_gathered(cx);
        }
        Ok(())
    }

    /// Whether a chunk from `slot` is looked at.
    ///
    /// DATA that nobody was asked for is not (§12.6.3), unless it completes a group that is begun. A late answer counts:
    /// dropped, it would be sent again and again while newer requests wait behind it.
    fn is_expected(&self, geometry: &Geometry, slot: PeerSlot, chunk: ChunkIndex) -> bool {
        let download = || self.peers[slot as usize].established().and_then(|peer| peer.download.as_deref());
        // The quickest answer first.
        self.content.verifier.group_have(geometry.group_of(chunk)) != 0
            || self.requests.is_asked(geometry, chunk)
            || chunk.value() >= geometry.chunk_count()
            || download().is_some_and(|download| download.may_come_late(chunk))
    }

    /// Judges a chunk whose bytes lie in the assembly and were hashed.
    pub(super) fn judge_staged(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        slot: PeerSlot,
        arrival: Arrival,
        len: usize,
        leaf: &Hash,
    ) -> Result<(), Misbehaviour> {
        let chunk = arrival.chunk;
        let peer = self.peers.get_mut(slot as usize).and_then(Channel::established_mut);
        let Some(download) = peer.and_then(|peer| peer.download.as_mut()) else {
            // The channel ended meanwhile, and the hashes it brought are gone.
            self.content.assembly.settle(geometry, chunk, false);
            return Ok(());
        };
        let verdict = self.content.verifier.check_hashed(chunk, len, leaf, &mut download.early);
        if verdict == Verdict::Missing {
            self.keep_staged(cx, geometry, slot, arrival, len);
            return Ok(());
        }
        self.content.assembly.settle(geometry, chunk, verdict == Verdict::Verified);
        if verdict == Verdict::Verified {
            self.accept(cx, geometry, slot, arrival, len);
            return Ok(());
        }
        self.on_verdict(cx, slot, arrival, len, verdict)
    }

    /// Keeps a staged chunk aside until its hashes arrive (R17).
    fn keep_staged(&mut self, cx: &Cx<'_>, geometry: &Geometry, slot: PeerSlot, arrival: Arrival, len: usize) {
        let bytes = self.content.assembly.staged(geometry, arrival.chunk, len).map(<[u8]>::to_vec);
        self.content.assembly.settle(geometry, arrival.chunk, false);
        if let (Some(download), Some(payload)) = (self.download_mut(cx, slot), bytes) {
            download.keep_pending(PendingChunk { arrival, payload }, cx.config.limits.pending_chunks);
        }
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
            _ => {}
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
            download.acks.on_data(cx.now, arrival, srtt, true);
        }
    }

    /// Takes in a chunk that was just verified and lies in the assembly.
    fn accept(&mut self, cx: &mut Cx<'_>, geometry: &Geometry, slot: PeerSlot, arrival: Arrival, len: usize) {
        self.content.on_verified(cx, geometry, self.id, arrival.chunk, len);
        self.settle_requests(cx.now, slot, geometry, arrival.chunk);
        let channel = &mut self.peers[slot as usize];
        channel.stats.chunks_received += 1;
        channel.stats.content_bytes_received += len as u64;
        let State::Established(peer) = &mut channel.state else { return };
        let srtt = peer.srtt();
        let Some(download) = &mut peer.download else { return };
        download.on_delivery();
        download.rate.on_bytes(arrival.at, len as u64, srtt);
        // R14: the last requested chunk is acknowledged at once, as is every chunk of a draft-10 peer, whose window
        // opens with each ACK.
        let urgent = download.outstanding() == 0 || peer.session.older;
        download.acks.on_data(cx.now, arrival, srtt, urgent);
    }

    /// Tries the chunks again that were kept for want of hashes (R17).
    pub(super) fn retry_pending(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) -> Result<(), Misbehaviour> {
        let Some(download) = self.download_mut(cx, slot) else { return Ok(()) };
        if !download.has_pending() {
            return Ok(());
        }
        for PendingChunk { arrival, payload } in download.take_pending() {
            if self.is_backed_up(cx.config) {
                cx.stats.dropped.backpressure += 1;
                continue;
            }
            self.screen(cx, slot, arrival, &payload, false)?;
        }
        self.judge_gathered(cx);
        Ok(())
    }

    /// Learns the size from a peer's peaks and last chunk (RFC 7574 §5.6); returns whether it is known now.
    ///
    /// R1: until its last chunk verifies, what the peaks claim is that peer's word alone. A chunk that arrives before
    /// is kept, within the bound on chunks that cannot be verified.
    fn detect_size(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        arrival: Arrival,
        payload: &[u8],
    ) -> Result<bool, Misbehaviour> {
        let chunk = arrival.chunk;
        let params = self.content.verifier.tree().params();
        let root = *self.content.verifier.tree().root();
        let limit = cx.config.limits.pending_chunks;
        let Some(peer) = self.peers[slot as usize].established_mut() else { return Ok(false) };
        let srtt = peer.srtt();
        let Some(download) = &mut peer.download else { return Ok(false) };
        if !download.on_unsized(cx.now, chunk) && !download.may_come_late(chunk) {
            cx.stats.dropped.unrequested += 1;
            return Ok(false);
        }
        if download.claim.is_none() {
            let candidates: Vec<_> = download.early.iter().map(|(bin, hash)| (bin, *hash)).collect();
            download.claim = PeakClaim::find(params, &root, &candidates)
                .or_else(|| candidates.is_empty().then(|| PeakClaim::one_chunk(params, &root)).flatten());
        }
        let Some(claim) = download.claim.clone() else { return Ok(false) };
        if chunk.value() + 1 != claim.chunks() {
            // It is good if the claim is. Unacknowledged it would keep the last chunk waiting for room in the window.
            if claim.proves(params, chunk, payload, &mut download.early, cx.now) {
                download.acks.on_data(cx.now, arrival, srtt, true);
            }
            download.keep_pending(PendingChunk { arrival, payload: payload.to_vec() }, limit);
            return Ok(false);
        }
        let State::Established(peer) = &mut self.peers[slot as usize].state else { return Ok(false) };
        let Some(download) = &mut peer.download else { return Ok(false) };
        match self.content.verifier.adopt(&claim, payload, &download.early) {
            Ok(geometry) if geometry.check_addressing(self.metadata.addressing).is_ok() => {
                self.on_size_known(cx);
                self.content.assembly.stage(cx.now, &geometry, chunk, payload);
                self.content.assembly.settle(&geometry, chunk, true);
                self.accept(cx, &geometry, slot, arrival, payload.len());
                self.retry_pending(cx, slot)?;
                Ok(false)
            }
            // Without any hashes to claim a size by, one chunk was a guess: the hashes may have been lost on the way.
            Err(AdoptError::Wrong(_)) if claim.chunks() == 1 => {
                download.claim = None;
                Ok(false)
            }
            Err(AdoptError::Missing(_)) => {
                // Its hashes may follow; the peer is asked again otherwise.
                Ok(false)
            }
            Ok(_) | Err(_) => Err(Misbehaviour::WrongHash),
        }
    }
}
