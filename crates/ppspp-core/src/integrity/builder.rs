//! Building the tree of a content, in pieces that may be hashed side by side.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use arrayvec::ArrayVec;
use thiserror::Error;

use super::group::top_hashes;
use super::page::{Known, PAGE_LAYER, PAGE_NODES, Page, is_known, set_known};
use super::{GroupNodes, Hash, Tree, TreeParams, root_from_peaks};
use crate::chunk::{Bin, ChunkRange, Geometry, GroupIndex, RangeSet};

/// Groups in one span: those of one page, 4 MiB of content.
const SPAN_GROUPS: u64 = PAGE_NODES as u64 / 2;

/// An aligned run of at most 256 groups that can be hashed by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildSpan {
    index: u64,
    groups: Range<u64>,
    bytes: Range<u64>,
}

impl BuildSpan {
    /// The `index`-th span of a content; `None` past its end.
    fn new(geometry: &Geometry, index: u64) -> Option<Self> {
        let first = index.checked_mul(SPAN_GROUPS).filter(|first| *first < geometry.group_count())?;
        let groups = first..geometry.group_count().min(first + SPAN_GROUPS);
        let layer = geometry.group_layer();
        let bytes = geometry.byte_range(ChunkRange::new(groups.start << layer, groups.end << layer));
        Some(Self { index, groups, bytes })
    }

    /// The span's place in the content, counted from zero.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The groups, in order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = GroupIndex> + use<> {
        let first = self.groups.start;
        (0..(self.groups.end - first) as usize).map(move |offset| GroupIndex::new(first + offset as u64))
    }

    /// The bytes of the content that the span covers.
    pub const fn byte_range(&self) -> Range<u64> {
        self.bytes.start..self.bytes.end
    }
}

/// Bytes that are not those of a span.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SpanError {
    /// A group or a span came with a wrong number of bytes, or after the last.
    #[error("{found} bytes were given for bytes {expected:?} of the content; read exactly these")]
    Length {
        /// The bytes of the content that were due.
        expected: Range<u64>,
        /// How many bytes were given.
        found: usize,
    },
    /// The content has no such span.
    #[error("the content has no span {0}; take spans from the builder of the same geometry")]
    NoSuchSpan(u64),
    /// Not every group was given.
    #[error("{missing} groups of span {span} were not given")]
    Unfinished {
        /// The span.
        span: u64,
        /// How many groups are missing.
        missing: usize,
    },
}

/// The hashes of one span.
#[derive(Clone, Debug)]
pub struct SpanNodes {
    span: BuildSpan,
    page: Page,
    /// The peaks in the group that the content's end cuts.
    cut: ArrayVec<(Bin, Hash), 6>,
}

/// Hashes one span group by group, so that no more than 16 KiB need be in memory, or 60 KiB for large chunks.
#[derive(Clone, Debug)]
pub struct SpanHasher {
    params: TreeParams,
    geometry: Geometry,
    span: BuildSpan,
    /// The next group's place in the span.
    next: u64,
    nodes: GroupNodes,
    raw: Vec<u8>,
    known: Known,
    cut: ArrayVec<(Bin, Hash), 6>,
}

impl SpanHasher {
    /// Starts on `span`, one of [`TreeBuilder::spans`] for the same parameters and geometry.
    pub fn new(params: TreeParams, geometry: Geometry, span: BuildSpan) -> Self {
        let nodes = GroupNodes::empty(params.function, ChunkRange::EMPTY);
        let raw = vec![0; PAGE_NODES * params.function.len()];
        Self { params, geometry, span, next: 0, nodes, raw, known: Known::default(), cut: ArrayVec::new() }
    }

    /// The bytes of the content that the next group covers; empty after the last.
    pub fn next_bytes(&self) -> Range<u64> {
        let group = self.span.groups.start + self.next;
        if group >= self.span.groups.end {
            return self.span.bytes.end..self.span.bytes.end;
        }
        self.geometry.byte_range(self.geometry.group_chunks(GroupIndex::new(group)))
    }

