//! Looking at a swarm without changing it.

use core::net::SocketAddr;
use core::time::Duration;

use crate::channel::{Established, State, Upload};
use crate::chunk::Geometry;
use crate::config::Metadata;
use crate::event::PeerId;
use crate::progress::Progress;
use crate::stats::{TrafficStats, TransferStats};
use crate::swarm::Swarm;

/// A swarm as it stands.
#[derive(Clone, Copy, Debug)]
pub struct SwarmView<'a> {
    swarm: &'a Swarm,
}

/// A peer as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PeerView {
    /// The peer.
    pub id: PeerId,
    /// Its address.
    pub address: SocketAddr,
    /// Whether the channel is established.
    pub established: bool,
    /// Whether the peer has everything.
    pub seeder: bool,
    /// Whether the peer refuses our requests at present.
    pub choking_us: bool,
    /// Whether we refuse its requests at present (RFC 7574 §3.9).
    pub choked_by_us: bool,
    /// Whether it waits for chunks of ours: it has requests, or is choked.
    pub interested: bool,
    /// What the channel moved.
    pub stats: TransferStats,
    /// Congestion window towards the peer in bytes, once chunks were sent to it.
    pub cwnd: Option<u64>,
    /// Bytes in flight to the peer.
    pub in_flight: u64,
    /// Smoothed round-trip time, once measured.
    pub srtt: Option<Duration>,
    /// Estimated queueing delay towards the peer, once measured.
    pub queuing_delay: Option<Duration>,
}

impl<'a> SwarmView<'a> {
    pub(crate) const fn new(swarm: &'a Swarm) -> Self {
        Self { swarm }
    }

    /// The metadata it was joined with.
    pub const fn metadata(&self) -> &'a Metadata {
        &self.swarm.metadata
    }

    /// The cut of the content, once known.
    pub const fn geometry(&self) -> Option<Geometry> {
        self.swarm.content.geometry()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let content = &self.swarm.content;
        let peers = || self.peers().filter(|peer| peer.established);
        Progress {
            content_length: content.geometry().and_then(Geometry::content_length),
            bytes_stored: content.bytes_of(&content.stored),
            bytes_to_check: content.bytes_of(&content.claimed),
            complete: content.complete,
            peers: peers().count(),
            seeders: peers().filter(|peer| peer.seeder).count(),
        }
    }

    /// Whether every chunk of `range` is stored and confirmed.
    pub fn has_stored(&self, range: crate::chunk::ChunkRange) -> bool {
        self.swarm.content.stored.covers(range)
    }

    /// What all channels moved, also those that are gone.
    pub fn stats(&self) -> TransferStats {
        let mut sum = self.swarm.past;
        for (_, channel) in &self.swarm.peers {
            sum.add(&channel.stats);
        }
        sum
    }

    /// Datagrams and messages of all channels, also those that are gone.
    pub const fn traffic(&self) -> &'a TrafficStats {
        &self.swarm.traffic
    }

    /// The channels to other peers, established or being opened.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + use<'a> {
        let total = self.swarm.content.geometry().map_or(u64::MAX, Geometry::chunk_count);
        self.swarm.peers.iter().filter(|(_, channel)| !matches!(channel.state, State::Closing(_) | State::Closed)).map(
            move |(_, channel)| {
                let peer = channel.established();
                let upload = peer.and_then(|peer| peer.upload.as_deref());
                let flow = peer.and_then(Established::flow);
                PeerView {
                    id: channel.id,
                    address: channel.address,
                    established: peer.is_some(),
                    seeder: peer.is_some_and(|peer| peer.announced().is_complete(total)),
                    choking_us: peer.is_some_and(|peer| peer.choked),
                    choked_by_us: peer.is_some_and(Established::is_choked_by_us),
                    interested: peer.is_some_and(Established::is_choked_by_us)
                        || upload.is_some_and(Upload::has_requests),
                    stats: channel.stats,
                    cwnd: flow.map(|flow| flow.controller.window()),
                    in_flight: upload.map_or(0, |upload| upload.in_flight.bytes()),
                    srtt: flow.and_then(|flow| flow.rtt.srtt()).or(peer.and_then(|peer| peer.rtt)),
                    queuing_delay: flow.and_then(|flow| flow.controller.queuing_delay()),
                }
            },
        )
    }
}
