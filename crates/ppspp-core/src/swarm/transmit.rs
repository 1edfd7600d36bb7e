//! What leaves for one peer: handshakes, control messages, chunks, keep-alives.

use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::time::Duration;

use crate::channel::{Batch, Blocked, Channel, Established, Path, RunLength, State, Writer};
use crate::chunk::{ChunkIndex, ChunkRange, Geometry, RangeSet};
use crate::config::EndpointConfig;
use crate::context::Cx;
use crate::io::{BatchLimit, Transmit};
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::swarm::asking::{may_request, write_cancels};
use crate::swarm::open::write_handshake;
use crate::swarm::uploads::Source;
use crate::time::Instant;
use crate::wire::{DatagramBuilder, Handshake, Message, MessageType, RangeMessage};

/// Who was heard no longer ago is there.
const PRESENT: Duration = Duration::from_secs(5);
/// How long one peer is alone before it is served as such: others may be on their way.
const ALONE_AFTER: Duration = Duration::from_secs(1);
/// How often the peers being served are counted.
const COUNT_INTERVAL: Duration = Duration::from_millis(100);
/// Runs that are looked through at a time for something that is here: peers are told what is, and ask for that.
const MAX_ABSENT_RUNS: usize = 64;
/// Bytes that no control message is longer than: a datagram with room for them was not full.
const LONGEST_CONTROL: usize = 32;

/// What a control datagram amounts to.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// Whether it calls for an answer.
    calling: bool,
    /// Whether another may be due at once.
    more: bool,
}

/// The peers being served, as counted last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    at: Instant,
    /// At least one.
    pub(super) count: usize,
    /// The one, if there is no other.
    pub(super) only: Option<PeerSlot>,
    /// Since when at most one peer lacks anything, of those that are there.
    alone_since: Option<Instant>,
}

impl Served {
    /// R21 is for several: one alone gets what it asks for in its order, whatever others were sent before.
    fn is_alone(self, now: Instant) -> bool {
        self.alone_since.is_some_and(|since| now - since >= ALONE_AFTER)
    }
}

impl Swarm {
    /// Appends the next datagram for `slot` that is not DATA to `buf`, and tells whether another may be due now; `None`
    /// if none is to leave now.
    pub(crate) fn transmit_control(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        buf: &mut Vec<u8>,
    ) -> Option<(Transmit, bool)> {
        let channel = self.peers.get_mut(slot as usize)?;
        let start = buf.len();
        let batch = match &mut channel.state {
            State::HalfOpen(half_open) if half_open.reply_due => {
                half_open.reply_due = false;
                half_open.sent += half_open.reply.len() as u64;
                half_open.replied_at.get_or_insert(cx.now);
                buf.extend_from_slice(&half_open.reply);
                Batch::single(half_open.reply.len())
            }
            State::Opening(_) | State::HalfOpen(_) => {
                let local = channel.local;
                let attempt = channel.opening_mut()?.take_due(cx.now)?;
                Batch::single(self.write_opening(local, attempt, buf))
            }
            State::Closing(remote) => {
                let len = write_handshake(&Handshake::closing(), &self.format, *remote, buf);
                channel.state = State::Closed;
                Batch::single(len)
            }
            State::Closed => return None,
            State::Established(_) => {
                let (batch, written) = self.transmit_established(cx, slot, buf);
                let channel = self.peers.get_mut(slot as usize)?;
                if batch.datagrams == 0 {
                    return None;
                }
                channel.on_sent(cx.now, batch.datagrams, written.calling);
                let transmit = transmit(channel, &batch, buf.len() - start);
                self.count_sent(&buf[start..]);
                return Some((transmit, written.more));
            }
        };
        let channel = self.peers.get_mut(slot as usize)?;
        channel.on_sent(cx.now, 1, false);
        let transmit = transmit(channel, &batch, buf.len() - start);
        self.count_sent(&buf[start..]);
        Some((transmit, true))
    }

    /// Counts a datagram without DATA that leaves.
    fn count_sent(&mut self, datagram: &[u8]) {
        let sent = &mut self.traffic.sent;
        sent.on_datagrams(1, datagram.len());
        sent.on_control(datagram, &self.format);
    }

