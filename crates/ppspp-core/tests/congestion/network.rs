//! Flows over one drop-tail bottleneck, packet by packet on a virtual clock.

use std::collections::VecDeque;
use std::time::Duration;

use ppspp_core::Instant;
use ppspp_core::congestion::{AckEvent, Controller, ControllerConfig, DelaySample, LossEvent, Pacer, RttEstimator};

use crate::reno::Reno;

/// The content of a datagram, and what UDP and IPv4 add on the wire.
pub(crate) const MSS: u64 = 1232;
const UDP_HEADERS: u64 = 28;
/// The same for a TCP segment on Ethernet, with timestamps.
const TCP_MSS: u64 = 1448;
const TCP_HEADERS: u64 = 52;
/// TCP acknowledges every other segment, and a lone one after this time (RFC 1122 §4.2.3.2 allows 500 ms).
const TCP_ACK_DELAY: Duration = Duration::from_millis(40);
/// Queuing is measured this finely, in microseconds.
const QUEUE_STEP: u64 = 100;

/// The bottleneck. Its buffer is measured in the time that it takes to drain.
pub(crate) struct Link {
    pub(crate) bytes_per_second: u64,
    pub(crate) buffer: Duration,
    /// Everything is dropped.
    pub(crate) down: bool,
}

/// What went through the bottleneck, of one flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes on the wire.
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) dropped: u64,
    pub(crate) timeouts: u64,
    queued_micros: u64,
    /// Packets by queuing delay.
    queue: Vec<u64>,
}

impl Measured {
    pub(crate) fn mean_queue(&self) -> Duration {
        Duration::from_micros(self.queued_micros / self.packets.max(1))
    }

    /// What so many of 100 packets waited at most.
    pub(crate) fn queue_percentile(&self, percent: u64) -> Duration {
        let mut left = (self.packets * percent).div_ceil(100);
        let step = self.queue.iter().position(|&packets| {
            left = left.saturating_sub(packets);
            left == 0
        });
        Duration::from_micros(step.unwrap_or(0) as u64 * QUEUE_STEP)
    }

    /// Share of the link in thousandths.
    pub(crate) fn utilisation(&self, link: &Link, span: Duration) -> u64 {
        self.bytes * 1000 / (link.bytes_per_second * span.as_millis() as u64 / 1000)
    }

    fn pass(&mut self, bytes: u64, queued_micros: u64) {
        self.bytes += bytes;
        self.packets += 1;
        self.queued_micros += queued_micros;
        let step = (queued_micros / QUEUE_STEP) as usize;
        if step >= self.queue.len() {
            self.queue.resize(step + 1, 0);
        }
        self.queue[step] += 1;
    }
}

/// When the receiver acknowledges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    /// R14.
    Ppspp,
    Tcp,
}

#[derive(Clone, Copy)]
struct Ack {
    first: u64,
    next: u64,
    sample: DelaySample,
}

/// Received packets not acknowledged yet.
#[derive(Clone, Copy)]
struct Held {
    ack: Ack,
    since: Instant,
}

/// A sender with its receiver.
pub(crate) struct Flow {
    pub(crate) controller: Box<dyn Controller>,
    pub(crate) starts: Instant,
    /// The receiver's clock is ahead by this, modulo 2^64.
    pub(crate) clock_offset: u64,
    /// The receiver's clock gains so many microseconds per second.
    pub(crate) drift_ppm: i64,
    /// The application offers so many segments every 10 ms; without it, all there is room for.
    offered: Option<u64>,
    /// The receiver claims this delay instead of the measured one.
    pub(crate) forged: Option<DelaySample>,
    /// Propagation, there and back.
    rtt: Duration,
    estimator: RttEstimator,
    /// `None`: ACKs alone clock out data.
    pacer: Option<Pacer>,
    acks: Acks,
    mss: u64,
    headers: u64,
    /// Sending times of what is in flight, from the sequence number `flight_from` on.
    flight: VecDeque<Option<Instant>>,
    flight_from: u64,
    packets_in_flight: u64,
    held: Option<Held>,
    returning: VecDeque<(Instant, Ack)>,
    last_progress: Instant,
    next_offer: Instant,
    left_to_send: u64,
    send_at: Instant,
    measured: Measured,
}

