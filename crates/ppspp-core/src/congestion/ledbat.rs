//! LEDBAT (RFC 6817) with a slow start.

use core::time::Duration;

use super::delay::DelayTracker;
use super::{
    AckEvent, Controller, ControllerConfig, DelaySample, LossEvent, MAX_MSS, MAX_WINDOW_LIMIT, MIN_MSS,
    MIN_WINDOW_SEGMENTS,
};
use crate::time::{Instant, micros};

/// The window is kept in this fraction of a byte: at a large window one ACK is worth less than a byte.
const FRACTION_BITS: u32 = 16;

/// RFC 6817's sender. Where it goes beyond the RFC's pseudocode:
///
/// - Slow start adds every acknowledged byte, however many one ACK covers, since the pacer breaks the bursts that
///   RFC 3465 fears. It ends on loss, on a congestion timeout's threshold, or when data queues for over 3/4 TARGET.
///   That measurement is a round trip old, and the window has doubled since: half of it is what caused the measured
///   queue, so the window goes back there.
/// - `max_allowed_cwnd` builds on the most that was in flight during this round trip and the one before ("based on
///   flightsize in the previous RTT", §2.5), not on the moment before the ACK: pacing, or two ACKs in a row that cover
///   32 datagrams each, leave that moment's flight far below the window in use. In slow start twice the flight is
///   allowed, which is what a round trip may add.
/// - Without a delay sample in the last round trip the window neither grows nor shrinks, slow start apart.
#[derive(Clone, Debug)]
pub(super) struct Ledbat {
    config: ControllerConfig,
    cwnd: Window,
    /// In slow start: the window at which it ends, in bytes.
    slow_start_until: Option<u64>,
    delays: DelayTracker,
    queuing: Option<Duration>,
    /// When the window was last reduced at one stroke.
    reduced_at: Option<Instant>,
    round: Round,
    /// The latest time seen.
    now: Instant,
}

/// Bytes with a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Window(u64);

impl Window {
    fn from_bytes(bytes: u64) -> Self {
        Self(bytes.min(MAX_WINDOW_LIMIT) << FRACTION_BITS)
    }

    const fn bytes(self) -> u64 {
        self.0 >> FRACTION_BITS
    }

    fn add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(Self::from_bytes(bytes).0))
    }
}

/// The most bytes in flight in the running round trip and the one before.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    peak: u64,
    previous_peak: u64,
}

impl Round {
    const fn new(now: Instant) -> Self {
        Self { began: now, peak: 0, previous_peak: 0 }
    }

    fn update(&mut self, now: Instant, ack: &AckEvent) {
        if ack.newest_acked_sent_at >= self.began {
            *self = Self { began: now, peak: 0, previous_peak: self.peak };
        }
        self.peak = self.peak.max(ack.in_flight_before);
    }

    fn flight(&self) -> u64 {
        self.peak.max(self.previous_peak)
    }
}

impl Ledbat {
    /// A flow that starts at `now`; `config` has been clamped.
    pub(super) fn new(config: &ControllerConfig, now: Instant) -> Self {
        let initial = u64::from(config.mss) * u64::from(config.init_window_segments);
        Self {
            config: *config,
            cwnd: Window::from_bytes(initial.min(config.max_window)),
            slow_start_until: config.slow_start.then_some(u64::MAX),
            delays: DelayTracker::new(config.base_history, now),
            queuing: None,
            reduced_at: None,
            round: Round::new(now),
            now,
        }
    }

    fn mss(&self) -> u64 {
        self.config.mss.into()
    }

    fn min_window(&self) -> u64 {
        self.mss() * u64::from(MIN_WINDOW_SEGMENTS)
    }

    /// R25: time never goes back.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Goes to half the window, but neither below `MIN_CWND` nor up (RFC 6817 §2.4.2).
    fn halve(&mut self) {
        let half = Window::from_bytes((self.cwnd.bytes() / 2).max(self.min_window()));
        self.cwnd = self.cwnd.min(half);
        self.slow_start_until = None;
        self.reduced_at = Some(self.now);
    }

