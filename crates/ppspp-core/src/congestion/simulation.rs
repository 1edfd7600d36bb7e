//! One sender over one drop-tail bottleneck, packet by packet on a virtual clock.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::{AckEvent, Controller, ControllerConfig, DelaySample, LossEvent, Pacer, RttEstimator};
use crate::time::{Instant, micros};

const MSS: u64 = 1232;

struct Path {
    bytes_per_second: u64,
    /// Propagation, there and back.
    rtt: Duration,
    /// Drop-tail buffer, as time at the bottleneck's rate.
    buffer: Duration,
    /// Added to every delay sample, modulo 2^64.
    clock_offset: u64,
    /// Everything is dropped.
    down: bool,
}

/// What went through the bottleneck in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Measured {
    delivered: u64,
    packets: u64,
    dropped: u64,
    queued_micros: u64,
    longest_queue: u64,
}

impl Measured {
    fn mean_queue(&self) -> Duration {
        Duration::from_micros(self.queued_micros / self.packets.max(1))
    }

    fn utilisation_percent(&self, path: &Path, span: Duration) -> u64 {
        self.delivered * 100 / (path.bytes_per_second * micros(span) / 1_000_000)
    }
}

struct Ack {
    first: u64,
    next: u64,
    sample: DelaySample,
}

struct Simulation {
    path: Path,
    now: Instant,
    controller: Box<dyn Controller>,
    rtt: RttEstimator,
    pacer: Pacer,
    /// Sending times of what is in flight, by sequence number.
    flight: BTreeMap<u64, Instant>,
    next_sequence: u64,
    /// When the bottleneck falls idle, in nanoseconds.
    busy_until: u64,
    /// Arrival, sequence number and sending time of what passed the bottleneck.
    arrivals: VecDeque<(Instant, u64, Instant)>,
    /// Received packets not acknowledged yet: first and newest sequence, when the first arrived.
    held: Option<(u64, u64, Instant, DelaySample)>,
    acks: VecDeque<(Instant, Ack)>,
    last_progress: Instant,
    /// The application offers this many segments every 10 ms.
    offered: Option<u64>,
    next_offer: Instant,
    left_to_send: u64,
    timeouts: u32,
    measured: Measured,
}

impl Simulation {
    fn new(path: Path) -> Self {
        let config = ControllerConfig { mss: 1232, ..ControllerConfig::default() };
        let now = Instant::from_micros(1_700_000_000_000_000);
        Self {
            path,
            now,
            controller: config.build(now),
            rtt: RttEstimator::new(now),
            pacer: Pacer::new(now, config.mss),
            flight: BTreeMap::new(),
            next_sequence: 0,
            busy_until: 0,
            arrivals: VecDeque::new(),
            held: None,
            acks: VecDeque::new(),
            last_progress: now,
            offered: None,
            next_offer: now,
            left_to_send: 0,
            timeouts: 0,
            measured: Measured::default(),
        }
    }

    /// Runs for `span` and says what the bottleneck saw.
    fn run(&mut self, span: Duration) -> Measured {
        let end = self.now + span;
        self.measured = Measured::default();
        while self.now < end {
            let wake = self.send();
            let next = [
                Some(wake),
                self.arrivals.front().map(|arrival| arrival.0),
                self.acks.front().map(|ack| ack.0),
                self.held.map(|held| held.2 + self.ack_delay()),
                self.timeout(),
                self.offered.map(|_| self.next_offer),
                Some(end),
            ];
            self.now = next.into_iter().flatten().min().unwrap().max(self.now);
            self.deliver();
            self.acknowledge();
            self.check_timeout();
        }
        self.measured
    }

    fn window_full(&self) -> bool {
        self.in_flight() + MSS > self.controller.window().max(MSS)
    }

    fn in_flight(&self) -> u64 {
        self.flight.len() as u64 * MSS
    }

