//! DATA from a peer: judged, kept, acknowledged (RFC 7574 §5.2, §5.6, R1, R13, R17, R19).

use alloc::vec::Vec;

use crate::channel::{PendingChunk, State};
use crate::chunk::ChunkIndex;
use crate::context::Cx;
use crate::event::Misbehaviour;
use crate::integrity::{AdoptError, PeakClaim, Verdict};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

impl Swarm {
    /// Judges one chunk. `brought_hashes` tells whether INTEGRITY came in the same datagram.
    pub(crate) fn on_data(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        chunk: ChunkIndex,
        timestamp: u64,
        payload: &[u8],
        brought_hashes: bool,
    ) -> Result<(), Misbehaviour> {
        if self.download_mut(cx, slot).is_none() {
            return Ok(());
        }
        if self.content.is_backed_up(cx.config) {
            cx.stats.dropped.backpressure += 1;
            return Ok(());
        }
        if self.content.geometry().is_none() && !self.detect_size(cx, slot, chunk, timestamp, payload)? {
            return Ok(());
        }
        if !self.judge(cx, slot, chunk, timestamp, payload)? {
            return Ok(());
        }
        let kept = self.download_mut(cx, slot).is_some_and(|download| download.has_pending());
        if kept && brought_hashes { self.retry_pending(cx, slot) } else { Ok(()) }
    }

    /// Verifies a chunk of a content whose size is known; returns whether it was new and good.
    fn judge(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        chunk: ChunkIndex,
        timestamp: u64,
        payload: &[u8],
    ) -> Result<bool, Misbehaviour> {
        let Some(geometry) = self.content.geometry() else { return Ok(false) };
        let channel = &mut self.peers[slot as usize];
        let State::Established(peer) = &mut channel.state else { return Ok(false) };
        let srtt = peer.srtt();
        let Some(download) = &mut peer.download else { return Ok(false) };
        // DATA that nobody was asked for is not looked at (§12.6.3), unless it completes a group that is begun. A late
        // answer counts: dropped, it would be sent again and again while newer requests wait behind it.
        let expected = self.requests.is_asked(&geometry, chunk)
            || self.content.verifier.has(chunk)
            || chunk.value() >= geometry.chunk_count()
            || download.may_come_late(chunk)
            || self.content.verifier.group_have(geometry.group_of(chunk)) != 0;
        if !expected {
            cx.stats.dropped.unrequested += 1;
            return Ok(false);
        }
        match self.content.verifier.check(chunk, payload, &download.early) {
            Verdict::Verified => {
                if !download.early.is_empty() {
                    download.early.remove_used(chunk);
                }
                self.accept(cx, slot, chunk, timestamp, payload);
                Ok(true)
            }
            Verdict::AlreadyHave => {
                download.acks.on_data(cx.now, chunk, timestamp, srtt, true);
                channel.stats.duplicate_chunks += 1;
                Ok(false)
            }
            Verdict::Missing => {
                let kept = PendingChunk { chunk, timestamp, payload: payload.to_vec(), arrived: cx.now };
                download.keep_pending(kept, cx.config.limits.pending_chunks);
                Ok(false)
            }
            Verdict::Wrong => Err(Misbehaviour::WrongHash),
            Verdict::WrongLength => Err(Misbehaviour::WrongLength),
            Verdict::OutOfRange => Err(Misbehaviour::OutOfRange),
            // Both pass: the bound on open groups frees up, and the size is known here.
            _ => Ok(false),
        }
    }

    /// Takes in a chunk that was just verified.
    fn accept(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, chunk: ChunkIndex, timestamp: u64, payload: &[u8]) {
        let Some(geometry) = self.content.geometry() else { return };
        self.content.on_verified(cx, self.id, chunk, payload);
        if let Some(owner) = self.requests.settle(&geometry, chunk)
            && let Some(peer) = self.peers.get_mut(owner as usize).and_then(|channel| channel.established_mut())
            && let Some(download) = &mut peer.download
        {
            download.on_settled(cx.now, chunk);
        }
        let channel = &mut self.peers[slot as usize];
        channel.stats.chunks_received += 1;
        channel.stats.content_bytes_received += payload.len() as u64;
        let State::Established(peer) = &mut channel.state else { return };
        let srtt = peer.srtt();
        let Some(download) = &mut peer.download else { return };
        download.on_delivery();
        download.rate.on_bytes(cx.now, payload.len() as u64, srtt);
        // R14: the last requested chunk is acknowledged at once, as is every chunk of a draft-10 peer, whose window
        // opens with each ACK.
        let urgent = download.outstanding() == 0 || peer.session.older;
        download.acks.on_data(cx.now, chunk, timestamp, srtt, urgent);
    }

    /// Tries the chunks again that were kept for want of hashes (R17).
    fn retry_pending(&mut self, cx: &mut Cx<'_>, slot: PeerSlot) -> Result<(), Misbehaviour> {
        let Some(download) = self.download_mut(cx, slot) else { return Ok(()) };
        for kept in download.take_pending() {
            self.judge(cx, slot, kept.chunk, kept.timestamp, &kept.payload)?;
        }
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
        chunk: ChunkIndex,
        timestamp: u64,
        payload: &[u8],
    ) -> Result<bool, Misbehaviour> {
        let params = self.content.verifier.tree().params();
        let root = *self.content.verifier.tree().root();
        let limit = cx.config.limits.pending_chunks;
        let Some(download) = self.download_mut(cx, slot) else { return Ok(false) };
        if !download.on_settled(cx.now, chunk) && !download.may_come_late(chunk) {
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
            let kept = PendingChunk { chunk, timestamp, payload: payload.to_vec(), arrived: cx.now };
            download.keep_pending(kept, limit);
            return Ok(false);
        }
        let State::Established(peer) = &mut self.peers[slot as usize].state else { return Ok(false) };
        let Some(download) = &mut peer.download else { return Ok(false) };
        match self.content.verifier.adopt(&claim, payload, &download.early) {
            Ok(geometry) if geometry.check_addressing(self.metadata.addressing).is_ok() => {
                self.on_size_known(cx);
                self.accept(cx, slot, chunk, timestamp, payload);
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
