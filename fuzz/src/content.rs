//! Small contents with their whole trees, and a configuration whose bounds a short input can reach.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ppspp_core::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkRange, ChunkSize, Geometry};
use ppspp_core::integrity::{Hash, HashFunction, Tree, TreeBuilder, TreeParams};
use ppspp_core::wire::{ChannelId, Format, Handshake};
use ppspp_core::{EndpointConfig, Metadata};

/// The content of the capture `libswift-7162`, so that its datagrams mean something here.
const CAPTURED: &[u8] = include_bytes!("../../crates/ppspp-core/tests/vectors/libswift-7162.content.bin");

/// A content and everything that can be computed from it.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tree: Tree,
    pub(crate) metadata: Metadata,
    pub(crate) geometry: Geometry,
    pub(crate) nodes: BTreeMap<Bin, Hash>,
}

/// Contents of one chunk, of one group, of a full tree, with a short last chunk; each addressing, each hash.
pub(crate) fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let made = |len, function, addressing, chunk_size| Sample::new(pattern(len), function, addressing, chunk_size);
        [
            Sample::new(CAPTURED.to_vec(), HashFunction::Sha1, ChunkAddressing::Chunk32, 1024),
            made(69 * 512 + 300, HashFunction::Sha256, ChunkAddressing::Chunk32, 512),
            made(33 * 512, HashFunction::Sha512, ChunkAddressing::Byte64, 512),
            made(600, HashFunction::Sha256, ChunkAddressing::Bin32, 1024),
            made(32 * 1024, HashFunction::Sha224, ChunkAddressing::Bin64, 1024),
            made(4 * 8192 + 1, HashFunction::Sha384, ChunkAddressing::Chunk64, 8192),
            made(2 * 20_000 + 77, HashFunction::Sha256, ChunkAddressing::Byte64, 20_000),
            made(47 * 512 + 511, HashFunction::Sha1, ChunkAddressing::Bin32, 512),
        ]
        .into_iter()
        .flatten()
        .collect()
    })
}

/// Bytes of which no two chunks are equal.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .collect()
}

impl Sample {
    fn new(bytes: Vec<u8>, function: HashFunction, addressing: ChunkAddressing, chunk_size: u32) -> Option<Self> {
        let chunk_size = ChunkSize::new(chunk_size).ok()?;
        let params = TreeParams { function, chunk_size };
        let geometry = Geometry::new(bytes.len() as u64, chunk_size).ok()?;
        let mut builder = TreeBuilder::new(params, geometry);
        for span in builder.spans() {
            let range = span.byte_range();
            let data = bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?;
            builder.add(TreeBuilder::hash_span(params, geometry, span, data).ok()?).ok()?;
        }
        let tree = builder.finish().ok()?;
        let content_length = Some(bytes.len() as u64);
        let metadata = Metadata { root: *tree.root(), function, addressing, chunk_size, content_length };
        let mut sample = Self { bytes, tree, metadata, geometry, nodes: BTreeMap::new() };
        let root = sample.hash_below(geometry.root());
        assert_eq!(root, sample.metadata.root, "the tree builder disagrees with RFC 7574 section 5.1");
        Some(sample)
    }

    /// A content of 200 KiB: more than a window holds, and several groups.
    pub(crate) fn large() -> Option<Self> {
        Self::new(pattern(200 * 1024), HashFunction::Sha256, ChunkAddressing::Chunk32, 1024)
    }

    /// RFC 7574 §5.1 by recursion: fills in the hash of `bin` and of all below it.
    fn hash_below(&mut self, bin: Bin) -> Hash {
        let function = self.metadata.function;
        let chunk = ChunkIndex::new(bin.base_range().start());
        let hash = match bin.children() {
            _ if chunk.value() >= self.geometry.chunk_count() => Hash::zero(function),
            Some((left, right)) => {
                let (left, right) = (self.hash_below(left), self.hash_below(right));
                function.leaf(&[left.as_slice(), right.as_slice()].concat())
            }
            None => function.leaf(self.chunk(chunk)),
        };
        self.nodes.insert(bin, hash);
        hash
    }

    pub(crate) fn params(&self) -> TreeParams {
        TreeParams { function: self.metadata.function, chunk_size: self.metadata.chunk_size }
    }

    pub(crate) fn format(&self) -> Format {
        let Metadata { addressing, chunk_size, function, .. } = self.metadata;
        Format::new(addressing, chunk_size, function.len(), 0).with_content_length(self.metadata.content_length)
    }

    /// The bytes of a chunk; none past the end.
    pub(crate) fn chunk(&self, chunk: ChunkIndex) -> &[u8] {
        self.of_range(ChunkRange::single(chunk))
    }

    /// The bytes of a run of chunks, clipped to the content.
    pub(crate) fn of_range(&self, range: ChunkRange) -> &[u8] {
        let bytes = self.geometry.byte_range(range);
        let end = usize::try_from(bytes.end).unwrap_or(usize::MAX);
        self.bytes.get(usize::try_from(bytes.start).unwrap_or(usize::MAX)..end).unwrap_or_default()
    }

    /// A HANDSHAKE that fits the swarm.
    pub(crate) fn opening(&self, source: ChannelId) -> Handshake<'_> {
        Handshake {
            source,
            version: Some(1),
            min_version: Some(1),
            swarm_id: Some(self.metadata.root.as_slice()),
            integrity_method: Some(1),
            hash_function: Some(self.metadata.function.code()),
            addressing: Some(self.metadata.addressing.code()),
            chunk_size: Some(self.metadata.chunk_size.bytes()),
            ..Handshake::default()
        }
    }
}

/// Bounds so low that a short input reaches them.
pub(crate) fn small_config() -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::default();
    let limits = &mut config.limits;
    limits.channels = 8;
    limits.half_open = 3;
    limits.queued_events = 16;
    limits.unconfirmed_bytes = 24 * 1024;
    limits.open_groups = 2;
    limits.outstanding_requests = 48;
    limits.queued_requests = 8;
    limits.availability_runs = 8;
    limits.early_hashes = 128;
    limits.pending_chunks = 8;
    limits.cached_groups = 2;
    limits.pending_reads = 2;
    limits.in_flight = 32;
    limits.messages_per_datagram = 128;
    Arc::new(config)
}
