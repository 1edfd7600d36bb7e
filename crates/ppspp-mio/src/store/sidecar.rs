//! The state of an unfinished download, in a file beside it.
//!
//! Nothing in it is trusted when it comes back: the tree is proven against the root, node by node, and the endpoint
//! reads every stored group back and verifies it before it counts (ruling R22). A sidecar that was cut off, or that
//! mixes two checkpoints, therefore costs fetching again what it no longer proves, and nothing else. Everything but the
//! slots only ever gains information, so that a write cut short leaves either the old or the new; the two slots are
//! written in turns.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange, Geometry, GroupIndex, RangeSet};
use ppspp_core::integrity::{GroupNodes, Hash, HashFunction, SavedGroup, Tree, TreeParams};
use ppspp_core::{Checkpoint, Metadata};

use super::layout::{BLOCK, CHECK_LEN, GROUP_HEADER_LEN, Layout, SLOT_HEADER_LEN, encode_header, number};
use crate::file::Storage;

/// Groups whose bits share a block of the bitmap.
const GROUPS_PER_BLOCK: u64 = BLOCK * 8;

/// What an earlier run left.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) tree: Tree,
    pub(super) stored: RangeSet,
    pub(super) open_groups: Vec<SavedGroup>,
}

/// The sidecar of one download.
#[derive(Debug)]
pub(super) struct Sidecar {
    file: Arc<dyn Storage>,
    metadata: Metadata,
    layout: Option<Layout>,
    /// Pages that are still to be written: all of a checkpoint's that failed half way.
    pages: BTreeMap<u64, Vec<u8>>,
    peaks_saved: bool,
    /// The groups whose bits are set in the file.
    groups: RangeSet,
    /// Of the last slot written.
    sequence: u64,
    slot_check: Option<Hash>,
}

impl Sidecar {
    /// The sidecar in `file`, as an earlier run left it or about to be reset.
    pub(super) fn new(file: Arc<dyn Storage>, metadata: Metadata) -> Self {
        Self {
            file,
            metadata,
            layout: None,
            pages: BTreeMap::new(),
            peaks_saved: false,
            groups: RangeSet::new(),
            sequence: 0,
            slot_check: None,
        }
    }

    /// Forgets everything in the file; from now on it is this content's.
    pub(super) fn reset(&mut self) -> io::Result<()> {
        *self = Self::new(Arc::clone(&self.file), self.metadata.clone());
        self.file.set_len(0)?;
        self.file.write_all_at(&encode_header(&self.metadata, 0), 0)
    }

    /// Makes the content's length known. A file laid out for another length is reset first.
    ///
    /// Fails with [`io::ErrorKind::FileTooLarge`] if no file can be long enough.
    pub(super) fn set_geometry(&mut self, geometry: Geometry) -> io::Result<()> {
        let Some(length) = geometry.content_length() else { return Ok(()) };
        let layout = Layout::new(self.metadata.function, geometry).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.layout == Some(layout) {
            return Ok(());
        }
        if self.layout.is_some() {
            self.reset()?;
        }
        self.file.write_all_at(&encode_header(&self.metadata, length), 0)?;
        self.layout = Some(layout);
        Ok(())
    }

    /// The content's cut, once known.
    pub(super) fn geometry(&self) -> Option<Geometry> {
        self.layout.map(|layout| layout.geometry)
    }

    /// What the content is.
    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn params(&self) -> TreeParams {
        TreeParams { function: self.metadata.function, chunk_size: self.metadata.chunk_size }
    }

    /// Writes what changed. After an error nothing is lost: the next checkpoint writes it.
    ///
    /// Pages that come before the length is known wait for it.
    pub(super) fn save(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        let Checkpoint { pages, peaks, stored, open_groups, .. } = checkpoint;
        self.pages.extend(pages);
        let Some(layout) = self.layout else { return Ok(()) };
        while let Some(page) = self.pages.first_entry() {
            let function = self.metadata.function;
            layout.tree.write_page(&*self.file, function, &layout.geometry, *page.key(), page.get())?;
            page.remove();
        }
        if !self.peaks_saved && !peaks.is_empty() {
            layout.tree.write_peaks(&*self.file, &peaks)?;
            self.peaks_saved = true;
        }
        self.save_bitmap(&layout, whole_groups(&layout.geometry, &stored))?;
        self.save_slot(&layout, &stored, &open_groups)
    }