    /// Sends what window and pacer allow; returns when to try again, on a timer good to a millisecond.
    fn send(&mut self) -> Instant {
        match self.offered {
            None => self.left_to_send = u64::MAX,
            Some(segments) if self.now >= self.next_offer => {
                self.left_to_send = segments;
                self.next_offer = self.now + Duration::from_millis(10);
            }
            Some(_) => {}
        }
        let srtt = self.rtt.srtt_or_default();
        let slow = self.controller.in_slow_start();
        let mut budget = self.pacer.budget(self.now, self.controller.window(), srtt, slow);
        while !self.window_full() && self.left_to_send > 0 {
            if budget < MSS {
                let at = self.pacer.next_at(MSS).as_micros();
                return Instant::from_micros(at.next_multiple_of(1000));
            }
            budget -= MSS;
            self.left_to_send -= 1;
            self.pacer.on_sent(MSS);
            self.controller.on_sent(self.now, MSS, self.in_flight());
            if self.flight.is_empty() {
                self.last_progress = self.now;
            }
            self.flight.insert(self.next_sequence, self.now);
            self.enqueue(self.next_sequence);
            self.next_sequence += 1;
        }
        Instant::FAR_FUTURE
    }

    fn enqueue(&mut self, sequence: u64) {
        let reached = (self.now + self.path.rtt / 2).as_micros() * 1000;
        let queued = self.busy_until.saturating_sub(reached) / 1000;
        if self.path.down || queued > micros(self.path.buffer) {
            self.measured.dropped += 1;
            return;
        }
        self.busy_until = self.busy_until.max(reached) + MSS * 1_000_000_000 / self.path.bytes_per_second;
        self.measured.delivered += MSS;
        self.measured.packets += 1;
        self.measured.queued_micros += queued;
        self.measured.longest_queue = self.measured.longest_queue.max(queued);
        self.arrivals.push_back((Instant::from_micros(self.busy_until / 1000), sequence, self.now));
    }

    /// R14.
    fn ack_delay(&self) -> Duration {
        (self.rtt.srtt_or_default() / 8).clamp(Duration::from_micros(500), Duration::from_millis(10))
    }

