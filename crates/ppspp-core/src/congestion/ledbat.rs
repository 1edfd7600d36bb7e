//! LEDBAT (RFC 6817) with a slow start.

use core::time::Duration;

use super::window::{FRACTION_BITS, Sender, acked};
use super::{AckEvent, Controller, ControllerConfig, DelaySample, LossEvent};
use crate::time::{Instant, micros};

/// RFC 6817's sender. Where it goes beyond the RFC's pseudocode:
///
/// - Slow start adds every acknowledged byte, however many one ACK covers, since the pacer breaks the bursts that
///   RFC 3465 fears. It ends on loss, on a congestion timeout's threshold, or when data queues for over 7/8 TARGET: from
///   there the linear controller takes minutes to fill what is left of a large pipe.
///   That measurement is a round trip old, and the window has doubled since: half of it is what caused the measured
///   queue, so the window goes back there.
/// - `max_allowed_cwnd` builds on the most that was in flight during this round trip and the one before ("based on
///   flightsize in the previous RTT", §2.5), not on the moment before the ACK: pacing, or two ACKs in a row that cover
///   32 datagrams each, leave that moment's flight far below the window in use. In slow start twice the flight is
///   allowed, which is what a round trip may add.
/// - A window that went unused for want of data shrinks as the RFC has it, and is regained in slow start.
/// - Without a delay sample in the last round trip the window neither grows nor shrinks, slow start apart.
#[derive(Clone, Debug)]
pub(super) struct Ledbat {
    sender: Sender,
    /// In slow start: the window at which it ends, in bytes.
    slow_start_until: Option<u64>,
}

impl Ledbat {
    /// A flow that starts at `now`; `config` has been clamped.
    pub(super) fn new(config: &ControllerConfig, now: Instant) -> Self {
        Self { sender: Sender::new(config, now), slow_start_until: config.slow_start.then_some(u64::MAX) }
    }

    fn grow_in_slow_start(&mut self, ack: &AckEvent, threshold: u64) {
        let sender = &mut self.sender;
        if sender.queuing.is_some_and(|queuing| queuing > sender.config.target * 7 / 8) {
            sender.halve();
            self.slow_start_until = None;
            return;
        }
        if !ack.app_limited {
            let room = threshold.saturating_sub(sender.cwnd.bytes());
            sender.cwnd = sender.cwnd.add(ack.bytes_acked.min(room));
            if ack.bytes_acked >= room {
                self.slow_start_until = None;
            }
        }
    }

    /// cwnd += GAIN * `off_target` * `bytes_newly_acked` * MSS / cwnd (RFC 6817 §2.4.2).
    fn follow_target(&mut self, ack: &AckEvent) {
        let sender = &mut self.sender;
        let Some(queuing) = sender.queuing else { return };
        let target = i128::from(micros(sender.config.target));
        let off_target = target - i128::from(micros(queuing));
        if off_target > 0 && ack.app_limited {
            return;
        }
        let gain = if off_target > 0 { sender.config.increase_gain } else { sender.config.decrease_gain };
        let push = off_target.saturating_mul(i128::from(gain) * acked(ack) * i128::from(sender.config.mss));
        let inertia = 1000 * target * sender.cwnd.fixed_point();
        // Both the window in the divisor and the result have a fraction.
        sender.cwnd.move_by(push.saturating_mul(1 << (2 * FRACTION_BITS)) / inertia);
    }
}

impl Controller for Ledbat {
    fn on_ack(&mut self, now: Instant, ack: &AckEvent) {
        self.sender.on_ack(now, ack);
        let slow_start = self.slow_start_until;
        match slow_start {
            Some(threshold) => self.grow_in_slow_start(ack, threshold),
            None => self.follow_target(ack),
        }
        let before = self.sender.window();
        self.sender.clamp(slow_start.is_some());
        // What was not used for want of data is taken away, but the path did not ask for it: it is regained at once.
        if ack.app_limited && slow_start.is_none() && self.sender.config.slow_start && self.sender.window() < before {
            self.slow_start_until = Some(before);
        }
    }

    fn on_loss(&mut self, now: Instant, loss: &LossEvent) {
        if self.sender.on_loss(now, loss) {
            self.sender.halve();
            self.slow_start_until = None;
        }
    }

