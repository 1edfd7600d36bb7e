//! Judges chunks: one face for the swarm over tree, groups and early hashes.

use alloc::collections::BTreeMap;

use arrayvec::ArrayVec;
use slab::Slab;
use thiserror::Error;

use super::hash::is_zero;
use super::{EarlyHashes, GroupNodes, Hash, MAX_HASH_LEN, MAX_PROOF, PeakClaim, PeaksError, Tree, TreeParams};
use crate::chunk::{Bin, ChunkIndex, ChunkRange, Geometry, GroupIndex, RangeSet};

/// The hash of a node past the content's end, cut to the function's length.
static EMPTY_NODE: [u8; MAX_HASH_LEN] = [0; MAX_HASH_LEN];

/// What [`Verifier::check`] says of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use]
pub enum Verdict {
    /// It is part of the content, and was not known to be so before.
    Verified,
    /// The chunk was verified before; these bytes were not looked at.
    AlreadyHave,
    /// A hash that proves it is unknown; another message may bring it (ruling R17).
    Missing,
    /// It contradicts a verified node or the root, although every hash was there: the peer that sent it lied.
    Wrong,
    /// It is not as long as the chunk must be.
    WrongLength,
    /// The content ends before it.
    OutOfRange,
    /// The content's size is unknown: see [`Verifier::adopt`].
    NeedsGeometry,
    /// It would open one more group than allowed.
    TooManyOpenGroups,
}

/// Why a claimed size was not adopted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The content's size is known already.
    #[error("the content is already known to have {0} chunks")]
    Known(u64),
    /// The peaks do not fit the root.
    #[error(transparent)]
    Peaks(#[from] PeaksError),
    /// The last chunk's length is impossible.
    #[error("a last chunk of {0} bytes is empty or longer than the chunk size")]
    Length(usize),
    /// The last chunk is as long as two hashes: an interior node would pass for it (ruling R1).
    #[error("a last chunk of {0} bytes could be an interior node; give the content length, as in the link's cl")]
    Forgeable(usize),
    /// A hash that proves the last chunk is unknown.
    #[error("hashes that prove last chunk {0} are missing; await them with the chunk")]
    Missing(ChunkIndex),
    /// The last chunk contradicts the peaks.
    #[error("last chunk {0} does not hash to the claimed peaks; the claim is false")]
    Wrong(ChunkIndex),
}

/// A group of which not every chunk is verified and stored.
#[derive(Clone, Debug)]
pub struct OpenGroup {
    group: GroupIndex,
    nodes: GroupNodes,
    have: u32,
}

impl OpenGroup {
    /// The verified nodes below the group hash.
    pub const fn nodes(&self) -> &GroupNodes {
        &self.nodes
    }

    /// Bit n: the n-th chunk of the group is verified.
    pub const fn have(&self) -> u32 {
        self.have
    }

    /// The group's chunks.
    pub const fn chunks(&self) -> ChunkRange {
        self.nodes.chunks()
    }

    /// Whether every chunk is verified.
    pub const fn is_complete(&self) -> bool {
        self.have == full_mask(self.nodes.chunks())
    }
}

/// One bit for each chunk of a group.
const fn full_mask(chunks: ChunkRange) -> u32 {
    match chunks.count() {
        0 => 0,
        count if count >= 32 => u32::MAX,
        count => (1 << count) - 1,
    }
}

/// A chunk's way up to the first verified node: the bins on it below that node, and the hashes beside it.
struct Proof<'e> {
    steps: ArrayVec<(Bin, &'e [u8]), MAX_PROOF>,
    /// The verified hash at its end.
    anchor: Hash,
}

/// Verifies the chunks of one content against its root (RFC 7574 §5.2), and keeps what is proven.
///
/// Nodes from the group level up live in a [`Tree`]; below, in the groups that are open. A chunk received in order
/// costs about one leaf hash and one node hash.
#[derive(Clone, Debug)]
pub struct Verifier {
    tree: Tree,
    open: Slab<OpenGroup>,
    index: BTreeMap<u64, usize>,
    /// The group that was looked up last, and its key.
    recent: Option<(u64, usize)>,
    /// Positions of the groups that are verified whole.
    closed: RangeSet,
    max_open_groups: usize,
}

