//! The way between a host and a scripted draft-10 peer: latency, loss, and the rules that any draft-10 peer holds us to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::Instant;
use ppspp_core::chunk::{Bin, ChunkRange};
use ppspp_core::integrity::Hash;
use ppspp_core::wire::{ChannelId, Format, Handshake, Message, Messages, read_handshake, split_channel};

use crate::net::{Net, Sample};
use crate::raw::option_codes;

/// One-way latency.
pub(super) const LATENCY: Duration = Duration::from_millis(10);
/// Time between two turns of a scripted peer.
pub(super) const TURN: Duration = Duration::from_millis(1);

/// What the network does to the `n`-th datagram, counted in both directions.
pub(super) type Loses = fn(n: u64, now: Instant) -> bool;

/// How a scripted peer and a host reach each other.
pub(super) struct Line {
    pub(super) host: usize,
    pub(super) local: ChannelId,
    pub(super) remote: ChannelId,
    pub(super) format: Format,
    pub(super) address: SocketAddr,
    /// When the peer last said and heard something.
    pub(super) spoke_at: Instant,
    pub(super) heard_at: Instant,
    pub(super) closed: bool,
    loses: Loses,
    count: u64,
    inbox: VecDeque<(Instant, Vec<u8>)>,
    outbox: VecDeque<(Instant, Vec<u8>)>,
}

impl Line {
    pub(super) fn new(net: &Net, host: usize, sample: &Sample, loses: Loses) -> Self {
        let metadata = &sample.metadata;
        Self {
            host,
            local: ChannelId::new(0x5c00_0001),
            remote: ChannelId::ZERO,
            format: Format::new(metadata.addressing, metadata.chunk_size, metadata.function.len(), 0),
            address: SocketAddr::from(([10, 0, 9, 1], 7101)),
            spoke_at: net.now,
            heard_at: net.now,
            closed: false,
            loses,
            count: 0,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Carries what is on the way, and returns what arrives at the peer now.
    pub(super) fn carry(&mut self, net: &mut Net) -> Vec<Vec<u8>> {
        for (_, to, datagram) in std::mem::take(&mut net.extra) {
            assert_eq!(to, self.address);
            if !self.loses_next(net.now) {
                self.inbox.push_back((net.now + LATENCY, datagram));
            }
        }
        for datagram in take_until(&mut self.outbox, net.now) {
            net.inject(self.host, self.address, &datagram);
        }
        let arrived = take_until(&mut self.inbox, net.now);
        if !arrived.is_empty() {
            self.heard_at = net.now;
        }
        arrived
    }

    fn loses_next(&mut self, now: Instant) -> bool {
        self.count += 1;
        (self.loses)(self.count, now)
    }

    /// Sends one datagram to the host's channel; without messages it is a keep-alive.
    pub(super) fn say(&mut self, net: &Net, messages: &[Message<'_>]) {
        let mut datagram = self.remote.value().to_be_bytes().to_vec();
        for message in messages {
            message.encode(&self.format, &mut datagram).unwrap();
        }
        self.spoke_at = net.now;
        if !self.loses_next(net.now) {
            self.outbox.push_back((net.now + LATENCY, datagram));
        }
    }

    /// A draft-10 HANDSHAKE; with `root` it opens.
    pub(super) fn handshake<'a>(&self, sample: &'a Sample, opens: bool) -> Handshake<'a> {
        let metadata = &sample.metadata;
        Handshake {
            source: self.local,
            version: Some(1),
            min_version: Some(1),
            swarm_id: opens.then(|| metadata.root.as_slice()),
            integrity_method: Some(1),
            hash_function: Some(metadata.function.code()),
            addressing: Some(metadata.addressing.code()),
            ..Handshake::default()
        }
    }

    /// Reads a reply to the peer's opening. libswift drops one with options 8 and 9, libperegrine one with option 2.
    pub(super) fn on_reply(&mut self, datagram: &[u8]) {
        let (channel, body) = split_channel(datagram).unwrap();
        assert_eq!((channel, option_codes(datagram)), (self.local, vec![0, 1, 3, 4, 6, 255]));
        self.remote = read_handshake(body).unwrap().0.source;
    }

    /// Reads an opening of the host: `None` if it has an option that draft-10 does not know, at which a peer is silent.
    pub(super) fn on_opening(&mut self, datagram: &[u8]) -> Option<()> {
        let codes = option_codes(datagram);
        if codes != [0, 1, 2, 3, 4, 6, 255] {
            assert_eq!(codes, [0, 1, 2, 3, 4, 6, 8, 9, 255]);
            return None;
        }
        self.remote = read_handshake(&datagram[4..]).unwrap().0.source;
        Some(())
    }

    /// The messages of a datagram on the peer's channel, which all decode: what is no bin would close the channel.
    pub(super) fn messages<'a>(&mut self, datagram: &'a [u8]) -> Vec<Message<'a>> {
        let (channel, body) = split_channel(datagram).unwrap();
        if channel != self.local {
            // An opening that was repeated before the reply to the one before arrived.
            assert_eq!(channel, ChannelId::ZERO);
            return Vec::new();
        }
        let messages: Vec<_> = Messages::new(body, &self.format).map(Result::unwrap).collect();
        self.closed |= messages.iter().any(|message| matches!(message, Message::Handshake(hs) if hs.is_closing()));
        messages
    }
}

/// Takes what is due by `until` from a queue in the order of time.
pub(super) fn take_until<T>(queue: &mut VecDeque<(Instant, T)>, until: Instant) -> Vec<T> {
    let due = queue.iter().take_while(|(at, _)| *at <= until).count();
    queue.drain(..due).map(|(_, item)| item).collect()
}

/// `range` as libswift writes it: one message for each bin.
pub(super) fn haves(range: ChunkRange) -> Vec<Message<'static>> {
    let mut rest = range;
    let mut messages = Vec::new();
    while let Some(bin) = Bin::largest_prefix(rest) {
        messages.push(Message::Have(bin.base_range()));
        rest = ChunkRange::new(bin.base_range().end(), rest.end());
    }
    messages
}

pub(super) fn integrity(hashes: &[(Bin, Hash)]) -> Vec<Message<'_>> {
    hashes.iter().map(|(node, hash)| Message::Integrity { node: *node, hash: hash.as_slice() }).collect()
}
