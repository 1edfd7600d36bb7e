//! What idle channels cost: memory, a poll, keep-alives. The core alone, on a virtual clock, without sockets.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use ppspp_core::chunk::{ChunkAddressing, ChunkRange, ChunkSize, Geometry};
use ppspp_core::integrity::{HashFunction, Tree, TreeBuilder, TreeParams};
use ppspp_core::wire::{ChannelId, Format, Handshake, Message, Messages, read_handshake, split_channel};
use ppspp_core::{BatchLimit, Content, DatagramMeta, Endpoint, EndpointConfig, Event, Instant, Metadata, SwarmConfig};

use crate::args::IdleArgs;
use crate::process;
use crate::report;

/// Content of the swarm: a few groups, so that every peer can be sent one.
const CONTENT: usize = 64 * 1024;
/// Chunks that each peer is sent before it falls idle.
const SENT: u64 = 16;
/// Peers that are served without a pause.
const TOGETHER: usize = 100;
/// How long the others wait until these are idle: what an upload needed goes with the first keep-alive after it.
const PAUSE: Duration = Duration::from_secs(30);
/// Polls that are timed together.
const POLLS: u32 = 1_000_000;
/// Channels that the flat cost of a poll is compared with.
const FEW: usize = 10;
/// Virtual time over which keep-alives are counted.
const IDLE_TIME: Duration = Duration::from_secs(1000);
/// Step of the virtual clock while idle.
const STEP: Duration = Duration::from_millis(250);
/// Time between two keep-alives of a peer.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Measures and prints.
pub(crate) fn run(args: &IdleArgs) -> Result<()> {
    ensure!(args.channels >= FEW, "--channels must be at least {FEW}");
    let mut few = Crowd::new(FEW)?;
    few.connect()?;
    let before = process::resident_kib()?;
    let mut many = Crowd::new(args.channels)?;
    let empty = process::resident_kib()?;
    many.connect()?;
    let silent = process::resident_kib()?;
    report_memory("connected, all announced", silent.saturating_sub(empty), args.channels)?;
    report::line(&format!("the endpoint and its content: {} KiB", empty.saturating_sub(before)))?;
    compare_polls(&mut few, &mut many)?;
    many.serve()?;
    let served = process::resident_kib()?;
    report_memory("the same, just idle after each was sent 16 KiB", served.saturating_sub(empty), args.channels)?;
    compare_polls(&mut few, &mut many)?;
    keep_alives(&mut many)
}

#[expect(clippy::cast_precision_loss, reason = "printed with a few digits")]
fn report_memory(what: &str, kib: u64, channels: usize) -> Result<()> {
    let each = kib as f64 * 1024.0 / channels as f64;
    report::line(&format!("memory, {channels} channels, {what}: {each:.0} bytes each (goal: 2048)"))
}

fn compare_polls(few: &mut Crowd, many: &mut Crowd) -> Result<()> {
    let (few_time, many_time) = (few.time_polls(), many.time_polls());
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(POLLS);
    report::line(&format!(
        "an idle poll: {:.1} ns with {} channels, {:.1} ns with {} (goal: the same)",
        each(few_time),
        few.peers.len(),
        each(many_time),
        many.peers.len(),
    ))
}

/// Keep-alives in both directions.
fn keep_alives(crowd: &mut Crowd) -> Result<()> {
    let before = crowd.endpoint.stats();
    let cpu = process::own_cpu()?;
    crowd.pass(IDLE_TIME);
    let cpu = process::own_cpu()?.saturating_sub(cpu);
    let after = crowd.endpoint.stats();
    ensure!(crowd.open == crowd.peers.len(), "{} of {} channels are left", crowd.open, crowd.peers.len());
    let seconds = IDLE_TIME.as_secs_f64();
    report::line(&format!(
        "keep-alives: {:.0} sent and {:.0} received in a second, {:.3} % of a core (goal: 1 %; the core alone)",
        count(after.datagrams_sent - before.datagrams_sent) / seconds,
        count(after.datagrams_received - before.datagrams_received) / seconds,
        cpu.as_secs_f64() / seconds * 100.0,
    ))
}

#[expect(clippy::cast_precision_loss, reason = "printed with a few digits")]
fn count(datagrams: u64) -> f64 {
    datagrams as f64
}

