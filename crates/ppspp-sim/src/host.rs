//! A host with a peer: the core's endpoint with a disk, a clock and a place in the network.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ppspp_core::chunk::{Bin, RangeSet};
use ppspp_core::integrity::{Hash, SavedGroup, Tree, TreeParams};
use ppspp_core::{
    BatchLimit, Content as Holding, DatagramMeta, Endpoint, EndpointConfig, Event, PeerSource, StoreError, SwarmConfig,
    SwarmId, TransferStats, Transmit,
};

use crate::check::{Fact, Scene, Watch};
use crate::content::Content;
use crate::disk::{Disk, Operation};
use crate::id::HostId;
use crate::meter::{Account, Meter};
use crate::network::{Happening, Network};
use crate::packet::{Packet, Size};
use crate::report::HostResult;
use crate::time::{Clock, SimTime};

/// Datagrams of one batch, as a driver with GSO would ask for.
const BATCH: BatchLimit = BatchLimit {
    datagrams: match NonZeroUsize::new(32) {
        Some(datagrams) => datagrams,
        None => NonZeroUsize::MIN,
    },
    bytes: 65_507,
};
/// Payload bytes that a paused host's socket holds: a common default of systems.
const SOCKET_BUFFER: usize = 212_992;
/// How often a fetching host asks again for peers it has no channel to, as one that asks its tracker again.
const REDIAL: Duration = Duration::from_secs(15);
/// Events that one input may bring about: reads and writes that take no time bring about more at once.
const MOST_EVENTS: u32 = 100_000;
/// How often the state of a swarm is saved on hosts that may crash.
const SAVE: Duration = Duration::from_secs(1);

/// What a host does in its swarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// It has everything from the beginning.
    Seeder,
    /// It fetches, and serves what it has.
    Leecher,
}

/// What an earlier life saved.
#[derive(Debug, Default)]
struct Saved {
    pages: BTreeMap<u64, Vec<u8>>,
    peaks: Vec<(Bin, Hash)>,
    stored: RangeSet,
    open_groups: Vec<SavedGroup>,
}

/// An endpoint in its swarm.
#[derive(Debug)]
struct Life {
    endpoint: Endpoint,
    swarm: SwarmId,
    account: Account,
}

impl Life {
    /// Lets the endpoint do something, on its account.
    fn act<R>(&mut self, act: impl FnOnce(&mut Endpoint, SwarmId) -> R) -> R {
        let Self { endpoint, swarm, account } = self;
        account.of(|| act(endpoint, *swarm))
    }
}

/// A host with a peer.
#[derive(Debug)]
pub(crate) struct PeerHost {
    pub(crate) id: HostId,
    pub(crate) role: Role,
    pub(crate) address: SocketAddrV4,
    pub(crate) content: Content,
    pub(crate) config: Arc<EndpointConfig>,
    pub(crate) clock: Clock,
    pub(crate) knows: Vec<SocketAddrV4>,
    pub(crate) disk: Disk,
    pub(crate) joined_at: Option<SimTime>,
    pub(crate) completed_at: Option<SimTime>,
    /// Whether its state is saved now and then.
    pub(crate) saves: bool,
    meter: Option<Meter>,
    life: Option<Box<Life>>,
    lives: u32,
    saved: Saved,
    save_at: SimTime,
    redial_at: SimTime,
    armed: SimTime,
    /// Datagrams that wait while the host is paused.
    paused: Option<Vec<Packet>>,
    /// What earlier lives moved.
    past: TransferStats,
}

/// What a host is made from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) id: HostId,
    pub(crate) role: Role,
    pub(crate) address: SocketAddrV4,
    pub(crate) content: Content,
    pub(crate) config: Arc<EndpointConfig>,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) saves: bool,
    pub(crate) meter: Option<Meter>,
}

/// A scene of a host, borrowing only what checkers see.
macro_rules! scene {
    ($host:ident, $net:ident) => {
        Scene {
            now: $net.now,
            host: $host.id,
            content: &$host.content,
            disk: &$host.disk,
            config: &$host.config,
            memory: $host.life.as_ref().and_then(|life| life.account.bytes()),
        }
    };
}

