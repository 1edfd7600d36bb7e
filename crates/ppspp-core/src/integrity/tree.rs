//! The verified nodes of one content from the group level up.

use alloc::vec;
use alloc::vec::Vec;

use super::page::{PAGE_LAYER, PAGE_NODES, Page, slot_of};
use super::pages::Pages;
use super::peaks::check_peaks;
use super::{Hash, HashFunction, PeaksError};
use crate::chunk::{Bin, ChunkIndex, ChunkSize, Geometry};

/// What a hash tree is built with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TreeParams {
    /// The hash function of leaves and nodes (RFC 7574 §7.6).
    pub function: HashFunction,
    /// Bytes in every chunk but the last (RFC 7574 §7.10).
    pub chunk_size: ChunkSize,
}

/// The verified nodes of a hash tree from the group level up, and its peaks (rulings R1, R2).
///
/// Holds only what was proven against the root, in memory proportional to the number of nodes, never to a claimed size.
/// A complete tree takes about two hashes for each 16 KiB of content: with SHA-256, 4 MiB for each GiB.
#[derive(Clone, Debug)]
pub struct Tree {
    params: TreeParams,
    root: Hash,
    geometry: Option<Geometry>,
    /// Left to right; empty until all are known.
    peaks: Vec<(Bin, Hash)>,
    /// While peaks are unknown: the peaks known so far and the verified nodes that reach past the content's end.
    edge: Vec<(Bin, Hash)>,
    pages: Pages,
    /// How many whole groups' hashes are known.
    groups_known: u64,
}

impl Tree {
    /// The tree with that `root`, nothing else known. `root` is as long as the function's hashes, or nothing verifies.
    pub const fn new(params: TreeParams, root: Hash) -> Self {
        Self { params, root, geometry: None, peaks: Vec::new(), edge: Vec::new(), pages: Pages::new(), groups_known: 0 }
    }

    /// The hash function and the chunk size.
    pub const fn params(&self) -> TreeParams {
        self.params
    }

    /// The root hash: the swarm id of a static content.
    pub const fn root(&self) -> &Hash {
        &self.root
    }

    /// The content's cut into chunks, once known.
    pub const fn geometry(&self) -> Option<Geometry> {
        self.geometry
    }

    /// All peaks, left to right; empty until they are known (RFC 7574 §5.6.1).
    pub fn peaks(&self) -> &[(Bin, Hash)] {
        &self.peaks
    }

    /// Makes the content's cut known, with its peaks, left to right.
    ///
    /// # Errors
    /// Any of [`PeaksError`]; the tree is then unchanged. The peaks must hash to the root.
    pub fn set_geometry(&mut self, geometry: Geometry, peaks: &[(Bin, Hash)]) -> Result<(), PeaksError> {
        let geometry = self.accept(geometry)?;
        check_peaks(self.params, &self.root, &geometry, peaks)?;
        self.geometry = Some(geometry);
        self.set_peaks(peaks.to_vec());
        Ok(())
    }

    /// Makes the content's cut known, as a link with the content length tells it; the peaks are learned from the first
    /// proof. Only for a cut that comes from where the root comes from (ruling R1).
    ///
    /// # Errors
    /// [`PeaksError::ChunkSize`] or [`PeaksError::Contradiction`]; the tree is then unchanged.
    pub fn set_length(&mut self, geometry: Geometry) -> Result<(), PeaksError> {
        let geometry = self.accept(geometry)?;
        self.geometry = Some(geometry);
        if self.peaks.is_empty() && geometry.chunk_count().is_power_of_two() {
            // The definition of peaks yields none for a full tree: its root is the only one.
            self.set_peaks(vec![(geometry.root(), self.root)]);
        }
        Ok(())
    }

    /// `geometry` joined with what is known, if the two agree.
    fn accept(&self, geometry: Geometry) -> Result<Geometry, PeaksError> {
        if geometry.chunk_size() != self.params.chunk_size {
            return Err(PeaksError::ChunkSize { expected: self.params.chunk_size, found: geometry.chunk_size() });
        }
        let Some(known) = self.geometry else { return Ok(geometry) };
        let lengths_differ = match (known.content_length(), geometry.content_length()) {
            (Some(known), Some(found)) => known != found,
            _ => false,
        };
        if known.chunk_count() != geometry.chunk_count() || lengths_differ {
            return Err(PeaksError::Contradiction { known: known.chunk_count(), found: geometry.chunk_count() });
        }
        Ok(if known.content_length().is_some() { known } else { geometry })
    }

