//! Which channel a datagram is for.

use alloc::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng as _;

use crate::endpoint::ready::SwarmSlot;
use crate::schedule::PeerSlot;
use crate::wire::ChannelId;

/// Channel ids in use. They are random: they prove that a peer receives what is sent to it (RFC 7574 §12.1).
#[derive(Debug)]
pub(crate) struct Demux {
    channels: BTreeMap<ChannelId, (SwarmSlot, PeerSlot)>,
    /// The latest hit: datagrams come in bursts.
    latest: Option<(ChannelId, (SwarmSlot, PeerSlot))>,
    rng: ChaCha12Rng,
}

impl Demux {
    pub(crate) const fn new(rng: ChaCha12Rng) -> Self {
        Self { channels: BTreeMap::new(), latest: None, rng }
    }

    /// A channel id that is not in use: any number but zero.
    pub(crate) fn fresh_id(&mut self) -> ChannelId {
        loop {
            let id = ChannelId::new(self.rng.next_u32());
            if id != ChannelId::ZERO && !self.channels.contains_key(&id) {
                return id;
            }
        }
    }

    pub(crate) fn insert(&mut self, id: ChannelId, swarm: SwarmSlot, peer: PeerSlot) {
        self.channels.insert(id, (swarm, peer));
    }

    pub(crate) fn remove(&mut self, id: ChannelId) {
        self.channels.remove(&id);
        self.latest = None;
    }

    /// The channel with our id `id`.
    pub(crate) fn find(&mut self, id: ChannelId) -> Option<(SwarmSlot, PeerSlot)> {
        if let Some((latest, place)) = self.latest
            && latest == id
        {
            return Some(place);
        }
        let place = *self.channels.get(&id)?;
        self.latest = Some((id, place));
        Some(place)
    }
}
