//! Messages from an established peer, in the order they came (RFC 7574 §3).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::channel::{Download, Established, Repeat, State, Upload};
use crate::chunk::{Bin, ChunkIndex, ChunkRange, Geometry};
use crate::context::Cx;
use crate::event::{CloseReason, Misbehaviour};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::wire::{CHANNEL_ID_LEN, DataMessage, Format, IntegrityMessage, Message, MessageType, Messages, WireError};

/// Datagrams with undecodable messages that a peer may send before it is closed.
const MAX_UNDECODABLE: u32 = 16;

/// What came with a datagram besides content.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    acks: bool,
    /// A REQUEST that was not taken.
    refused: bool,
    /// Whether there is more to do than to judge the chunks that wait.
    more: bool,
}

impl Established {
    /// The receiving half, made when first needed so that idle channels stay small.
    #[inline]
    fn download_mut(&mut self, cx: &Cx<'_>) -> &mut Download {
        self.download.get_or_insert_with(|| begin_download(cx))
    }
}

impl Swarm {
    /// Handles the messages of one datagram from the established peer in `slot`. Returns whether all that came of it is
    /// that hashes were noted and a chunk waits to be judged.
    pub(crate) fn on_messages(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, body: &[u8]) -> bool {
        let mut came = Came::default();
        let before = (self.gathered.next_number(), self.hashes_from(slot));
        let outcome = self.read_messages(cx, slot, body, &mut came);
        if self.gathered.loose_hashes() > 0 {
            self.free_hashes(cx, slot);
        }
        if let Err(why) = outcome {
            self.close_channel(cx, slot, CloseReason::Misbehaved(why));
            return false;
        }
        // Those that came with a chunk are tried when it is judged.
        let alone = self.gathered.next_number() == before.0 && self.hashes_from(slot) > before.1;
        if alone && self.download(slot).is_some_and(Download::has_pending) {
            came.more = true;
            self.retry_pending(cx, Vec::from([slot]));
        }
        if !came.more && self.peers.get(slot as usize).is_some_and(|channel| channel.queued) {
            return true;
        }
        if let Some(upload) = self.upload_mut(slot) {
            if came.acks {
                upload.finish_acks(cx.now);
            }
            upload.finish_haves(cx.now);
        }
        if came.refused
            && let Err(why) = self.on_refused(cx.now, slot)
        {
            self.close_channel(cx, slot, CloseReason::Misbehaved(why));
            return false;
        }
        self.wake.push(slot);
        false
    }

    /// Takes in each message of a datagram, up to one that is a reason to close the channel.
    #[inline]
    fn read_messages(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        body: &[u8],
        came: &mut Came,
    ) -> Result<(), Misbehaviour> {
        let mut rest = body;
        for _ in 0..cx.config.limits.messages_per_datagram {
            if rest.is_empty() {
                break;
            }
            if let Some((IntegrityMessage { node, hash }, after)) = IntegrityMessage::read(rest, &self.format) {
                self.count_received(MessageType::Integrity, rest.len() - after.len());
                self.on_hash(cx, slot, node, hash);
                rest = after;
            } else if let Some((data, after)) = DataMessage::read(rest, &self.format) {
                self.count_received(MessageType::Data, rest.len() - after.len());
                let waiting = self.gathered.count();
                let outcome = self.on_data(cx, slot, data);
                came.more |= self.gathered.count() <= waiting;
                outcome?;
                rest = after;
            } else {
                let mut messages = Messages::from_offset(body, body.len() - rest.len(), &self.format);
                self.on_other(cx, slot, &mut messages, came)?;
                rest = messages.rest();
            }
        }
        Ok(())
    }

    /// Handles a message that carries no content or cannot be read.
    #[inline(never)]
    fn on_other(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        messages: &mut Messages<'_>,
        came: &mut Came,
    ) -> Result<(), Misbehaviour> {
        came.more = true;
        let begin = messages.offset();
        let Some((range, delay)) = messages.next_ack() else { return self.on_any(cx, slot, messages, came) };
        self.count_received(MessageType::Ack, messages.offset() - begin);
        came.acks = true;
        self.on_ack(cx, slot, range, delay);
        Ok(())
    }