    /// The verified hash of `bin`: a node at group level or above, a peak, or the root. `None` while the geometry is
    /// unknown, since nothing has a place then.
    pub fn node(&self, bin: Bin) -> Option<&[u8]> {
        let geometry = self.geometry.as_ref()?;
        if let Some(hash) = self.paged(bin) {
            return Some(hash);
        }
        if bin == geometry.root() {
            return Some(self.root.as_slice());
        }
        let aside = if self.peaks.is_empty() { &self.edge } else { &self.peaks };
        aside.iter().find(|(known, _)| *known == bin).map(|(_, hash)| hash.as_slice())
    }

    #[inline]
    pub(super) fn paged(&self, bin: Bin) -> Option<&[u8]> {
        let (page, slot) = slot_of(bin, self.params.chunk_size.group_layer())?;
        self.pages.get(page)?.get(slot, self.params.function.len())
    }

    /// Keeps a node that was proven against the root. Nodes below the group level that are no peaks have no place here.
    pub(super) fn insert(&mut self, bin: Bin, hash: &Hash) {
        let Some(geometry) = self.geometry else { return };
        if hash.as_slice().len() != self.params.function.len() {
            return;
        }
        let complete = geometry.all().covers(bin.base_range());
        if complete {
            self.insert_paged(bin, hash);
        }
        if !self.peaks.is_empty() || self.edge.iter().any(|(known, _)| *known == bin) {
            return;
        }
        if !complete || is_peak(&geometry, bin) {
            self.edge.push((bin, *hash));
            self.gather_peaks(&geometry);
        }
    }

    fn insert_paged(&mut self, bin: Bin, hash: &Hash) {
        let group_layer = self.params.chunk_size.group_layer();
        let Some((page, slot)) = slot_of(bin, group_layer) else { return };
        if self.pages.get_or_begin(page).insert(slot, hash.as_slice()) && bin.layer() == group_layer {
            self.groups_known += 1;
        }
    }

    /// Moves the peaks out of `edge` once all of them are there.
    fn gather_peaks(&mut self, geometry: &Geometry) {
        let find = |bin: Bin| self.edge.iter().find(|(known, _)| *known == bin).copied();
        if let Some(peaks) = geometry.peaks().map(find).collect::<Option<Vec<_>>>() {
            self.set_peaks(peaks);
        }
    }

    fn set_peaks(&mut self, peaks: Vec<(Bin, Hash)>) {
        for (bin, hash) in &peaks {
            self.insert_paged(*bin, hash);
        }
        self.peaks = peaks;
        self.edge = Vec::new();
    }

    /// Makes the last chunk's length known; ignored if it does not fit.
    pub(super) fn set_last_len(&mut self, last_len: u32) {
        if let Some(geometry) = self.geometry.filter(|geometry| geometry.content_length().is_none()) {
            self.geometry = geometry.with_last_len(last_len).or(self.geometry);
        }
    }

    /// Whether the hash of every group is known.
    pub fn is_complete(&self) -> bool {
        // The group that the content's end cuts has peaks in place of a group hash.
        self.geometry.is_some_and(|geometry| {
            !self.peaks.is_empty() && self.groups_known == geometry.chunk_count() >> geometry.group_layer()
        })
    }

    /// Number of pages in the file of a tree over `geometry`: pages 0 to that.
    pub const fn page_count(geometry: &Geometry) -> u64 {
        let whole_groups = geometry.chunk_count() >> geometry.group_layer();
        // In order, the last whole group's node has number 2 * (groups - 1), and no complete node lies beyond.
        if whole_groups == 0 { 0 } else { (2 * (whole_groups - 1)) / PAGE_NODES as u64 + 1 }
    }

    /// The pages that have changed since [`Tree::take_dirty`], in order.
    pub fn dirty_pages(&self) -> impl Iterator<Item = u64> {
        self.pages.iter().filter(|(_, page)| page.is_dirty()).map(|(number, _)| number)
    }

    /// The pages that have changed since the last call, in order.
    pub fn take_dirty(&mut self) -> Vec<u64> {
        let dirty = self.dirty_pages().collect();
        for page in self.pages.iter_mut() {
            page.set_dirty(false);
        }
        dirty
    }

