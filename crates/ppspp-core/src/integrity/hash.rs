//! The hash functions of RFC 7574 §7.6, for leaves and for interior nodes.

use alloc::vec::Vec;
use core::fmt;
use core::slice;
use core::str::FromStr;

use arrayvec::ArrayVec;
use sha1::block_api::compress as compress160;
use sha2::Digest as _;
use sha2::block_api::{compress256, compress512};

use super::sha256::{self, Block, LANES};
use crate::chunk::UnknownName;

/// Length in bytes of the longest hash, that of SHA-512.
pub const MAX_HASH_LEN: usize = 64;

/// The hash function of a Merkle hash tree (RFC 7574 §7.6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum HashFunction {
    /// SHA-1, 20 bytes; what the older implementations speak.
    Sha1,
    /// SHA-224, 28 bytes.
    Sha224,
    /// SHA-256, 32 bytes, the default.
    #[default]
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl HashFunction {
    /// Every function, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The code of the handshake option, 0 to 4.
    pub const fn code(self) -> u8 {
        match self {
            Self::Sha1 => 0,
            Self::Sha224 => 1,
            Self::Sha256 => 2,
            Self::Sha384 => 3,
            Self::Sha512 => 4,
        }
    }

    /// The function with `code`; `None` if it is unassigned.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Sha1,
            1 => Self::Sha224,
            2 => Self::Sha256,
            3 => Self::Sha384,
            4 => Self::Sha512,
            _ => return None,
        })
    }

    /// The name used in commands: `sha1`, `sha224`, `sha256`, `sha384` or `sha512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a hash in bytes: 20, 28, 32, 48 or 64.
    #[expect(clippy::len_without_is_empty, reason = "the length of a digest, never zero")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The hash of a chunk with these bytes (RFC 7574 §5.1).
    pub fn leaf(self, data: &[u8]) -> Hash {
        match self {
            Self::Sha1 => Hash::of(&sha1::Sha1::digest(data)),
            Self::Sha224 => Hash::of(&sha2::Sha224::digest(data)),
            Self::Sha256 => Hash::of(&sha2::Sha256::digest(data)),
            Self::Sha384 => Hash::of(&sha2::Sha384::digest(data)),
            Self::Sha512 => Hash::of(&sha2::Sha512::digest(data)),
        }
    }

    /// The hash of a node whose children hash to `left` and `right` (RFC 7574 §5.1).
    ///
    /// Two all-zero children, both past the content's end, give an all-zero parent. Children of another length than
    /// [`HashFunction::len`] never make a valid node; the result is then the hash of their concatenation.
    pub fn node(self, left: &[u8], right: &[u8]) -> Hash {
        if is_zero(left) && is_zero(right) {
            return Hash::zero(self);
        }
        if self == Self::Sha256
            && let Some(block) = block_of(left, right)
        {
            return Hash::of_32(&sha256::digest_pair(&block));
        }
        if left.len() != self.len() || right.len() != self.len() {
            return self.leaf(&[left, right].concat());
        }
        // Two hashes fill one block, or one and a constant rest: no buffering needed.
        match self {
            Self::Sha1 => {
                let mut state = SHA1_IV;
                compress160(&mut state, Padded::new(left, right).as_slice());
                Hash::from_words(&state.map(u32::to_be_bytes), self)
            }
            Self::Sha224 | Self::Sha256 => {
                let mut state = if self == Self::Sha224 { SHA224_IV } else { sha256::IV };
                compress256(&mut state, Padded::new(left, right).as_slice());
                Hash::from_words(&state.map(u32::to_be_bytes), self)
            }
            Self::Sha384 | Self::Sha512 => {
                let mut state = if self == Self::Sha384 { SHA384_IV } else { SHA512_IV };
                compress512(&mut state, Padded::new(left, right).as_slice());
                Hash::from_words(&state.map(u64::to_be_bytes), self)
            }
        }
    }

    /// Hashes each of `messages` into its place in `hashes`; what has no partner in the other slice is left out.
    ///
    /// Whoever has several chunks at hand calls this rather than [`HashFunction::leaf`]: with SHA-256, neighbours of one
    /// length that is a multiple of 64 bytes take about half the time.
    pub fn digest_many(self, messages: &[&[u8]], hashes: &mut [Hash]) {
        let mut hashes = hashes.iter_mut();
        let count = messages.len().min(hashes.len());
        self.digest_each(&messages[..count], |digest| {
            if let Some(hash) = hashes.next() {
                *hash = Hash::of(digest);
            }
        });
    }

    /// Appends the digest of each of `messages` to `digests`, in order.
    #[inline(never)]
    pub(crate) fn digest_all(self, messages: &[&[u8]], digests: &mut Vec<u8>) {
        self.digest_each(messages, |digest| digests.extend_from_slice(digest));
    }

    /// Hands the digest of each of `messages` to `put`, in order.
    fn digest_each(self, mut messages: &[&[u8]], mut put: impl FnMut(&[u8])) {
        while let [first, ..] = messages {
            let most = if self == Self::Sha256 && first.len().is_multiple_of(64) { LANES } else { 1 };
            let run = messages.iter().take(most).take_while(|message| message.len() == first.len()).count();
            if run > 1 {
                let blocks: ArrayVec<&[Block], LANES> =
                    messages[..run].iter().map(|bytes| bytes.as_chunks().0).collect();
                sha256::digest(&blocks).iter().for_each(|digest| put(digest));
            } else {
                put(self.leaf(first).as_slice());
            }
            messages = &messages[run.max(1)..];
        }
    }

    /// The hash of the node over each aligned run of `leaves`, which lie side by side, in order, side by side as well: of
    /// runs of 2 to the power of `layers`. One that is not whole is left out.
    #[inline(never)]
    pub(crate) fn roots(self, leaves: &[u8], layers: u8) -> Vec<u8> {
        (0..layers).fold(leaves.to_vec(), |layer, _| self.parents(&layer))
    }

    /// Hashes the node over each of `pairs` into its place in `hashes`, as [`HashFunction::node`] does with one.
    ///
    /// What has no partner in the other slice is left out.
    pub fn node_many(self, pairs: &[[&[u8]; 2]], hashes: &mut [Hash]) {
        for (pairs, hashes) in pairs.chunks(LANES).zip(hashes.chunks_mut(LANES)) {
            let layer: Option<ArrayVec<Block, LANES>> =
                pairs.iter().map(|[left, right]| block_of(left, right)).collect();
            match layer.filter(|_| self == Self::Sha256) {
                Some(layer) => {
                    let mut hashes = hashes.iter_mut();
                    self.each_parent(layer.as_flattened(), |parent| {
                        if let Some(hash) = hashes.next() {
                            *hash = Hash::of(parent);
                        }
                    });
                }
                None => pairs.iter().zip(hashes).for_each(|([left, right], hash)| *hash = self.node(left, right)),
            }
        }
    }

    /// The hashes of the nodes over a layer: over its first two hashes, the next two, and so on. All lie side by side, each
    /// [`HashFunction::len`] long; a last one without a partner has no node.
    #[inline(never)]
    pub(super) fn parents(self, layer: &[u8]) -> Vec<u8> {
        let mut above = Vec::with_capacity(layer.len() / 2);
        self.each_parent(layer, |parent| above.extend_from_slice(parent));
        above
    }

    /// Hands each of [`HashFunction::parents`] to `put`.
    fn each_parent(self, layer: &[u8], mut put: impl FnMut(&[u8])) {
        let (blocks, _) = layer.as_chunks();
        // What `node` treats in a way of its own is hashed alone.
        if self != Self::Sha256 || blocks.iter().any(|block: &Block| is_zero(block)) {
            let pairs = layer.chunks_exact(2 * self.len()).map(|pair| pair.split_at(self.len()));
            return pairs.for_each(|(left, right)| put(self.node(left, right).as_slice()));
        }
        for blocks in blocks.chunks(LANES) {
            if let [block] = blocks {
                put(&sha256::digest_pair(block));
                continue;
            }
            let messages: ArrayVec<&[Block], LANES> = blocks.iter().map(slice::from_ref).collect();
            sha256::digest(&messages).iter().for_each(|digest| put(digest));
        }
    }
}

