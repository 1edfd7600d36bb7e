//! Who may send what, and how much: cancelling, choking, backpressure, storage that changes or fails.

use std::collections::VecDeque;
use std::time::Duration;

use ppspp_core::chunk::{ChunkRange, RangeSet};
use ppspp_core::wire::Message;
use ppspp_core::{CloseReason, Content, EndpointConfig, Misbehaviour, Order, Wanted};

use crate::net::{Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

/// A seeder and a scripted peer that opened a channel to it.
fn seeder_and_script(len: usize) -> (Net, usize, Sample, Script) {
    let sample = Sample::new(len);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    (net, seeder, sample, script)
}

/// R18, RFC 7574 §3.8: CANCEL and HAVE take requested chunks back.
#[test]
fn cancel_and_have_take_requests_back() {
    for take_back in [Message::Cancel(ChunkRange::new(0, 1024)), Message::Have(ChunkRange::new(0, 1024))] {
        let (mut net, _, _, script) = seeder_and_script(1 << 20);
        script.say(&mut net, &[Message::Request(ChunkRange::new(0, 1024))]);
        net.run_for(5 * MS);
        let first = script.summary(&mut net).data.len();
        assert!(first > 0, "the window lets something go at once");
        script.say(&mut net, &[take_back]);
        let acked = ChunkRange::new(0, 1024);
        script.say(&mut net, &[Message::Ack { range: acked, delay: 1 }]);
        net.run_for(Duration::from_secs(3));
        assert_eq!(script.summary(&mut net).data, [], "nothing more is sent");
    }
}

/// RFC 7574 §3.9: after CHOKE nothing is asked, HAVE does not change that, UNCHOKE does.
#[test]
fn a_choked_leecher_waits_for_unchoke() {
    let sample = Sample::new(100_000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    script.say(&mut net, &[Message::Choke]);
    script.has_all(&mut net, &sample);
    net.run_for(Duration::from_secs(5));
    assert_eq!(script.summary(&mut net).requests, []);
    script.say(&mut net, &[Message::Unchoke]);
    net.run_for(RTT);
    let asked = script.summary(&mut net).requested();
    assert!(!asked.is_empty());
    // Choked again, what was asked is free and asked of another peer.
    script.say(&mut net, &[Message::Choke]);
    let (other, _) = Script::answers(&mut net, leecher, &sample.metadata, 2, RTT);
    other.has_all(&mut net, &sample);
    net.run_for(RTT);
    assert_eq!(other.summary(&mut net).requested()[0], asked[0]);
}

/// R19: at the bound on unconfirmed bytes nothing is asked and DATA is neither verified nor acknowledged.
#[test]
fn unconfirmed_bytes_hold_the_network_back() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    config.limits.unconfirmed_bytes = 64 * 1024;
    let seeder = net.seeder(&sample);
    let leecher = net.add_with(config, sample.metadata.clone(), Content::Fetch, Vec::new());
    net.hosts[leecher].disk.hold_writes = true;
    net.connect(leecher, seeder);
    net.run_for(Duration::from_secs(5));
    let held = net.hosts[leecher].stats();
    // The chunk that reaches the bound is still taken.
    assert!(held.content_bytes_received <= 64 * 1024 + 1024, "{held:?}");
    net.run_for(Duration::from_secs(20));
    assert_eq!(net.hosts[leecher].stats().chunks_requested, held.chunks_requested, "nothing is asked meanwhile");
    let now = net.local(leecher);
    net.hosts[leecher].release_writes(now);
    net.fetches(leecher, &sample, Duration::from_secs(120));
}

/// R20: a peer is asked for no more than max(1 s, 2 RTT) of its rate, and for one chunk at least.
#[test]
fn requests_follow_the_rate() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    script.has_all(&mut net, &sample);
    let (mut asked, mut given) = (Vec::new(), 0);
    // Ten chunks a second.
    for _ in 0..60 {
        net.run_for(100 * MS);
        // R16: what waits already is not answered twice.
        let fresh: Vec<u64> = script.summary(&mut net).requested();
        asked.extend(fresh.into_iter().filter(|chunk| !asked.contains(chunk)).collect::<Vec<_>>());
        if given < asked.len() {
            script.gives(&mut net, &sample, asked[given]);
            given += 1;
        }
    }
    let stats = net.hosts[leecher].stats();
    assert!(stats.chunks_received >= 50, "{stats:?}");
    let late = stats.chunks_requested - stats.requests_expired - stats.chunks_received;
    assert!((1..=20).contains(&late), "{late} chunks outstanding at ten a second: {stats:?}");
}