    /// A page in its file form: [`PAGE_NODES`] hashes in bin order, unknown ones all-zero. `None` if none is known.
    ///
    /// Its place in the file is `page * PAGE_NODES * hash length`. Peaks below the group level are in no page.
    pub fn page_bytes(&self, page: u64) -> Option<Vec<u8>> {
        self.pages.get(page).map(|page| page.to_raw(self.params.function.len()))
    }

    /// Nodes of `page` known so far.
    pub(super) fn page(&self, page: u64) -> Option<&Page> {
        self.pages.get(page)
    }

    /// The pages with a known node.
    pub(super) fn page_numbers(&self) -> Vec<u64> {
        self.pages.iter().map(|(number, _)| number).collect()
    }

    /// Replaces a page by one whose nodes are all proven.
    pub(super) fn put_page(&mut self, number: u64, page: Page) {
        self.groups_known += page.groups_known();
        let old = core::mem::replace(self.pages.get_or_begin(number), page);
        self.groups_known -= old.groups_known();
    }
}

/// What only a builder does: nodes that are right because they were just computed.
impl Tree {
    /// Computes every complete node above whole pages.
    pub(super) fn join_pages(&mut self, geometry: &Geometry) {
        let lowest = geometry.group_layer() + PAGE_LAYER + 1;
        for layer in lowest..=Bin::MAX_LAYER {
            let nodes = geometry.chunk_count() >> layer;
            if nodes == 0 {
                break;
            }
            for bin in (0..nodes).map_while(|offset| Bin::at(layer, offset)) {
                let hash = bin
                    .children()
                    .and_then(|(left, right)| Some(self.params.function.node(self.paged(left)?, self.paged(right)?)));
                let Some(hash) = hash else { break };
                self.insert_paged(bin, &hash);
            }
        }
    }

    /// Makes root, cut and peaks known.
    pub(super) fn complete(&mut self, root: Hash, geometry: Geometry, peaks: Vec<(Bin, Hash)>) {
        self.root = root;
        self.geometry = Some(geometry);
        self.set_peaks(peaks);
        for page in self.pages.iter_mut() {
            page.set_dirty(true);
        }
    }
}

