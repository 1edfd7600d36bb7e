//! Two live endpoints on a virtual clock, and between them a network that does as the input says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ppspp_core::{
    BatchLimit, CloseReason, Content, DatagramMeta, Endpoint, EndpointConfig, Event, Instant, Misbehaviour, PeerSource,
    SwarmConfig, SwarmId,
};

use super::content::{Sample, samples, small_config};
use super::input::Input;

/// The endpoints, by index.
const SEEDER: usize = 0;
const LEECHER: usize = 1;
/// Steps of the clock that are bent; then the network behaves.
const MAX_BENT_STEPS: usize = 4096;
/// Steps of the clock at one instant: more means that a deadline is not acted on.
const MAX_STEPS_AT_ONCE: u32 = 256;
/// Events and datagrams that one endpoint may yield in one step.
const MAX_EVENTS_PER_STEP: usize = 1024;
const MAX_DATAGRAMS_PER_STEP: usize = 1024;
/// Datagrams that can be sent once more.
const KEPT: usize = 64;
/// How often the application looks whether it has a peer.
const LOOK: Duration = Duration::from_secs(60);
/// Time for a transfer on a good network: three minutes until a channel is given up (RFC 7574 §3.12), and the rest for
/// timeouts that grew during the outage.
const CALM: Duration = Duration::from_secs(20 * 60);
/// The same, if one endpoint shuns the other: for a day at most.
const FORGIVENESS: Duration = Duration::from_secs(2 * 24 * 3600);

/// Bends the datagrams of a transfer as the input says, and then sees it completed.
pub fn mangled_pair(data: &[u8]) {
    let mut world = World::new(Input::new(data));
    for _ in 0..MAX_BENT_STEPS {
        if world.input.is_empty() || !world.step() {
            break;
        }
    }
    world.input = Input::new(&[]);
    world.calm = true;
    world.recover();
    world.close();
}

/// One endpoint and its application.
struct Host {
    endpoint: Endpoint,
    swarm: SwarmId,
    stored: Vec<u8>,
    complete: bool,
    /// Whether it opens channels to the other.
    dials: bool,
    /// Whether it accused the other of anything.
    accuses: bool,
}

struct World<'a> {
    input: Input<'a>,
    sample: &'static Sample,
    hosts: [Host; 2],
    limits_channels: usize,
    latency: Duration,
    now: Instant,
    steps_at: (Instant, u32),
    /// Datagrams on their way by arrival and number: receiver, source, bytes.
    flying: BTreeMap<(Instant, u64), (usize, SocketAddr, Vec<u8>)>,
    sent: u64,
    /// Datagrams of the past and whom they were for.
    kept: Vec<(usize, Vec<u8>)>,
    /// Datagrams of a burst still to be dropped.
    dropping: u8,
    /// Whether a datagram arrived that nobody sent, which only an attacker can do.
    forged: bool,
    /// Bytes that came from, and went to, an address of which nobody is.
    stranger: (usize, usize),
    calm: bool,
    look_at: Instant,
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + u8::from(host == LEECHER)], 6778))
}

/// An address that an attacker takes in vain.
fn stranger() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 6778))
}

/// The samples, and one of 200 KiB that fills a window.
fn sample(choice: u8) -> &'static Sample {
    static LARGE: OnceLock<Option<Sample>> = OnceLock::new();
    let small = &samples()[usize::from(choice) % samples().len()];
    if choice < 192 { small } else { LARGE.get_or_init(Sample::large).as_ref().unwrap_or(small) }
}

impl<'a> World<'a> {
    fn new(mut input: Input<'a>) -> Self {
        let sample = sample(input.u8());
        let mode = input.u8();
        let config = if mode & 1 == 0 { Arc::new(EndpointConfig::default()) } else { small_config() };
        let now = Instant::from_micros(1 << 40);
        let mut metadata = sample.metadata.clone();
        let seeder = Content::Seed { tree: sample.tree.clone() };
        let seeder = Host::new(&config, 1, metadata.clone(), seeder, sample.bytes.clone(), now);
        if mode & 2 == 2 {
            metadata.content_length = None;
        }
        let mut leecher = Host::new(&config, 2, metadata, Content::Fetch, vec![0; sample.bytes.len()], now);
        let mut seeder = seeder;
        // One of them opens the channel, or both at once (R9).
        (seeder.dials, leecher.dials) = match mode >> 2 & 3 {
            0 | 1 => (false, true),
            2 => (true, false),
            _ => (true, true),
        };
        Self {
            sample,
            hosts: [seeder, leecher],
            limits_channels: config.limits.channels,
            latency: Duration::from_millis(1 + u64::from(input.u8())),
            now,
            steps_at: (now, 0),
            flying: BTreeMap::new(),
            sent: 0,
            kept: Vec::new(),
            dropping: 0,
            forged: false,
            stranger: (0, 0),
            calm: false,
            look_at: now,
            input,
        }
    }