impl Verifier {
    /// Knows `root`, and `geometry` if that comes from where the root comes from, such as a link (ruling R1).
    ///
    /// At most `max_open_groups`, at least one, are open at a time. A geometry of another chunk size than the
    /// parameters' is not used.
    pub fn new(params: TreeParams, root: Hash, geometry: Option<Geometry>, max_open_groups: usize) -> Self {
        let mut tree = Tree::new(params, root);
        if let Some(geometry) = geometry
            && tree.set_length(geometry).is_err()
        {
            tree = Tree::new(params, root);
        }
        Self::from_tree(tree, max_open_groups)
    }

    /// Knows what `tree` knows: to seed, or to resume.
    pub const fn from_tree(tree: Tree, max_open_groups: usize) -> Self {
        Self {
            tree,
            open: Slab::new(),
            index: BTreeMap::new(),
            recent: None,
            closed: RangeSet::new(),
            max_open_groups: if max_open_groups == 0 { 1 } else { max_open_groups },
        }
    }

    /// The content's cut, once known.
    pub const fn geometry(&self) -> Option<Geometry> {
        self.tree.geometry()
    }

    /// The verified nodes from the group level up.
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The tree, to write it to its file.
    pub const fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// The verified hash of any node: in the tree, or in an open group.
    pub fn node(&self, bin: Bin) -> Option<&[u8]> {
        let geometry = self.tree.geometry()?;
        if bin.layer() < geometry.group_layer()
            && let Some(key) = self.find(geometry.group_of(ChunkIndex::new(bin.base_range().start())))
            && let Some(hash) = self.open.get(key).and_then(|group| group.nodes.get(bin))
        {
            return Some(hash);
        }
        self.tree.node(bin)
    }

    /// Judges `payload` as the bytes of `chunk` (RFC 7574 §5.2), with the hashes that its sender sent before.
    ///
    /// On [`Verdict::Verified`] the hashes used are proven and kept; [`EarlyHashes::remove_used`] then drops them.
    pub fn check(&mut self, chunk: ChunkIndex, payload: &[u8], early: &EarlyHashes) -> Verdict {
        self.check_with(chunk, payload.len(), early, |params| params.function.leaf(payload))
    }

    /// [`Verifier::check`] for a payload of `len` bytes that was hashed already, as together with others by
    /// [`HashFunction::digest_many`](super::HashFunction::digest_many).
    pub fn check_hashed(&mut self, chunk: ChunkIndex, len: usize, leaf: &Hash, early: &EarlyHashes) -> Verdict {
        self.check_with(chunk, len, early, |_| *leaf)
    }

    /// Everything that can be said of a chunk without looking at its bytes; `None` means that its hash decides.
    pub fn screen(&self, chunk: ChunkIndex, len: usize) -> Option<Verdict> {
        let Some(geometry) = self.tree.geometry() else { return Some(Verdict::NeedsGeometry) };
        if chunk.value() >= geometry.chunk_count() {
            return Some(Verdict::OutOfRange);
        }
        let fits = match geometry.chunk_len(chunk) {
            Some(due) => len == due as usize,
            // R1: of an unknown length, the last chunk must not be what an interior node is hashed from.
            None => is_possible_last(self.tree.params(), len) && len != 2 * self.tree.params().function.len(),
        };
        if !fits {
            return Some(Verdict::WrongLength);
        }
        let group = geometry.group_of(chunk);
        if let Some(open) = self.find(group).and_then(|key| self.open.get(key)) {
            return (open.have & mask_of(open, chunk) != 0).then_some(Verdict::AlreadyHave);
        }
        if self.closed.contains(ChunkIndex::new(group.value())) {
            return Some(Verdict::AlreadyHave);
        }
        (self.open.len() >= self.max_open_groups).then_some(Verdict::TooManyOpenGroups)
    }