/// A peer's address and channel ids.
#[derive(Clone, Copy, Debug)]
struct Peer {
    address: SocketAddr,
    /// The id that the endpoint's datagrams carry.
    local: ChannelId,
    /// The id that the peer's datagrams carry.
    remote: ChannelId,
    spoke_at: Instant,
}

/// A seeding endpoint and its peers.
#[derive(Debug)]
struct Crowd {
    endpoint: Endpoint,
    metadata: Metadata,
    content: Bytes,
    format: Format,
    peers: Vec<Peer>,
    open: usize,
    now: Instant,
    buffer: Vec<u8>,
}

impl Crowd {
    fn new(channels: usize) -> Result<Self> {
        let chunk_size = ChunkSize::DEFAULT;
        let params = TreeParams { function: HashFunction::Sha256, chunk_size };
        let content = Bytes::from(vec![0x5a; CONTENT]);
        let tree = tree_of(params, &content)?;
        let metadata = Metadata {
            root: *tree.root(),
            function: params.function,
            addressing: ChunkAddressing::Chunk32,
            chunk_size,
            content_length: Some(CONTENT as u64),
        };
        let mut config = EndpointConfig::default();
        config.limits.channels = channels;
        // Others open at most three quarters of them, and nobody is to wait for its turn.
        config.max_peers = 2 * channels;
        config.limits.upload_slots = channels;
        let now = Instant::from_micros(1_000_000);
        let mut endpoint = Endpoint::new(Arc::new(config), [7; 32], now);
        endpoint.join(SwarmConfig { metadata: metadata.clone(), content: Content::Seed { tree } }, now)?;
        let peers = (0..channels).map(|number| Peer {
            address: address(number),
            local: ChannelId::new(0x1000_0000 + number as u32),
            remote: ChannelId::ZERO,
            spoke_at: now,
        });
        let format = Format::new(metadata.addressing, chunk_size, params.function.len(), 0)
            .with_content_length(metadata.content_length);
        let (peers, buffer) = (peers.collect(), Vec::new());
        Ok(Self { endpoint, metadata, content, format, peers, open: 0, now, buffer })
    }

    /// Opens every channel, proves every address, and announces some chunks.
    fn connect(&mut self) -> Result<()> {
        for number in 0..self.peers.len() {
            let metadata = self.metadata.clone();
            let peer = self.peers[number];
            let opening = Handshake {
                source: peer.local,
                version: Some(1),
                min_version: Some(1),
                swarm_id: Some(metadata.root.as_slice()),
                integrity_method: Some(1),
                hash_function: Some(metadata.function.code()),
                addressing: Some(metadata.addressing.code()),
                chunk_size: Some(metadata.chunk_size.bytes()),
                ..Handshake::default()
            };
            self.say(number, &[Message::Handshake(opening)])?;
            let replies = self.drain();
            let (_, reply) = replies.first().context("an opening is not answered")?;
            let (_, body) = split_channel(reply).context("a reply is too short")?;
            self.peers[number].remote = read_handshake(body)?.0.source;
            // A few runs, as a peer has in the midst of a download.
            let have = [ChunkRange::new(1, 3), ChunkRange::new(17, 30), ChunkRange::new(40, 41)];
            self.say(number, &have.map(Message::Have))?;
            self.drain();
        }
        ensure!(self.open == self.peers.len(), "only {} channels are open", self.open);
        Ok(())
    }

    /// Sends a group to every peer, and has it acknowledged. A few are served at a time, with a pause in which they fall
    /// idle: the allocator keeps what was in use together.
    fn serve(&mut self) -> Result<()> {
        for number in 0..self.peers.len() {
            if number % TOGETHER == TOGETHER - 1 {
                self.pass(PAUSE);
            }
            let asked = ChunkRange::new(0, SENT);
            self.say(number, &[Message::Request(asked)])?;
            let mut missing = SENT;
            while missing > 0 {
                let sent = self.drain();
                self.now = self.now + Duration::from_millis(1);
                let mut acks = Vec::new();
                for (_, datagram) in &sent {
                    let (_, body) = split_channel(datagram).context("a datagram is too short")?;
                    for message in Messages::new(body, &self.format) {
                        if let Message::Data { chunk, .. } = message? {
                            acks.push(Message::Ack { range: ChunkRange::single(chunk), delay: 500 });
                            missing -= 1;
                        }
                    }
                }
                if acks.is_empty() {
                    // What others were sent just before waits a little.
                    self.now = self.now.max(self.endpoint.poll_timeout().context("nothing is due")?);
                    self.endpoint.handle_timeout(self.now);
                } else {
                    self.say(number, &acks)?;
                }
            }
        }
        self.pass(PAUSE);
        Ok(())
    }

