//! Peers that are not dealt with for a while: a bounded table that forgets.
//!
//! Only who has proven its address is held to account, and only for what came over its channel: a forged source
//! address brings nobody in here. Many honest peers may share one host's address (NAT), so an offence is held against
//! address and port. A host whose peers offend from several ports is shunned as a whole, or changing the port would be
//! enough to come back. IPv6 hosts choose among addresses at will, so there a host is a network of 64 bits.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use arrayvec::ArrayVec;

use crate::time::Instant;

/// Ports of one host that are shunned one by one; at the next the host is.
const MAX_PORTS: usize = 3;
/// Each repetition makes it this many times as long.
const REPEAT_FACTOR: u32 = 4;
/// The longest anybody is shunned.
const MAX_SHUNNED: Duration = Duration::from_secs(24 * 3600);
/// Time without offence, once shunned no more, after which one offence is forgotten.
const FORGIVE: Duration = Duration::from_secs(3600);
/// How long a trusted peer is shunned for a lie: it may be the only source, and its memory bad rather than its will.
const TRUSTED_SHUNNED: Duration = Duration::from_secs(30);

/// A host as far as its address tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Host {
    V4(Ipv4Addr),
    /// The network of an IPv6 address.
    V6([u16; 4]),
}

impl Host {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// What a peer did, by how bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offence {
    /// It sent what does not verify.
    Lie,
    /// It sent what does not decode, or too much.
    Nuisance,
    /// It answered almost nothing it was asked for.
    Uselessness,
}

impl Offence {
    /// How long it is shunned for the first time.
    const fn first(self) -> Duration {
        match self {
            Self::Lie => Duration::from_secs(600),
            Self::Nuisance => Duration::from_secs(300),
            Self::Uselessness => Duration::from_secs(60),
        }
    }
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
struct Record {
    strikes: u32,
    until: Instant,
}

impl Record {
    const NEW: Self = Self { strikes: 0, until: Instant::ZERO };

    fn strike(&mut self, first: Duration, now: Instant) {
        let forgiven = (now - self.until).as_secs() / FORGIVE.as_secs();
        let before = self.strikes.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.strikes = before + 1;
        let time = first.saturating_mul(REPEAT_FACTOR.saturating_pow(before)).min(MAX_SHUNNED);
        self.until = self.until.max(now + time);
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        now - self.until >= FORGIVE.saturating_mul(self.strikes)
    }
}

/// What is known of one host.
#[derive(Clone, Debug, Default)]
struct HostRecord {
    peers: ArrayVec<(SocketAddr, Record), MAX_PORTS>,
    whole: Option<Record>,
}

impl HostRecord {
    fn until(&self) -> Instant {
        let peers = self.peers.iter().map(|(_, record)| record.until);
        peers.chain(self.whole.map(|record| record.until)).max().unwrap_or(Instant::ZERO)
    }
}

/// Who is shunned, and until when.
#[derive(Debug)]
pub(crate) struct Reputation {
    hosts: BTreeMap<Host, HostRecord>,
    limit: usize,
}

impl Reputation {
    /// Remembers at most `limit` hosts: the one whose time ends first is forgotten for another.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { hosts: BTreeMap::new(), limit }
    }

    /// The peer at `address`, which has proven it, committed `offence`.
    pub(crate) fn strike(&mut self, address: SocketAddr, trusted: bool, offence: Offence, now: Instant) {
        if trusted && offence != Offence::Lie {
            return;
        }
        let host = Host::of(address.ip());
        self.make_room(host);
        if self.limit == 0 {
            return;
        }
        let known = self.hosts.entry(host).or_default();
        known.peers.retain(|(_, record)| !record.is_forgotten(now));
        known.whole = known.whole.filter(|record| !record.is_forgotten(now));
        let first = if trusted { TRUSTED_SHUNNED } else { offence.first() };
        if let Some((_, record)) = known.peers.iter_mut().find(|(peer, _)| *peer == address) {
            record.strike(first, now);
            return;
        }
        let mut record = Record::NEW;
        record.strike(first, now);
        if known.peers.try_push((address, record)).is_err() {
            // On a loopback every process is a peer of its own.
            if trusted || address.ip().is_loopback() {
                if let Some(oldest) = known.peers.iter_mut().min_by_key(|(_, record)| record.until) {
                    *oldest = (address, record);
                }
            } else {
                known.whole.get_or_insert(Record::NEW).strike(first, now);
            }
        }
    }

    /// Whether the peer at `address` is shunned. A trusted one is not held to account for its neighbours.
    pub(crate) fn is_shunned(&self, address: SocketAddr, trusted: bool, now: Instant) -> bool {
        let Some(known) = self.hosts.get(&Host::of(address.ip())) else { return false };
        let whole = known.whole.filter(|_| !trusted);
        let own = known.peers.iter().find(|(peer, _)| *peer == address).map(|(_, record)| *record);
        whole.into_iter().chain(own).any(|record| now < record.until)
    }