    fn check_with(
        &mut self,
        chunk: ChunkIndex,
        len: usize,
        early: &EarlyHashes,
        leaf: impl FnOnce(TreeParams) -> Hash,
    ) -> Verdict {
        if let Some(verdict) = self.screen(chunk, len) {
            return verdict;
        }
        let Some(geometry) = self.tree.geometry() else { return Verdict::NeedsGeometry };
        if self.tree.peaks().is_empty() {
            self.learn_peaks(&geometry, early);
        }
        // The hashes come first: a chunk that cannot be judged yet is not worth hashing.
        let Some(proof) = self.proof(&geometry, chunk, early) else { return Verdict::Missing };
        let leaf = leaf(self.tree.params());
        let Some(path) = self.climb(&proof, leaf) else { return Verdict::Wrong };
        if chunk == geometry.last_chunk() {
            self.tree.set_last_len(len as u32);
        }
        self.keep(&geometry, chunk, &proof, &path);
        Verdict::Verified
    }

    /// RFC 7574 §5.6.2: the peaks come ahead of the first chunk's hashes.
    fn learn_peaks(&mut self, geometry: &Geometry, early: &EarlyHashes) {
        let find = |bin| Some((bin, self.tree.node(bin).or_else(|| early.get(bin)).and_then(Hash::from_slice)?));
        let peaks: Option<ArrayVec<_, MAX_PROOF>> = geometry.peaks().map(find).collect();
        if let Some(peaks) = peaks {
            // Peaks that do not fit the root are no more than hashes that prove nothing.
            let _ = self.tree.set_geometry(*geometry, &peaks);
        }
    }

