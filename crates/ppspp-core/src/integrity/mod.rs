//! Hash trees over static content (RFC 7574 §5): what a chunk must hash to, which hashes prove it, and what is proven.
//!
//! The tree is kept from the group level up (a group is at most 16 KiB of content, [`GROUP_BYTES`], or one larger
//! chunk); the nodes below live only as long as their group is incomplete, or while a complete group is being served.
//! [`Verifier`] is the face a swarm talks to; [`TreeBuilder`] hashes a content that lies in a file.
//!
//! [`GROUP_BYTES`]: crate::chunk::GROUP_BYTES

#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod avx512;
mod builder;
mod early;
mod group;
mod hash;
mod import;
mod judging;
mod open_group;
mod page;
mod pages;
mod peaks;
mod proof;
#[cfg(test)]
pub(crate) mod reference;
mod row;
mod sha256;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod sha_ni;
mod tree;
mod verifier;

pub use builder::{BuildSpan, Incomplete, SpanError, SpanHasher, SpanNodes, TreeBuilder};
pub use early::EarlyHashes;
pub use group::{GroupNodes, SavedGroup};
pub use hash::{Hash, HashFunction, MAX_HASH_LEN};
pub use judging::Along;
pub use open_group::OpenGroup;
pub(crate) use open_group::full_mask;
pub use page::PAGE_NODES;
pub use peaks::{MAX_CLAIM_CANDIDATES, PeakClaim, PeaksError, root_from_peaks};
pub(crate) use proof::push_uncles;
pub use proof::{MAX_PROOF, peaks_needed, uncles};
pub use row::{HashRow, Hashes};
pub use tree::{Tree, TreeParams};
pub use verifier::{AdoptError, Verdict, Verifier};
