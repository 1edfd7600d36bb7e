//! RFC 7574 §3.9: upload slots, who gets them, and what is lost on the way.

use std::sync::Arc;
use std::time::Duration;

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::Message;
use ppspp_core::{Candidate, Content, EndpointConfig, Grant, Round, UnchokePolicy};

use crate::net::{Fate, Net, Sample};
use crate::script::Script;

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

/// Acknowledges what came and asks again; returns whether anything came.
fn take(net: &mut Net, script: &Script) -> bool {
    let data = script.summary(net).data;
    let mut messages: Vec<_> =
        data.iter().map(|&chunk| Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 1000 }).collect();
    messages.push(Message::Request(ASKED));
    script.say(net, &messages);
    !data.is_empty()
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

/// Serves everyone, or nobody.
#[derive(Debug)]
struct All(Grant);

impl UnchokePolicy for All {
    fn allot(&self, _: Round, candidates: &mut [Candidate]) {
        for candidate in candidates {
            candidate.grant = self.0;
        }
    }
}

// Another policy may be given; it cannot exceed the slots.
#[test]
fn a_policy_of_ones_own() {
    for (grant, served) in [(Grant::Earned, 2), (Grant::Optimistic, 2), (Grant::Choked, 2)] {
        let mut config = config(2);
        config.unchoke = Arc::new(All(grant));
        let (mut net, seeder, scripts) = seeder(config, 5);
        for _ in 0..250 {
            for script in &scripts {
                take(&mut net, script);
            }
            net.run_for(100 * MS);
        }
        let view = net.hosts[seeder].endpoint.swarm(net.hosts[seeder].swarm).unwrap();
        assert_eq!(view.peers().filter(|peer| !peer.choked_by_us).count(), served, "{grant:?}");
    }
}