    /// Hashes the next group.
    ///
    /// # Errors
    /// [`SpanError::Length`] unless `data` is as long as [`SpanHasher::next_bytes`]; the group is then still due.
    pub fn push_group(&mut self, data: &[u8]) -> Result<(), SpanError> {
        let group = GroupIndex::new(self.span.groups.start + self.next);
        let expected = self.next_bytes();
        let ours = group.value() < self.span.groups.end && self.nodes.refill(&self.geometry, group, data);
        if !ours {
            return Err(SpanError::Length { expected, found: data.len() });
        }
        let Some(tops) = top_hashes(&self.nodes) else {
            return Err(SpanError::Length { expected, found: data.len() });
        };
        match tops.as_slice() {
            [(bin, hash)] if bin.layer() == self.geometry.group_layer() => {
                self.put(self.next as usize * 2, hash.as_slice());
            }
            _ => self.cut = tops,
        }
        self.next += 1;
        Ok(())
    }

    /// The span's hashes.
    ///
    /// # Errors
    /// [`SpanError::Unfinished`] if not every group was pushed.
    pub fn finish(mut self) -> Result<SpanNodes, SpanError> {
        let missing = (self.span.groups.end - self.span.groups.start - self.next) as usize;
        if missing > 0 {
            return Err(SpanError::Unfinished { span: self.span.index, missing });
        }
        let len = self.params.function.len();
        for layer in 1..=PAGE_LAYER {
            let half = 1usize << (layer - 1);
            let child = |slot: usize| {
                let hash = self.raw.get(slot * len..(slot + 1) * len)?;
                is_known(&self.known, slot).then_some(hash)
            };
            let parents = ((1usize << layer) - 1..PAGE_NODES).step_by(1 << (layer + 1));
            let pairs: Vec<[&[u8]; 2]> =
                parents.clone().map_while(|slot| Some([child(slot - half)?, child(slot + half)?])).collect();
            let mut hashes = vec![Hash::zero(self.params.function); pairs.len()];
            self.params.function.node_many(&pairs, &mut hashes);
            for (slot, hash) in parents.zip(&hashes) {
                self.put(slot, hash.as_slice());
            }
        }
        let page = Page::from_raw(self.known, &self.raw, len);
        Ok(SpanNodes { span: self.span, page, cut: self.cut })
    }

    fn put(&mut self, slot: usize, hash: &[u8]) {
        if let Some(place) = self.raw.get_mut(slot * hash.len()..(slot + 1) * hash.len()) {
            place.copy_from_slice(hash);
            set_known(&mut self.known, slot);
        }
    }
}

/// A tree cannot be finished before all of its spans are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{missing} of {spans} spans were not added; hash and add each span once")]
pub struct Incomplete {
    /// Spans that are missing.
    pub missing: u64,
    /// Spans of the content.
    pub spans: u64,
}

/// Builds the tree of a content whose bytes the caller reads.
///
/// Take the spans, hash each with [`SpanHasher`] or [`TreeBuilder::hash_span`] in any thread and order, add the results
/// and finish.
#[derive(Clone, Debug)]
pub struct TreeBuilder {
    params: TreeParams,
    geometry: Geometry,
    /// Its root is a placeholder until the tree is finished.
    tree: Tree,
    added: RangeSet,
    cut: ArrayVec<(Bin, Hash), 6>,
}

impl TreeBuilder {
    /// Starts the tree of a content cut like `geometry`, whose chunk size and length count; allocates nothing yet.
    ///
    /// While the length of the geometry is unknown its last chunk counts as full.
    pub fn new(params: TreeParams, geometry: Geometry) -> Self {
        let params = TreeParams { chunk_size: geometry.chunk_size(), ..params };
        let tree = Tree::new(params, Hash::zero(params.function));
        Self { params, geometry, tree, added: RangeSet::new(), cut: ArrayVec::new() }
    }

    /// Number of spans.
    pub const fn span_count(&self) -> u64 {
        self.geometry.group_count().div_ceil(SPAN_GROUPS)
    }

