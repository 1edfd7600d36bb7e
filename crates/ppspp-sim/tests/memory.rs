//! Memory of endpoints, counted by an allocator of this test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ppspp_sim::scenarios::{Options, find};
use ppspp_sim::{Checker, Fact, Failure, HostId, LinkSpec, Peer, Scenario, Scene};

/// Bytes that one idle channel may take, as `Limits::channels` says.
const IDLE: u64 = 2048;

fn meter(call: &mut dyn FnMut()) -> i64 {
    allocation_counter::measure(call).bytes_current
}

#[test]
fn endpoints_stay_within_their_bounds() {
    for name in ["flash-crowd", "slow-peer", "liars", "handshake-flood", "bit-rot"] {
        let options = Options { peers: Some(6), size: Some(1 << 19), ..Options::seed(1) };
        let mut scenario = find(name).unwrap().build(&options);
        scenario.without_checkers();
        scenario.measure_memory(meter);
        if let Err(failure) = scenario.run() {
            panic!("{name}: {failure}");
        }
    }
}

#[test]
fn endpoints_stay_within_whatever_bounds_are_drawn() {
    for seed in 0..100 {
        let mut scenario = ppspp_sim::fuzz::draw(seed);
        scenario.measure_memory(meter);
        if let Err(failure) = scenario.run() {
            panic!("{failure}");
        }
    }
}

#[test]
fn an_endpoint_that_only_grows_is_noticed() {
    let mut scenario = serving(2).0;
    scenario.measure_memory(|call| meter(call) + 10_000);
    let Err(Failure::Broken { violation, .. }) = scenario.run() else { panic!("nobody noticed") };
    assert_eq!(violation.rule, "memory stays within its bound");
}

/// Takes note of what a host holds, and for how many channels.
struct Held {
    host: HostId,
    last: Arc<Mutex<(u64, u64)>>,
}

impl Checker for Held {
    fn name(&self) -> &'static str {
        "what is held is known"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        if let Fact::Sampled(peers) = fact
            && scene.host == self.host
        {
            let mut last = self.last.lock().map_err(|_| "a reader panicked")?;
            *last = (scene.memory.ok_or("nothing is measured")?, peers.len() as u64);
        }
        Ok(())
    }
}

/// A seeder of four groups that serves `leechers`, and two minutes in which nothing happens.
fn serving(leechers: usize) -> (Scenario, HostId) {
    let mut scenario = Scenario::new("idle", 1);
    let content = scenario.content(1 << 16);
    let seeder = scenario.add(Peer::seeder(content).on(LinkSpec::lan()));
    for _ in 0..leechers {
        scenario.add(Peer::leecher(content).on(LinkSpec::fibre()).knows([seeder]));
    }
    scenario.for_time(Duration::from_secs(150));
    (scenario, seeder)
}

/// What the seeder holds then, and how many channels it has.
fn after_serving(leechers: usize) -> (u64, u64) {
    let (mut scenario, host) = serving(leechers);
    let last = Arc::new(Mutex::new((0, 0)));
    scenario.measure_memory(meter);
    scenario.check(Held { host, last: last.clone() });
    scenario.run().unwrap();
    Arc::into_inner(last).unwrap().into_inner().unwrap()
}

#[test]
fn an_idle_channel_takes_two_kibibytes_at_most() {
    let (few, many) = (after_serving(10), after_serving(210));
    assert_eq!([few.1, many.1], [10, 210]);
    let each = (many.0 - few.0) / 200;
    assert!(each <= IDLE, "{each} bytes for each channel");
}
