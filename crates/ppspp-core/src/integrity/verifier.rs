//! Judges chunks: one face for the swarm over tree, groups and early hashes.

use arrayvec::ArrayVec;
use thiserror::Error;

use super::judging::Used;
use super::open_group::{OpenGroup, full_mask, mask_of};
use super::{Along, EarlyHashes, GroupNodes, Hash, MAX_PROOF, PeakClaim, PeaksError, Tree, TreeParams};
use crate::chunk::{Bin, ChunkIndex, ChunkRange, Geometry, GroupIndex, GroupMap, RangeSet};

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

/// Verifies the chunks of one content against its root (RFC 7574 §5.2), and keeps what is proven.
///
/// Nodes from the group level up live in a [`Tree`]; below, in the groups that are open. A chunk received in order
/// costs about one leaf hash and one node hash.
#[derive(Clone, Debug)]
pub struct Verifier {
    pub(super) tree: Tree,
    pub(super) open: GroupMap<OpenGroup>,
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
            open: GroupMap::new(),
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
            && let Some(open) = self.open.get(geometry.group_of(ChunkIndex::new(bin.base_range().start())))
            && let Some(hash) = open.nodes.get(bin)
        {
            return Some(hash);
        }
        self.tree.node(bin)
    }

    /// Judges `payload` as the bytes of `chunk` (RFC 7574 §5.2), with the hashes that its sender sent before.
    ///
    /// On [`Verdict::Verified`] the hashes used are proven and kept; [`EarlyHashes::remove_used`] then drops them.
    pub fn check(&mut self, chunk: ChunkIndex, payload: &[u8], early: &EarlyHashes) -> Verdict {
        if let Some(verdict) = self.screen(chunk, payload.len()) {
            return verdict;
        }
        let leaf = |params: TreeParams| params.function.leaf(payload);
        self.check_with(chunk, payload.len(), Along::NONE, early, &mut Used::default(), leaf)
    }

    /// Everything that can be said of a chunk without looking at its bytes; `None` means that its hash decides.
    #[inline]
    pub fn screen(&mut self, chunk: ChunkIndex, len: usize) -> Option<Verdict> {
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
        match self.open.get_mut(group) {
            Some(open) => (open.have & mask_of(open, chunk) != 0).then_some(Verdict::AlreadyHave),
            None => self.screen_group(group),
        }
    }

    /// Why no chunk of `group`, which is not open, is taken in.
    #[inline(never)]
    pub(super) fn screen_group(&self, group: GroupIndex) -> Option<Verdict> {
        if self.closed.contains(ChunkIndex::new(group.value())) {
            return Some(Verdict::AlreadyHave);
        }
        self.is_full().then_some(Verdict::TooManyOpenGroups)
    }

    /// Whether `chunk` is verified.
    pub fn has(&self, chunk: ChunkIndex) -> bool {
        self.tree.geometry().is_some_and(|geometry| {
            let group = geometry.group_of(chunk);
            chunk.value() < geometry.chunk_count()
                && match self.open.get(group) {
                    Some(open) => open.have & mask_of(open, chunk) != 0,
                    None => self.closed.contains(ChunkIndex::new(group.value())),
                }
        })
    }

    /// Which chunks of `group` are verified: bit n is its n-th chunk.
    #[inline]
    pub fn group_have(&self, group: GroupIndex) -> u32 {
        match self.open.get(group) {
            Some(open) => open.have,
            None => self.closed_have(group),
        }
    }

    /// [`Verifier::group_have`] of a group that is not open.
    #[inline(never)]
    fn closed_have(&self, group: GroupIndex) -> u32 {
        let closed = self.closed.contains(ChunkIndex::new(group.value()));
        let geometry = self.tree.geometry().filter(|_| closed);
        geometry.map_or(0, |geometry| full_mask(geometry.group_chunks(group)))
    }

    /// Whether every chunk of `group` is verified.
    #[inline]
    pub fn is_group_complete(&self, group: GroupIndex) -> bool {
        match self.open.get(group) {
            Some(open) => open.is_complete(),
            None => self.closed.contains(ChunkIndex::new(group.value())),
        }
    }

    /// Whether a hash of `bin` has nothing to prove any more: it is known, or every chunk under it is verified.
    pub(crate) fn is_settled(&self, bin: Bin) -> bool {
        let within = self.tree.geometry().filter(|geometry| bin.layer() < geometry.group_layer());
        let group = within.map(|geometry| geometry.group_of(ChunkIndex::new(bin.base_range().start())));
        group.is_some_and(|group| self.is_group_complete(group)) || self.node(bin).is_some()
    }

    /// Drops the lower nodes of `group`, all of whose chunks are verified and stored. Ignored unless they are verified.
    pub fn close_group(&mut self, group: GroupIndex) {
        if self.open.get(group).is_some_and(OpenGroup::is_complete) {
            self.mark_complete(group);
        }
    }

    /// Drops `group` with all that is known of it, if it is begun and none of its chunks is verified.
    pub(crate) fn drop_empty_group(&mut self, group: GroupIndex) {
        self.open.remove_if(group, |open| open.have == 0);
    }

    /// Counts `group` as verified whole: its bytes were read back and agree, see [`Verifier::verify_group`].
    pub fn mark_complete(&mut self, group: GroupIndex) {
        if self.tree.geometry().is_some_and(|geometry| group.value() < geometry.group_count()) {
            self.open.remove(group);
            self.closed.insert(ChunkRange::single(ChunkIndex::new(group.value())));
        }
    }

    /// Counts every group as verified whole: to seed a content whose tree was just built.
    pub fn mark_all_complete(&mut self) {
        if let Some(geometry) = self.tree.geometry() {
            self.open.clear();
            self.closed.insert(ChunkRange::new(0, geometry.group_count()));
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
                let open = open_group(&mut self.open, self.tree.params(), &geometry, edge);
                open.have = full_mask(open.chunks());
            }
        }
        self.closed.remove(groups);
        self.open.for_each_in(GroupIndex::new(groups.start()), GroupIndex::new(groups.end()), |open| {
            let first = open.chunks().start();
            let lost = range.intersection(open.chunks());
            let below = ChunkRange::new(first, lost.end());
            let kept = ChunkRange::new(first, lost.start());
            open.have &= !(full_mask(below) & !full_mask(kept));
        });
    }

    /// Whether no group can be begun before another is closed.
    pub fn is_full(&self) -> bool {
        self.open_count() >= self.max_open_groups
    }

    /// How many groups are begun and not closed.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The groups that are begun and not closed, in order.
    pub fn open_groups(&self) -> impl Iterator<Item = (GroupIndex, &OpenGroup)> {
        self.open.iter()
    }

    /// Takes up the lower nodes of an unfinished group, as [`GroupNodes::iter`] yielded them; returns how many entered.
    ///
    /// Nothing in `nodes` is trusted: two children enter only if they hash to their verified parent, top-down. Check the
    /// group's stored chunks against them afterwards. Only the first 63 nodes count. Nothing enters while the tops of
    /// the group are unknown, or into one group more than allowed.
    pub fn restore_open_group(&mut self, group: GroupIndex, nodes: &[(Bin, Hash)]) -> usize {
        let Some(geometry) = self.tree.geometry() else { return 0 };
        let full = !self.open.contains(group) && self.is_full();
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
            let open = open_group(&mut self.open, self.tree.params(), &geometry, group);
            for (bin, hash) in proven.iter() {
                open.nodes.set(bin, hash);
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
    /// exact content length known. Ask for that chunk before acknowledging any other: a sender leaves out what
    /// acknowledged chunks imply.
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

/// The record of `group`, opened if it is not open; what is known of it starts with nothing.
fn open_group<'o>(
    open: &'o mut GroupMap<OpenGroup>,
    params: TreeParams,
    geometry: &Geometry,
    group: GroupIndex,
) -> &'o mut OpenGroup {
    open.get_or_insert_with(group, || OpenGroup::new(params, geometry, group))
}

