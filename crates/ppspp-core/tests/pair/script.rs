//! A peer that says exactly what a test wants, to a host whose other end is a real endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange, Geometry};
use ppspp_core::integrity::{Hash, peaks_needed, uncles};
use ppspp_core::wire::{ChannelId, Format, Handshake, Message, Messages, read_handshake, split_channel};
use ppspp_core::{Metadata, PeerId, PeerSource};

use crate::net::{Net, Sample};

/// A datagram that the host sent to the script.
pub(crate) struct Heard {
    body: Vec<u8>,
    format: Format,
}

impl Heard {
    /// Its messages, those of the handshake included.
    pub(crate) fn messages(&self) -> Vec<Message<'_>> {
        Messages::new(&self.body, &self.format).map(Result::unwrap).collect()
    }
}

/// What was heard, by kind.
#[derive(Default, Debug)]
pub(crate) struct Summary {
    pub(crate) datagrams: usize,
    pub(crate) data: Vec<u64>,
    pub(crate) integrity: Vec<Bin>,
    pub(crate) requests: Vec<ChunkRange>,
    pub(crate) cancels: Vec<ChunkRange>,
    pub(crate) haves: Vec<ChunkRange>,
    pub(crate) acks: Vec<(ChunkRange, u64)>,
    pub(crate) closed: bool,
    /// `PEX_REQ` messages.
    pub(crate) questions: usize,
    /// Addresses named in `PEX_RES` messages.
    pub(crate) names: Vec<SocketAddr>,
    pub(crate) chokes: usize,
    pub(crate) unchokes: usize,
}

impl Summary {
    /// The chunks asked for, one by one.
    pub(crate) fn requested(&self) -> Vec<u64> {
        self.requests.iter().flat_map(|range| range.iter()).map(ChunkIndex::value).collect()
    }
}

/// One scripted peer on one channel to one host.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    pub(crate) host: usize,
    pub(crate) local: ChannelId,
    pub(crate) remote: ChannelId,
    pub(crate) format: Format,
    pub(crate) metadata: Metadata,
}

impl Script {
    pub(crate) fn new(net: &Net, host: usize, metadata: &Metadata, number: u8) -> Self {
        let format = Format::new(metadata.addressing, metadata.chunk_size, metadata.function.len(), 0)
            .with_content_length(metadata.content_length);
        assert!(host < net.hosts.len());
        Self {
            address: SocketAddr::from(([10, 0, 9, number], 6778)),
            host,
            local: ChannelId::new(0x5c00_0000 + u32::from(number)),
            remote: ChannelId::ZERO,
            format,
            metadata: metadata.clone(),
        }
    }

    /// Opens a channel to `host` and proves the address after `rtt`.
    pub(crate) fn opens(net: &mut Net, host: usize, metadata: &Metadata, number: u8, rtt: Duration) -> Self {
        Self::opens_as(net, host, metadata, number, rtt, false)
    }

    /// The same, as a draft-10 peer if `older`: without options 8 and 9.
    pub(crate) fn opens_as(
        net: &mut Net,
        host: usize,
        metadata: &Metadata,
        number: u8,
        rtt: Duration,
        older: bool,
    ) -> Self {
        let script = Self::new(net, host, metadata, number);
        script.open(net, rtt, older)
    }

    /// Opens a channel to `host` from `address`.
    pub(crate) fn opens_at(net: &mut Net, host: usize, metadata: &Metadata, address: SocketAddr, number: u8) -> Self {
        let script = Self { address, ..Self::new(net, host, metadata, number) };
        script.open(net, Duration::from_millis(20), false)
    }

    fn open(mut self, net: &mut Net, rtt: Duration, older: bool) -> Self {
        let host = self.host;
        let script = &mut self;
        let opening = script.handshake(true, older);
        net.inject(host, script.address, &script.datagram(ChannelId::ZERO, &[Message::Handshake(opening)]));
        net.run_for(rtt);
        let replies = script.take_raw(net);
        let (channel, body) = split_channel(replies.first().unwrap()).unwrap();
        assert_eq!(channel, script.local);
        let (reply, _) = read_handshake(body).unwrap();
        assert_eq!((reply.chunk_size.is_none(), reply.supported_messages.is_none()), (older, older));
        script.remote = reply.source;
        script.say(net, &[]);
        self
    }