    /// Handles a message that is no ACK either.
    #[inline(never)]
    fn on_any(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        messages: &mut Messages<'_>,
        came: &mut Came,
    ) -> Result<(), Misbehaviour> {
        let begin = messages.offset();
        match messages.next() {
            Some(Ok(message)) => {
                self.count_received(message.message_type(), messages.offset() - begin);
                if let Message::Request(range) = message {
                    came.refused |= !self.on_request(cx, slot, range)?;
                }
                self.on_control(cx, slot, &message)
            }
            Some(Err(error)) => self.on_undecodable(cx, slot, error),
            None => Ok(()),
        }
    }

    /// How many hashes the peer in `slot` sent.
    fn hashes_from(&self, slot: PeerSlot) -> u64 {
        self.peers.get(slot as usize).map_or(0, |channel| channel.stats.integrity_received)
    }

    fn count_received(&mut self, message: MessageType, bytes: usize) {
        self.traffic.received.on_messages(message, 1, bytes);
    }

    /// Keeps a hash that came ahead of the chunks it proves.
    fn on_hash(&mut self, cx: &Cx<'_>, slot: PeerSlot, node: Bin, hash: &[u8]) {
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        let State::Established(peer) = &mut channel.state else { return };
        channel.stats.integrity_received += 1;
        let download = peer.download_mut(cx);
        // It waits with the chunk that follows, most often the only one that needs it. Peaks are for all, and one that came
        // before is replaced.
        let sized = !self.content.verifier.tree().peaks().is_empty();
        if !(sized && !download.early.contains(node) && self.gathered.keep_hash(node, hash)) {
            download.early.insert(node, hash, cx.now);
        }
    }

    /// The path to `slot` carries datagrams of `mtu` bytes unfragmented.
    pub(crate) fn set_path_mtu(&mut self, slot: PeerSlot, mtu: u16) {
        let mss = segment_size(&self.format, mtu);
        let Some(channel) = self.peers.get_mut(slot as usize) else { return };
        channel.mtu = mtu;
        if let Some(peer) = channel.established_mut() {
            peer.set_mss(mss);
        }
    }

    fn established_mut(&mut self, slot: PeerSlot) -> Option<&mut Established> {
        self.peers.get_mut(slot as usize)?.established_mut()
    }

    fn upload_mut(&mut self, slot: PeerSlot) -> Option<&mut Upload> {
        self.established_mut(slot)?.upload.as_deref_mut()
    }

    /// The receiving half of a channel that has one.
    #[inline]
    pub(super) fn download(&self, slot: PeerSlot) -> Option<&Download> {
        self.peers.get(slot as usize)?.established()?.download.as_deref()
    }

    /// The receiving half of a channel.
    #[inline]
    pub(crate) fn download_mut(&mut self, cx: &Cx<'_>, slot: PeerSlot) -> Option<&mut Download> {
        Some(self.established_mut(slot)?.download_mut(cx))
    }

    fn on_undecodable(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, error: WireError) -> Result<(), Misbehaviour> {
        cx.stats.dropped.undecodable += 1;
        let Some(peer) = self.established_mut(slot) else { return Ok(()) };
        let count = peer.undecodable.map_or(0, |(count, _)| count) + 1;
        peer.undecodable = Some((count, error));
        if count >= MAX_UNDECODABLE { Err(Misbehaviour::Undecodable(error)) } else { Ok(()) }
    }