/// Two hashes of 32 bytes as one block.
#[inline]
fn block_of(left: &[u8], right: &[u8]) -> Option<Block> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(<&[u8; 32]>::try_from(left).ok()?);
    block[32..].copy_from_slice(<&[u8; 32]>::try_from(right).ok()?);
    Some(block)
}

impl fmt::Display for HashFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashFunction {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|function| function.name() == name).ok_or(UnknownName)
    }
}

// FIPS 180-4 §5.3: initial hash values. The compression functions of `sha1` and `sha2` leave them to the caller.
const SHA1_IV: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
const SHA224_IV: [u32; 8] =
    [0xc105_9ed8, 0x367c_d507, 0x3070_dd17, 0xf70e_5939, 0xffc0_0b31, 0x6858_1511, 0x64f9_8fa7, 0xbefa_4fa4];
const SHA384_IV: [u64; 8] = [
    0xcbbb_9d5d_c105_9ed8,
    0x629a_292a_367c_d507,
    0x9159_015a_3070_dd17,
    0x152f_ecd8_f70e_5939,
    0x6733_2667_ffc0_0b31,
    0x8eb4_4a87_6858_1511,
    0xdb0c_2e0d_64f9_8fa7,
    0x47b5_481d_befa_4fa4,
];
const SHA512_IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// Two hashes as the one or two padded blocks of a whole message (FIPS 180-4 §5.1). `B` is 64 or 128.
struct Padded<const B: usize> {
    blocks: [[u8; B]; 2],
    used: usize,
}

