//! What an endpoint and a swarm are told at the start. Every bound of the core is a field of [`Limits`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::chunk::{ChunkAddressing, ChunkIndex, ChunkSize, Geometry, GeometryError, RangeSet};
use crate::congestion::ControllerConfig;
use crate::integrity::{Hash, HashFunction, Tree};
use crate::policy::{Rates, Reciprocity, UnchokePolicy};

/// Bounds on everything a peer or a slow application could make grow. The defaults suit a desktop machine; an endpoint
/// takes none for less than [`Limits::LEAST`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Swarms in one endpoint. Default 1,024: each costs a few KiB plus its tree, and what `remembered_groups` says while it serves several.
    pub swarms: usize,
    /// Channels of one swarm, established or not. Default 10,000, at most 2 KiB each while idle.
    pub channels: usize,
    /// Channels opened by others that have not proven their address. Default 256; the oldest goes (R8).
    pub half_open: usize,
    /// Events waiting for `poll_event` beyond which no new data is accepted. Default 4,096.
    pub queued_events: usize,
    /// Verified bytes of one swarm not yet confirmed as stored. Default 8 MiB (R19).
    pub unconfirmed_bytes: u64,
    /// Groups of one swarm that are partly downloaded or requested. Default 1,024 of at most 16 KiB each, or of one chunk
    /// that is larger (R2). Where only a part of many groups is wanted, the rest is fetched as well once half of them wait
    /// for nothing else.
    pub open_groups: usize,
    /// Chunks outstanding from one peer. Default 16,384 (R20 bounds them by rate as well).
    pub outstanding_requests: u32,
    /// Ranges one peer may have waiting in REQUESTs to us. Default 1,024; further ones are ignored (§12.6.6).
    pub queued_requests: usize,
    /// Runs kept of what one peer says it has. Default 8,192, 16 bytes each.
    pub availability_runs: usize,
    /// Runs kept of how many peers of one swarm have each group. Default 65,536, some 16 bytes each.
    pub rarity_runs: usize,
    /// Hashes of one channel kept before they can be proven. Default 256.
    pub early_hashes: usize,
    /// Chunks of one channel kept while their hashes are missing. Default 128 (R17).
    pub pending_chunks: usize,
    /// Complete groups of one swarm kept in memory for upload. Default 256, at most 16 KiB each, or 60 KiB with larger
    /// chunks.
    pub cached_groups: usize,
    /// Complete groups of one swarm of which is remembered what their chunks hash to, so that those of them that did not
    /// change are not hashed again to be served. Default 16,384, at most 2 KiB each: 8 MiB for 256 MiB of a content
    /// with SHA-256 and chunks of 1 KiB. Taken as they are served to several peers, or verified while another peer lacks
    /// anything; given back about a minute after the last use.
    pub remembered_groups: usize,
    /// Reads of one swarm in progress. Default 32.
    pub pending_reads: usize,
    /// Chunks of one channel sent and not yet acknowledged. Default 65,536.
    pub in_flight: usize,
    /// Peers of one swarm that are sent chunks at a time; others are choked until it is their turn.
    /// Default 32: with more, the groups kept in memory no longer hold a full batch that leaves and one that is read
    /// ahead for each.
    pub upload_slots: usize,
    /// Messages of one datagram that are processed; the rest is dropped. Default 4,096.
    pub messages_per_datagram: usize,
    /// Addresses of one swarm that may be dialled: named by peers, or of peers lost. Default 256, of which the word of
    /// one host fills an eighth (§12.2).
    pub candidates: usize,
    /// Hosts remembered for the misbehaviour of their peers. Default 1,024, about 200 bytes each.
    pub shunned_hosts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            swarms: 1024,
            channels: 10_000,
            half_open: 256,
            queued_events: 4096,
            unconfirmed_bytes: 8 << 20,
            open_groups: 1024,
            outstanding_requests: 16_384,
            queued_requests: 1024,
            availability_runs: 8192,
            rarity_runs: 65_536,
            early_hashes: 256,
            pending_chunks: 128,
            cached_groups: 256,
            remembered_groups: 16_384,
            pending_reads: 32,
            in_flight: 65_536,
            upload_slots: 32,
            messages_per_datagram: 4096,
            candidates: 256,
            shunned_hosts: 1024,
        }
    }
}

impl Limits {
    /// The least of each bound with which a transfer comes to its end, however slowly. No swarm or no channel at all
    /// may be allowed: then nothing can be joined, or no peer added.
    pub const LEAST: Self = Self {
        swarms: 0,
        channels: 0,
        half_open: 1,
        queued_events: 1,
        unconfirmed_bytes: 8 << 10,
        open_groups: 1,
        outstanding_requests: 1,
        queued_requests: 1,
        availability_runs: 1,
        rarity_runs: 0,
        // Both ways to the root of the largest tree.
        early_hashes: 128,
        pending_chunks: 0,
        cached_groups: 0,
        remembered_groups: 0,
        pending_reads: 1,
        in_flight: 1,
        upload_slots: 1,
        // More than fit into a datagram of the least MTU.
        messages_per_datagram: 128,
        candidates: 0,
        shunned_hosts: 0,
    };

