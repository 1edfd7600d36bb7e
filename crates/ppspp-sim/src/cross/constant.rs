//! A flow that sends at a constant rate, whatever happens to it, and the end it goes to.

use std::time::Duration;

use crate::node::{Hand, Node};
use crate::packet::Packet;
use crate::time::SimTime;

/// Wire bytes of each packet.
const PACKET: u32 = 1200;

/// Sends to the first host it knows at a constant rate, from one time to another.
#[derive(Clone, Debug)]
pub struct ConstantRate {
    interval: Duration,
    from: SimTime,
    until: SimTime,
    next: SimTime,
}

impl ConstantRate {
    /// `rate` wire bits per second, at least one, between two times after the beginning.
    pub fn new(rate: u64, from: Duration, until: Duration) -> Self {
        let interval = Duration::from_nanos(u64::from(PACKET) * 8_000_000_000 / rate.max(1));
        let from = SimTime::ZERO + from;
        Self { interval, from, until: SimTime::ZERO + until, next: from }
    }
}

impl Node for ConstantRate {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, _packet: &Packet, _hand: &mut Hand<'_>) {}

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if let Some(&to) = hand.knows().first() {
            hand.send_sized(to, PACKET, Vec::new());
        }
        self.next = self.next.max(self.from) + self.interval;
    }

    fn wake_at(&self) -> Option<SimTime> {
        (self.next < self.until).then_some(self.next)
    }
}

/// Takes whatever comes, and counts its wire bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sink {
    bytes: u64,
}

impl Node for Sink {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, packet: &Packet, _hand: &mut Hand<'_>) {
        self.bytes += u64::from(packet.wire);
    }

    fn on_wake(&mut self, _hand: &mut Hand<'_>) {}

    fn wake_at(&self) -> Option<SimTime> {
        None
    }

    fn delivered(&self) -> u64 {
        self.bytes
    }
}
