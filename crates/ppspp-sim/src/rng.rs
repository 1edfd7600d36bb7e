//! Randomness: streams derived from one seed by name.
//!
//! Each host, link and rule draws from a stream of its own. A draw that is added in one place does not change what any
//! other place draws, so a scenario that grows a rule keeps the rest of its history.

use ppspp_core::integrity::HashFunction;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Names streams under one seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream called `name`, from its beginning.
    pub fn stream(self, name: &str) -> Stream {
        Stream { rng: ChaCha8Rng::from_seed(self.key(name)) }
    }

    /// Thirty-two bytes that depend on the seed and `name` alone.
    pub fn key(self, name: &str) -> [u8; 32] {
        let mut text = self.seed.to_be_bytes().to_vec();
        text.extend_from_slice(name.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(HashFunction::Sha256.leaf(&text).as_slice());
        key
    }
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
}

impl Stream {
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A number below `bound`; zero if `bound` is.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The multiplication is biased by less than 2^-32 for the bounds that occur here, the same on every machine.
        ((u128::from(self.rng.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` up to and including `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True with probability `chance`.
    pub fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.unit() < chance
    }

    /// A number from 0 up to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn unit(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.rng.fill_bytes(bytes);
    }

    /// One of `items`; `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Puts `items` into random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_name_alone() {
        let first = |seed, name| Streams::new(seed).stream(name).number();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
        // The same on every machine: a change here changes every history.
        assert_eq!(first(1, "a"), 14_816_438_044_298_918_432);
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut stream = Streams::new(7).stream("bounds");
        for _ in 0..1000 {
            assert!(stream.below(3) < 3);
            assert!((5..=6).contains(&stream.between(5, 6)));
            assert!((0.0..1.0).contains(&stream.unit()));
        }
        assert_eq!(stream.below(0), 0);
        assert!(!stream.chance(0.0));
        assert!(stream.chance(1.0));
        assert!(stream.pick::<u8>(&[]).is_none());
    }
}