impl<const B: usize> Padded<B> {
    /// The caller has checked that both hashes are of the same length, at most half of `B`.
    #[inline]
    fn new(left: &[u8], right: &[u8]) -> Self {
        let mut blocks = [[0; B]; 2];
        let message = left.len() + right.len();
        // A one bit, and the message's length in the last eighth of a block.
        let used = if message + 1 + B / 8 <= B { 1 } else { 2 };
        let bytes = blocks.as_flattened_mut();
        bytes[..left.len()].copy_from_slice(left);
        bytes[left.len()..message].copy_from_slice(right);
        bytes[message] = 0x80;
        bytes[used * B - 8..used * B].copy_from_slice(&(message as u64 * 8).to_be_bytes());
        Self { blocks, used }
    }

    #[inline]
    fn as_slice(&self) -> &[[u8; B]] {
        &self.blocks[..self.used]
    }
}

/// Whether every byte is zero: the hash of a node without content (RFC 7574 §5.1).
#[inline]
pub(super) fn is_zero(hash: &[u8]) -> bool {
    hash.iter().all(|byte| *byte == 0)
}

/// Copies `hash` to `place`, which is as long. A length known when compiling spares the call for the usual one.
#[inline]
pub(super) fn copy_hash(place: &mut [u8], hash: &[u8]) {
    match (<&mut [u8; 32]>::try_from(&mut *place), <&[u8; 32]>::try_from(hash)) {
        (Ok(place), Ok(hash)) => *place = *hash,
        _ => place.copy_from_slice(hash),
    }
}

/// A hash of up to 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
// The bytes first: behind the length, each part that is moved as one would lie across two that were written.
#[repr(C)]
pub struct Hash {
    /// Zero from `len` on, so that equality is that of the hashes.
    bytes: [u8; MAX_HASH_LEN],
    len: u8,
}

impl Hash {
    /// The all-zero hash of a node without content (RFC 7574 §5.1).
    pub const fn zero(function: HashFunction) -> Self {
        Self { len: function.len() as u8, bytes: [0; MAX_HASH_LEN] }
    }

    /// A copy of `hash`; `None` if it is longer than 64 bytes.
    #[inline]
    pub fn from_slice(hash: &[u8]) -> Option<Self> {
        if let Ok(hash) = <&[u8; 32]>::try_from(hash) {
            return Some(Self::of_32(hash));
        }
        let mut bytes = [0; MAX_HASH_LEN];
        copy_hash(bytes.get_mut(..hash.len())?, hash);
        Some(Self { len: hash.len() as u8, bytes })
    }