/// Bytes that changed on disk are told, never sent, and the rest goes on being served.
#[test]
fn changed_content_is_withheld() {
    let sample = Sample::new(200_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    net.hosts[seeder].disk.bytes[50_000] ^= 1;
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.run_for(Duration::from_secs(20));
    // The group that holds byte 50,000: chunks 48 to 63.
    assert_eq!(net.hosts[seeder].changed, [ChunkRange::new(48, 64)]);
    assert_eq!(net.hosts[leecher].stats().content_bytes_received, 200_000 - 16 * 1024);
    // Unanswered requests may open the channel anew (R11), but nobody is blamed.
    assert!(net.hosts[leecher].closed.iter().all(|reason| *reason == CloseReason::Replaced));
}

/// A read that fails is told like a change; the peer is served the rest.
#[test]
fn a_failing_read_is_survived() {
    let sample = Sample::new(100_000);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    net.hosts[seeder].disk.fail_reads = true;
    let leecher = net.leecher(&sample.metadata);
    net.connect(leecher, seeder);
    net.run_for(Duration::from_secs(5));
    assert!(!net.hosts[seeder].changed.is_empty());
    assert_eq!(net.hosts[leecher].stats().chunks_received, 0);
}

/// R22: what an earlier run stored counts only after it was read back; what changed is fetched again.
#[test]
fn a_resume_trusts_nothing_it_has_not_read() {
    let sample = Sample::new(300_000);
    for cut in [20_000, 90_000, 150_000, 250_000, 299_000] {
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let leecher = net.leecher(&sample.metadata);
        net.connect(leecher, seeder);
        assert!(net.run(Duration::from_secs(30), |net| net.hosts[leecher].verified_bytes >= cut));
        let saved = net.hosts[leecher].checkpoint();
        let mut bytes = std::mem::take(&mut net.hosts[leecher].disk.bytes);
        let stored = saved.stored.clone();
        let victim = stored.runs().next().unwrap().start() as usize * 1024 + 7;
        bytes[victim] ^= 0x80;
        let mut net = Net::new();
        let leecher = net.resumed(&sample.metadata, &saved, bytes);
        net.run_for(Duration::from_secs(1));
        let progress = net.hosts[leecher].progress().unwrap();
        assert_eq!(progress.bytes_to_check, 0);
        assert!(progress.bytes_stored < stored.count() * 1024, "the changed group does not count");
        assert_eq!(net.hosts[leecher].changed.len(), 1);
        let seeder = net.seeder(&sample);
        net.connect(leecher, seeder);
        net.fetches(leecher, &sample, Duration::from_secs(30));
    }
}

/// R2: a leecher serves chunks of groups it does not have in full, against their leaf hashes.
#[test]
fn an_incomplete_group_is_served_chunk_by_chunk() {
    let sample = Sample::new(16 * 1024);
    let mut net = Net::new();
    let middle = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, middle, &sample.metadata, 1, RTT);
    for chunk in [3, 4, 9] {
        script.say(&mut net, &[Message::Have(ChunkRange::new(chunk, chunk + 1))]);
        net.run_for(RTT);
        script.gives(&mut net, &sample, chunk);
    }
    net.run_for(Duration::from_secs(2));
    let far = net.leecher(&sample.metadata);
    net.connect(far, middle);
    net.run_for(Duration::from_secs(5));
    assert_eq!(net.hosts[far].stats().chunks_received, 3);
    assert_eq!(net.hosts[far].disk.bytes[3 * 1024..5 * 1024], sample.bytes[3 * 1024..5 * 1024]);
}

