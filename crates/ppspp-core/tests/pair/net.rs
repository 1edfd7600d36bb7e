//! Endpoints with storage in memory, joined by a network on a virtual clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ppspp_core::chunk::{ChunkAddressing, ChunkSize, Geometry, RangeSet};
use ppspp_core::integrity::{Hash, HashFunction, SavedGroup, SpanHasher, Tree, TreeBuilder, TreeParams};
use ppspp_core::{
    BatchLimit, Checkpoint, CloseReason, Content, DatagramMeta, Endpoint, EndpointConfig, Event, Instant, Metadata,
    PeerId, PeerSource, ReadError, StoreError, SwarmConfig, SwarmId,
};

/// Content and what describes it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tree: Tree,
    pub(crate) metadata: Metadata,
}

impl Sample {
    pub(crate) fn new(len: usize) -> Self {
        Self::with(len, HashFunction::Sha256, ChunkAddressing::Chunk32, 1024)
    }

    pub(crate) fn with(len: usize, function: HashFunction, addressing: ChunkAddressing, chunk_size: u32) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            })
            .collect();
        Self::of(bytes, function, addressing, chunk_size)
    }

    pub(crate) fn of(bytes: Vec<u8>, function: HashFunction, addressing: ChunkAddressing, chunk_size: u32) -> Self {
        let chunk_size = ChunkSize::new(chunk_size).unwrap();
        let params = TreeParams { function, chunk_size };
        let geometry = Geometry::new(bytes.len() as u64, chunk_size).unwrap();
        let mut builder = TreeBuilder::new(params, geometry);
        let spans: Vec<_> = builder.spans().collect();
        for span in spans {
            let mut hasher = SpanHasher::new(params, geometry, span);
            loop {
                let next = hasher.next_bytes();
                if next.is_empty() {
                    break;
                }
                hasher.push_group(&bytes[next.start as usize..next.end as usize]).unwrap();
            }
            builder.add(hasher.finish().unwrap()).unwrap();
        }
        let tree = builder.finish().unwrap();
        let metadata =
            Metadata { root: *tree.root(), function, addressing, chunk_size, content_length: Some(bytes.len() as u64) };
        Self { bytes, tree, metadata }
    }

    pub(crate) fn without_length(mut self) -> Self {
        self.metadata.content_length = None;
        self
    }
}

/// Where an endpoint keeps content.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault that a test switches on by itself")]
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fail_reads: bool,
    pub(crate) fail_writes: bool,
    /// What is written is confirmed and forgotten.
    pub(crate) discard: bool,
    /// Confirmations wait here while set.
    pub(crate) hold_writes: bool,
    pub(crate) held: Vec<(SwarmId, ppspp_core::chunk::ChunkRange)>,
}

/// An endpoint, its storage, and what it reported.
pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) swarm: SwarmId,
    pub(crate) disk: Disk,
    pub(crate) closed: Vec<CloseReason>,
    pub(crate) connected: Vec<PeerId>,
    pub(crate) complete: bool,
    pub(crate) changed: Vec<ppspp_core::chunk::ChunkRange>,
    pub(crate) size: Option<u64>,
    pub(crate) left: bool,
    pub(crate) clock_offset: u64,
    pub(crate) sent: u64,
    pub(crate) verified_bytes: u64,
    /// What verified bytes must equal, if a test cares.
    pub(crate) truth: Vec<u8>,
    /// Whether a datagram was allowed to be fragmented.
    pub(crate) fragmented: bool,
    reads: u64,
}

/// What the network does with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Deliver,
    Drop,
    Delay(Duration),
    Twice,
}

/// A host's access link. Without one, nothing but latency stands between hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Bytes per second, each way, IP and UDP headers counted.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// How much waits before either direction drops, in time.
    pub(crate) buffer: Duration,
    up_free: Instant,
    down_free: Instant,
}

impl Link {
    pub(crate) const fn new(up: u64, down: u64, buffer: Duration) -> Self {
        Self { up, down, buffer, up_free: Instant::ZERO, down_free: Instant::ZERO }
    }

    /// How long what is sent at `now` waits to go up.
    pub(crate) fn queue(&self, now: Instant) -> Duration {
        self.up_free.max(now) - now
    }

    /// When `len` bytes handed to a queue at `now` have passed it, or `None` if it is full.
    fn pass(now: Instant, free: &mut Instant, rate: u64, buffer: Duration, len: usize) -> Option<Instant> {
        let begin = now.max(*free);
        if begin - now > buffer {
            return None;
        }
        *free = begin + Duration::from_micros((len as u64 + IP_UDP) * 1_000_000 / rate);
        Some(*free)
    }
}

