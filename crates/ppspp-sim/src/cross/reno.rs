//! A download over TCP as far as links can tell: New Reno (RFC 5681, RFC 6582), delayed acknowledgements, no options.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::node::{Hand, Node};
use crate::packet::Packet;
use crate::time::SimTime;

/// Wire bytes of a full segment, and the content bytes in it.
const SEGMENT: u32 = 1500;
const PAYLOAD: u64 = 1448;
/// Wire bytes of an acknowledgement.
const ACK: u32 = 52;
/// Windows are counted in thousandths of a segment.
const ONE: u64 = 1000;
/// Initial window (RFC 6928).
const INITIAL: u64 = 10 * ONE;
/// Most segments in flight: what a receive window of 4 MiB allows.
const MOST: u64 = 2896 * ONE;
const MIN_RTO: Duration = Duration::from_millis(200);
const MAX_RTO: Duration = Duration::from_secs(60);
/// How long an acknowledgement may wait for a second segment (RFC 5681 §4.2).
const DELAY: Duration = Duration::from_millis(40);

fn number(packet: &Packet) -> Option<u64> {
    packet.payload.as_slice().try_into().ok().map(u64::from_be_bytes)
}

/// The sending end: sends without end to the first host it knows.
#[derive(Debug)]
pub struct RenoSender {
    begins: SimTime,
    /// The first segment that is not acknowledged, the next to be sent, and the highest ever sent.
    acked: u64,
    next: u64,
    highest: u64,
    window: u64,
    threshold: u64,
    duplicates: u32,
    /// Recovery lasts until this segment is acknowledged.
    recover: Option<u64>,
    /// The segment whose round trip is measured, and when it left.
    timed: Option<(u64, SimTime)>,
    srtt: Option<Duration>,
    variation: Duration,
    rto: Duration,
    timer: Option<SimTime>,
    started: bool,
}

impl RenoSender {
    /// A flow that begins so long after the beginning of the run.
    pub fn new(begins: Duration) -> Self {
        Self {
            begins: SimTime::ZERO + begins,
            acked: 0,
            next: 0,
            highest: 0,
            window: INITIAL,
            threshold: u64::MAX,
            duplicates: 0,
            recover: None,
            timed: None,
            srtt: None,
            variation: Duration::ZERO,
            rto: Duration::from_secs(1),
            timer: None,
            started: false,
        }
    }

    fn send_window(&mut self, hand: &mut Hand<'_>) {
        while self.next < self.acked + self.window.min(MOST) / ONE {
            if self.timed.is_none() && self.next >= self.highest {
                self.timed = Some((self.next, hand.now()));
            }
            self.transmit(self.next, hand);
            self.next += 1;
            self.highest = self.highest.max(self.next);
        }
    }

    fn transmit(&mut self, segment: u64, hand: &mut Hand<'_>) {
        if let Some(&to) = hand.knows().first() {
            hand.send_sized(to, SEGMENT, segment.to_be_bytes().to_vec());
        }
        self.timer.get_or_insert(hand.now() + self.rto);
    }

    fn on_new(&mut self, upto: u64, hand: &mut Hand<'_>) {
        let newly = upto - self.acked;
        if let Some((segment, left)) = self.timed
            && segment < upto
        {
            self.timed = None;
            self.measure(hand.now().since(left));
        }
        self.acked = upto;
        self.next = self.next.max(upto);
        self.duplicates = 0;
        match self.recover {
            Some(recover) if upto < recover => {
                // A partial acknowledgement: the next hole is resent (RFC 6582 §3.2).
                self.window = self.window.saturating_sub(newly * ONE).max(ONE) + ONE;
                self.transmit(upto, hand);
            }
            Some(_) => {
                self.recover = None;
                self.window = self.threshold;
            }
            None if self.window < self.threshold => self.window += newly.min(2) * ONE,
            None => self.window += (newly * ONE * ONE / self.window).max(1),
        }
        self.window = self.window.min(MOST);
        self.timer = (self.acked < self.next).then(|| hand.now() + self.rto);
    }

    fn on_duplicate(&mut self, hand: &mut Hand<'_>) {
        self.duplicates += 1;
        if self.recover.is_some() {
            self.window += ONE;
        } else if self.duplicates == 3 {
            self.halve();
            self.window = self.threshold + 3 * ONE;
            self.recover = Some(self.next);
            self.timed = None;
            self.transmit(self.acked, hand);
        }
    }

    fn halve(&mut self) {
        self.threshold = ((self.next - self.acked) * ONE / 2).max(2 * ONE);
    }

