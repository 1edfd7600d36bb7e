//! SHA-256 of several messages at once.
//!
//! Each step of one message waits for the step before it, so that one message leaves a processor idle for half of the
//! time. Several in turn keep it busy, and wide vectors take one in each lane.

use core::slice;

use arrayvec::ArrayVec;
use sha2::block_api::compress256;

/// Most messages that are hashed at once.
pub(super) const LANES: usize = 16;

/// The eight words between two blocks.
pub(super) type State = [u32; 8];

/// The 64 bytes that are compressed at a time.
pub(super) type Block = [u8; 64];

/// FIPS 180-4 §5.3.3: the state before the first block.
pub(super) const IV: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The round constants (FIPS 180-4 §4.2.2).
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(super) const K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// What follows the whole blocks of a message (FIPS 180-4 §5.1.1), the same for all messages of as many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Padding {
    /// A one bit, zeros, and the length in bits.
    pub(super) block: Block,
    /// For each round its constant and its word of the schedule, added up.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    pub(super) sums: [u32; 64],
}

impl Padding {
    const PAIR: Self = Self::after(1);
    const KIB: Self = Self::after(16);

    const fn after(blocks: usize) -> Self {
        let mut block = [0; 64];
        block[0] = 0x80;
        let (_, length) = block.split_at_mut(56);
        length.copy_from_slice(&(blocks as u64 * 512).to_be_bytes());
        Self {
            block,
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            sums: sums_of(&block),
        }
    }
}

/// FIPS 180-4 §6.2.2, the first step, and of the third what needs no state.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
const fn sums_of(block: &Block) -> [u32; 64] {
    let mut sums = [0; 64];
    let mut at = 0;
    while at < 64 {
        sums[at] = if at < 16 {
            let [a, b, c, d] = [block[4 * at], block[4 * at + 1], block[4 * at + 2], block[4 * at + 3]];
            u32::from_be_bytes([a, b, c, d])
        } else {
            let (old, new) = (sums[at - 15], sums[at - 2]);
            let old = old.rotate_right(7) ^ old.rotate_right(18) ^ (old >> 3);
            let new = new.rotate_right(17) ^ new.rotate_right(19) ^ (new >> 10);
            sums[at - 16].wrapping_add(old).wrapping_add(sums[at - 7]).wrapping_add(new)
        };
        at += 1;
    }
    while at > 0 {
        at -= 1;
        sums[at] = sums[at].wrapping_add(K[at]);
    }
    sums
}

/// The digests of up to [`LANES`] messages of as many whole blocks each; those of the shortest count.
#[inline]
pub(super) fn digest(messages: &[&[Block]]) -> ArrayVec<[u8; 32], LANES> {
    let count = messages.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let messages: ArrayVec<&[Block], LANES> = messages.iter().take(LANES).map(|blocks| &blocks[..count]).collect();
    let mut states = [IV; LANES];
    let padding = match count {
        1 => &Padding::PAIR,
        16 => &Padding::KIB,
        _ => &Padding::after(count),
    };
    compress(&mut states[..messages.len()], &messages, padding);
    states.into_iter().take(messages.len()).map(bytes_of).collect()
}

#[inline]
fn bytes_of(state: State) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(state.map(u32::to_be_bytes).as_flattened());
    digest
}

/// The digest of two hashes together, which fill one block; the next is always the same.
#[inline]
pub(super) fn digest_pair(pair: &Block) -> [u8; 32] {
    let mut state = IV;
    compress256(&mut state, &[*pair, Padding::PAIR.block]);
    bytes_of(state)
}

/// Compresses each of `messages`, which have as many blocks each, into its state, and then `padding` into each.
fn in_turn(states: &mut [State], messages: &[&[Block]], padding: &Padding) {
    for (state, blocks) in states.iter_mut().zip(messages) {
        compress256(state, blocks);
        compress256(state, slice::from_ref(&padding.block));
    }
}

#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
use in_turn as compress;

/// Like [`in_turn`]; all at once if the processor has the instructions, which is found out at the first call.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[multiversion::multiversion(targets("x86_64+avx+avx512bw+avx512f+sha", "x86_64+avx+sha"), dispatcher = "direct")]
fn compress(states: &mut [State], messages: &[&[Block]], padding: &Padding) {
    multiversion::target::match_target! {
        "x86_64+avx+avx512bw+avx512f+sha" => super::avx512::compress(states, messages, padding),
        "x86_64+avx+sha" => super::sha_ni::compress(states, messages, padding),
        _ => in_turn(states, messages, padding),
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    fn message(blocks: usize) -> impl Strategy<Value = Vec<Block>> {
        prop::collection::vec(any::<u8>(), 64 * blocks).prop_map(|bytes| bytes.as_chunks().0.to_vec())
    }

    proptest! {
        #[test]
        fn together_is_like_each_alone(
            messages in (0_usize..20).prop_flat_map(|blocks| prop::collection::vec(message(blocks), LANES)),
        ) {
            for count in 0..=LANES {
                let lanes: Vec<&[Block]> = messages[..count].iter().map(Vec::as_slice).collect();
                let digests = digest(&lanes);
                prop_assert_eq!(digests.len(), count);
                for (digest, message) in digests.iter().zip(&messages) {
                    prop_assert_eq!(digest.as_slice(), &sha2::Sha256::digest(message.as_flattened())[..]);
                }
            }
        }
    }
}