    fn make_room(&mut self, host: Host) {
        while self.hosts.len() >= self.limit.max(1) && !self.hosts.contains_key(&host) {
            let first = self.hosts.iter().min_by_key(|(_, known)| known.until()).map(|(&host, _)| host);
            let Some(first) = first else { break };
            self.hosts.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Instant = Instant::from_micros(100_000_000_000);
    const HEARSAY: bool = false;
    const TRUSTED: bool = true;

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    /// How long the peer is shunned from `now` on, in seconds.
    fn time_of(reputation: &Reputation, address: SocketAddr, trusted: bool, now: Instant) -> u64 {
        (0..200_000)
            .find(|&second| !reputation.is_shunned(address, trusted, now + Duration::from_secs(second)))
            .unwrap()
    }

    #[test]
    fn repetition_makes_it_longer_and_time_heals() {
        let mut reputation = Reputation::new(10);
        let mut now = START;
        let mut times = alloc::vec::Vec::new();
        for _ in 0..5 {
            reputation.strike(peer(1, 1), HEARSAY, Offence::Lie, now);
            times.push(time_of(&reputation, peer(1, 1), HEARSAY, now));
            now = now + SECOND * u32::try_from(times[times.len() - 1]).unwrap();
        }
        assert_eq!(times, [600, 2400, 9600, 38_400, 86_400]);
        // Two hours later two offences are forgotten, a day later all are.
        now = now + 2 * FORGIVE;
        reputation.strike(peer(1, 1), HEARSAY, Offence::Lie, now);
        assert_eq!(time_of(&reputation, peer(1, 1), HEARSAY, now), 38_400);
        now = now + 50 * FORGIVE;
        reputation.strike(peer(1, 1), HEARSAY, Offence::Lie, now);
        assert_eq!(time_of(&reputation, peer(1, 1), HEARSAY, now), 600);
        // The lesser offences cost less.
        reputation.strike(peer(2, 1), HEARSAY, Offence::Nuisance, now);
        reputation.strike(peer(3, 1), HEARSAY, Offence::Uselessness, now);
        assert_eq!(time_of(&reputation, peer(2, 1), HEARSAY, now), 300);
        assert_eq!(time_of(&reputation, peer(3, 1), HEARSAY, now), 60);
    }

    #[test]
    fn neighbours_behind_one_address_are_spared_until_it_is_a_habit() {
        let mut reputation = Reputation::new(10);
        for port in 1..=3 {
            reputation.strike(peer(1, port), HEARSAY, Offence::Lie, START);
            assert!(reputation.is_shunned(peer(1, port), HEARSAY, START));
            assert!(!reputation.is_shunned(peer(1, 99), HEARSAY, START));
        }
        reputation.strike(peer(1, 4), HEARSAY, Offence::Lie, START);
        assert!(reputation.is_shunned(peer(1, 99), HEARSAY, START));
        assert!(!reputation.is_shunned(peer(1, 99), TRUSTED, START), "the trusted do not pay for others");
        assert!(!reputation.is_shunned(peer(2, 99), HEARSAY, START));
        assert_eq!(time_of(&reputation, peer(1, 99), HEARSAY, START), 600);
        // Of IPv6 the network counts; on a loopback nobody pays for others.
        let v6 = |last: u16| SocketAddr::from(([0x2001, 0xdb8, 1, 2, last, last, last, last], 6778));
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        for number in 1..=4 {
            reputation.strike(v6(number), HEARSAY, Offence::Lie, START);
            reputation.strike(local(number), HEARSAY, Offence::Lie, START);
        }
        assert!(reputation.is_shunned(v6(99), HEARSAY, START));
        assert!(reputation.is_shunned(local(4), HEARSAY, START));
        assert!(!reputation.is_shunned(local(99), HEARSAY, START));
    }

    #[test]
    fn the_trusted_are_shunned_for_lies_alone_and_for_a_short_time() {
        let mut reputation = Reputation::new(10);
        for offence in [Offence::Uselessness, Offence::Nuisance] {
            reputation.strike(peer(1, 1), TRUSTED, offence, START);
            assert!(!reputation.is_shunned(peer(1, 1), TRUSTED, START));
        }
        reputation.strike(peer(1, 1), TRUSTED, Offence::Lie, START);
        assert_eq!(time_of(&reputation, peer(1, 1), TRUSTED, START), 30);
        // Nor does the host pay for them.
        for port in 2..20 {
            reputation.strike(peer(1, port), TRUSTED, Offence::Lie, START);
        }
        assert!(!reputation.is_shunned(peer(1, 99), HEARSAY, START));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_free_first() {
        let mut reputation = Reputation::new(3);
        reputation.strike(peer(0, 1), HEARSAY, Offence::Lie, START);
        for host in 1..100 {
            for port in 1..100 {
                reputation.strike(peer(host, port), HEARSAY, Offence::Uselessness, START);
            }
            assert!(reputation.hosts.len() <= 3);
        }
        assert!(reputation.is_shunned(peer(99, 1), HEARSAY, START));
        let mut none = Reputation::new(0);
        none.strike(peer(0, 1), HEARSAY, Offence::Lie, START);
        assert!(none.hosts.is_empty() && !none.is_shunned(peer(0, 1), HEARSAY, START));
    }
}