    /// These, with none below the least.
    fn raised(&self) -> Self {
        let least = Self::LEAST;
        Self {
            half_open: self.half_open.max(least.half_open),
            queued_events: self.queued_events.max(least.queued_events),
            unconfirmed_bytes: self.unconfirmed_bytes.max(least.unconfirmed_bytes),
            open_groups: self.open_groups.max(least.open_groups),
            outstanding_requests: self.outstanding_requests.max(least.outstanding_requests),
            queued_requests: self.queued_requests.max(least.queued_requests),
            availability_runs: self.availability_runs.max(least.availability_runs),
            early_hashes: self.early_hashes.max(least.early_hashes),
            pending_reads: self.pending_reads.max(least.pending_reads),
            in_flight: self.in_flight.max(least.in_flight),
            upload_slots: self.upload_slots.max(least.upload_slots),
            messages_per_datagram: self.messages_per_datagram.max(least.messages_per_datagram),
            ..self.clone()
        }
    }
}

/// How an endpoint behaves. The default is tuned for swarms over the Internet and serves a loopback as well.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// Bounds on memory and work.
    pub limits: Limits,
    /// Limits of what the endpoint sends and receives in all swarms together, at the start. Default none.
    pub rates: Rates,
    /// Who is served while more peers ask than there are slots. Default [`Reciprocity`].
    pub unchoke: Arc<dyn UnchokePolicy>,
    /// Congestion control of every channel.
    pub congestion: ControllerConfig,
    /// Idle time after which a keep-alive leaves. Default 25 s, one second to 55 (R12).
    pub keep_alive: Duration,
    /// Silence after which a peer is dead, given three datagrams sent to it in that time. Default 3 min (§3.12), at
    /// least five seconds.
    pub dead_after: Duration,
    /// Largest UDP payload sent to an IPv4 peer unless a chunk needs more. Default 1,472 bytes (Ethernet), at
    /// least 548.
    pub mtu_v4: u16,
    /// Largest UDP payload sent to an IPv6 peer unless a chunk needs more. Default 1,452 bytes (Ethernet), at
    /// least 548.
    pub mtu_v6: u16,
    /// Bytes of datagrams that can wait for the driver to hand them over: its socket's receive buffer. Default 4 MiB.
    /// Beyond a round trip the peers of a swarm are asked for what fills half of it, or 512 KiB if that is more; seeders
    /// among leechers for at least a quarter of that each, or together for all of it, so that they have a choice.
    pub receive_buffer: usize,
    /// How long a verified chunk may wait for the rest of its group before it is handed to storage. Default 1 s.
    pub flush_after: Duration,
    /// Whether peers tell each other of peers. Default [`PexPolicy::Benign`].
    pub pex: PexPolicy,
    /// Established channels of one swarm that others and we may have, at most; `Limits::channels` holds beside it.
    /// Default 10,000. Others open at most three quarters of them, or all but as many as are aimed at (§12.6.1); of a few,
    /// all but one, and a single one is for a trusted peer if any is known.
    pub max_peers: usize,
    /// Established channels of one swarm below which an incomplete peer asks for others and dials them, at most
    /// `max_peers` of it. Default 32; a quarter of them, or one, is kept from peers that others named (§12.2.3).
    pub aimed_peers: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            rates: Rates::default(),
            unchoke: Arc::new(Reciprocity),
            congestion: ControllerConfig::default(),
            keep_alive: Duration::from_secs(25),
            dead_after: Duration::from_secs(180),
            mtu_v4: 1472,
            mtu_v6: 1452,
            receive_buffer: 4 << 20,
            flush_after: Duration::from_secs(1),
            pex: PexPolicy::default(),
            max_peers: 10_000,
            aimed_peers: 32,
        }
    }
}

impl EndpointConfig {
    /// Longest keep-alive interval: three must fit into the time after which a peer is dead (R12).
    pub const MAX_KEEP_ALIVE: Duration = Duration::from_secs(55);
    /// Shortest keep-alive interval.
    pub const MIN_KEEP_ALIVE: Duration = Duration::from_secs(1);
    /// Shortest silence after which a peer is dead: three keep-alives of the shortest interval fit into it.
    pub const MIN_DEAD_AFTER: Duration = Duration::from_secs(5);
    /// Least UDP payload that paths are taken to carry: that of a datagram of 576 bytes (RFC 1122 §3.3.2).
    pub const MIN_MTU: u16 = 548;

    /// This, with limits that an endpoint can work with.
    pub(crate) fn usable(mut self: Arc<Self>) -> Arc<Self> {
        let limits = self.limits.raised();
        if limits != self.limits {
            Arc::make_mut(&mut self).limits = limits;
        }
        self
    }
}

