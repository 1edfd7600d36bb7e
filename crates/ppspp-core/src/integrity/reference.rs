//! The slow twin: the whole tree of RFC 7574 §5.1 by recursion, every node down to the empty ones.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::{EarlyHashes, Hash, HashFunction, TreeParams};
use crate::chunk::{Bin, ChunkIndex, ChunkRange, ChunkSize, Geometry};
use crate::time::Instant;

/// A content and how it is cut.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) params: TreeParams,
    pub(crate) geometry: Geometry,
    pub(crate) data: Vec<u8>,
    nodes: BTreeMap<Bin, Hash>,
}

impl Content {
    /// `chunks` chunks of which no two are equal, the last of `last` bytes.
    pub(crate) fn new(function: HashFunction, chunk_size: u32, chunks: u64, last: u32) -> Self {
        let chunk_size = ChunkSize::new(chunk_size).unwrap();
        let size = u64::from(chunk_size.bytes());
        let geometry = Geometry::new((chunks - 1) * size + u64::from(last), chunk_size).unwrap();
        let mut data = Vec::new();
        for chunk in 0..chunks {
            let len = geometry.chunk_len(ChunkIndex::new(chunk)).unwrap() as usize;
            let mut bytes = std::vec![chunk as u8 ^ 0x5a; len];
            let tag = (chunk + 1).to_be_bytes();
            for (to, from) in bytes.iter_mut().zip(tag.iter().rev()) {
                *to = *from;
            }
            data.extend_from_slice(&bytes);
        }
        let params = TreeParams { function, chunk_size };
        let mut content = Self { params, geometry, data, nodes: BTreeMap::new() };
        content.hash_below(geometry.root());
        content
    }

    pub(crate) fn chunk(&self, chunk: u64) -> &[u8] {
        let size = self.params.chunk_size.bytes() as usize;
        self.data.chunks(size).nth(chunk as usize).unwrap()
    }

    pub(crate) fn bytes(&self, chunks: ChunkRange) -> &[u8] {
        let bytes = self.geometry.byte_range(chunks);
        &self.data[bytes.start as usize..bytes.end as usize]
    }

    /// RFC 7574 §5.1, word by word.
    fn hash_below(&mut self, bin: Bin) -> Hash {
        let function = self.params.function;
        let chunk = bin.base_range().start();
        let hash = match bin.children() {
            Some((left, right)) => {
                let (left, right) = (self.hash_below(left), self.hash_below(right));
                let joined = [left.as_slice(), right.as_slice()].concat();
                if left.is_zero() && right.is_zero() { Hash::zero(function) } else { function.leaf(&joined) }
            }
            None if chunk < self.geometry.chunk_count() => function.leaf(self.chunk(chunk)),
            None => Hash::zero(function),
        };
        self.nodes.insert(bin, hash);
        hash
    }

    /// The hash of a node at or below the root.
    pub(crate) fn node(&self, bin: Bin) -> Hash {
        self.nodes[&bin]
    }

    /// Every node at or below the root.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Bin, Hash)> {
        self.nodes.iter().map(|(bin, hash)| (*bin, *hash))
    }

    pub(crate) fn root(&self) -> Hash {
        self.node(self.geometry.root())
    }

    pub(crate) fn peaks(&self) -> Vec<(Bin, Hash)> {
        self.geometry.peaks().map(|bin| (bin, self.node(bin))).collect()
    }

    /// The siblings all the way to the root: what RFC 7574 §5.2 asks for, padding included.
    pub(crate) fn full_proof(&self, chunk: u64) -> Vec<Bin> {
        let mut bin = Bin::leaf(ChunkIndex::new(chunk)).unwrap();
        let mut proof = Vec::new();
        while bin != self.geometry.root() {
            proof.push(bin.sibling().unwrap());
            bin = bin.parent().unwrap();
        }
        proof
    }

    /// The hashes of `bins` as a peer that does not lie would send them.
    pub(crate) fn early(&self, bins: impl IntoIterator<Item = Bin>) -> EarlyHashes {
        let mut early = EarlyHashes::new(256);
        for bin in bins {
            early.insert(bin, self.node(bin).as_slice(), Instant::ZERO);
        }
        early
    }
}
