//! RFC 7574 §3.9: upload slots, who gets them, and what is lost on the way.

use std::collections::BTreeSet;
use std::iter;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ppspp_core::chunk::{ChunkRange, RangeSet};
use ppspp_core::wire::Message;
use ppspp_core::{Candidate, Content, EndpointConfig, Grant, Order, Round, UnchokePolicy, Wanted};

use crate::net::{Fate, Net, Sample};
use crate::script::{Script, Summary};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RTT: Duration = Duration::from_millis(20);
const ASKED: ChunkRange = ChunkRange::new(0, 512);

fn config(slots: usize) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.limits.upload_slots = slots;
    config
}

/// A seeder with so many slots, and so many scripted peers on channels to it.
fn seeder(config: EndpointConfig, count: u8) -> (Net, usize, Vec<Script>) {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    let scripts: Vec<_> = (1..=count).map(|n| Script::opens(&mut net, seeder, &sample.metadata, n, RTT)).collect();
    for script in &scripts {
        script.hears(&mut net);
    }
    (net, seeder, scripts)
}

/// Acknowledges what came and asks again; returns what was heard.
fn take(net: &mut Net, script: &Script) -> Summary {
    let heard = script.summary(net);
    let mut messages: Vec<_> = heard
        .data
        .iter()
        .map(|&chunk| Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 1000 })
        .collect();
    messages.push(Message::Request(ASKED));
    script.say(net, &messages);
    heard
}

#[test]
fn while_slots_are_free_nobody_is_choked() {
    let (mut net, _, scripts) = seeder(config(4), 4);
    for _ in 0..300 {
        for script in &scripts {
            take(&mut net, script);
        }
        net.run_for(100 * MS);
    }
    for script in &scripts {
        let heard = script.summary(&mut net);
        assert_eq!((heard.chokes, heard.unchokes), (0, 0));
    }
}

// §12.6.8: what a choked peer asks for is dropped and the CHOKE repeated, a few times a second at most.
#[test]
fn requests_after_choke_are_dropped_and_the_choke_repeated() {
    let (mut net, seeder, scripts) = seeder(config(1), 2);
    scripts[0].say(&mut net, &[Message::Request(ASKED)]);
    scripts[1].say(&mut net, &[Message::Request(ASKED)]);
    let told = scripts[1].summary(&mut net);
    assert_eq!((told.chokes, told.data.len()), (1, 0), "told at once");
    let view = net.hosts[seeder].endpoint.swarm(net.hosts[seeder].swarm).unwrap();
    let standings: Vec<_> = view.peers().map(|peer| (peer.choked_by_us, peer.interested)).collect();
    assert_eq!(standings, [(false, true), (true, true)]);
    for _ in 0..100 {
        scripts[1].say(&mut net, &[Message::Request(ASKED)]);
        net.run_for(10 * MS);
        take(&mut net, &scripts[0]);
    }
    let heard = scripts[1].summary(&mut net);
    assert!((3..=5).contains(&heard.chokes), "{} in a second", heard.chokes);
    assert_eq!((heard.data.len(), heard.datagrams), (0, heard.chokes));
}

// A slot that is given up goes to who waits, at once or after two idle seconds.
#[test]
fn a_free_slot_goes_to_who_waits() {
    for leaves in [true, false] {
        let (mut net, seeder, scripts) = seeder(config(1), 2);
        for script in &scripts {
            script.say(&mut net, &[Message::Request(ASKED)]);
        }
        net.run_for(10 * MS);
        if leaves {
            let peer = net.hosts[seeder].connected[0];
            let now = net.local(seeder);
            net.hosts[seeder].endpoint.remove_peer(peer, now);
        } else {
            // It has what it wanted.
            scripts[0].say(&mut net, &[Message::Cancel(ASKED), Message::Ack { range: ASKED, delay: 1000 }]);
            net.run_for(4 * SECOND);
        }
        net.run_for(10 * MS);
        assert!(scripts[1].summary(&mut net).unchokes >= 1);
        scripts[1].say(&mut net, &[Message::Request(ASKED)]);
        net.run_for(10 * MS);
        assert!(!scripts[1].summary(&mut net).data.is_empty(), "served after UNCHOKE");
    }
}