    fn save_bitmap(&mut self, layout: &Layout, groups: RangeSet) -> io::Result<()> {
        let came = groups.runs().flat_map(|run| self.groups.missing_in(run));
        let went = self.groups.runs().flat_map(|run| groups.missing_in(run));
        let block_of =
            |run: ChunkRange| ChunkRange::new(run.start() / GROUPS_PER_BLOCK, (run.end() - 1) / GROUPS_PER_BLOCK + 1);
        let blocks: RangeSet = came.chain(went).map(block_of).collect();
        for block in blocks.runs().flat_map(ChunkRange::iter).map(ChunkIndex::value) {
            let first = block * GROUPS_PER_BLOCK;
            let mut bits = vec![0u8; BLOCK as usize];
            let runs = groups.intersection_in(ChunkRange::new(first, first + GROUPS_PER_BLOCK));
            for group in runs.flat_map(ChunkRange::iter) {
                let bit = group.value() - first;
                if let Some(byte) = bits.get_mut((bit / 8) as usize) {
                    *byte |= 1 << (bit % 8);
                }
            }
            self.file.write_all_at(&bits, layout.bitmap_at + block * BLOCK)?;
        }
        self.groups = groups;
        Ok(())
    }

    fn save_slot(&mut self, layout: &Layout, stored: &RangeSet, open_groups: &[SavedGroup]) -> io::Result<()> {
        let mut body = Vec::new();
        let open = open_groups.iter().filter(|open| !self.groups.contains(ChunkIndex::new(open.group().value())));
        for open in open.take(layout.max_saved as usize) {
            let nodes = open.nodes().get(..(layout.max_nodes as usize).min(open.nodes().len())).unwrap_or_default();
            body.extend_from_slice(&open.group().value().to_be_bytes());
            body.extend_from_slice(&mask(&layout.geometry, open.group(), stored).to_be_bytes());
            body.extend_from_slice(&(nodes.len() as u64).to_be_bytes());
            for (bin, hash) in nodes {
                body.extend_from_slice(&bin.number().to_be_bytes());
                body.extend_from_slice(hash.as_slice());
            }
        }
        let check = HashFunction::Sha256.leaf(&body);
        if self.slot_check == Some(check) || (body.is_empty() && self.sequence == 0) {
            return Ok(());
        }
        let sequence = self.sequence + 1;
        let mut slot = sequence.to_be_bytes().to_vec();
        slot.extend_from_slice(&(body.len() as u64).to_be_bytes());
        slot.extend_from_slice(slot_check(sequence, &body).as_slice());
        slot.extend_from_slice(&body);
        self.file.write_all_at(&slot, layout.slot_at(sequence))?;
        (self.sequence, self.slot_check) = (sequence, Some(check));
        Ok(())
    }

    /// Reads back what an earlier run saved of the content with that cut; `None` if the cut cannot be the content's.
    pub(super) fn load(&mut self, geometry: Geometry) -> Option<Saved> {
        let layout = Layout::new(self.metadata.function, geometry)?;
        let tree = layout.tree.read(&*self.file, self.params(), self.metadata.root, geometry)?;
        let groups = self.load_bitmap(&layout);
        let mut stored = RangeSet::new();
        for group in groups.runs().flat_map(ChunkRange::iter).map(|index| GroupIndex::new(index.value())) {
            if is_provable(&tree, &geometry, group) {
                stored.insert(geometry.group_chunks(group));
            }
        }
        let (sequence, body) = self.load_slots(&layout);
        let mut open_groups = Vec::new();
        for (open, mask) in decode_slot(&layout, self.metadata.function, &body) {
            let chunks = geometry.group_chunks(open.group());
            if !is_provable(&tree, &geometry, open.group()) || stored.intersects(chunks) {
                continue;
            }
            for chunk in chunks.iter().filter(|chunk| mask >> (chunk.value() - chunks.start()) & 1 == 1) {
                stored.insert(ChunkRange::single(chunk));
            }
            open_groups.push(open);
        }
        self.layout = Some(layout);
        self.groups = groups;
        self.sequence = sequence;
        Some(Saved { tree, stored, open_groups })
    }

