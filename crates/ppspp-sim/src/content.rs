//! Contents: bytes that anyone can tell from others, their tree, and what describes them.

use std::sync::Arc;

use bytes::Bytes;
use ppspp_core::Metadata;
use ppspp_core::chunk::{ChunkAddressing, ChunkRange, ChunkSize, Geometry, GeometryError};
use ppspp_core::integrity::{HashFunction, Tree, TreeBuilder, TreeParams};
use ppspp_core::wire::Format;
use thiserror::Error;

/// Longest content in bytes: it is kept in memory, once for all hosts.
pub const MAX_LENGTH: u64 = 4 << 30;

/// A content that cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It cannot be cut into chunks.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// It does not fit into memory.
    #[error("{0} bytes are too many, a content is kept in memory and has at most {MAX_LENGTH}")]
    TooLong(u64),
}

/// How a content is cut, hashed and addressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentSpec {
    /// Length in bytes.
    pub length: u64,
    /// Bytes per chunk.
    pub chunk_size: ChunkSize,
    /// Hash function of the tree.
    pub function: HashFunction,
    /// How messages name chunks.
    pub addressing: ChunkAddressing,
    /// Whether the metadata tells the length; otherwise peers detect it (RFC 7574 §5.6).
    pub length_known: bool,
}

impl ContentSpec {
    /// `length` bytes with the protocol's defaults.
    pub const fn new(length: u64) -> Self {
        Self {
            length,
            chunk_size: ChunkSize::DEFAULT,
            function: HashFunction::Sha256,
            addressing: ChunkAddressing::Chunk32,
            length_known: true,
        }
    }
}

/// A content that hosts seed and fetch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Content {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spec: ContentSpec,
    bytes: Bytes,
    tree: Tree,
    metadata: Metadata,
    geometry: Geometry,
    format: Format,
}

impl Content {
    /// Bytes drawn from `seed`, hashed.
    ///
    /// # Errors
    /// [`ContentError`] if the length is zero, too large for the addressing, or for memory.
    pub fn new(spec: ContentSpec, seed: u64) -> Result<Self, ContentError> {
        if spec.length > MAX_LENGTH {
            return Err(ContentError::TooLong(spec.length));
        }
        let geometry = Geometry::new(spec.length, spec.chunk_size)?;
        geometry.check_addressing(spec.addressing)?;
        let bytes = Bytes::from(pattern(spec.length, seed));
        let params = TreeParams { function: spec.function, chunk_size: spec.chunk_size };
        let tree = hash(params, geometry, &bytes);
        let metadata = Metadata {
            root: *tree.root(),
            function: spec.function,
            addressing: spec.addressing,
            chunk_size: spec.chunk_size,
            content_length: spec.length_known.then_some(spec.length),
        };
        let format = Format::new(spec.addressing, spec.chunk_size, spec.function.len(), 0)
            .with_content_length(Some(spec.length));
        Ok(Self { inner: Arc::new(Inner { spec, bytes, tree, metadata, geometry, format }) })
    }

    /// How it was made.
    pub fn spec(&self) -> &ContentSpec {
        &self.inner.spec
    }

    /// All its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.inner.bytes
    }

    /// The bytes of `range`.
    pub fn slice(&self, range: ChunkRange) -> Bytes {
        let bytes = self.inner.geometry.byte_range(range);
        self.inner.bytes.slice(bytes.start as usize..bytes.end as usize)
    }

    /// Its hash tree.
    pub fn tree(&self) -> &Tree {
        &self.inner.tree
    }

    /// What a link would carry.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// Its cut into chunks.
    pub fn geometry(&self) -> &Geometry {
        &self.inner.geometry
    }

    /// How messages about it are written.
    pub fn format(&self) -> &Format {
        &self.inner.format
    }
}

/// Bytes of which no two chunks are alike: a generator's numbers, cheap and the same everywhere.
fn pattern(length: u64, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while (bytes.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

fn hash(params: TreeParams, geometry: Geometry, bytes: &[u8]) -> Tree {
    let mut builder = TreeBuilder::new(params, geometry);
    for span in builder.spans() {
        let range = span.byte_range();
        let nodes = TreeBuilder::hash_span(params, geometry, span, &bytes[range.start as usize..range.end as usize]);
        let added = nodes.map(|nodes| builder.add(nodes));
        debug_assert!(matches!(added, Ok(Ok(()))), "the builder's spans cover the content");
    }
    match builder.finish() {
        Ok(tree) => tree,
        Err(_) => unreachable!("every span was added"),
    }
}
