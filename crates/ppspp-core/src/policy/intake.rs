//! Holds what is received to a limit, by asking for no more than that.

use crate::policy::{Bucket, ByteRate, Reserved};
use crate::time::Instant;

/// A bucket from which received bytes are taken, and what was asked for and has not come yet.
///
/// What is on its way is known by what is outstanding now: requests that expire, are taken back or answered by another
/// peer need no accounts of their own, and what comes late or unasked is charged when it comes.
#[derive(Debug)]
pub(crate) struct Intake {
    bucket: Bucket,
    reserved: Reserved,
}

impl Intake {
    pub(crate) const fn new(rate: Option<ByteRate>, now: Instant) -> Self {
        Self { bucket: Bucket::new(rate, now), reserved: Reserved { bytes: 0, sure: 0 } }
    }

    pub(crate) fn set_rate(&mut self, rate: Option<ByteRate>, now: Instant) {
        self.bucket.set_rate(rate, self.reserved, now);
    }

    /// Counts a datagram of `bytes`.
    pub(crate) fn on_received(&mut self, now: Instant, bytes: u64) {
        self.bucket.take(now, bytes, self.reserved);
    }

    /// One source owed what is `before` and owes `after` now.
    pub(crate) const fn reserve(&mut self, before: Reserved, after: Reserved) {
        let Reserved { bytes, sure } = self.reserved;
        self.reserved = Reserved {
            bytes: bytes.saturating_sub(before.bytes).saturating_add(after.bytes),
            sure: sure.saturating_sub(before.sure).saturating_add(after.sure),
        };
    }

    /// What is reserved and may never come.
    pub(crate) const fn unsure(&self) -> u64 {
        self.reserved.bytes.saturating_sub(self.reserved.sure)
    }

    /// Bytes that may come at once.
    pub(crate) fn capacity(&self) -> u64 {
        self.bucket.capacity()
    }

    /// Bytes to ask for now: zero from when the limit is reached until a batch may be asked for.
    pub(crate) fn budget(&mut self, now: Instant) -> u64 {
        self.bucket.budget(now, self.reserved)
    }

    /// When there is a budget again, if nothing is answered or given up until then.
    pub(crate) fn opens_at(&self) -> Instant {
        self.bucket.opens_at(self.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn owed(bytes: u64) -> Reserved {
        Reserved { bytes, sure: bytes }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1000 * millis)
    }

    #[test]
    fn answers_take_what_was_reserved_for_them() {
        let mut intake = Intake::new(ByteRate::new(100_000), at(0));
        assert_eq!(intake.budget(at(100)), 10_000);
        intake.reserve(owed(0), owed(10_000));
        assert_eq!(intake.budget(at(100)), 0);
        // A tenth more came than was expected.
        intake.on_received(at(110), 11_000);
        intake.reserve(owed(10_000), owed(0));
        assert_eq!(intake.budget(at(110)), 0);
        assert_eq!(intake.opens_at(), at(160));
        assert_eq!(intake.budget(at(160)), 5000);
    }

    #[test]
    fn what_is_given_up_is_free_again() {
        let mut intake = Intake::new(ByteRate::new(100_000), at(0));
        intake.reserve(owed(0), owed(10_000));
        assert_eq!(intake.budget(at(100)), 0);
        intake.reserve(owed(10_000), owed(0));
        assert_eq!(intake.budget(at(100)), 10_000);
        // Given up and late all the same.
        intake.on_received(at(100), 10_000);
        assert_eq!(intake.budget(at(100)), 0);
    }
}
