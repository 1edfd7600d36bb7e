//! What befalls hosts: crashes, pauses, clocks, disks; as the public builder says it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use ppspp_sim::adversary::{Liar, Lie};
use ppspp_sim::check::{Checker, Fact, Scene};
use ppspp_sim::{Clock, DiskSpec, Failure, HostId, HostResult, LinkSpec, Loss, Peer, QueueSpec, Scenario};

const LENGTH: u64 = 4 << 20;
/// A leecher is in the middle of its download then, which takes four seconds, and has saved its state once or twice.
const MIDDLE: Duration = Duration::from_millis(2500);
const LATER: Duration = Duration::from_secs(6);

/// One seeder and one leecher with something done to them; how the leecher fared.
fn leecher(change: impl FnOnce(Peer) -> Peer, plan: impl FnOnce(&mut Scenario, HostId)) -> HostResult {
    let mut scenario = Scenario::new("hosts", 1);
    let content = scenario.content(LENGTH);
    let link = LinkSpec::symmetric(10_000_000, Duration::from_millis(10));
    let seeder = scenario.add(Peer::seeder(content).on(link.clone()));
    let leecher = scenario.add(change(Peer::leecher(content).on(link).knows([seeder])));
    plan(&mut scenario, leecher);
    scenario.until_complete(&[leecher], Duration::from_secs(120));
    scenario.run().unwrap().results[1].clone()
}

fn took(result: &HostResult) -> Duration {
    result.completed_after.unwrap()
}

#[test]
fn a_crash_keeps_the_disk_or_loses_it() {
    let kept = leecher(
        |peer| peer,
        |scenario, host| {
            scenario.at(MIDDLE).crash(host);
            scenario.at(LATER).join(host);
        },
    );
    let lost = leecher(
        |peer| peer,
        |scenario, host| {
            scenario.at(MIDDLE).crash_and_lose(host);
            scenario.at(LATER).join(host);
        },
    );
    assert!(took(&kept) > LATER && took(&lost) > took(&kept), "{:?} {:?}", took(&kept), took(&lost));
    // What was stored is not fetched again; what was lost is.
    assert!(kept.delivered < LENGTH + LENGTH / 4, "{}", kept.delivered);
    assert!(lost.delivered > LENGTH + LENGTH / 2, "{}", lost.delivered);
}

#[test]
fn a_host_that_is_down_may_lose_its_disk() {
    let mut scenario = Scenario::new("down", 1);
    let content = scenario.content(LENGTH);
    let seeder = scenario.add(Peer::seeder(content));
    let leecher = scenario.add(Peer::leecher(content).knows([seeder]));
    scenario.at(MIDDLE).leave(leecher);
    scenario.at(LATER).crash_and_lose(leecher);
    scenario.for_time(LATER * 2);
    let result = scenario.run().unwrap().results.swap_remove(1);
    assert_eq!((result.stored, result.completed_after), (0, None));
}

#[test]
fn a_crash_loses_what_was_not_written_through() {
    let disk = DiskSpec { sync_after: Duration::from_secs(5), ..DiskSpec::default() };
    let crash = |scenario: &mut Scenario, host| {
        scenario.at(MIDDLE).crash(host);
        scenario.at(LATER).join(host);
    };
    let (careless, careful) = (leecher(|peer| peer.disk(disk), crash), leecher(|peer| peer, crash));
    assert!(careless.delivered > careful.delivered + LENGTH / 8, "{} {}", careless.delivered, careful.delivered);
}

#[test]
fn a_paused_host_goes_on_where_it_was() {
    let paused = leecher(
        |peer| peer,
        |scenario, host| {
            scenario.at(MIDDLE).pause(host);
            scenario.at(LATER).resume(host);
        },
    );
    assert!(took(&paused) > LATER && paused.delivered == LENGTH);
}

/// No octet changes on a disk, so that nobody may find one changed.
#[derive(Debug)]
struct NothingChanges;

impl Checker for NothingChanges {
    fn name(&self) -> &'static str {
        "what is read is what was stored"
    }

    fn observe(&mut self, _scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        if let Fact::Changed(range) = fact { Err(format!("{range:?} are said to have changed")) } else { Ok(()) }
    }
}

