//! Peers that abuse being served: that ask while choked, flip between asking and taking back, or never acknowledge.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::{ChannelId, Handshake, Message};
use ppspp_core::{ByteRate, CloseReason, Content, EndpointConfig, Misbehaviour, Rates};

use crate::net::{Net, Sample};
use crate::raw::{handshake_of, opening};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
const ALL: ChunkRange = ChunkRange::new(0, 512);
/// What there is not.
const BEYOND: ChunkRange = ChunkRange::new(512, 1024);
const FLOODING: CloseReason = CloseReason::Misbehaved(Misbehaviour::Flooding);

fn peers(net: &Net, host: usize) -> impl Iterator<Item = SocketAddr> {
    let host = &net.hosts[host];
    host.endpoint.swarm(host.swarm).unwrap().peers().filter(|peer| peer.established).map(|peer| peer.address)
}

/// A seeder with few slots, and a hostile peer.
fn seeder(slots: usize) -> (Net, usize, Sample, Script) {
    let sample = Sample::new(512 * 1024);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.upload_slots = slots;
    config.rates = Rates { up: ByteRate::new(256 * 1024), down: None };
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    (net, seeder, sample, script)
}

/// An honest leecher completes while the hostile one does its worst.
#[track_caller]
fn serves(net: &mut Net, seeder: usize, sample: &Sample, mut worst: impl FnMut(&mut Net)) {
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    for _ in 0..6000 {
        worst(net);
        if net.run(10 * MS, |net| net.hosts[leecher].complete) {
            assert!(net.hosts[leecher].disk.bytes == sample.bytes);
            return;
        }
    }
    panic!("not complete after a minute: {:?}", net.hosts[leecher].progress());
}

#[test]
fn asking_while_choked_brings_a_few_chokes() {
    let (mut net, seeder, sample, script) = seeder(1);
    let holder = Script::opens(&mut net, seeder, &sample.metadata, 2, RTT);
    holder.say(&mut net, &[Message::Request(ALL)]);
    script.summary(&mut net);
    let (mut received, mut asked) = (0, 0);
    // Slots are shared out anew after two seconds.
    for _ in 0..190 {
        for start in 0..40 {
            script.say(&mut net, &[Message::Request(ChunkRange::new(start, start + 1)); 50]);
            asked += 1;
        }
        net.run_for(10 * MS);
        let heard = script.summary(&mut net);
        assert_eq!(heard.data, []);
        received += heard.datagrams;
    }
    assert!(received <= 10, "{received} answers to {asked} datagrams");
    // §12.6.6, §12.7: by then it has shown what it is.
    assert_eq!(net.hosts[seeder].closed, [FLOODING]);
    let others: Vec<_> = peers(&net, seeder).collect();
    assert_eq!(others, [holder.address]);
    net.run_for(SECOND);
    net.extra.clear();
    net.inject(seeder, script.address, &opening(&sample.metadata, 77));
    assert!(net.extra.iter().all(|(_, to, _)| *to != script.address), "it is shunned");
    holder.say(&mut net, &[Message::Have(ALL)]);
    serves(&mut net, seeder, &sample, |_| {});
}

/// §12.6.6: REQUESTs beyond the bound are not answered, cost little and end in the door; the honest peer is unharmed.
#[test]
fn a_flood_of_requests_is_shown_the_door() {
    let (mut net, seeder, sample, script) = seeder(4);
    let scattered: Vec<_> = (0..256).map(|n| Message::Request(ChunkRange::new(2 * n, 2 * n + 1))).collect();
    let mut got = 0;
    serves(&mut net, seeder, &sample, |net| {
        for _ in 0..40 {
            script.say(net, &[Message::Request(ChunkRange::new(511, 512)), Message::Request(BEYOND)]);
            script.say(net, &scattered);
        }
        got += script.summary(net).data.len();
    });
    assert!(got < 200, "{got} chunks were sent in vain");
    assert_eq!(net.hosts[seeder].closed, [FLOODING]);
    assert!(!peers(&net, seeder).any(|address| address == script.address));
}

