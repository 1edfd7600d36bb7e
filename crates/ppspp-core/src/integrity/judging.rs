//! How a chunk is proven: by the hashes that came with it, by those that came before, and by what is known.

use arrayvec::ArrayVec;

use super::early::Ticket;
use super::hash::is_zero;
use super::open_group::{OpenGroup, full_mask, mask_of};
use super::{EarlyHashes, Hash, HashFunction, Hashes, MAX_HASH_LEN, MAX_PROOF, TreeParams, Verdict, Verifier};
use crate::chunk::{Bin, ChunkIndex, Geometry, GroupIndex};
use crate::time::Instant;

/// The hash of a node past the content's end, cut to the function's length.
static EMPTY_NODE: [u8; MAX_HASH_LEN] = [0; MAX_HASH_LEN];

/// The hashes that came in one datagram with a chunk, in their order, and when.
#[derive(Clone, Copy, Debug)]
pub struct Along<'h> {
    /// Nodes and what they hash to.
    pub hashes: Hashes<'h>,
    /// When they came.
    pub at: Instant,
}

impl<'h> Along<'h> {
    /// No hashes.
    pub const NONE: Self = Self { hashes: Hashes::NONE, at: Instant::ZERO };

    /// The hash that came for `bin`. The way up meets them last to first: the highest comes first (RFC 7574 §5.4).
    fn get(&self, bin: Bin) -> Option<&'h [u8]> {
        self.hashes.iter().rev().find(|(node, _)| *node == bin).map(|(_, hash)| hash)
    }
}

/// A step from a node to the one above it.
struct Step<'e> {
    bin: Bin,
    sibling: Bin,
    /// The hash of the sibling.
    beside: &'e [u8],
    source: Source,
}

/// Where the hash of a sibling comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// It came along with the chunk.
    Along,
    /// It came before and is known by this.
    Early(Ticket),
    /// It lies past the content's end.
    Padding,
}

impl Step<'_> {
    /// The hash of the node above, if the node hashes to `hash`.
    #[inline]
    fn take(&self, function: HashFunction, hash: &Hash) -> Hash {
        if self.bin.is_left() {
            function.node(hash.as_slice(), self.beside)
        } else {
            function.node(self.beside, hash.as_slice())
        }
    }
}

/// A chunk's way up to the first verified node.
///
/// Too large to be moved for every chunk: filled in place.
type Steps<'e> = ArrayVec<Step<'e>, MAX_PROOF>;

/// The hashes beside that way, which are proven with it.
#[derive(Default)]
pub(super) struct Used {
    early: ArrayVec<Ticket, MAX_PROOF>,
    /// How many came along.
    along: usize,
}

impl Used {
    fn note(&mut self, steps: &Steps<'_>) {
        for step in steps {
            match step.source {
                Source::Along => self.along += 1,
                // As many places as steps.
                Source::Early(ticket) => self.early.extend([ticket]),
                Source::Padding => {}
            }
        }
    }
}

/// The hashes of the bins on that way.
type Path = ArrayVec<Hash, MAX_PROOF>;

