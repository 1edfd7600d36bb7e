//! Addresses worth dialling: named by other peers, or lost peers that may return.

use alloc::collections::BTreeMap;
use core::net::SocketAddr;
use core::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng as _;

use crate::config::PeerSource;
use crate::policy::Host;
use crate::time::Instant;

/// Share of the table that the word of one host may fill: an eighth. Others are heard as well.
const TELLER_SHARE: usize = 8;
/// Addresses of one host in the table, at most: a host that runs no peer is not to be knocked at on every port.
const MAX_PER_HOST: usize = 8;
/// Dials without an answer yet, at most.
const MAX_DIALLING: usize = 8;
/// Shortest time between two dials.
const DIAL_INTERVAL: Duration = Duration::from_millis(100);
/// Wait after a first dial in vain; four times as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// Longest wait between dials in vain, and of those of trusted peers: theirs is the network that was away.
const MAX_RETRY: Duration = Duration::from_secs(3600);
const MAX_TRUSTED_RETRY: Duration = Duration::from_secs(240);
/// Wait before a peer is dialled again whose channel ended.
const RETURN: Duration = Duration::from_secs(30);

/// An address and what came of it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: PeerSource,
    /// Who named it.
    teller: Option<Host>,
    not_before: Instant,
    /// Dials in vain, in a row.
    failures: u8,
    dialling: bool,
}

/// What may be dialled now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dial {
    /// Peers from every source.
    Any,
    /// Peers from trusted sources alone (RFC 7574 §12.2.3).
    Trusted,
}

/// A bounded table of addresses to dial.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    entries: BTreeMap<SocketAddr, Candidate>,
    dialling: usize,
    /// When the next dial is allowed.
    dial_at: Instant,
}