    fn on_congestion_timeout(&mut self, now: Instant) {
        let before = self.sender.window();
        self.sender.collapse(now);
        // A second timeout in a row finds one segment: what is known of the path stands in the first one's threshold.
        if self.sender.config.slow_start && before > self.sender.mss() && !self.sender.is_unanswered() {
            self.slow_start_until = Some(self.sender.half(before));
        }
    }

    fn set_mss(&mut self, mss: u32) {
        self.sender.set_mss(mss);
    }

    fn window(&self) -> u64 {
        self.sender.window()
    }

    fn in_slow_start(&self) -> bool {
        self.slow_start_until.is_some()
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
    use super::super::window::Window;
    use super::super::{MAX_WINDOW_LIMIT, MIN_MSS};
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MSS: u64 = 1000;
    const START: Instant = Instant::from_micros(1_000_000_000);
    const RTT: Duration = Duration::from_millis(50);

    fn config(slow_start: bool) -> ControllerConfig {
        ControllerConfig { mss: 1000, slow_start, max_window: 1 << 30, ..ControllerConfig::ledbat() }
    }

    fn ledbat(slow_start: bool) -> Ledbat {
        Ledbat::new(&config(slow_start), START)
    }

    /// Acknowledges `bytes` sent a round trip ago with a full window in flight.
    fn ack(flow: &Ledbat, now: Instant, bytes: u64, delay_millis: u64) -> AckEvent {
        AckEvent {
            bytes_acked: bytes,
            in_flight_before: flow.window(),
            delay: Some(DelaySample::from_micros(delay_millis * 1000)),
            srtt: RTT,
            min_rtt: Duration::ZERO,
            app_limited: false,
            newest_acked_sent_at: now - RTT,
        }
    }

    /// A flow out of slow start at `segments`, with a base delay of 10 ms.
    fn steady(segments: u64) -> Ledbat {
        let mut flow = ledbat(false);
        flow.sender.cwnd = Window::from_bytes(segments * MSS);
        let event = AckEvent { bytes_acked: 0, ..ack(&flow, START, 0, 10) };
        flow.on_ack(START, &event);
        assert_eq!(flow.window(), segments * MSS);
        flow
    }

    fn later(millis: u64) -> Instant {
        START + Duration::from_millis(millis)
    }

    #[test]
    fn a_window_that_went_unused_is_regained_at_once() {
        let mut flow = ledbat(true);
        flow.slow_start_until = None;
        flow.sender.cwnd = Window::from_bytes(100 * MSS);
        // Two round trips with two segments each, for want of data.
        for round in 1..4 {
            let now = later(round * 60);
            let event = AckEvent { in_flight_before: 2 * MSS, app_limited: true, ..ack(&flow, now, 2 * MSS, 10) };
            flow.on_ack(now, &event);
        }
        assert_eq!(flow.window(), 3 * MSS);
        let mut rounds = 0;
        while flow.in_slow_start() {
            rounds += 1;
            let now = later(180 + rounds * 60);
            let event = ack(&flow, now, flow.window(), 10);
            flow.on_ack(now, &event);
        }
        assert_eq!((flow.window(), rounds), (100 * MSS, 6), "doubled, up to what it was");
    }

    #[test]
    fn slow_start_doubles_per_round_trip_even_with_merged_acks() {
        let mut flow = ledbat(true);
        let mut now = START;
        for round in 1..=8 {
            now = now + RTT;
            let window = flow.window();
            for batch in 0..2 {
                let event =
                    AckEvent { in_flight_before: window - batch * window / 2, ..ack(&flow, now, window / 2, 10) };
                flow.on_ack(now, &event);
            }
            assert_eq!(flow.window(), MSS << (round + 1));
        }
        assert!(flow.in_slow_start());
    }

    #[test]
    fn slow_start_ends_at_seven_eighths_of_the_target() {
        for (queuing, ends) in [(87, false), (88, true)] {
            let mut flow = ledbat(true);
            flow.sender.cwnd = Window::from_bytes(100 * MSS);
            let srtt = Duration::from_millis(200);
            let first = AckEvent { srtt, ..ack(&flow, START, MSS, 10) };
            flow.on_ack(START, &first);
            for _ in 0..3 {
                let empty = AckEvent { bytes_acked: 0, srtt, ..ack(&flow, later(300), 0, 10 + queuing) };
                flow.on_ack(later(300), &empty);
            }
            assert_eq!(flow.queuing_delay(), Some(Duration::from_millis(queuing)));
            assert_eq!(!flow.in_slow_start(), ends, "{queuing} ms");
            assert_eq!(flow.window(), if ends { 101 * MSS / 2 } else { 101 * MSS });
        }
    }

    #[test]
    fn falling_windows_do_not_reopen_slow_start() {
        let mut flow = ledbat(true);
        flow.sender.cwnd = Window::from_bytes(100 * MSS);
        flow.on_loss(START, &LossEvent { bytes_lost: MSS, newest_lost_sent_at: START });
        let event = AckEvent { in_flight_before: 10 * MSS, ..ack(&flow, later(100), MSS, 10) };
        flow.on_ack(later(100), &event);
        assert_eq!((flow.window(), flow.in_slow_start()), (11 * MSS, false));
    }

    #[test]
    fn without_queue_a_window_gains_one_segment_per_round_trip() {
        let mut flow = steady(100);
        for _ in 0..100 {
            let event = ack(&flow, later(1), MSS, 10);
            flow.on_ack(later(1), &event);
        }
        assert!((100 * MSS + 990..=101 * MSS).contains(&flow.window()), "{}", flow.window());
    }

    #[test]
    fn a_large_window_still_gains_a_segment_per_round_trip() {
        let mut flow = steady(1_000_000);
        for _ in 0..31_250 {
            let event = ack(&flow, later(1), 32 * MSS, 10);
            flow.on_ack(later(1), &event);
        }
        let gained = flow.window() - 1_000_000 * MSS;
        assert!((MSS - 2..=MSS).contains(&gained), "0.032 bytes per ACK make {gained}");
    }

    #[test]
    fn at_the_target_nothing_moves_and_beyond_it_shrinks() {
        let mut flow = steady(100);
        let srtt = Duration::from_millis(500);
        for (time, delay, change) in [(600, 110, 0_i64), (1200, 210, -10), (1800, 310, -20)] {
            let before = flow.window().cast_signed();
            let event = AckEvent { srtt, ..ack(&flow, later(time), MSS, delay) };
            flow.on_ack(later(time), &event);
            assert!((flow.window().cast_signed() - before - change).abs() <= 1, "{delay} ms: {}", flow.window());
        }
    }

    #[test]
    fn batched_acks_do_not_strangle_the_window() {
        let mut flow = steady(100);
        // Two merged ACKs in one wake-up: the second finds 68 segments in flight.
        for in_flight in [100, 68] {
            let event = AckEvent { in_flight_before: in_flight * MSS, ..ack(&flow, later(10), 32 * MSS, 10) };
            flow.on_ack(later(10), &event);
        }
        assert!(flow.window() > 100 * MSS + 600, "{}", flow.window());
    }

    #[test]
    fn a_longer_base_history_is_of_use() {
        use crate::congestion::RttEstimator;
        let config = ControllerConfig { base_history: 30, ..config(false) };
        let start = Instant::from_micros(1_000_000_000);
        let (mut flow, mut rtt) = (Ledbat::new(&config, start), RttEstimator::new(start).remembering(30, start));
        for tick in 0..12 * 60 * 10_u64 {
            let now = start + Duration::from_millis(100 * (tick + 2));
            let queue = if tick < 10 { 0 } else { 100 };
            let sample = Duration::from_millis(50 + queue);
            rtt.on_sample(now, sample);
            let srtt = rtt.srtt_or_default();
            let min_rtt = rtt.min_rtt().unwrap_or(srtt);
            let event = AckEvent {
                srtt,
                min_rtt,
                newest_acked_sent_at: now - sample,
                ..ack(&flow, now, flow.window(), 7_000 + queue)
            };
            flow.on_ack(now, &event);
            assert!(tick < 600 || flow.queuing_delay().unwrap().as_millis() >= 90, "{tick}");
        }
    }

    #[test]
    fn an_idle_window_is_clamped_to_a_little_more_than_its_use() {
        let mut flow = steady(100);
        for round in 1..=3 {
            let now = later(round * 50);
            let event = AckEvent { in_flight_before: 20 * MSS, ..ack(&flow, now, MSS, 10) };
            flow.on_ack(now, &event);
        }
        assert_eq!(flow.window(), 21 * MSS);
    }

    #[test]
    fn an_application_limit_stops_growth_but_not_retreat() {
        for slow_start in [true, false] {
            let mut flow = ledbat(slow_start);
            for _ in 0..10 {
                let event = AckEvent { app_limited: true, ..ack(&flow, later(1), MSS, 10) };
                flow.on_ack(later(1), &event);
            }
            assert_eq!(flow.window(), 2 * MSS);
        }
        let mut flow = steady(100);
        let srtt = Duration::from_millis(500);
        let event = AckEvent { app_limited: true, srtt, ..ack(&flow, later(600), 100 * MSS, 210) };
        flow.on_ack(later(600), &event);
        assert!(flow.window() < 100 * MSS);
    }

    #[test]
    fn without_delay_samples_the_window_rests() {
        let mut flow = steady(100);
        let event = AckEvent { delay: None, ..ack(&flow, later(60), 50 * MSS, 0) };
        flow.on_ack(later(60), &event);
        assert_eq!((flow.window(), flow.queuing_delay()), (100 * MSS, None));
    }

    #[test]
    fn losses_of_one_round_trip_halve_once() {
        let mut flow = steady(100);
        let loss = |sent| LossEvent { bytes_lost: MSS, newest_lost_sent_at: later(sent) };
        flow.on_loss(later(100), &loss(50));
        assert_eq!(flow.window(), 50 * MSS);
        flow.on_loss(later(120), &loss(99));
        flow.on_loss(later(150), &loss(100));
        assert_eq!(flow.window(), 50 * MSS, "sent before the reduction");
        flow.on_loss(later(160), &loss(101));
        assert_eq!(flow.window(), 25 * MSS);
        for round in 4..20 {
            flow.on_loss(later(round * 100), &loss(round * 100 - 50));
        }
        assert_eq!(flow.window(), 2 * MSS, "MIN_CWND");
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_half_the_window_to_regain_quickly() {
        let mut flow = Ledbat { slow_start_until: None, ..ledbat(true) };
        let first = ack(&flow, later(0), MSS, 10);
        flow.on_ack(later(0), &first);
        flow.sender.cwnd = Window::from_bytes(64 * MSS);
        flow.on_congestion_timeout(later(1000));
        assert_eq!((flow.window(), flow.in_slow_start()), (MSS, true));
        flow.on_loss(later(1001), &LossEvent { bytes_lost: 64 * MSS, newest_lost_sent_at: later(900) });
        flow.on_congestion_timeout(later(3000));
        assert_eq!(flow.window(), MSS);
        for round in 1..=5 {
            assert!(flow.in_slow_start());
            let event = ack(&flow, later(3000 + round * 50), flow.window(), 10);
            flow.on_ack(later(3000 + round * 50), &event);
            assert_eq!(flow.window(), MSS << round);
        }
        assert!(!flow.in_slow_start(), "half of 64 segments");
    }

    #[test]
    fn a_timeout_before_anything_was_acknowledged_leaves_slow_start_as_it_was() {
        let mut flow = ledbat(true);
        flow.on_congestion_timeout(later(1000));
        assert_eq!((flow.window(), flow.slow_start_until), (MSS, Some(u64::MAX)));
        let first = ack(&flow, later(2000), MSS, 10);
        flow.on_ack(later(2000), &first);
        flow.on_congestion_timeout(later(3000));
        assert_eq!(flow.slow_start_until, Some(2 * MSS), "from now on it tells how much fits");
    }

    #[test]
    fn slow_start_after_a_timeout_stops_exactly_at_its_threshold() {
        let mut flow = Ledbat { slow_start_until: None, ..ledbat(true) };
        let first = ack(&flow, later(0), MSS, 10);
        flow.on_ack(later(0), &first);
        flow.sender.cwnd = Window::from_bytes(41 * MSS);
        flow.on_congestion_timeout(later(1000));
        for _ in 0..8 {
            let event = AckEvent { in_flight_before: 41 * MSS, ..ack(&flow, later(1050), 6 * MSS, 10) };
            flow.on_ack(later(1050), &event);
            if !flow.in_slow_start() {
                break;
            }
        }
        assert_eq!((flow.window(), flow.in_slow_start()), (41 * MSS / 2, false));
    }

    #[test]
    fn r25_a_clock_that_goes_back_is_clamped() {
        let mut flow = steady(100);
        let sample = ack(&flow, later(1000), 0, 10);
        flow.on_ack(later(1000), &sample);
        flow.on_congestion_timeout(later(100));
        flow.on_loss(later(1010), &LossEvent { bytes_lost: MSS, newest_lost_sent_at: later(900) });
        assert_eq!(flow.window(), MSS, "the reduction counts from the latest time seen");
        assert_eq!(flow.sender.reduced_at, Some(later(1000)));
    }

    #[test]
    fn a_loss_reported_while_collapsed_does_not_raise_the_window() {
        let mut flow = ledbat(true);
        flow.on_congestion_timeout(later(1000));
        flow.on_loss(later(1100), &LossEvent { bytes_lost: MSS, newest_lost_sent_at: later(1050) });
        assert_eq!(flow.window(), MSS);
    }

    #[test]
    fn without_slow_start_a_timeout_recovers_linearly() {
        let mut flow = steady(64);
        flow.on_congestion_timeout(later(1000));
        let event = ack(&flow, later(1050), MSS, 10);
        flow.on_ack(later(1050), &event);
        assert_eq!((flow.window(), flow.in_slow_start()), (2 * MSS, false));
    }

    #[test]
    fn a_new_segment_size_keeps_the_window_in_bytes() {
        let mut flow = steady(100);
        flow.set_mss(8000);
        assert_eq!(flow.window(), 100 * MSS);
        flow.on_congestion_timeout(later(1000));
        assert_eq!(flow.window(), 8000);
    }

    /// The window with its fraction.
    fn exact(flow: &Ledbat) -> f64 {
        let fraction = u32::try_from(flow.sender.cwnd.0 % (1 << FRACTION_BITS)).unwrap();
        f64::from(u32::try_from(flow.window()).unwrap()) + f64::from(fraction) / 65536.0
    }

    /// RFC 6817 §2.4.2 as written, in floating point, over lists of everything ever sampled.
    struct Pseudocode {
        cwnd: f64,
        samples: Vec<(Instant, i64)>,
    }

    impl Pseudocode {
        fn on_ack(&mut self, now: Instant, delay: i64, acked: u32, rtt: Duration) {
            self.samples.push((now, delay));
            let minute = |at: Instant| at.as_micros() / 60_000_000;
            let history = self.samples.iter().filter(|(at, _)| minute(*at) + 10 > minute(now));
            let base = history.map(|s| s.1).min().unwrap();
            let newest = self.samples.iter().rev().take(4);
            let current = newest.filter(|(at, _)| now - *at <= rtt).map(|s| s.1).min().unwrap();
            let queuing = f64::from(i32::try_from(current - base).unwrap());
            let off_target = (100_000.0 - queuing) / 100_000.0;
            self.cwnd += off_target * f64::from(acked) * 1000.0 / self.cwnd;
            self.cwnd = self.cwnd.max(2000.0);
        }
    }

    fn time_step() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 0_u64..20_000, 1 => 0_u64..100_000_000, 1 => 0_u64..700_000_000]
    }