/// Between whom peer addresses are exchanged (PEX; RFC 7574 §3.10, §8.13, R24).
///
/// Plain addresses guarantee nothing: who is named may be a victim that never heard of the swarm, and who names may try
/// to surround a peer with its own kind (§12.2). What is taken is therefore bounded and dialled slowly, and neither
/// fills the slots kept for trusted sources. Addresses of a private network are never told outside it, and those of a
/// loopback never to another host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PexPolicy {
    /// Nobody asks, answers, or listens; PEX messages are not offered.
    Off,
    /// Within one private network, or within one host.
    #[default]
    Benign,
    /// On the Internet too. RFC 7574 §3.10.1 asks for a benign environment: only for swarms whose members are known.
    Open,
}

/// What one must know of a static content to join its swarm (RFC 7574 §3.1), from a trusted source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// The swarm id: root hash of the content's tree. Its length is that of the hash function.
    pub root: Hash,
    /// Hash function of the tree.
    pub function: HashFunction,
    /// How messages name chunks.
    pub addressing: ChunkAddressing,
    /// Bytes per chunk.
    pub chunk_size: ChunkSize,
    /// Length of the content in bytes. Without it the size is detected from a peer's peak hashes (§5.6, R1).
    pub content_length: Option<u64>,
}

impl Metadata {
    /// The cut of the content, if its length is known.
    ///
    /// # Errors
    /// [`GeometryError`] if the content is empty, too long, or the addressing too narrow for it.
    pub fn geometry(&self) -> Result<Option<Geometry>, GeometryError> {
        let Some(length) = self.content_length else { return Ok(None) };
        let geometry = Geometry::new(length, self.chunk_size)?;
        geometry.check_addressing(self.addressing)?;
        Ok(Some(geometry))
    }
}

/// What an endpoint holds of a content when it joins.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content {
    /// Nothing: everything is to be fetched.
    Fetch,
    /// Parts, from an earlier run. Each stored chunk is read back and verified before it counts (R22).
    Resume {
        /// The tree as far as it was known, imported with [`Tree::import`].
        tree: Tree,
        /// Chunks that were stored.
        stored: RangeSet,
        /// Nodes of groups that were stored in part: chunk-layer hashes of the group that the first element names.
        open_groups: Vec<crate::integrity::SavedGroup>,
    },
    /// All of it. Every group is verified against the tree when it is read to be sent.
    Seed {
        /// The complete tree.
        tree: Tree,
    },
}

/// A swarm to join.
#[derive(Debug)]
pub struct SwarmConfig {
    /// The content's metadata.
    pub metadata: Metadata,
    /// What is there already.
    pub content: Content,
}

/// Where the address of a peer came from; trusted sources are never displaced by others (§12.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerSource {
    /// Given by the user, a link or a trusted tracker.
    Trusted,
    /// Learned from another peer.
    Exchange,
}

/// Which chunks to fetch, and in which order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The chunks to fetch, clipped to the content.
    pub ranges: RangeSet,
    /// The order among them.
    pub order: Order,
}

/// The order in which wanted chunks are requested.
///
/// Whatever the order, what is asked for stays within `Limits::open_groups` of what is missing, so that one slow peer
/// keeps only so much waiting behind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Order {
    /// Rarest first while any peer is a leecher, from the first to the last otherwise.
    ///
    /// Among leechers each does best to fetch what the others lack, and thereby becomes someone to fetch from. From
    /// seeders alone, order costs nothing and long runs are the cheapest to prove (RFC 7574 §5.5).
    #[default]
    Auto,
    /// From the first to the last: to play or pipe the content while it is fetched.
    InOrder,
    /// What fewest peers have, at random among equals: to spread a content.
    RarestFirst,
    /// By deadline for what the heads will need soon, rarest first for the rest. At most [`Order::MAX_HEADS`] count.
    ///
    /// Near chunks are asked of the peers that can deliver them in time. To seek, set it again.
    Deadline(Vec<PlayHead>),
}

impl Order {
    /// Heads that count; further ones are ignored.
    pub const MAX_HEADS: usize = 16;
}

/// A reader of the content that moves forward by itself from the time it is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlayHead {
    /// The chunk it needs now.
    pub position: ChunkIndex,
    /// How fast it moves; 0 for a reader that waits.
    pub bytes_per_second: u64,
    /// How far ahead of it order counts, in time at its speed; one chunk at least.
    pub window: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_raised_to_the_least_and_the_default_is_not() {
        let nothing = Limits {
            swarms: 0,
            channels: 0,
            half_open: 0,
            queued_events: 0,
            unconfirmed_bytes: 0,
            open_groups: 0,
            outstanding_requests: 0,
            queued_requests: 0,
            availability_runs: 0,
            rarity_runs: 0,
            early_hashes: 0,
            pending_chunks: 0,
            cached_groups: 0,
            remembered_groups: 0,
            pending_reads: 0,
            in_flight: 0,
            upload_slots: 0,
            messages_per_datagram: 0,
            candidates: 0,
            shunned_hosts: 0,
        };
        assert_eq!(nothing.raised(), Limits::LEAST);
        assert_eq!(Limits::default().raised(), Limits::default());
        assert_eq!(
            Arc::new(EndpointConfig { limits: nothing, ..EndpointConfig::default() }).usable().limits,
            Limits::LEAST
        );
    }
}
