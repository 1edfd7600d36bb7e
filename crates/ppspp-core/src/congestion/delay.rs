//! One-way delays: samples on unsynchronised clocks, the base delay history and the current delay filter.

use alloc::boxed::Box;
use alloc::vec;
use core::time::Duration;

use crate::time::{Instant, micros};

const MICROS_PER_MINUTE: u64 = 60_000_000;

/// A one-way delay as the receiver of data measured it, in microseconds (RFC 7574 §8.7).
///
/// It is the difference of two clocks that nobody synchronised, modulo 2^64: only differences between samples of the
/// same channel mean anything, and those wrap as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DelaySample(u64);

impl DelaySample {
    /// The sample that an ACK message carries.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// What an ACK message carries.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The receiver's side: data stamped `sent` by its sender's clock arrived at `received` on ours.
    pub const fn measure(sent: Instant, received: Instant) -> Self {
        Self(received.as_micros().wrapping_sub(sent.as_micros()))
    }

    /// How much more than `origin` this is, in microseconds.
    const fn relative_to(self, origin: Self) -> i64 {
        self.0.wrapping_sub(origin.0).cast_signed()
    }

    const fn offset(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }
}

/// Minimum over the running minute and the ones before it; minutes without a sample hold nothing.
#[derive(Clone, Debug)]
pub(super) struct MinuteMinima<T> {
    /// Minute `m` lives in slot `m % slots.len()`; `None` stands for the RFC's +INFINITY.
    slots: Box<[Option<T>]>,
    /// The running minute.
    minute: u64,
}

impl<T: Copy + Ord> MinuteMinima<T> {
    /// Remembers `minutes` minutes, the running one included; at least one.
    pub(super) fn new(minutes: u32, now: Instant) -> Self {
        let slots = vec![None; usize::try_from(minutes).unwrap_or(1).max(1)].into_boxed_slice();
        Self { slots, minute: now.as_micros() / MICROS_PER_MINUTE }
    }

    pub(super) fn add(&mut self, now: Instant, value: T) {
        self.roll(now);
        let index = self.index(self.minute);
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(slot.map_or(value, |least| least.min(value)));
        }
    }

    pub(super) fn min(&self) -> Option<T> {
        self.slots.iter().flatten().min().copied()
    }

    /// Forgets the minutes that fell out of the history; a clock that went back stays in the running minute (R25).
    fn roll(&mut self, now: Instant) {
        let minute = now.as_micros() / MICROS_PER_MINUTE;
        let passed = minute.saturating_sub(self.minute);
        let kept = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        // R25: a minute without samples must not keep the minimum that its slot held before.
        for ahead in 1..=passed.min(kept) {
            let index = self.index(self.minute.saturating_add(ahead));
            if let Some(slot) = self.slots.get_mut(index) {
                *slot = None;
            }
        }
        self.minute = self.minute.max(minute);
    }

    fn index(&self, minute: u64) -> usize {
        let len = u64::try_from(self.slots.len()).unwrap_or(u64::MAX).max(1);
        usize::try_from(minute % len).unwrap_or(0)
    }
}

/// `CURRENT_FILTER`: RFC 6817 §2.5 asks for at least 4 samples; more would hide a growing queue for longer.
const CURRENT_FILTER: usize = 4;

/// The queuing delay: a minimum over the newest samples, above a minimum over minutes.
#[derive(Clone, Debug)]
pub(super) struct DelayTracker {
    /// The first sample; all others are kept relative to it, so that neither epoch nor wrapping matters.
    origin: Option<DelaySample>,
    base: MinuteMinima<i64>,
    current: [Option<(Instant, i64)>; CURRENT_FILTER],
    next: usize,
}

impl DelayTracker {
    pub(super) fn new(base_history: u32, now: Instant) -> Self {
        Self { origin: None, base: MinuteMinima::new(base_history, now), current: [None; CURRENT_FILTER], next: 0 }
    }

    pub(super) fn add(&mut self, now: Instant, sample: DelaySample) {
        let delay = sample.relative_to(*self.origin.get_or_insert(sample));
        self.base.add(now, delay);
        if let Some(slot) = self.current.get_mut(self.next) {
            *slot = Some((now, delay));
        }
        self.next = (self.next + 1) % CURRENT_FILTER;
    }

    /// FILTER(`current_delays`) - MIN(`base_delays`), over samples no older than `rtt`; `None` without one.
    ///
    /// Never more than `rtt`: no datagram queues for longer than its round trip took, whatever the peer says.
    pub(super) fn queuing(&self, now: Instant, rtt: Duration) -> Option<Duration> {
        let recent = self.current.iter().flatten().filter(|(at, _)| now.saturating_since(*at) <= rtt);
        let current = recent.map(|&(_, delay)| delay).min()?;
        let base = self.base.min()?;
        let above = u64::try_from(i128::from(current) - i128::from(base)).unwrap_or(0);
        Some(Duration::from_micros(above.min(micros(rtt))))
    }

    pub(super) fn base(&self) -> Option<DelaySample> {
        Some(self.origin?.offset(self.base.min()?))
    }
}