/// Whether a last chunk may be of `len` bytes.
const fn is_possible_last(params: TreeParams, len: usize) -> bool {
    len > 0 && len <= params.chunk_size.bytes() as usize
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::chunk::ChunkSize;
    use crate::integrity::reference::Content;
    use crate::integrity::{HashFunction, peaks_needed, root_from_peaks, uncles};
    use crate::time::Instant;

    const COUNTS: [u64; 19] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129];

    fn chunk(index: u64) -> ChunkIndex {
        ChunkIndex::new(index)
    }

    fn verifier(content: &Content) -> Verifier {
        Verifier::new(content.params, content.root(), Some(content.geometry), 256)
    }

    fn seeder(content: &Content) -> Verifier {
        let mut verifier = verifier(content);
        for index in 0..content.geometry.chunk_count() {
            assert_eq!(
                verifier.check(chunk(index), content.chunk(index), &honest(content, &verifier, index)),
                Verdict::Verified
            );
        }
        verifier
    }

    /// What an honest sender sends with a chunk to a receiver that acknowledged every chunk it verified.
    fn proof_for(content: &Content, verifier: &Verifier, index: u64) -> Vec<Bin> {
        let knows = |range: ChunkRange| range.iter().any(|chunk| verifier.has(chunk));
        let mut bins: Vec<Bin> = peaks_needed(&content.geometry, knows(content.geometry.all())).collect();
        bins.extend(uncles(&content.geometry, chunk(index), knows));
        bins
    }

    fn honest(content: &Content, verifier: &Verifier, index: u64) -> EarlyHashes {
        content.early(proof_for(content, verifier, index))
    }

    /// Every hash that `verifier` knows is right.
    fn assert_true(content: &Content, verifier: &Verifier) {
        for (bin, hash) in content.nodes() {
            assert!(verifier.node(bin).is_none_or(|known| known == hash.as_slice()), "{bin:?}");
        }
    }

    fn download(content: &Content, order: impl IntoIterator<Item = u64>) -> Verifier {
        let mut verifier = verifier(content);
        for index in order {
            let early = honest(content, &verifier, index);
            assert_eq!(verifier.check(chunk(index), content.chunk(index), &early), Verdict::Verified, "chunk {index}");
            assert_eq!(verifier.check(chunk(index), content.chunk(index), &early), Verdict::AlreadyHave);
            let group = content.geometry.group_of(chunk(index));
            if verifier.is_group_complete(group) {
                verifier.close_group(group);
            }
            assert!(verifier.has(chunk(index)));
        }
        assert_true(content, &verifier);
        assert!(verifier.tree().is_complete());
        assert_eq!(verifier.open_groups().count(), 0);
        verifier
    }

    /// The indices below `count` with the most trailing zeros first: those that carry the most hashes.
    fn ruler_order(count: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        order.sort_by_key(|index| core::cmp::Reverse(if *index == 0 { 64 } else { index.trailing_zeros() }));
        order
    }

    #[test]
    fn every_chunk_verifies_in_every_order() {
        for count in COUNTS {
            let content = Content::new(HashFunction::Sha256, 1024, count, 1000);
            download(&content, 0..count);
            download(&content, (0..count).rev());
            download(&content, ruler_order(count));
            // 131 is a prime above every count.
            download(&content, (0..count).map(|step| step * 131 % count));
        }
    }

    #[test]
    fn every_chunk_size_and_hash_function_verifies() {
        for function in HashFunction::ALL {
            for (size, count, last) in [(512, 67, 511), (1024, 33, 1), (16384, 5, 16384), (61440, 3, 60001)] {
                let content = Content::new(function, size, count, last);
                download(&content, 0..count);
                download(&content, ruler_order(count));
            }
        }
    }

    /// RFC 7574 §5.2: the siblings all the way up, where the peaks never come.
    #[test]
    fn siblings_up_to_the_root_do_without_peaks() {
        for size in [512, 1024, 8192, 16384] {
            for count in COUNTS {
                let content = Content::new(HashFunction::Sha256, size, count, 500);
                for order in [ruler_order(count), (0..count).collect(), (0..count).rev().collect()] {
                    let mut verifier = verifier(&content);
                    for index in order {
                        let early = content.early(content.full_proof(index));
                        let verdict = verifier.check(chunk(index), content.chunk(index), &early);
                        assert_eq!(verdict, Verdict::Verified, "chunk {index} of {count}");
                    }
                    assert_eq!(verifier.tree().peaks(), content.peaks());
                    assert!(verifier.tree().is_complete());
                    assert_true(&content, &verifier);
                }
            }
        }
    }

    /// RFC 7574 Table 1, as printed: the size is known, and nodes above the peaks are sent.
    #[test]
    fn the_hashes_of_table_1_are_enough() {
        let content = Content::new(HashFunction::Sha1, 1024, 7, 1018);
        let mut verifier = verifier(&content);
        let table: [&[u64]; 7] = [&[2, 5, 11], &[], &[6], &[], &[10, 13], &[], &[14]];
        for (index, bins) in table.into_iter().enumerate() {
            let early = content.early(bins.iter().map(|number| Bin::from_number(*number).unwrap()));
            let verdict = verifier.check(chunk(index as u64), content.chunk(index as u64), &early);
            assert_eq!(verdict, Verdict::Verified, "chunk {index}");
        }
    }

    #[test]
    fn a_proof_holds_nothing_that_is_not_needed() {
        for count in COUNTS {
            let content = Content::new(HashFunction::Sha1, 1024, count, 1000);
            let mut verifier = verifier(&content);
            for index in ruler_order(count) {
                let proof = proof_for(&content, &verifier, index);
                let peaks_known = !verifier.tree().peaks().is_empty();
                let uncle = |bin: &&Bin| peaks_known && content.geometry.peaks().all(|peak| peak != **bin);
                for left_out in proof.iter().filter(uncle) {
                    let early = content.early(proof.iter().copied().filter(|bin| bin != left_out));
                    let verdict = verifier.check(chunk(index), content.chunk(index), &early);
                    assert_eq!(verdict, Verdict::Missing, "{left_out:?} for chunk {index} of {count}");
                }
                let verdict = verifier.check(chunk(index), content.chunk(index), &content.early(proof));
                assert_eq!(verdict, Verdict::Verified);
            }
        }
    }

    #[test]
    fn every_bit_of_every_needed_hash_counts() {
        for (function, count) in [(HashFunction::Sha1, 7), (HashFunction::Sha256, 33), (HashFunction::Sha512, 16)] {
            let content = Content::new(function, 512, count, 100);
            for index in [0, count / 2, count - 1] {
                // With the peaks known, so that a wrong uncle is the only fault.
                let mut fresh = verifier(&content);
                fresh.tree_mut().set_geometry(content.geometry, &content.peaks()).unwrap();
                let proof = uncles(&content.geometry, chunk(index), |_| false);
                for bin in &proof {
                    for bit in 0..function.len() * 8 {
                        let mut early = content.early(proof.iter().copied());
                        let mut hash = content.node(*bin).as_slice().to_vec();
                        hash[bit / 8] ^= 1 << (bit % 8);
                        early.insert(*bin, &hash, Instant::ZERO);
                        assert_eq!(fresh.check(chunk(index), content.chunk(index), &early), Verdict::Wrong);
                    }
                }
                assert!(!fresh.has(chunk(index)) && fresh.open_groups().count() == 0);
                assert_true(&content, &fresh);
            }
        }
    }

    #[test]
    fn every_bit_of_a_payload_counts() {
        for (count, index) in [(1, 0), (7, 3), (7, 6), (32, 31)] {
            let content = Content::new(HashFunction::Sha256, 512, count, 512);
            let mut verifier = verifier(&content);
            let early = honest(&content, &verifier, index);
            let mut payload = content.chunk(index).to_vec();
            for bit in 0..payload.len() * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(verifier.check(chunk(index), &payload, &early), Verdict::Wrong, "bit {bit}");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(verifier.check(chunk(index), &payload, &early), Verdict::Verified);
        }
    }

    #[test]
    fn a_right_chunk_at_a_wrong_place_is_wrong() {
        let content = Content::new(HashFunction::Sha256, 1024, 8, 1024);
        let mut verifier = seeder(&content);
        verifier.forget(content.geometry.all());
        for at in 0..8 {
            for index in (0..8).filter(|index| *index != at) {
                let early = content.early(content.full_proof(at));
                assert_eq!(verifier.check(chunk(at), content.chunk(index), &early), Verdict::Wrong);
            }
        }
    }

    #[test]
    fn wrong_peaks_prove_nothing_and_do_no_harm() {
        let content = Content::new(HashFunction::Sha1, 1024, 7, 1018);
        let mut verifier = verifier(&content);
        let mut early = honest(&content, &verifier, 0);
        early.insert(Bin::at(1, 2).unwrap(), &[1; 20], Instant::ZERO);
        assert_eq!(verifier.check(chunk(0), content.chunk(0), &early), Verdict::Missing);
        assert!(verifier.tree().peaks().is_empty());
        let early = honest(&content, &verifier, 0);
        assert_eq!(verifier.check(chunk(0), content.chunk(0), &early), Verdict::Verified);
        assert_eq!(verifier.tree().peaks(), content.peaks());
    }

    /// R1: zeros stand for what lies past the end, never for content.
    #[test]
    fn zeros_are_no_hash_of_content() {
        let content = Content::new(HashFunction::Sha1, 1024, 7, 1018);
        let mut verifier = verifier(&content);
        let mut early = content.early(content.full_proof(0));
        early.insert(Bin::at(0, 1).unwrap(), &[0; 20], Instant::ZERO);
        assert_eq!(verifier.check(chunk(0), content.chunk(0), &early), Verdict::Missing);
        // Nor does a hash of another length pass.
        early.insert(Bin::at(0, 1).unwrap(), &[1; 32], Instant::ZERO);
        assert_eq!(verifier.check(chunk(0), content.chunk(0), &early), Verdict::Missing);
    }

    #[test]
    fn what_cannot_be_judged_is_named() {
        let content = Content::new(HashFunction::Sha1, 1024, 33, 1000);
        let none = EarlyHashes::new(1);
        let mut blind = Verifier::new(content.params, content.root(), None, 1);
        assert_eq!(blind.check(chunk(0), content.chunk(0), &none), Verdict::NeedsGeometry);
        let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 1);
        for index in [33, 34, 1 << 40, u64::MAX] {
            assert_eq!(verifier.check(chunk(index), content.chunk(0), &none), Verdict::OutOfRange);
            assert!(!verifier.has(chunk(index)));
        }
        for (index, len) in [(0, 1023), (0, 0), (32, 999), (32, 1001), (32, 1024)] {
            assert_eq!(verifier.check(chunk(index), &[7; 2000][..len], &none), Verdict::WrongLength);
        }
        let early = honest(&content, &verifier, 0);
        assert_eq!(verifier.check(chunk(0), content.chunk(0), &early), Verdict::Verified);
        let early = honest(&content, &verifier, 16);
        assert_eq!(verifier.check(chunk(16), content.chunk(16), &early), Verdict::TooManyOpenGroups);
        assert_eq!(verifier.check(chunk(1), content.chunk(1), &early), Verdict::Verified);
        assert_eq!(verifier.check(chunk(1), &[], &early), Verdict::WrongLength);
    }

    #[test]
    fn a_geometry_of_another_chunk_size_is_not_used() {
        let content = Content::new(HashFunction::Sha1, 1024, 7, 1018);
        let params = TreeParams { chunk_size: ChunkSize::MIN, ..content.params };
        assert_eq!(Verifier::new(params, content.root(), Some(content.geometry), 1).geometry(), None);
    }

    #[test]
    fn groups_open_fill_and_close() {
        let content = Content::new(HashFunction::Sha1, 1024, 35, 1000);
        let mut verifier = verifier(&content);
        let group = GroupIndex::new(2);
        for index in [34, 32, 33] {
            assert!(!verifier.is_group_complete(group));
            verifier.close_group(group);
            let early = honest(&content, &verifier, index);
            assert_eq!(verifier.check(chunk(index), content.chunk(index), &early), Verdict::Verified);
        }
        assert_eq!(verifier.group_have(group), 0b111);
        let (open, nodes) = verifier.open_groups().next().unwrap();
        assert_eq!(
            (open, nodes.have(), nodes.chunks(), nodes.is_complete()),
            (group, 7, ChunkRange::new(32, 35), true)
        );
        verifier.close_group(group);
        assert_eq!(verifier.open_groups().count(), 0);
        assert_eq!((verifier.group_have(group), verifier.is_group_complete(group)), (0b111, true));
        assert_eq!(verifier.node(Bin::leaf(chunk(32)).unwrap()), None);
        assert!(verifier.has(chunk(34)) && !verifier.has(chunk(31)));
        // Groups that do not exist hold nothing.
        verifier.mark_complete(GroupIndex::new(3));
        assert_eq!(
            (verifier.group_have(GroupIndex::new(3)), verifier.is_group_complete(GroupIndex::new(3))),
            (0, false)
        );
        verifier.mark_all_complete();
        assert!((0..35).all(|index| verifier.has(chunk(index))));
        assert_eq!(verifier.group_have(GroupIndex::new(0)), 0xffff);
    }

    #[test]
    fn a_group_of_32_chunks_fits_its_mask() {
        let content = Content::new(HashFunction::Sha1, 512, 32, 512);
        let verifier = seeder(&content);
        assert_eq!(verifier.group_have(GroupIndex::new(0)), u32::MAX);
        assert!(verifier.is_group_complete(GroupIndex::new(0)));
    }

    #[test]
    fn forgotten_chunks_are_wanted_again_and_known_nodes_stay() {
        let content = Content::new(HashFunction::Sha1, 1024, 100, 1000);
        for (start, end) in [(0, 100), (3, 5), (16, 32), (10, 40), (90, 1000), (7, 7), (99, 100)] {
            let mut verifier = seeder(&content);
            // Every second group is stored already.
            (0..7).step_by(2).map(GroupIndex::new).for_each(|group| verifier.close_group(group));
            let range = ChunkRange::new(start, end);
            verifier.forget(range);
            for index in 0..100 {
                assert_eq!(verifier.has(chunk(index)), !range.contains(chunk(index)), "{range:?} {index}");
                let group = content.geometry.group_of(chunk(index));
                assert_eq!(verifier.is_group_complete(group), !range.intersects(content.geometry.group_chunks(group)));
            }
            // With the group's lower nodes still there no hash is needed.
            for index in range.intersection(ChunkRange::new(16, 32)).iter() {
                let none = EarlyHashes::new(1);
                assert_eq!(verifier.check(index, content.chunk(index.value()), &none), Verdict::Verified);
            }
        }
    }

    #[test]
    fn an_open_group_is_restored_as_far_as_it_is_true() {
        for (function, size, count, group) in
            [(HashFunction::Sha256, 1024, 40, 1), (HashFunction::Sha1, 1024, 39, 2), (HashFunction::Sha1, 512, 7, 0)]
        {
            let content = Content::new(function, size, count, 100);
            let done = seeder(&content);
            let group = GroupIndex::new(group);
            let (_, open) = done.open_groups().find(|(index, _)| *index == group).unwrap();
            let nodes: Vec<(Bin, Hash)> =
                open.nodes().iter().map(|(bin, hash)| (bin, Hash::from_slice(hash).unwrap())).collect();
            let tree = done.tree().clone();
            let mut restored = Verifier::from_tree(tree.clone(), 4);
            assert_eq!(restored.restore_open_group(group, &nodes), nodes.len());
            assert_eq!(restored.group_have(group), 0);
            for index in content.geometry.group_chunks(group).iter() {
                let none = EarlyHashes::new(1);
                assert_eq!(restored.check(index, content.chunk(index.value()), &none), Verdict::Verified);
            }
            for damaged in 0..nodes.len() {
                let mut nodes = nodes.clone();
                nodes[damaged].1 = content.params.function.leaf(b"damage");
                let mut restored = Verifier::from_tree(tree.clone(), 4);
                assert!(restored.restore_open_group(group, &nodes) < nodes.len());
                assert_true(&content, &restored);
            }
        }
    }

    #[test]
    fn restoring_is_bounded_and_needs_the_tree() {
        let content = Content::new(HashFunction::Sha1, 1024, 48, 100);
        let done = seeder(&content);
        let nodes = |group: usize| -> Vec<(Bin, Hash)> {
            let open = done.open_groups().nth(group).unwrap().1;
            open.nodes().iter().map(|(bin, hash)| (bin, Hash::from_slice(hash).unwrap())).collect()
        };
        let mut one = Verifier::from_tree(done.tree().clone(), 1);
        assert_eq!(one.restore_open_group(GroupIndex::new(0), &nodes(1)), 0);
        assert_eq!(one.restore_open_group(GroupIndex::new(9), &nodes(0)), 0);
        assert_eq!(one.open_groups().count(), 0);
        assert_eq!(one.restore_open_group(GroupIndex::new(0), &nodes(0)), 30);
        assert_eq!(one.restore_open_group(GroupIndex::new(1), &nodes(1)), 0);
        assert_eq!(verifier(&content).restore_open_group(GroupIndex::new(0), &nodes(0)), 0);
        assert_eq!(
            Verifier::new(content.params, content.root(), None, 1).restore_open_group(GroupIndex::new(0), &[]),
            0
        );
    }

    #[test]
    fn a_group_read_back_must_be_the_verified_one() {
        let content = Content::new(HashFunction::Sha256, 1024, 39, 100);
        let verifier = seeder(&content);
        for group in (0..3).map(GroupIndex::new) {
            let chunks = content.geometry.group_chunks(group);
            let mut data = content.bytes(chunks).to_vec();
            let nodes =
                |data: &[u8]| GroupNodes::from_data(HashFunction::Sha256, &content.geometry, group, data).unwrap();
            assert!(verifier.verify_group(group, &nodes(&data)));
            assert!(!verifier.verify_group(GroupIndex::new((group.value() + 1) % 3), &nodes(&data)));
            assert!(!verifier.verify_group(GroupIndex::new(3), &nodes(&data)));
            for at in [0, data.len() / 2, data.len() - 1] {
                data[at] ^= 1;
                assert!(!verifier.verify_group(group, &nodes(&data)));
                data[at] ^= 1;
            }
            assert!(!verifier.verify_group(group, &GroupNodes::empty(HashFunction::Sha256, chunks)));
        }
        let nothing = GroupNodes::empty(HashFunction::Sha256, ChunkRange::EMPTY);
        assert!(!verifier.verify_group(GroupIndex::new(3), &nothing));
    }

    #[test]
    fn hashing_beforehand_gives_the_same_verdicts() {
        let content = Content::new(HashFunction::Sha256, 1024, 20, 1000);
        let mut verifier = verifier(&content);
        for index in 0..20 {
            let mut early = honest(&content, &verifier, index);
            let len = content.chunk(index).len();
            let (leaf, other) = (HashFunction::Sha256.leaf(content.chunk(index)), HashFunction::Sha256.leaf(b""));
            assert_eq!(verifier.screen(chunk(index), len), None);
            assert_eq!(verifier.check_hashed(chunk(index), len, &other, Along::NONE, &mut early), Verdict::Wrong);
            assert_eq!(verifier.check_hashed(chunk(index), len, &leaf, Along::NONE, &mut early), Verdict::Verified);
            assert!(early.is_empty() || index == 0, "used hashes are dropped, peaks may stay");
            assert_eq!(verifier.screen(chunk(index), len), Some(Verdict::AlreadyHave));
        }
    }

    /// The claim of an honest peer.
    fn claim(content: &Content) -> PeakClaim {
        let root = content.root();
        PeakClaim::find(content.params, &root, &content.peaks()).unwrap()
    }

    fn blind(content: &Content) -> Verifier {
        Verifier::new(content.params, content.root(), None, 64)
    }

    /// RFC 7574 §5.6: the exact length follows from the last chunk.
    #[test]
    fn the_last_chunk_settles_the_size() {
        for count in COUNTS {
            for last in [1, 1000, 1024] {
                let content = Content::new(HashFunction::Sha1, 1024, count, last);
                let mut verifier = blind(&content);
                let early = content.early(uncles(&content.geometry, content.geometry.last_chunk(), |_| false));
                let payload = content.chunk(count - 1);
                assert_eq!(verifier.adopt(&claim(&content), payload, &early), Ok(content.geometry));
                assert_eq!(verifier.geometry(), Some(content.geometry));
                assert_eq!(verifier.tree().peaks(), content.peaks());
                assert!(verifier.has(content.geometry.last_chunk()));
                assert_eq!(verifier.adopt(&claim(&content), payload, &early), Err(AdoptError::Known(count)));
                for index in 0..count - 1 {
                    let early = honest(&content, &verifier, index);
                    assert_eq!(verifier.check(chunk(index), content.chunk(index), &early), Verdict::Verified);
                }
                assert!(verifier.tree().is_complete());
            }
        }
    }

    #[test]
    fn a_first_chunk_without_hashes_is_the_only_one() {
        let content = Content::new(HashFunction::Sha1, 1024, 1, 13);
        let one = PeakClaim::one_chunk(content.params, &content.root()).unwrap();
        assert_eq!(blind(&content).adopt(&one, content.chunk(0), &EarlyHashes::new(1)), Ok(content.geometry));
        let other = blind(&content).adopt(&one, b"other", &EarlyHashes::new(1));
        assert_eq!(other, Err(AdoptError::Wrong(chunk(0))));
    }

    #[test]
    fn a_claim_that_fails_leaves_no_trace() {
        let content = Content::new(HashFunction::Sha1, 1024, 36, 1000);
        let mut verifier = blind(&content);
        let claim = claim(&content);
        let full = uncles(&content.geometry, chunk(35), |_| false);
        let (last, none) = (content.chunk(35), EarlyHashes::new(1));
        assert_eq!(verifier.adopt(&claim, last, &none), Err(AdoptError::Missing(chunk(35))));
        assert_eq!(verifier.adopt(&claim, &last[1..], &content.early(full.clone())), Err(AdoptError::Wrong(chunk(35))));
        assert_eq!(verifier.adopt(&claim, &[], &none), Err(AdoptError::Length(0)));
        assert_eq!(verifier.adopt(&claim, &[0; 1025], &none), Err(AdoptError::Length(1025)));
        let foreign = Content::new(HashFunction::Sha1, 1024, 36, 999);
        let mut other = blind(&foreign);
        let peaks = other.adopt(&claim, last, &content.early(full.clone()));
        assert_eq!(peaks, Err(AdoptError::Peaks(PeaksError::Root { chunks: 36 })));
        assert_eq!((verifier.geometry(), verifier.open_groups().count()), (None, 0));
        assert!(verifier.tree().page_bytes(0).is_none());
        assert_eq!(verifier.adopt(&claim, last, &content.early(full)), Ok(content.geometry));
    }

    /// R1: the two children of a node, taken for a chunk, hash to that node.
    #[test]
    fn an_interior_node_never_passes_for_a_chunk() {
        for function in HashFunction::ALL {
            let content = Content::new(function, 1024, 16, 1024);
            for layer in 1..=4u8 {
                let (left, right) = Bin::leftmost(layer).children().unwrap();
                let forged = [content.node(left), content.node(right)].map(|hash| hash.as_slice().to_vec()).concat();
                assert_eq!(function.leaf(&forged), content.node(Bin::leftmost(layer)));
            }
            // The root as the hash of a lone chunk.
            let (left, right) = content.geometry.root().children().unwrap();
            let forged = [content.node(left), content.node(right)].map(|hash| hash.as_slice().to_vec()).concat();
            let one = PeakClaim::one_chunk(content.params, &content.root()).unwrap();
            let none = EarlyHashes::new(1);
            let refused = Err(AdoptError::Forgeable(2 * function.len()));
            assert_eq!(blind(&content).adopt(&one, &forged, &none), refused);
            // A tree cut one layer above its leaves: the last pair of hashes as the last chunk.
            let lower: Vec<(Bin, Hash)> = std::vec![(Bin::leftmost(3), content.root())];
            let short = PeakClaim::find(content.params, &content.root(), &lower).unwrap();
            assert_eq!(short.chunks(), 8);
            let mut early = EarlyHashes::new(10);
            for layer in 0..3u8 {
                // The forger's node at `layer` is the content's one layer up.
                let bin = Bin::at(layer, (1 << (3 - layer)) - 2).unwrap();
                let real = Bin::at(layer + 1, bin.offset()).unwrap();
                early.insert(bin, content.node(real).as_slice(), Instant::ZERO);
            }
            let forged = [14, 15].map(|leaf| content.node(Bin::at(0, leaf).unwrap()).as_slice().to_vec()).concat();
            assert_eq!(blind(&content).adopt(&short, &forged, &early), refused);
            // Where the number of chunks is given but not the length, the same chunk is no better.
            let given = Geometry::of_chunks(8, content.params.chunk_size).unwrap();
            let mut trusting = Verifier::new(content.params, content.root(), Some(given), 4);
            assert_eq!(trusting.check(chunk(7), &forged, &early), Verdict::WrongLength);
        }
    }

    /// R1: the root as a lone peak of any height is never adopted on any bytes.
    #[test]
    fn a_lone_root_peak_of_a_wrong_height_is_never_adopted() {
        let content = Content::new(HashFunction::Sha256, 1024, 16, 1024);
        for layer in 0..53u8 {
            let lone = [(Bin::leftmost(layer), content.root())];
            let claim = PeakClaim::find(content.params, &content.root(), &lone).unwrap();
            let mut verifier = blind(&content);
            for index in 0..16 {
                let early = content.early(content.full_proof(index));
                let adopted = verifier.adopt(&claim, content.chunk(index), &early);
                assert_eq!(adopted.is_ok(), layer == 4 && index == 15, "layer {layer} chunk {index}");
            }
        }
    }

    /// R1: a claim of more chunks, with the last ones empty, hashes to the same root but names no last chunk.
    #[test]
    fn a_claim_past_the_end_is_never_adopted() {
        let content = Content::new(HashFunction::Sha256, 1024, 5, 1024);
        for claimed in 6..=8 {
            let geometry = Geometry::of_chunks(claimed, content.params.chunk_size).unwrap();
            let peaks: Vec<(Bin, Hash)> = geometry.peaks().map(|bin| (bin, content.node(bin))).collect();
            assert_eq!(root_from_peaks(HashFunction::Sha256, &geometry, &peaks), Some(content.root()));
            let Some(claim) = PeakClaim::find(content.params, &content.root(), &peaks) else {
                // Seven chunks: the last peak would be all-zero.
                assert_eq!(claimed, 7);
                continue;
            };
            let early = content.early(content.full_proof(claimed - 1));
            for index in 0..5 {
                assert!(blind(&content).adopt(&claim, content.chunk(index), &early).is_err());
            }
        }
    }

    #[test]
    fn a_length_learned_from_the_last_chunk_is_kept() {
        let content = Content::new(HashFunction::Sha1, 1024, 7, 1018);
        let counted = Geometry::of_chunks(7, content.params.chunk_size).unwrap();
        let mut verifier = Verifier::new(content.params, content.root(), Some(counted), 4);
        let early = honest(&content, &verifier, 6);
        for len in [0, 1025] {
            assert_eq!(verifier.check(chunk(6), &[1; 2000][..len], &early), Verdict::WrongLength);
        }
        assert_eq!(verifier.check(chunk(6), content.chunk(6), &early), Verdict::Verified);
        assert_eq!(verifier.geometry(), Some(content.geometry));
    }

    proptest! {
        #[test]
        fn nothing_false_is_ever_proven(
            count in 1u64..80,
            sent in proptest::collection::vec((0u64..200, any::<[u8; 20]>(), any::<bool>()), 0..40),
            chunks in proptest::collection::vec((0u64..90, any::<bool>()), 1..60),
            size_known in any::<bool>(),
        ) {
            let content = Content::new(HashFunction::Sha1, 512, count, 300);
            let mut verifier = if size_known { verifier(&content) } else { blind(&content) };
            let mut early = EarlyHashes::new(64);
            let mut sent = sent.into_iter();
            for (index, honest_payload) in chunks {
                for (number, junk, honest_hash) in sent.by_ref().take(3) {
                    let bin = Bin::from_number(number).unwrap();
                    let known = content.geometry.root().contains(bin).then(|| content.node(bin));
                    let hash = known.filter(|_| honest_hash).unwrap_or(Hash::from_slice(&junk).unwrap());
                    early.insert(bin, hash.as_slice(), Instant::ZERO);
                }
                let real = index.min(count - 1);
                let mut payload = content.chunk(real).to_vec();
                if !honest_payload {
                    payload[0] ^= 1;
                }
                let verdict = verifier.check(chunk(index), &payload, &early);
                prop_assert!(verdict != Verdict::Verified || (honest_payload && index == real));
                let candidates: Vec<(Bin, Hash)> = early.iter().map(|(bin, hash)| (bin, *hash)).collect();
                if let Some(claim) = PeakClaim::find(content.params, &content.root(), &candidates)
                    && let Ok(geometry) = verifier.adopt(&claim, &payload, &early)
                {
                    prop_assert_eq!(geometry, content.geometry);
                }
            }
            assert_true(&content, &verifier);
        }

        #[test]
        fn any_order_verifies(count in 1u64..150, seed in any::<u64>(), size in 0usize..3) {
            let content = Content::new(HashFunction::Sha1, [512, 1024, 8192][size], count, 300);
            let mut order: Vec<u64> = (0..count).collect();
            order.sort_by_key(|index| (index + 1).wrapping_mul(seed | 1).rotate_left(31).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            download(&content, order);
        }
    }
}