    /// The independent pieces of work, in order.
    pub fn spans(&self) -> impl Iterator<Item = BuildSpan> + use<> {
        let geometry = self.geometry;
        (0..self.span_count()).map_while(move |index| BuildSpan::new(&geometry, index))
    }

    /// Hashes one span whose bytes are all in memory; any thread may.
    ///
    /// # Errors
    /// [`SpanError::Length`] unless `data` is as long as [`BuildSpan::byte_range`].
    pub fn hash_span(
        params: TreeParams,
        geometry: Geometry,
        span: BuildSpan,
        data: &[u8],
    ) -> Result<SpanNodes, SpanError> {
        let expected = span.byte_range();
        if expected.end - expected.start != data.len() as u64 {
            return Err(SpanError::Length { expected, found: data.len() });
        }
        let mut hasher = SpanHasher::new(params, geometry, span);
        let mut rest = data;
        while !rest.is_empty() {
            let bytes = hasher.next_bytes();
            let len = ((bytes.end - bytes.start) as usize).clamp(1, rest.len());
            let (group, later) = rest.split_at(len);
            hasher.push_group(group)?;
            rest = later;
        }
        hasher.finish()
    }

    /// Adds the hashes of one span. Adding a span twice keeps the later hashes.
    ///
    /// # Errors
    /// [`SpanError::NoSuchSpan`] if the span is not one of this content.
    pub fn add(&mut self, nodes: SpanNodes) -> Result<(), SpanError> {
        let index = nodes.span.index;
        if BuildSpan::new(&self.geometry, index).as_ref() != Some(&nodes.span) {
            return Err(SpanError::NoSuchSpan(index));
        }
        if nodes.page.groups_known() > 0 {
            self.tree.put_page(index, nodes.page);
        }
        if !nodes.cut.is_empty() {
            self.cut = nodes.cut;
        }
        self.added.insert(ChunkRange::new(index, index + 1));
        Ok(())
    }

    /// The complete tree, with its root.
    ///
    /// # Errors
    /// [`Incomplete`] if a span was not added.
    pub fn finish(mut self) -> Result<Tree, Incomplete> {
        let spans = self.span_count();
        let incomplete = Incomplete { missing: spans - self.added.count(), spans };
        if incomplete.missing > 0 {
            return Err(incomplete);
        }
        self.tree.join_pages(&self.geometry);
        let peaks: Option<Vec<_>> = self.geometry.peaks().map(|bin| self.peak(bin)).collect();
        let peaks = peaks.ok_or(incomplete)?;
        let root = root_from_peaks(self.params.function, &self.geometry, &peaks).ok_or(incomplete)?;
        self.tree.complete(root, self.geometry, peaks);
        Ok(self.tree)
    }