    /// Appends the next datagrams with DATA for `slot` to `buf`; `None` if none may leave now.
    pub(crate) fn transmit_chunks(
        &mut self,
        cx: &mut Cx<'_>,
        slot: PeerSlot,
        limit: BatchLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let start = buf.len();
        let before = self.peers.get(slot as usize)?.stats;
        let batch = self.write_chunks(cx, slot, limit, buf);
        if batch.datagrams == 0 {
            return None;
        }
        let channel = self.peers.get_mut(slot as usize)?;
        channel.on_sent(cx.now, batch.datagrams, true);
        let after = &channel.stats;
        self.traffic.sent.on_chunks(
            &self.format,
            after.chunks_sent - before.chunks_sent,
            after.content_bytes_sent - before.content_bytes_sent,
            after.integrity_sent - before.integrity_sent,
        );
        let transmit = transmit(channel, &batch, buf.len() - start);
        self.traffic.sent.on_datagrams(batch.datagrams, transmit.size);
        Some(transmit)
    }

    /// Control messages, or a keep-alive if one is due.
    fn transmit_established(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, buf: &mut Vec<u8>) -> (Batch, Written) {
        if let Some(peer) = self.peers[slot as usize].established_mut()
            && let Some(upload) = &mut peer.upload
        {
            upload.detect_loss(cx.now);
        }
        let start = buf.len();
        // What came makes room within the limits for what is asked for next.
        self.count_requests(cx, slot);
        let written = self.write_control(cx, slot, buf);
        if self.end_call(slot) || written.calling {
            self.count_requests(cx, slot);
        }
        if buf.len() > start {
            return (Batch::single(buf.len() - start), written);
        }
        let channel = &mut self.peers[slot as usize];
        let alive_due = channel.keep_alive_at(cx.config) <= cx.now;
        let Some(peer) = channel.established_mut() else { return Default::default() };
        if !alive_due && !peer.answer_due {
            return Default::default();
        }
        peer.answer_due = false;
        // RFC 7574 §8.14: a keep-alive is the channel id alone, unless an UNCHOKE may have been lost.
        let mut datagram = DatagramBuilder::new(buf, usize::MAX, peer.remote, self.format);
        if peer.service.as_ref().is_some_and(|service| service.reminds()) {
            write_service(&mut datagram, peer, cx.now);
        }
        (Batch::single(datagram.finish()), Written::default())
    }

    /// Writes one datagram of ACK, HAVE and REQUEST messages, if any is due.
    fn write_control(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, buf: &mut Vec<u8>) -> Written {
        let channel = &mut self.peers[slot as usize];
        let mtu = usize::from(channel.mtu);
        let State::Established(peer) = &mut channel.state else { return Written::default() };
        let mut datagram = DatagramBuilder::new(buf, mtu, peer.remote, self.format);
        let room = datagram.remaining() / self.format.ack_len();
        let again = (!peer.session.older).then(|| (peer.srtt(), room));
        if let Some(download) = &mut peer.download
            && download.acks.due().is_some_and(|due| due <= cx.now)
        {
            write_acks(&mut datagram, download, &mut self.content.acknowledged, again, cx.now);
        }
        if peer.service.as_ref().is_some_and(|service| service.is_due(cx.now)) {
            write_service(&mut datagram, peer, cx.now);
        }
        let total = self.content.geometry().map_or(u64::MAX, Geometry::chunk_count);
        if peer.announced().is_complete(total) {
            // RFC 7574 §3.2: seeders are not sent HAVE.
            peer.announce.clear();
            peer.announce_at = None;
        }
        let mut calling = false;
        let can_request = may_request(peer);
        if peer.announce_at.is_some_and(|at| at <= cx.now) {
            write_haves(&mut datagram, &mut peer.announce, &self.content.stored);
            if peer.announce.is_empty() {
                peer.announce_at = None;
            }
        }
        if can_request {
            if cx.events.is_full() || self.is_backed_up(cx.config) || self.asking.paused_until.is_some() {
                self.asking.held = true;
            } else {
                calling = self.write_requests(cx, slot, &mut datagram);
            }
        }
        // After the requests: what is asked of the same peer again needs no CANCEL.
        if let Some(peer) = self.peers[slot as usize].established_mut()
            && let Some(download) = &mut peer.download
        {
            write_cancels(&mut datagram, download, peer.session.messages.contains(MessageType::Cancel));
        }
        self.write_exchange(cx.now, slot, &mut datagram);
        // What was chosen to be asked for may not be all that can be chosen.
        let more = calling || datagram.remaining() < LONGEST_CONTROL;
        if datagram.is_bare() {
            datagram.discard();
        } else {
            datagram.finish();
            if let Some(peer) = self.peers[slot as usize].established_mut() {
                peer.answer_due = false;
            }
        }
        Written { calling, more }
    }