    /// Is called by `host` and answers after `rtt`.
    pub(crate) fn answers(
        net: &mut Net,
        host: usize,
        metadata: &Metadata,
        number: u8,
        rtt: Duration,
    ) -> (Self, PeerId) {
        Self::answers_with(net, host, metadata, number, rtt, &[])
    }

    /// The same, with `more` messages in the datagram of the HANDSHAKE.
    pub(crate) fn answers_with(
        net: &mut Net,
        host: usize,
        metadata: &Metadata,
        number: u8,
        rtt: Duration,
        more: &[Message<'_>],
    ) -> (Self, PeerId) {
        let mut script = Self::new(net, host, metadata, number);
        let now = net.local(host);
        let caller = &mut net.hosts[host];
        let peer = caller.endpoint.add_peer(caller.swarm, script.address, PeerSource::Trusted, now).unwrap();
        net.drain(host);
        let openings = script.take_raw(net);
        let (channel, body) = split_channel(openings.first().unwrap()).unwrap();
        assert_eq!(channel, ChannelId::ZERO);
        script.remote = read_handshake(body).unwrap().0.source;
        net.run_for(rtt);
        let reply = Message::Handshake(script.handshake(false, false));
        script.say(net, &[&[reply], more].concat());
        (script, peer)
    }

    pub(crate) fn handshake(&self, opening: bool, older: bool) -> Handshake<'_> {
        Handshake {
            source: self.local,
            version: Some(1),
            min_version: Some(1),
            swarm_id: opening.then(|| self.metadata.root.as_slice()),
            integrity_method: Some(1),
            hash_function: Some(self.metadata.function.code()),
            addressing: Some(self.metadata.addressing.code()),
            chunk_size: (!older).then(|| self.metadata.chunk_size.bytes()),
            ..Handshake::default()
        }
    }