impl PeerHost {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { id, role, address, content, config, clock, mut disk, saves, meter } = parts;
        if role == Role::Seeder {
            disk.fill();
        }
        Self {
            id,
            role,
            address,
            content,
            config,
            clock,
            knows: Vec::new(),
            disk,
            joined_at: None,
            completed_at: None,
            saves,
            meter,
            life: None,
            lives: 0,
            saved: Saved::default(),
            save_at: SimTime::NEVER,
            redial_at: SimTime::NEVER,
            armed: SimTime::NEVER,
            paused: None,
            past: TransferStats::default(),
        }
    }

    /// Starts the endpoint with what the disk holds; false if it would not start.
    pub(crate) fn start(&mut self, net: &mut Network, watch: &mut Watch) -> Result<(), String> {
        if self.life.is_some() {
            return Ok(());
        }
        let now = self.clock.read(net.now);
        self.lives += 1;
        let seed = net.streams.key(&format!("host/{}/endpoint/{}", self.id.0, self.lives));
        let config = SwarmConfig { metadata: self.content.metadata().clone(), content: self.holding() };
        let mut account = Account::new(self.meter);
        let mut endpoint = account.of(|| Endpoint::new(self.config.clone(), seed, now));
        let swarm = account.of(|| endpoint.join(config, now)).map_err(|error| error.to_string())?;
        self.life = Some(Box::new(Life { endpoint, swarm, account }));
        self.joined_at.get_or_insert(net.now);
        self.tell(net, watch, &Fact::Started);
        net.tape.note(net.now, self.id, format_args!("joins"));
        self.save_at = if self.saves { net.now + SAVE } else { SimTime::NEVER };
        self.dial(net, watch);
        self.drain(net, watch);
        Ok(())
    }

    /// What the endpoint is told to have.
    fn holding(&self) -> Holding {
        if self.role == Role::Seeder {
            return Holding::Seed { tree: self.content.tree().clone() };
        }
        let spec = self.content.spec();
        let params = TreeParams { function: spec.function, chunk_size: spec.chunk_size };
        let pages = |page| self.saved.pages.get(&page).cloned();
        let root = self.content.metadata().root;
        match Tree::import(params, root, *self.content.geometry(), &self.saved.peaks, pages) {
            Ok(tree) if !self.saved.stored.is_empty() => {
                Holding::Resume { tree, stored: self.saved.stored.clone(), open_groups: self.saved.open_groups.clone() }
            }
            _ => Holding::Fetch,
        }
    }

    /// Opens channels to those it knows and has none to.
    fn dial(&mut self, net: &Network, watch: &mut Watch) {
        let now = self.clock.read(net.now);
        for index in 0..self.knows.len() {
            let Some(life) = &mut self.life else { return };
            let address = SocketAddr::V4(self.knows[index]);
            if self.knows[index] != self.address
                && life.act(|endpoint, swarm| endpoint.add_peer(swarm, address, PeerSource::Trusted, now)).is_ok()
            {
                self.tell(net, watch, &Fact::Dialled(address));
            }
        }
        let fetches = self.completed_at.is_none() && self.role == Role::Leecher;
        self.redial_at = if fetches && !self.knows.is_empty() { net.now + REDIAL } else { SimTime::NEVER };
    }

    /// Ends the endpoint without a word, if there is one; `keep` tells whether the disk is there afterwards.
    pub(crate) fn crash(&mut self, net: &mut Network, keep: bool) {
        self.past = self.transfer();
        self.life = None;
        net.tape.note(net.now, self.id, format_args!("crashes"));
        self.disk.crash(net.now);
        self.paused = None;
        self.armed = SimTime::NEVER;
        if !keep {
            self.disk.wipe();
            self.saved = Saved::default();
        }
        // What was complete may not be any more.
        if self.role == Role::Leecher && !self.disk.holds(self.content.geometry().all()) {
            self.completed_at = None;
        }
    }

    /// Leaves the swarm in order.
    pub(crate) fn leave(&mut self, net: &mut Network, watch: &mut Watch) {
        let now = self.clock.read(net.now);
        self.save(net.now);
        self.save_at = SimTime::NEVER;
        // A swarm that was left tells nothing any more.
        self.past = self.transfer();
        let Some(life) = &mut self.life else { return };
        life.act(|endpoint, _| endpoint.close(now));
        net.tape.note(net.now, self.id, format_args!("leaves"));
        self.drain(net, watch);
        self.life = None;
        // Names of swarms and reads begin anew in the next life, and its socket is another.
        self.disk.release();
        self.paused = None;
        self.armed = SimTime::NEVER;
    }

    /// The process stops; its socket goes on.
    pub(crate) fn pause(&mut self, net: &mut Network) {
        if self.life.is_some() && self.paused.is_none() {
            net.tape.note(net.now, self.id, format_args!("pauses"));
            self.paused = Some(Vec::new());
        }
    }

    /// The process goes on.
    pub(crate) fn unpause(&mut self, net: &mut Network, watch: &mut Watch) {
        let Some(waiting) = self.paused.take() else { return };
        net.tape.note(net.now, self.id, format_args!("goes on"));
        for packet in waiting {
            self.take(&packet, net, watch);
        }
        self.on_wake(net, watch);
    }

    /// Its address changes.
    pub(crate) fn move_away(&mut self, net: &mut Network, watch: &mut Watch) {
        self.address = net.move_host(self.id, self.address);
        net.tape.note(net.now, self.id, format_args!("moves to {}", self.address));
        let now = self.clock.read(net.now);
        if let Some(life) = &mut self.life {
            life.act(|endpoint, _| endpoint.network_changed(now));
            self.drain(net, watch);
        }
    }

    /// Opens a channel to another peer, and knows it from now on.
    pub(crate) fn meet(&mut self, address: SocketAddrV4, net: &mut Network, watch: &mut Watch) {
        self.knows.push(address);
        self.dial(net, watch);
        self.drain(net, watch);
    }

    /// Takes a packet; false if nobody is there to take it.
    pub(crate) fn on_packet(&mut self, packet: &Packet, net: &mut Network, watch: &mut Watch) -> bool {
        if self.life.is_none() || packet.destination.port() != self.address.port() {
            return false;
        }
        if let Some(waiting) = &mut self.paused {
            let held: usize = waiting.iter().map(|packet| packet.payload.len()).sum();
            if held + packet.payload.len() > SOCKET_BUFFER {
                return false;
            }
            waiting.push(packet.clone());
            return true;
        }
        self.take(packet, net, watch);
        self.drain(net, watch);
        true
    }

    fn take(&mut self, packet: &Packet, net: &Network, watch: &mut Watch) {
        self.tell(net, watch, &Fact::Received { from: packet.source, payload: &packet.payload });
        let now = self.clock.read(net.now);
        let Some(life) = &mut self.life else { return };
        let meta = DatagramMeta::from_remote(SocketAddr::V4(packet.source));
        life.act(|endpoint, _| endpoint.handle_datagram(now, meta, &packet.payload));
    }

    /// Acts on the time.
    pub(crate) fn on_wake(&mut self, net: &mut Network, watch: &mut Watch) {
        if net.now >= self.armed {
            self.armed = SimTime::NEVER;
        }
        if self.paused.is_some() || self.life.is_none() {
            return;
        }
        if net.now >= self.redial_at {
            self.dial(net, watch);
        }
        if net.now >= self.save_at {
            self.save(net.now);
        }
        let now = self.clock.read(net.now);
        if let Some(life) = &mut self.life {
            life.act(|endpoint, _| endpoint.handle_timeout(now));
        }
        self.drain(net, watch);
    }

    fn save(&mut self, now: SimTime) {
        self.save_at = now + SAVE;
        let Some(life) = &mut self.life else { return };
        let Some(checkpoint) = life.endpoint.take_checkpoint(life.swarm) else { return };
        self.saved.pages.extend(checkpoint.pages);
        self.saved.peaks = checkpoint.peaks;
        self.saved.stored = checkpoint.stored;
        self.saved.open_groups = checkpoint.open_groups;
    }

    /// The disk is done with an operation.
    pub(crate) fn on_disk(&mut self, number: u64, net: &mut Network, watch: &mut Watch) {
        let Some(operation) = self.disk.end(number) else { return };
        self.finish(operation, net, watch);
        if self.paused.is_none() {
            self.drain(net, watch);
        }
    }

    fn finish(&mut self, operation: Operation, net: &Network, watch: &mut Watch) {
        let now = self.clock.read(net.now);
        match operation {
            Operation::Read { token, range } => {
                let bytes = self.disk.read(range);
                self.tell(net, watch, &Fact::Read(range));
                let Some(life) = &mut self.life else { return };
                life.act(|endpoint, _| endpoint.provide(token, Ok(bytes), now));
            }
            Operation::Write { swarm, range } => {
                let good = self.disk.write(net.now, range);
                let Some(swarm) = swarm else { return };
                self.tell(net, watch, &Fact::Stored { range, good });
                let Some(life) = &mut self.life else { return };
                let stored = if good { Ok(()) } else { Err(StoreError) };
                life.act(|endpoint, _| endpoint.confirm_stored(swarm, range, stored, now));
            }
        }
    }

    /// Lets the endpoint act on everything it has, and sees to being woken.
    fn drain(&mut self, net: &mut Network, watch: &mut Watch) {
        let mut left = MOST_EVENTS;
        loop {
            self.answer(&mut left, net, watch);
            // Sending asks for reads, even where it yields nothing.
            if !self.transmit(net, watch) && !self.answer(&mut left, net, watch) {
                break;
            }
        }
        self.arm(net);
    }

    /// Acts on the endpoint's events; returns whether there were any.
    fn answer(&mut self, left: &mut u32, net: &mut Network, watch: &mut Watch) -> bool {
        let mut any = false;
        while let Some(event) = self.life.as_mut().and_then(|life| life.act(|endpoint, _| endpoint.poll_event())) {
            let Some(fewer) = left.checked_sub(1) else {
                watch.fail(&scene!(self, net), "time goes on", format!("{MOST_EVENTS} events came of one input"));
                return false;
            };
            *left = fewer;
            any = true;
            self.on_event(event, net, watch);
        }
        any
    }

    /// Sends what the endpoint has; returns whether there was any.
    fn transmit(&mut self, net: &mut Network, watch: &mut Watch) -> bool {
        let now = self.clock.read(net.now);
        let mut buf = std::mem::take(&mut net.scratch);
        buf.clear();
        let transmit = self.life.as_mut().and_then(|life| life.act(|it, _| it.poll_transmit(now, BATCH, &mut buf)));
        if let Some(Transmit { destination: SocketAddr::V4(destination), segment_size, may_fragment, .. }) = transmit {
            let segment = segment_size.map_or(buf.len(), NonZeroUsize::get);
            for datagram in buf.chunks(segment.max(1)) {
                watch.sent(&scene!(self, net), destination.into(), datagram);
                let size = Size::datagram(datagram.len(), may_fragment);
                net.send(self.id, self.address, destination, size, datagram);
            }
        }
        net.scratch = buf;
        transmit.is_some()
    }

    /// Plans the next wake, unless one comes no later.
    fn arm(&mut self, net: &mut Network) {
        let Some(life) = &self.life else { return };
        let timeout = life.endpoint.poll_timeout().map_or(SimTime::NEVER, |at| self.clock.when(at));
        let next = timeout.min(self.redial_at).min(self.save_at).max(net.now);
        if next < self.armed {
            self.armed = next;
            net.queue.plan(next, Happening::Wake(self.id));
        }
    }

    fn on_event(&mut self, event: Event, net: &mut Network, watch: &mut Watch) {
        match event {
            Event::ReadNeeded { token, range, .. } => {
                net.tape.note(net.now, self.id, format_args!("reads {}..{}", range.start(), range.end()));
                self.tell(net, watch, &Fact::ReadNeeded(range));
                self.begin(Operation::Read { token, range }, range, net, watch);
            }
            Event::Verified { swarm, range, offset, data } => {
                net.tape.note(net.now, self.id, format_args!("stores {}..{}", range.start(), range.end()));
                self.tell(net, watch, &Fact::Verified { range, offset, data: &data });
                // The buffer was the endpoint's.
                if let Some(life) = &mut self.life {
                    life.act(|_, _| drop(data));
                }
                self.begin(Operation::Write { swarm: Some(swarm), range }, range, net, watch);
            }
            Event::PeerConnected { address, .. } => {
                net.tape.note(net.now, self.id, format_args!("connected {address}"));
                self.tell(net, watch, &Fact::Connected(address));
            }
            Event::PeerClosed { address, reason, .. } => {
                net.tape.note(net.now, self.id, format_args!("closed {address} {reason}"));
                self.tell(net, watch, &Fact::Closed(address, reason));
            }
            Event::ContentChanged { range, .. } => {
                net.tape.note(net.now, self.id, format_args!("changed {}..{}", range.start(), range.end()));
                self.tell(net, watch, &Fact::Changed(range));
            }
            Event::Complete { .. } => {
                net.tape.note(net.now, self.id, format_args!("complete"));
                self.completed_at.get_or_insert(net.now);
                self.tell(net, watch, &Fact::Complete);
            }
            _ => {}
        }
    }

    /// Begins an operation; what takes no time is done at once.
    fn begin(
        &mut self,
        operation: Operation,
        range: ppspp_core::chunk::ChunkRange,
        net: &mut Network,
        watch: &mut Watch,
    ) {
        match self.disk.schedule(net.now, range) {
            None => self.finish(operation, net, watch),
            Some(at) => {
                let number = self.disk.begin(operation);
                net.queue.plan(at, Happening::Disk(self.id, number));
            }
        }
    }

    fn tell(&self, net: &Network, watch: &mut Watch, fact: &Fact<'_>) {
        watch.tell(&scene!(self, net), fact);
    }

    /// Has the state of its channels looked at.
    pub(crate) fn sample(&self, net: &Network, watch: &mut Watch) {
        let Some(life) = &self.life else { return };
        if let Some(view) = life.endpoint.swarm(life.swarm) {
            let peers: Vec<_> = view.peers().collect();
            self.tell(net, watch, &Fact::Sampled(&peers));
        }
    }

    /// What it moved, in all its lives.
    pub(crate) fn transfer(&self) -> TransferStats {
        let mut sum = self.past;
        if let Some(life) = &self.life
            && let Some(view) = life.endpoint.swarm(life.swarm)
        {
            sum.add(&view.stats());
        }
        sum
    }

    /// How it fared.
    pub(crate) fn result(&self) -> HostResult {
        let transfer = self.transfer();
        HostResult {
            host: self.id.0,
            role: match self.role {
                Role::Seeder => "seeder",
                Role::Leecher => "leecher",
            },
            completed_after: self.completed_at.zip(self.joined_at).map(|(done, joined)| done.since(joined)),
            stored: self.disk.bytes_stored(),
            delivered: transfer.content_bytes_received,
            sent: transfer.content_bytes_sent,
            chunks_received: transfer.chunks_received,
            duplicate_chunks: transfer.duplicate_chunks,
            chunks_resent: transfer.chunks_resent,
        }
    }

    /// A sentence on its state, for a report on who is not done.
    pub(crate) fn state(&self) -> String {
        let Some(life) = &self.life else { return "is down".into() };
        let Some(view) = life.endpoint.swarm(life.swarm) else { return "has left".into() };
        let progress = view.progress();
        let length = self.content.spec().length;
        format!(
            "has {} of {length} bytes stored, {} to check, {} peers of which {} seed",
            progress.bytes_stored, progress.bytes_to_check, progress.peers, progress.seeders
        )
    }
}
