//! Reading a tree back from a file that nothing is trusted in.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::page::{Known, PAGE_LAYER, PAGE_NODES, Page, is_known, set_known, slot_of};
use super::{Hash, HashFunction, PeaksError, Tree, TreeParams};
use crate::chunk::{Bin, Geometry};

/// The slots of a page that nodes above whole pages refer to: its own top, and the node from higher up.
const HEADS: [usize; 2] = [PAGE_NODES / 2 - 1, PAGE_NODES - 1];

impl Tree {
    /// Reads a tree back, top-down: a node's two children enter only if they hash to it.
    ///
    /// `peaks` may be empty if they were not known when the tree was written. `read_page` yields a page in the form of
    /// [`Tree::page_bytes`], or `None`; it is called at most twice for each page, only below nodes that are verified
    /// already. Whatever is missing or wrong is unknown in the result.
    ///
    /// # Errors
    /// Any of [`PeaksError`], as [`Tree::set_geometry`].
    pub fn import(
        params: TreeParams,
        root: Hash,
        geometry: Geometry,
        peaks: &[(Bin, Hash)],
        mut read_page: impl FnMut(u64) -> Option<Vec<u8>>,
    ) -> Result<Self, PeaksError> {
        let mut tree = Self::new(params, root);
        if peaks.is_empty() {
            tree.set_length(geometry)?;
        } else {
            tree.set_geometry(geometry, peaks)?;
        }
        tree.import_heads(&mut read_page);
        let size = PAGE_NODES * params.function.len();
        for number in tree.page_numbers() {
            if let Some(mut raw) = read_page(number).filter(|raw| raw.len() == size)
                && let Some(page) = tree.page(number)
            {
                page.overlay(&mut raw, params.function.len());
                let known = verify_page(params.function, *page.known(), &raw);
                tree.put_page(number, Page::from_raw(known, &raw, params.function.len()));
            }
        }
        // What was just read is in the file already.
        tree.take_dirty();
        Ok(tree)
    }

    /// Verifies the nodes above whole pages, down to the pages' tops.
    fn import_heads(&mut self, read_page: &mut impl FnMut(u64) -> Option<Vec<u8>>) {
        let function = self.params().function;
        let group_layer = self.params().chunk_size.group_layer();
        let mut heads = Heads { function, pages: BTreeMap::new() };
        let mut verified = self.peaks().to_vec();
        while let Some((bin, hash)) = verified.pop() {
            if bin.layer() <= group_layer + PAGE_LAYER {
                continue;
            }
            let Some((left, right)) = bin.children() else { continue };
            let (Some(left_hash), Some(right_hash)) =
                (heads.get(left, group_layer, read_page), heads.get(right, group_layer, read_page))
            else {
                continue;
            };
            if function.node(left_hash.as_slice(), right_hash.as_slice()) != hash {
                continue;
            }
            for child in [(left, left_hash), (right, right_hash)] {
                self.insert(child.0, &child.1);
                verified.push(child);
            }
        }
    }
}

/// The heads of the pages read so far, so that each page is read once for them.
struct Heads {
    function: HashFunction,
    pages: BTreeMap<u64, Option<[Hash; 2]>>,
}

impl Heads {
    fn get(&mut self, bin: Bin, group_layer: u8, read_page: &mut impl FnMut(u64) -> Option<Vec<u8>>) -> Option<Hash> {
        let (number, slot) = slot_of(bin, group_layer)?;
        let len = self.function.len();
        let heads = self.pages.entry(number).or_insert_with(|| {
            let raw = read_page(number)?;
            let head = |slot: usize| Hash::from_slice(raw.get(slot * len..(slot + 1) * len)?);
            Some([head(HEADS[0])?, head(HEADS[1])?])
        });
        let index = HEADS.iter().position(|head| *head == slot)?;
        heads.as_ref()?.get(index).copied()
    }
}

