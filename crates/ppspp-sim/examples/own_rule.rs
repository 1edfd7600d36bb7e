//! A rule and a host of one's own: nobody asks a peer that only ever says hello.
//!
//! `cargo run --release -p ppspp-sim --example own_rule`

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::wire::Message;
use ppspp_sim::{Checker, Fact, Hand, LinkSpec, Node, Packet, Peer, Scenario, Scene, SimTime};

/// Counts REQUESTs to one address and allows a few.
#[derive(Debug)]
struct HardlyAsked {
    address: SocketAddr,
    left: u32,
}

impl Checker for HardlyAsked {
    fn name(&self) -> &'static str {
        "a peer that has nothing is hardly asked"
    }

    fn observe(&mut self, _scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        if let Fact::Said { to, message: Message::Request(_) } = fact
            && *to == self.address
        {
            self.left = self.left.checked_sub(1).ok_or("it was asked again and again")?;
        }
        Ok(())
    }
}

/// Sends a few octets that mean nothing, once in a second.
#[derive(Debug, Default)]
struct Hello {
    next: SimTime,
}

impl Node for Hello {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, _packet: &Packet, _hand: &mut Hand<'_>) {}

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        self.next = hand.now() + Duration::from_secs(1);
        for &peer in hand.knows() {
            hand.send(peer, b"hello".to_vec());
        }
    }

    fn wake_at(&self) -> Option<SimTime> {
        Some(self.next)
    }
}

fn main() -> Result<(), ppspp_sim::Failure> {
    let mut scenario = Scenario::new("own-rule", 1);
    let content = scenario.content(1 << 20);
    let seeder = scenario.add(Peer::seeder(content));
    let leecher = scenario.add(Peer::leecher(content).on(LinkSpec::cable()).knows([seeder]));
    let hello = scenario.add_node(Hello::default(), LinkSpec::dsl(), &[seeder, leecher]);
    scenario.introduce(leecher, [hello]);
    // Addresses are given out in the order of adding, from 10.0.0.1 on.
    scenario.check(HardlyAsked { address: SocketAddr::from(([10, 0, 0, 3], 6778)), left: 3 });
    scenario.until_complete(&[leecher], Duration::from_secs(60));
    let report = scenario.run()?;
    drop(write!(std::io::stdout(), "{report}"));
    Ok(())
}