    fn on_control(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, message: &Message<'_>) -> Result<(), Misbehaviour> {
        if matches!(message, Message::PexReq | Message::PexResV4(_) | Message::PexResV6(_) | Message::PexResCert(_)) {
            return self.on_exchange(cx, slot, message);
        }
        let limits = &cx.config.limits;
        let Some(peer) = self.established_mut(slot) else { return Ok(()) };
        match *message {
            Message::Have(range) => {
                // RFC 7574 §3.8, R18: a HAVE is an implicit CANCEL.
                if let Some(upload) = &mut peer.upload {
                    upload.cancel(range, limits.queued_requests);
                    if peer.session.older {
                        upload.on_have(range);
                    }
                }
                self.on_peer_has(cx.now, slot, range, limits);
            }
            Message::Cancel(range) => {
                if let Some(upload) = &mut peer.upload {
                    upload.cancel(range, limits.queued_requests);
                }
            }
            Message::Choke => {
                // RFC 7574 §3.9: outstanding requests will not be answered, and no new ones are sent.
                peer.choked = true;
                let srtt = peer.srtt();
                // Others may be asked: each of them is looked at, which must not follow from every CHOKE of many.
                if peer.download.as_mut().is_some_and(|download| download.on_choked(cx.now, srtt)) {
                    self.release_peer(slot);
                }
            }
            Message::Unchoke => peer.choked = false,
            // A HANDSHAKE, a REQUEST and an ACK were dealt with before; live messages are not offered in option 8.
            _ => {}
        }
        Ok(())
    }

    /// Takes in an ACK: of what was sent, and nothing else.
    fn on_ack(&mut self, cx: &Cx<'_>, slot: PeerSlot, range: ChunkRange, delay: u64) {
        let clip = self.content.geometry().map(Geometry::all);
        let Some(peer) = self.established_mut(slot) else { return };
        if let Some(upload) = &mut peer.upload {
            upload.on_ack(range, delay);
            peer.acked.add(range, clip, cx.config.limits.availability_runs);
        }
    }

    /// Takes in a REQUEST; returns whether all of it may be answered.
    fn on_request(&mut self, cx: &Cx<'_>, slot: PeerSlot, range: ChunkRange) -> Result<bool, Misbehaviour> {
        let Some(geometry) = self.content.geometry() else { return Ok(false) };
        let range = range.intersection(geometry.all());
        // RFC 7574 §12.6.8: what a choked peer asks for is dropped.
        if range.is_empty() || !self.admit(cx, slot) {
            return Ok(false);
        }
        let Some(channel) = self.peers.get_mut(slot as usize) else { return Ok(false) };
        let mss = segment_size(&self.format, channel.mtu);
        let State::Established(peer) = &mut channel.state else { return Ok(false) };
        // It knows of something to ask for.
        peer.repeat = peer.repeat.map(|_| Repeat::new(cx.now));
        let lost = peer.acked.intersects(range) || peer.have.intersects(range);
        let upload = peer.upload_mut(cx.config, mss, cx.now);
        // R13: what it acknowledged or announced and asks for again it could not keep, nor the hashes within those
        // groups. What was sent and not acknowledged may have been of no use for want of hashes.
        let doubted = lost || upload.was_planned(range);
        let groups = whole_groups(&geometry, range);
        if doubted {
            upload.doubt(groups);
        }
        let taken = upload.on_request(range, cx.config.limits.queued_requests);
        if doubted {
            peer.acked.remove_bounded(groups, cx.config.limits.availability_runs);
        }
        if lost {
            self.on_peer_lacks(cx, slot, range)?;
        }
        Ok(taken)
    }
}

#[cold]
fn begin_download(cx: &Cx<'_>) -> Box<Download> {
    Box::new(Download::new(cx.config.limits.early_hashes, cx.now))
}

/// The chunks of all groups that `range` touches, which is not empty.
fn whole_groups(geometry: &Geometry, range: ChunkRange) -> ChunkRange {
    let [first, last] = [range.start(), range.end() - 1].map(|chunk| geometry.group_of(ChunkIndex::new(chunk)));
    ChunkRange::new(geometry.group_chunks(first).start(), geometry.group_chunks(last).end())
}

/// The segment that congestion control counts in: as many datagrams of one chunk as the path carries in one packet.
///
/// One on the Internet; on a loopback many, as for TCP there, without which its window would take seconds to open.
pub(super) fn segment_size(format: &Format, mtu: u16) -> u32 {
    let datagram = CHANNEL_ID_LEN + format.data_overhead() + format.chunk_size().bytes() as usize;
    let together = (usize::from(mtu) / datagram).max(1);
    u32::try_from(together * datagram).unwrap_or(u32::MAX)
}