/// Bytes of IPv4 and UDP headers.
const IP_UDP: u64 = 28;

/// A datagram on its way.
struct Flight {
    to: usize,
    source: SocketAddr,
    datagram: Vec<u8>,
    /// Whether it waits in the receiver's link, or has passed it.
    queued: bool,
}

type Rule = Box<dyn FnMut(u64, usize, usize, &[u8]) -> Fate>;

/// The network and the clock.
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) latency: Duration,
    pub(crate) rule: Option<Rule>,
    pub(crate) log: Vec<(usize, usize, Vec<u8>)>,
    pub(crate) keep_log: bool,
    pub(crate) batch: usize,
    pub(crate) count: u64,
    flying: BTreeMap<(Instant, u64), Flight>,
    /// The hosts' access links, by index.
    pub(crate) links: BTreeMap<usize, Link>,
    pub(crate) extra: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    steps_at: (Instant, u32),
}

impl Net {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::from_micros(1_000_000_000),
            hosts: Vec::new(),
            latency: Duration::from_millis(10),
            rule: None,
            log: Vec::new(),
            keep_log: false,
            batch: 64,
            count: 0,
            flying: BTreeMap::new(),
            links: BTreeMap::new(),
            extra: Vec::new(),
            steps_at: (Instant::ZERO, 0),
        }
    }

    pub(crate) fn seeder(&mut self, sample: &Sample) -> usize {
        self.add(sample.metadata.clone(), Content::Seed { tree: sample.tree.clone() }, sample.bytes.clone())
    }

    pub(crate) fn leecher(&mut self, metadata: &Metadata) -> usize {
        self.add(metadata.clone(), Content::Fetch, Vec::new())
    }

    pub(crate) fn resumed(&mut self, metadata: &Metadata, saved: &Checkpoint, bytes: Vec<u8>) -> usize {
        let content = restore(metadata, saved);
        self.add(metadata.clone(), content, bytes)
    }

    pub(crate) fn add(&mut self, metadata: Metadata, content: Content, bytes: Vec<u8>) -> usize {
        self.add_with(EndpointConfig::default(), metadata, content, bytes)
    }

    pub(crate) fn add_with(
        &mut self,
        config: EndpointConfig,
        metadata: Metadata,
        content: Content,
        bytes: Vec<u8>,
    ) -> usize {
        let index = self.hosts.len();
        let mut seed = [7; 32];
        seed[0] = index as u8;
        let mut endpoint = Endpoint::new(Arc::new(config), seed, self.now);
        let swarm = endpoint.join(SwarmConfig { metadata, content }, self.now).unwrap();
        self.hosts.push(Host {
            endpoint,
            address: SocketAddr::from(([10, 0, 0, index as u8 + 1], 6778)),
            swarm,
            disk: Disk { bytes, ..Disk::default() },
            closed: Vec::new(),
            connected: Vec::new(),
            complete: false,
            changed: Vec::new(),
            size: None,
            left: false,
            clock_offset: 0,
            sent: 0,
            verified_bytes: 0,
            truth: Vec::new(),
            fragmented: false,
            reads: 0,
        });
        index
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize) -> PeerId {
        let address = self.hosts[to].address;
        let now = self.local(from);
        let host = &mut self.hosts[from];
        host.endpoint.add_peer(host.swarm, address, PeerSource::Trusted, now).unwrap()
    }

    /// The time as host `index` sees it.
    pub(crate) fn local(&self, index: usize) -> Instant {
        self.now + Duration::from_micros(self.hosts[index].clock_offset)
    }

    /// Lets one host act on everything it has.
    pub(crate) fn drain(&mut self, index: usize) {
        let now = self.local(index);
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 10_000, "one input keeps host {index} busy for ever");
            let mut idle = true;
            while let Some(event) = self.hosts[index].endpoint.poll_event() {
                idle = false;
                self.hosts[index].on_event(event, now);
            }
            let mut buf = Vec::new();
            let limit = BatchLimit { datagrams: NonZeroUsize::new(self.batch).unwrap(), bytes: 65_507 };
            while let Some(transmit) = self.hosts[index].endpoint.poll_transmit(now, limit, &mut buf) {
                idle = false;
                assert_eq!(transmit.size, buf.len());
                // R3: what may be fragmented leaves alone.
                assert!(!transmit.may_fragment || transmit.segment_size.is_none());
                self.hosts[index].fragmented |= transmit.may_fragment;
                let segment = transmit.segment_size.map_or(buf.len(), NonZeroUsize::get);
                for datagram in buf.chunks(segment) {
                    self.hosts[index].sent += 1;
                    self.send(index, transmit.destination, datagram.to_vec());
                }
                buf.clear();
            }
            // What is to be sent may have to be read first.
            match self.hosts[index].endpoint.poll_event() {
                Some(event) => self.hosts[index].on_event(event, now),
                None if idle => break,
                None => {}
            }
        }
    }

    fn send(&mut self, from: usize, destination: SocketAddr, datagram: Vec<u8>) {
        let to = self.hosts.iter().position(|host| host.address == destination);
        let number = self.count;
        self.count += 1;
        if self.keep_log {
            self.log.push((from, to.unwrap_or(usize::MAX), datagram.clone()));
        }
        let Some(to) = to else {
            self.extra.push((self.hosts[from].address, destination, datagram));
            return;
        };
        let fate = self.rule.as_mut().map_or(Fate::Deliver, |rule| rule(number, from, to, &datagram));
        let source = self.hosts[from].address;
        let mut at = self.now;
        if let Some(link) = self.links.get_mut(&from) {
            let Some(passed) = Link::pass(at, &mut link.up_free, link.up, link.buffer, datagram.len()) else { return };
            at = passed;
        }
        let at = at + self.latency;
        let flight = |datagram| Flight { to, source, datagram, queued: false };
        match fate {
            Fate::Drop => {}
            Fate::Deliver => {
                self.flying.insert((at, number << 1), flight(datagram));
            }
            Fate::Delay(more) => {
                self.flying.insert((at + more, number << 1), flight(datagram));
            }
            Fate::Twice => {
                self.flying.insert((at, number << 1), flight(datagram.clone()));
                self.flying.insert((at, (number << 1) + 1), flight(datagram));
            }
        }
    }

    /// Hands a datagram to a host as if it came from `source`, now.
    pub(crate) fn inject(&mut self, to: usize, source: SocketAddr, datagram: &[u8]) {
        let now = self.local(to);
        self.hosts[to].endpoint.handle_datagram(now, DatagramMeta::from_remote(source), datagram);
        self.drain(to);
    }

    /// Hands several datagrams to a host before it acts on any.
    pub(crate) fn inject_together(&mut self, to: usize, source: SocketAddr, datagrams: &[Vec<u8>]) {
        self.inject_mixed(to, &datagrams.iter().map(|datagram| (source, datagram)).collect::<Vec<_>>());
    }

    /// The same of several peers' datagrams.
    pub(crate) fn inject_mixed(&mut self, to: usize, datagrams: &[(SocketAddr, &Vec<u8>)]) {
        let now = self.local(to);
        for (source, datagram) in datagrams {
            self.hosts[to].endpoint.handle_datagram(now, DatagramMeta::from_remote(*source), datagram);
        }
        self.drain(to);
    }

    /// The same of datagrams that the host's kernel coalesced: those of one length, and a shorter one after them, at once.
    pub(crate) fn inject_coalesced(&mut self, to: usize, source: SocketAddr, datagrams: &[Vec<u8>]) {
        let now = self.local(to);
        let mut rest = datagrams;
        while let [first, others @ ..] = rest {
            let alike = others.iter().take_while(|next| next.len() == first.len()).count();
            let short = others.get(alike).is_some_and(|next| next.len() < first.len());
            let (batch, after) = rest.split_at(1 + alike + usize::from(short));
            let meta = DatagramMeta::from_remote(source);
            let segment = NonZeroUsize::new(first.len()).filter(|_| batch.len() > 1);
            self.hosts[to].endpoint.handle_datagrams(now, meta, &batch.concat(), segment);
            rest = after;
        }
        self.drain(to);
    }

    /// Advances to the next thing that happens; returns whether there was any before `until`.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        for index in 0..self.hosts.len() {
            self.drain(index);
        }
        let arrival = self.flying.keys().next().map(|&(at, _)| at);
        let timeout = (0..self.hosts.len())
            .filter_map(|index| {
                let offset = Duration::from_micros(self.hosts[index].clock_offset);
                self.hosts[index].endpoint.poll_timeout().map(|at| at - offset)
            })
            .min();
        let Some(next) = arrival.into_iter().chain(timeout).min() else {
            self.now = until;
            return false;
        };
        if next > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(next);
        self.steps_at = if self.steps_at.0 == self.now { (self.now, self.steps_at.1 + 1) } else { (self.now, 0) };
        assert!(self.steps_at.1 < 1000, "time stands still at {:?}: a deadline is not acted on", self.now);
        while let Some((&(at, number), _)) = self.flying.first_key_value() {
            if at > self.now {
                break;
            }
            let mut flight = self.flying.remove(&(at, number)).unwrap();
            if let Some(link) = self.links.get_mut(&flight.to)
                && !flight.queued
            {
                let len = flight.datagram.len();
                if let Some(passed) = Link::pass(at, &mut link.down_free, link.down, link.buffer, len) {
                    flight.queued = true;
                    self.flying.insert((passed, number), flight);
                }
                continue;
            }
            let now = self.local(flight.to);
            let meta = DatagramMeta::from_remote(flight.source);
            self.hosts[flight.to].endpoint.handle_datagram(now, meta, &flight.datagram);
        }
        for index in 0..self.hosts.len() {
            let now = self.local(index);
            self.hosts[index].endpoint.handle_timeout(now);
        }
        true
    }

    /// Runs until `done` or for `time`; returns whether `done` came true.
    pub(crate) fn run(&mut self, time: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now + time;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(until) {
                for index in 0..self.hosts.len() {
                    self.drain(index);
                }
                return done(self);
            }
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    pub(crate) fn complete(&mut self, index: usize, time: Duration) -> bool {
        self.run(time, |net| net.hosts[index].complete)
    }

    /// Runs until `index` is complete and checks its bytes.
    #[track_caller]
    pub(crate) fn fetches(&mut self, index: usize, sample: &Sample, time: Duration) {
        let done = self.complete(index, time);
        assert!(done, "not complete after {time:?}: {:?}", self.hosts[index].progress());
        assert!(self.hosts[index].disk.bytes == sample.bytes, "wrong bytes were stored");
    }
}

