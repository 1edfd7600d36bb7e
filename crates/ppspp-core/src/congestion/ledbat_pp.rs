//! LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus).

use core::time::Duration;

use super::window::{FRACTION_BITS, Sender, Window, acked};
use super::{AckEvent, Controller, ControllerConfig, DelaySample, LossEvent};
use crate::time::{Instant, micros};

/// GAIN is at least 1 divided by this.
const MAX_GAIN_DIVISOR: u64 = 16;
/// A queue of TARGET divided by this is the first sign of congestion.
const FIRST_SIGN_DIVISOR: u32 = 4;
/// GAIN of at least 1 divided by this makes a path long: its base is TARGET or more.
const LONG_PATH_DIVISOR: u64 = 2;
/// Percent of a queue.
const HALF: u32 = 50;
const ALL: u32 = 100;
/// Round trips from the end of the initial slow start to the first slowdown, and that a slowdown stays at the least
/// window: one to drain what was in flight, one to measure.
const SLOWDOWN_ROUND_TRIPS: u32 = 2;
/// A slowdown follows the one before after so many times its duration: it costs a tenth of the throughput at most.
const SLOWDOWN_INTERVAL: u32 = 9;
/// Longest slowdown that counts for that: one in which the peer asked for nothing lasts as long as it likes.
const MAX_SLOWDOWN_ROUND_TRIPS: u32 = 32;

