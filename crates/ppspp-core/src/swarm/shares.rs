//! How the room for groups with requests (R2) is shared by peers that could each fill it.
//!
//! Where links are fast, a second's worth or less of one peer takes all of it, and whoever delivers first would be asked
//! again first: the others would be idle, however fast they are.

use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::{Channel, Established};
use crate::context::Cx;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;
use crate::swarm::asking::may_request;
use crate::time::Instant;

/// How long a share counts before it is worked out anew.
const LIFE: Duration = Duration::from_millis(50);
/// Who delivered nothing for so long, or two round trips, although it was asked, needs no room for more.
const PATIENCE: Duration = Duration::from_millis(100);
/// Part of the room that is not shared out, one in so many: it lets those find out what they can deliver that were asked
/// for little before.
const SPARE: usize = 8;

/// How long, for each channel, the rate of all peers counts before it is worked out anew: it may double within a
/// millisecond.
const RATE_LIFE: Duration = Duration::from_micros(5);
/// Part of the receive buffer that is to be filled, one in so many: small datagrams take up twice their bytes there.
const FILLED: usize = 2;
/// Bytes that may be on their way however small it is: with less, peers pause whenever they have sent what they were asked
/// for, and congestion control keeps to a buffer that is as small.
const MIN_ROOM: usize = 512 * 1024;
/// Part of that room that a peer may take whatever the others deliver, one in so many or as there are channels: a slow one
/// with a long queue before it is not to run dry because of a fast one.
const SLOW_PART: usize = 64;

/// Part of that room, one in so many or as there are seeders, that a seeder is asked for among leechers whatever the
/// others deliver: it is to have a choice (R21).
const CHOICE_PART: usize = 4;

/// What each peer may be asked for where there is not room for what all could be.
#[derive(Debug)]
pub(super) struct Shares {
    /// Chunks.
    most: u64,
    until: Instant,
    /// What all peers deliver, in bytes per second.
    rate: u64,
    rated_until: Instant,
}

impl Shares {
    pub(super) const fn new(now: Instant) -> Self {
        Self { most: u64::MAX, until: now, rate: 0, rated_until: now }
    }
}

impl Swarm {
    /// Most chunks that may be outstanding of the peer in `slot`: its share of the room, where there is not enough for all.
    pub(super) fn most_outstanding(&mut self, cx: &Cx<'_>, slot: PeerSlot) -> u32 {
        let most = cx.config.limits.outstanding_requests;
        let channels = self.by_address.len();
        // Among leechers a seeder is to have a choice (R21), and leechers are asked for what they have.
        if channels < 2 || self.asking.spreads(cx.now, channels) {
            return most;
        }
        let Some(geometry) = self.content.geometry() else { return most };
        let groups = cx.config.limits.open_groups;
        let room = ((groups - groups / SPARE) as u64).saturating_mul(1 << geometry.group_layer());
        let even = room / channels as u64;
        let want = self.peers.get(slot as usize).and_then(|channel| self.want(cx, channel, even));
        if want.is_none_or(|want| want <= even) {
            return most;
        }
        if self.asking.shares.until <= cx.now {
            let wants = self.peers.iter().filter_map(|(_, channel)| self.want(cx, channel, even)).collect();
            let shares = &mut self.asking.shares;
            (shares.most, shares.until) = (level(wants, room), cx.now + LIFE);
        }
        u32::try_from(self.asking.shares.most).map_or(most, |share| share.min(most))
    }

    /// How long it takes the peers together, the one in `slot` among them, to deliver what may wait in the receive buffer;
    /// and how long that one takes for what it is to have a choice of.
    ///
    /// What comes faster than it is taken in is lost there, and congestion control, which looks at delays of tens of
    /// milliseconds, learns of it too late where links are fast.
    pub(super) fn time_in_buffer(&mut self, cx: &Cx<'_>, slot: PeerSlot) -> (Duration, Duration) {
        if self.asking.shares.rated_until <= cx.now {
            let rate = self.peers.iter().fold(0, |sum: u64, (_, channel)| {
                let peer = channel.established().filter(|peer| !is_silent(peer, cx.now));
                let download = peer.and_then(|peer| peer.download.as_ref());
                let asked = download.filter(|download| download.outstanding() > 0);
                sum.saturating_add(asked.and_then(|download| download.rate.rate()).unwrap_or(0))
            });
            let channels = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
            let shares = &mut self.asking.shares;
            (shares.rate, shares.rated_until) = (rate, cx.now + RATE_LIFE * channels);
        }
        // Just measured, its own may be more than all were.
        let own = self.download(slot).and_then(|download| download.rate.rate()).unwrap_or(0);
        let all = self.asking.shares.rate.max(own);
        let room = (cx.config.receive_buffer / FILLED).max(MIN_ROOM);
        let ahead = most_ahead(room, all, own, self.peers.len());
        (ahead, most_choice(room, ahead, own, self.asking.rarity.complete() as usize))
    }

