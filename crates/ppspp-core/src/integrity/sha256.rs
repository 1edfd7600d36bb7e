//! SHA-256 of several messages at once.
//!
//! Each step of one message waits for the step before it, so that one message leaves the SHA instructions of a
//! processor idle for half of the time. Four messages in turn keep them busy.

use core::slice;

use sha2::block_api::compress256;

/// Most messages that are hashed at once.
pub(super) const LANES: usize = 4;

/// The eight words between two blocks.
pub(super) type State = [u32; 8];

/// The 64 bytes that are compressed at a time.
pub(super) type Block = [u8; 64];

/// FIPS 180-4 §5.3.3: the state before the first block.
pub(super) const IV: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// FIPS 180-4 §5.1.1: what follows `blocks` whole blocks is a one bit, zeros, and the length in bits.
const fn last_block(blocks: usize) -> Block {
    let mut last = [0; 64];
    last[0] = 0x80;
    let (_, length) = last.split_at_mut(56);
    length.copy_from_slice(&(blocks as u64 * 512).to_be_bytes());
    last
}

/// What follows two hashes.
const LAST_OF_PAIR: Block = last_block(1);

/// The digests of `N` messages of as many whole blocks each; those of the shortest count.
#[inline]
pub(super) fn digest<const N: usize>(messages: &[&[Block]; N]) -> [[u8; 32]; N] {
    let count = messages.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let messages = messages.map(|blocks| &blocks[..count]);
    let last = last_block(count);
    let mut states = [IV; N];
    compress(&mut states, &messages, &last);
    states.map(bytes_of)
}

#[inline]
fn bytes_of(state: State) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(state.map(u32::to_be_bytes).as_flattened());
    digest
}

/// The digest of two hashes together: one block, and one that is always the same.
#[inline]
pub(super) fn digest_pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut blocks = [[0; 64], LAST_OF_PAIR];
    let [block, _] = &mut blocks;
    block[..32].copy_from_slice(left);
    block[32..].copy_from_slice(right);
    let mut state = IV;
    compress256(&mut state, &blocks);
    bytes_of(state)
}

/// Compresses each of `messages`, which have as many blocks each, into its state, and then `last` into each.
fn in_turn<const N: usize>(states: &mut [State; N], messages: &[&[Block]; N], last: &Block) {
    for (state, blocks) in states.iter_mut().zip(messages) {
        compress256(state, blocks);
        compress256(state, slice::from_ref(last));
    }
}

#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
use in_turn as compress;

/// Like [`in_turn`]; all at once if the processor has the SHA instructions, which is found out at the first call.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[multiversion::multiversion(targets("x86_64+avx+sha"), dispatcher = "direct")]
fn compress<const N: usize>(states: &mut [State; N], messages: &[&[Block]; N], last: &Block) {
    multiversion::target::match_target! {
        "x86_64+avx+sha" => super::sha_ni::compress(states, messages, last),
        _ => in_turn(states, messages, last),
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    fn check<const N: usize>(messages: &[Vec<Block>]) {
        let lanes: [&[Block]; N] = core::array::from_fn(|lane| messages[lane].as_slice());
        for (digest, message) in digest(&lanes).iter().zip(messages) {
            assert_eq!(digest[..], sha2::Sha256::digest(message.as_flattened())[..], "{N} of {}", message.len());
        }
    }

    fn message(blocks: usize) -> impl Strategy<Value = Vec<Block>> {
        prop::collection::vec(any::<u8>(), 64 * blocks).prop_map(|bytes| bytes.as_chunks().0.to_vec())
    }

    proptest! {
        #[test]
        fn together_is_like_each_alone(
            messages in (0_usize..20).prop_flat_map(|blocks| prop::collection::vec(message(blocks), LANES)),
        ) {
            check::<1>(&messages);
            check::<2>(&messages);
            check::<3>(&messages);
            check::<LANES>(&messages);
        }
    }
}