    /// Writes a batch of chunks, as window and pacing allow.
    fn write_chunks(&mut self, cx: &mut Cx<'_>, slot: PeerSlot, limit: BatchLimit, buf: &mut Vec<u8>) -> Batch {
        let Some(geometry) = self.content.geometry() else { return Batch::default() };
        let (length, runs) = self.run_length(cx);
        let alone = self.count_served(cx.now).is_alone(cx.now);
        let channel = &mut self.peers[slot as usize];
        let State::Established(peer) = &mut channel.state else { return Batch::default() };
        peer.blocked = Blocked::Idle;
        let Some(upload) = &mut peer.upload else { return Batch::default() };
        let path = Path {
            channel: peer.remote,
            format: self.format,
            mtu: usize::from(channel.mtu),
            max_datagrams: limit.datagrams.get(),
            max_bytes: limit.bytes,
        };
        let mut runs_left = MAX_ABSENT_RUNS;
        while upload.has_requests() && upload.in_flight.chunks() < cx.config.limits.in_flight {
            if runs_left == 0 {
                // One REQUEST may name all of a content of which next to nothing is here.
                upload.clear_requests();
                peer.answer_due = true;
                self.wake.push(slot);
                break;
            }
            runs_left -= 1;
            if !upload.has_window() {
                peer.blocked = Blocked::Window;
                break;
            }
            upload.plan(&mut self.spread, length, alone, |chunk| self.content.verifier.has(chunk));
            let prepared = upload.take_unprepared();
            if prepared {
                let mut extra = 0;
                for range in upload.upcoming().take(runs) {
                    extra += self.uploads.prepare(cx, self.id, &self.content, &geometry, range, slot);
                }
                upload.owed += extra;
            }
            let source = Source::new(&self.uploads, &self.content, &geometry);
            let (batch, blocked) = Writer {
                upload,
                source: &source,
                geometry: &geometry,
                known: [&peer.have, &peer.acked],
                path,
                stats: &mut channel.stats,
            }
            .write(cx.now, buf);
            if blocked == Blocked::Reading {
                upload.on_missing();
            }
            if upload.take_absent() && batch.datagrams == 0 {
                // No message says that a chunk is not there any more: a keep-alive tells at least that we are.
                peer.answer_due = true;
                self.wake.push(slot);
            }
            // All that was planned may have been in flight already: then there is more to plan. What was at hand when
            // it was planned may have left the cache: then it is to be read again, which nobody has begun.
            let again = blocked == Blocked::Idle && upload.has_requests() || blocked == Blocked::Reading && !prepared;
            peer.blocked = if again { Blocked::No } else { blocked };
            if batch.datagrams > 0 || !again {
                return batch;
            }
        }
        Batch::default()
    }

    /// How long runs may be, so that those of all peers being served stay in memory until they are sent, and how many of
    /// a peer's are read before they are sent: two, the one that leaves and the one after it, unless there is no room
    /// for both. Then each would displace the other while the pacer holds both back.
    fn run_length(&mut self, cx: &Cx<'_>) -> (RunLength, usize) {
        let groups = cx.config.limits.cached_groups / (2 * self.count_served(cx.now).count);
        let runs = if groups == 0 { 1 } else { 2 };
        let chunks = (groups.max(1) as u64) << self.metadata.chunk_size.group_layer();
        (RunLength::new(self.metadata.chunk_size, chunks), runs)
    }