    /// Chunks that would be outstanding of a peer if it were alone; an `even` share until that is known, and no more than it
    /// owes us while it is silent. `None` if nothing was found to ask it for.
    fn want(&self, cx: &Cx<'_>, channel: &Channel, even: u64) -> Option<u64> {
        let peer = channel.established().filter(|peer| may_request(peer))?;
        let Some(download) = &peer.download else { return Some(even) };
        if download.outstanding() == 0 && download.exhausted == Some(self.requests.version()) {
            return None;
        }
        if is_silent(peer, cx.now) {
            return Some(download.outstanding());
        }
        if download.rate.rate().is_none() {
            return Some(even);
        }
        let limit = cx.config.limits.outstanding_requests;
        Some(download.target(peer.srtt(), self.metadata.chunk_size, limit, false))
    }
}

/// Whether `peer` owes us something and does not deliver.
fn is_silent(peer: &Established, now: Instant) -> bool {
    let patience = PATIENCE.max(2 * peer.srtt());
    peer.download.as_ref().is_some_and(|download| {
        !download.is_answering() || download.silent_since().is_some_and(|since| now - since > patience)
    })
}

/// How long peers of `all` bytes per second together take to fill `room` bytes, or one of so many `channels` at its `own`
/// rate the part that each may take.
fn most_ahead(room: usize, all: u64, own: u64, channels: usize) -> Duration {
    time_for(room, all).max(time_for(room / channels.max(SLOW_PART), own))
}

/// How long a seeder takes at its `own` rate for what it is to have a choice of, where peers together may be asked for what
/// they deliver in that long `ahead`.
fn most_choice(room: usize, ahead: Duration, own: u64, seeders: usize) -> Duration {
    ahead.max(time_for(room / seeders.max(CHOICE_PART), own))
}

/// How long `bytes` take at `rate` bytes per second.
fn time_for(bytes: usize, rate: u64) -> Duration {
    let micros = bytes as u128 * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// What everyone gets of `room` at most, so that all of it is used if all of them want enough.
fn level(mut wants: Vec<u64>, room: u64) -> u64 {
    wants.sort_unstable();
    let mut left = room;
    for (place, &want) in wants.iter().enumerate() {
        let even = left / (wants.len() - place) as u64;
        if want >= even {
            return even.max(1);
        }
        left -= want;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn what_is_ahead_fits_into_the_room_and_a_slow_peer_is_kept_busy() {
        for (peers, rate) in [(1, 800_000_000), (4, 150_000_000), (30, 20_000_000), (500, 4_000_000)] {
            let ahead = most_ahead(2 << 20, peers * rate, rate, peers as usize);
            let bytes = u128::from(rate * peers) * ahead.as_micros() / 1_000_000;
            assert!((1_900_000..=2 << 20).contains(&bytes), "{bytes} of {peers}");
        }
        assert!(most_ahead(2 << 20, 500_100_000, 100_000, 2) > Duration::from_millis(300), "beside a fast one");
        assert_eq!(
            most_ahead(2 << 20, 1_250_000, 1_250_000, 1),
            Duration::from_micros(1_677_721),
            "no bound where links are slow"
        );
    }

    #[test]
    fn a_seeder_has_a_choice_that_fits_into_the_room() {
        let room = 512 << 10;
        let choice = |all: u64, own: u64| {
            let choice = most_choice(room, most_ahead(room, all, own, 9), own, 1);
            u64::try_from(u128::from(own) * choice.as_micros() / 1_000_000).unwrap()
        };
        // A slow one beside leechers on fast links: eight groups.
        assert!((130_000..=131_072).contains(&choice(100_000_000, 125_000)), "{}", choice(100_000_000, 125_000));
        // A fast one: no more, unless most comes from it.
        assert!((130_000..=131_072).contains(&choice(125_000_000, 15_000_000)));
        assert!((500_000..=524_288).contains(&choice(100_000_000, 100_000_000)));
        // Many share the room.
        for seeders in [5, 32] {
            let choice = most_choice(room, Duration::ZERO, 1_000_000, seeders);
            let all = u128::from(1_000_000 * seeders as u64) * choice.as_micros() / 1_000_000;
            assert!((520_000..=524_288).contains(&all), "{all}");
        }
    }

    #[test]
    fn who_wants_less_leaves_more_to_the_others() {
        assert_eq!(level(vec![], 100), u64::MAX);
        assert_eq!(level(vec![10, 20, 30], 100), u64::MAX, "there is room for all");
        assert_eq!(level(vec![100, 100, 100, 100], 100), 25);
        assert_eq!(level(vec![1000, 10, 1000], 100), 45);
        assert_eq!(level(vec![5, 10, 1000, 20], 100), 65);
        assert_eq!(level(vec![1; 200], 100), 1, "at least one, R20");
        for room in 1..200 {
            let wants = vec![3, 70, 25, 41, 8];
            let most = level(wants.clone(), room);
            let used: u64 = wants.iter().map(|want| most.min(*want)).sum();
            assert!(used <= room.max(wants.len() as u64) && (most == u64::MAX || used + 5 > room), "{room}: {most}");
        }
    }
}
