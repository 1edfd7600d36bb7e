//! How a hash tree lies in a file: a block of peaks, and the pages of `ppspp_core::integrity::Tree`, sparse.

use std::io;

use ppspp_core::chunk::{Bin, Geometry};
use ppspp_core::integrity::{Hash, HashFunction, MAX_HASH_LEN, PAGE_NODES, Tree, TreeParams};

use crate::file::Storage;

/// Room for the peaks of any content: one for each bit of the chunk count.
pub(crate) const PEAKS_LEN: u64 = 64 * MAX_HASH_LEN as u64;

/// Length in bytes of a page.
pub(crate) const fn page_len(function: HashFunction) -> u64 {
    (PAGE_NODES * function.len()) as u64
}

/// Where in a file a tree lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TreePlace {
    /// Offset of the peaks, [`PEAKS_LEN`] bytes.
    pub(crate) peaks_at: u64,
    /// Offset of page 0.
    pub(crate) pages_at: u64,
}

impl TreePlace {
    /// Writes all peaks, left to right; nothing if there are none yet.
    pub(crate) fn write_peaks(self, file: &dyn Storage, peaks: &[(Bin, Hash)]) -> io::Result<()> {
        let mut block: Vec<u8> = peaks.iter().flat_map(|(_, hash)| hash.as_slice()).copied().collect();
        block.truncate(PEAKS_LEN as usize);
        file.write_all_at(&block, self.peaks_at)
    }

    /// Writes one page; what is not a page of a tree over `geometry` is ignored.
    pub(crate) fn write_page(
        self,
        file: &dyn Storage,
        function: HashFunction,
        geometry: &Geometry,
        number: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        if number >= Tree::page_count(geometry) || bytes.len() as u64 != page_len(function) {
            return Ok(());
        }
        file.write_all_at(bytes, self.pages_at + number * page_len(function))
    }

    /// Reads the tree with that root back. Only what is proven by the root enters; the rest is unknown.
    ///
    /// `None` if the geometry cannot be that of the root's content.
    pub(crate) fn read(self, file: &dyn Storage, params: TreeParams, root: Hash, geometry: Geometry) -> Option<Tree> {
        let pages = Tree::page_count(&geometry);
        let len = page_len(params.function);
        let read_page = |number: u64| {
            if number >= pages {
                return None;
            }
            let mut page = vec![0; len as usize];
            file.read_exact_at(&mut page, self.pages_at + number * len).ok()?;
            Some(page)
        };
        let peaks = self.read_peaks(file, params.function, &geometry);
        if let Some(tree) = peaks.and_then(|peaks| Tree::import(params, root, geometry, &peaks, read_page).ok()) {
            return Some(tree);
        }
        Tree::import(params, root, geometry, &[], read_page).ok()
    }

    /// All peaks, unproven; `None` while they are not all there.
    fn read_peaks(self, file: &dyn Storage, function: HashFunction, geometry: &Geometry) -> Option<Vec<(Bin, Hash)>> {
        let len = function.len();
        let bins: Vec<Bin> = geometry.peaks().collect();
        let mut block = vec![0; bins.len() * len];
        file.read_exact_at(&mut block, self.peaks_at).ok()?;
        let hashes = block.chunks_exact(len).map(Hash::from_slice);
        let peak = |(bin, hash): (Bin, Option<Hash>)| Some((bin, hash.filter(|hash| !hash.is_zero())?));
        bins.into_iter().zip(hashes).map(peak).collect()
    }
}
