//! SHA-256 with the SHA instructions of x86-64, several messages in turn.
//!
//! The instructions hold the state as two vectors, ABEF and CDGH, first letter highest, and do two rounds each. All
//! functions here are safe to call where their target features are enabled; `sha256::compress` sees to that.

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};

use super::sha256::{Block, K, Padding, State};

/// Most messages in turn: more do not fill the instructions any better.
const LANES: usize = 4;

/// One message's state and the last sixteen words of its schedule.
#[derive(Clone, Copy)]
struct Lane {
    abef: __m128i,
    cdgh: __m128i,
    words: [__m128i; 4],
}

/// Compresses each of `messages`, which have as many blocks each, into its state, and then `padding` into each.
#[inline]
#[target_feature(enable = "avx,sha")]
pub(super) fn compress(states: &mut [State], messages: &[&[Block]], padding: &Padding) {
    for (states, messages) in states.chunks_mut(LANES).zip(messages.chunks(LANES)) {
        match messages.len() {
            4 => in_lanes::<4>(states, messages, padding),
            3 => in_lanes::<3>(states, messages, padding),
            2 => in_lanes::<2>(states, messages, padding),
            _ => in_lanes::<1>(states, messages, padding),
        }
    }
}

/// Does nothing unless there are `N` of each.
#[target_feature(enable = "avx,sha")]
fn in_lanes<const N: usize>(states: &mut [State], messages: &[&[Block]], padding: &Padding) {
    let (Ok(states), Ok(messages)) = (<&mut [State; N]>::try_from(states), <&[&[Block]; N]>::try_from(messages)) else {
        return;
    };
    let empty = _mm_setzero_si128();
    let mut lanes = [Lane { abef: empty, cdgh: empty, words: [empty; 4] }; N];
    for (lane, state) in lanes.iter_mut().zip(&*states) {
        lane.abef = vector([state[5], state[4], state[1], state[0]]);
        lane.cdgh = vector([state[7], state[6], state[3], state[2]]);
    }
    for at in 0..messages.iter().map(|blocks| blocks.len()).min().unwrap_or(0) {
        for (lane, blocks) in lanes.iter_mut().zip(messages) {
            lane.words = blocks.get(at).map_or([empty; 4], |block| load(block));
        }
        compress_block(&mut lanes);
    }
    compress_padding(&mut lanes, padding);
    for (state, lane) in states.iter_mut().zip(&lanes) {
        let (feba, hgdc) = (words(lane.abef), words(lane.cdgh));
        *state = [feba[3], feba[2], hgdc[3], hgdc[2], feba[1], feba[0], hgdc[1], hgdc[0]];
    }
}

#[inline]
#[target_feature(enable = "avx,sha")]
fn compress_block<const N: usize>(lanes: &mut [Lane; N]) {
    let before = *lanes;
    // Over a reference, so that the loop is not unrolled: 24 vectors do not fit 16 registers, and the words, which are
    // not waited for, do best in memory.
    for (step, k) in K.as_chunks::<4>().0.iter().enumerate() {
        let (k, at) = (vector(*k), step % 4);
        if step >= 4 {
            schedule(lanes, at);
        }
        let sums = lanes.each_ref().map(|lane| _mm_add_epi32(lane.words[at], k));
        four_rounds(lanes, sums);
    }
    add(lanes, &before);
}

#[inline]
#[target_feature(enable = "avx,sha")]
fn compress_padding<const N: usize>(lanes: &mut [Lane; N], padding: &Padding) {
    let before = *lanes;
    for sums in padding.sums.as_chunks::<4>().0 {
        four_rounds(lanes, [vector(*sums); N]);
    }
    add(lanes, &before);
}

/// All lanes do two rounds, and then all the next two, so that none waits for its own.
#[inline]
#[target_feature(enable = "avx,sha")]
fn four_rounds<const N: usize>(lanes: &mut [Lane; N], sums: [__m128i; N]) {
    for (lane, sum) in lanes.iter_mut().zip(sums) {
        lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, sum);
    }
    for (lane, sum) in lanes.iter_mut().zip(sums) {
        lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, _mm_shuffle_epi32::<0b1110>(sum));
    }
}

#[inline]
#[target_feature(enable = "avx,sha")]
fn add<const N: usize>(lanes: &mut [Lane; N], before: &[Lane; N]) {
    for (lane, before) in lanes.iter_mut().zip(before) {
        lane.abef = _mm_add_epi32(lane.abef, before.abef);
        lane.cdgh = _mm_add_epi32(lane.cdgh, before.cdgh);
    }
}

/// Replaces the oldest four words, those at `at`, by the next four of the schedule (FIPS 180-4 §6.2.2).
#[inline]
#[target_feature(enable = "avx,sha")]
fn schedule<const N: usize>(lanes: &mut [Lane; N], at: usize) {
    for Lane { words, .. } in lanes {
        let [oldest, old, new, newest] = [at, at + 1, at + 2, at + 3].map(|at| words[at % 4]);
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, old), _mm_alignr_epi8::<4>(newest, new));
        words[at] = _mm_sha256msg2_epu32(sum, newest);
    }
}

/// The sixteen big-endian words of `block`.
#[inline]
#[target_feature(enable = "avx")]
fn load(block: &Block) -> [__m128i; 4] {
    let reverse = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut words = [_mm_setzero_si128(); 4];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
        let bytes = u128::from_le_bytes(*bytes).cast_signed();
        *word = _mm_shuffle_epi8(_mm_set_epi64x((bytes >> 64) as i64, bytes as i64), reverse);
    }
    words
}

/// A vector of four words, lowest first.
#[inline]
#[target_feature(enable = "avx")]
fn vector(words: [u32; 4]) -> __m128i {
    let words = words.map(u32::cast_signed);
    _mm_set_epi32(words[3], words[2], words[1], words[0])
}

/// The four words of a vector, lowest first.
#[inline]
#[target_feature(enable = "avx")]
fn words(vector: __m128i) -> [u32; 4] {
    [
        _mm_extract_epi32::<0>(vector).cast_unsigned(),
        _mm_extract_epi32::<1>(vector).cast_unsigned(),
        _mm_extract_epi32::<2>(vector).cast_unsigned(),
        _mm_extract_epi32::<3>(vector).cast_unsigned(),
    ]
}