// UNCHOKE is not acknowledged: it is repeated while the peer does not ask, ever more rarely, and then by keep-alives.
#[test]
fn a_lost_unchoke_is_repeated() {
    let (mut net, seeder, scripts) = seeder(config(1), 2);
    for script in &scripts {
        script.say(&mut net, &[Message::Request(ASKED)]);
    }
    let peer = net.hosts[seeder].connected[0];
    let now = net.local(seeder);
    net.hosts[seeder].endpoint.remove_peer(peer, now);
    net.run_for(10 * SECOND);
    assert_eq!(scripts[1].summary(&mut net).unchokes, 5, "at once and after 0.5, 1, 2 and 4 s");
    net.run_for(60 * SECOND);
    assert_eq!(scripts[1].summary(&mut net).unchokes, 2, "with each keep-alive");
    scripts[1].say(&mut net, &[Message::Request(ASKED)]);
    net.run_for(60 * SECOND);
    let heard = scripts[1].summary(&mut net);
    assert!(heard.unchokes == 0 && !heard.data.is_empty(), "once it asks, it has heard");
}

// What is in flight when a peer is choked may arrive and be acknowledged; nothing follows it, not even repairs.
#[test]
fn a_choked_peer_gets_nothing_more() {
    let (mut net, _, scripts) = seeder(config(1), 2);
    for script in &scripts {
        script.say(&mut net, &[Message::Request(ASKED)]);
    }
    // The first takes little; the second waits and has its turn.
    let mut choked = false;
    for _ in 0..120 {
        let heard = scripts[0].summary(&mut net);
        if heard.chokes > 0 {
            choked = true;
            break;
        }
        scripts[0].say(&mut net, &[Message::Request(ASKED)]);
        net.run_for(500 * MS);
    }
    assert!(choked, "slots change hands");
    net.run_for(5 * SECOND);
    assert_eq!(scripts[0].summary(&mut net).data, []);
    scripts[0].say(&mut net, &[Message::Ack { range: ASKED, delay: 1000 }]);
    net.run_for(SECOND);
    assert_eq!(scripts[0].summary(&mut net).data, []);
}

// With fewer slots than peers everyone completes, also when datagrams are lost, CHOKE and UNCHOKE among them.
#[test]
fn everyone_has_its_turn() {
    for loss in [0, 10] {
        let sample = Sample::new(400_000);
        let mut net = Net::new();
        let content = Content::Seed { tree: sample.tree.clone() };
        let seeder = net.add_with(config(2), sample.metadata.clone(), content, sample.bytes.clone());
        if loss > 0 {
            net.rule = Some(Box::new(move |number, _, _, _| {
                if number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xff < 256 * loss / 100 {
                    Fate::Drop
                } else {
                    Fate::Deliver
                }
            }));
        }
        let leechers: Vec<_> =
            (0..8).map(|_| net.add_with(config(2), sample.metadata.clone(), Content::Fetch, Vec::new())).collect();
        for &leecher in &leechers {
            net.connect(leecher, seeder);
        }
        for leecher in leechers {
            net.fetches(leecher, &sample, 600 * SECOND);
        }
    }
}