impl Flow {
    /// A PPSPP channel that starts at `starts`.
    pub(crate) fn ppspp(config: ControllerConfig, rtt: Duration, starts: Instant) -> Self {
        let config = ControllerConfig { mss: MSS as u32, ..config };
        let pacer = Some(Pacer::new(starts, config.mss));
        Self { pacer, ..Self::new(config.build(starts), Acks::Ppspp, MSS, UDP_HEADERS, rtt, starts) }
    }

    /// A TCP connection in the manner of Reno.
    pub(crate) fn reno(rtt: Duration, starts: Instant) -> Self {
        Self::new(Box::new(Reno::new(TCP_MSS)), Acks::Tcp, TCP_MSS, TCP_HEADERS, rtt, starts)
    }

    fn new(
        controller: Box<dyn Controller>,
        acks: Acks,
        mss: u64,
        headers: u64,
        rtt: Duration,
        starts: Instant,
    ) -> Self {
        Self {
            controller,
            starts,
            clock_offset: 0,
            drift_ppm: 0,
            offered: None,
            forged: None,
            rtt,
            estimator: RttEstimator::new(starts),
            pacer: None,
            acks,
            mss,
            headers,
            flight: VecDeque::new(),
            flight_from: 0,
            packets_in_flight: 0,
            held: None,
            returning: VecDeque::new(),
            last_progress: starts,
            next_offer: starts,
            left_to_send: u64::MAX,
            send_at: starts,
            measured: Measured::default(),
        }
    }

    /// From now on the application offers so many segments every 10 ms, or all there is room for.
    pub(crate) fn offer(&mut self, segments: Option<u64>) {
        self.offered = segments;
        self.send_at = self.starts;
    }

    fn in_flight(&self) -> u64 {
        self.packets_in_flight * self.mss
    }

    fn window_full(&self) -> bool {
        self.in_flight() + self.mss > self.controller.window().max(self.mss)
    }

    fn ack_delay(&self) -> Duration {
        match self.acks {
            Acks::Ppspp => {
                (self.estimator.srtt_or_default() / 8).clamp(Duration::from_micros(500), Duration::from_millis(10))
            }
            Acks::Tcp => TCP_ACK_DELAY,
        }
    }

    fn timeout(&self) -> Instant {
        if self.packets_in_flight > 0 { self.last_progress + self.estimator.cto() } else { Instant::FAR_FUTURE }
    }

    /// When something happens that no packet brings about.
    fn next_event(&self) -> Instant {
        let held = self.held.map_or(Instant::FAR_FUTURE, |held| held.since + self.ack_delay());
        let ack = self.returning.front().map_or(Instant::FAR_FUTURE, |ack| ack.0);
        let offer = if self.offered.is_some() { self.next_offer } else { Instant::FAR_FUTURE };
        self.send_at.min(held).min(ack).min(offer).min(self.timeout())
    }

    /// Sends what window and pacer allow; a paced sender tries again on a timer good to a millisecond.
    fn send(&mut self, now: Instant, bottleneck: &mut Bottleneck, index: usize) {
        self.send_at = Instant::FAR_FUTURE;
        match self.offered {
            None => self.left_to_send = u64::MAX,
            Some(segments) if now >= self.next_offer => {
                self.left_to_send = segments;
                self.next_offer = now + Duration::from_millis(10);
            }
            Some(_) => {}
        }
        let (window, slow) = (self.controller.window(), self.controller.in_slow_start());
        let rtt = self.estimator.pacing_rtt();
        let mut budget = self.pacer.as_mut().map_or(u64::MAX, |pacer| pacer.budget(now, window, rtt, slow));
        while !self.window_full() && self.left_to_send > 0 {
            if let Some(pacer) = &mut self.pacer {
                if budget < self.mss {
                    let at = pacer.next_at(self.mss).as_micros();
                    self.send_at = Instant::from_micros(at.next_multiple_of(1000));
                    return;
                }
                budget -= self.mss;
                pacer.on_sent(self.mss);
            }
            self.left_to_send -= 1;
            if self.packets_in_flight == 0 {
                self.last_progress = now;
            }
            let sequence = self.flight_from + self.flight.len() as u64;
            self.flight.push_back(Some(now));
            self.packets_in_flight += 1;
            let bytes = self.mss + self.headers;
            bottleneck.enqueue(now, bytes, Packet { flow: index, sequence, sent: now }, &mut self.measured);
        }
    }