    /// Lets virtual time pass; both sides send keep-alives.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + STEP;
            for peer in &mut self.peers {
                if peer.spoke_at + PEER_KEEP_ALIVE <= self.now {
                    peer.spoke_at = self.now;
                    let bare = peer.remote.value().to_be_bytes();
                    self.endpoint.handle_datagram(self.now, DatagramMeta::from_remote(peer.address), &bare);
                }
            }
            self.endpoint.handle_timeout(self.now);
            self.drain();
        }
    }

    fn say(&mut self, number: usize, messages: &[Message<'_>]) -> Result<()> {
        let peer = &mut self.peers[number];
        peer.spoke_at = self.now;
        let mut datagram = peer.remote.value().to_be_bytes().to_vec();
        for message in messages {
            message.encode(&self.format, &mut datagram)?;
        }
        self.endpoint.handle_datagram(self.now, DatagramMeta::from_remote(peer.address), &datagram);
        Ok(())
    }

    /// Answers events and takes what is to be sent.
    fn drain(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let limit = BatchLimit { datagrams: NonZeroUsize::MIN, bytes: 65_507 };
        let mut sent = Vec::new();
        loop {
            self.buffer.clear();
            while let Some(transmit) = self.endpoint.poll_transmit(self.now, limit, &mut self.buffer) {
                sent.push((transmit.destination, std::mem::take(&mut self.buffer)));
            }
            match self.endpoint.poll_event() {
                Some(Event::PeerConnected { .. }) => self.open += 1,
                Some(Event::PeerClosed { .. }) => self.open -= 1,
                Some(Event::ReadNeeded { token, offset, len, .. }) => {
                    let bytes = self.content.slice(offset as usize..offset as usize + len);
                    self.endpoint.provide(token, Ok(bytes), self.now);
                }
                Some(_) => {}
                None => return sent,
            }
        }
    }

    /// The time that many polls of everything take while nothing is due.
    fn time_polls(&mut self) -> Duration {
        self.endpoint.handle_timeout(self.now);
        self.drain();
        let limit = BatchLimit { datagrams: NonZeroUsize::MIN, bytes: 65_507 };
        let began = Clock::now();
        for _ in 0..POLLS {
            self.endpoint.handle_timeout(self.now);
            let event = self.endpoint.poll_event();
            let transmit = self.endpoint.poll_transmit(self.now, limit, &mut self.buffer);
            std::hint::black_box((event, transmit, self.endpoint.poll_timeout()));
        }
        began.elapsed()
    }
}

/// An address of its own for each peer.
fn address(number: usize) -> SocketAddr {
    let [_, high, middle, low] = (number as u32).to_be_bytes();
    SocketAddr::from(([10, high, middle, low], 6778))
}

fn tree_of(params: TreeParams, content: &[u8]) -> Result<Tree> {
    let geometry = Geometry::new(content.len() as u64, params.chunk_size)?;
    let mut builder = TreeBuilder::new(params, geometry);
    let spans: Vec<_> = builder.spans().collect();
    for span in spans {
        let bytes = span.byte_range();
        let bytes = &content[bytes.start as usize..bytes.end as usize];
        builder.add(TreeBuilder::hash_span(params, geometry, span, bytes)?)?;
    }
    Ok(builder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_connects_is_served_and_stays() {
        let mut crowd = Crowd::new(300).unwrap();
        crowd.connect().unwrap();
        crowd.serve().unwrap();
        crowd.pass(Duration::from_secs(400));
        assert_eq!(crowd.open, 300);
        let stats = crowd.endpoint.stats();
        assert!(stats.datagrams_sent > 300 * (400 / 25));
    }
}