// While leeching a slot goes to who gives, however little it takes, and the other goes round among the rest, in turns of four
// seconds.
#[test]
fn while_leeching_who_gives_keeps_its_slot_and_the_others_have_turns() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let leecher = net.add_with(config(2), sample.metadata.clone(), Content::Fetch, Vec::new());
    let want = |net: &mut Net, range| {
        let now = net.local(leecher);
        let host = &mut net.hosts[leecher];
        let wanted = Wanted { ranges: RangeSet::from(range), order: Order::Auto };
        host.endpoint.set_wanted(host.swarm, wanted, now).unwrap();
    };
    // The leecher has what it is asked for, and lacks the rest.
    want(&mut net, ASKED);
    let peer = net.connect(leecher, seeder);
    assert!(net.complete(leecher, 20 * SECOND));
    let now = net.local(leecher);
    net.hosts[leecher].endpoint.remove_peer(peer, now);
    want(&mut net, ChunkRange::new(0, 1024));

    let takers: Vec<_> = (1..=3).map(|n| Script::opens(&mut net, leecher, &sample.metadata, n, RTT)).collect();
    let giver = Script::opens(&mut net, leecher, &sample.metadata, 4, RTT);
    for taker in &takers {
        take(&mut net, taker);
    }
    giver.say(&mut net, &[Message::Have(ChunkRange::new(512, 1024)), Message::Request(ASKED)]);
    let heard = giver.summary(&mut net);
    assert_eq!((heard.chokes, heard.data.len()), (1, 0), "the slots are taken");
    let mut asked = heard.requested();
    let (mut given, mut last_choke, mut turns) = (0, 0, Vec::new());
    for tick in 0..1000 {
        // Who has a slot and asks for nothing loses it after 50 ms.
        net.run_for(40 * MS);
        for (at, taker) in takers.iter().enumerate() {
            let heard = take(&mut net, taker);
            turns.extend(iter::repeat_n(at, heard.unchokes));
        }
        // Five chunks a second.
        let heard = giver.summary(&mut net);
        last_choke = if heard.chokes > 0 { tick } else { last_choke };
        asked.extend(heard.requested());
        if tick % 5 == 0 && given < asked.len() {
            giver.gives(&mut net, &sample, asked[given]);
            given += 1;
        }
        giver.say(&mut net, &[Message::Request(ASKED)]);
    }
    assert!(last_choke <= 50, "who gives was choked {} ms after the first round", 40 * last_choke - 2000);
    assert!((9..=11).contains(&turns.len()), "turns of four seconds in 40: {turns:?}");
    assert!(turns.windows(3).all(|three| BTreeSet::from_iter(three).len() == 3), "everyone in turn: {turns:?}");
}

/// Grants everyone the same, and notes what it was asked.
#[derive(Debug)]
struct All(Grant, Mutex<Vec<(Round, usize)>>);

impl UnchokePolicy for All {
    fn allot(&self, round: Round, candidates: &mut [Candidate]) {
        self.1.lock().unwrap().push((round, candidates.len()));
        for candidate in candidates {
            candidate.grant = self.0;
        }
    }
}

// Another policy may be given; it cannot exceed the slots, and those it leaves go to who waited longest.
#[test]
fn a_policy_of_ones_own() {
    for grant in [Grant::Earned, Grant::Optimistic, Grant::Choked] {
        let mut config = config(2);
        let policy = Arc::new(All(grant, Mutex::default()));
        config.unchoke = policy.clone();
        let (mut net, seeder, scripts) = seeder(config, 5);
        let (mut served, mut unchokes) = (BTreeSet::new(), 0);
        for _ in 0..250 {
            for (at, script) in scripts.iter().enumerate() {
                let heard = take(&mut net, script);
                unchokes += heard.unchokes;
                if !heard.data.is_empty() {
                    served.insert(at);
                }
            }
            net.run_for(100 * MS);
        }
        let view = net.hosts[seeder].endpoint.swarm(net.hosts[seeder].swarm).unwrap();
        assert_eq!(view.peers().filter(|peer| !peer.choked_by_us).count(), 2, "{grant:?}");
        let rounds = policy.1.lock().unwrap();
        assert_eq!(rounds[..], [(Round::new(2, true), 5); 12], "one in two seconds");
        if grant == Grant::Choked {
            assert_eq!((served.len(), unchokes), (5, 24), "two others in each round");
        } else {
            assert_eq!((served, unchokes), (BTreeSet::from([0, 1]), 0), "{grant:?}: those who have slots keep them");
        }
    }
}
