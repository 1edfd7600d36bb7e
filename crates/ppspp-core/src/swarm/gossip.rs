//! HAVE, both ways: what peers have, and how they learn what we have (RFC 7574 §3.2, §4.3.1, R21).

use crate::availability::{PeerMap, whole_groups};
use crate::chunk::{ChunkRange, Geometry};
use crate::config::Limits;
use crate::schedule::PeerSlot;
use crate::swarm::Swarm;

/// Adds or takes away what one peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    Plus,
    Minus,
}

impl Swarm {
    /// `slot` announced `range`.
    pub(crate) fn on_peer_has(&mut self, slot: PeerSlot, range: ChunkRange, limits: &Limits) {
        let geometry = self.content.geometry();
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) else {
            return;
        };
        if let Some(download) = &mut peer.download {
            download.exhausted = None;
        }
        let Some(geometry) = geometry else {
            peer.have.add(range, None, limits.availability_runs);
            return;
        };
        let range = range.intersection(geometry.all());
        if peer.have.covers(range) {
            return;
        }
        if peer.have.as_set().missing_in(geometry.all()).all(|gap| range.covers(gap)) {
            self.asking.count(&geometry, &peer.have, Sign::Minus);
            peer.have.add(range, Some(geometry.all()), limits.availability_runs);
            self.asking.count(&geometry, &peer.have, Sign::Plus);
            return;
        }
        let gaps: alloc::vec::Vec<ChunkRange> = peer.have.as_set().missing_in(range).collect();
        if peer.have.add(range, Some(geometry.all()), limits.availability_runs) == 0 {
            return;
        }
        let mut counted = 0;
        for gap in gaps {
            let groups = whole_groups(&geometry, &peer.have, gap);
            self.asking.rarity.add(ChunkRange::new(groups.start().max(counted), groups.end()));
            counted = groups.end();
        }
    }

    /// `slot` does not have `range`, whatever it said.
    pub(crate) fn on_peer_lacks(&mut self, slot: PeerSlot, range: ChunkRange) {
        let Some(geometry) = self.content.geometry() else { return };
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(|channel| channel.established_mut()) else {
            return;
        };
        if peer.have.intersects(range) {
            self.asking.count(&geometry, &peer.have, Sign::Minus);
            peer.have.remove(range);
            self.asking.count(&geometry, &peer.have, Sign::Plus);
        }
    }

    /// Counts what `slot`, which was just established, has.
    pub(crate) fn count_peer(&mut self, slot: PeerSlot) {
        let Some(geometry) = self.content.geometry() else { return };
        if let Some(peer) = self.peers.get(slot as usize).and_then(|channel| channel.established()) {
            self.asking.count(&geometry, &peer.have, Sign::Plus);
        }
    }

    /// No longer counts what `slot` has.
    pub(crate) fn discount_peer(&mut self, slot: PeerSlot) {
        let Some(geometry) = self.content.geometry() else { return };
        if let Some(peer) = self.peers.get(slot as usize).and_then(|channel| channel.established()) {
            self.asking.count(&geometry, &peer.have, Sign::Minus);
        }
    }
}

impl super::asking::Asking {
    fn count(&mut self, geometry: &Geometry, have: &PeerMap, sign: Sign) {
        let rarity = &mut self.rarity;
        if have.is_complete(geometry.chunk_count()) {
            match sign {
                Sign::Plus => rarity.add_complete(),
                Sign::Minus => rarity.remove_complete(),
            }
            return;
        }
        match sign {
            Sign::Plus => self.leechers += 1,
            Sign::Minus => self.leechers = self.leechers.saturating_sub(1),
        }
        for run in have.as_set().runs() {
            let groups = whole_groups(geometry, have, run);
            match sign {
                Sign::Plus => rarity.add(groups),
                Sign::Minus => rarity.remove(groups),
            }
        }
    }
}