/// Whether `bin` is a peak of `geometry`.
fn is_peak(geometry: &Geometry, bin: Bin) -> bool {
    let first = bin.base_range().start();
    geometry.peak_of(ChunkIndex::new(first)) == Some(bin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkIndex;
    use crate::integrity::reference::Content;

    #[test]
    fn a_huge_geometry_allocates_nothing() {
        let content = Content::new(HashFunction::Sha256, 512, 1, 1);
        for chunks in [1 << 53, (1 << 53) + 1] {
            let geometry = Geometry::of_chunks(chunks, content.params.chunk_size).unwrap();
            let mut tree = Tree::new(content.params, content.root());
            tree.set_length(geometry).unwrap();
            assert!(tree.pages.len() <= 1 && tree.edge.capacity() == 0);
            assert!(!tree.is_complete());
        }
    }

    #[test]
    fn geometry_must_fit_the_tree_and_what_is_known() {
        let content = Content::new(HashFunction::Sha256, 1024, 7, 1018);
        let (params, peaks) = (content.params, content.peaks());
        let size = params.chunk_size;
        let mut tree = Tree::new(params, content.root());
        assert_eq!(tree.node(content.geometry.root()), None);
        let other = ChunkSize::new(2048).unwrap();
        assert_eq!(
            tree.set_length(Geometry::of_chunks(7, other).unwrap()),
            Err(PeaksError::ChunkSize { expected: size, found: other })
        );
        assert_eq!(
            tree.set_geometry(Geometry::of_chunks(6, size).unwrap(), &peaks[..2]),
            Err(PeaksError::Root { chunks: 6 })
        );
        assert_eq!(tree.geometry(), None);
        // Counting chunks first, then the exact length, then never another.
        tree.set_geometry(Geometry::of_chunks(7, size).unwrap(), &peaks).unwrap();
        assert_eq!(tree.geometry().unwrap().content_length(), None);
        assert_eq!(tree.set_length(content.geometry), Ok(()));
        assert_eq!(tree.set_geometry(Geometry::of_chunks(7, size).unwrap(), &peaks), Ok(()));
        assert_eq!(tree.geometry(), Some(content.geometry));
        let longer = Geometry::new(7163, size).unwrap();
        assert_eq!(tree.set_length(longer), Err(PeaksError::Contradiction { known: 7, found: 7 }));
        let fewer = Geometry::new(6000, size).unwrap();
        assert_eq!(tree.set_length(fewer), Err(PeaksError::Contradiction { known: 7, found: 6 }));
    }

    #[test]
    fn the_tree_answers_for_groups_peaks_and_root() {
        let content = Content::new(HashFunction::Sha1, 8192, 7, 1);
        let mut tree = Tree::new(content.params, content.root());
        tree.set_geometry(content.geometry, &content.peaks()).unwrap();
        let root = content.geometry.root();
        assert_eq!(tree.node(root), Some(content.root().as_slice()));
        for (bin, hash) in content.nodes() {
            let known = tree.peaks().contains(&(bin, hash)) || bin == root;
            assert_eq!(tree.node(bin), known.then_some(hash.as_slice()), "{bin:?}");
        }
        for (bin, hash) in content.nodes().filter(|(bin, _)| content.geometry.all().covers(bin.base_range())) {
            tree.insert(bin, &hash);
        }
        assert!(tree.is_complete());
        for (bin, hash) in content.nodes().filter(|(bin, _)| content.geometry.all().covers(bin.base_range())) {
            let below = bin.layer() == 0 && bin != content.geometry.peak_of(ChunkIndex::new(6)).unwrap();
            assert_eq!(tree.node(bin), (!below).then_some(hash.as_slice()), "{bin:?}");
        }
    }

    #[test]
    fn a_tree_is_complete_with_its_last_group() {
        for chunks in [1, 2, 5, 8, 9] {
            let content = Content::new(HashFunction::Sha1, 8192, chunks, 1);
            let mut tree = Tree::new(content.params, content.root());
            tree.set_geometry(content.geometry, &content.peaks()).unwrap();
            let groups = (0..chunks / 2).filter_map(|group| Bin::at(1, group));
            let unknown: Vec<Bin> = groups.filter(|bin| tree.node(*bin).is_none()).collect();
            for bin in unknown {
                assert!(!tree.is_complete(), "{chunks} chunks");
                tree.insert(bin, &content.node(bin));
                tree.insert(bin, &content.node(bin));
            }
            assert!(tree.is_complete(), "{chunks} chunks");
        }
    }

    #[test]
    fn dirty_pages_are_taken_once() {
        let params = TreeParams { function: HashFunction::Sha1, chunk_size: ChunkSize::MAX };
        let hash = HashFunction::Sha1.leaf(b"");
        let mut tree = Tree::new(params, hash);
        tree.set_length(Geometry::of_chunks(5000, params.chunk_size).unwrap()).unwrap();
        assert_eq!(tree.take_dirty(), []);
        for chunk in [4000, 0, 255, 256] {
            tree.insert(Bin::at(0, chunk).unwrap(), &hash);
        }
        assert_eq!(tree.dirty_pages().collect::<Vec<_>>(), [0, 1, 15]);
        assert_eq!(tree.take_dirty(), [0, 1, 15]);
        tree.insert(Bin::at(0, 0).unwrap(), &hash);
        assert_eq!(tree.take_dirty(), []);
        tree.insert(Bin::at(0, 1).unwrap(), &hash);
        assert_eq!(tree.take_dirty(), [0]);
        assert_eq!(tree.page_bytes(0).unwrap().len(), 512 * 20);
        assert_eq!(tree.page_bytes(2), None);
    }

    #[test]
    fn pages_hold_every_complete_node_from_the_group_level() {
        for chunks in (1..40).chain(250..260).chain(510..515).chain([1023, 1024, 1025]) {
            for size in [512, 16384] {
                let geometry = Geometry::of_chunks(chunks, ChunkSize::new(size).unwrap()).unwrap();
                let layer = geometry.group_layer();
                let last = (layer..=Bin::MAX_LAYER)
                    .filter_map(|layer| Bin::at(layer, (chunks >> layer).checked_sub(1)?))
                    .filter_map(|bin| slot_of(bin, layer))
                    .map(|(page, _)| page + 1)
                    .max();
                assert_eq!(Tree::page_count(&geometry), last.unwrap_or(0), "{chunks} chunks of {size}");
            }
        }
    }
}
