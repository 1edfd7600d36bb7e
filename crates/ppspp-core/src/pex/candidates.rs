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
/// Dials that wait for an answer, at most.
const MAX_DIALLING: usize = 8;
/// How long others wait for one: by then its HANDSHAKE has been repeated twice. It may still be answered later.
const ANSWER_TIME: Duration = Duration::from_secs(5);
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
    /// Half of that wait.
    held_until: Instant,
    /// Dials in vain, in a row.
    failures: u8,
    /// Since when it is being dialled.
    dialled_at: Option<Instant>,
}

impl Candidate {
    /// Whether it keeps others from its place: it is dialled, was not yet, or failed and has not waited for long.
    fn counts(&self, now: Instant) -> bool {
        self.dialled_at.is_some() || self.failures == 0 || self.held_until > now
    }

    /// Whether it is dialled and an answer is to be waited for.
    fn is_awaited(&self, now: Instant) -> bool {
        self.dialled_at.is_some_and(|at| now < at + ANSWER_TIME)
    }
}

/// Where a new address goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    /// Beside the others.
    Beside,
    /// In the place of one.
    InPlaceOf(SocketAddr),
    /// Nowhere.
    None,
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
    /// When the next dial is allowed.
    dial_at: Instant,
}

impl Candidates {
    /// Whether `address` is being dialled.
    pub(crate) fn is_dialling(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.dialled_at.is_some())
    }

    /// Whether `address` came from a trusted source.
    pub(crate) fn is_trusted(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.source == PeerSource::Trusted)
    }

    /// Whether any came from a trusted source.
    pub(crate) fn has_trusted(&self) -> bool {
        self.entries.values().any(|entry| entry.source == PeerSource::Trusted)
    }

    /// Takes `address` to come from a trusted source, if it is known.
    pub(crate) fn trust(&mut self, address: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.source = PeerSource::Trusted;
        }
    }

    /// Takes in an address that the host `teller` named; returns whether it is new and was kept.
    ///
    /// Of `limit` addresses an eighth may come from one host, and eight be of one host. Where these were dialled in vain the
    /// new one takes the place of one, and its record: where nobody answers is tried ever more rarely, on whatever port, and
    /// so is what somebody names who names only such. In a full table a dead one gives way, or the new one.
    pub(crate) fn learn(&mut self, address: SocketAddr, teller: Host, now: Instant, limit: usize) -> bool {
        if self.entries.contains_key(&address) {
            return false;
        }
        let host = Host::of(address.ip());
        let of_host = |other: SocketAddr, _: &Candidate| !other.ip().is_loopback() && Host::of(other.ip()) == host;
        let of_teller = |_, entry: &Candidate| entry.teller == Some(teller);
        let share = (limit / TELLER_SHARE).max(1);
        let rooms = [self.room(MAX_PER_HOST, now, of_host), self.room(share, now, of_teller)];
        if rooms.contains(&Room::None) {
            return false;
        }
        let mut failures = 0;
        for room in rooms {
            if let Room::InPlaceOf(old) = room {
                failures = self.entries.remove(&old).map_or(0, |old| old.failures).max(failures);
            }
        }
        let entry = Candidate {
            source: PeerSource::Exchange,
            teller: Some(teller),
            not_before: now,
            held_until: now,
            failures,
            dialled_at: None,
        };
        self.insert(address, entry, limit)
    }

    /// Where one more of those that `belong` together finds room among `most`.
    fn room(&self, most: usize, now: Instant, belong: impl Fn(SocketAddr, &Candidate) -> bool) -> Room {
        let group = || self.entries.iter().filter(|&(&address, entry)| belong(address, entry));
        if group().count() < most {
            return Room::Beside;
        }
        let idle = group().filter(|(_, entry)| entry.source != PeerSource::Trusted && !entry.counts(now));
        idle.max_by_key(|(_, entry)| entry.failures).map_or(Room::None, |(&address, _)| Room::InPlaceOf(address))
    }

    /// Keeps the address of a peer whose channel ended, to dial it again after a while.
    pub(crate) fn lose(&mut self, address: SocketAddr, source: PeerSource, now: Instant, limit: usize) {
        let entry = Candidate {
            source,
            teller: None,
            not_before: now + RETURN,
            held_until: now,
            failures: 0,
            dialled_at: None,
        };
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
                .filter(|(_, old)| old.source != PeerSource::Trusted && old.dialled_at.is_none())
                .filter(|(_, old)| old.failures > 0 || entry.source == PeerSource::Trusted)
                .max_by_key(|(_, old)| (old.failures, old.not_before))
                .map(|(&address, _)| address);
            let Some(dead) = dead else { return false };
            self.entries.remove(&dead);
        }
        self.entries.insert(address, entry);
        true
    }

    /// Picks the address to dial now: a trusted one that is due, or any of the others that `which` allows. None while
    /// [`MAX_DIALLING`] are waited for.
    ///
    /// What is not `usable` waits like a dial in vain.
    pub(crate) fn dial(
        &mut self,
        now: Instant,
        which: Dial,
        rng: &mut ChaCha12Rng,
        usable: impl Fn(SocketAddr, PeerSource) -> bool,
    ) -> Option<(SocketAddr, PeerSource)> {
        if now < self.dial_at || self.awaited(now) >= MAX_DIALLING {
            return None;
        }
        loop {
            let address = self.pick(now, which, rng)?;
            let entry = self.entries.get_mut(&address)?;
            if !usable(address, entry.source) {
                entry.not_before = now + FIRST_RETRY;
                continue;
            }
            entry.dialled_at = Some(now);
            self.dial_at = now + DIAL_INTERVAL;
            return Some((address, entry.source));
        }
    }

    /// One of the addresses that are due: the trusted one that waits longest, or another by chance, so that no teller
    /// chooses the order.
    fn pick(&self, now: Instant, which: Dial, rng: &mut ChaCha12Rng) -> Option<SocketAddr> {
        let due = |source: PeerSource| {
            self.entries.iter().filter(move |(_, entry)| {
                entry.source == source && entry.dialled_at.is_none() && entry.not_before <= now
            })
        };
        let longest = due(PeerSource::Trusted).min_by_key(|(_, entry)| entry.not_before);
        let picked = longest.or_else(|| {
            let others = due(PeerSource::Exchange).count();
            if which == Dial::Trusted || others == 0 {
                return None;
            }
            due(PeerSource::Exchange).nth(rng.next_u32() as usize % others)
        });
        picked.map(|(&address, _)| address)
    }

    /// When a dial is to be tried next, if nothing changes; `None` if there is nothing to dial.
    pub(crate) fn next_dial(&self, now: Instant, which: Dial) -> Option<Instant> {
        let waiting = self.entries.values().filter(|entry| entry.dialled_at.is_none());
        let waiting = waiting.filter(|entry| which == Dial::Any || entry.source == PeerSource::Trusted);
        let due = waiting.map(|entry| entry.not_before).min()?.max(self.dial_at);
        let full = self.awaited(now) >= MAX_DIALLING;
        Some(self.awaited_until(now).filter(|_| full).map_or(due, |until| due.max(until)))
    }

    /// Number of dials whose answer is waited for.
    pub(crate) fn awaited(&self, now: Instant) -> usize {
        self.entries.values().filter(|entry| entry.is_awaited(now)).count()
    }

    /// When the first of these is not waited for any more.
    pub(crate) fn awaited_until(&self, now: Instant) -> Option<Instant> {
        let awaited = self.entries.values().filter(|entry| entry.is_awaited(now));
        awaited.filter_map(|entry| entry.dialled_at).min().map(|at| at + ANSWER_TIME)
    }

    /// There is a channel to `address`: it is no candidate any more.
    pub(crate) fn settle(&mut self, address: SocketAddr) {
        self.entries.remove(&address);
    }

    /// The dial of `address` was in vain, or it could not be dialled; `hopeless` if another is not worth while.
    pub(crate) fn fail(&mut self, address: SocketAddr, now: Instant, hopeless: bool) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        entry.dialled_at = None;
        let most = if entry.source == PeerSource::Trusted && !hopeless { MAX_TRUSTED_RETRY } else { MAX_RETRY };
        let wait = if hopeless { MAX_RETRY } else { FIRST_RETRY * 4_u32.pow(u32::from(entry.failures.min(4))) };
        entry.failures = entry.failures.saturating_add(1);
        (entry.not_before, entry.held_until) = (now + wait.min(most), now + wait.min(most) / 2);
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
        let answered = START + ANSWER_TIME;
        let now = START + 10 * DIAL_INTERVAL;
        assert_eq!(table.next_dial(now, Dial::Any), Some(answered), "an answer is due first");
        assert_eq!((table.awaited(now), table.awaited(answered)), (MAX_DIALLING, MAX_DIALLING - 1));
        // In vain: others have their turn, this one waits a minute, then four.
        let (first, second) = (dialled[0].1, dialled[1].1);
        table.fail(second, now, false);
        assert_eq!(table.next_dial(now, Dial::Any), Some(table.dial_at));
        assert_eq!(table.entries[&second].not_before, now + FIRST_RETRY);
        table.fail(second, now, false);
        assert_eq!(table.entries[&second].not_before, now + 4 * FIRST_RETRY);
        for _ in 0..300 {
            table.fail(second, now, false);
        }
        assert_eq!(table.entries[&second].not_before, now + MAX_RETRY);
        // An answer frees its place.
        table.settle(first);
        assert_eq!((table.awaited(now), table.is_dialling(first)), (MAX_DIALLING - 2, false));
    }

    #[test]
    fn where_trust_is_asked_for_hearsay_is_not_dialled() {
        let mut table = Candidates::default();
        let mut rng = rng();
        assert!(table.learn(address(1), teller(1), START, LIMIT));
        assert_eq!(table.dial(START, Dial::Trusted, &mut rng, |_, _| true), None);
        assert_eq!(table.next_dial(START, Dial::Trusted), None);
        table.lose(address(2), PeerSource::Trusted, START, LIMIT);
        assert_eq!(table.next_dial(START, Dial::Trusted), Some(START + RETURN));
        let picked = table.dial(START + RETURN, Dial::Trusted, &mut rng, |_, _| true);
        assert_eq!(picked, Some((address(2), PeerSource::Trusted)));
        // What is not usable is passed over, and tried a minute later.
        let now = START + 2 * RETURN;
        assert_eq!(table.dial(now, Dial::Any, &mut rng, |other, _| other != address(1)), None);
        assert_eq!(table.next_dial(now, Dial::Any), Some(now + FIRST_RETRY));
        let picked = table.dial(now + FIRST_RETRY, Dial::Any, &mut rng, |_, _| true);
        assert_eq!(picked, Some((address(1), PeerSource::Exchange)));
    }

    #[test]
    fn the_trusted_one_that_waits_longest_is_dialled_first() {
        let mut table = Candidates::default();
        for number in 0..4 {
            table.lose(address(number), PeerSource::Trusted, START - RETURN * (1 + number % 3), LIMIT);
        }
        let mut dials = (0..4).map(|turn| table.dial(START + DIAL_INTERVAL * turn, Dial::Any, &mut rng(), |_, _| true));
        let order = [2, 1, 0, 3].map(|number| Some((address(number), PeerSource::Trusted)));
        assert!(order.into_iter().eq(dials.by_ref()));
    }

    /// Names that led nowhere neither keep others from the table for good, nor let a teller have a host knocked at on
    /// every port.
    #[test]
    fn names_that_led_nowhere_make_room_for_others_and_pass_on_their_record() {
        let mut table = Candidates::default();
        let at_port = |port: u16| SocketAddr::from(([192, 0, 2, 7], port));
        for port in 1..=8 {
            assert!(table.learn(at_port(port), teller(0), START, LIMIT));
        }
        assert!(!table.learn(at_port(9), teller(1), START, LIMIT), "eight were not tried yet");
        let mut now = START;
        let mut tried = 0;
        for port in 1..2000 {
            now = now + Duration::from_secs(10);
            let _ = table.learn(at_port(1000 + port), teller(u32::from(port)), now, LIMIT);
            while let Some((address, _)) = table.dial(now, Dial::Any, &mut rng(), |_, _| true) {
                table.fail(address, now, false);
                now = now + DIAL_INTERVAL;
                tried += 1;
            }
            assert!(table.entries.len() <= MAX_PER_HOST);
        }
        assert!(tried < 120, "{tried} dials in five hours");
        // A teller whose names led nowhere is heard again.
        let mut table = Candidates::default();
        for number in 0..8 {
            assert!(table.learn(address(number), teller(0), START, LIMIT));
            table.fail(address(number), START, false);
        }
        assert!(!table.learn(address(8), teller(0), START, LIMIT));
        assert!(table.learn(address(8), teller(0), START + FIRST_RETRY, LIMIT));
        assert_eq!((table.entries.len(), table.entries[&address(8)].failures), (8, 1));
    }
}