impl Verifier {
    /// Judges chunks of `group`, given with their hashes and what came along, up to the first that this alone does not
    /// verify within the group, where it verifies nearly all but the group's first. Returns how many were verified.
    #[inline]
    pub fn check_run<'h>(
        &mut self,
        group: GroupIndex,
        chunks: impl Iterator<Item = (ChunkIndex, &'h Hash, Hashes<'h>)>,
    ) -> usize {
        let Some(open) = self.open.get_mut(group) else { return 0 };
        // The last chunk tells how long the content is.
        let last = self.tree.geometry().map(Geometry::last_chunk);
        chunks.take_while(|(chunk, leaf, along)| Some(*chunk) != last && open.check(*chunk, leaf, *along)).count()
    }

    /// [`Verifier::check`] for a payload of `len` bytes that was hashed already, as together with others by
    /// [`HashFunction::digest_many`](super::HashFunction::digest_many), and whose place and length
    /// [`Verifier::screen`] found nothing against.
    ///
    /// `along` need not be among `early`, but for peaks that are not known yet. Those of both that it used are dropped, and `early` keeps those that came along
    /// and may still prove something.
    pub fn check_hashed(
        &mut self,
        chunk: ChunkIndex,
        len: usize,
        leaf: &Hash,
        along: Along<'_>,
        early: &mut EarlyHashes,
    ) -> Verdict {
        let mut used = Used::default();
        let verdict = self.check_with(chunk, len, along, early, &mut used, |_| *leaf);
        early.take_out(&used.early);
        if used.along < along.hashes.len() {
            for (bin, hash) in along.hashes.iter().filter(|(bin, _)| self.node(*bin).is_none()) {
                early.insert(bin, hash, along.at);
            }
        }
        verdict
    }

    /// Judges a chunk that is within the content and as long as it must be.
    pub(super) fn check_with(
        &mut self,
        chunk: ChunkIndex,
        len: usize,
        along: Along<'_>,
        early: &EarlyHashes,
        used: &mut Used,
        leaf: impl Fn(TreeParams) -> Hash,
    ) -> Verdict {
        let Some(geometry) = self.tree.geometry() else { return Verdict::NeedsGeometry };
        if let Some(verdict) = self.check_known(&geometry, chunk, len, &leaf) {
            return verdict;
        }
        if self.tree.peaks().is_empty() {
            self.learn_peaks(&geometry, early);
        }
        // The hashes come first: a chunk that cannot be judged yet is not worth hashing.
        let mut steps = Steps::new();
        let Some(leaf_bin) = Bin::leaf(chunk) else { return Verdict::OutOfRange };
        let Ok(anchor) = self.collect(&geometry, leaf_bin, along, early, &mut steps) else { return Verdict::Missing };
        if !self.prove(&geometry, chunk, &leaf(self.tree.params()), &steps, &anchor) {
            return Verdict::Wrong;
        }
        if chunk == geometry.last_chunk() {
            self.tree.set_last_len(len as u32);
        }
        used.note(&steps);
        Verdict::Verified
    }

    /// Takes in every chunk of a `group` that is not begun, together: they hash to `top`, and their lengths are right.
    /// Returns whether they are verified by what is known, what came `along` with one of them, and `early`, of which
    /// what it used is dropped, and which keeps what came along and may still prove something. If not, nothing has
    /// changed, and each chunk is to be judged by itself.
    ///
    /// Not for the groups that the content's end cuts or whose last chunk is the content's.
    pub fn check_group(&mut self, group: GroupIndex, top: &Hash, along: Along<'_>, early: &mut EarlyHashes) -> bool {
        let Some(geometry) = self.tree.geometry() else { return false };
        let chunks = geometry.group_chunks(group);
        let bin = Bin::at(geometry.group_layer(), group.value()).filter(|bin| bin.base_range() == chunks);
        let sized = !self.tree.peaks().is_empty() && !chunks.contains(geometry.last_chunk());
        let Some(bin) = bin.filter(|_| sized && !self.open.contains(group) && self.screen_group(group).is_none())
        else {
            return false;
        };
        let mut used = Used::default();
        if !self.check_node(&geometry, bin, top, along, early, &mut used) {
            return false;
        }
        early.take_out(&used.early);
        let params = self.tree.params();
        let open = self.open.get_or_insert_with(group, || OpenGroup::new(params, &geometry, group));
        open.have = full_mask(chunks);
        // Those within the group are of no use now.
        let above = || along.hashes.iter().filter(|(node, _)| !chunks.covers(node.base_range()));
        if used.along < above().count() {
            for (node, hash) in above().filter(|(node, _)| self.node(*node).is_none()) {
                early.insert(node, hash, along.at);
            }
        }
        true
    }

    /// Whether `bin`, of a group or above, hashes to `top`; if so, every node on its way up and beside that is known.
    fn check_node(
        &mut self,
        geometry: &Geometry,
        bin: Bin,
        top: &Hash,
        along: Along<'_>,
        early: &EarlyHashes,
        used: &mut Used,
    ) -> bool {
        let mut steps = Steps::new();
        let Ok(anchor) = self.collect(geometry, bin, along, early, &mut steps) else { return false };
        let mut path = Path::new();
        let mut hash = *top;
        for step in &steps {
            path.push(hash);
            hash = step.take(self.tree.params().function, &hash);
        }
        if hash != anchor {
            return false;
        }
        used.note(&steps);
        self.keep(&steps, &path);
        true
    }

    /// Judges a chunk without any proof: that was verified before, or whose hash was proven along with another, as that
    /// of every other chunk is. `None` if it takes a proof.
    #[inline]
    fn check_known(
        &mut self,
        geometry: &Geometry,
        chunk: ChunkIndex,
        len: usize,
        leaf: impl Fn(TreeParams) -> Hash,
    ) -> Option<Verdict> {
        let group = geometry.group_of(chunk);
        let Some(open) = self.open.get_mut(group) else { return self.screen_group(group) };
        let bit = mask_of(open, chunk);
        if open.have & bit != 0 {
            return Some(Verdict::AlreadyHave);
        }
        let known = open.nodes.get(Bin::leaf(chunk)?)?;
        if leaf(self.tree.params()).as_slice() != known {
            return Some(Verdict::Wrong);
        }
        open.have |= bit;
        if chunk == geometry.last_chunk() {
            self.tree.set_last_len(len as u32);
        }
        Some(Verdict::Verified)
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

    /// A node without whose hash `chunk` cannot be judged, if there is one: neither is it known nor did it come `early`.
    pub(crate) fn missing_for(&self, chunk: ChunkIndex, early: &EarlyHashes) -> Option<Bin> {
        let (geometry, leaf) = self.tree.geometry().zip(Bin::leaf(chunk))?;
        let missing = self.collect(&geometry, leaf, Along::NONE, early, &mut Steps::new()).err()?;
        if !self.tree.peaks().is_empty() {
            return Some(missing);
        }
        // Nobody sends what lies above a peak: the peaks are missing, or will be learned when the chunk is judged.
        let came = |bin| self.tree.node(bin).or_else(|| early.get(bin)).is_some_and(|hash| self.may_be_hash(hash));
        let below = geometry.peaks().any(|peak| peak.base_range().covers(missing.base_range()) && peak != missing);
        geometry.peaks().find(|&peak| !came(peak)).or(below.then_some(missing))
    }

    /// Whether `hash` can be that of a node with content: it is as long as one, and not all-zero (R1).
    pub(crate) fn may_be_hash(&self, hash: &[u8]) -> bool {
        hash.len() == self.tree.params().function.len() && !is_zero(hash)
    }

    /// Collects the hashes that prove the node `bin`, of a chunk or a whole group; returns the verified hash they lead to,
    /// or the first node whose hash is missing.
    fn collect<'e>(
        &self,
        geometry: &Geometry,
        mut bin: Bin,
        along: Along<'e>,
        early: &'e EarlyHashes,
        steps: &mut Steps<'e>,
    ) -> Result<Hash, Bin> {
        let len = self.tree.params().function.len();
        let group_layer = geometry.group_layer();
        let group = geometry.group_of(ChunkIndex::new(bin.base_range().start()));
        let nodes = self.open.get(group).map(OpenGroup::nodes);
        // Below the group level the tree knows peaks alone, in the group that the content's end cuts.
        let cut = geometry.group_chunks(group).count() < 1 << group_layer;
        let mut layer = bin.layer();
        loop {
            let below = layer < group_layer;
            let known = if below { nodes.and_then(|nodes| nodes.get(bin)) } else { None };
            if let Some(known) = known.or_else(|| if below && !cut { None } else { self.node_above(bin) }) {
                return Hash::from_slice(known).ok_or(bin);
            }
            let sibling = bin.sibling().ok_or(bin)?;
            let step = if sibling.base_range().start() >= geometry.chunk_count() {
                Step { bin, sibling, beside: EMPTY_NODE.get(..len).ok_or(sibling)?, source: Source::Padding }
            } else {
                let came = match along.get(sibling) {
                    Some(beside) => Some((Source::Along, beside)),
                    None => early.look_up(sibling).map(|(ticket, beside)| (Source::Early(ticket), beside)),
                };
                let fits = came.filter(|(_, hash)| self.may_be_hash(hash));
                let (source, beside) = fits.ok_or(sibling)?;
                Step { bin, sibling, beside, source }
            };
            steps.try_push(step).map_err(|_| sibling)?;
            bin = bin.parent().ok_or(sibling)?;
            layer += 1;
        }
    }

    /// The hash of `bin` in the tree. Apart, since most ways end within a group.
    #[inline(never)]
    fn node_above(&self, bin: Bin) -> Option<&[u8]> {
        self.tree.node(bin)
    }

    /// Hashes the way up along `steps` from `leaf`; if that leads to `anchor`, keeps the chunk and every node on the way
    /// and beside it, and returns true.
    fn prove(&mut self, geometry: &Geometry, chunk: ChunkIndex, leaf: &Hash, steps: &Steps<'_>, anchor: &Hash) -> bool {
        let params = self.tree.params();
        let group = geometry.group_of(chunk);
        let mut begun = None;
        let open = match self.open.get_mut(group) {
            Some(open) => open,
            None => begun.insert(OpenGroup::new(params, geometry, group)),
        };
        let below = usize::from(geometry.group_layer());
        // The tree also wants the peaks and the nodes past the end, wherever they lie.
        let to_tree = if self.tree.peaks().is_empty() { 0 } else { below };
        let mut path = Path::new();
        let mut proven = 0;
        let mut hash = *leaf;
        for (layer, step) in steps.iter().enumerate() {
            if layer < below {
                proven |= open.nodes.propose([(step.bin, hash.as_slice()), (step.sibling, step.beside)]);
            }
            if layer >= to_tree {
                path.push(hash);
            }
            hash = step.take(params.function, &hash);
        }
        if hash != *anchor {
            return false;
        }
        open.nodes.accept(proven);
        open.have |= mask_of(open, chunk);
        if let Some(open) = begun {
            self.open.get_or_insert_with(group, || open);
        }
        self.keep(steps.get(to_tree..).unwrap_or_default(), &path);
        true
    }

    /// Puts what was proven into the tree: the nodes that `steps` start from, with their hashes, and those beside them.
    fn keep(&mut self, steps: &[Step<'_>], hashes: &[Hash]) {
        for (step, hash) in steps.iter().zip(hashes) {
            self.tree.insert(step.bin, hash);
            if let Some(beside) = Hash::from_slice(step.beside) {
                self.tree.insert(step.sibling, &beside);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::chunk::ChunkRange;
    use crate::integrity::reference::Content;
    use crate::integrity::{HashRow, peaks_needed, uncles};

    const CHUNKS: u64 = 37;

    fn chunk(index: u64) -> ChunkIndex {
        ChunkIndex::new(index)
    }

    /// What an honest sender sends along with a chunk.
    fn along_with(content: &Content, verifier: &Verifier, index: u64) -> Vec<(Bin, Hash)> {
        let knows = |range: ChunkRange| range.iter().any(|chunk| verifier.has(chunk));
        let peaks = peaks_needed(&content.geometry, knows(content.geometry.all()));
        peaks.chain(uncles(&content.geometry, chunk(index), knows)).map(|bin| (bin, content.node(bin))).collect()
    }

    fn row(hashes: &[(Bin, Hash)]) -> HashRow {
        hashes.iter().copied().collect()
    }

    /// Judges as a swarm does, and tells whether the group's own nodes were enough.
    fn judge(verifier: &mut Verifier, index: u64, leaf: &Hash, along: &[(Bin, Hash)]) -> (Verdict, bool) {
        let group = verifier.geometry().unwrap().group_of(chunk(index));
        if verifier.check_run(group, [(chunk(index), leaf, row(along).all())].into_iter()) == 1 {
            return (Verdict::Verified, true);
        }
        let mut early = EarlyHashes::new(64);
        let len = verifier.geometry().unwrap().chunk_len(chunk(index)).unwrap() as usize;
        if verifier.tree().peaks().is_empty() {
            for (bin, hash) in along {
                early.insert(*bin, hash.as_slice(), Instant::ZERO);
            }
            return (verifier.check_hashed(chunk(index), len, leaf, Along::NONE, &mut early), false);
        }
        let verdict = verifier.check_hashed(
            chunk(index),
            len,
            leaf,
            Along { hashes: row(along).all(), at: Instant::ZERO },
            &mut early,
        );
        let left = early.iter().all(|(bin, _)| verifier.node(bin).is_none());
        assert!(left && (early.is_empty() || verdict != Verdict::Verified), "what is proven is dropped: {early:?}");
        (verdict, false)
    }

    #[test]
    fn what_came_along_proves_most_chunks_within_their_group() {
        for function in HashFunction::ALL {
            let content = Content::new(function, 1024, CHUNKS, 1000);
            // In order, and spread as a seeder sends: 37 has no factor in common with 16.
            for step in [1, 16] {
                let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 8);
                let mut within = 0;
                for index in (0..CHUNKS).map(|turn| turn * step % CHUNKS) {
                    let along = along_with(&content, &verifier, index);
                    let (leaf, other) = (function.leaf(content.chunk(index)), function.leaf(b"other"));
                    assert_eq!(judge(&mut verifier, index, &other, &along).0, Verdict::Wrong);
                    assert!(!verifier.has(chunk(index)));
                    let (verdict, was_within) = judge(&mut verifier, index, &leaf, &along);
                    assert_eq!(verdict, Verdict::Verified);
                    within += u64::from(was_within);
                    assert_ne!(judge(&mut verifier, index, &leaf, &along).0, Verdict::Verified, "it is here");
                }
                // The first of each group takes more, and what lies in the group that the end cuts may.
                assert!(within >= 30, "{within}");
                for (bin, hash) in content.nodes() {
                    assert!(verifier.node(bin).is_none_or(|known| known == hash.as_slice()), "{bin:?}");
                }
            }
        }
    }

    #[test]
    fn a_group_is_proven_by_the_hash_over_its_chunks() {
        for function in HashFunction::ALL {
            let content = Content::new(function, 1024, CHUNKS, 1000);
            let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 2);
            let mut early = EarlyHashes::new(64);
            let (first, second, cut) = (GroupIndex::new(0), GroupIndex::new(1), GroupIndex::new(2));
            let top = |group: GroupIndex| content.node(Bin::at(4, group.value()).unwrap());
            let along = row(&along_with(&content, &verifier, 0));
            let along = Along { hashes: along.all(), at: Instant::ZERO };
            assert!(!verifier.check_group(first, &top(first), along, &mut early), "the peaks are not known");
            for (bin, hash) in along.hashes.iter() {
                early.insert(bin, hash, Instant::ZERO);
            }
            assert_eq!(verifier.check(chunk(33), content.chunk(33), &early), Verdict::Missing);
            let before: Vec<_> = verifier.tree().peaks().to_vec();
            assert!(!before.is_empty());
            assert!(!verifier.check_group(first, &top(second), along, &mut early), "another hash");
            assert!(!verifier.check_group(first, &top(first), Along::NONE, &mut EarlyHashes::new(4)), "no proof");
            assert!(!verifier.check_group(cut, &top(cut), along, &mut early), "cut by the end");
            assert_eq!((verifier.open_count(), verifier.tree().peaks()), (0, &*before));
            // By what came along, or by what came before: that is used up.
            assert!(verifier.clone().check_group(first, &top(first), along, &mut EarlyHashes::new(4)));
            assert!(verifier.check_group(first, &top(first), Along::NONE, &mut early));
            assert!(verifier.is_group_complete(first) && early.get(Bin::at(4, 1).unwrap()).is_none());
            // Nothing is left to prove by the nodes within it, nor by those that were proven with it.
            let settled = |layer, at| verifier.is_settled(Bin::at(layer, at).unwrap());
            assert!(settled(0, 5) && settled(3, 1) && settled(4, 0) && settled(4, 1));
            assert!(!settled(0, 16) && !settled(3, 2), "the second has come in no part");
            assert!(!verifier.check_group(first, &top(first), along, &mut early), "it is here");
            // What proved the first group proves the second, which needs nothing else.
            assert!(!verifier.check_group(second, &top(first), Along::NONE, &mut early));
            assert!(verifier.check_group(second, &top(second), Along::NONE, &mut early));
            verifier.forget(ChunkRange::new(3, 4));
            assert_eq!((verifier.group_have(first), verifier.group_have(second)), (0xfff7, 0xffff));
            assert!(!verifier.check_group(first, &top(first), along, &mut early), "it is begun");
            let mut full = Verifier::new(content.params, content.root(), Some(content.geometry), 1);
            full.tree = verifier.tree.clone();
            assert!(full.check_group(second, &top(second), Along::NONE, &mut early));
            assert!(!full.check_group(first, &top(first), Along::NONE, &mut early), "one group too many");
        }
    }

    #[test]
    fn more_and_fewer_hashes_than_it_takes_are_no_proof_within_the_group() {
        let content = Content::new(HashFunction::Sha256, 1024, CHUNKS, 1000);
        let mut verifier = Verifier::new(content.params, content.root(), Some(content.geometry), 8);
        let leaf = |index| HashFunction::Sha256.leaf(content.chunk(index));
        let first = along_with(&content, &verifier, 0);
        assert_eq!(judge(&mut verifier, 0, &leaf(0), &first), (Verdict::Verified, false));
        let along = along_with(&content, &verifier, 4);
        assert_eq!(along.len(), 2);
        let mut more = along.clone();
        more.push(along[1]);
        let mut zero = along.clone();
        zero[0].1 = Hash::zero(HashFunction::Sha256);
        let mut short = along.clone();
        short[1].1 = HashFunction::Sha1.leaf(b"");
        let other_way: Vec<_> = along.iter().rev().copied().collect();
        for wrong in [&along[..1], &along[1..], &more, &zero, &short, &other_way] {
            let mut verifier = verifier.clone();
            let group = content.geometry.group_of(chunk(4));
            assert_eq!(verifier.check_run(group, [(chunk(4), &leaf(4), row(wrong).all())].into_iter()), 0, "{wrong:?}");
            assert!(!verifier.has(chunk(4)) && verifier.node(along[1].0).is_none());
            // All hashes there are tell better.
            let enough = wrong.len() >= 2 && wrong.iter().all(|hash| along.contains(hash));
            let verdict = if enough { Verdict::Verified } else { Verdict::Missing };
            assert_eq!(judge(&mut verifier, 4, &leaf(4), wrong).0, verdict, "{wrong:?}");
        }
    }
}
