//! When an ACK leaves, what it says, and what does not wait for storage or does (R13, R14).

use std::collections::VecDeque;
use std::time::Duration;

use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange};
use ppspp_core::integrity::uncles;
use ppspp_core::wire::Message;

use crate::net::{Net, Sample};
use crate::script::{Script, Summary};

const MS: Duration = Duration::from_millis(1);

fn run(start: u64, end: u64) -> ChunkRange {
    ChunkRange::new(start, end)
}

/// A leecher and the scripted seeder that it asks.
struct Feed {
    net: Net,
    leecher: usize,
    script: Script,
    sample: Sample,
    asked: VecDeque<u64>,
    acks: Vec<(ChunkRange, u64)>,
}

impl Feed {
    fn new(len: usize, rtt: Duration) -> Self {
        let sample = Sample::new(len);
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, rtt);
        script.has_all(&mut net, &sample);
        let mut feed = Self { net, leecher, script, sample, asked: VecDeque::new(), acks: Vec::new() };
        feed.listen();
        feed
    }

    fn listen(&mut self) -> Summary {
        let summary = self.script.summary(&mut self.net);
        self.asked.extend(summary.requested());
        self.acks.extend(&summary.acks);
        summary
    }

    /// Sends the next chunk that was asked for; returns how many ACK messages came at once.
    fn give(&mut self) -> usize {
        let chunk = self.asked.pop_front().unwrap();
        self.script.gives(&mut self.net, &self.sample, chunk);
        self.listen().acks.len()
    }

    /// Sends so many chunks that the channel's start is over.
    fn settle(&mut self) {
        for _ in 0..256 {
            self.give();
            self.net.run_for(MS);
        }
        self.net.run_for(20 * MS);
        self.listen();
    }
}

/// R14: the first 256 datagrams are acknowledged in pairs, later ones when 32 wait.
#[test]
fn acks_come_in_pairs_at_first_and_for_32_later() {
    let mut feed = Feed::new(1 << 20, 100 * MS);
    for pair in 0..128 {
        assert_eq!((feed.give(), feed.give()), (0, 1), "pair {pair}");
    }
    for _ in 0..3 {
        for waiting in 1..32 {
            assert_eq!(feed.give(), 0, "{waiting} wait");
        }
        assert_eq!(feed.give(), 1);
    }
}

/// R14: datagrams that arrive in one batch are acknowledged together.
#[test]
fn a_batch_is_acknowledged_once() {
    let mut feed = Feed::new(1 << 20, 100 * MS);
    feed.settle();
    assert!(feed.asked.len() > 64, "the peer's rate is known by now");
    let batch: Vec<_> = feed.asked.drain(..64).map(|chunk| feed.script.data(&feed.net, &feed.sample, chunk)).collect();
    feed.script.say_together(&mut feed.net, &batch);
    assert_eq!(feed.listen().acks.len(), 1);
}

/// R14: an eighth of the round-trip time, at least 0.5 ms and at most 10 ms.
#[test]
fn an_ack_waits_an_eighth_of_the_round_trip() {
    for (rtt, wait) in [(MS, 500), (16 * MS, 2000), (40 * MS, 5000), (400 * MS, 10_000)] {
        let mut feed = Feed::new(1 << 20, rtt);
        feed.settle();
        assert_eq!(feed.give(), 0);
        feed.net.run_for(Duration::from_micros(wait - 1));
        assert_eq!(feed.listen().acks.len(), 0, "round trip of {rtt:?}");
        feed.net.run_for(Duration::from_micros(2));
        assert_eq!(feed.listen().acks.len(), 1, "round trip of {rtt:?}");
    }
}

/// R13, R14: a duplicate is acknowledged again, and at once.
#[test]
fn a_duplicate_is_acknowledged_at_once() {
    let mut feed = Feed::new(1 << 20, 100 * MS);
    feed.settle();
    feed.script.gives(&mut feed.net, &feed.sample, 7);
    assert_eq!(feed.listen().acks.len(), 1);
    assert!(feed.acks.last().unwrap().0.contains(ChunkIndex::new(7)));
    assert_eq!(feed.net.hosts[feed.leecher].stats().duplicate_chunks, 1);
}