    /// Collects the hashes that prove `chunk`; `None` if one is missing.
    fn proof<'e>(&self, geometry: &Geometry, chunk: ChunkIndex, early: &'e EarlyHashes) -> Option<Proof<'e>> {
        let len = self.tree.params().function.len();
        let mut steps = ArrayVec::new();
        let mut bin = Bin::leaf(chunk)?;
        loop {
            if let Some(known) = self.node(bin) {
                return Some(Proof { steps, anchor: Hash::from_slice(known)? });
            }
            let sibling = bin.sibling()?;
            let hash = if sibling.base_range().start() >= geometry.chunk_count() {
                EMPTY_NODE.get(..len)?
            } else {
                // R1: a node with content is never all-zero.
                early.get(sibling).filter(|hash| hash.len() == len && !is_zero(hash))?
            };
            steps.try_push((bin, hash)).ok()?;
            bin = bin.parent()?;
        }
    }

    /// The hashes of the bins on the way; `None` if they do not lead to the verified one.
    fn climb(&self, proof: &Proof<'_>, leaf: Hash) -> Option<ArrayVec<Hash, MAX_PROOF>> {
        let function = self.tree.params().function;
        let mut path = ArrayVec::new();
        let mut hash = leaf;
        for (bin, beside) in &proof.steps {
            path.try_push(hash).ok()?;
            hash = if bin.is_left() {
                function.node(hash.as_slice(), beside)
            } else {
                function.node(beside, hash.as_slice())
            };
        }
        (hash == proof.anchor).then_some(path)
    }

    /// Keeps a verified chunk and every node that its proof has proven.
    fn keep(&mut self, geometry: &Geometry, chunk: ChunkIndex, proof: &Proof<'_>, path: &[Hash]) {
        let key = self.open_group(geometry, geometry.group_of(chunk));
        let group_layer = geometry.group_layer();
        let Some(open) = self.open.get_mut(key) else { return };
        open.have |= mask_of(open, chunk);
        for ((bin, beside), hash) in proof.steps.iter().zip(path) {
            let beside = bin.sibling().map(|sibling| (sibling, *beside));
            for (bin, hash) in [Some((*bin, hash.as_slice())), beside].into_iter().flatten() {
                if bin.layer() < group_layer {
                    open.nodes.set(bin, hash);
                }
                // The tree also wants the peaks and the nodes past the end, wherever they lie.
                if (bin.layer() >= group_layer || self.tree.peaks().is_empty())
                    && let Some(hash) = Hash::from_slice(hash)
                {
                    self.tree.insert(bin, &hash);
                }
            }
        }
    }

    /// The key of `group`, opened if it is not open; what is known of it starts with nothing.
    fn open_group(&mut self, geometry: &Geometry, group: GroupIndex) -> usize {
        let key = self.find(group).unwrap_or_else(|| {
            let nodes = GroupNodes::empty(self.tree.params().function, geometry.group_chunks(group));
            let key = self.open.insert(OpenGroup { group, nodes, have: 0 });
            self.index.insert(group.value(), key);
            key
        });
        self.recent = Some((group.value(), key));
        key
    }

    /// The key of `group`, if it is open.
    #[inline]
    fn find(&self, group: GroupIndex) -> Option<usize> {
        match self.recent {
            Some((recent, key)) if recent == group.value() => Some(key),
            _ => self.index.get(&group.value()).copied(),
        }
    }

    /// Whether `chunk` is verified.
    pub fn has(&self, chunk: ChunkIndex) -> bool {
        self.tree.geometry().is_some_and(|geometry| {
            let group = geometry.group_of(chunk);
            chunk.value() < geometry.chunk_count()
                && match self.find(group).and_then(|key| self.open.get(key)) {
                    Some(open) => open.have & mask_of(open, chunk) != 0,
                    None => self.closed.contains(ChunkIndex::new(group.value())),
                }
        })
    }

    /// Which chunks of `group` are verified: bit n is its n-th chunk.
    pub fn group_have(&self, group: GroupIndex) -> u32 {
        let Some(geometry) = self.tree.geometry() else { return 0 };
        match self.find(group).and_then(|key| self.open.get(key)) {
            Some(open) => open.have,
            None if self.closed.contains(ChunkIndex::new(group.value())) => full_mask(geometry.group_chunks(group)),
            None => 0,
        }
    }

    /// Whether every chunk of `group` is verified.
    pub fn is_group_complete(&self, group: GroupIndex) -> bool {
        match self.find(group).and_then(|key| self.open.get(key)) {
            Some(open) => open.is_complete(),
            None => self.closed.contains(ChunkIndex::new(group.value())),
        }
    }

    /// Drops the lower nodes of `group`, all of whose chunks are verified and stored. Ignored unless they are verified.
    pub fn close_group(&mut self, group: GroupIndex) {
        let Some(key) = self.find(group) else { return };
        if self.open.get(key).is_some_and(OpenGroup::is_complete) {
            self.drop_open(group);
            self.mark_complete(group);
        }
    }

    /// Counts `group` as verified whole: its bytes were read back and agree, see [`Verifier::verify_group`].
    pub fn mark_complete(&mut self, group: GroupIndex) {
        if self.tree.geometry().is_some_and(|geometry| group.value() < geometry.group_count()) {
            self.drop_open(group);
            self.closed.insert(ChunkRange::single(ChunkIndex::new(group.value())));
        }
    }

    /// Counts every group as verified whole: to seed a content whose tree was just built.
    pub fn mark_all_complete(&mut self) {
        if let Some(geometry) = self.tree.geometry() {
            self.open.clear();
            self.index.clear();
            self.recent = None;
            self.closed.insert(ChunkRange::new(0, geometry.group_count()));
        }
    }

    fn drop_open(&mut self, group: GroupIndex) {
        self.recent = None;
        if let Some(key) = self.index.remove(&group.value()) {
            self.open.try_remove(key);
        }
    }

    /// Makes the chunks of `range` unverified again, since they could not be stored. Known nodes stay.
    ///
    /// A closed group of which only a part is forgotten opens again, beyond the bound if need be, without its lower
    /// nodes.
    pub fn forget(&mut self, range: ChunkRange) {
        let Some(geometry) = self.tree.geometry() else { return };
        let range = range.intersection(geometry.all());
        if range.is_empty() {
            return;
        }
        let layer = geometry.group_layer();
        let groups = ChunkRange::new(range.start() >> layer, ((range.end() - 1) >> layer) + 1);
        for edge in [groups.start(), groups.end() - 1].map(GroupIndex::new) {
            let partial = !range.covers(geometry.group_chunks(edge));
            if partial && self.closed.contains(ChunkIndex::new(edge.value())) {
                let key = self.open_group(&geometry, edge);
                if let Some(open) = self.open.get_mut(key) {
                    open.have = full_mask(open.chunks());
                }
            }
        }
        self.closed.remove(groups);
        for key in self.index.range(groups.start()..groups.end()).map(|(_, key)| *key) {
            if let Some(open) = self.open.get_mut(key) {
                let first = open.chunks().start();
                let lost = range.intersection(open.chunks());
                let below = ChunkRange::new(first, lost.end());
                let kept = ChunkRange::new(first, lost.start());
                open.have &= !(full_mask(below) & !full_mask(kept));
            }
        }
    }

    /// The groups that are begun and not closed, in order.
    pub fn open_groups(&self) -> impl Iterator<Item = (GroupIndex, &OpenGroup)> {
        self.index.values().filter_map(|key| self.open.get(*key)).map(|open| (open.group, open))
    }

    /// Takes up the lower nodes of an unfinished group, as [`GroupNodes::iter`] yielded them; returns how many entered.
    ///
    /// Nothing in `nodes` is trusted: two children enter only if they hash to their verified parent, top-down. Check the
    /// group's stored chunks against them afterwards. Only the first 63 nodes count. Nothing enters while the tops of
    /// the group are unknown, or into one group more than allowed.
    pub fn restore_open_group(&mut self, group: GroupIndex, nodes: &[(Bin, Hash)]) -> usize {
        let Some(geometry) = self.tree.geometry() else { return 0 };
        let full = self.find(group).is_none() && self.open.len() >= self.max_open_groups;
        let closed = self.closed.contains(ChunkIndex::new(group.value()));
        if group.value() >= geometry.group_count() || full || closed {
            return 0;
        }
        let chunks = geometry.group_chunks(group);
        let mut given = GroupNodes::empty(self.tree.params().function, chunks);
        for (bin, hash) in nodes.iter().take(2 * 32 - 1) {
            given.set(*bin, hash.as_slice());
        }
        let mut proven = GroupNodes::empty(self.tree.params().function, chunks);
        let mut count = 0;
        let mut parents: ArrayVec<(Bin, Hash), MAX_PROOF> =
            given.tops().filter_map(|(top, _)| Some((top, Hash::from_slice(self.tree.node(top)?)?))).collect();
        while let Some((parent, hash)) = parents.pop() {
            let Some((left, right)) = parent.children() else { continue };
            let (Some(left_hash), Some(right_hash)) =
                (given.get(left).and_then(Hash::from_slice), given.get(right).and_then(Hash::from_slice))
            else {
                continue;
            };
            if self.tree.params().function.node(left_hash.as_slice(), right_hash.as_slice()) != hash {
                continue;
            }
            for (child, hash) in [(left, left_hash), (right, right_hash)] {
                proven.set(child, hash.as_slice());
                count += usize::from(parents.try_push((child, hash)).is_ok());
            }
        }
        if count > 0 {
            let key = self.open_group(&geometry, group);
            if let Some(open) = self.open.get_mut(key) {
                for (bin, hash) in proven.iter() {
                    open.nodes.set(bin, hash);
                }
            }
        }
        count
    }

    /// Whether `nodes`, recomputed from bytes, are those of `group`: their tops are the verified ones (ruling R22).
    pub fn verify_group(&self, group: GroupIndex, nodes: &GroupNodes) -> bool {
        self.tree.geometry().is_some_and(|geometry| {
            let chunks = geometry.group_chunks(group);
            !chunks.is_empty()
                && nodes.chunks() == chunks
                && nodes.tops().all(|(top, hash)| hash.is_some() && hash == self.tree.node(top))
        })
    }

    /// Adopts a claimed size once the last chunk it names verifies under it (RFC 7574 §5.6, ruling R1).
    ///
    /// `last_payload` are that chunk's bytes and `early` the hashes from its sender. The chunk is then verified, and the
    /// exact content length known.
    ///
    /// # Errors
    /// [`AdoptError`]; nothing has changed then. Nobody is to blame: another peer's true claim may contradict.
    pub fn adopt(
        &mut self,
        claim: &PeakClaim,
        last_payload: &[u8],
        early: &EarlyHashes,
    ) -> Result<Geometry, AdoptError> {
        if let Some(known) = self.tree.geometry() {
            return Err(AdoptError::Known(known.chunk_count()));
        }
        let params = self.tree.params();
        let len = last_payload.len();
        if len == 2 * params.function.len() {
            return Err(AdoptError::Forgeable(len));
        }
        let geometry = is_possible_last(params, len).then(|| claim.geometry().with_last_len(len as u32)).flatten();
        let geometry = geometry.ok_or(AdoptError::Length(len))?;
        // A trial on the side: the claim must leave no trace if it is false.
        let mut trial = Self::from_tree(Tree::new(params, *self.tree.root()), 1);
        trial.tree.set_geometry(geometry, claim.peaks())?;
        let last = geometry.last_chunk();
        match trial.check(last, last_payload, early) {
            Verdict::Verified => {
                trial.max_open_groups = self.max_open_groups;
                *self = trial;
                Ok(geometry)
            }
            Verdict::Missing => Err(AdoptError::Missing(last)),
            _ => Err(AdoptError::Wrong(last)),
        }
    }
}

