//! Every limit that can be seen from outside holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::{ChannelId, split_channel};
use ppspp_core::{Limits, PeerView};

use super::{Checker, Fact, Scene, slot};

/// Channels, those that others opened and did not prove, unconfirmed bytes and reads in progress stay within `Limits`.
#[derive(Clone, Debug, Default)]
pub struct LimitsHold {
    hosts: Vec<Held>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    unconfirmed: u64,
    reads: usize,
    /// Who opened a channel since the last sample, or has one that is not established.
    openings: BTreeMap<SocketAddr, Opener>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opener {
    /// The host, perhaps the peer as well.
    Host,
    /// The peer alone.
    Peer,
}

impl Held {
    /// Channels that others opened and did not prove; each address has one at most.
    fn half_open(&mut self, peers: &[PeerView]) -> usize {
        let unproven: BTreeSet<_> = peers.iter().filter(|peer| !peer.established).map(|peer| peer.address).collect();
        self.openings.retain(|address, _| unproven.contains(address));
        self.openings.values().filter(|opener| **opener == Opener::Peer).count()
    }
}

/// Whether a datagram opens a channel (RFC 7574 §3.1.1).
fn opens(payload: &[u8]) -> bool {
    split_channel(payload).is_some_and(|(channel, _)| channel == ChannelId::ZERO)
}

fn bytes(scene: &Scene<'_>, range: ChunkRange) -> u64 {
    let bytes = scene.content.geometry().byte_range(range);
    bytes.end - bytes.start
}

fn within(what: &str, value: u64, limit: u64) -> Result<(), String> {
    if value <= limit { Ok(()) } else { Err(format!("{value} {what}, {limit} are allowed")) }
}

impl Checker for LimitsHold {
    fn name(&self) -> &'static str {
        "every limit holds"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        let limits = &scene.config.limits;
        match fact {
            Fact::Started => *slot(&mut self.hosts, scene.host) = Held::default(),
            Fact::Verified { range, .. } => {
                let held = slot(&mut self.hosts, scene.host);
                held.unconfirmed += bytes(scene, *range);
                // The bound is looked at before a chunk is taken in.
                let chunk = u64::from(scene.content.geometry().chunk_size().bytes());
                return within("bytes wait for the disk", held.unconfirmed, limits.unconfirmed_bytes + chunk);
            }
            Fact::Stored { range, .. } => {
                let held = slot(&mut self.hosts, scene.host);
                held.unconfirmed = held.unconfirmed.saturating_sub(bytes(scene, *range));
            }
            Fact::ReadNeeded(_) => {
                let held = slot(&mut self.hosts, scene.host);
                held.reads += 1;
                return within("reads are in progress", held.reads as u64, limits.pending_reads as u64);
            }
            Fact::Read(_) => {
                let held = slot(&mut self.hosts, scene.host);
                held.reads = held.reads.saturating_sub(1);
            }
            Fact::Dialled(address) => {
                slot(&mut self.hosts, scene.host).openings.insert(*address, Opener::Host);
            }
            Fact::Sent { to, payload } if opens(payload) => {
                slot(&mut self.hosts, scene.host).openings.insert(*to, Opener::Host);
            }
            Fact::Received { from, payload } if opens(payload) => {
                slot(&mut self.hosts, scene.host).openings.entry((*from).into()).or_insert(Opener::Peer);
            }
            Fact::Sampled(peers) => {
                within("channels", peers.len() as u64, limits.channels as u64)?;
                let half_open = slot(&mut self.hosts, scene.host).half_open(peers);
                let most = limits.half_open.max(Limits::LEAST.half_open);
                return within("channels are half open", half_open as u64, most as u64);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use ppspp_core::{
        BatchLimit, Content as Holding, DatagramMeta, Endpoint, EndpointConfig, Instant, PeerSource, SwarmConfig,
        SwarmId,
    };

    use super::*;
    use crate::content::{Content, ContentSpec};
    use crate::disk::{Disk, DiskSpec};
    use crate::id::HostId;
    use crate::rng::Streams;
    use crate::time::SimTime;

    const START: Instant = Instant::from_micros(0);

    fn address(number: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, number), 6778)
    }

    fn endpoint(content: &Content, seed: u8) -> (Endpoint, SwarmId) {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), [seed; 32], START);
        let config = SwarmConfig { metadata: content.metadata().clone(), content: Holding::Fetch };
        let swarm = endpoint.join(config, START).unwrap();
        (endpoint, swarm)
    }

    /// A datagram that opens a channel.
    fn opening(content: &Content) -> Vec<u8> {
        let (mut endpoint, swarm) = endpoint(content, 1);
        endpoint.add_peer(swarm, address(1).into(), PeerSource::Trusted, START).unwrap();
        let mut datagram = Vec::new();
        let one = BatchLimit { datagrams: NonZeroUsize::MIN, bytes: 1000 };
        assert!(endpoint.poll_transmit(START, one, &mut datagram).is_some());
        datagram
    }

    #[test]
    fn half_open_channels_are_those_that_others_opened() {
        let content = Content::new(ContentSpec::new(10_000), 1).unwrap();
        let opening = opening(&content);
        let (mut endpoint, swarm) = endpoint(&content, 2);
        for from in 0..6 {
            endpoint.handle_datagram(START, DatagramMeta::from_remote(address(from).into()), &opening);
        }
        for to in 6..10 {
            endpoint.add_peer(swarm, address(to).into(), PeerSource::Trusted, START).unwrap();
        }
        let peers: Vec<_> = endpoint.swarm(swarm).unwrap().peers().collect();
        assert!(peers.len() == 10 && peers.iter().all(|peer| !peer.established));
        let disk = Disk::new(DiskSpec::default(), content.clone(), Streams::new(1).stream("disk"));
        let judge = |half_open| {
            let mut config = EndpointConfig::default();
            config.limits.half_open = half_open;
            let (now, host) = (SimTime::ZERO, HostId(0));
            let scene = Scene { now, host, content: &content, disk: &disk, config: &config, memory: None };
            let mut checker = LimitsHold::default();
            let mut observe = |fact: &Fact<'_>| checker.observe(&scene, fact);
            let sent = |to| Fact::Sent { to: address(to).into(), payload: &opening };
            let received = |from| Fact::Received { from: address(from), payload: &opening };
            (0..6).for_each(|from| observe(&received(from)).unwrap());
            (6..9).for_each(|to| observe(&sent(to)).unwrap());
            // Of two openings that cross each other the host's may stand, though it was not sent yet.
            observe(&Fact::Dialled(address(9).into())).unwrap();
            observe(&received(9)).unwrap();
            observe(&Fact::Sampled(&peers))
        };
        assert_eq!(judge(6), Ok(()));
        assert_eq!(judge(5), Err("6 channels are half open, 5 are allowed".to_owned()));
    }
}
