//! How far a swarm is, and what is saved of it.

use alloc::vec::Vec;

use crate::chunk::{Bin, RangeSet};
use crate::integrity::{Hash, SavedGroup};

/// What the driver saves of a swarm so that it can be resumed. Nothing in it is trusted when it comes back.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Tree pages that changed since the last checkpoint: page number and content (see `integrity::Tree::page_bytes`).
    pub pages: Vec<(u64, Vec<u8>)>,
    /// Peaks of the tree, once known.
    pub peaks: Vec<(Bin, Hash)>,
    /// Chunks stored and confirmed.
    pub stored: RangeSet,
    /// Nodes of the groups that are stored in part.
    pub open_groups: Vec<SavedGroup>,
}

/// How far a swarm is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Length of the content in bytes, once known.
    pub content_length: Option<u64>,
    /// Bytes verified, stored and confirmed; for a resumed swarm also read back.
    pub bytes_stored: u64,
    /// Bytes still to be read back and verified after a resume.
    pub bytes_to_check: u64,
    /// Whether every wanted chunk is stored.
    pub complete: bool,
    /// Established channels.
    pub peers: usize,
    /// Established channels to peers that have everything.
    pub seeders: usize,
}