#[test]
fn who_joins_again_is_not_handed_what_was_read_before() {
    for seed in 0..3 {
        let mut scenario = Scenario::new("read-before", seed);
        let content = scenario.content(2 * LENGTH);
        let slow = DiskSpec { latency: Duration::from_secs(1), ..DiskSpec::default() };
        let seeder = scenario.add(Peer::seeder(content).disk(slow));
        let leechers = [0, 30, 60]
            .map(|millis| scenario.add(Peer::leecher(content).knows([seeder]).joins(Duration::from_millis(millis))));
        scenario.introduce(seeder, leechers);
        scenario.at(Duration::from_millis(500)).leave(seeder);
        scenario.at(Duration::from_millis(550)).join(seeder);
        scenario.check(NothingChanges);
        scenario.until_complete(&leechers, Duration::from_secs(120));
        scenario.run().unwrap();
    }
}

#[test]
fn what_was_handed_to_the_disk_is_written_after_leaving() {
    let stored = [MIDDLE, MIDDLE + Duration::from_secs(2)].map(|end| {
        let late = DiskSpec { latency: Duration::from_secs(1), ..DiskSpec::default() };
        let mut scenario = Scenario::new("written-after", 1);
        let content = scenario.content(LENGTH);
        let link = LinkSpec::symmetric(10_000_000, Duration::from_millis(10));
        let seeder = scenario.add(Peer::seeder(content).on(link.clone()));
        let leecher = scenario.add(Peer::leecher(content).on(link).knows([seeder]).disk(late));
        scenario.at(MIDDLE).leave(leecher);
        scenario.for_time(end);
        scenario.run().unwrap().results[1].stored
    });
    assert!(stored[1] > stored[0] + LENGTH / 8, "{stored:?}");
}

#[test]
fn what_was_moved_before_leaving_counts() {
    let result = leecher(
        |peer| peer,
        |scenario, host| {
            scenario.at(MIDDLE).leave(host);
            scenario.at(LATER).join(host);
        },
    );
    assert!(result.delivered >= LENGTH, "{}", result.delivered);
}

#[test]
fn who_leaves_while_it_is_paused_joins_again_at_work() {
    let result = leecher(
        |peer| peer,
        |scenario, host| {
            scenario.at(MIDDLE).pause(host);
            scenario.at(MIDDLE * 2).leave(host);
            scenario.at(LATER).join(host);
            scenario.at(LATER * 3).resume(host);
        },
    );
    assert!(took(&result) < LATER * 2, "{:?}", took(&result));
}

#[test]
fn a_host_that_moves_is_found_again() {
    let moved = leecher(
        |peer| peer,
        |scenario, host| {
            scenario.at(MIDDLE).change_address(host);
        },
    );
    assert!(moved.delivered < LENGTH + LENGTH / 8, "{}", moved.delivered);
}

#[test]
fn clocks_may_be_apart_and_drift_apart() {
    let plain = leecher(|peer| peer, |_, _| {});
    for drift_ppm in [-100_000, -500, 500, 100_000] {
        let clock = Clock { epoch_micros: 1 << 49, drift_ppm };
        let drifting = leecher(|peer| peer.clock(clock), |_, _| {});
        assert!(took(&drifting) < took(&plain) * 2, "{drift_ppm} ppm: {:?}", took(&drifting));
    }
    let mut scenario = Scenario::new("drift", 1);
    let content = scenario.content(1);
    scenario.add(Peer::seeder(content).clock(Clock { epoch_micros: 0, drift_ppm: 100_001 }));
    assert!(matches!(scenario.run(), Err(Failure::Impossible(_))));
}

#[test]
fn a_disk_takes_its_time() {
    let plain = took(&leecher(|peer| peer, |_, _| {}));
    let narrow = DiskSpec { bandwidth: Some(LENGTH / 10), ..DiskSpec::default() };
    let narrow = took(&leecher(|peer| peer.disk(narrow), |_, _| {}));
    assert!(narrow > Duration::from_secs(9), "{narrow:?}");
    let late = DiskSpec { latency: Duration::from_secs(2), ..DiskSpec::default() };
    let late = took(&leecher(|peer| peer.disk(late), |_, _| {}));
    assert!(late > plain + Duration::from_secs(1), "{late:?}");
}