    /// RFC 6298 §2.
    fn measure(&mut self, sample: Duration) {
        let srtt = self.srtt.map_or(sample, |srtt| srtt * 7 / 8 + sample / 8);
        let error = self.srtt.map_or(sample / 2, |srtt| srtt.abs_diff(sample));
        self.variation = if self.srtt.is_some() { self.variation * 3 / 4 + error / 4 } else { error };
        self.srtt = Some(srtt);
        self.rto = (srtt + self.variation * 4).clamp(MIN_RTO, MAX_RTO);
    }
}

impl Node for RenoSender {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, packet: &Packet, hand: &mut Hand<'_>) {
        let Some(upto) = number(packet) else { return };
        if upto > self.acked && upto <= self.highest {
            self.on_new(upto, hand);
        } else if upto == self.acked && self.acked < self.next {
            self.on_duplicate(hand);
        }
        self.send_window(hand);
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if !self.started {
            self.started = true;
        } else if self.timer.is_some_and(|at| at <= hand.now()) {
            self.halve();
            (self.window, self.next, self.recover, self.timed) = (ONE, self.acked, None, None);
            self.duplicates = 0;
            self.rto = (self.rto * 2).min(MAX_RTO);
            self.timer = None;
        }
        self.send_window(hand);
    }

    fn wake_at(&self) -> Option<SimTime> {
        if self.started { self.timer } else { Some(self.begins) }
    }
}

/// The receiving end: counts content bytes in order.
#[derive(Debug, Default)]
pub struct RenoReceiver {
    expected: u64,
    early: BTreeSet<u64>,
    /// An acknowledgement that waits, and to whom.
    waiting: Option<(SimTime, std::net::SocketAddrV4)>,
}

impl RenoReceiver {
    fn acknowledge(&mut self, to: std::net::SocketAddrV4, hand: &mut Hand<'_>) {
        self.waiting = None;
        hand.send_sized(to, ACK, self.expected.to_be_bytes().to_vec());
    }
}

impl Node for RenoReceiver {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, packet: &Packet, hand: &mut Hand<'_>) {
        let Some(segment) = number(packet) else { return };
        let in_order = segment == self.expected && self.early.is_empty();
        if segment >= self.expected {
            self.early.insert(segment);
        }
        while self.early.remove(&self.expected) {
            self.expected += 1;
        }
        if in_order && self.waiting.is_none() {
            self.waiting = Some((hand.now() + DELAY, packet.source));
        } else {
            self.acknowledge(packet.source, hand);
        }
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if let Some((at, to)) = self.waiting
            && at <= hand.now()
        {
            self.acknowledge(to, hand);
        }
    }

    fn wake_at(&self) -> Option<SimTime> {
        self.waiting.map(|(at, _)| at)
    }

    fn delivered(&self) -> u64 {
        self.expected * PAYLOAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{LinkSpec, Loss};
    use crate::scenario::Scenario;

    const MBIT: u64 = 1_000_000;

    /// Content bits per second over a link of 10 Mbit/s and 50 ms round trip, after the first ten seconds.
    fn rate(link: LinkSpec) -> u64 {
        let mut scenario = Scenario::new("reno", 1);
        let receiver = scenario.add_node(RenoReceiver::default(), link, &[]);
        scenario.add_node(RenoSender::new(Duration::ZERO), LinkSpec::lan(), &[receiver]);
        scenario.keep_progress();
        scenario.for_time(Duration::from_secs(61));
        let progress = scenario.run().unwrap().progress.unwrap();
        let received = |second| progress.stored_at(receiver, SimTime::ZERO + Duration::from_secs(second));
        (received(60) - received(10)) * 8 / 50
    }

    #[test]
    fn a_lone_flow_fills_a_buffered_link() {
        let rate = rate(LinkSpec::symmetric(10 * MBIT, Duration::from_millis(25)));
        assert!((9_300_000..=9_700_000).contains(&rate), "{rate}");
    }

    #[test]
    fn random_loss_slows_it_as_it_slows_tcp() {
        let link =
            LinkSpec::symmetric(100 * MBIT, Duration::from_millis(25)).with(|pipe| pipe.loss = Loss::Uniform(0.01));
        // The square root law with both directions losing: about 1.2 · 1448 · 8 / (0.05 · 0.1) = 2.8 Mbit/s.
        let rate = rate(link);
        assert!((1_000_000..=3_500_000).contains(&rate), "{rate}");
    }
}