    fn grow_in_slow_start(&mut self, ack: &AckEvent, threshold: u64) {
        if self.queuing.is_some_and(|queuing| queuing > self.config.target * 3 / 4) {
            self.halve();
            return;
        }
        if !ack.app_limited {
            let room = threshold.saturating_sub(self.cwnd.bytes());
            self.cwnd = self.cwnd.add(ack.bytes_acked.min(room));
            if ack.bytes_acked >= room {
                self.slow_start_until = None;
            }
        }
    }

    /// cwnd += GAIN * `off_target` * `bytes_newly_acked` * MSS / cwnd (RFC 6817 §2.4.2).
    fn follow_target(&mut self, ack: &AckEvent) {
        let Some(queuing) = self.queuing else { return };
        let target = i128::from(micros(self.config.target));
        let off_target = target - i128::from(micros(queuing));
        if off_target > 0 && ack.app_limited {
            return;
        }
        let gain = if off_target > 0 { self.config.increase_gain } else { self.config.decrease_gain };
        let acked = i128::from(ack.bytes_acked.min(MAX_WINDOW_LIMIT));
        let push = off_target.saturating_mul(i128::from(gain) * acked * i128::from(self.config.mss));
        let inertia = 1000 * target * i128::from(self.cwnd.bytes().max(1));
        let change = push.saturating_mul(1 << FRACTION_BITS) / inertia;
        let moved = i128::from(self.cwnd.0).saturating_add(change);
        self.cwnd = Window(u64::try_from(moved.max(0)).unwrap_or(u64::MAX));
    }

    fn clamp(&mut self, slow_start: bool) {
        let used = if slow_start { self.round.flight().saturating_mul(2) } else { self.round.flight() };
        let allowed = used.saturating_add(self.mss() * u64::from(self.config.allowed_increase));
        let most = Window::from_bytes(allowed.min(self.config.max_window));
        self.cwnd = self.cwnd.min(most).max(Window::from_bytes(self.min_window()));
    }
}

impl Controller for Ledbat {
    fn on_ack(&mut self, now: Instant, ack: &AckEvent) {
        self.advance(now);
        self.round.update(self.now, ack);
        if let Some(sample) = ack.delay {
            self.delays.add(self.now, sample);
        }
        self.queuing = self.delays.queuing(self.now, ack.srtt);
        let slow_start = self.slow_start_until;
        match slow_start {
            Some(threshold) => self.grow_in_slow_start(ack, threshold),
            None => self.follow_target(ack),
        }
        self.clamp(slow_start.is_some());
    }

    fn on_loss(&mut self, now: Instant, loss: &LossEvent) {
        self.advance(now);
        // RFC 6817 §2.4.2: at most once per RTT.
        if self.reduced_at.is_none_or(|reduced| loss.newest_lost_sent_at > reduced) {
            self.halve();
        }
    }

    fn on_congestion_timeout(&mut self, now: Instant) {
        self.advance(now);
        // A second timeout in a row finds one segment: what is known of the path stands in the first one's threshold.
        if self.config.slow_start && self.cwnd.bytes() > self.mss() {
            self.slow_start_until = Some((self.cwnd.bytes() / 2).max(self.min_window()));
        }
        self.cwnd = Window::from_bytes(self.mss());
        self.reduced_at = Some(self.now);
        self.round = Round::new(self.now);
    }

    fn set_mss(&mut self, mss: u32) {
        self.config.mss = mss.clamp(MIN_MSS, MAX_MSS);
        self.config.max_window = self.config.max_window.max(self.min_window());
        self.cwnd = self.cwnd.max(Window::from_bytes(self.mss()));
    }

    fn window(&self) -> u64 {
        self.cwnd.bytes()
    }

    fn in_slow_start(&self) -> bool {
        self.slow_start_until.is_some()
    }

    fn queuing_delay(&self) -> Option<Duration> {
        self.queuing
    }

    fn base_delay(&self) -> Option<DelaySample> {
        self.delays.base()
    }
}
