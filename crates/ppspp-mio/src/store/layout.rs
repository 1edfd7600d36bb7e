//! Where everything lies in a sidecar, and the header that says whose it is.
//!
//! ```text
//! 0      header, 128 bytes: magic, version, hash function, chunk size, content length, root, check
//! 128    peaks, 4,096 bytes
//! 8192   one bit for each group: whether it is stored
//!        pages of the tree, sparse
//!        two slots for the groups that are stored in part, written in turns
//! ```
//! Numbers are big-endian, as on the wire. What follows the peaks starts at multiples of 4,096.

use std::io;

use ppspp_core::Metadata;
use ppspp_core::chunk::Geometry;
use ppspp_core::integrity::{Hash, HashFunction, Tree};

use crate::file::Storage;
use crate::tree_file::{PEAKS_LEN, TreePlace, page_len};

/// Most groups whose nodes are saved while they are stored in part, four times what `Limits::open_groups` allows by
/// default. Those beyond are fetched again after a restart.
const MAX_SAVED_GROUPS: u64 = 4096;

/// Bytes before the groups in a slot: sequence number, length and check.
pub(super) const SLOT_HEADER_LEN: u64 = 8 + 8 + CHECK_LEN as u64;
/// Bytes before a group's nodes: index, stored chunks, number of nodes.
pub(super) const GROUP_HEADER_LEN: u64 = 8 + 8 + 8;
/// Length in bytes of a check, a SHA-256 hash that tells damage from other content.
pub(super) const CHECK_LEN: usize = 32;
/// What is written of the bitmap at a time, and what everything is aligned to: a page of memory.
pub(super) const BLOCK: u64 = 4096;

const MAGIC: [u8; 8] = *b"ppsppsc\n";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 128;
const CHECKED_LEN: usize = HEADER_LEN - CHECK_LEN;
const ROOT_AT: usize = 8 + 4 + 4 + 8 + 8;
const BITMAP_AT: u64 = 8192;

/// Offsets and bounds in the sidecar of a content of known length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    pub(super) bitmap_at: u64,
    pub(super) tree: TreePlace,
    slots_at: u64,
    /// Length of one slot.
    pub(super) slot_len: u64,
    /// Most groups in a slot.
    pub(super) max_saved: u64,
    /// Most nodes of one group.
    pub(super) max_nodes: u64,
}

impl Layout {
    /// `None` if no file can be that long.
    pub(super) fn new(function: HashFunction, geometry: Geometry) -> Option<Self> {
        let align = |offset: u64| offset.checked_next_multiple_of(BLOCK);
        let max_nodes = (2u64 << geometry.group_layer()) - 1;
        let max_saved = geometry.group_count().min(MAX_SAVED_GROUPS);
        let group_len = GROUP_HEADER_LEN + max_nodes * (8 + function.len() as u64);
        let pages_at = align(BITMAP_AT + geometry.group_count().div_ceil(8))?;
        let pages = Tree::page_count(&geometry).checked_mul(page_len(function))?;
        let slots_at = align(pages_at.checked_add(pages)?)?;
        let slot_len = align(SLOT_HEADER_LEN + max_saved * group_len)?;
        slots_at.checked_add(2 * slot_len).filter(|end| i64::try_from(*end).is_ok())?;
        let tree = TreePlace { peaks_at: HEADER_LEN as u64, pages_at };
        Some(Self { geometry, bitmap_at: BITMAP_AT, tree, slots_at, slot_len, max_saved, max_nodes })
    }

    /// Offset of the slot that holds checkpoint number `sequence`.
    pub(super) const fn slot_at(&self, sequence: u64) -> u64 {
        self.slots_at + (sequence & 1) * self.slot_len
    }

    /// Bytes of the bitmap, up to the next whole block.
    pub(super) const fn bitmap_len(&self) -> u64 {
        self.geometry.group_count().div_ceil(8).next_multiple_of(BLOCK)
    }
}

const _: () = assert!(HEADER_LEN as u64 + PEAKS_LEN <= BITMAP_AT && BITMAP_AT.is_multiple_of(BLOCK));

/// Whose a sidecar is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// Nobody's: it is empty, just made or left by a program that ended before it wrote anything.
    Nobody,
    /// This content's; with its cut, if that was known.
    Us(Option<Geometry>),
    /// Another content's; its swarm id.
    OtherSwarm(String),
    /// A later program's.
    OtherVersion(u32),
    /// A sidecar whose header is damaged, for instance blank: so a crash of the machine may leave it.
    Damaged,
    /// Something that is no sidecar.
    Unknown,
}

/// The header of a sidecar; a length of zero stands for unknown.
pub(super) fn encode_header(metadata: &Metadata, content_length: u64) -> [u8; HEADER_LEN] {
    let mut fields = MAGIC.to_vec();
    fields.extend_from_slice(&VERSION.to_be_bytes());
    fields.extend_from_slice(&u32::from(metadata.function.code()).to_be_bytes());
    fields.extend_from_slice(&u64::from(metadata.chunk_size.bytes()).to_be_bytes());
    fields.extend_from_slice(&content_length.to_be_bytes());
    fields.extend_from_slice(metadata.root.as_slice());
    fields.resize(CHECKED_LEN, 0);
    let check = HashFunction::Sha256.leaf(&fields);
    fields.extend_from_slice(check.as_slice());
    let mut header = [0; HEADER_LEN];
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    header
}

/// Looks at the header of a sidecar that is to be used for the content of `metadata`.
pub(super) fn owner(file: &dyn Storage, metadata: &Metadata) -> io::Result<Owner> {
    let mut header = [0; HEADER_LEN];
    let len = file.len()?.min(HEADER_LEN as u64) as usize;
    if len == 0 {
        return Ok(Owner::Nobody);
    }
    file.read_exact_at(header.get_mut(..len).unwrap_or_default(), 0)?;
    let (fields, check) = header.split_at(CHECKED_LEN);
    let blank = header.iter().all(|byte| *byte == 0);
    if !blank && !fields.starts_with(&MAGIC) {
        return Ok(Owner::Unknown);
    }
    if HashFunction::Sha256.leaf(fields).as_slice() != check {
        return Ok(Owner::Damaged);
    }
    let version = number(fields, 8, 4) as u32;
    if version != VERSION {
        return Ok(Owner::OtherVersion(version));
    }
    let content_length = number(fields, 24, 8);
    let same = header == encode_header(metadata, content_length)
        && (content_length == 0 || metadata.content_length.is_none_or(|ours| ours == content_length));
    if !same {
        let function = u8::try_from(number(fields, 12, 4)).ok().and_then(HashFunction::from_code).unwrap_or_default();
        let root = fields.get(ROOT_AT..ROOT_AT + function.len()).and_then(Hash::from_slice);
        let name = root.map_or_else(String::new, |root| root.to_string());
        let unlike =
            if root == Some(metadata.root) { ", with another length, chunk size or hash function" } else { "" };
        return Ok(Owner::OtherSwarm(name + unlike));
    }
    if content_length == 0 {
        return Ok(Owner::Us(None));
    }
    let known = Metadata { content_length: Some(content_length), ..metadata.clone() };
    Ok(known.geometry().map_or(Owner::Damaged, Owner::Us))
}

/// The `len` bytes from `at` on as a number; bytes that are not there count as none.
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.iter().skip(at).take(len).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
