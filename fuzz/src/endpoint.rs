//! An established channel fed with arbitrary datagrams and ticks.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange};
use ppspp_core::wire::{ChannelId, DatagramBuilder, Message, RangeMessage, read_handshake, split_channel};
use ppspp_core::{
    BatchLimit, Content, DatagramMeta, Endpoint, Event, Instant, ReadError, StoreError, SwarmConfig, SwarmId,
};

use super::content::{Sample, samples, small_config};
use super::input::Input;

/// The peer's channel id; ours is drawn by the endpoint.
const REMOTE: ChannelId = ChannelId::new(0x0102_0304);
/// Datagrams and ticks in one run.
const MAX_STEPS: usize = 96;
/// Times events and transmits may alternate after one input; more means that work feeds itself.
const MAX_ROUNDS: usize = 4096;
/// Bytes that one input may make the endpoint send: two segments' window of the largest chunks, and control messages.
const MAX_BYTES_PER_STEP: usize = 1 << 20;

/// The endpoint under test and its storage.
struct Subject {
    endpoint: Endpoint,
    swarm: SwarmId,
    sample: &'static Sample,
    now: Instant,
    stored: Vec<u8>,
    disk: Disk,
    local: ChannelId,
}

/// How the storage behaves at present.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Good,
    Failing,
    Corrupting,
}

/// Feeds a seeder or a leecher with what the input describes, and checks the core's promises after each step.
pub fn endpoint_receive(data: &[u8]) {
    let mut input = Input::new(data);
    let sample = &samples()[usize::from(input.u8()) % samples().len()];
    let mode = input.u8();
    let Some(mut subject) = Subject::connected(sample, mode) else { return };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        subject.step(&mut input);
    }
    let now = subject.now;
    subject.endpoint.close(now);
    subject.drain();
    assert!(subject.endpoint.is_drained(), "an endpoint that is closed says its goodbyes and is done");
}