    pub(crate) fn datagram(&self, channel: ChannelId, messages: &[Message<'_>]) -> Vec<u8> {
        let mut datagram = channel.value().to_be_bytes().to_vec();
        for message in messages {
            message.encode(&self.format, &mut datagram).unwrap();
        }
        datagram
    }

    /// Sends one datagram, which arrives at once.
    pub(crate) fn say(&self, net: &mut Net, messages: &[Message<'_>]) {
        let datagram = self.datagram(self.remote, messages);
        net.inject(self.host, self.address, &datagram);
    }

    /// Hands several datagrams over before the host does anything.
    pub(crate) fn say_together(&self, net: &mut Net, datagrams: &[Vec<u8>]) {
        net.inject_together(self.host, self.address, datagrams);
    }

    /// Announces everything.
    pub(crate) fn has_all(&self, net: &mut Net, sample: &Sample) {
        self.say(net, &[Message::Have(sample.geometry().all())]);
    }

    /// A datagram with `chunk` of `sample` and every hash that could be missing.
    pub(crate) fn data(&self, net: &Net, sample: &Sample, chunk: u64) -> Vec<u8> {
        let hashes = sample.proof(chunk);
        self.data_with(net, sample, chunk, &hashes)
    }

    /// A datagram with `hashes` alone.
    pub(crate) fn hashes(&self, hashes: &[(Bin, Hash)]) -> Vec<u8> {
        let messages: Vec<_> =
            hashes.iter().map(|(node, hash)| Message::Integrity { node: *node, hash: hash.as_slice() }).collect();
        self.datagram(self.remote, &messages)
    }

    /// A datagram with `chunk` of `sample` and `hashes`.
    pub(crate) fn data_with(&self, net: &Net, sample: &Sample, chunk: u64, hashes: &[(Bin, Hash)]) -> Vec<u8> {
        let mut messages: Vec<_> =
            hashes.iter().map(|(node, hash)| Message::Integrity { node: *node, hash: hash.as_slice() }).collect();
        let payload = sample.chunk(chunk);
        messages.push(Message::Data { chunk: ChunkIndex::new(chunk), timestamp: net.now.as_micros(), payload });
        self.datagram(self.remote, &messages)
    }

    /// Sends `chunk` with every hash that could be missing, `delay` after its timestamp.
    pub(crate) fn gives_late(&self, net: &mut Net, sample: &Sample, chunk: u64, delay: Duration) {
        let arrival = net.now;
        net.now = arrival - delay;
        let datagram = self.data(net, sample, chunk);
        net.now = arrival;
        net.inject(self.host, self.address, &datagram);
    }

    /// Sends `chunk` with every hash that could be missing.
    pub(crate) fn gives(&self, net: &mut Net, sample: &Sample, chunk: u64) {
        let datagram = self.data(net, sample, chunk);
        net.inject(self.host, self.address, &datagram);
    }

    /// Acknowledges the chunks that came, and returns them, in order.
    pub(crate) fn acknowledges(&self, net: &mut Net) -> Vec<u64> {
        let came = self.summary(net).data;
        for &chunk in &came {
            self.say(net, &[Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 1 }]);
        }
        came
    }

    pub(crate) fn take_raw(&self, net: &mut Net) -> Vec<Vec<u8>> {
        let (mine, rest) = std::mem::take(&mut net.extra).into_iter().partition(|(_, to, _)| *to == self.address);
        net.extra = rest;
        let mine: Vec<(SocketAddr, SocketAddr, Vec<u8>)> = mine;
        mine.into_iter().map(|(_, _, datagram)| datagram).collect()
    }

    /// The datagrams that came since the last call, keep-alives included.
    pub(crate) fn hears(&self, net: &mut Net) -> Vec<Heard> {
        let heard = self.take_raw(net).into_iter().filter_map(|datagram| {
            let (channel, body) = split_channel(&datagram).unwrap();
            // An opening that was repeated before it was answered is of no interest.
            (channel == self.local).then(|| Heard { body: body.to_vec(), format: self.format })
        });
        heard.collect()
    }

    /// The same, sorted by kind.
    pub(crate) fn summary(&self, net: &mut Net) -> Summary {
        let mut summary = Summary::default();
        for heard in self.hears(net) {
            summary.datagrams += 1;
            for message in heard.messages() {
                match message {
                    Message::Data { chunk, .. } => summary.data.push(chunk.value()),
                    Message::Integrity { node, .. } => summary.integrity.push(node),
                    Message::Request(range) => summary.requests.push(range),
                    Message::Cancel(range) => summary.cancels.push(range),
                    Message::Have(range) => summary.haves.push(range),
                    Message::Ack { range, delay } => summary.acks.push((range, delay)),
                    Message::Handshake(handshake) => summary.closed |= handshake.is_closing(),
                    Message::PexReq => summary.questions += 1,
                    Message::PexResV4(name) => summary.names.push(SocketAddr::V4(name)),
                    Message::PexResV6(name) => summary.names.push(SocketAddr::V6(name)),
                    Message::Choke => summary.chokes += 1,
                    Message::Unchoke => summary.unchokes += 1,
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
        summary
    }
}

impl Sample {
    pub(crate) fn geometry(&self) -> Geometry {
        self.tree.geometry().unwrap()
    }

    /// The bytes of `chunk`.
    pub(crate) fn chunk(&self, chunk: u64) -> &[u8] {
        let range = self.geometry().byte_range(ChunkRange::single(ChunkIndex::new(chunk)));
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The hash of any node, computed the slow way.
    pub(crate) fn node(&self, bin: Bin) -> Hash {
        let function = self.metadata.function;
        if bin.base_range().start() >= self.geometry().chunk_count() {
            return Hash::zero(function);
        }
        if let Some(hash) = self.tree.node(bin).and_then(Hash::from_slice) {
            return hash;
        }
        match bin.children() {
            None => function.leaf(self.chunk(bin.base_range().start())),
            Some((left, right)) => function.node(self.node(left).as_slice(), self.node(right).as_slice()),
        }
    }

    /// All peaks and all uncles of `chunk`, in the order of RFC 7574 §5.4 and §5.6.2.
    pub(crate) fn proof(&self, chunk: u64) -> Vec<(Bin, Hash)> {
        let geometry = self.geometry();
        let bins = uncles(&geometry, ChunkIndex::new(chunk), |_| false);
        peaks_needed(&geometry, false).chain(bins).map(|bin| (bin, self.node(bin))).collect()
    }
}
