//! What tests stand in for a disk with.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use ppspp_core::chunk::{ChunkAddressing, ChunkIndex, ChunkRange, ChunkSize, Geometry, GroupIndex, RangeSet};
use ppspp_core::integrity::{
    EarlyHashes, GroupNodes, Hash, HashFunction, SavedGroup, Tree, TreeBuilder, TreeParams, Verdict, Verifier, uncles,
};
use ppspp_core::{Checkpoint, Instant, Metadata};

use crate::file::Storage;

/// A file in memory that fails when it is told to.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Vec<u8>,
    read_error: Option<io::ErrorKind>,
    sync_error: Option<io::ErrorKind>,
    /// Bytes that may still be written before the disk is full.
    room: usize,
    /// What the next writes come to: at most so many bytes, or an error.
    answers: VecDeque<Result<usize, io::ErrorKind>>,
    written: usize,
    writes: usize,
    syncs: usize,
}

impl Memory {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(Inner {
            bytes,
            read_error: None,
            sync_error: None,
            room: usize::MAX,
            answers: VecDeque::new(),
            written: 0,
            writes: 0,
            syncs: 0,
        }))
    }

    pub(crate) fn fail_reads(&self, kind: io::ErrorKind) {
        self.lock().read_error = Some(kind);
    }

    pub(crate) fn fail_syncs(&self, kind: io::ErrorKind) {
        self.lock().sync_error = Some(kind);
    }

    /// The disk is full once that many more bytes are written.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.lock().room = bytes;
    }

    /// What the next writes come to: at most so many bytes, or an error.
    pub(crate) fn answer_writes(&self, answers: impl IntoIterator<Item = Result<usize, io::ErrorKind>>) {
        self.lock().answers = answers.into_iter().collect();
    }

    /// How many writes there were that wrote something.
    pub(crate) fn writes(&self) -> usize {
        self.lock().writes
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> usize {
        self.lock().written
    }

    /// How often the file was made durable.
    pub(crate) fn syncs(&self) -> usize {
        self.lock().syncs
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Storage for Memory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.lock();
        if let Some(kind) = inner.read_error {
            return Err(kind.into());
        }
        let start = (offset as usize).min(inner.bytes.len());
        // Not always all that is asked for: so do network file systems, and signals make it.
        let count = (inner.bytes.len() - start).min(buffer.len()).min(100_000);
        buffer[..count].copy_from_slice(&inner.bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.write_vectored_at(&[IoSlice::new(data)], offset)
    }

    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut inner = self.lock();
        let most = inner.answers.pop_front().unwrap_or(Ok(usize::MAX))?;
        let data = pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>();
        let count = data.len().min(inner.room);
        if count == 0 && !data.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = count.min(most);
        inner.room -= count;
        inner.written += count;
        inner.writes += usize::from(count > 0);
        let start = offset as usize;
        if inner.bytes.len() < start + count {
            inner.bytes.resize(start + count, 0);
        }
        inner.bytes[start..start + count].copy_from_slice(&data[..count]);
        Ok(count)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().bytes.resize(len as usize, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.syncs += 1;
        inner.sync_error.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

/// A content with its tree, and what a leecher is told of it.
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) tree: Tree,
    pub(crate) geometry: Geometry,
    pub(crate) metadata: Metadata,
}

impl Content {
    pub(crate) fn new(len: usize, function: HashFunction, chunk_size: u32, seed: u64) -> Self {
        let params = TreeParams { function, chunk_size: ChunkSize::new(chunk_size).unwrap() };
        let data = noise(len, seed);
        let geometry = Geometry::new(len as u64, params.chunk_size).unwrap();
        let mut builder = TreeBuilder::new(params, geometry);
        for span in builder.spans() {
            let bytes = span.byte_range();
            let bytes = &data[bytes.start as usize..bytes.end as usize];
            builder.add(TreeBuilder::hash_span(params, geometry, span, bytes).unwrap()).unwrap();
        }
        let tree = builder.finish().unwrap();
        let metadata = Metadata {
            root: *tree.root(),
            function,
            addressing: ChunkAddressing::Chunk64,
            chunk_size: params.chunk_size,
            content_length: Some(len as u64),
        };
        Self { data, tree, geometry, metadata }
    }

    pub(crate) fn bytes(&self, range: ChunkRange) -> (u64, &[u8]) {
        let bytes = self.geometry.byte_range(range);
        (bytes.start, &self.data[bytes.start as usize..bytes.end as usize])
    }

    /// Every hash that proves `chunk`.
    fn proof(&self, chunk: ChunkIndex) -> EarlyHashes {
        let group = self.geometry.group_of(chunk);
        let (_, data) = self.bytes(self.geometry.group_chunks(group));
        let nodes = GroupNodes::from_data(self.metadata.function, &self.geometry, group, data).unwrap();
        let mut proof = EarlyHashes::new(256);
        let peaks = self.tree.peaks().iter().map(|(bin, _)| *bin);
        for bin in uncles(&self.geometry, chunk, |_| false).into_iter().chain(peaks) {
            let hash = self.tree.node(bin).or_else(|| nodes.get(bin)).unwrap();
            proof.insert(bin, hash, Instant::ZERO);
        }
        proof
    }
}

/// What an endpoint does with chunks, as far as storage sees it.
pub(crate) struct Leecher {
    pub(crate) verifier: Verifier,
    pub(crate) stored: RangeSet,
}

impl Leecher {
    pub(crate) fn new(content: &Content) -> Self {
        let tree = &content.tree;
        let verifier = Verifier::new(tree.params(), *tree.root(), Some(content.geometry), 1 << 16);
        Self { verifier, stored: RangeSet::new() }
    }

    /// Receives a chunk; the caller stores it before the next checkpoint.
    pub(crate) fn receive(&mut self, content: &Content, chunk: ChunkIndex) {
        let (_, data) = content.bytes(ChunkRange::single(chunk));
        assert_eq!(self.verifier.check(chunk, data, &content.proof(chunk)), Verdict::Verified);
        self.stored.insert(ChunkRange::single(chunk));
        let group = content.geometry.group_of(chunk);
        if self.stored.covers(content.geometry.group_chunks(group)) {
            self.verifier.close_group(group);
        }
    }

    pub(crate) fn checkpoint(&mut self) -> Checkpoint {
        let tree = self.verifier.tree_mut();
        let pages = tree.take_dirty().into_iter().map(|page| (page, tree.page_bytes(page).unwrap())).collect();
        let mut checkpoint = Checkpoint::default();
        checkpoint.pages = pages;
        checkpoint.peaks = tree.peaks().to_vec();
        checkpoint.stored = self.stored.clone();
        let saved = |group, nodes: &GroupNodes| {
            SavedGroup::new(group, nodes.iter().map(|(bin, hash)| (bin, Hash::from_slice(hash).unwrap())))
        };
        checkpoint.open_groups = self.verifier.open_groups().map(|(group, open)| saved(group, open.nodes())).collect();
        checkpoint
    }

    /// Takes up what an earlier run left, reading back what is said to be stored: what verifies is stored.
    pub(crate) fn resume(
        tree: Tree,
        claimed: &RangeSet,
        open_groups: &[SavedGroup],
        read: impl Fn(u64, usize) -> Bytes,
    ) -> Self {
        let geometry = tree.geometry().unwrap();
        let mut leecher = Self { verifier: Verifier::from_tree(tree, 1 << 16), stored: RangeSet::new() };
        for open in open_groups {
            leecher.verifier.restore_open_group(open.group(), open.nodes());
        }
        for run in claimed.runs() {
            for group in geometry.groups_touching(run) {
                let range = run.intersection(geometry.group_chunks(group));
                leecher.read_back(&geometry, group, range, &read);
            }
        }
        leecher
    }

    fn read_back(
        &mut self,
        geometry: &Geometry,
        group: GroupIndex,
        range: ChunkRange,
        read: &impl Fn(u64, usize) -> Bytes,
    ) {
        let read = |range| {
            let bytes = geometry.byte_range(range);
            read(bytes.start, (bytes.end - bytes.start) as usize)
        };
        if range == geometry.group_chunks(group) {
            let function = self.verifier.tree().params().function;
            let nodes = GroupNodes::from_data(function, geometry, group, &read(range)).unwrap();
            if self.verifier.verify_group(group, &nodes) {
                self.verifier.mark_complete(group);
                self.stored.insert(range);
            }
            return;
        }
        for chunk in range.iter() {
            let single = ChunkRange::single(chunk);
            if self.verifier.check(chunk, &read(single), &EarlyHashes::new(0)) == Verdict::Verified {
                self.stored.insert(single);
            }
        }
    }
}

/// Bytes without a pattern, the same for the same seed (splitmix64).
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
