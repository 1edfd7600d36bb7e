//! SHA-256 with AVX-512: sixteen messages side by side, each in its own lane of every vector.
//!
//! Takes half the time of the SHA instructions, if there are messages enough. All functions here are safe to call where
//! their target features are enabled; `sha256::compress` sees to that.

#![expect(clippy::many_single_char_names, reason = "the working variables are called a to h in FIPS 180-4")]

use core::arch::x86_64::{
    __m256i, __m512i, _mm_set_epi64x, _mm256_extract_epi32, _mm256_set_epi32, _mm512_add_epi32, _mm512_broadcast_i32x4,
    _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_ror_epi32, _mm512_set_epi64, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_srli_epi32, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use core::array;

use super::sha_ni;
use super::sha256::{Block, K, LANES, Padding, State};

/// Fewest messages that are worth sixteen lanes; the SHA instructions are faster with less.
const FEWEST: usize = 9;

// `_mm512_ternarylogic_epi32`: bit n of the table is the result for the three bits that n is made of.
const PARITY: i32 = 0b1001_0110;
const CHOICE: i32 = 0b1100_1010;
const MAJORITY: i32 = 0b1110_1000;

/// Compresses each of `messages`, which have as many blocks each, into its state, and then `padding` into each.
#[inline]
#[target_feature(enable = "avx,avx512bw,avx512f,sha")]
pub(super) fn compress(states: &mut [State], messages: &[&[Block]], padding: &Padding) {
    for (states, messages) in states.chunks_mut(LANES).zip(messages.chunks(LANES)) {
        match messages {
            [first, ..] if messages.len() >= FEWEST => {
                // Lanes without a message of their own take the first one along.
                side_by_side(states, &array::from_fn(|lane| *messages.get(lane).unwrap_or(first)), padding);
            }
            _ => sha_ni::compress(states, messages, padding),
        }
    }
}

#[target_feature(enable = "avx512bw,avx512f")]
fn side_by_side(states: &mut [State], messages: &[&[Block]; LANES], padding: &Padding) {
    let empty = _mm512_setzero_si512();
    let mut rows = [empty; LANES];
    for (row, state) in rows.iter_mut().zip(&*states) {
        *row = words(state);
    }
    let [a, b, c, d, e, f, g, h, ..] = transpose(&rows);
    let mut state = [a, b, c, d, e, f, g, h];
    for at in 0..messages.iter().map(|blocks| blocks.len()).min().unwrap_or(0) {
        for (row, blocks) in rows.iter_mut().zip(messages) {
            *row = blocks.get(at).map_or(empty, |block| load(block));
        }
        compress_block(&mut state, transpose(&rows));
    }
    compress_padding(&mut state, padding);

    let mut columns = [empty; 16];
    columns[..8].copy_from_slice(&state);
    for (state, row) in states.iter_mut().zip(transpose(&columns)) {
        *state = words_of(_mm512_castsi512_si256(row));
    }
}

/// FIPS 180-4 §6.2.2, in all lanes.
#[inline]
#[target_feature(enable = "avx512bw,avx512f")]
fn compress_block(state: &mut [__m512i; 8], mut words: [__m512i; 16]) {
    let before = *state;
    for (turn, k) in K.as_chunks::<16>().0.iter().enumerate() {
        sixteen_rounds(state, |at| {
            if turn > 0 {
                schedule(&mut words, at);
            }
            _mm512_add_epi32(words[at], _mm512_set1_epi32(k[at].cast_signed()))
        });
    }
    add(state, &before);
}

#[inline]
#[target_feature(enable = "avx512bw,avx512f")]
fn compress_padding(state: &mut [__m512i; 8], padding: &Padding) {
    let before = *state;
    for sums in padding.sums.as_chunks::<16>().0 {
        sixteen_rounds(state, |at| _mm512_set1_epi32(sums[at].cast_signed()));
    }
    add(state, &before);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(state: &mut [__m512i; 8], before: &[__m512i; 8]) {
    for (after, before) in state.iter_mut().zip(before) {
        *after = _mm512_add_epi32(*after, *before);
    }
}

/// Sixteen rounds, written out: the working variables and the words stay in registers.
#[inline]
#[target_feature(enable = "avx512bw,avx512f")]
fn sixteen_rounds(state: &mut [__m512i; 8], mut word: impl FnMut(usize) -> __m512i) {
    round::<0>(state, word(0));
    round::<1>(state, word(1));
    round::<2>(state, word(2));
    round::<3>(state, word(3));
    round::<4>(state, word(4));
    round::<5>(state, word(5));
    round::<6>(state, word(6));
    round::<7>(state, word(7));
    round::<0>(state, word(8));
    round::<1>(state, word(9));
    round::<2>(state, word(10));
    round::<3>(state, word(11));
    round::<4>(state, word(12));
    round::<5>(state, word(13));
    round::<6>(state, word(14));
    round::<7>(state, word(15));
}

/// The round `AT` of eight: in place of moving from each to the next, the working variables take each other's names.
#[inline]
#[target_feature(enable = "avx512f")]
fn round<const AT: usize>(state: &mut [__m512i; 8], word: __m512i) {
    let [a, b, c, d, e, f, g, h] = array::from_fn(|at| state[(at + 8 - AT) % 8]);
    let sigma = xor(_mm512_ror_epi32::<6>(e), _mm512_ror_epi32::<11>(e), _mm512_ror_epi32::<25>(e));
    let choice = _mm512_ternarylogic_epi32::<CHOICE>(e, f, g);
    let one = _mm512_add_epi32(_mm512_add_epi32(h, word), _mm512_add_epi32(sigma, choice));
    let sigma = xor(_mm512_ror_epi32::<2>(a), _mm512_ror_epi32::<13>(a), _mm512_ror_epi32::<22>(a));
    let two = _mm512_add_epi32(sigma, _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c));
    state[(3 + 8 - AT) % 8] = _mm512_add_epi32(d, one);
    state[(7 + 8 - AT) % 8] = _mm512_add_epi32(one, two);
}

/// Replaces the oldest word, the one at `at`, by the next of the schedule.
#[inline]
#[target_feature(enable = "avx512f")]
fn schedule(words: &mut [__m512i; 16], at: usize) {
    let [old, middle, new] = [1, 9, 14].map(|later| words[(at + later) % 16]);
    let old = xor(_mm512_ror_epi32::<7>(old), _mm512_ror_epi32::<18>(old), _mm512_srli_epi32::<3>(old));
    let new = xor(_mm512_ror_epi32::<17>(new), _mm512_ror_epi32::<19>(new), _mm512_srli_epi32::<10>(new));
    words[at] = _mm512_add_epi32(_mm512_add_epi32(words[at], old), _mm512_add_epi32(middle, new));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(one: __m512i, two: __m512i, three: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<PARITY>(one, two, three)
}

/// Rows become columns: word n of each of sixteen lanes, from the sixteen words of each lane, and back.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    // A vector has four quarters of four words: first inside of the quarters of four rows each, then the quarters.
    let mut quarters = *rows;
    for four in quarters.as_chunks_mut::<4>().0 {
        let [p, q, r, s] = *four;
        let (low, high) = (_mm512_unpacklo_epi32(p, q), _mm512_unpacklo_epi32(r, s));
        four[0] = _mm512_unpacklo_epi64(low, high);
        four[1] = _mm512_unpackhi_epi64(low, high);
        let (low, high) = (_mm512_unpackhi_epi32(p, q), _mm512_unpackhi_epi32(r, s));
        four[2] = _mm512_unpacklo_epi64(low, high);
        four[3] = _mm512_unpackhi_epi64(low, high);
    }
    let mut columns = quarters;
    for at in 0..4 {
        let [p, q, r, s] = [0, 4, 8, 12].map(|four| quarters[four + at]);
        let (low, high) = (_mm512_shuffle_i32x4::<0b01_00_01_00>(p, q), _mm512_shuffle_i32x4::<0b01_00_01_00>(r, s));
        columns[at] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        columns[at + 4] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
        let (low, high) = (_mm512_shuffle_i32x4::<0b11_10_11_10>(p, q), _mm512_shuffle_i32x4::<0b11_10_11_10>(r, s));
        columns[at + 8] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        columns[at + 12] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
    }
    columns
}

/// The sixteen big-endian words of `block`.
#[inline]
#[target_feature(enable = "avx512bw,avx512f")]
fn load(block: &Block) -> __m512i {
    let reverse = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = i64::from_le_bytes(*bytes);
    }
    let [a, b, c, d, e, f, g, h] = words;
    _mm512_shuffle_epi8(_mm512_set_epi64(h, g, f, e, d, c, b, a), _mm512_broadcast_i32x4(reverse))
}

/// The words of `state`, and eight zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn words(state: &State) -> __m512i {
    let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
    _mm512_castsi256_si512(_mm256_set_epi32(h, g, f, e, d, c, b, a))
}

/// The eight words of a vector, lowest first.
#[inline]
#[target_feature(enable = "avx")]
fn words_of(vector: __m256i) -> State {
    [
        _mm256_extract_epi32::<0>(vector),
        _mm256_extract_epi32::<1>(vector),
        _mm256_extract_epi32::<2>(vector),
        _mm256_extract_epi32::<3>(vector),
        _mm256_extract_epi32::<4>(vector),
        _mm256_extract_epi32::<5>(vector),
        _mm256_extract_epi32::<6>(vector),
        _mm256_extract_epi32::<7>(vector),
    ]
    .map(i32::cast_unsigned)
}