    /// Lets everybody act, and the clock go on to what happens next; returns whether anything ever will.
    fn step(&mut self) -> bool {
        self.look();
        self.drain(SEEDER);
        self.drain(LEECHER);
        let arrival = self.flying.first_key_value().map(|(&(at, _), _)| at);
        let timeouts = self.hosts.iter().filter_map(|host| host.endpoint.poll_timeout());
        let Some(next) = timeouts.chain(arrival).chain([self.look_at]).min() else { return false };
        self.advance_to(next);
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, source, datagram) = entry.remove();
            if source == stranger() {
                self.stranger.0 += datagram.len();
            }
            self.hosts[to].endpoint.handle_datagram(self.now, DatagramMeta::from_remote(source), &datagram);
        }
        for host in &mut self.hosts {
            host.endpoint.handle_timeout(self.now);
        }
        true
    }

    fn advance_to(&mut self, next: Instant) {
        self.now = self.now.max(next);
        self.steps_at = if self.steps_at.0 == self.now { (self.now, self.steps_at.1 + 1) } else { (self.now, 0) };
        assert!(self.steps_at.1 < MAX_STEPS_AT_ONCE, "time stands still at {:?}", self.now);
    }

    /// What an application does about an endpoint without peers: it names one again.
    fn look(&mut self) {
        if self.now < self.look_at {
            return;
        }
        self.look_at = self.now + LOOK;
        for (index, host) in self.hosts.iter_mut().enumerate() {
            let alone = host.endpoint.swarm(host.swarm).is_some_and(|view| view.peers().next().is_none());
            if host.dials && alone && !host.endpoint.is_drained() {
                // Refused while the other is shunned.
                let _ = host.endpoint.add_peer(host.swarm, address(1 - index), PeerSource::Trusted, self.now);
            }
        }
    }

    /// Lets one endpoint act on everything it has.
    fn drain(&mut self, index: usize) {
        let (mut events, mut datagrams) = (0, 0);
        loop {
            let mut idle = true;
            while let Some(event) = self.hosts[index].endpoint.poll_event() {
                idle = false;
                events += 1;
                assert!(events <= MAX_EVENTS_PER_STEP, "events without end");
                self.hosts[index].answer(event, self.sample, self.now, self.forged);
            }
            let mut buffer = Vec::new();
            let limit = BatchLimit { datagrams: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN), bytes: 65_507 };
            let transmit = self.hosts[index].endpoint.poll_transmit(self.now, limit, &mut buffer);
            if let Some(transmit) = transmit {
                idle = false;
                assert_eq!(transmit.size, buffer.len());
                let segment = transmit.segment_size.map_or(buffer.len().max(1), NonZeroUsize::get);
                for datagram in buffer.chunks(segment) {
                    datagrams += 1;
                    assert!(datagrams <= MAX_DATAGRAMS_PER_STEP, "datagrams without end");
                    self.send(index, transmit.destination, datagram);
                }
            }
            if idle {
                break;
            }
        }
        let host = &self.hosts[index];
        let peers = host.endpoint.swarm(host.swarm).map_or(0, |view| view.peers().count());
        assert!(peers <= self.limits_channels, "{peers} channels");
    }

    /// Takes a datagram from an endpoint and does with it what the input says.
    fn send(&mut self, from: usize, destination: SocketAddr, datagram: &[u8]) {
        let to = 1 - from;
        if destination == stranger() {
            self.stranger.1 += datagram.len();
            // R8: not a byte more than came from there.
            assert!(
                self.stranger.1 <= self.stranger.0,
                "an address that proved nothing is sent more than came from it"
            );
            return;
        }
        assert_eq!(destination, address(to), "nothing leaves for anybody else");
        if self.calm || self.input.is_empty() {
            self.fly(to, address(from), datagram.to_vec(), Duration::ZERO);
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push((to, datagram.to_vec()));
        if self.dropping > 0 {
            self.dropping -= 1;
            return;
        }
        self.bend(from, datagram);
    }

    fn bend(&mut self, from: usize, datagram: &[u8]) {
        let (to, source) = (1 - from, address(from));
        let mut datagram = datagram.to_vec();
        let mut delay = Duration::ZERO;
        match self.input.u8() % 16 {
            6 => return,
            7 => {
                self.dropping = self.input.u8() % 64;
                return;
            }
            8 => {
                let later = Duration::from_millis(u64::from(self.input.u8()) * 4);
                self.fly(to, source, datagram.clone(), later);
            }
            9 => delay = Duration::from_millis(u64::from(self.input.u16() >> (self.input.u8() % 16))),
            10 => {
                let (to, again) = self.kept[usize::from(self.input.u8()) % self.kept.len()].clone();
                self.fly(to, address(1 - to), again, Duration::ZERO);
            }
            11 => {
                let place = usize::from(self.input.u16()) % datagram.len();
                datagram[place] ^= 1 << (self.input.u8() % 8);
                self.forged = true;
            }
            12 => {
                datagram.truncate(usize::from(self.input.u16()) % datagram.len());
                self.forged = true;
            }
            13 => self.fly(to, stranger(), datagram.clone(), Duration::ZERO),
            14 => {
                // The machine slept: deadlines are late, and so are datagrams.
                let sleep = u64::from(self.input.u16()) << (self.input.u8() % 4);
                self.now = self.now + Duration::from_millis(sleep);
            }
            15 => {
                let host = usize::from(self.input.flag());
                self.hosts[host].endpoint.network_changed(self.now);
            }
            _ => {}
        }
        self.fly(to, source, datagram, delay);
    }

    fn fly(&mut self, to: usize, source: SocketAddr, datagram: Vec<u8>, delay: Duration) {
        self.sent += 1;
        self.flying.insert((self.now + self.latency + delay, self.sent), (to, source, datagram));
    }

    /// On a good network the transfer completes: within minutes, or after the user replaced a channel that forged
    /// messages confused, once nobody shuns the other any more.
    fn recover(&mut self) {
        if self.runs_until_complete(CALM) {
            return;
        }
        let accused = self.hosts.iter().any(|host| host.accuses);
        assert!(self.forged || accused, "the network only lost, repeated and reordered: {:?}", self.progress());
        for host in &mut self.hosts {
            let Some(view) = host.endpoint.swarm(host.swarm) else { continue };
            let peers: Vec<_> = view.peers().map(|peer| peer.id).collect();
            for peer in peers {
                host.endpoint.remove_peer(peer, self.now);
            }
        }
        assert!(self.runs_until_complete(FORGIVENESS), "nothing helps: {:?}", self.progress());
    }

    fn runs_until_complete(&mut self, time: Duration) -> bool {
        let until = self.now + time;
        while !self.hosts[LEECHER].complete && self.now < until && self.step() {}
        self.hosts[LEECHER].complete
    }

    fn progress(&self) -> Vec<(ppspp_core::Progress, Vec<ppspp_core::PeerView>)> {
        let views = self.hosts.iter().filter_map(|host| host.endpoint.swarm(host.swarm));
        views.map(|view| (view.progress(), view.peers().collect())).collect()
    }

    /// The leecher goes, and then the seeder: each says its goodbyes at once, and who is left notices in time.
    fn close(&mut self) {
        for index in [LEECHER, SEEDER] {
            self.hosts[index].endpoint.close(self.now);
            self.hosts[index].dials = false;
            self.drain(index);
            assert!(
                self.hosts[index].endpoint.is_drained(),
                "an endpoint that is closed says its goodbyes and is done"
            );
            let until = self.now + CALM;
            self.hosts[1 - index].dials = false;
            while self.now < until && self.step() {}
            let rest = &self.hosts[1 - index];
            let peers = rest.endpoint.swarm(rest.swarm).map_or(0, |view| view.peers().count());
            assert_eq!(peers, 0, "channels to an endpoint that is gone");
        }
    }
}

