//! What the network does to packets, seen by hosts of one's own that send and listen.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ppspp_sim::{
    CoDelSpec, Hand, HostId, LinkSpec, Loss, NatKind, NatSpec, Node, Packet, PipeSpec, QueueSpec, Report, Scenario,
    SimTime,
};

const MBIT: u64 = 1_000_000;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Sends numbered packets at a steady pace, each to everyone it knows.
#[derive(Debug)]
struct Metronome {
    pace: Duration,
    len: usize,
    left: u32,
    number: u32,
    next: SimTime,
}

impl Metronome {
    fn new(pace: Duration, len: usize, left: u32) -> Self {
        Self { pace, len, left, number: 0, next: SimTime::ZERO }
    }
}

impl Node for Metronome {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, _packet: &Packet, _hand: &mut Hand<'_>) {}

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        let mut payload = self.number.to_be_bytes().to_vec();
        payload.resize(self.len, 0);
        for &to in hand.knows() {
            hand.send(to, payload.clone());
        }
        self.number += 1;
        self.left -= 1;
        self.next = hand.now() + self.pace;
    }

    fn wake_at(&self) -> Option<SimTime> {
        (self.left > 0).then_some(self.next)
    }
}

/// What a listener heard, and when.
type Heard = Arc<Mutex<Vec<(SimTime, Packet)>>>;

/// Takes note of what comes; sends an answer after `answers`, if that is set.
#[derive(Debug, Default)]
struct Ear {
    heard: Heard,
    answers: Option<Duration>,
    due: Vec<(SimTime, SocketAddrV4)>,
}