    /// A packet arrives at the receiver.
    fn receive(&mut self, at: Instant, packet: &Packet) {
        let elapsed = (at - self.starts).as_micros() as i64;
        let clock = self.clock_offset.wrapping_add_signed(elapsed * self.drift_ppm / 1_000_000);
        let measured = DelaySample::measure(packet.sent, at).as_micros().wrapping_add(clock);
        let sample = self.forged.unwrap_or(DelaySample::from_micros(measured));
        let next = packet.sequence + 1;
        match &mut self.held {
            Some(held) if held.ack.next == packet.sequence => held.ack = Ack { next, sample, ..held.ack },
            _ => {
                self.release(at);
                self.held = Some(Held { ack: Ack { first: packet.sequence, next, sample }, since: at });
            }
        }
        let batch = if self.acks == Acks::Tcp || packet.sequence < 256 { 2 } else { 32 };
        if self.held.is_some_and(|held| held.ack.next - held.ack.first >= batch) {
            self.release(at);
        }
    }

    fn release(&mut self, now: Instant) {
        if let Some(held) = self.held.take() {
            // The way there counts here: the receiver sits at the bottleneck.
            self.returning.push_back((now + self.rtt, held.ack));
        }
    }

    /// Everything that is due except sending.
    fn act(&mut self, now: Instant) {
        if self.held.is_some_and(|held| held.since + self.ack_delay() <= now) {
            self.release(now);
        }
        while let Some(&(_, ack)) = self.returning.front().filter(|ack| ack.0 <= now) {
            self.returning.pop_front();
            self.on_ack(now, ack);
        }
        if self.timeout() <= now {
            self.measured.timeouts += 1;
            self.flight_from += self.flight.len() as u64;
            self.flight.clear();
            self.packets_in_flight = 0;
            self.controller.on_congestion_timeout(now);
            self.estimator.back_off();
            self.last_progress = now;
        }
    }

    fn on_ack(&mut self, now: Instant, ack: Ack) {
        let in_flight_before = self.in_flight();
        let (mut newest, mut acked) = (None, 0);
        for sequence in ack.first.max(self.flight_from)..ack.next {
            let place = (sequence - self.flight_from) as usize;
            if let Some(sent) = self.flight.get_mut(place).and_then(Option::take) {
                newest = newest.max(Some(sent));
                acked += 1;
            }
        }
        let Some(newest_acked_sent_at) = newest else { return };
        self.packets_in_flight -= acked;
        self.last_progress = now;
        self.estimator.on_sample(now, now - newest_acked_sent_at);
        let srtt = self.estimator.srtt_or_default();
        let event = AckEvent {
            bytes_acked: acked * self.mss,
            in_flight_before,
            delay: Some(ack.sample),
            srtt,
            min_rtt: self.estimator.min_rtt().unwrap_or(srtt),
            app_limited: self.left_to_send == 0,
            newest_acked_sent_at,
        };
        self.controller.on_ack(now, &event);
        self.detect_loss(now, ack.next);
    }