    fn deliver(&mut self) {
        while let Some(&(at, sequence, sent)) = self.arrivals.front().filter(|arrival| arrival.0 <= self.now) {
            self.arrivals.pop_front();
            let measured = DelaySample::measure(sent, at).as_micros();
            let sample = DelaySample::from_micros(measured.wrapping_add(self.path.clock_offset));
            match self.held {
                Some((first, newest, since, _)) if newest + 1 == sequence => {
                    self.held = Some((first, sequence, since, sample));
                }
                _ => {
                    self.release();
                    self.held = Some((sequence, sequence, at, sample));
                }
            }
            let batch = if sequence < 256 { 2 } else { 32 };
            if self.held.is_some_and(|(first, newest, ..)| newest - first + 1 >= batch) {
                self.release();
            }
        }
        if self.held.is_some_and(|held| held.2 + self.ack_delay() <= self.now) {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some((first, newest, _, sample)) = self.held.take() {
            self.acks.push_back((self.now + self.path.rtt / 2, Ack { first, next: newest + 1, sample }));
        }
    }

    fn acknowledge(&mut self) {
        while let Some((at, ack)) = self.acks.pop_front() {
            if at > self.now {
                self.acks.push_front((at, ack));
                return;
            }
            self.on_ack(&ack);
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        let in_flight_before = self.in_flight();
        let mut newest = None;
        let mut acked = 0;
        for sequence in ack.first..ack.next {
            if let Some(sent) = self.flight.remove(&sequence) {
                newest = newest.max(Some(sent));
                acked += MSS;
            }
        }
        let Some(newest_acked_sent_at) = newest else { return };
        self.last_progress = self.now;
        self.rtt.on_sample(self.now, self.now - newest_acked_sent_at);
        let srtt = self.rtt.srtt_or_default();
        self.controller.on_ack(
            self.now,
            &AckEvent {
                bytes_acked: acked,
                in_flight_before,
                delay: Some(ack.sample),
                srtt,
                min_rtt: self.rtt.min_rtt().unwrap_or(srtt),
                app_limited: self.left_to_send == 0,
                newest_acked_sent_at,
            },
        );
        // R15, on a path that keeps the order.
        let lost: Vec<_> = self.flight.range(..ack.next.saturating_sub(3)).map(|(&s, &at)| (s, at)).collect();
        for (sequence, _) in &lost {
            self.flight.remove(sequence);
        }
        if let Some(&(_, newest_lost_sent_at)) = lost.last() {
            let bytes_lost = lost.len() as u64 * MSS;
            self.controller.on_loss(self.now, &LossEvent { bytes_lost, newest_lost_sent_at });
        }
    }

    fn timeout(&self) -> Option<Instant> {
        (!self.flight.is_empty()).then(|| self.last_progress + self.rtt.cto())
    }

    fn check_timeout(&mut self) {
        if self.timeout().is_some_and(|at| at <= self.now) {
            self.timeouts += 1;
            self.flight.clear();
            self.controller.on_congestion_timeout(self.now);
            self.rtt.back_off();
            self.last_progress = self.now;
        }
    }
}

fn path(megabits: u64, rtt: Duration) -> Path {
    let bytes_per_second = megabits * 125_000;
    Path { bytes_per_second, rtt, buffer: Duration::from_millis(400), clock_offset: 0, down: false }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn fills_the_link_and_keeps_the_queue_near_the_target() {
    for (megabits, rtt) in [(10, 50), (100, 100)] {
        let mut simulation = Simulation::new(path(megabits, Duration::from_millis(rtt)));
        let first = simulation.run(MINUTE);
        let second = simulation.run(MINUTE);
        for (measured, percent) in [(first, 90), (second, 98)] {
            let used = measured.utilisation_percent(&simulation.path, MINUTE);
            assert!(used >= percent, "{megabits} Mbit/s, {rtt} ms: {used} %, {measured:?}");
            let queue = measured.mean_queue().as_millis();
            assert!((60..=110).contains(&queue), "{megabits} Mbit/s, {rtt} ms: {queue} ms, {measured:?}");
            assert_eq!((measured.dropped, simulation.timeouts), (0, 0));
        }
        assert!(second.longest_queue <= 130_000, "{second:?}");
    }
}

#[test]
fn any_clock_offset_gives_the_same_transfer() {
    let plain = Simulation::new(path(10, Duration::from_millis(50))).run(MINUTE);
    for clock_offset in [20_000_u64.wrapping_neg(), 1 << 63, u64::MAX / 3] {
        let path = Path { clock_offset, ..path(10, Duration::from_millis(50)) };
        assert_eq!(Simulation::new(path).run(MINUTE), plain, "{clock_offset}");
    }
}

#[test]
fn a_buffer_shorter_than_the_target_is_governed_by_loss() {
    let buffer = Duration::from_millis(50);
    let mut simulation = Simulation::new(Path { buffer, ..path(10, Duration::from_millis(50)) });
    simulation.run(MINUTE);
    let measured = simulation.run(MINUTE);
    let used = measured.utilisation_percent(&simulation.path, MINUTE);
    assert!(used >= 95, "{used} %, {measured:?}");
    assert!(measured.dropped > 0 && measured.dropped * 100 < measured.packets, "{measured:?}");
    assert_eq!(simulation.timeouts, 0);
}

#[test]
fn a_loopback_path_is_not_limited() {
    let buffer = Duration::from_millis(10);
    let mut simulation = Simulation::new(Path { buffer, ..path(3200, Duration::from_micros(100)) });
    let span = Duration::from_secs(1);
    simulation.run(span);
    let measured = simulation.run(span);
    let used = measured.utilisation_percent(&simulation.path, span);
    assert!(used >= 90, "{used} % of 400 MB/s, {measured:?}");
}

#[test]
fn an_outage_ends_in_one_segment_and_is_recovered_from() {
    let mut simulation = Simulation::new(path(10, Duration::from_millis(50)));
    simulation.run(Duration::from_secs(20));
    simulation.path.down = true;
    simulation.run(Duration::from_secs(10));
    assert_eq!(simulation.controller.window(), MSS);
    assert!((3..=6).contains(&simulation.timeouts), "{} timeouts", simulation.timeouts);
    simulation.path.down = false;
    simulation.run(Duration::from_secs(10));
    let measured = simulation.run(Duration::from_secs(10));
    let used = measured.utilisation_percent(&simulation.path, Duration::from_secs(10));
    assert!(used >= 90, "{used} %, {measured:?}");
}

#[test]
fn an_application_that_offers_little_gets_no_window_to_flood_with() {
    let mut simulation = Simulation::new(path(100, Duration::from_millis(50)));
    simulation.run(MINUTE);
    let before = simulation.controller.window();
    simulation.offered = Some(2);
    let span = Duration::from_secs(10);
    let measured = simulation.run(span);
    assert_eq!(measured.packets, 2000);
    let window = simulation.controller.window();
    assert!(window < before / 10 && window >= 12 * MSS, "{window} of {before}");
}