/// RFC 7574 §5.2: wrong bytes never come out, their sender is closed, another peer completes the transfer.
#[test]
fn a_liar_is_closed_and_the_honest_peer_completes() {
    let sample = Sample::new(50_000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (liar, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    liar.has_all(&mut net, &sample);
    net.run_for(RTT);
    let asked = liar.summary(&mut net).requested()[0];
    let mut datagram = liar.data(&net, &sample, asked);
    let last = datagram.len() - 1;
    datagram[last] ^= 1;
    liar.say_together(&mut net, &[datagram]);
    net.run_for(RTT);
    assert_eq!(net.hosts[leecher].closed, [CloseReason::Misbehaved(Misbehaviour::WrongHash)]);
    assert!(liar.summary(&mut net).closed, "the liar is told");
    assert_eq!(net.hosts[leecher].verified_bytes, 0);
    let seeder = net.seeder(&sample);
    net.connect(leecher, seeder);
    net.fetches(leecher, &sample, Duration::from_secs(30));
}

/// RFC 7574 §12.6.3: DATA that nobody asked for is dropped, without an ACK.
#[test]
fn unrequested_data_is_dropped() {
    let sample = Sample::new(100_000);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
    for chunk in 20..60 {
        script.gives(&mut net, &sample, chunk);
    }
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.hosts[leecher].stats().chunks_received, 0);
    assert_eq!(net.hosts[leecher].endpoint.stats().dropped.unrequested, 40);
    assert_eq!(script.summary(&mut net).acks, []);
}

/// RFC 7574 §12.6.7: CANCEL of what was never asked for changes nothing, whenever it comes; what follows it is served.
#[test]
fn cancelling_what_was_not_asked_for_is_ignored() {
    let (mut net, seeder, _, script) = seeder_and_script(1 << 20);
    let asked = ChunkRange::new(100, 164);
    let others = [(0, 100), (164, 1024), (1024, 1 << 32), (500, 501)].map(|(start, end)| ChunkRange::new(start, end));
    let cancels = others.map(Message::Cancel);
    script.say(&mut net, &cancels);
    script.say(&mut net, &[&[Message::Request(asked)], &cancels[..]].concat());
    let mut came = Vec::new();
    for _ in 0..100 {
        net.run_for(RTT);
        came.extend(script.summary(&mut net).data);
        let acks = came.iter().map(|&chunk| Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 1000 });
        let mut messages: Vec<_> = acks.collect();
        messages.extend(cancels);
        script.say(&mut net, &messages);
    }
    came.sort_unstable();
    assert_eq!(came, (100..164).collect::<Vec<_>>(), "what was asked for, once");
    // One that overtakes the REQUEST is no reason not to serve it either.
    script.say(&mut net, &[Message::Cancel(ChunkRange::new(700, 710))]);
    script.say(&mut net, &[Message::Request(ChunkRange::new(700, 710))]);
    net.run_for(RTT);
    let mut came = script.summary(&mut net).data;
    came.sort_unstable();
    assert_eq!(came, (700..710).collect::<Vec<_>>());
    assert_eq!(net.hosts[seeder].closed, []);
}

/// RFC 7574 §12.6.9: UNCHOKE from a peer that did not choke changes nothing: what it was asked for is neither asked again
/// nor asked of others.
#[test]
fn unchoke_without_choke_is_ignored() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let leecher = net.leecher(&sample.metadata);
    let [script, other] = [1, 2].map(|number| Script::answers(&mut net, leecher, &sample.metadata, number, RTT).0);
    let wanted = Wanted { ranges: RangeSet::from(ChunkRange::new(0, 1024)), order: Order::InOrder };
    let now = net.local(leecher);
    let host = &mut net.hosts[leecher];
    host.endpoint.set_wanted(host.swarm, wanted, now).unwrap();
    script.say(&mut net, &[Message::Unchoke]);
    script.has_all(&mut net, &sample);
    let asked = script.summary(&mut net).requested();
    // It would be asked for the same, were it free.
    other.say(&mut net, &[Message::Have(ChunkRange::new(0, asked.len() as u64))]);
    for _ in 0..100 {
        script.say(&mut net, &[Message::Unchoke]);
        net.run_for(MS);
    }
    assert_eq!([&script, &other].map(|peer| peer.summary(&mut net).requests), [vec![], vec![]]);
    for &chunk in &asked {
        script.gives(&mut net, &sample, chunk);
    }
    assert_eq!(net.hosts[leecher].stats().chunks_received, asked.len() as u64);
    assert_eq!(net.hosts[leecher].closed, []);
}