/// Whoever closes before it is shown the door, or opens another channel in place of the one it abused, gains nothing.
#[test]
fn coming_back_does_not_clear_the_account_of_a_flood() {
    for says_goodbye in [true, false] {
        let (mut net, seeder, sample, first) = seeder(4);
        let mut script = first;
        let mut sent = 0;
        serves(&mut net, seeder, &sample, |net| {
            if !peers(net, seeder).any(|address| address == script.address) {
                return;
            }
            for _ in 0..1000 {
                script.say(net, &[Message::Request(BEYOND)]);
                sent += 1;
            }
            if sent % 3000 == 0 && says_goodbye {
                script.say(net, &[Message::Handshake(Handshake::closing())]);
            }
            if sent % 3000 == 0 && net.hosts[seeder].endpoint.stats().dropped.shunned == 0 {
                net.extra.clear();
                net.inject(seeder, script.address, &opening(&sample.metadata, 7 + sent));
                let reply = net.extra.iter().find(|(_, to, _)| *to == script.address).map(|(.., bytes)| bytes.clone());
                if let Some((reply, _)) = reply.as_deref().and_then(handshake_of) {
                    script.remote = reply.source;
                    script.local = ChannelId::new(7 + sent);
                    script.say(net, &[]);
                }
            }
        });
        let dropped = net.hosts[seeder].endpoint.stats().dropped.shunned;
        assert!(sent < 8000 && (dropped > 0 || net.hosts[seeder].closed.contains(&FLOODING)), "{sent}, {dropped}");
        assert!(!peers(&net, seeder).any(|address| address == script.address));
    }
}

/// Who takes what it asks for may ask for more than there is room for, and again: so does an honest peer far away.
#[test]
fn asking_for_too_much_is_forgiven_while_it_is_taken() {
    let sample = Sample::new(8 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.queued_requests = 4;
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    let mut got = 0;
    for round in 0..2000 {
        let data = script.summary(&mut net).data;
        got += data.len();
        let mut messages: Vec<_> = data
            .iter()
            .map(|&chunk| Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 10_000 })
            .collect();
        messages.extend((0..6).map(|n| 4 * round + 2 * (n % 2) + 512 * (n / 2)).map(|chunk| {
            let chunk = chunk % 8192;
            Message::Request(ChunkRange::new(chunk, chunk + 1))
        }));
        script.say(&mut net, &messages);
        script.say(&mut net, &messages);
        script.say(&mut net, &messages);
        net.run_for(RTT / 4);
    }
    assert!(got > 4000, "{got}");
    assert_eq!(net.hosts[seeder].closed, []);
}

#[test]
fn flipping_between_asking_and_taking_back_costs_others_nothing() {
    let (mut net, seeder, sample, script) = seeder(4);
    serves(&mut net, seeder, &sample, |net| {
        for _ in 0..10 {
            script.say(net, &[Message::Request(ALL)]);
            script.say(net, &[Message::Cancel(ALL)]);
            script.say(net, &[Message::Request(ALL), Message::Cancel(ChunkRange::new(3, 400)), Message::Have(ALL)]);
        }
        script.say(net, &[Message::Request(ALL)]);
    });
}

#[test]
fn asking_for_all_without_acknowledging_holds_nobody_up() {
    let (mut net, seeder, sample, script) = seeder(2);
    let mut got = 0;
    serves(&mut net, seeder, &sample, |net| {
        script.say(net, &[Message::Request(ALL)]);
        got += script.summary(net).data.len();
    });
    // Without acknowledgements the window stays at its least.
    assert!(got < 200, "{got} chunks were sent in vain");
    let view = net.hosts[seeder].endpoint.swarm(net.hosts[seeder].swarm).unwrap();
    assert!(view.peers().all(|peer| peer.in_flight < 64 * 1024));
}
