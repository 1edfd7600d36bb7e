//! How what is sent is shared out among peers.

use std::time::Duration;

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::Message;
use ppspp_core::{ByteRate, Content, EndpointConfig, Rates, Scope};

use crate::net::{Net, Sample};
use crate::script::Script;

const RTT: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);

/// A seeder under a limit, and scripted peers that asked it for everything and have windows to take it.
fn served(count: u8, chunks: u64, rate: u64) -> (Net, usize, Sample, Vec<Script>) {
    let sample = Sample::new(chunks as usize * 1024);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let scripts: Vec<_> = (1..=count).map(|n| Script::opens(&mut net, seeder, &sample.metadata, n, RTT)).collect();
    let now = net.local(seeder);
    net.hosts[seeder].endpoint.set_rates(Scope::Endpoint, Rates { up: ByteRate::new(rate), down: None }, now);
    for script in &scripts {
        script.say(&mut net, &[Message::Request(ChunkRange::new(0, chunks))]);
    }
    (net, seeder, sample, scripts)
}

/// Lets `time` pass, with each peer acknowledging what came every 10 ms; returns the chunks that each got.
fn take(net: &mut Net, scripts: &[Script], time: Duration) -> Vec<usize> {
    let until = net.now + time;
    let mut got = vec![0; scripts.len()];
    while net.now < until {
        net.run_for(Duration::from_millis(10));
        for (script, got) in scripts.iter().zip(&mut got) {
            let data = script.summary(net).data;
            *got += data.len();
            let acks: Vec<_> = data
                .iter()
                .map(|&chunk| Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 10_000 })
                .collect();
            script.say(net, &acks);
        }
    }
    got
}

// Peers get equal shares, whatever they ask for and however often they ask.
#[test]
fn bytes_are_shared_equally() {
    // So slow that a turn fits into every window.
    let (mut net, _, _, scripts) = served(5, 20_000, 128 * 1024);
    take(&mut net, &scripts, 8 * SECOND);
    for _ in 0..5 {
        // The first one nags, which gains it nothing.
        for start in 0..50 {
            scripts[0].say(&mut net, &[Message::Request(ChunkRange::new(100 * start, 20_000))]);
        }
        let got = take(&mut net, &scripts, 8 * SECOND);
        let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
        assert!(*least > 150 && most - least <= 16, "{got:?}");
    }
}

// An ACK or a REQUEST that is due leaves before any DATA, also when the limit keeps all DATA back.
#[test]
fn control_messages_do_not_wait_for_data() {
    let (mut net, seeder, sample, scripts) = served(4, 5000, 64 * 1024);
    take(&mut net, &scripts, 2 * SECOND);
    let newcomer = Script::opens(&mut net, seeder, &sample.metadata, 9, RTT);
    net.run_for(Duration::from_millis(1));
    assert!(!newcomer.summary(&mut net).haves.is_empty(), "it is told at once what there is");
}

// DATA that waits for the pacer and is taken back meanwhile leaves no deadline behind.
#[test]
fn taking_back_what_is_paced_ends_the_wait() {
    let sample = Sample::new(1 << 20);
    let mut net = Net::new();
    let seeder = net.seeder(&sample);
    let script = Script::opens(&mut net, seeder, &sample.metadata, 1, RTT);
    let all = ChunkRange::new(0, 1024);
    script.say(&mut net, &[Message::Request(all)]);
    let mut waited = 0;
    for _ in 0..400 {
        net.run_for(Duration::from_millis(5));
        let data = script.summary(&mut net).data;
        let acks: Vec<_> =
            data.iter().map(|&chunk| Message::Ack { range: ChunkRange::new(chunk, chunk + 1), delay: 1000 }).collect();
        script.say(&mut net, &acks);
        let next = net.hosts[seeder].endpoint.poll_timeout().unwrap();
        if next > net.now && next - net.now < Duration::from_millis(5) {
            waited += 1;
            script.say(&mut net, &[Message::Cancel(all)]);
            net.run_for(Duration::from_millis(20));
            script.summary(&mut net);
            script.say(&mut net, &[Message::Ack { range: all, delay: 1000 }, Message::Request(all)]);
        }
    }
    assert!(waited > 5, "the pacer made it wait {waited} times");
}

// A peer that leaves, or has its channel dropped, while it waits for its turn takes no one else's.
#[test]
fn peers_that_leave_free_their_share() {
    let (mut net, seeder, _, scripts) = served(4, 20_000, 256 * 1024);
    take(&mut net, &scripts, 2 * SECOND);
    let peers: Vec<_> = net.hosts[seeder].connected.clone();
    let now = net.local(seeder);
    for &peer in &peers[..2] {
        net.hosts[seeder].endpoint.remove_peer(peer, now);
    }
    net.run_for(Duration::from_millis(1));
    let got = take(&mut net, &scripts[2..], 4 * SECOND);
    assert!(got.iter().all(|&chunks| (430..=540).contains(&chunks)), "{got:?}");
}

// R2: who asks for one chunk of each group is charged for the groups that are read for it.
#[test]
fn what_is_read_for_a_peer_is_charged_to_its_share() {
    let sample = Sample::new(16_000 * 1024);
    let mut net = Net::new();
    let mut config = EndpointConfig::default();
    // So few that nobody finds what was read for another.
    config.limits.cached_groups = 8;
    config.rates = Rates { up: ByteRate::new(512 * 1024), down: None };
    let content = Content::Seed { tree: sample.tree.clone() };
    let seeder = net.add_with(config, sample.metadata.clone(), content, sample.bytes.clone());
    let scripts: Vec<_> = (1..=2).map(|n| Script::opens(&mut net, seeder, &sample.metadata, n, RTT)).collect();
    scripts[0].say(&mut net, &[Message::Request(ChunkRange::new(0, 8000))]);
    let scattered: Vec<_> =
        (500..1000).map(|group| Message::Request(ChunkRange::new(16 * group, 16 * group + 1))).collect();
    scripts[1].say(&mut net, &scattered);
    let got = take(&mut net, &scripts, 4 * SECOND);
    // Each chunk of the second had a group read for it; alone it is charged nothing, as while the first has no window.
    assert!(got[1] >= 20 && 3 * 16 * got[1] <= 4 * got[0], "{got:?}");
}