    proptest! {
            #[test]
            fn follows_the_rfcs_pseudocode(
                segments in 2_u64..2000,
                steps in prop::collection::vec((time_step(), 0_i64..400_000, 0_u32..64_000, any::<u8>()), 1..150),
            ) {
                let mut flow = ledbat(false);
                flow.sender.cwnd = Window::from_bytes(segments * MSS);
    let mut twin = Pseudocode { cwnd: exact(&flow), samples: Vec::new() };
                let mut now = START;
                let rtt = Duration::from_millis(500);
                for (step, delay, acked, dice) in steps {
                    now = now + Duration::from_micros(step);
                    let event = AckEvent {
                        bytes_acked: acked.into(),
                        in_flight_before: u64::MAX,
                        delay: Some(DelaySample::from_micros(delay.cast_unsigned())),
                        srtt: rtt,
                        min_rtt: Duration::ZERO,
                        app_limited: false,
                        newest_acked_sent_at: now - rtt,
                    };
                    flow.on_ack(now, &event);
                    twin.on_ack(now, delay, acked, rtt);
                    if dice < 8 {
                        flow.sender.reduced_at = None;
                        flow.on_loss(now, &LossEvent { bytes_lost: MSS, newest_lost_sent_at: now });
                        twin.cwnd = twin.cwnd.min((twin.cwnd / 2.0).max(2000.0));
                    }
                    // A halving drops the fraction; an ACK truncates below 2^-16 of a byte.
                    let difference = (twin.cwnd - exact(&flow)).abs();
                    prop_assert!(difference < if dice < 8 { 1.0 } else { 0.0001 }, "{} against {}", exact(&flow), twin.cwnd);
                    // A rounding error may grow at a small window: each step is judged on its own.
                    twin.cwnd = exact(&flow);
                }
            }

            #[test]
            fn grows_only_below_the_target_and_stays_in_bounds(
                slow_start in any::<bool>(),
                max_window in 2_000_u64..1_000_000,
                steps in prop::collection::vec(
                    (time_step(), 0_u64..300_000, 0_u64..100_000, 0_u64..500_000, any::<(bool, u8)>()), 1..150),
            ) {
                let mut flow = Ledbat::new(&ControllerConfig { max_window, ..config(slow_start) }, START);
                let mut now = START;
                for (step, delay, acked, flight, (app_limited, dice)) in steps {
                    now = now + Duration::from_micros(step);
                    let before = flow.window();
                    match dice {
                        0..=7 => {
                            flow.on_congestion_timeout(now);
                            prop_assert_eq!(flow.window(), MSS);
                        }
                        8..=31 => {
                            let sent = now - RTT;
                            flow.on_loss(now, &LossEvent { bytes_lost: acked, newest_lost_sent_at: sent });
                            prop_assert!(flow.window() <= before);
                            prop_assert!(flow.window() >= (before / 2).min(2 * MSS));
                        }
                        _ => {
                            let event = AckEvent {
                                in_flight_before: flight,
                                app_limited,
                                srtt: Duration::from_millis(400),
                                ..ack(&flow, now, acked, 0)
                            };
                            flow.on_ack(now, &AckEvent { delay: Some(DelaySample::from_micros(delay)), ..event });
                            prop_assert!(flow.window() >= 2 * MSS);
                            let above = flow.queuing_delay() > Some(flow.sender.config.target);
                            if above || app_limited {
                                prop_assert!(flow.window() <= before.max(2 * MSS));
                            }
                            prop_assert!(flow.window() <= before.max(2 * MSS) + acked.max(MSS));
                        }
                    }
                    prop_assert!(flow.window() >= MSS && flow.window() <= max_window);
                }
            }

            #[test]
            fn any_clock_offset_gives_the_same_windows(
                offset in any::<u64>(),
                steps in prop::collection::vec((time_step(), 0_u64..300_000, 0_u64..100_000), 1..100),
            ) {
                let (mut plain, mut shifted) = (ledbat(true), ledbat(true));
                let mut now = START;
                for (step, delay, acked) in steps {
                    now = now + Duration::from_micros(step);
                    let event = ack(&plain, now, acked, 0);
                    plain.on_ack(now, &AckEvent { delay: Some(DelaySample::from_micros(delay)), ..event });
                    let delay = DelaySample::from_micros(delay.wrapping_add(offset));
                    shifted.on_ack(now, &AckEvent { delay: Some(delay), ..event });
                    prop_assert_eq!(plain.sender.cwnd, shifted.sender.cwnd);
                }
            }

            #[test]
            fn reductions_are_a_round_trip_apart(gaps in prop::collection::vec(1_u64..60_000, 1..100)) {
                let mut flow = ledbat(true);
                flow.sender.cwnd = Window::from_bytes(1 << 29);
                let (mut sent, mut last) = (START, None);
                for gap in gaps {
                    sent = sent + Duration::from_micros(gap);
                    let (now, before) = (sent + RTT, flow.window());
                    flow.on_loss(now, &LossEvent { bytes_lost: MSS, newest_lost_sent_at: sent });
                    if flow.window() < before {
                        prop_assert_eq!(flow.window(), (before / 2).max(2 * MSS));
                        prop_assert!(last.is_none_or(|last| now - last > RTT));
                        last = Some(now);
                    } else {
                        prop_assert!(last.is_some_and(|last| now - last <= RTT) || before == 2 * MSS);
                    }
                }
            }

            #[test]
            fn any_input_is_survived(
                mss in any::<u32>(),
                steps in prop::collection::vec(any::<([u64; 6], bool, bool, u8)>(), 1..60),
            ) {
                let config = ControllerConfig { mss, max_window: u64::MAX, decrease_gain: u32::MAX, ..config(mss % 2 == 0) };
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
                            min_rtt: Duration::from_micros(rtt),
                            app_limited,
                            newest_acked_sent_at: sent,
                        }),
                    }
                    prop_assert!(flow.window() >= u64::from(MIN_MSS) && flow.window() <= MAX_WINDOW_LIMIT);
                }
            }
        }
}