/// Only the way back loses datagrams, ACKs and REQUESTs alike: next to nothing is sent twice for that, and neither do windows
/// suffer for long nor do seeders run dry.
#[test]
fn acks_and_requests_that_get_lost_cost_little() {
    const SEEDS: u32 = 8;
    for (rate, delay_ms, lost, most) in [(10, 10, 0.03, 1.5), (10, 25, 0.1, 3.0), (50, 20, 0.01, 1.25)] {
        let length = rate * 1_000_000;
        let clean = LinkSpec::symmetric(rate * 1_000_000, Duration::from_millis(delay_ms));
        let mut lossy = clean.clone();
        lossy.up.loss = Loss::Uniform(lost);
        let fetch = |link: &LinkSpec, seed: u32| {
            let mut scenario = Scenario::new("lost-acks", seed.into());
            let content = scenario.content(length);
            let seeder = scenario.add(Peer::seeder(content).on(clean.clone()));
            let leecher = scenario.add(Peer::leecher(content).on(link.clone()).knows([seeder]));
            scenario.until_complete(&[leecher], Duration::from_secs(120));
            scenario.run().unwrap().results.swap_remove(1)
        };
        let plain = took(&fetch(&clean, 1));
        let mut sum = Duration::ZERO;
        for seed in 1..=SEEDS {
            let result = fetch(&lossy, seed);
            assert!(result.duplicate_chunks * 100 < length / 1024, "{} with seed {seed}", result.duplicate_chunks);
            sum += took(&result);
        }
        let ratio = sum.as_secs_f64() / f64::from(SEEDS) / plain.as_secs_f64();
        println!("{rate} Mbit/s, {delay_ms} ms, {lost}: {ratio:.2} times {plain:?}");
        assert!(ratio < most, "{rate} Mbit/s, {delay_ms} ms, {lost}: {ratio} times {plain:?}");
    }
}

#[test]
fn a_full_disk_holds_what_it_can_until_there_is_room() {
    let full = DiskSpec { capacity: LENGTH / 2, ..DiskSpec::default() };
    let freed = |scenario: &mut Scenario, host| {
        scenario.at(LATER).change_disk(host, DiskSpec::default());
    };
    assert!(took(&leecher(|peer| peer.disk(full), freed)) > LATER);
    let mut scenario = Scenario::new("full", 1);
    let content = scenario.content(LENGTH);
    let seeder = scenario.add(Peer::seeder(content));
    let leecher = scenario.add(Peer::leecher(content).knows([seeder]).disk(full));
    scenario.until_complete(&[leecher], Duration::from_secs(20));
    let Err(Failure::Broken { violation, report, .. }) = scenario.run() else { panic!("it has no room") };
    assert_eq!((violation.rule, violation.host), ("the goal is reached in time", Some(leecher)));
    assert!(report.results[1].stored <= LENGTH / 2 && report.results[1].stored > LENGTH / 4);
}

/// A disk whose reads come back wrong: the checkers see that nothing of it is passed on, and another seeder helps out.
#[test]
fn reads_that_come_back_wrong_are_not_passed_on() {
    let mut scenario = Scenario::new("bad-reads", 1);
    let content = scenario.content(LENGTH);
    let disk = DiskSpec { corrupt_reads: 0.2, ..DiskSpec::default() };
    let seeders = [scenario.add(Peer::seeder(content).disk(disk)), scenario.add(Peer::seeder(content))];
    // Several, so that what is read to be sent was read before, and is remembered.
    let mut known = seeders.to_vec();
    for _ in 0..3 {
        let config = |config: &mut ppspp_core::EndpointConfig| config.limits.cached_groups = 4;
        let disk = DiskSpec { corrupt_reads: 0.1, ..DiskSpec::default() };
        known.push(scenario.add(Peer::leecher(content).disk(disk).knows(known.clone()).config(config)));
    }
    scenario.until_complete(&known[2..], Duration::from_secs(60));
    let report = scenario.run().unwrap();
    for leecher in &report.results[2..] {
        // What does not come back as it was is fetched again.
        assert!(leecher.delivered >= LENGTH, "{}", leecher.delivered);
    }
    assert!(report.results[0].sent < report.results[1].sent);
}

