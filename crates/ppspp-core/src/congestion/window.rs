//! What both kinds of LEDBAT share: the window, what it may grow to, and what the path said.

use core::time::Duration;

use super::delay::DelayTracker;
use super::{AckEvent, ControllerConfig, LossEvent, MAX_MSS, MAX_WINDOW_LIMIT, MIN_MSS, MIN_WINDOW_SEGMENTS};
use crate::time::Instant;

/// The window is kept in this fraction of a byte: at a large window one ACK is worth less than a byte.
pub(super) const FRACTION_BITS: u32 = 16;

/// The longest that the ACK behind the shortest round trip may have waited (R14), while the present one did not.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// Bytes with a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window(pub(super) u64);

impl Window {
    pub(super) fn from_bytes(bytes: u64) -> Self {
        Self(bytes.min(MAX_WINDOW_LIMIT) << FRACTION_BITS)
    }

    pub(super) const fn bytes(self) -> u64 {
        self.0 >> FRACTION_BITS
    }

    /// The window in units of the fraction; at least 1, to be divided by.
    pub(super) fn fixed_point(self) -> i128 {
        i128::from(self.0.max(1))
    }

    pub(super) fn add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(Self::from_bytes(bytes).0))
    }

    /// Moves by `change` units of the fraction, down to zero at most.
    pub(super) fn move_by(&mut self, change: i128) {
        let moved = i128::from(self.0).saturating_add(change);
        self.0 = u64::try_from(moved.max(0)).unwrap_or(u64::MAX);
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

/// The bytes that `ack` covers, bounded for window arithmetic.
pub(super) fn acked(ack: &AckEvent) -> i128 {
    i128::from(ack.bytes_acked.min(MAX_WINDOW_LIMIT))
}

/// The state and the rules that do not depend on how the window follows the delay.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) config: ControllerConfig,
    pub(super) cwnd: Window,
    pub(super) delays: DelayTracker,
    pub(super) queuing: Option<Duration>,
    /// When the window was last reduced at one stroke.
    pub(super) reduced_at: Option<Instant>,
    round: Round,
    /// The latest time seen.
    pub(super) now: Instant,
}

impl Sender {
    /// `config` has been clamped.
    pub(super) fn new(config: &ControllerConfig, now: Instant) -> Self {
        let initial = u64::from(config.mss) * u64::from(config.init_window_segments);
        Self {
            config: *config,
            cwnd: Window::from_bytes(initial.min(config.max_window)),
            delays: DelayTracker::new(config.base_history, now),
            queuing: None,
            reduced_at: None,
            round: Round::new(now),
            now,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.cwnd.bytes()
    }

    pub(super) fn mss(&self) -> u64 {
        self.config.mss.into()
    }

    pub(super) fn min_window(&self) -> u64 {
        self.mss() * u64::from(MIN_WINDOW_SEGMENTS)
    }

    /// R25: time never goes back.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Takes in what an acknowledgement says of the path; the window stays.
    pub(super) fn on_ack(&mut self, now: Instant, ack: &AckEvent) {
        self.advance(now);
        self.round.update(self.now, ack);
        if let Some(sample) = ack.delay {
            self.delays.add(self.now, sample);
        }
        self.queuing = self.delays.queuing(self.now, ack.srtt).map(|queuing| queuing.min(self.rtt_rise(ack)));
    }

    /// How much longer than the shortest round trip the present one may be, which bounds the queue.
    ///
    /// The round trip is measured on one clock, so this holds whatever the peer claims (RFC 7574 §12.6.4) and however
    /// its clock drifts: a fast one seems to lengthen every delay, by 60 ms in ten minutes at 100 ppm.
    fn rtt_rise(&self, ack: &AckEvent) -> Duration {
        let present = ack.srtt.max(self.now - ack.newest_acked_sent_at);
        present.saturating_sub(ack.min_rtt).saturating_add(ACK_DELAY)
    }

    /// Whether `loss` calls for a reduction: at most one per RTT (RFC 6817 §2.4.2), told by the time of sending.
    pub(super) fn on_loss(&mut self, now: Instant, loss: &LossEvent) -> bool {
        self.advance(now);
        self.reduced_at.is_none_or(|reduced| loss.newest_lost_sent_at > reduced)
    }

    /// Half of `bytes`, but no less than `MIN_CWND`.
    pub(super) fn half(&self, bytes: u64) -> u64 {
        (bytes / 2).max(self.min_window())
    }

    /// Goes to half the window, but neither below `MIN_CWND` nor up (RFC 6817 §2.4.2).
    pub(super) fn halve(&mut self) {
        self.cwnd = self.cwnd.min(Window::from_bytes(self.half(self.window())));
        self.reduced_at = Some(self.now);
    }

    /// Whether nothing was ever acknowledged: a timeout tells then that something was lost, and not how much fits.
    pub(super) fn is_unanswered(&self) -> bool {
        self.round.flight() == 0
    }

    /// One segment is left after a congestion timeout (RFC 6817 §2.4.2).
    pub(super) fn collapse(&mut self, now: Instant) {
        self.advance(now);
        self.cwnd = Window::from_bytes(self.mss());
        self.reduced_at = Some(self.now);
    }

    /// Holds the window between `MIN_CWND` and a little more than what was in use.
    pub(super) fn clamp(&mut self, slow_start: bool) {
        let used = if slow_start { self.round.flight().saturating_mul(2) } else { self.round.flight() };
        let allowed = used.saturating_add(self.mss() * u64::from(self.config.allowed_increase));
        let most = Window::from_bytes(allowed.min(self.config.max_window));
        self.cwnd = self.cwnd.min(most).max(Window::from_bytes(self.min_window()));
    }

    pub(super) fn set_mss(&mut self, mss: u32) {
        self.config.mss = mss.clamp(MIN_MSS, MAX_MSS);
        self.config.max_window = self.config.max_window.max(self.min_window());
        self.cwnd = self.cwnd.max(Window::from_bytes(self.mss()));
    }
}