/// The draft's sender: slower than LEDBAT to grow, faster to retreat, and regularly quiet enough for everyone to
/// measure the base delay, which takes the advantage from latecomers. Where it goes beyond the draft:
///
/// - The queue is read off one-way delays, as RFC 6817 does, so that a queue on the way back counts for nothing. Only
///   GAIN needs a round trip, since the base of one-way delays stands on clocks that nobody synchronised.
/// - Slow start doubles the window per round trip up to the first sign of a queue: on an empty path nobody is hurt, and
///   GAIN would make a short one wait. At that sign the initial one returns to the window that caused it, a round trip
///   ago, and goes on by GAIN as the draft has it.
/// - What was sent before a reduction does not show its effect: the window does not retreat for it once more.
/// - When slow start ends on delay, the window goes back to what it was a round trip ago, less half of the queue that
///   causes, and from a slowdown it comes back with half of the queue. Both leave flows room to grow at the same pace,
///   which makes them equal: at TARGET exactly, nobody moves, and noise decides who keeps how much.
/// - Where the base is TARGET or more, windows are large and GAIN is small beside them: it is a whole segment there, as
///   LEDBAT's, until there is a sign of a queue, and a window comes back from a slowdown without any of the queue. With
///   GAIN alone and half of the queue a latecomer's share differs for minutes.
/// - On the way back from a slowdown a queue past TARGET stops the window, and what it returns to retreats. If the way
///   back ended there, the start of a latecomer could leave a flow at the least window for minutes.
/// - A slowdown that is due waits for a queue of over 3/8 TARGET. A flow that causes no queue, on a loopback or with
///   little to send, has none to measure past. With 1/4 large pipes take longer to become equal, with 1/2 short ones do.
#[derive(Clone, Debug)]
pub(super) struct LedbatPlusPlus {
    sender: Sender,
    phase: Phase,
    slowdowns: Slowdowns,
    gain_divisor: u64,
    /// Whether the initial slow start has met a queue.
    met_queue: bool,
    srtt: Duration,
    min_rtt: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The window doubles per round trip or grows by GAIN, up to `until` bytes.
    SlowStart { until: u64 },
    /// The window follows the delay.
    Avoidance,
    /// The window stays at `MIN_CWND` until `until`, then returns to `resume` bytes.
    Slowdown { until: Instant, resume: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Slowdowns {
    /// When the running one began; it lasts until the window is back.
    began: Option<Instant>,
    /// When the next one may begin; `None` during the initial slow start.
    due: Option<Instant>,
}

impl LedbatPlusPlus {
    /// A flow that starts at `now`; `config` has been clamped.
    pub(super) fn new(config: &ControllerConfig, now: Instant) -> Self {
        let due = (!config.slow_start).then_some(now);
        Self {
            sender: Sender::new(config, now),
            phase: if config.slow_start { Phase::SlowStart { until: u64::MAX } } else { Phase::Avoidance },
            slowdowns: Slowdowns { began: None, due },
            gain_divisor: 1,
            met_queue: false,
            srtt: super::rtt::DEFAULT_RTT,
            min_rtt: super::rtt::DEFAULT_RTT,
        }
    }

    /// Whether what `ack` covers was sent before the latest reduction at one stroke.
    fn is_stale(&self, ack: &AckEvent) -> bool {
        self.sender.reduced_at.is_some_and(|reduced| ack.newest_acked_sent_at <= reduced)
    }

    /// Whether more than `delay` is queued.
    fn queues(&self, delay: Duration) -> bool {
        self.sender.queuing.is_some_and(|queuing| queuing > delay)
    }

    /// GAIN in slow start, as a divisor: 1 on a path that shows no queue.
    fn slow_start_divisor(&self) -> u64 {
        let is_met = self.is_initial() && self.met_queue;
        if is_met || self.queues(self.sender.config.target / FIRST_SIGN_DIVISOR) { self.gain_divisor } else { 1 }
    }

    /// Whether the initial slow start goes on.
    const fn is_initial(&self) -> bool {
        self.slowdowns.due.is_none()
    }

    /// Slow start, up to `until` bytes.
    fn ramp(&mut self, ack: &AckEvent, until: u64) {
        if self.is_stale(ack) {
            return;
        }
        let target = self.sender.config.target;
        if self.is_initial() && !self.met_queue && self.queues(target / FIRST_SIGN_DIVISOR) {
            self.met_queue = true;
            // The window has doubled since.
            self.sender.halve();
        } else if self.is_initial() && self.queues(target * 3 / 4) {
            let caused = self.sender.window() / (self.gain_divisor + 1) * self.gain_divisor;
            self.sender.cwnd = Window::from_bytes(self.draining(caused, HALF));
            self.sender.reduced_at = Some(self.sender.now);
            self.avoid_congestion();
        } else if self.queues(target) {
            let covered = i128::from(until) * acked(ack) / i128::from(self.sender.window().max(1));
            let left = i128::from(until) - self.retreat(covered).min(covered / 2);
            let until = u64::try_from(left).unwrap_or_default();
            self.phase = Phase::SlowStart { until };
            if until <= self.sender.window() {
                self.avoid_congestion();
            }
        } else if !ack.app_limited {
            let room = i128::from(Window::from_bytes(until).0.saturating_sub(self.sender.cwnd.0));
            let growth = (acked(ack) << FRACTION_BITS) / i128::from(self.slow_start_divisor());
            self.sender.cwnd.move_by(growth.min(room));
            if growth >= room {
                self.avoid_congestion();
            }
        }
    }

    /// What is left of `window` without so many percent of the queue that it causes.
    fn draining(&self, window: u64, percent: u32) -> u64 {
        let queue = self.sender.queuing.unwrap_or_default();
        let round_trip = (self.min_rtt + queue).as_micros().max(1);
        let left =
            u128::from(window) * (100 * round_trip - queue.as_micros() * u128::from(percent)) / (100 * round_trip);
        u64::try_from(left).unwrap_or(window).max(self.sender.min_window())
    }

    /// Whether GAIN is half a segment at least: then windows are large, and take minutes to become equal by it.
    const fn is_long(&self) -> bool {
        self.gain_divisor <= LONG_PATH_DIVISOR
    }

    /// GAIN, as a divisor: a whole segment on a long path until there is a sign of a queue.
    fn avoidance_divisor(&self) -> u64 {
        let quiet = self.is_long() && !self.queues(self.sender.config.target / FIRST_SIGN_DIVISOR);
        if quiet { 1 } else { self.gain_divisor }
    }

    /// C * (delay / TARGET - 1), for so much of a window.
    fn retreat(&self, part: i128) -> i128 {
        let target = i128::from(micros(self.sender.config.target));
        let excess = i128::from(micros(self.sender.queuing.unwrap_or_default())) - target;
        let decrease_gain = i128::from(self.sender.config.decrease_gain);
        (part * decrease_gain).saturating_mul(excess.max(0)) / (1000 * target)
    }

    /// Per round trip: W += GAIN at or below TARGET, else W += max(GAIN - C * W * (delay / TARGET - 1), -W / 2).
    fn follow_target(&mut self, ack: &AckEvent) {
        if self.sender.queuing.is_none() {
            return;
        }
        let acked = acked(ack);
        let retreat = if self.is_stale(ack) { 0 } else { self.retreat(acked << FRACTION_BITS) };
        let divisor = i128::from(self.avoidance_divisor());
        let sender = &mut self.sender;
        let gain = if ack.app_limited { 0 } else { i128::from(sender.config.increase_gain) };
        // Both the window in the divisor and the result have a fraction.
        let growth = ((gain * acked * i128::from(sender.config.mss)) << (2 * FRACTION_BITS))
            / (1000 * divisor * sender.cwnd.fixed_point());
        sender.cwnd.move_by((growth - retreat).max(-(acked << FRACTION_BITS) / 2));
    }

    /// Leaves slow start for good or until the next slowdown, and decides when that may be.
    fn avoid_congestion(&mut self) {
        self.phase = Phase::Avoidance;
        let now = self.sender.now;
        if let Some(began) = self.slowdowns.began.take() {
            let lasted = (now - began).min(self.srtt * MAX_SLOWDOWN_ROUND_TRIPS);
            self.slowdowns.due = Some(now + lasted * SLOWDOWN_INTERVAL);
        } else if self.slowdowns.due.is_none() {
            self.slowdowns.due = Some(now + self.srtt * SLOWDOWN_ROUND_TRIPS);
        }
    }

    /// Slows down if it is time.
    fn consider_slowdown(&mut self) {
        let now = self.sender.now;
        let due = self.slowdowns.due.is_some_and(|due| due <= now) && self.queues(self.sender.config.target * 3 / 8);
        let (window, least) = (self.sender.window(), self.sender.min_window());
        if due && self.phase == Phase::Avoidance && window > least {
            self.slowdowns.began = Some(now);
            let until = now + self.srtt * SLOWDOWN_ROUND_TRIPS;
            let resume = self.draining(window, if self.is_long() { ALL } else { HALF });
            self.phase = Phase::Slowdown { until, resume };
            self.sender.cwnd = Window::from_bytes(least);
        }
    }
}

/// The divisor of GAIN: min(16, ceil(2 * TARGET / base)).
fn gain_divisor(target: Duration, base: Duration) -> u64 {
    (2 * micros(target)).div_ceil(micros(base).max(1)).clamp(1, MAX_GAIN_DIVISOR)
}

impl Controller for LedbatPlusPlus {
    fn on_ack(&mut self, now: Instant, ack: &AckEvent) {
        self.sender.on_ack(now, ack);
        self.gain_divisor = gain_divisor(self.sender.config.target, ack.min_rtt);
        self.srtt = ack.srtt;
        self.min_rtt = ack.min_rtt;
        let slow_start = matches!(self.phase, Phase::SlowStart { .. });
        match self.phase {
            Phase::SlowStart { until } => self.ramp(ack, until),
            Phase::Avoidance => self.follow_target(ack),
            Phase::Slowdown { until, resume } if until <= self.sender.now => {
                self.phase = Phase::SlowStart { until: resume };
            }
            Phase::Slowdown { .. } => {}
        }
        let before = self.sender.window();
        self.sender.clamp(slow_start);
        // RFC 2861: what an application left unused for a while is soon found again.
        if ack.app_limited && self.sender.window() < before && self.phase == Phase::Avoidance {
            self.phase = Phase::SlowStart { until: before };
        }
        self.consider_slowdown();
    }

    fn on_loss(&mut self, now: Instant, loss: &LossEvent) {
        if !self.sender.on_loss(now, loss) {
            return;
        }
        if let Phase::Slowdown { until, resume } = self.phase {
            self.phase = Phase::Slowdown { until, resume: self.sender.half(resume) };
            self.sender.reduced_at = Some(self.sender.now);
        } else {
            self.sender.halve();
            self.avoid_congestion();
        }
    }

    fn on_congestion_timeout(&mut self, now: Instant) {
        let before = match self.phase {
            Phase::Slowdown { resume, .. } => resume,
            Phase::SlowStart { .. } | Phase::Avoidance => self.sender.window(),
        };
        self.sender.collapse(now);
        // A second timeout in a row finds one segment: what is known of the path stands in the first one's threshold.
        if before > self.sender.mss() && !self.sender.is_unanswered() {
            if self.sender.config.slow_start {
                self.phase = Phase::SlowStart { until: self.sender.half(before) };
            } else {
                self.avoid_congestion();
            }
        }
    }

    fn set_mss(&mut self, mss: u32) {
        self.sender.set_mss(mss);
    }

    fn window(&self) -> u64 {
        self.sender.window()
    }

    fn in_slow_start(&self) -> bool {
        matches!(self.phase, Phase::SlowStart { .. }) && self.slow_start_divisor() == 1
    }

    fn queuing_delay(&self) -> Option<Duration> {
        self.sender.queuing
    }

    fn base_delay(&self) -> Option<DelaySample> {
        self.sender.delays.base()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::{MAX_WINDOW_LIMIT, MIN_MSS};
    use proptest::prelude::*;

    const MSS: u64 = 1000;
    const START: Instant = Instant::from_micros(1_000_000_000);
    /// GAIN is 1/2 here.
    const RTT: Duration = Duration::from_millis(100);

    fn config() -> ControllerConfig {
        ControllerConfig { mss: 1000, max_window: 1 << 30, ..ControllerConfig::ledbat_plus_plus() }
    }

    fn later(millis: u64) -> Instant {
        START + Duration::from_millis(millis)
    }

    /// Acknowledges `bytes` of a full window that queued for `queue` milliseconds.
    fn ack(flow: &LedbatPlusPlus, now: Instant, bytes: u64, queue: u64) -> AckEvent {
        let srtt = RTT + Duration::from_millis(queue);
        AckEvent {
            bytes_acked: bytes,
            in_flight_before: flow.window(),
            delay: Some(DelaySample::from_micros(queue * 1000)),
            srtt,
            min_rtt: RTT,
            app_limited: false,
            newest_acked_sent_at: now - srtt,
        }
    }

    /// Acknowledges a whole window at `now`, with `queue` milliseconds in each sample.
    fn round(flow: &mut LedbatPlusPlus, now: Instant, queue: u64) {
        let window = flow.window();
        for _ in 0..4 {
            let event = ack(flow, now, window / 4, queue);
            flow.on_ack(now, &event);
        }
    }

    /// A flow out of slow start, whose next slowdown is far away, with a base delay of zero.
    fn steady(segments: u64) -> LedbatPlusPlus {
        let mut flow = LedbatPlusPlus::new(&config(), START);
        flow.phase = Phase::Avoidance;
        flow.slowdowns.due = Some(Instant::FAR_FUTURE);
        flow.sender.cwnd = Window::from_bytes(segments * MSS);
        let event = ack(&flow, START, 0, 0);
        flow.on_ack(START, &event);
        flow
    }

    /// A flow in a slowdown that began at 1 s with 100 segments and 50 ms of queue.
    fn slowed() -> LedbatPlusPlus {
        let mut flow = steady(100);
        flow.slowdowns.due = Some(later(1000));
        round(&mut flow, later(999), 50);
        let event = ack(&flow, later(1000), 0, 50);
        flow.on_ack(later(1000), &event);
        flow
    }

    #[test]
    fn the_gain_falls_with_the_base_delay_to_a_sixteenth() {
        let target = Duration::from_millis(60);
        for (base, divisor) in [(0, 16), (100, 16), (7_999, 16), (8_000, 15), (50_000, 3), (120_000, 1), (900_000, 1)] {
            assert_eq!(gain_divisor(target, Duration::from_micros(base)), divisor, "{base} µs");
        }
    }

    #[test]
    fn slow_start_doubles_until_a_queue_shows() {
        for base in [Duration::from_micros(100), RTT] {
            let mut flow = LedbatPlusPlus::new(&config(), START);
            for doubled in 1..=6 {
                let queue = if doubled == 6 { 15 } else { 0 };
                let event = AckEvent { min_rtt: base, ..ack(&flow, later(doubled * 100), flow.window(), queue) };
                flow.on_ack(later(doubled * 100), &event);
                assert_eq!((flow.window(), flow.in_slow_start()), (MSS << (doubled + 1), true), "{base:?}");
            }
        }
    }

    #[test]
    fn at_the_first_sign_of_a_queue_slow_start_goes_back_and_on_by_the_gain() {
        let mut flow = LedbatPlusPlus::new(&config(), START);
        flow.sender.cwnd = Window::from_bytes(400 * MSS);
        let first = ack(&flow, START, 0, 0);
        flow.on_ack(START, &first);
        for _ in 0..4 {
            let event = ack(&flow, later(500), 0, 16);
            flow.on_ack(later(500), &event);
        }
        assert_eq!((flow.window(), flow.in_slow_start()), (200 * MSS, false), "what caused the queue");
        // All of this was sent before.
        round(&mut flow, later(600), 90);
        assert_eq!((flow.window(), flow.phase), (200 * MSS, Phase::SlowStart { until: u64::MAX }));
        round(&mut flow, later(900), 0);
        assert_eq!((flow.window(), flow.in_slow_start()), (300 * MSS, false), "by half");
    }

    #[test]
    fn the_initial_slow_start_ends_at_three_quarters_of_the_target() {
        for (queue, ends) in [(45, false), (46, true)] {
            let mut flow = LedbatPlusPlus::new(&config(), START);
            flow.met_queue = true;
            flow.sender.cwnd = Window::from_bytes(300 * MSS);
            let first = ack(&flow, START, 0, 0);
            flow.on_ack(START, &first);
            for _ in 0..4 {
                let event = ack(&flow, later(500), 0, queue);
                flow.on_ack(later(500), &event);
            }
            assert_eq!(flow.phase == Phase::Avoidance, ends, "{queue} ms");
            // Two thirds caused the queue; half of the queue is a sixth of the round trip, nearly.
            let expected = if ends { 200 * MSS * 123 / 146 } else { 300 * MSS };
            assert!(flow.window().abs_diff(expected) < 2, "{}", flow.window());
            // The queue that is on its way does not count again.
            let before = flow.window();
            round(&mut flow, later(600), 150);
            assert!(!ends || flow.window() >= before, "{} of {before}", flow.window());
        }
    }

    #[test]
    fn below_the_target_a_window_gains_half_a_segment_per_round_trip() {
        let mut flow = steady(100);
        round(&mut flow, later(500), 60);
        assert!((100 * MSS + 495..=100 * MSS + 500).contains(&flow.window()), "{}", flow.window());
    }

    #[test]
    fn above_the_target_a_window_retreats_in_proportion_to_its_size() {
        for segments in [100, 1000] {
            let mut flow = steady(segments);
            let samples = ack(&flow, later(500), 0, 66);
            for _ in 0..4 {
                flow.on_ack(later(500), &samples);
            }
            let event = ack(&flow, later(500), flow.window() / 10, 66);
            flow.on_ack(later(500), &event);
            // A tenth of a round trip at a tenth above the target, and a tenth of half a segment.
            let expected = segments * MSS * 99 / 100 + 50;
            assert!(flow.window().abs_diff(expected) <= 1, "{} of {segments} segments", flow.window());
        }
    }

    #[test]
    fn a_pause_in_a_slowdown_does_not_put_the_next_one_off_for_hours() {
        let mut flow = slowed();
        let mut now = 1300 + 600_000;
        round(&mut flow, later(now), 0);
        while flow.phase != Phase::Avoidance {
            now += 100;
            round(&mut flow, later(now), 0);
        }
        let due = flow.slowdowns.due.unwrap() - later(now);
        assert!(due < Duration::from_secs(60), "{due:?}");
    }

    #[test]
    fn no_round_trip_takes_more_than_half() {
        let mut flow = steady(100);
        let samples = ack(&flow, later(500), 0, 400);
        for _ in 0..4 {
            flow.on_ack(later(500), &samples);
        }
        let event = ack(&flow, later(500), flow.window(), 400);
        flow.on_ack(later(500), &event);
        assert_eq!(flow.window(), 50 * MSS);
    }

    #[test]
    fn an_application_limit_stops_growth_and_what_was_unused_is_regained_quickly() {
        let mut flow = steady(100);
        for round in 1..=4 {
            let now = later(round * 200);
            let event = AckEvent { app_limited: true, in_flight_before: 20 * MSS, ..ack(&flow, now, MSS, 0) };
            flow.on_ack(now, &event);
        }
        assert_eq!(flow.window(), 21 * MSS);
        assert_eq!(flow.phase, Phase::SlowStart { until: 100 * MSS });
        for time in 5..=7 {
            round(&mut flow, later(time * 200), 0);
        }
        let event = ack(&flow, later(1600), flow.window() / 4, 0);
        flow.on_ack(later(1600), &event);
        assert_eq!((flow.window() / MSS, flow.phase), (100, Phase::Avoidance));
    }

    /// GAIN is half a segment here, and a third where the base is just below TARGET.
    #[test]
    fn long_paths_gain_a_whole_segment_without_a_queue_and_return_to_what_causes_none() {
        for (base, queue, divisor, part) in
            [(100, 15, 1, 100), (100, 16, 2, 100), (60, 15, 1, 100), (60, 16, 2, 100), (59, 15, 3, 50), (59, 16, 3, 50)]
        {
            let mut flow = steady(100);
            let min_rtt = Duration::from_millis(base);
            for _ in 0..4 {
                let event = AckEvent { min_rtt, ..ack(&flow, later(500), 0, queue) };
                flow.on_ack(later(500), &event);
            }
            let event = AckEvent { min_rtt, ..ack(&flow, later(500), flow.window(), queue) };
            flow.on_ack(later(500), &event);
            let expected = 100 * MSS + MSS / divisor;
            assert!(flow.window().abs_diff(expected) <= 1, "{} at {base} ms, queue {queue} ms", flow.window());
            assert_eq!(flow.draining(90 * MSS, HALF), 90 * MSS * (2 * base + queue) / (2 * (base + queue)));
            flow.slowdowns.due = Some(later(500));
            for _ in 0..4 {
                let event = AckEvent { min_rtt, ..ack(&flow, later(600), 0, 40) };
                flow.on_ack(later(600), &event);
            }
            let Phase::Slowdown { resume, .. } = flow.phase else { panic!("no slowdown") };
            let left = expected * (100 * (base + 40) - 40 * part) / (100 * (base + 40));
            assert!(resume.abs_diff(left) <= 1, "{resume} of {left} at {base} ms");
        }
    }

    #[test]
    fn the_first_slowdown_is_two_round_trips_after_slow_start() {
        let mut flow = LedbatPlusPlus::new(&config(), START);
        flow.met_queue = true;
        flow.sender.cwnd = Window::from_bytes(200 * MSS);
        round(&mut flow, START, 0);
        round(&mut flow, later(500), 50);
        assert_eq!(flow.slowdowns.due, Some(later(500) + (RTT + Duration::from_millis(50)) * 2));
        round(&mut flow, later(799), 50);
        assert!(flow.window() > 2 * MSS);
        round(&mut flow, later(800), 50);
        assert_eq!(flow.window(), 2 * MSS);
    }

    #[test]
    fn a_slowdown_takes_two_round_trips_and_the_next_comes_nine_times_its_duration_later() {
        let mut flow = slowed();
        // 100 segments at 150 ms, less the 50 ms.
        let resume = (100 * MSS) * 100 / 150;
        let until = later(1300);
        assert!(
            matches!(flow.phase, Phase::Slowdown { until: at, resume: to } if at == until && to.abs_diff(resume) < 500)
        );
        round(&mut flow, later(1299), 0);
        assert_eq!(flow.window(), 2 * MSS);
        let mut now = 1300;
        round(&mut flow, later(now), 0);
        while flow.phase != Phase::Avoidance {
            now += 100;
            round(&mut flow, later(now), 0);
            assert!(now < 2000, "doubling six times makes more");
        }
        assert!(flow.window().abs_diff(resume) < MSS, "{}", flow.window());
        assert_eq!(flow.slowdowns.due, Some(later(now + (now - 1000) * 9)));
    }

    #[test]
    fn a_queue_past_the_target_stops_the_way_back_and_shortens_it() {
        let mut flow = slowed();
        for time in [1300, 1400, 1500] {
            round(&mut flow, later(time), 0);
        }
        let (window, Phase::SlowStart { until }) = (flow.window(), flow.phase) else { panic!("no way back") };
        assert!(window < until / 2, "{window} of {until}");
        // A quarter past TARGET, for a round trip.
        for _ in 0..4 {
            let event = ack(&flow, later(1800), 0, 75);
            flow.on_ack(later(1800), &event);
        }
        round(&mut flow, later(1800), 75);
        let Phase::SlowStart { until: left } = flow.phase else { panic!("given up") };
        assert_eq!(flow.window(), window);
        // In four parts: 15/16 to the fourth.
        assert!(left.abs_diff(until * 772 / 1000) < MSS, "{left} of {until}");
        for time in [2000, 2100, 2200, 2300] {
            round(&mut flow, later(time), 0);
        }
        assert!(flow.window().abs_diff(left) < 2 * MSS, "{} of {left}", flow.window());
    }

    #[test]
    fn no_slowdown_comes_without_a_queue_or_after_a_pause() {
        let mut flow = steady(100);
        flow.slowdowns.due = Some(later(1000));
        round(&mut flow, later(1500), 22);
        assert!(flow.window() > 2 * MSS, "22 ms are no queue to measure past");
        round(&mut flow, later(1700), 23);
        assert_eq!(flow.window(), 2 * MSS);

        let mut flow = steady(100);
        round(&mut flow, later(900), 40);
        flow.slowdowns.due = Some(later(1000));
        round(&mut flow, later(1600), 0);
        assert!(flow.window() > 2 * MSS, "the pause has drained the queue");
    }

    #[test]
    fn losses_of_one_round_trip_halve_once_in_a_slowdown_too() {
        let loss = |sent| LossEvent { bytes_lost: MSS, newest_lost_sent_at: later(sent) };
        let mut flow = steady(100);
        flow.on_loss(later(100), &loss(50));
        flow.on_loss(later(110), &loss(60));
        assert_eq!(flow.window(), 50 * MSS);
        let mut flow = slowed();
        let Phase::Slowdown { resume, .. } = flow.phase else { panic!("no slowdown") };
        flow.on_loss(later(1050), &loss(990));
        flow.on_loss(later(1060), &loss(995));
        assert!(matches!(flow.phase, Phase::Slowdown { resume: left, .. } if left == resume / 2));
        assert_eq!(flow.window(), 2 * MSS);
    }

    #[test]
    fn a_timeout_before_anything_was_acknowledged_leaves_slow_start_as_it_was() {
        let mut flow = LedbatPlusPlus::new(&config(), START);
        flow.on_congestion_timeout(later(1000));
        assert_eq!((flow.window(), flow.phase), (MSS, Phase::SlowStart { until: u64::MAX }));
        let first = ack(&flow, later(2000), MSS, 0);
        flow.on_ack(later(2000), &first);
        flow.on_congestion_timeout(later(3000));
        assert_eq!(flow.phase, Phase::SlowStart { until: 2 * MSS }, "from now on it tells how much fits");
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_half_the_window_to_regain() {
        for (mut flow, before) in [(steady(64), 64 * MSS), (slowed(), 0)] {
            let before = if let Phase::Slowdown { resume, .. } = flow.phase { resume } else { before };
            flow.on_congestion_timeout(later(1100));
            flow.on_congestion_timeout(later(3100));
            assert_eq!(flow.window(), MSS);
            assert_eq!(flow.phase, Phase::SlowStart { until: before / 2 });
        }
    }

    proptest! {
        #[test]
        fn retreats_above_the_target_and_stays_in_bounds(
            max_window in 2_000_u64..1_000_000,
            steps in prop::collection::vec(
                (0_u64..2_000_000, 0_u64..300, 0_u64..100_000, 0_u64..500_000, any::<(bool, u8)>()), 1..150),
        ) {
            let mut flow = LedbatPlusPlus::new(&ControllerConfig { max_window, ..config() }, START);
            let mut now = START;
            for (step, queue, acked, flight, (app_limited, dice)) in steps {
                now = now + Duration::from_micros(step);
                let before = flow.window();
                match dice {
                    0..=7 => {
                        flow.on_congestion_timeout(now);
                        prop_assert_eq!(flow.window(), MSS);
                    }
                    8..=31 => {
                        let loss = LossEvent { bytes_lost: acked, newest_lost_sent_at: now - RTT };
                        flow.on_loss(now, &loss);
                        prop_assert!(flow.window() <= before);
                        prop_assert!(flow.window() >= (before / 2).min(2 * MSS));
                    }
                    _ => {
                        let event =
                            AckEvent { in_flight_before: flight, app_limited, ..ack(&flow, now, acked, queue) };
                        flow.on_ack(now, &event);
                        prop_assert!(flow.window() >= 2 * MSS);
                        if app_limited {
                            prop_assert!(flow.window() <= before.max(2 * MSS));
                        }
                        prop_assert!(flow.window() <= before.max(2 * MSS) + acked.max(MSS));
                    }
                }
                prop_assert!(flow.window() >= MSS && flow.window() <= max_window);
            }
        }

        #[test]
        fn any_input_is_survived(
            mss in any::<u32>(),
            steps in prop::collection::vec(any::<([u64; 6], bool, bool, u8)>(), 1..60),
        ) {
            let config = ControllerConfig { mss, max_window: u64::MAX, decrease_gain: u32::MAX, slow_start: mss % 2 == 0,
                ..ControllerConfig::ledbat_plus_plus() };
            let mut flow = config.build(START);
            for ([now, bytes, flight, delay, rtt, sent], has_delay, app_limited, what) in steps {
                let (now, sent) = (Instant::from_micros(now), Instant::from_micros(sent));
                match what {
                    0..=15 => flow.on_congestion_timeout(now),
                    16..=31 => flow.on_loss(now, &LossEvent { bytes_lost: bytes, newest_lost_sent_at: sent }),
                    32..=47 => flow.set_mss(u32::try_from(bytes % 100_000).unwrap()),
                    _ => flow.on_ack(now, &AckEvent {
                        bytes_acked: bytes,
                        in_flight_before: flight,
                        delay: has_delay.then_some(DelaySample::from_micros(delay)),
                        srtt: Duration::from_micros(rtt),
                        min_rtt: Duration::from_micros(rtt / 2),
                        app_limited,
                        newest_acked_sent_at: sent,
                    }),
                }
                prop_assert!(flow.window() >= u64::from(MIN_MSS) && flow.window() <= MAX_WINDOW_LIMIT);
            }
        }
    }
}