    fn load_bitmap(&self, layout: &Layout) -> RangeSet {
        let mut groups = RangeSet::new();
        let mut bits = vec![0; BLOCK as usize];
        for at in (0..layout.bitmap_len()).step_by(BLOCK as usize) {
            if self.file.read_exact_at(&mut bits, layout.bitmap_at + at).is_err() {
                break;
            }
            for (byte, index) in bits.iter().zip(0u64..).filter(|(byte, _)| **byte != 0) {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                    let group = (at + index) * 8 + bit;
                    groups.insert(ChunkRange::new(group, group + 1));
                }
            }
        }
        groups.clip_to(ChunkRange::new(0, layout.geometry.group_count()));
        groups
    }

    /// The newer of the two slots that are whole: its number and body; number zero if there is none.
    fn load_slots(&self, layout: &Layout) -> (u64, Vec<u8>) {
        let slots = [0, 1].into_iter().filter_map(|slot| self.load_slot(layout, layout.slot_at(slot)));
        slots.max_by_key(|(sequence, _)| *sequence).unwrap_or_default()
    }

    fn load_slot(&self, layout: &Layout, at: u64) -> Option<(u64, Vec<u8>)> {
        let mut header = [0; SLOT_HEADER_LEN as usize];
        self.file.read_exact_at(&mut header, at).ok()?;
        let (sequence, len) = (number(&header, 0, 8), number(&header, 8, 8));
        if len > layout.slot_len - SLOT_HEADER_LEN {
            return None;
        }
        let mut body = vec![0; len as usize];
        self.file.read_exact_at(&mut body, at + SLOT_HEADER_LEN).ok()?;
        let check = slot_check(sequence, &body);
        let whole = header.get(16..16 + CHECK_LEN) == Some(check.as_slice());
        // A sequence that cannot grow is none that was written.
        (whole && sequence < u64::MAX).then_some((sequence, body))
    }
}

fn slot_check(sequence: u64, body: &[u8]) -> Hash {
    HashFunction::Sha256
        .node(HashFunction::Sha256.leaf(&sequence.to_be_bytes()).as_slice(), HashFunction::Sha256.leaf(body).as_slice())
}

/// The groups of which every chunk is in `stored`.
fn whole_groups(geometry: &Geometry, stored: &RangeSet) -> RangeSet {
    let layer = geometry.group_layer();
    let whole = |run: ChunkRange| {
        let end = if run.end() >= geometry.chunk_count() { geometry.group_count() } else { run.end() >> layer };
        ChunkRange::new(run.start().div_ceil(1 << layer), end)
    };
    stored.runs().map(whole).collect()
}

/// Bit n: the n-th chunk of the group is in `stored`.
fn mask(geometry: &Geometry, group: GroupIndex, stored: &RangeSet) -> u64 {
    let chunks = geometry.group_chunks(group);
    let stored = stored.intersection_in(chunks).flat_map(ChunkRange::iter);
    stored.fold(0, |mask, chunk| mask | 1 << (chunk.value() - chunks.start()))
}

/// Whether the group's bytes can be verified: its hash is known, or the peaks that stand in for it at the content's end.
fn is_provable(tree: &Tree, geometry: &Geometry, group: GroupIndex) -> bool {
    let nodes = GroupNodes::empty(tree.params().function, geometry.group_chunks(group));
    !nodes.chunks().is_empty() && nodes.tops().all(|(bin, _)| tree.node(bin).is_some())
}

/// The groups in a slot, with the mask of their stored chunks. What does not fit the layout ends the list.
fn decode_slot(layout: &Layout, function: HashFunction, body: &[u8]) -> impl Iterator<Item = (SavedGroup, u64)> {
    let node_len = 8 + function.len();
    let mut rest = body;
    let groups = std::iter::from_fn(move || {
        let header = rest.get(..GROUP_HEADER_LEN as usize)?;
        let (group, mask, count) = (number(header, 0, 8), number(header, 8, 8), number(header, 16, 8));
        if count > layout.max_nodes || group >= layout.geometry.group_count() {
            return None;
        }
        let end = header.len() + count as usize * node_len;
        let nodes = rest.get(header.len()..end)?.chunks_exact(node_len);
        let node =
            |node: &[u8]| Some((Bin::from_number(number(node, 0, 8))?, node.get(8..).and_then(Hash::from_slice)?));
        let saved = SavedGroup::new(GroupIndex::new(group), nodes.filter_map(node));
        rest = rest.get(end..)?;
        Some((saved, mask))
    });
    groups.take(layout.max_saved as usize)
}