    /// Three later packets were acknowledged (R15, RFC 5681 §3.2); the path keeps the order.
    fn detect_loss(&mut self, now: Instant, acked_to: u64) {
        let (mut newest, mut lost) = (None, 0);
        while let Some(&packet) = self.flight.front() {
            match packet {
                Some(_) if self.flight_from + 3 >= acked_to => break,
                Some(sent) => {
                    newest = Some(sent);
                    lost += 1;
                }
                None => {}
            }
            self.flight.pop_front();
            self.flight_from += 1;
        }
        self.packets_in_flight -= lost;
        if let Some(newest_lost_sent_at) = newest {
            self.controller.on_loss(now, &LossEvent { bytes_lost: lost * self.mss, newest_lost_sent_at });
        }
    }
}

/// A packet past the bottleneck.
#[derive(Clone, Copy)]
struct Packet {
    flow: usize,
    sequence: u64,
    sent: Instant,
}

struct Bottleneck {
    link: Link,
    /// When it falls idle, in nanoseconds.
    busy_until: u64,
    passed: VecDeque<(Instant, Packet)>,
}

impl Bottleneck {
    fn enqueue(&mut self, now: Instant, bytes: u64, packet: Packet, measured: &mut Measured) {
        let reached = now.as_micros() * 1000;
        let queued = self.busy_until.saturating_sub(reached) / 1000;
        if self.link.down || u128::from(queued) > self.link.buffer.as_micros() {
            measured.dropped += 1;
            return;
        }
        self.busy_until = self.busy_until.max(reached) + bytes * 1_000_000_000 / self.link.bytes_per_second;
        measured.pass(bytes, queued);
        self.passed.push_back((Instant::from_micros(self.busy_until / 1000), packet));
    }
}

/// The bottleneck and the flows across it.
pub(crate) struct Network {
    pub(crate) flows: Vec<Flow>,
    pub(crate) now: Instant,
    bottleneck: Bottleneck,
}

impl Network {
    pub(crate) fn new(megabits: u64, buffer: Duration) -> Self {
        let link = Link { bytes_per_second: megabits * 125_000, buffer, down: false };
        let now = Instant::from_micros(1_700_000_000_000_000);
        Self { flows: Vec::new(), now, bottleneck: Bottleneck { link, busy_until: 0, passed: VecDeque::new() } }
    }

    pub(crate) fn link(&mut self) -> &mut Link {
        &mut self.bottleneck.link
    }

    /// Adds a channel that starts `later`.
    pub(crate) fn add_ppspp(&mut self, config: ControllerConfig, rtt: Duration, later: Duration) {
        self.flows.push(Flow::ppspp(config, rtt, self.now + later));
    }

    /// Adds a TCP connection that starts `later`.
    pub(crate) fn add_reno(&mut self, rtt: Duration, later: Duration) {
        self.flows.push(Flow::reno(rtt, self.now + later));
    }

    /// Runs for a minute to settle, then for `span`.
    pub(crate) fn settle_and_run(&mut self, span: Duration) -> Vec<Measured> {
        self.run(Duration::from_secs(60));
        self.run(span)
    }

    /// Runs for `span` and says what the bottleneck saw of each flow.
    pub(crate) fn run(&mut self, span: Duration) -> Vec<Measured> {
        let end = self.now + span;
        for flow in &mut self.flows {
            flow.measured = Measured::default();
        }
        while self.now < end {
            let passed = self.bottleneck.passed.front().map_or(end, |passed| passed.0);
            let next = self.flows.iter().map(Flow::next_event).min().unwrap_or(end);
            self.now = passed.min(next).min(end).max(self.now);
            self.step();
        }
        self.flows.iter().map(|flow| flow.measured.clone()).collect()
    }

    fn step(&mut self) {
        while let Some(&(at, packet)) = self.bottleneck.passed.front().filter(|passed| passed.0 <= self.now) {
            self.bottleneck.passed.pop_front();
            let flow = &mut self.flows[packet.flow];
            flow.receive(at, &packet);
        }
        for (index, flow) in self.flows.iter_mut().enumerate() {
            if flow.next_event() <= self.now || flow.starts <= self.now && !flow.window_full() {
                flow.act(self.now);
                if flow.starts <= self.now {
                    flow.send(self.now, &mut self.bottleneck, index);
                }
            }
        }
    }
}