    /// The bytes, as many as the hash function yields.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(MAX_HASH_LEN)]
    }

    /// Whether every byte is zero.
    pub fn is_zero(&self) -> bool {
        is_zero(&self.bytes)
    }

    /// A hash of the usual length. Known when compiling, it spares the call that copies.
    #[inline]
    fn of_32(hash: &[u8; 32]) -> Self {
        let mut bytes = [0; MAX_HASH_LEN];
        bytes[..32].copy_from_slice(hash);
        Self { len: 32, bytes }
    }

    /// A digest; no digest of RFC 7574 is longer than 64 bytes.
    #[inline]
    fn of(digest: &[u8]) -> Self {
        if let Ok(digest) = digest.try_into() {
            return Self::of_32(digest);
        }
        let len = digest.len().min(MAX_HASH_LEN);
        let mut bytes = [0; MAX_HASH_LEN];
        copy_hash(&mut bytes[..len], &digest[..len]);
        Self { len: len as u8, bytes }
    }

    /// A compression function's final state, cut to the function's length.
    #[inline]
    fn from_words<const N: usize>(words: &[[u8; N]], function: HashFunction) -> Self {
        let flat = words.as_flattened();
        Self::of(&flat[..flat.len().min(function.len())])
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Display for Hash {
    /// Lower-case hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::chunk::ChunkSize;

    #[test]
    fn names_and_codes_are_those_of_rfc_7574_section_7_6() {
        let table = [("sha1", 20), ("sha224", 28), ("sha256", 32), ("sha384", 48), ("sha512", 64)];
        for (code, (name, len)) in table.into_iter().enumerate() {
            let function = HashFunction::from_code(code as u8).unwrap();
            assert_eq!((function.name(), function.len(), usize::from(function.code())), (name, len, code));
            assert_eq!(name.parse(), Ok(function));
            assert_eq!(function.leaf(b"").as_slice().len(), len);
        }
        assert_eq!(HashFunction::from_code(5), None);
        assert_eq!("SHA-256".parse::<HashFunction>(), Err(UnknownName));
        assert_eq!(HashFunction::default(), HashFunction::Sha256);
    }

    /// The example of RFC 7574 §8.16, whose text names the wrong function and length.
    #[test]
    fn the_root_of_the_rfc_example_is_the_hash_of_its_only_chunk() {
        let content = b"Hello world!\n";
        assert_eq!(HashFunction::Sha1.leaf(content).to_string(), "47a013e660d408619d894b20806b1d5086aab03b");
        assert_eq!(
            HashFunction::Sha256.leaf(content).to_string(),
            "0ba904eae8773b70c75333db4de2f3ac45a8ad4ddba1b242f0b3cfc199391dd8"
        );
    }

    #[test]
    fn a_node_is_the_hash_of_its_children_joined() {
        for function in HashFunction::ALL {
            for (left, right) in [("a", "b"), ("b", "a"), ("a", "a")] {
                let (left, right) = (function.leaf(left.as_bytes()), function.leaf(right.as_bytes()));
                let joined = [left.as_slice(), right.as_slice()].concat();
                assert_eq!(function.node(left.as_slice(), right.as_slice()), function.leaf(&joined), "{function}");
            }
        }
    }

    #[test]
    fn only_two_empty_children_make_an_empty_node() {
        for function in HashFunction::ALL {
            let (zero, full) = (Hash::zero(function), function.leaf(b"full"));
            assert!(function.node(zero.as_slice(), zero.as_slice()).is_zero());
            let joined = [full.as_slice(), zero.as_slice()].concat();
            assert_eq!(function.node(full.as_slice(), zero.as_slice()), function.leaf(&joined));
            assert_ne!(function.node(zero.as_slice(), full.as_slice()), function.leaf(&joined));
        }
    }

    #[test]
    fn children_of_a_wrong_length_are_hashed_as_they_are() {
        let long = [7; 64];
        assert_eq!(HashFunction::Sha256.node(&long, &[]), HashFunction::Sha256.leaf(&long));
        assert_eq!(HashFunction::Sha1.node(&long, &long).as_slice().len(), 20);
    }

    /// A run of messages of one length, which are hashed at once, and of others between.
    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let lens = prop::collection::vec((0_usize..200, 1_usize..7), 0..6);
        (lens, any::<u64>()).prop_map(|(lens, seed)| {
            let lens = lens.into_iter().flat_map(|(len, count)| core::iter::repeat_n(len, count));
            let byte = |at: usize| (seed.wrapping_mul(2 * at as u64 + 1) >> 56) as u8;
            lens.enumerate().map(|(nth, len)| (0..len).map(|at| byte(nth * 200 + at)).collect()).collect()
        })
    }

    proptest! {
        #[test]
        fn many_messages_hash_like_each_alone(messages in messages(), room in 0_usize..30) {
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            for function in HashFunction::ALL {
                let mut hashes = std::vec![Hash::zero(function); room];
                function.digest_many(&messages, &mut hashes);
                let each = messages.iter().map(|message| function.leaf(message));
                let each: Vec<Hash> = each.chain(core::iter::repeat(Hash::zero(function))).take(room).collect();
                prop_assert_eq!(hashes, each);
            }
        }

        #[test]
        fn many_nodes_hash_like_each_alone(kinds in prop::collection::vec((0_u8..4, 0_u8..4), 0..11), room in 0_usize..13) {
            for function in HashFunction::ALL {
                let hash = |kind: u8| match kind {
                    0 => Hash::zero(function),
                    // Of another length in most functions.
                    1 if room == 12 => HashFunction::Sha1.leaf(b""),
                    kind => function.leaf(&[kind]),
                };
                let pairs: Vec<[Hash; 2]> = kinds.iter().map(|(left, right)| [hash(*left), hash(*right)]).collect();
                let pairs: Vec<[&[u8]; 2]> = pairs.iter().map(|pair| pair.each_ref().map(Hash::as_slice)).collect();
                let mut hashes = std::vec![Hash::zero(function); room];
                function.node_many(&pairs, &mut hashes);
                let each = pairs.iter().map(|[left, right]| function.node(left, right));
                let each: Vec<Hash> = each.chain(core::iter::repeat(Hash::zero(function))).take(room).collect();
                prop_assert_eq!(hashes, each);
            }
        }
    }

    /// Lanes take whole blocks: the 64-byte message of NIST's `SHA256ShortMsg` vectors (CAVP).
    #[test]
    fn lanes_give_the_published_digest() {
        const MESSAGE: [u8; 64] = [
            0x5a, 0x86, 0xb7, 0x37, 0xea, 0xea, 0x8e, 0xe9, 0x76, 0xa0, 0xa2, 0x4d, 0xa6, 0x3e, 0x7e, 0xd7, //
            0xee, 0xfa, 0xd1, 0x8a, 0x10, 0x1c, 0x12, 0x11, 0xe2, 0xb3, 0x65, 0x0c, 0x51, 0x87, 0xc2, 0xa8, //
            0xa6, 0x50, 0x54, 0x72, 0x08, 0x25, 0x1f, 0x6d, 0x42, 0x37, 0xe6, 0x61, 0xc7, 0xbf, 0x4c, 0x77, //
            0xf3, 0x35, 0x39, 0x03, 0x94, 0xc3, 0x7f, 0xa1, 0xa9, 0xf9, 0xbe, 0x83, 0x6a, 0xc2, 0x85, 0x09,
        ];
        let digest = "42e61e174fbb3897d6dd6cef3dd2802fe67b331953b06114a65c772859dfc1aa";
        for count in 1..=LANES {
            let mut hashes = [Hash::zero(HashFunction::Sha256); LANES];
            HashFunction::Sha256.digest_many(&[&MESSAGE[..]; LANES][..count], &mut hashes);
            assert!(hashes[..count].iter().all(|hash| hash.to_string() == digest), "{count} lanes");
        }
    }

    #[test]
    fn a_hash_holds_up_to_64_bytes() {
        assert_eq!(Hash::from_slice(&[1; 65]), None);
        assert_eq!(Hash::from_slice(&[1; 64]).unwrap().as_slice(), [1; 64]);
        assert_ne!(Hash::from_slice(&[0; 20]), Hash::from_slice(&[0; 28]));
        assert_eq!(Hash::from_slice(&[0xab, 1]).unwrap().to_string(), "ab01");
    }

    /// R1: what an interior node is hashed from must never be as long as a whole chunk.
    #[test]
    fn every_chunk_size_exceeds_two_hashes() {
        assert!(ChunkSize::MIN.bytes() as usize > 2 * MAX_HASH_LEN);
    }
}
