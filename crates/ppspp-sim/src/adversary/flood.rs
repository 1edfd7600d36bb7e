//! A flood of opening HANDSHAKEs from addresses that are not the sender's.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ppspp_core::wire::{ChannelId, Message};

use super::wire::{datagram, handshake};
use crate::content::Content;
use crate::node::{Hand, Node};
use crate::packet::Packet;
use crate::time::SimTime;

/// Sends opening HANDSHAKEs to all hosts it knows in turn, each from another address at which nobody is.
#[derive(Debug)]
pub struct HandshakeFlood {
    content: Content,
    interval: Duration,
    next: SimTime,
    until: SimTime,
    count: u32,
}

impl HandshakeFlood {
    /// `rate` handshakes in a second, between two times after the beginning.
    pub fn new(content: Content, rate: u32, from: Duration, until: Duration) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self { content, interval, next: SimTime::ZERO + from, until: SimTime::ZERO + until, count: 0 }
    }
}

impl Node for HandshakeFlood {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, _packet: &Packet, _hand: &mut Hand<'_>) {}

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        self.next = self.next + self.interval;
        self.count += 1;
        let draw = hand.rng().number();
        // 172.16.0.0/12: nobody is there.
        let source = Ipv4Addr::from(0xac10_0000 | (draw as u32 & 0x000f_ffff));
        let source = SocketAddrV4::new(source, 1024 + (draw >> 48) as u16 % 60_000);
        let opening = Message::Handshake(handshake(&self.content, (draw >> 20) as u32 | 1, true));
        let knows = hand.knows();
        if let Some(&to) = knows.get(self.count as usize % knows.len().max(1)) {
            hand.send_from(source, to, datagram(&self.content, ChannelId::ZERO, &[opening]));
        }
    }

    fn wake_at(&self) -> Option<SimTime> {
        (self.next < self.until).then_some(self.next)
    }
}
