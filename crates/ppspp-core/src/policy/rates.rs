//! Rate limits as an application states them.

use core::fmt;
use core::num::NonZeroU64;

/// A limit in bytes of UDP payload per second, at least 1 and at most [`ByteRate::MAX`].
///
/// Limits of 64 KiB/s and more hold within 5 % over any ten seconds, from five seconds after they were set. A datagram
/// leaves whole: chunks of over a hundredth of what passes in that time, 6 KiB at 64 KiB/s, make it coarser.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ByteRate(NonZeroU64);

impl ByteRate {
    /// The highest limit: 1 TiB/s. Whoever wants more wants none.
    pub const MAX: u64 = 1 << 40;

    /// So many bytes per second, cut to [`MAX`](Self::MAX); `None` for zero, which would never let anything pass.
    pub const fn new(bytes_per_second: u64) -> Option<Self> {
        let cut = if bytes_per_second > Self::MAX { Self::MAX } else { bytes_per_second };
        match NonZeroU64::new(cut) {
            Some(rate) => Some(Self(rate)),
            None => None,
        }
    }

    /// Bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B/s", self.0)
    }
}

/// Limits in both directions; `None` means unlimited. All UDP payload of channels counts, control messages included.
///
/// Control messages are never held back: they are taken from what DATA would have had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Limit of what is sent.
    pub up: Option<ByteRate>,
    /// Limit of what is received. It holds by asking for no more; what peers send unasked counts, but comes. What is sent to
    /// no channel does not count.
    pub down: Option<ByteRate>,
}