/// The nodes of `raw` that are proven: those in `known`, and below them every pair that hashes to its parent.
fn verify_page(function: HashFunction, mut known: Known, raw: &[u8]) -> Known {
    let len = function.len();
    let hash = |slot: usize| raw.get(slot * len..(slot + 1) * len);
    for layer in (1..=PAGE_LAYER).rev() {
        let half = 1usize << (layer - 1);
        // In order, the nodes of a layer begin at 2^layer - 1 and lie 2^(layer + 1) apart.
        for slot in ((1usize << layer) - 1..PAGE_NODES).step_by(1 << (layer + 1)) {
            if is_known(&known, slot)
                && let (Some(left), Some(node), Some(right)) = (hash(slot - half), hash(slot), hash(slot + half))
                && function.node(left, right).as_slice() == node
            {
                set_known(&mut known, slot - half);
                set_known(&mut known, slot + half);
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::integrity::TreeBuilder;
    use crate::integrity::reference::Content;

    fn built(content: &Content) -> Tree {
        let mut builder = TreeBuilder::new(content.params, content.geometry);
        for span in builder.spans() {
            let bytes = span.byte_range();
            let data = &content.data[bytes.start as usize..bytes.end as usize];
            builder.add(TreeBuilder::hash_span(content.params, content.geometry, span, data).unwrap()).unwrap();
        }
        builder.finish().unwrap()
    }

    /// The tree's file.
    fn file(content: &Content, tree: &Tree) -> Vec<Vec<u8>> {
        (0..Tree::page_count(&content.geometry)).map(|page| tree.page_bytes(page).unwrap()).collect()
    }

    fn import(content: &Content, file: &[Vec<u8>]) -> Tree {
        let read = |page: u64| file.get(page as usize).cloned();
        Tree::import(content.params, content.root(), content.geometry, &content.peaks(), read).unwrap()
    }

    /// The complete nodes from the group level up.
    fn stored(content: &Content) -> Vec<Bin> {
        let complete = |bin: &Bin| content.geometry.all().covers(bin.base_range());
        let layer = content.geometry.group_layer();
        content.nodes().map(|(bin, _)| bin).filter(|bin| bin.layer() >= layer).filter(complete).collect()
    }

    /// Damages `bin` in a copy of `file` and says which nodes the import then knows.
    fn known_without(content: &Content, file: &[Vec<u8>], bin: Bin, damage: impl Fn(&mut u8)) -> BTreeSet<Bin> {
        let mut file = file.to_vec();
        let (page, slot) = slot_of(bin, content.geometry.group_layer()).unwrap();
        let len = content.params.function.len();
        file[page as usize][slot * len..(slot + 1) * len].iter_mut().for_each(damage);
        let tree = import(content, &file);
        stored(content).into_iter().filter(|bin| tree.node(*bin) == Some(content.node(*bin).as_slice())).collect()
    }

    fn each_node_damaged(content: &Content, picks: impl Iterator<Item = Bin>) {
        let file = file(content, &built(content));
        let all = stored(content);
        for bin in picks {
            // The peaks do not come from the pages; below any other node, its subtree and its sibling's are lost.
            let peak = content.peaks().iter().any(|(peak, _)| *peak == bin);
            let lost = |other: &Bin| !peak && bin.parent().is_some_and(|p| p.contains(*other) && p != *other);
            let expected: BTreeSet<Bin> = all.iter().copied().filter(|other| !lost(other)).collect();
            assert_eq!(known_without(content, &file, bin, |byte| *byte = 0), expected, "{bin:?}");
            assert_eq!(known_without(content, &file, bin, |byte| *byte ^= 0x10), expected, "{bin:?}");
        }
    }

    #[test]
    fn a_damaged_node_costs_its_subtree_and_its_siblings() {
        for (size, chunks) in [(8192, 75), (16384, 32), (16384, 37)] {
            let content = Content::new(HashFunction::Sha1, size, chunks, 9);
            each_node_damaged(&content, stored(&content).into_iter());
        }
    }

    #[test]
    fn damage_above_whole_pages_is_found() {
        let content = Content::new(HashFunction::Sha1, 16384, 1029, 9);
        let layer = content.geometry.group_layer();
        let high = |bin: &Bin| bin.layer() >= layer + PAGE_LAYER;
        let picks: Vec<Bin> = stored(&content).into_iter().filter(high).collect();
        assert_eq!(picks.len(), 4 + 2 + 1);
        each_node_damaged(&content, picks.into_iter());
    }

    #[test]
    fn absent_and_short_pages_are_unknown() {
        let content = Content::new(HashFunction::Sha1, 16384, 600, 9);
        let whole = file(&content, &built(&content));
        let count = |tree: &Tree| stored(&content).into_iter().filter(|bin| tree.node(*bin).is_some()).count();
        assert_eq!(count(&import(&content, &whole)), stored(&content).len());
        assert_eq!(count(&import(&content, &[])), content.peaks().len());
        let mut short = whole.clone();
        short[0].pop();
        // The first page's top proves nothing, so neither does its sibling's: 2 * 511 nodes are lost.
        assert_eq!(count(&import(&content, &short)), stored(&content).len() - 1022);
        assert!(import(&content, &whole[..1]).node(Bin::leftmost(8)).is_none());
    }

    #[test]
    fn without_peaks_only_a_full_tree_is_read() {
        for (chunks, complete) in [(8, true), (7, false)] {
            let content = Content::new(HashFunction::Sha256, 16384, chunks, 9);
            let file = file(&content, &built(&content));
            let read = |page: u64| file.get(page as usize).cloned();
            let tree = Tree::import(content.params, content.root(), content.geometry, &[], read).unwrap();
            assert_eq!(tree.is_complete(), complete);
        }
        let content = Content::new(HashFunction::Sha256, 16384, 7, 9);
        let mut peaks = content.peaks();
        peaks[0].1 = peaks[1].1;
        let tree = Tree::import(content.params, content.root(), content.geometry, &peaks, |_| None);
        assert_eq!(tree.err(), Some(PeaksError::Root { chunks: 7 }));
    }

    #[test]
    fn an_imported_tree_is_clean() {
        let content = Content::new(HashFunction::Sha1, 16384, 300, 9);
        let mut tree = import(&content, &file(&content, &built(&content)));
        assert_eq!(tree.take_dirty(), []);
        assert_eq!(built(&content).take_dirty(), [0, 1]);
    }

    proptest! {
        #[test]
        fn junk_never_enters(
            pages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 512 * 20..=512 * 20), 0..3),
            chunks in 1u64..600,
        ) {
            let content = Content::new(HashFunction::Sha1, 512, chunks, 9);
            let tree = import(&content, &pages);
            for (bin, hash) in content.nodes() {
                prop_assert!(tree.node(bin).is_none_or(|known| known == hash.as_slice()));
            }
        }
    }
}