impl Node for Ear {
    fn start(&mut self, _hand: &mut Hand<'_>) {}

    fn on_packet(&mut self, packet: &Packet, hand: &mut Hand<'_>) {
        self.heard.lock().unwrap().push((hand.now(), packet.clone()));
        self.due.extend(self.answers.map(|after| (hand.now() + after, packet.source)));
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        let now = hand.now();
        for (_, to) in self.due.extract_if(.., |(at, _)| *at <= now) {
            hand.send(to, b"answer".to_vec());
        }
    }

    fn wake_at(&self) -> Option<SimTime> {
        self.due.iter().map(|(at, _)| *at).min()
    }
}

fn number(packet: &Packet) -> u32 {
    u32::from_be_bytes(packet.payload[..4].try_into().unwrap())
}

/// A link on which nothing takes time.
fn free() -> LinkSpec {
    LinkSpec { up: PipeSpec::free(Duration::ZERO), down: PipeSpec::free(Duration::ZERO) }
}

/// Adds a listener behind `link`.
fn ear(scenario: &mut Scenario, link: LinkSpec) -> (HostId, Heard) {
    let heard = Heard::default();
    let ear = Ear { heard: heard.clone(), ..Ear::default() };
    (scenario.add_node(ear, link, &[]), heard)
}

/// What comes of 400 packets of `len` bytes, one in each millisecond, that go up `link`.
fn train(link: LinkSpec, len: usize) -> (Report, Vec<(SimTime, Packet)>) {
    train_of(400, link, len)
}

fn train_of(packets: u32, link: LinkSpec, len: usize) -> (Report, Vec<(SimTime, Packet)>) {
    let mut scenario = Scenario::new("train", 1);
    let (listener, heard) = ear(&mut scenario, free());
    scenario.add_node(Metronome::new(millis(1), len, packets), link, &[listener]);
    scenario.for_time(Duration::from_secs(20));
    let report = scenario.run().unwrap();
    let heard = heard.lock().unwrap().clone();
    (report, heard)
}

fn up(change: impl Fn(&mut PipeSpec)) -> LinkSpec {
    let mut link = free();
    link.up.delay = millis(10);
    change(&mut link.up);
    link
}

#[test]
fn packets_get_lost_alone_or_in_bursts() {
    let bursts = |heard: &[(SimTime, Packet)]| {
        heard.windows(2).filter(|pair| number(&pair[1].1) != number(&pair[0].1) + 1).count()
    };
    let (alone, heard) = train(up(|pipe| pipe.loss = Loss::Uniform(0.25)), 100);
    assert!((70..130).contains(&alone.packets.lost), "{}", alone.packets.lost);
    assert_eq!(heard.len() as u64 + alone.packets.lost, 400);
    let gaps = bursts(&heard);
    let (together, heard) = train(up(|pipe| pipe.loss = Loss::gilbert_elliott(0.03, 0.1, 1.0)), 100);
    assert!(together.packets.lost > 40 && bursts(&heard) * 3 < gaps, "{} in {}", together.packets.lost, bursts(&heard));
}

#[test]
fn packets_overtake_each_other_only_where_they_may() {
    let order = |link| train(link, 100).1.iter().map(|(_, packet)| number(packet)).collect::<Vec<_>>();
    let steady = order(up(|pipe| pipe.jitter = millis(5)));
    assert_eq!(steady, (0..400).collect::<Vec<_>>());
    let mut loose = order(up(|pipe| pipe.reorder = 0.1));
    assert!(!loose.is_sorted());
    loose.sort_unstable();
    assert_eq!(loose, steady);
}

#[test]
fn packets_arrive_twice() {
    let (report, heard) = train(up(|pipe| pipe.duplicate = 0.1), 100);
    assert!((20..60).contains(&report.packets.doubled), "{}", report.packets.doubled);
    assert_eq!(heard.len() as u64, 400 + report.packets.doubled);
}

#[test]
fn a_bit_flips_at_most() {
    let (_, heard) = train(up(|pipe| pipe.corrupt = 0.2), 100);
    let flipped = heard.iter().enumerate().map(|(index, (_, packet))| {
        let mut sent = (index as u32).to_be_bytes().to_vec();
        sent.resize(100, 0);
        sent.iter().zip(&packet.payload).map(|(sent, came)| (sent ^ came).count_ones()).sum::<u32>()
    });
    let flipped: Vec<u32> = flipped.collect();
    assert!(flipped.iter().all(|&bits| bits <= 1));
    assert!((50..110).contains(&flipped.iter().sum::<u32>()));
}

#[test]
fn what_exceeds_the_mtu_is_dropped() {
    let narrow = || up(|pipe| pipe.mtu = 600);
    assert_eq!(train(narrow(), 572).1.len(), 400);
    let (report, heard) = train(narrow(), 573);
    assert_eq!((report.packets.too_large, heard.len()), (400, 0));
}

#[test]
fn up_and_down_have_their_own_rates() {
    // 400 packets of 1,000 wire bytes: 3.2 s at 1 Mbit/s, 0.32 s at 10 Mbit/s.
    let queue = millis(4000);
    let slow = PipeSpec::new(MBIT, Duration::ZERO).queue_of(queue);
    let fast = PipeSpec::new(10 * MBIT, Duration::ZERO).queue_of(queue);
    let link = LinkSpec { up: slow, down: fast };
    let last = |heard: &[(SimTime, Packet)]| heard.last().unwrap().0.as_nanos() / 1_000_000;
    assert_eq!(last(&train(link.clone(), 972).1), 3200);
    let mut scenario = Scenario::new("down", 1);
    let (listener, heard) = ear(&mut scenario, link);
    scenario.add_node(Metronome::new(Duration::ZERO, 972, 400), free(), &[listener]);
    scenario.for_time(Duration::from_secs(5));
    scenario.run().unwrap();
    assert_eq!(last(&heard.lock().unwrap()), 320);
}

#[test]
fn bytes_are_carried_when_they_leave_the_queue() {
    // 50,000 bytes come at once and leave within 400 ms. What comes after 250 ms would leave at twice the rate.
    let slow = LinkSpec { down: PipeSpec::new(MBIT, Duration::ZERO).queue_of(millis(1000)), ..free() };
    let fast = LinkSpec { down: PipeSpec::new(2 * MBIT, Duration::ZERO).queue_of(millis(1000)), ..free() };
    let mut scenario = Scenario::new("burst", 1);
    let (listener, _) = ear(&mut scenario, slow);
    scenario.add_node(Metronome::new(Duration::ZERO, 972, 50), free(), &[listener]);
    scenario.at(millis(250)).change_link(listener, fast);
    scenario.keep_progress();
    scenario.for_time(millis(700));
    let progress = scenario.run().unwrap().progress.unwrap();
    let carried: Vec<u64> = progress.down().iter().map(|uses| uses.carried).collect();
    let capacity: Vec<u64> = progress.down().iter().map(|uses| uses.capacity).collect();
    assert_eq!(carried[..7], [0, 12_500, 12_500, 12_500, 12_500, 0, 0]);
    assert_eq!(capacity[..7], [0, 12_500, 12_500, 12_500, 12_500, 25_000, 25_000]);
}

#[test]
fn what_is_dropped_did_not_wait() {
    // The queue holds 40 ms and an eighth of what comes.
    let (report, _) =
        train(up(|pipe| (pipe.rate, pipe.queue) = (Some(MBIT), QueueSpec::DropTail { bytes: 5000 })), 972);
    assert!(report.packets.overflowed > 300, "{}", report.packets.overflowed);
    assert!(report.queue_mean_ms > 30.0 && report.queue_max_ms <= 40.0, "{}", report.queue_mean_ms);
}

#[test]
fn codel_keeps_a_queue_short_that_drop_tail_lets_stand() {
    // A twentieth more than the link carries, for four seconds.
    let link = |queue| up(|pipe| (pipe.rate, pipe.queue) = (Some(7_600_000), queue));
    let tail = train_of(4000, link(QueueSpec::DropTail { bytes: 150_000 }), 972).0;
    let codel = train_of(4000, link(QueueSpec::CoDel(CoDelSpec { bytes: 150_000, ..CoDelSpec::default() })), 972).0;
    assert!(codel.queue_mean_ms < tail.queue_mean_ms * 0.5, "{} {}", codel.queue_mean_ms, tail.queue_mean_ms);
    assert!(codel.packets.overflowed > 0);
}

#[test]
fn codel_drops_no_packet_behind_a_lone_one() {
    // As much as the link carries, and 6 ms for once: from then on each packet waits for so long behind the one before.
    let queue = QueueSpec::CoDel(CoDelSpec::default());
    let mut scenario = Scenario::new("lone", 1);
    let link = LinkSpec { down: PipeSpec { queue, ..PipeSpec::new(MBIT, Duration::ZERO) }, ..free() };
    let (listener, heard) = ear(&mut scenario, link);
    scenario.add_node(Metronome::new(millis(8), 972, 500), free(), &[listener]);
    scenario.add_node(Metronome::new(millis(1), 722, 1), free(), &[listener]);
    scenario.for_time(Duration::from_secs(5));
    let report = scenario.run().unwrap();
    assert_eq!((heard.lock().unwrap().len(), report.packets.overflowed), (501, 0));
    assert!(report.queue_mean_ms > 5.0, "{}", report.queue_mean_ms);
}

#[test]
fn a_partition_may_be_one_way_and_heals() {
    let mut scenario = Scenario::new("cut", 1);
    let (here, one) = ear(&mut scenario, free());
    let (there, other) = ear(&mut scenario, free());
    let east = scenario.add_node(Metronome::new(millis(100), 50, 100), free(), &[there]);
    let west = scenario.add_node(Metronome::new(millis(100), 50, 100), free(), &[here]);
    scenario.at(millis(2000)).partition_one_way(&[east], &[there]);
    scenario.at(millis(4000)).heal();
    scenario.at(millis(6000)).partition(&[east, west], &[here, there]);
    scenario.at(millis(7000)).heal();
    scenario.for_time(Duration::from_secs(11));
    let report = scenario.run().unwrap();
    assert_eq!([one.lock().unwrap().len(), other.lock().unwrap().len()], [90, 70]);
    assert_eq!(report.packets.partitioned, 40);
}

/// Sends one packet from behind a NAT and is answered after `wait`; the source ports seen, and whether the answers came.
fn answered(kind: NatKind, wait: Duration) -> (Vec<u16>, usize) {
    let mut scenario = Scenario::new("nat", 1);
    let spec = NatSpec { timeout: Duration::from_secs(30), ..NatSpec::new(kind) };
    let inside = scenario.nat(free(), spec);
    let heard = [Heard::default(), Heard::default()];
    let ears = heard.clone().map(|heard| {
        let ear = Ear { heard, answers: Some(wait), due: Vec::new() };
        scenario.add_node(ear, free(), &[])
    });
    scenario.add_node_behind(Metronome::new(millis(1), 50, 1), inside, &ears);
    scenario.for_time(Duration::from_secs(100));
    let report = scenario.run().unwrap();
    let ports = heard.iter().map(|heard| heard.lock().unwrap()[0].1.source.port()).collect();
    (ports, report.packets.delivered as usize - 2)
}

#[test]
fn a_nat_maps_and_forgets() {
    let (ports, answers) = answered(NatKind::Symmetric, Duration::from_secs(29));
    assert!(ports[0] != ports[1] && answers == 2);
    let (ports, answers) = answered(NatKind::FullCone, Duration::from_secs(29));
    assert!(ports[0] == ports[1] && answers == 2);
    for kind in [NatKind::FullCone, NatKind::Restricted, NatKind::PortRestricted, NatKind::Symmetric] {
        assert_eq!(answered(kind, Duration::from_secs(31)).1, 0, "{kind:?}");
    }
}
