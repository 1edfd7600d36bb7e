//! RFC 7574 §3.2, §4.3.1: whom HAVE goes to, and what it names.

use std::time::Duration;

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::Message;

use crate::net::{Net, Sample};
use crate::script::Script;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

fn run(start: u64, end: u64) -> ChunkRange {
    ChunkRange::new(start, end)
}

/// A leecher, and the scripted seeder that gives it what it asks for.
struct Source {
    net: Net,
    sample: Sample,
    leecher: usize,
    script: Script,
}

impl Source {
    fn new() -> Self {
        let sample = Sample::new(200_000);
        let mut net = Net::new();
        let leecher = net.leecher(&sample.metadata);
        let (script, _) = Script::answers(&mut net, leecher, &sample.metadata, 1, RTT);
        Self { net, sample, leecher, script }
    }

    /// Announces `range`, gives what is asked for, and lets the leecher tell others.
    fn gives(&mut self, range: ChunkRange) {
        self.script.say(&mut self.net, &[Message::Have(range)]);
        let mut given = 0;
        while given < range.count() {
            let asked = self.script.summary(&mut self.net).requested();
            assert!(!asked.is_empty(), "{given} of {range:?} were asked for");
            for &chunk in &asked {
                self.script.gives(&mut self.net, &self.sample, chunk);
            }
            given += asked.len() as u64;
        }
        self.net.run_for(60 * MS);
    }

    /// One that is never asked for anything: it chokes.
    fn other(&mut self, number: u8) -> Script {
        let script = Script::opens(&mut self.net, self.leecher, &self.sample.metadata, number, RTT);
        script.say(&mut self.net, &[Message::Choke]);
        script.hears(&mut self.net);
        script
    }
}

// §4.3.1: HAVE names the biggest interval around what is new, not what is new alone.
#[test]
fn a_have_names_the_biggest_interval() {
    let mut source = Source::new();
    let other = source.other(2);
    let steps = [
        (run(16, 32), run(16, 32)),
        (run(32, 48), run(16, 48)),
        (run(80, 96), run(80, 96)),
        (run(0, 16), run(0, 48)),
        (run(48, 80), run(0, 96)),
    ];
    for (new, named) in steps {
        source.gives(new);
        assert_eq!(other.summary(&mut source.net).haves, [named], "after {new:?}");
    }
}

// §3.2: a peer that announced everything is not told what others are, at whatever time it did.
#[test]
fn seeders_are_not_sent_haves() {
    let mut source = Source::new();
    let all = source.sample.geometry().all();
    let [early, late, leecher] = [2, 3, 4].map(|number| source.other(number));
    early.say(&mut source.net, &[Message::Have(all)]);
    source.gives(run(0, 16));
    assert_eq!(early.summary(&mut source.net).haves, []);
    for other in [&late, &leecher] {
        assert_eq!(other.summary(&mut source.net).haves, [run(0, 16)]);
    }
    // One becomes a seeder while there is news for it.
    late.say(&mut source.net, &[Message::Have(run(0, 100))]);
    source.gives(run(16, 32));
    assert_eq!(late.summary(&mut source.net).haves, [run(0, 32)]);
    late.say(&mut source.net, &[Message::Have(run(100, all.end()))]);
    leecher.hears(&mut source.net);
    source.gives(run(32, 64));
    // One that we call says so with its HANDSHAKE, before it was told anything.
    let metadata = source.sample.metadata.clone();
    let have = [Message::Have(all), Message::Choke];
    let (called, _) = Script::answers_with(&mut source.net, source.leecher, &metadata, 5, RTT, &have);
    source.net.run_for(Duration::from_secs(10));
    for seeder in [early, late, called] {
        assert_eq!(seeder.summary(&mut source.net).haves, [], "{:?}", seeder.address);
    }
    assert_eq!(leecher.summary(&mut source.net).haves.first(), Some(&run(0, 64)));
}
