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