/// Whether a last chunk may be of `len` bytes.
const fn is_possible_last(params: TreeParams, len: usize) -> bool {
    len > 0 && len <= params.chunk_size.bytes() as usize
}

/// The bit of `chunk` in its group.
#[inline]
const fn mask_of(open: &OpenGroup, chunk: ChunkIndex) -> u32 {
    let place = chunk.value().wrapping_sub(open.nodes.chunks().start());
    if place < 32 { 1 << place } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::integrity::reference::Content;
    use crate::integrity::{HashFunction, peaks_needed, uncles};

    /// What an honest sender sends with `chunk` to a receiver that acknowledged every chunk it verified.
    fn proof_for(content: &Content, verifier: &Verifier, chunk: ChunkIndex) -> Vec<Bin> {
        let knows = |range: ChunkRange| range.iter().any(|chunk| verifier.has(chunk));
        let mut bins: Vec<Bin> = peaks_needed(&content.geometry, knows(content.geometry.all())).collect();
        bins.extend(uncles(&content.geometry, chunk, knows));
        bins
    }

    fn verify_all(content: &Content, order: impl IntoIterator<Item = u64>) -> Verifier {
        let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 64);
        for chunk in order.into_iter().map(ChunkIndex::new) {
            let early = content.early(proof_for(content, &verifier, chunk));
            assert_eq!(verifier.check(chunk, content.chunk(chunk.value()), &early), Verdict::Verified, "{chunk:?}");
            assert_eq!(verifier.check(chunk, content.chunk(chunk.value()), &early), Verdict::AlreadyHave);
        }
        verifier
    }

    #[test]
    fn every_chunk_verifies_in_every_order() {
        for chunks in [1, 2, 3, 7, 15, 16, 17, 31, 32, 33] {
            let content = Content::new(HashFunction::Sha256, 1024, chunks, 1000);
            verify_all(&content, 0..chunks);
            verify_all(&content, (0..chunks).rev());
        }
    }

    #[test]
    fn siblings_up_to_the_root_do_without_peaks() {
        for chunks in [1, 2, 3, 7, 15, 16, 17, 31, 32, 33] {
            let content = Content::new(HashFunction::Sha256, 1024, chunks, 1000);
            let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 64);
            for chunk in 0..chunks {
                let early = content.early(content.full_proof(chunk));
                let verdict = verifier.check(ChunkIndex::new(chunk), content.chunk(chunk), &early);
                assert_eq!(verdict, Verdict::Verified, "chunk {chunk} of {chunks}");
            }
            assert_eq!(verifier.tree().peaks(), content.peaks());
        }
    }
}
