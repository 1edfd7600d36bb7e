//! Random loss.

use crate::rng::Stream;

/// How packets get lost at random.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Loss {
    /// Not at all.
    None,
    /// Each with this probability.
    Uniform(f64),
    /// In bursts (Gilbert and Elliott): nothing is lost in the good state, much in the bad one.
    GilbertElliott {
        /// Probability, for each packet, that the bad state begins.
        enter: f64,
        /// Probability, for each packet, that it ends.
        leave: f64,
        /// Share lost while it lasts.
        share: f64,
    },
}

impl Loss {
    /// Bursts of loss that begin with probability `enter`, end with `leave` and lose `share` while they last.
    pub const fn gilbert_elliott(enter: f64, leave: f64, share: f64) -> Self {
        Self::GilbertElliott { enter, leave, share }
    }

    /// Its probabilities with their names.
    pub(super) fn shares(self) -> impl Iterator<Item = (&'static str, f64)> {
        let (a, b, c) = match self {
            Self::None => (0.0, 0.0, 0.0),
            Self::Uniform(share) => (share, 0.0, 0.0),
            Self::GilbertElliott { enter, leave, share } => (enter, leave, share),
        };
        [("loss", a), ("the end of a burst of loss", b), ("loss within a burst", c)].into_iter()
    }

    /// Whether the next packet is lost; `bad` is the state of bursts.
    pub(super) fn strikes(self, bad: &mut bool, rng: &mut Stream) -> bool {
        match self {
            Self::None => false,
            Self::Uniform(share) => rng.chance(share),
            Self::GilbertElliott { enter, leave, share } => {
                *bad = if *bad { !rng.chance(leave) } else { rng.chance(enter) };
                *bad && rng.chance(share)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn bursts_lose_their_share() {
        let mut rng = Streams::new(3).stream("loss");
        let loss = Loss::gilbert_elliott(0.01, 0.19, 0.5);
        let mut bad = false;
        let lost = (0..100_000).filter(|_| loss.strikes(&mut bad, &mut rng)).count();
        // One packet in twenty meets the bad state, half of those are lost.
        assert!((2200..2800).contains(&lost), "{lost}");
    }

    #[test]
    fn uniform_loss_has_its_rate() {
        let mut rng = Streams::new(3).stream("loss");
        let lost = (0..100_000).filter(|_| Loss::Uniform(0.1).strikes(&mut false, &mut rng)).count();
        assert!((9600..10_400).contains(&lost), "{lost}");
    }
}
