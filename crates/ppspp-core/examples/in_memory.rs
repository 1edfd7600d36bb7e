//! Moves content between two endpoints in one thread, without sockets and files, and prints what each side costs.
//!
//! `cargo run --release -p ppspp-core --example in_memory -- [MiB] [chunk size]`
//!
//! Hashing is measured apart in the same run: what a side costs beyond it is bookkeeping and copying. `hashing` is one
//! leaf and one node at a time, `tree` the same work for groups at once, as where a file is shared.

#![expect(clippy::disallowed_methods, reason = "the core is given its time, whoever measures it reads a clock")]

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use ppspp_core::chunk::{ChunkAddressing, ChunkSize, Geometry};
use ppspp_core::integrity::{HashFunction, Tree, TreeBuilder, TreeParams};
use ppspp_core::{
    BatchLimit, Content, DatagramMeta, Endpoint, EndpointConfig, Event, Instant, Metadata, PeerSource, SwarmConfig,
    SwarmId,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const MIB: usize = 1024 * 1024;
/// What a driver with segmentation offload asks for.
const BATCH: BatchLimit = BatchLimit { datagrams: NonZeroUsize::MIN.saturating_add(63), bytes: 65_507 };
/// Time that passes from one turn to the next, as the endpoints see it: their work is then the same in every run.
const STEP: Duration = Duration::from_micros(400);
/// Batches that one side sends before the other has its turn, as in a driver.
const BATCHES_PER_TURN: usize = 8;

/// An endpoint, and how long it has worked.
struct Side {
    endpoint: Endpoint,
    swarm: SwarmId,
    address: SocketAddr,
    busy: Duration,
    buffer: Vec<u8>,
    /// Where each batch ends in the buffer, and how long its datagrams are.
    batches: Vec<(usize, Option<NonZeroUsize>)>,
}

impl Side {
    fn new(number: u8, metadata: &Metadata, content: Content, now: Instant) -> Outcome<Self> {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), [number; 32], now);
        let swarm = endpoint.join(SwarmConfig { metadata: metadata.clone(), content }, now)?;
        Ok(Self {
            endpoint,
            swarm,
            address: SocketAddr::from(([10, 0, 0, number], 6778)),
            busy: Duration::ZERO,
            buffer: Vec::new(),
            batches: Vec::new(),
        })
    }

    /// Answers events; returns whether the content is complete.
    fn answer(&mut self, content: &Bytes, now: Instant) -> bool {
        let mut complete = false;
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::ReadNeeded { token, offset, len, .. } => {
                    let offset = offset as usize;
                    self.endpoint.provide(token, Ok(content.slice(offset..offset + len)), now);
                }
                Event::Verified { swarm, range, .. } => self.endpoint.confirm_stored(swarm, range, Ok(()), now),
                Event::Complete { .. } => complete = true,
                _ => {}
            }
        }
        complete
    }

    /// Lets the endpoint write some batches into the buffer.
    fn send(&mut self, now: Instant) {
        self.buffer.clear();
        self.batches.clear();
        for _ in 0..BATCHES_PER_TURN {
            let Some(transmit) = self.endpoint.poll_transmit(now, BATCH, &mut self.buffer) else { break };
            self.batches.push((self.buffer.len(), transmit.segment_size));
        }
    }

    /// Takes in what `from` sent, answers and sends.
    fn turn(&mut self, from: &Self, content: &Bytes, now: Instant) -> bool {
        let turn_began = Clock::now();
        let meta = DatagramMeta::from_remote(from.address);
        let mut start = 0;
        for &(end, segment) in &from.batches {
            self.endpoint.handle_datagrams(now, meta, &from.buffer[start..end], segment);
            start = end;
        }
        self.endpoint.handle_timeout(now);
        let complete = self.answer(content, now);
        self.send(now);
        self.busy += turn_began.elapsed();
        complete
    }
}

/// The work of one side, named so that a profiler can tell it from the other's.
#[inline(never)]
fn leecher_turn(leecher: &mut Side, seeder: &Side, content: &Bytes, now: Instant) -> bool {
    leecher.turn(seeder, content, now)
}

#[inline(never)]
fn seeder_turn(seeder: &mut Side, leecher: &Side, content: &Bytes, now: Instant) {
    seeder.turn(leecher, content, now);
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let len = MIB * arguments.next().map_or(Ok(256), |text| text.parse())?;
    let chunk_size = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let chunk_size = ChunkSize::new(chunk_size)?;
    let params = TreeParams { function: HashFunction::Sha256, chunk_size };
    let content = Bytes::from(sample(len));
    let began = Clock::now();
    let tree = tree_of(params, &content)?;
    let building = began.elapsed();
    let metadata = Metadata {
        root: *tree.root(),
        function: params.function,
        addressing: ChunkAddressing::Chunk32,
        chunk_size,
        content_length: Some(len as u64),
    };

    let began = Clock::now();
    let mut seeder = Side::new(1, &metadata, Content::Seed { tree }, Instant::ZERO)?;
    let mut leecher = Side::new(2, &metadata, Content::Fetch, Instant::ZERO)?;
    leecher.endpoint.add_peer(leecher.swarm, seeder.address, PeerSource::Trusted, Instant::ZERO)?;
    let mut now = Instant::ZERO + STEP;
    while !leecher_turn(&mut leecher, &seeder, &content, now) {
        seeder_turn(&mut seeder, &leecher, &content, now);
        now = now + STEP;
    }
    let elapsed = began.elapsed();

    let chunks = len.div_ceil(chunk_size.bytes() as usize);
    let hashing = hash_everything(params, &content);
    let stats = seeder.endpoint.swarm(seeder.swarm).ok_or("the swarm is gone")?.stats();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} MiB in {:.3} s, {chunks} chunks", len / MIB, elapsed.as_secs_f64())?;
    for (what, time) in [("seeder", seeder.busy), ("leecher", leecher.busy), ("hashing", hashing), ("tree", building)] {
        writeln!(out, "{what:<8} {:>6} ns per chunk", time.as_nanos() / chunks as u128)?;
    }
    writeln!(out, "{} chunks sent, {} again, {} hashes", stats.chunks_sent, stats.chunks_resent, stats.integrity_sent)?;
    Ok(())
}

/// Bytes that do not repeat.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; len];
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    bytes
}

fn tree_of(params: TreeParams, content: &[u8]) -> Outcome<Tree> {
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

/// The time that one leaf and one node for every chunk take, in order and one at a time.
fn hash_everything(params: TreeParams, content: &[u8]) -> Duration {
    let function = params.function;
    let began = Clock::now();
    let mut last = function.leaf(&[]);
    for chunk in content.chunks(params.chunk_size.bytes() as usize) {
        let leaf = function.leaf(chunk);
        last = function.node(last.as_slice(), leaf.as_slice());
    }
    std::hint::black_box(last);
    began.elapsed()
}