    /// The peers being served, counted now and then.
    fn count_served(&mut self, now: Instant) -> Served {
        if let Some(served) = self.served.filter(|served| now - served.at < COUNT_INTERVAL) {
            return served;
        }
        let mut served = self.peers.iter().filter(|(_, channel)| {
            let upload = channel.established().and_then(|peer| peer.upload.as_ref());
            upload.is_some_and(|upload| upload.has_requests() || upload.in_flight.chunks() > 0)
        });
        let first = served.next().map(|(slot, _)| slot as PeerSlot);
        let others = served.count();
        let total = self.content.geometry().map_or(u64::MAX, Geometry::chunk_count);
        let lacking = self.peers.iter().filter(|(_, channel)| {
            let peer = channel.established().filter(|_| now - channel.last_received < PRESENT);
            peer.is_some_and(|peer| !peer.have.is_complete(total))
        });
        let since = self.served.and_then(|served| served.alone_since).unwrap_or(now);
        let alone_since = (lacking.take(2).count() < 2).then_some(since);
        let counted = Served { at: now, count: others + 1, only: first.filter(|_| others == 0), alone_since };
        self.served = Some(counted);
        counted
    }

    /// When `slot` has something due next.
    pub(crate) fn channel_deadline(&self, slot: PeerSlot, config: &EndpointConfig) -> Option<Instant> {
        self.peers.get(slot as usize).map(|channel| channel.deadline(config))
    }
}

/// Tells the peer whether it may ask, if it knows such messages.
fn write_service(datagram: &mut DatagramBuilder<'_>, peer: &mut Established, now: Instant) {
    let choked = peer.is_choked_by_us();
    let Some(service) = &mut peer.service else { return };
    let (kind, message) =
        if choked { (MessageType::Choke, Message::Choke) } else { (MessageType::Unchoke, Message::Unchoke) };
    if !peer.session.messages.contains(kind) || datagram.push(&message).is_ok() {
        service.on_told(now);
    }
}

/// Acknowledges what waits, each run as part of the biggest interval around it (RFC 7574 §4.3.2), if a datagram holds so many
/// bins.
///
/// What was said before is said `again`, with the round trip and the room for runs. Not to draft-10 peers: libswift takes an
/// ACK for that of one transmission and opens its window by one chunk, so that each chunk has its own.
fn write_acks(
    datagram: &mut DatagramBuilder<'_>,
    download: &mut crate::channel::Download,
    acknowledged: &mut RangeSet,
    again: Option<(Duration, usize)>,
    now: Instant,
) {
    let delay = download.acks.delay();
    if let Some((srtt, room)) = again {
        download.acks.tell_again(now, srtt, room);
    }
    let pending = download.acks.pending();
    acknowledged.merge(pending.as_slice());
    if again.is_none() {
        let unfit = pending
            .runs()
            .flat_map(ChunkRange::iter)
            .find(|&chunk| !datagram.push_range(RangeMessage::Ack { delay }, ChunkRange::single(chunk)).is_empty());
        download.acks.on_sent(unfit.map_or(u64::MAX, ChunkIndex::value));
        return;
    }
    let ack = RangeMessage::Ack { delay };
    let unfit = acknowledged.runs_around(pending).find_map(|interval| {
        if datagram.holds(ack, interval) {
            return (!datagram.push_range(ack, interval).is_empty()).then(|| interval.start());
        }
        let mut parts = pending.intersection_in(interval);
        parts.find(|&part| !datagram.push_range(ack, part).is_empty()).map(ChunkRange::start)
    });
    download.acks.on_sent(unfit.unwrap_or(u64::MAX));
}

/// Announces what is stored, each run as part of the biggest interval around it (RFC 7574 §4.3.1), if a datagram holds so
/// many bins.
fn write_haves(datagram: &mut DatagramBuilder<'_>, announce: &mut RangeSet, stored: &RangeSet) {
    while let Some(&run) = announce.as_slice().first() {
        let interval = stored.run_at(ChunkIndex::new(run.start())).unwrap_or(ChunkRange::EMPTY);
        let whole = datagram.holds(RangeMessage::Have, interval);
        let told = if whole { interval } else { run.intersection(interval) };
        let rest = datagram.push_range(RangeMessage::Have, told);
        if !rest.is_empty() {
            if !whole {
                announce.remove(ChunkRange::new(0, rest.start()));
            }
            return;
        }
        announce.remove(ChunkRange::new(0, told.end().max(run.end())));
    }
}