/// What an ACK says is said again with the next, since none covers it later where chunks leave spread over a run; with more
/// of them once DATA came twice a few times, since the way back seems to lose some.
#[test]
fn acks_are_said_again_and_more_often_where_some_were_lost() {
    let mut feed = Feed::new(1 << 20, 100 * MS);
    feed.settle();
    let give = |feed: &mut Feed, nth: usize| {
        let chunk = feed.asked[nth];
        feed.acks.clear();
        feed.script.gives(&mut feed.net, &feed.sample, chunk);
        feed.net.run_for(20 * MS);
        feed.listen();
        let told = |at: usize| feed.acks.iter().any(|(range, _)| range.contains(ChunkIndex::new(feed.asked[at])));
        [1, 3, 5, 7, 9, 11].into_iter().filter(|&at| told(at)).collect::<Vec<_>>()
    };
    assert_eq!(give(&mut feed, 1), [1]);
    assert_eq!(give(&mut feed, 3), [1, 3]);
    for _ in 0..3 {
        assert_eq!(give(&mut feed, 3), [3], "a duplicate");
    }
    assert_eq!(give(&mut feed, 5), [3, 5]);
    assert_eq!(give(&mut feed, 3), [3, 5], "the fourth duplicate");
    assert_eq!(give(&mut feed, 7), [3, 5, 7], "of the two before");
    assert_eq!(give(&mut feed, 9), [3, 7, 9]);
    feed.net.run_for(Duration::from_secs(61));
    feed.listen();
    assert_eq!(give(&mut feed, 1), [1], "all was said again meanwhile, and a minute is over");
    assert_eq!(give(&mut feed, 11), [1, 11]);
}

/// The last ACK of a flight has no next one: at a channel's start, when the peer's window is small, it is sent once more.
#[test]
fn an_ack_that_nothing_follows_is_sent_once_more_at_the_start() {
    let mut feed = Feed::new(1 << 20, 100 * MS);
    for at_start in [true, false] {
        feed.acks.clear();
        let chunk = feed.asked.pop_front().unwrap();
        feed.script.gives(&mut feed.net, &feed.sample, chunk);
        feed.net.run_for(100 * MS);
        feed.listen();
        let first = feed.acks.clone();
        assert_eq!(first.iter().filter(|(range, _)| range.contains(ChunkIndex::new(chunk))).count(), 1);
        feed.acks.clear();
        feed.net.run_for(300 * MS);
        feed.listen();
        assert_eq!(feed.acks.iter().any(|(range, _)| range.contains(ChunkIndex::new(chunk))), at_start);
        feed.settle();
    }
}

/// R14: DATA that was sent before what came last is acknowledged at once.
#[test]
fn reordering_is_acknowledged_at_once() {
    let mut feed = Feed::new(1 << 20, 100 * MS);
    feed.settle();
    assert_eq!(feed.give(), 0);
    let chunk = feed.asked.pop_front().unwrap();
    feed.script.gives_late(&mut feed.net, &feed.sample, chunk, 5 * MS);
    assert_eq!(feed.listen().acks.len(), 1);
}

/// R14: nothing more is on its way, so the ACK leaves.
#[test]
fn the_last_requested_chunk_is_acknowledged_at_once() {
    let mut feed = Feed::new(3000, 100 * MS);
    assert_eq!((feed.give(), feed.give(), feed.give()), (0, 1, 1));
    assert_eq!(feed.asked.len(), 0);
}

/// R13, R14: the sample is that of the newest DATA, taken when it arrived and not when the ACK leaves.
#[test]
fn a_merged_ack_carries_the_newest_sample() {
    let mut feed = Feed::new(1 << 20, 400 * MS);
    let late = |feed: &mut Feed, delay| {
        let chunk = feed.asked.pop_front().unwrap();
        feed.script.gives_late(&mut feed.net, &feed.sample, chunk, delay);
        feed.listen().acks.iter().map(|ack| ack.1).collect::<Vec<_>>()
    };
    assert_eq!(late(&mut feed, 7 * MS), []);
    feed.net.run_for(MS);
    assert_eq!(late(&mut feed, 4 * MS), [4000]);
    feed.settle();
    assert_eq!(late(&mut feed, 3 * MS), []);
    feed.net.run_for(11 * MS);
    assert_eq!(feed.listen().acks[0].1, 3000);
}