#[test]
fn fast_seeders_are_all_kept_busy_where_one_could_be_asked_for_everything() {
    const SEEDERS: u64 = 4;
    let megabits = [[100; SEEDERS as usize], [100, 10, 100, 10]];
    for rates in megabits {
        let mut scenario = Scenario::new("share", 1);
        let content = scenario.content(8 * LENGTH);
        let link = |megabits: u64| LinkSpec::symmetric(megabits * 1_000_000, Duration::from_micros(100));
        let seeders = rates.map(|rate| scenario.add(Peer::seeder(content).on(link(rate))));
        // Room for 1 MiB, half of what one of them is asked for when it is alone.
        let room = |config: &mut ppspp_core::EndpointConfig| config.limits.open_groups = 64;
        let leecher = scenario.add(Peer::leecher(content).on(link(1000)).knows(seeders).config(room));
        scenario.until_complete(&[leecher], Duration::from_secs(60));
        let results = scenario.run().unwrap().results;
        let bound = Duration::from_micros(8 * LENGTH * 8 / rates.iter().sum::<u64>());
        let took = took(&results[SEEDERS as usize]);
        println!("{took:?} of {bound:?}: {:?}", results.iter().map(|host| host.sent).collect::<Vec<_>>());
        assert!(took < bound.mul_f64(1.25), "{took:?} of {bound:?}");
        for (host, rate) in results.iter().zip(rates) {
            let even = 8 * LENGTH * rate / rates.iter().sum::<u64>();
            assert!((even / 4 * 3..even / 4 * 5).contains(&host.sent), "{} of {even}", host.sent);
        }
    }
}

/// The window of a sender doubles with each round trip, from two datagrams to two thousand here. What it is asked for is
/// to double as fast.
#[test]
fn a_slow_start_does_not_wait_for_requests() {
    const RTT: Duration = Duration::from_millis(160);
    let link = LinkSpec::symmetric(200_000_000, RTT / 4);
    let mut scenario = Scenario::new("far", 1);
    let content = scenario.content(LENGTH / 2);
    let seeder = scenario.add(Peer::seeder(content).on(link.clone()));
    let leecher = scenario.add(Peer::leecher(content).on(link).knows([seeder]));
    scenario.until_complete(&[leecher], Duration::from_secs(60));
    let took = took(&scenario.run().unwrap().results[1]);
    println!("{:.1} round trips", took.as_secs_f64() / RTT.as_secs_f64());
    // Two until the first chunks are here, and ten doublings.
    assert!(took < RTT * 13, "{took:?}");
}

/// Seeders faster than the host that takes in what they send. What waits fills its socket's buffer long before it takes as
/// long as congestion control would let it.
#[test]
fn no_more_is_asked_for_than_the_receive_buffer_holds() {
    for (seeders, buffer) in [(1, 2 << 20), (4, 2 << 20), (4, 4 << 20)] {
        let mut scenario = Scenario::new("fast", 1);
        let content = scenario.content(16 * LENGTH);
        let delay = Duration::from_micros(50);
        let fast = LinkSpec::symmetric(10_000_000_000, delay);
        let mut slower = LinkSpec::symmetric(4_000_000_000, delay);
        slower.down.queue = QueueSpec::DropTail { bytes: buffer };
        let seeders: Vec<_> = (0..seeders).map(|_| scenario.add(Peer::seeder(content).on(fast.clone()))).collect();
        let config = |config: &mut ppspp_core::EndpointConfig| config.receive_buffer = buffer as usize;
        let leecher = scenario.add(Peer::leecher(content).on(slower).knows(seeders).config(config));
        scenario.until_complete(&[leecher], Duration::from_secs(60));
        let results = scenario.run().unwrap().results;
        let (leecher, seeders) = results.split_last().unwrap();
        let lost: u64 = seeders.iter().map(|seeder| seeder.chunks_resent).sum();
        let took = took(leecher);
        println!("{} seeders, {buffer} bytes: {took:?}, {lost} chunks sent again", seeders.len());
        assert_eq!(lost, 0);
        let bound = Duration::from_micros(16 * LENGTH * 8 / 4000);
        assert!(took < bound.mul_f64(1.15), "{took:?} of {bound:?}");
    }
}