/// RFC 7574 §12.6.2, §12.6.9: a peer that answers nothing, whatever it announces and however often it chokes and unchokes,
/// is hardly asked again.
#[test]
fn who_does_not_answer_is_hardly_asked_again() {
    for chokes_every in [None, Some(200), Some(40)] {
        let sample = Sample::new(4 << 20);
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        let [mute, giver] = [1, 2].map(|number| Script::answers(&mut net, leecher, &sample.metadata, number, RTT).0);
        let (mut asked_mute, mut asked, mut given) = (Vec::new(), Vec::new(), 0);
        giver.has_all(&mut net, &sample);
        // A hundred chunks a second for twenty seconds.
        for tick in 0..2000 {
            if chokes_every.is_some_and(|ticks| tick % ticks == 0) {
                mute.say(&mut net, &[Message::Choke, Message::Unchoke]);
            }
            if tick % 200 == 0 {
                mute.has_all(&mut net, &sample);
            }
            net.run_for(10 * MS);
            asked_mute.push(mute.summary(&mut net).requested().len());
            asked.extend(giver.summary(&mut net).requested());
            if given < asked.len() {
                giver.gives(&mut net, &sample, asked[given]);
                given += 1;
            }
        }
        asked_mute.retain(|&chunks| chunks > 0);
        assert_eq!(given, 2000, "the other is kept busy");
        assert!((5..=52).contains(&asked_mute.len()), "{asked_mute:?}");
        // A few times in good faith, and then for one chunk at a time, to find out whether it answers by now.
        assert!(asked_mute[3..].iter().all(|&chunks| chunks == 1), "{chokes_every:?}: {asked_mute:?}");
    }
}

/// RFC 7574 §12.6.9: a peer that chokes before its silence is noticed, and unchokes at once, does not keep others from being
/// asked for what it is asked for.
#[test]
fn choking_and_unchoking_in_turn_holds_nothing_up() {
    for order in [Order::InOrder, Order::RarestFirst] {
        for every in [1, 10, 30] {
            let sample = Sample::new(256 << 10);
            let mut net = Net::new();
            let leecher = net.leecher(&sample.metadata);
            let wanted = Wanted { ranges: RangeSet::from(ChunkRange::new(0, 256)), order: order.clone() };
            let now = net.local(leecher);
            let host = &mut net.hosts[leecher];
            host.endpoint.set_wanted(host.swarm, wanted, now).unwrap();
            let [mute, giver] =
                [1, 2].map(|number| Script::answers(&mut net, leecher, &sample.metadata, number, RTT).0);
            mute.has_all(&mut net, &sample);
            giver.has_all(&mut net, &sample);
            let (mut asked, mut ticks) = (VecDeque::new(), 0);
            // Two chunks in ten milliseconds: 128 times.
            while !net.hosts[leecher].complete && ticks < 150 {
                if ticks % every == 0 {
                    mute.say(&mut net, &[Message::Choke, Message::Unchoke]);
                }
                net.run_for(10 * MS);
                asked.extend(giver.summary(&mut net).requested());
                for chunk in asked.drain(..asked.len().min(2)) {
                    giver.gives(&mut net, &sample, chunk);
                }
                ticks += 1;
            }
            let stored = net.hosts[leecher].progress().unwrap().bytes_stored;
            assert_eq!(stored, 256 << 10, "every {every}, {order:?}");
        }
    }
}

/// RFC 7574 §12.6.4, §12.6.6: acknowledging what was never sent, asking for everything again and again.
#[test]
fn false_acks_and_floods_of_requests_cost_little() {
    let (mut net, seeder, _, script) = seeder_and_script(1 << 20);
    script.say(&mut net, &[Message::Ack { range: ChunkRange::new(0, 1 << 32), delay: u64::MAX }]);
    for round in 0..2000u64 {
        let start = round * 7 % 1000;
        script.say(&mut net, &[Message::Request(ChunkRange::new(start, start + 3))]);
    }
    net.run_for(100 * MS);
    let sent = net.hosts[seeder].stats();
    assert!(sent.chunks_sent < 200, "the window holds: {sent:?}");
    assert_eq!(net.hosts[seeder].closed, []);
}

/// RFC 7574 §3: a peer that keeps sending what does not decode is closed after 16 datagrams.
#[test]
fn garbage_on_an_established_channel_ends_it() {
    let (mut net, seeder, _, script) = seeder_and_script(5000);
    let garbage = |channel: u32| crate::raw::datagram(channel, &[200, 1, 2, 3]);
    net.keep_log = true;
    script.say(&mut net, &[Message::Request(ChunkRange::new(0, 1))]);
    let datagram = script.data(&net, &Sample::new(5000), 0);
    let channel = crate::raw::channel_of(&datagram);
    for count in 1..=16 {
        assert_eq!(net.hosts[seeder].closed, [], "after {} datagrams", count - 1);
        script.say_together(&mut net, &[garbage(channel)]);
    }
    assert!(matches!(net.hosts[seeder].closed[..], [CloseReason::Misbehaved(Misbehaviour::Undecodable(_))]));
}