impl Candidates {
    /// Whether `address` is being dialled.
    pub(crate) fn is_dialling(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.dialling)
    }

    /// Whether `address` came from a trusted source.
    pub(crate) fn is_trusted(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.source == PeerSource::Trusted)
    }

    /// Takes `address` to come from a trusted source, if it is known.
    pub(crate) fn trust(&mut self, address: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.source = PeerSource::Trusted;
        }
    }

    /// Takes in an address that the host `teller` named; returns whether it is new and was kept.
    ///
    /// Of `limit` addresses an eighth may come from one host. In a full table a dead one gives way, or the new one.
    pub(crate) fn learn(&mut self, address: SocketAddr, teller: Host, now: Instant, limit: usize) -> bool {
        if self.entries.contains_key(&address) {
            return false;
        }
        let host = Host::of(address.ip());
        let count = |test: &dyn Fn(&SocketAddr, &Candidate) -> bool| {
            self.entries.iter().filter(|(address, entry)| test(address, entry)).count()
        };
        let crowded = !address.ip().is_loopback() && count(&|other, _| Host::of(other.ip()) == host) >= MAX_PER_HOST;
        if crowded || count(&|_, entry| entry.teller == Some(teller)) >= (limit / TELLER_SHARE).max(1) {
            return false;
        }
        let entry = Candidate {
            source: PeerSource::Exchange,
            teller: Some(teller),
            not_before: now,
            failures: 0,
            dialling: false,
        };
        self.insert(address, entry, limit)
    }

    /// Keeps the address of a peer whose channel ended, to dial it again after a while.
    pub(crate) fn lose(&mut self, address: SocketAddr, source: PeerSource, now: Instant, limit: usize) {
        let entry = Candidate { source, teller: None, not_before: now + RETURN, failures: 0, dialling: false };
        if !self.entries.contains_key(&address) {
            self.insert(address, entry, limit);
        }
    }

    fn insert(&mut self, address: SocketAddr, entry: Candidate, limit: usize) -> bool {
        while self.entries.len() >= limit {
            // Trusted addresses stay; a trusted newcomer displaces hearsay.
            let dead = self
                .entries
                .iter()
                .filter(|(_, old)| old.source != PeerSource::Trusted && !old.dialling)
                .filter(|(_, old)| old.failures > 0 || entry.source == PeerSource::Trusted)
                .max_by_key(|(_, old)| (old.failures, old.not_before))
                .map(|(&address, _)| address);
            let Some(dead) = dead else { return false };
            self.entries.remove(&dead);
        }
        self.entries.insert(address, entry);
        true
    }

    /// Picks the address to dial now: a trusted one that is due, or any of the others that `which` allows.
    ///
    /// What is not `usable` waits like a dial in vain.
    pub(crate) fn dial(
        &mut self,
        now: Instant,
        which: Dial,
        rng: &mut ChaCha12Rng,
        usable: impl Fn(SocketAddr, PeerSource) -> bool,
    ) -> Option<(SocketAddr, PeerSource)> {
        if now < self.dial_at || self.dialling >= MAX_DIALLING {
            return None;
        }
        loop {
            let address = self.pick(now, which, rng)?;
            let entry = self.entries.get_mut(&address)?;
            if !usable(address, entry.source) {
                entry.not_before = now + FIRST_RETRY;
                continue;
            }
            entry.dialling = true;
            self.dialling += 1;
            self.dial_at = now + DIAL_INTERVAL;
            return Some((address, entry.source));
        }
    }

    /// One of the addresses that are due: a trusted one, or by chance, so that no teller chooses the order.
    fn pick(&self, now: Instant, which: Dial, rng: &mut ChaCha12Rng) -> Option<SocketAddr> {
        let due = |source: PeerSource| {
            self.entries
                .iter()
                .filter(move |(_, entry)| entry.source == source && !entry.dialling && entry.not_before <= now)
                .map(|(&address, _)| address)
        };
        due(PeerSource::Trusted).next().or_else(|| {
            let others = due(PeerSource::Exchange).count();
            if which == Dial::Trusted || others == 0 {
                return None;
            }
            due(PeerSource::Exchange).nth(rng.next_u32() as usize % others)
        })
    }

    /// When a dial is to be tried next, if nothing changes; `None` if there is nothing to dial, or an answer is due
    /// first.
    pub(crate) fn next_dial(&self, which: Dial) -> Option<Instant> {
        if self.dialling >= MAX_DIALLING {
            return None;
        }
        let waiting = self.entries.values().filter(|entry| !entry.dialling);
        let waiting = waiting.filter(|entry| which == Dial::Any || entry.source == PeerSource::Trusted);
        waiting.map(|entry| entry.not_before).min().map(|at| at.max(self.dial_at))
    }

    /// Number of dials without an answer yet.
    pub(crate) const fn dialling(&self) -> usize {
        self.dialling
    }

    /// There is a channel to `address`: it is no candidate any more.
    pub(crate) fn settle(&mut self, address: SocketAddr) {
        if let Some(entry) = self.entries.remove(&address)
            && entry.dialling
        {
            self.dialling -= 1;
        }
    }

    /// The dial of `address` was in vain, or it could not be dialled; `hopeless` if another is not worth while.
    pub(crate) fn fail(&mut self, address: SocketAddr, now: Instant, hopeless: bool) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if entry.dialling {
            entry.dialling = false;
            self.dialling -= 1;
        }
        let most = if entry.source == PeerSource::Trusted && !hopeless { MAX_TRUSTED_RETRY } else { MAX_RETRY };
        let wait = if hopeless { MAX_RETRY } else { FIRST_RETRY * 4_u32.pow(u32::from(entry.failures.min(4))) };
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = now + wait.min(most);
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng as _;
    use std::vec::Vec;

    use super::*;

    const LIMIT: usize = 64;
    const START: Instant = Instant::from_micros(1_000_000_000);

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::from_seed([3; 32])
    }

    fn address(number: u32) -> SocketAddr {
        SocketAddr::from(((0x0a00_0000 + number).to_be_bytes(), 6778))
    }

    fn teller(number: u32) -> Host {
        Host::of(address(0x00ff_0000 + number).ip())
    }

    #[test]
    fn one_teller_fills_an_eighth_and_all_together_no_more_than_the_limit() {
        let mut table = Candidates::default();
        for number in 0..1000 {
            table.learn(address(number), teller(0), START, LIMIT);
        }
        assert_eq!(table.entries.len(), LIMIT / 8);
        for number in 1000..9000 {
            table.learn(address(number), teller(number % 50), START, LIMIT);
        }
        assert_eq!(table.entries.len(), LIMIT);
        assert!(!table.learn(address(0), teller(60), START, LIMIT), "known");
        // Dead ones give way, and trusted ones take the place of hearsay.
        table.fail(address(0), START, false);
        assert!(table.learn(address(9001), teller(60), START, LIMIT));
        table.lose(address(9002), PeerSource::Trusted, START, LIMIT);
        assert!(table.is_trusted(address(9002)));
        assert_eq!(table.entries.len(), LIMIT);
        // Nothing displaces the trusted.
        let mut table = Candidates::default();
        for number in 0..100 {
            table.lose(address(number), PeerSource::Trusted, START, LIMIT);
        }
        assert!(!table.learn(address(200), teller(0), START, LIMIT));
        assert_eq!(table.entries.len(), LIMIT);
    }

    #[test]
    fn a_host_is_not_knocked_at_on_every_port() {
        let mut table = Candidates::default();
        for port in 1..1000 {
            table.learn(SocketAddr::from(([192, 0, 2, 7], port)), teller(u32::from(port)), START, LIMIT);
            table.learn(SocketAddr::from(([127, 0, 0, 1], port)), teller(u32::from(port)), START, 2 * LIMIT);
        }
        let of = |table: &Candidates, loopback| {
            table.entries.keys().filter(|address| address.ip().is_loopback() == loopback).count()
        };
        assert_eq!(of(&table, false), MAX_PER_HOST);
        assert_eq!(of(&table, true), 2 * LIMIT - MAX_PER_HOST);
    }

    #[test]
    fn dials_are_spaced_few_at_a_time_and_trusted_first() {
        let mut table = Candidates::default();
        let mut rng = rng();
        for number in 0..32 {
            assert!(table.learn(address(number), teller(number), START, LIMIT));
        }
        table.lose(address(77), PeerSource::Trusted, START - RETURN, LIMIT);
        let mut dialled = Vec::new();
        for turn in 0..100 {
            let now = START + turn * (DIAL_INTERVAL / 10);
            if let Some((address, _)) = table.dial(now, Dial::Any, &mut rng, |_, _| true) {
                dialled.push((turn, address));
            }
        }
        assert_eq!(dialled.len(), MAX_DIALLING);
        assert_eq!(dialled[0], (0, address(77)));
        assert!(dialled.windows(2).all(|pair| pair[1].0 - pair[0].0 == 10));
        assert_eq!(table.next_dial(Dial::Any), None, "an answer is due first");
        // In vain: others have their turn, this one waits a minute, then four.
        let now = START + 10 * DIAL_INTERVAL;
        let (first, second) = (dialled[0].1, dialled[1].1);
        table.fail(second, now, false);
        assert_eq!(table.next_dial(Dial::Any), Some(table.dial_at));
        assert_eq!(table.entries[&second].not_before, now + FIRST_RETRY);
        table.fail(second, now, false);
        assert_eq!(table.entries[&second].not_before, now + 4 * FIRST_RETRY);
        for _ in 0..300 {
            table.fail(second, now, false);
        }
        assert_eq!(table.entries[&second].not_before, now + MAX_RETRY);
        // An answer frees its place.
        table.settle(first);
        assert_eq!((table.dialling(), table.is_dialling(first)), (MAX_DIALLING - 2, false));
    }

    #[test]
    fn where_trust_is_asked_for_hearsay_is_not_dialled() {
        let mut table = Candidates::default();
        let mut rng = rng();
        assert!(table.learn(address(1), teller(1), START, LIMIT));
        assert_eq!(table.dial(START, Dial::Trusted, &mut rng, |_, _| true), None);
        assert_eq!(table.next_dial(Dial::Trusted), None);
        table.lose(address(2), PeerSource::Trusted, START, LIMIT);
        assert_eq!(table.next_dial(Dial::Trusted), Some(START + RETURN));
        let picked = table.dial(START + RETURN, Dial::Trusted, &mut rng, |_, _| true);
        assert_eq!(picked, Some((address(2), PeerSource::Trusted)));
        // What is not usable is passed over, and tried a minute later.
        let now = START + 2 * RETURN;
        assert_eq!(table.dial(now, Dial::Any, &mut rng, |other, _| other != address(1)), None);
        assert_eq!(table.next_dial(Dial::Any), Some(now + FIRST_RETRY));
        let picked = table.dial(now + FIRST_RETRY, Dial::Any, &mut rng, |_, _| true);
        assert_eq!(picked, Some((address(1), PeerSource::Exchange)));
    }
}