/// The same among leechers, where a seeder is asked for more than keeps it busy, so that it has a choice.
#[test]
fn a_choice_of_what_to_send_fits_into_the_receive_buffer() {
    let mut scenario = Scenario::new("fast-choice", 1);
    let content = scenario.content(16 * LENGTH);
    let delay = Duration::from_micros(50);
    let mut slower = LinkSpec::symmetric(2_000_000_000, delay);
    slower.down.queue = QueueSpec::DropTail { bytes: 2 << 20 };
    let mut known = vec![scenario.add(Peer::seeder(content).on(LinkSpec::symmetric(10_000_000_000, delay)))];
    for _ in 0..3 {
        let config = |config: &mut ppspp_core::EndpointConfig| config.receive_buffer = 2 << 20;
        known.push(scenario.add(Peer::leecher(content).on(slower.clone()).knows(known.clone()).config(config)));
    }
    scenario.until_complete(&known[1..], Duration::from_secs(60));
    let results = scenario.run().unwrap().results;
    let lost: Vec<u64> = results.iter().map(|host| host.chunks_resent).collect();
    let slowest = results[1..].iter().map(took).max().unwrap();
    println!("{slowest:?}, chunks sent again: {lost:?}");
    assert_eq!(lost[0], 0, "{lost:?}");
    let bound = Duration::from_micros(16 * LENGTH * 8 / 2000);
    assert!(slowest < bound.mul_f64(1.3), "{slowest:?} of {bound:?}");
}

#[test]
fn who_delivers_nothing_is_kept_no_room_for() {
    let took = [0, 12].map(|liars| {
        let mut scenario = Scenario::new("boasters", 1);
        let content = scenario.content(4 * LENGTH);
        let link = LinkSpec::symmetric(100_000_000, Duration::from_millis(20));
        let mut known = vec![scenario.add(Peer::seeder(content).on(link.clone()))];
        for _ in 0..liars {
            let liar = Liar::new(Lie::HaveOnly, scenario.lookup(content).unwrap().clone());
            known.push(scenario.add_node(liar, link.clone(), &[]));
        }
        // The path holds a quarter of the room, and an equal share is a thirteenth of it.
        let room = |config: &mut ppspp_core::EndpointConfig| config.limits.open_groups = 256;
        let leecher = scenario.add(Peer::leecher(content).on(link).knows(known).config(room));
        scenario.until_complete(&[leecher], Duration::from_secs(60));
        took(scenario.run().unwrap().results.last().unwrap())
    });
    println!("{took:?}");
    assert!(took[1] < took[0].mul_f64(1.5), "{took:?}");
}

/// Everyone on fast links: the seeder's uplink is the limit, so that leechers have to give each other what they have at
/// once. What they announce is taken back from the seeder, which has sent most of it by then.
#[test]
fn on_fast_links_leechers_serve_each_other_and_little_comes_twice() {
    // Rate in Mbit/s, one-way delay in microseconds, leechers, length, and the time in hundredths of the fluid bound.
    let swarms = [(1000, 2000, 3, 16, 190), (200, 1000, 8, 8, 150), (100, 10_000, 8, 4, 230)];
    for (megabits, delay, leechers, length, most) in swarms {
        let mut scenario = Scenario::new("fast-swarm", 1);
        let content = scenario.content(length * LENGTH);
        let link = LinkSpec::symmetric(megabits * 1_000_000, Duration::from_micros(delay));
        let mut known = vec![scenario.add(Peer::seeder(content).on(link.clone()))];
        for _ in 0..leechers {
            known.push(scenario.add(Peer::leecher(content).on(link.clone()).knows(known.clone())));
        }
        scenario.until_complete(&known[1..], Duration::from_secs(60));
        let report = scenario.run().unwrap();
        let (twice, last) = (report.duplicates_percent, report.completion.max);
        let bound = Duration::from_micros(length * LENGTH * 8 / megabits);
        let copies = report.results[0].sent * 100 / (length * LENGTH);
        println!(
            "{megabits} Mbit/s, {delay} us: {last:?} of {bound:?}, {copies} % sent by the seeder, {twice:.3} % twice"
        );
        assert!(twice < 1.0, "{twice} % came twice");
        assert!(copies < 140, "the seeder sent {copies} % of one copy");
        assert!(last < bound * most / 100, "{last:?} of {bound:?}");
    }
}