/// RFC 7574 §4.3.2: an ACK names the biggest interval of verified chunks around the new ones.
#[test]
fn an_ack_names_the_biggest_interval() {
    let mut feed = Feed::new(1 << 20, 100 * MS);
    feed.give();
    feed.give();
    assert_eq!(feed.acks, [(ChunkRange::new(0, 2), 0)]);
    feed.asked.swap(0, 1);
    feed.asked.swap(0, 2);
    assert_eq!(feed.asked.iter().take(3).copied().collect::<Vec<_>>(), [4, 2, 3]);
    feed.acks.clear();
    feed.give();
    feed.give();
    assert_eq!(feed.acks, [(ChunkRange::new(0, 3), 0), (ChunkRange::new(4, 5), 0)]);
    feed.acks.clear();
    feed.give();
    feed.give();
    assert_eq!(feed.acks[0].0, ChunkRange::new(0, 6));
}

/// R13: ACK follows verification; HAVE, and the answer to a REQUEST, wait until the chunk is stored.
#[test]
fn have_and_data_wait_for_storage_and_acks_do_not() {
    let mut feed = Feed::new(1 << 20, 40 * MS);
    feed.net.hosts[feed.leecher].disk.hold_writes = true;
    let other = Script::opens(&mut feed.net, feed.leecher, &feed.sample.metadata, 2, MS);
    for _ in 0..16 {
        feed.give();
    }
    assert_eq!(feed.acks.last().unwrap().0, ChunkRange::new(0, 16));
    other.say(&mut feed.net, &[Message::Request(ChunkRange::new(3, 4))]);
    feed.net.run_for(200 * MS);
    let before = other.summary(&mut feed.net);
    assert_eq!((before.haves.len(), before.data.len()), (0, 0));
    assert_eq!(feed.net.hosts[feed.leecher].progress().unwrap().bytes_stored, 0);

    let now = feed.net.now;
    feed.net.hosts[feed.leecher].release_writes(now);
    feed.net.run_for(60 * MS);
    let after = other.summary(&mut feed.net);
    assert_eq!(after.haves, [ChunkRange::new(0, 16)]);
    assert_eq!(after.data.first(), Some(&3));
}

/// R13: acknowledged chunks that cannot be stored are wanted again.
#[test]
fn a_failed_store_makes_chunks_wanted_again() {
    let mut feed = Feed::new(64 * 1024, 40 * MS);
    feed.net.hosts[feed.leecher].disk.fail_writes = true;
    for _ in 0..16 {
        feed.give();
    }
    feed.net.hosts[feed.leecher].disk.fail_writes = false;
    assert!(feed.acks.last().unwrap().0.contains(ChunkIndex::new(15)));
    // They are asked for again a second later.
    for _ in 0..200 {
        while !feed.asked.is_empty() {
            feed.give();
        }
        feed.net.run_for(10 * MS);
        feed.listen();
    }
    assert!(feed.net.hosts[feed.leecher].complete);
    assert!(feed.net.hosts[feed.leecher].disk.bytes == feed.sample.bytes);
    assert_eq!(feed.net.hosts[feed.leecher].stats().chunks_received, 64 + 16);
}

/// The hashes that come with the chunks of one REQUEST.
fn hashes_for(net: &mut Net, script: &Script, range: ChunkRange) -> Vec<Bin> {
    script.say(net, &[Message::Request(range)]);
    script.summary(net).integrity
}

/// The hashes beside chunk 5 within its group, from the group's halves down.
fn beside_chunk_5() -> Vec<Bin> {
    [run(8, 16), run(0, 4), run(6, 8), run(4, 5)].map(|range| Bin::spanning(range).unwrap()).to_vec()
}

/// R13: what a peer announced and asks for it lost, and with it the hashes of its group, whoever it had that from.
#[test]
fn what_was_announced_and_is_asked_for_goes_with_its_hashes() {
    let sample = Sample::new(64 * 1024);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, 20 * MS);
    script.say(&mut net, &[Message::Have(run(0, 4)), Message::Have(run(5, 48))]);
    script.summary(&mut net);
    assert_eq!(hashes_for(&mut net, &script, run(5, 6)), beside_chunk_5());
    // An ACK says that it has them now.
    script.say(&mut net, &[Message::Ack { range: run(5, 6), delay: 1000 }]);
    assert_eq!(hashes_for(&mut net, &script, run(4, 5)), []);
}

