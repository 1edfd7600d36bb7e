//! A crowd around a content: who joins, how they are linked, when they are done.

use std::time::Duration;

use ppspp_core::{Content, EndpointConfig, Instant, PexPolicy};

use crate::net::{Link, Net, Sample};

/// 10 Mbit/s in bytes per second.
pub(crate) const TEN_MBIT: u64 = 1_250_000;
/// What waits in a link before it drops.
pub(crate) const BUFFER: Duration = Duration::from_millis(300);

/// A swarm in which everybody knows everybody.
pub(crate) struct Crowd {
    pub(crate) net: Net,
    pub(crate) sample: Sample,
    pub(crate) seeders: Vec<usize>,
    pub(crate) leechers: Vec<usize>,
    pub(crate) begun: Instant,
}

impl Crowd {
    /// `seeders` and `leechers` with 10 Mbit/s each way and 40 ms from one to another and back.
    pub(crate) fn new(len: usize, seeders: usize, leechers: usize) -> Self {
        let sample = Sample::new(len);
        let mut net = Net::new();
        net.latency = Duration::from_millis(20);
        // Who knows whom is the test's choice.
        let mut config = EndpointConfig::default();
        config.pex = PexPolicy::Off;
        let mut join = |content, bytes| net.add_with(config.clone(), sample.metadata.clone(), content, bytes);
        let seeders: Vec<usize> =
            (0..seeders).map(|_| join(Content::Seed { tree: sample.tree.clone() }, sample.bytes.clone())).collect();
        let leechers: Vec<usize> = (0..leechers).map(|_| join(Content::Fetch, Vec::new())).collect();
        let begun = net.now;
        let mut crowd = Self { net, sample, seeders, leechers, begun };
        for host in 0..crowd.net.hosts.len() {
            crowd.link(host, TEN_MBIT);
        }
        crowd
    }

    /// Gives `host` a link of `rate` bytes per second each way.
    pub(crate) fn link(&mut self, host: usize, rate: u64) {
        self.net.links.insert(host, Link::new(rate, rate, BUFFER));
    }

    /// Lets every leecher open a channel to every seeder and to the leechers before it.
    pub(crate) fn connect(&mut self) {
        for (place, &leecher) in self.leechers.iter().enumerate() {
            for &seeder in &self.seeders {
                self.net.connect(leecher, seeder);
            }
            for &other in &self.leechers[..place] {
                self.net.connect(leecher, other);
            }
        }
    }

    /// Runs until every leecher is complete and returns how long each took.
    #[track_caller]
    pub(crate) fn run(&mut self, limit: Duration) -> Vec<Duration> {
        let mut times = vec![None; self.leechers.len()];
        let (leechers, begun) = (self.leechers.clone(), self.begun);
        let done = self.net.run(limit, |net| {
            for (time, &leecher) in times.iter_mut().zip(&leechers) {
                if time.is_none() && net.hosts[leecher].complete {
                    *time = Some(net.now - begun);
                }
            }
            times.iter().all(Option::is_some)
        });
        let progress: Vec<_> = leechers.iter().map(|&leecher| self.net.hosts[leecher].progress()).collect();
        assert!(done, "not complete after {limit:?}: {progress:?}");
        for &leecher in &leechers {
            assert!(self.net.hosts[leecher].disk.bytes == self.sample.bytes, "wrong bytes were stored");
        }
        times.into_iter().flatten().collect()
    }

    /// Content bytes that arrived again, as a share of what arrived, in hundredths of a percent.
    pub(crate) fn duplicates(&self) -> u64 {
        let stats = self.leechers.iter().map(|&leecher| self.net.hosts[leecher].stats());
        let (again, new) = stats
            .fold((0, 0), |(again, new), stats| (again + stats.duplicate_bytes, new + stats.content_bytes_received));
        again * 10_000 / new.max(1)
    }
}