impl Batch {
    /// One datagram of `size` bytes.
    const fn single(size: usize) -> Self {
        Self { datagrams: 1, bytes: size, segment: None, may_fragment: false }
    }
}

/// The answer to the driver for a batch.
const fn transmit(channel: &Channel, batch: &Batch, size: usize) -> Transmit {
    let segment_size: Option<NonZeroUsize> = if batch.datagrams > 1 { batch.segment } else { None };
    Transmit { destination: channel.address, source: None, size, segment_size, may_fragment: batch.may_fragment }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv6Addr, SocketAddrV6};

    use super::*;
    use crate::channel::{Arrival, Download};
    use crate::chunk::{ChunkAddressing, ChunkSize};
    use crate::wire::{ChannelId, Format, Messages, split_channel};

    /// With bins a run may take more messages than a datagram holds: it is told in part then, and not for ever.
    #[test]
    fn what_fits_into_no_datagram_is_told_in_part() {
        let format = Format::new(ChunkAddressing::Bin32, ChunkSize::DEFAULT, 20, 0);
        let here: RangeSet = ChunkRange::new(1, 100_001).into();
        let told = |buf: &[u8]| -> RangeSet {
            let messages = Messages::new(split_channel(buf).unwrap().1, &format);
            let ranges = messages.map(|message| match message.unwrap() {
                Message::Have(range) | Message::Ack { range, .. } => range,
                other => panic!("{other:?}"),
            });
            ranges.collect()
        };
        for budget in [30, 100, 1000] {
            let mut download = Download::new(8, Instant::ZERO);
            let arrivals = (5000..5009).chain(7000..7002);
            let arrivals =
                arrivals.map(|chunk| Arrival { chunk: ChunkIndex::new(chunk), timestamp: chunk, at: Instant::ZERO });
            download.acks.on_data(Instant::ZERO, arrivals, Duration::ZERO, true);
            let (mut acknowledged, mut acked) = (here.clone(), RangeSet::new());
            let mut datagrams = 0;
            while download.acks.due().is_some_and(|at| at == Instant::ZERO) {
                let mut buf = Vec::new();
                let mut datagram = DatagramBuilder::new(&mut buf, budget, ChannelId::new(7), format);
                write_acks(&mut datagram, &mut download, &mut acknowledged, Some((Duration::ZERO, 0)), Instant::ZERO);
                datagram.finish();
                acked.merge(told(&buf).as_slice());
                datagrams += 1;
                assert!(datagrams < 20, "for ever with {budget} bytes");
            }
            assert!(acked.covers(ChunkRange::new(5000, 5009)) && acked.covers(ChunkRange::new(7000, 7002)));
            let (mut announce, mut announced) = (here.clone(), RangeSet::new());
            while !announce.is_empty() {
                let mut buf = Vec::new();
                let mut datagram = DatagramBuilder::new(&mut buf, budget, ChannelId::new(7), format);
                write_haves(&mut datagram, &mut announce, &here);
                datagram.finish();
                announced.merge(told(&buf).as_slice());
                datagrams += 1;
                assert!(datagrams < 40, "for ever with {budget} bytes");
            }
            assert_eq!(announced, here);
        }
    }

    #[test]
    fn no_control_message_is_longer_than_the_longest() {
        let range = ChunkRange::new(1, 3);
        let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 6778, 0, 0);
        let messages = [
            Message::Ack { range, delay: u64::MAX },
            Message::Have(range),
            Message::Request(range),
            Message::Cancel(range),
            Message::Choke,
            Message::Unchoke,
            Message::PexReq,
            Message::PexResV6(address),
        ];
        for addressing in ChunkAddressing::ALL {
            let format = Format::new(addressing, ChunkSize::DEFAULT, 64, 0);
            assert!(messages.iter().all(|message| message.encoded_len(&format) <= LONGEST_CONTROL), "{addressing:?}");
        }
    }
}