impl Host {
    pub(crate) fn progress(&self) -> Option<ppspp_core::Progress> {
        self.endpoint.swarm(self.swarm).map(|view| view.progress())
    }

    pub(crate) fn stats(&self) -> ppspp_core::TransferStats {
        self.endpoint.swarm(self.swarm).unwrap().stats()
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    pub(crate) fn checkpoint(&mut self) -> Checkpoint {
        self.endpoint.take_checkpoint(self.swarm).unwrap()
    }

    pub(crate) fn release_writes(&mut self, now: Instant) {
        self.disk.hold_writes = false;
        for (swarm, range) in std::mem::take(&mut self.disk.held) {
            self.endpoint.confirm_stored(swarm, range, Ok(()), now);
        }
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Verified { swarm, range, offset, data } => {
                self.verified_bytes += data.len() as u64;
                if self.disk.fail_writes {
                    self.endpoint.confirm_stored(swarm, range, Err(StoreError), now);
                    return;
                }
                let end = offset as usize + data.len();
                let same = self.truth.get(offset as usize..end).is_none_or(|truth| truth == &data[..]);
                assert!(same, "wrong bytes passed for verified at {offset}");
                if self.disk.bytes.len() < end {
                    self.disk.bytes.resize(end, 0);
                }
                if !self.disk.discard {
                    self.disk.bytes[offset as usize..end].copy_from_slice(&data);
                }
                if self.disk.hold_writes {
                    self.disk.held.push((swarm, range));
                } else {
                    self.endpoint.confirm_stored(swarm, range, Ok(()), now);
                }
            }
            Event::ReadNeeded { token, offset, len, .. } => {
                self.reads += 1;
                let start = offset as usize;
                let data = self.disk.bytes.get(start..start + len).map(Bytes::copy_from_slice).ok_or(ReadError);
                let data = if self.disk.fail_reads { Err(ReadError) } else { data };
                self.endpoint.provide(token, data, now);
            }
            Event::PeerConnected { peer, .. } => self.connected.push(peer),
            Event::PeerClosed { reason, .. } => self.closed.push(reason),
            Event::SizeKnown { geometry, .. } => self.size = geometry.content_length(),
            Event::Complete { .. } => self.complete = true,
            Event::ContentChanged { range, .. } => self.changed.push(range),
            Event::SwarmClosed { .. } => self.left = true,
            _ => {}
        }
    }
}

/// What a driver would do with a checkpoint after a restart.
pub(crate) fn restore(metadata: &Metadata, saved: &Checkpoint) -> Content {
    let geometry = metadata.geometry().unwrap().unwrap();
    let params = TreeParams { function: metadata.function, chunk_size: metadata.chunk_size };
    let peaks: Vec<(ppspp_core::chunk::Bin, Hash)> = saved.peaks.clone();
    let tree = Tree::import(params, metadata.root, geometry, &peaks, |page| {
        saved.pages.iter().find(|(number, _)| *number == page).map(|(_, bytes)| bytes.clone())
    })
    .unwrap();
    let stored: RangeSet = saved.stored.clone();
    let open_groups: Vec<SavedGroup> = saved.open_groups.clone();
    Content::Resume { tree, stored, open_groups }
}