/// R13: what was sent, is asked for again and was not acknowledged was of no use: the peer lacks hashes, whatever it
/// acknowledged of the group before.
#[test]
fn what_is_asked_for_again_goes_with_its_hashes() {
    let sample = Sample::new(64 * 1024);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, 20 * MS);
    hashes_for(&mut net, &script, run(0, 1));
    script.say(&mut net, &[Message::Ack { range: run(0, 1), delay: 1000 }]);
    // The hashes over 0..4, 4..6 and 6..8 are known to whoever verified chunk 0, or came with chunk 5.
    assert_eq!(
        hashes_for(&mut net, &script, run(5, 6)),
        [run(6, 8), run(4, 5)].map(|range| Bin::spanning(range).unwrap())
    );
    net.run_for(10 * Duration::from_secs(1));
    script.summary(&mut net);
    // All peaks too: nothing that it acknowledged is believed any more.
    assert!(hashes_for(&mut net, &script, run(5, 6)).ends_with(&beside_chunk_5()));
}

/// RFC 7574 §5.3: chunks of a run leave with the hashes that neither those sent before nor what is announced meanwhile
/// implies, highest first, wherever that lies.
#[test]
fn what_was_announced_within_a_run_spares_hashes() {
    for announced in [run(3, 4), run(5, 8), run(13, 14), run(25, 28), run(33, 35), run(46, 47)] {
        let sample = Sample::new(47 * 1024);
        let mut net = Net::new();
        let seeder = net.seeder(&sample);
        let script = Script::opens(&mut net, seeder, &sample.metadata, 1, 20 * MS);
        // The peer is no newcomer, which gets peaks.
        script.say(&mut net, &[Message::Have(run(0, 1)), Message::Request(run(1, 47))]);
        let mut known = vec![0];
        for turn in 0..100 {
            let mut acks = Vec::new();
            for heard in script.hears(&mut net) {
                let messages = heard.messages();
                let Some(Message::Data { chunk, .. }) = messages.last() else { continue };
                let nodes = messages.iter().filter_map(|message| match message {
                    Message::Integrity { node, .. } => Some(*node),
                    _ => None,
                });
                let implied = |range: ChunkRange| known.iter().any(|&chunk| range.contains(ChunkIndex::new(chunk)));
                let expected = uncles(&sample.geometry(), *chunk, implied);
                assert_eq!(nodes.collect::<Vec<_>>(), expected[..], "{chunk:?} beside {announced:?}");
                known.push(chunk.value());
                acks.push(Message::Ack { range: ChunkRange::single(*chunk), delay: 1000 });
            }
            if turn == 0 {
                // Some of the run has left, and the rest waits for room in the window.
                assert!(known.len() > 1 && !known.iter().any(|&chunk| announced.contains(ChunkIndex::new(chunk))));
                script.say(&mut net, &[Message::Have(announced)]);
                known.extend(announced.iter().map(ChunkIndex::value));
            }
            script.say(&mut net, &acks);
            net.run_for(5 * MS);
        }
        known.sort_unstable();
        assert_eq!(known, (0..47).collect::<Vec<_>>());
    }
}

/// Karn: the ACK of what is asked for again may be for the copy that was sent before, which makes it too short at worst.
#[test]
fn a_late_ack_of_an_earlier_copy_is_no_sample() {
    let sample = Sample::new(64 * 1024);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, 20 * MS);
    let srtt = |net: &Net| {
        let view = net.hosts[seeder].endpoint.swarm(net.hosts[seeder].swarm).unwrap();
        view.peers().next().unwrap().srtt
    };
    for chunk in 0..20 {
        script.say(&mut net, &[Message::Request(run(chunk, chunk + 1))]);
        net.run_for(20 * MS);
        script.say(&mut net, &[Message::Ack { range: run(chunk, chunk + 1), delay: 1000 }]);
    }
    let before = srtt(&net);
    assert_eq!(before, Some(20 * MS));
    script.say(&mut net, &[Message::Request(run(20, 21))]);
    // R16: by then it is not repeated any more.
    net.run_for(10 * Duration::from_secs(1));
    script.summary(&mut net);
    script.say(&mut net, &[Message::Request(run(20, 21))]);
    assert_eq!(script.summary(&mut net).data, [20]);
    net.run_for(MS);
    script.say(&mut net, &[Message::Ack { range: run(20, 21), delay: 1000 }]);
    assert_eq!(srtt(&net), before);
    // On a path that is slower all of a sudden everything is asked for again: that must not go unnoticed.
    script.say(&mut net, &[Message::Request(run(19, 20))]);
    // Before the tail is probed, which makes it a repeat of our own.
    net.run_for(25 * MS);
    script.say(&mut net, &[Message::Ack { range: run(19, 20), delay: 1000 }]);
    assert!(srtt(&net) > before, "{:?}", srtt(&net));
}