    fn peak(&self, bin: Bin) -> Option<(Bin, Hash)> {
        let paged = self.tree.paged(bin).and_then(Hash::from_slice);
        paged.map(|hash| (bin, hash)).or_else(|| self.cut.iter().find(|(cut, _)| *cut == bin).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::HashFunction;
    use crate::integrity::reference::Content;

    fn build(content: &Content) -> Tree {
        let mut builder = TreeBuilder::new(content.params, content.geometry);
        for span in builder.spans() {
            let bytes = span.byte_range();
            let data = &content.data[bytes.start as usize..bytes.end as usize];
            builder.add(TreeBuilder::hash_span(content.params, content.geometry, span, data).unwrap()).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn a_built_tree_is_the_reference_tree_and_survives_its_file() {
        let sizes = [(512, 1), (512, 33), (1024, 7), (1024, 16), (16384, 511), (16384, 1025), (8192, 1027), (61440, 9)];
        for (size, chunks) in sizes {
            let content = Content::new(HashFunction::Sha1, size, chunks, 77);
            let tree = build(&content);
            assert_eq!(*tree.root(), content.root());
            assert_eq!(tree.peaks(), content.peaks());
            assert!(tree.is_complete());
            for (bin, hash) in content.nodes() {
                let complete = content.geometry.all().covers(bin.base_range());
                let stored = bin.layer() >= content.geometry.group_layer() && complete;
                if stored {
                    assert_eq!(tree.node(bin), Some(hash.as_slice()), "{bin:?}");
                }
            }
            let read = |page| tree.page_bytes(page);
            let again = Tree::import(content.params, content.root(), content.geometry, tree.peaks(), read).unwrap();
            assert!(again.is_complete(), "{chunks} chunks of {size}");
            for page in 0..Tree::page_count(&content.geometry) {
                assert_eq!(again.page_bytes(page), tree.page_bytes(page));
            }
        }
    }

    #[test]
    fn every_hash_function_builds_its_tree() {
        for function in HashFunction::ALL {
            for chunks in [1, 2, 3, 7, 15, 16, 17, 31, 32, 33] {
                let content = Content::new(function, 1024, chunks, 1000);
                assert_eq!(*build(&content).root(), content.root(), "{function}, {chunks} chunks");
            }
        }
    }

    #[test]
    fn spans_may_come_in_any_order_but_all_must() {
        let content = Content::new(HashFunction::Sha1, 16384, 600, 5);
        let (params, geometry) = (content.params, content.geometry);
        let mut builder = TreeBuilder::new(params, geometry);
        let mut spans: Vec<BuildSpan> = builder.spans().collect();
        assert_eq!(spans.iter().map(|span| span.groups().len()).collect::<Vec<_>>(), [256, 256, 88]);
        assert_eq!(
            spans.iter().map(BuildSpan::byte_range).next_back().unwrap().end,
            geometry.content_length().unwrap()
        );
        spans.reverse();
        for (count, span) in spans.into_iter().enumerate() {
            let missing = Incomplete { missing: 3 - count as u64, spans: 3 };
            assert_eq!(builder.clone().finish().err(), Some(missing));
            let bytes = span.byte_range();
            let data = &content.data[bytes.start as usize..bytes.end as usize];
            let nodes = TreeBuilder::hash_span(params, geometry, span, data).unwrap();
            builder.add(nodes.clone()).unwrap();
            builder.add(nodes).unwrap();
        }
        assert_eq!(*builder.finish().unwrap().root(), content.root());
    }

    #[test]
    fn wrong_bytes_are_refused_by_length() {
        let content = Content::new(HashFunction::Sha1, 1024, 20, 5);
        let (params, geometry) = (content.params, content.geometry);
        let builder = TreeBuilder::new(params, geometry);
        let span = builder.spans().next().unwrap();
        let length = |expected, found| Some(SpanError::Length { expected, found });
        let short = TreeBuilder::hash_span(params, geometry, span.clone(), &content.data[1..]);
        assert_eq!(short.err(), length(0..19 * 1024 + 5, content.data.len() - 1));
        let mut hasher = SpanHasher::new(params, geometry, span);
        assert_eq!(hasher.push_group(&content.data).err(), length(0..16384, content.data.len()));
        hasher.push_group(&content.data[..16384]).unwrap();
        assert_eq!(hasher.clone().finish().err(), Some(SpanError::Unfinished { span: 0, missing: 1 }));
        hasher.push_group(&content.data[16384..]).unwrap();
        assert_eq!(hasher.push_group(&[]).err(), length(content.data.len() as u64..content.data.len() as u64, 0));
        let nodes = hasher.finish().unwrap();
        let other = Geometry::new(5000, params.chunk_size).unwrap();
        assert_eq!(TreeBuilder::new(params, other).add(nodes).err(), Some(SpanError::NoSuchSpan(0)));
    }

    #[test]
    fn a_huge_content_allocates_by_what_was_added() {
        let geometry = Geometry::new(i64::MAX as u64, crate::chunk::ChunkSize::DEFAULT).unwrap();
        let builder = TreeBuilder::new(TreeParams::default(), geometry);
        assert_eq!(builder.spans().next().unwrap().byte_range(), 0..4 << 20);
        assert_eq!(builder.span_count(), 1 << 41);
        assert!(builder.finish().is_err());
    }
}