impl Host {
    fn new(
        config: &Arc<EndpointConfig>,
        seed: u8,
        metadata: ppspp_core::Metadata,
        content: Content,
        stored: Vec<u8>,
        now: Instant,
    ) -> Self {
        let mut endpoint = Endpoint::new(config.clone(), [seed; 32], now);
        let joined = endpoint.join(SwarmConfig { metadata, content }, now);
        let swarm = joined.unwrap_or_else(|error| panic!("{error}"));
        Self { endpoint, swarm, stored, complete: false, dials: false, accuses: false }
    }

    fn answer(&mut self, event: Event, sample: &Sample, now: Instant, forged: bool) {
        let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        match event {
            Event::Verified { swarm, range, offset, data } => {
                let start = place(offset);
                let expected = sample.bytes.get(start..start + data.len());
                assert_eq!(expected, Some(&data[..]), "only the swarm's own bytes are verified");
                self.stored[start..start + data.len()].copy_from_slice(&data);
                self.endpoint.confirm_stored(swarm, range, Ok(()), now);
            }
            Event::ReadNeeded { token, offset, len, .. } => {
                let bytes = Bytes::copy_from_slice(&self.stored[place(offset)..place(offset) + len]);
                self.endpoint.provide(token, Ok(bytes), now);
            }
            Event::Complete { .. } => {
                assert_eq!(self.stored, sample.bytes, "complete means that everything is there");
                self.complete = true;
            }
            Event::SizeKnown { geometry, .. } => assert_eq!(geometry, sample.geometry),
            Event::ContentChanged { range, .. } => panic!("{range:?} was read back as it was stored"),
            Event::PeerClosed { reason, .. } => self.judge(reason, forged),
            _ => {}
        }
    }

    /// On a network that only loses, repeats and reorders nobody is accused of more than of not answering.
    fn judge(&mut self, reason: CloseReason, forged: bool) {
        match reason {
            CloseReason::Misbehaved(Misbehaviour::Useless) => self.accuses = true,
            CloseReason::Misbehaved(_) | CloseReason::Incompatible(_) | CloseReason::Ourselves => {
                assert!(forged, "closed although nobody forged anything: {reason}");
                self.accuses = true;
            }
            _ => {}
        }
    }
}