impl Subject {
    /// Establishes a channel by a real handshake that the peer opens. `mode`: seed or fetch, with or without a length.
    fn connected(sample: &'static Sample, mode: u8) -> Option<Self> {
        let now = Instant::from_micros(1 << 40);
        let mut endpoint = Endpoint::new(small_config(), [3; 32], now);
        let mut metadata = sample.metadata.clone();
        let seeds = mode & 1 == 1;
        if mode & 2 == 2 {
            metadata.content_length = None;
        }
        let content = if seeds { Content::Seed { tree: sample.tree.clone() } } else { Content::Fetch };
        let swarm = endpoint.join(SwarmConfig { metadata, content }, now).ok()?;
        let stored = if seeds { sample.bytes.clone() } else { vec![0; sample.bytes.len()] };
        let mut subject = Self { endpoint, swarm, sample, now, stored, disk: Disk::Good, local: ChannelId::ZERO };
        let mut opening = Vec::new();
        let mut builder = DatagramBuilder::new(&mut opening, 1472, ChannelId::ZERO, sample.format());
        builder.push(&Message::Handshake(sample.opening(REMOTE))).ok()?;
        builder.finish();
        subject.receive(&opening);
        let (_, body) = split_channel(&subject.drain().first()?.clone()).map(|(id, body)| (id, body.to_vec()))?;
        subject.local = read_handshake(&body).ok()?.0.source;
        subject.receive(&subject.local.value().to_be_bytes());
        subject.drain();
        Some(subject)
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 6778))
    }

    fn receive(&mut self, datagram: &[u8]) {
        self.endpoint.handle_datagram(self.now, DatagramMeta::from_remote(Self::peer()), datagram);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 8 {
            0 => {
                let datagram = [&self.local.value().to_be_bytes(), input.bytes()].concat();
                self.receive(&datagram);
            }
            1 => {
                let datagram = input.bytes();
                self.receive(datagram);
            }
            2 => {
                self.now = self.now + Duration::from_micros(u64::from(input.u32()) >> (input.u8() % 24));
                self.endpoint.handle_timeout(self.now);
            }
            3 => self.disk = input.pick(&[Disk::Good, Disk::Good, Disk::Failing, Disk::Corrupting]),
            _ => {
                let datagram = self.made_datagram(input);
                self.receive(&datagram);
            }
        }
        self.drain();
        let view = self.endpoint.swarm(self.swarm);
        let peers = view.map_or(0, |view| view.peers().count());
        assert!(peers <= small_config().limits.channels, "{peers} channels");
    }

    /// A datagram of well-formed messages, true and false.
    fn made_datagram(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut datagram = Vec::new();
        let mut builder = DatagramBuilder::new(&mut datagram, 65_507, self.local, self.sample.format());
        for _ in 0..=input.u8() % 16 {
            let near = u64::from(input.u8());
            let range = match input.u8() % 4 {
                0 => input.range(),
                1 => self.sample.geometry.all(),
                _ => ChunkRange::new(near, near + 1 + u64::from(input.u8() % 32)),
            };
            match input.u8() % 9 {
                0 => {
                    let _ = builder.push_range(RangeMessage::Have, range);
                }
                1 => {
                    let _ = builder.push_range(RangeMessage::Ack { delay: input.u64() }, range);
                }
                2 => {
                    let _ = builder.push_range(RangeMessage::Request, range);
                }
                3 => {
                    let _ = builder.push_range(RangeMessage::Cancel, range);
                }
                4 => {
                    let _ = builder.push(&Message::Choke);
                }
                5 => {
                    let _ = builder.push(&Message::Unchoke);
                }
                6 => self.push_integrity(&mut builder, input, near),
                _ => {
                    self.push_data(&mut builder, input, near);
                    break;
                }
            }
        }
        builder.finish();
        datagram
    }

    /// The hash of a node, with a bit flipped now and then.
    fn push_integrity(&self, builder: &mut DatagramBuilder<'_>, input: &mut Input<'_>, near: u64) {
        let Some(node) = Bin::at(input.u8() % 8, near) else { return };
        let Some(hash) = self.sample.nodes.get(&node) else { return };
        let mut hash = hash.as_slice().to_vec();
        flip(&mut hash, input.u8());
        let _ = builder.push(&Message::Integrity { node, hash: &hash });
    }

    /// A chunk with all its siblings, some of them, or none; with a bit flipped now and then.
    fn push_data(&self, builder: &mut DatagramBuilder<'_>, input: &mut Input<'_>, near: u64) {
        let chunk = ChunkIndex::new(near % self.sample.geometry.chunk_count());
        let mut payload = self.sample.chunk(chunk).to_vec();
        flip(&mut payload, input.u8());
        let mut hashes: Vec<(Bin, &[u8])> = self
            .sample
            .geometry
            .peaks()
            .filter_map(|peak| Some((peak, self.sample.nodes.get(&peak)?.as_slice())))
            .collect();
        let mut place = Bin::leaf(chunk);
        while let Some(sibling) = place.and_then(Bin::sibling) {
            let Some(hash) = self.sample.nodes.get(&sibling) else { break };
            hashes.push((sibling, hash.as_slice()));
            place = place.and_then(Bin::parent);
        }
        let kept = usize::from(input.u8());
        hashes.truncate(if kept < 128 { usize::MAX } else { kept % 8 });
        let _ = builder.push_data(&hashes, chunk, input.u64(), &payload);
    }

    /// Lets the endpoint act on everything it has; returns what it sent.
    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let mut bytes = 0;
        for _ in 0..MAX_ROUNDS {
            let mut idle = true;
            while let Some(event) = self.endpoint.poll_event() {
                idle = false;
                self.answer(event);
            }
            let mut buffer = Vec::new();
            let limit = BatchLimit { datagrams: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN), bytes: 65_507 };
            if let Some(transmit) = self.endpoint.poll_transmit(self.now, limit, &mut buffer) {
                idle = false;
                assert_eq!(transmit.size, buffer.len());
                assert_eq!(transmit.destination, Self::peer(), "nothing leaves for anybody else");
                bytes += buffer.len();
                assert!(bytes <= MAX_BYTES_PER_STEP, "one input made the endpoint send {bytes} bytes");
                let segment = transmit.segment_size.map_or(buffer.len().max(1), NonZeroUsize::get);
                sent.extend(buffer.chunks(segment).map(<[u8]>::to_vec));
            }
            if idle {
                return sent;
            }
        }
        panic!("after {MAX_ROUNDS} rounds the endpoint is still busy");
    }

    fn answer(&mut self, event: Event) {
        match event {
            Event::Verified { swarm, range, offset, data } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let expected = self.sample.bytes.get(start..start + data.len());
                assert_eq!(expected, Some(&data[..]), "only the swarm's own bytes are verified");
                let result = if self.disk == Disk::Failing { Err(StoreError) } else { Ok(()) };
                self.stored[start..start + data.len()].copy_from_slice(&data);
                self.endpoint.confirm_stored(swarm, range, result, self.now);
            }
            Event::ReadNeeded { token, offset, len, .. } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let mut bytes = self.stored[start..start + len].to_vec();
                let answer = match self.disk {
                    Disk::Good => Ok(Bytes::from(bytes)),
                    Disk::Failing => Err(ReadError),
                    Disk::Corrupting => {
                        flip(&mut bytes, 1);
                        Ok(Bytes::from(bytes))
                    }
                };
                self.endpoint.provide(token, answer, self.now);
            }
            Event::Complete { .. } => {
                assert_eq!(self.stored, self.sample.bytes, "complete means that everything is there");
            }
            _ => {}
        }
    }
}

/// Flips one bit if `choice` is below 32.
fn flip(bytes: &mut [u8], choice: u8) {
    let place = usize::from(choice) * 37;
    if choice < 32 && !bytes.is_empty() {
        let len = bytes.len();
        bytes[place % len] ^= 1 << (choice % 8);
    }
}
