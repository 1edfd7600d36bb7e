//! What a swarm has of its content: verified, handed to storage, stored.

use alloc::vec::Vec;

use crate::chunk::{ChunkIndex, ChunkRange, Geometry, GroupIndex, RangeSet};
use crate::config::{EndpointConfig, Metadata};
use crate::context::Cx;
use crate::event::{Event, SwarmId};
use crate::integrity::{Tree, TreeParams, Verifier};
use crate::swarm::assembly::{Assembly, Parcel};
use crate::time::Instant;

/// The state of the content.
#[derive(Debug)]
pub(crate) struct ContentState {
    pub(crate) verifier: Verifier,
    /// Chunks confirmed as stored: what is announced (R13).
    pub(crate) stored: RangeSet,
    /// Verified chunks as far as acknowledgements went: the intervals of RFC 7574 §4.3.2.
    pub(crate) acknowledged: RangeSet,
    /// Chunks to fetch.
    pub(crate) wanted: RangeSet,
    /// Positions of groups that a resume has yet to read back (R22).
    pub(crate) unchecked: RangeSet,
    /// Chunks that an earlier run stored in those groups.
    pub(crate) claimed: RangeSet,
    /// Those of them for which no read was begun yet.
    pub(crate) to_read: RangeSet,
    pub(crate) assembly: Assembly,
    /// Verified bytes not yet confirmed as stored (R19).
    unconfirmed: u64,
    /// Whether [`Event::Complete`] was given.
    pub(crate) complete: bool,
    parcels: Vec<Parcel>,
}

impl ContentState {
    /// Nothing is there; `geometry` if the metadata has the length.
    pub(crate) fn fetch(metadata: &Metadata, geometry: Option<Geometry>, config: &EndpointConfig) -> Self {
        let params = TreeParams { function: metadata.function, chunk_size: metadata.chunk_size };
        let verifier = Verifier::new(params, metadata.root, geometry, config.limits.open_groups);
        let mut state = Self::with(verifier, config);
        state.wanted = RangeSet::from(geometry.map_or(ChunkRange::new(0, u64::MAX), Geometry::all));
        state
    }

    /// Everything is there and nothing is fetched.
    pub(crate) fn seed(tree: Tree, geometry: Geometry, config: &EndpointConfig) -> Self {
        let mut verifier = Verifier::from_tree(tree, config.limits.open_groups);
        verifier.mark_all_complete();
        let mut state = Self::with(verifier, config);
        state.stored = RangeSet::from(geometry.all());
        state.complete = true;
        state
    }

    /// What `stored` names was there when the tree was saved; the rest is fetched.
    pub(crate) fn resume(tree: Tree, geometry: Geometry, stored: &RangeSet, config: &EndpointConfig) -> Self {
        let mut state = Self::with(Verifier::from_tree(tree, config.limits.open_groups), config);
        state.wanted = RangeSet::from(geometry.all());
        for run in stored.intersection_in(geometry.all()) {
            state.claimed.insert(run);
            state.to_read.insert(run);
            let first = geometry.group_of(ChunkIndex::new(run.start())).value();
            let last = geometry.group_of(ChunkIndex::new(run.end() - 1)).value();
            state.unchecked.insert(ChunkRange::new(first, last + 1));
        }
        state
    }

    fn with(verifier: Verifier, config: &EndpointConfig) -> Self {
        Self {
            verifier,
            stored: RangeSet::new(),
            acknowledged: RangeSet::new(),
            wanted: RangeSet::new(),
            unchecked: RangeSet::new(),
            claimed: RangeSet::new(),
            to_read: RangeSet::new(),
            assembly: Assembly::new(config.flush_after),
            unconfirmed: 0,
            complete: false,
            parcels: Vec::new(),
        }
    }

    /// The content's cut, once known.
    pub(crate) const fn geometry(&self) -> Option<Geometry> {
        self.verifier.geometry()
    }

    /// Bytes that may be taken in before some are confirmed (R19).
    pub(crate) const fn room(&self, config: &EndpointConfig) -> u64 {
        config.limits.unconfirmed_bytes.saturating_sub(self.unconfirmed)
    }

    /// Takes in `chunks` of `group`, of `bytes` bytes together, that were just verified and lie in the assembly.
    pub(crate) fn on_verified(
        &mut self,
        cx: &mut Cx<'_>,
        geometry: &Geometry,
        swarm: SwarmId,
        (group, chunks): (GroupIndex, u32),
        bytes: u64,
    ) {
        self.unconfirmed += bytes;
        self.assembly.settle(group, chunks, true);
        if self.verifier.is_group_complete(group) {
            self.assembly.take(geometry, group, &mut self.parcels);
            self.hand_out(cx, swarm);
        }
    }

    /// When gathered chunks are handed out although their group is incomplete.
    pub(crate) fn flush_deadline(&self) -> Option<Instant> {
        self.assembly.deadline()
    }

    /// Hands out gathered chunks that have waited long enough, or all of them.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_>, swarm: SwarmId, all: bool) {
        let Some(geometry) = self.geometry() else { return };
        if all {
            self.assembly.flush_all(&geometry, &mut self.parcels);
        } else {
            self.assembly.flush(cx.now, &geometry, &mut self.parcels);
        }
        self.hand_out(cx, swarm);
    }

    fn hand_out(&mut self, cx: &mut Cx<'_>, swarm: SwarmId) {
        for Parcel { range, offset, data } in self.parcels.drain(..) {
            cx.events.push(Event::Verified { swarm, range, offset, data });
        }
    }

    /// Counts `range` as stored. Only chunks that were verified count.
    pub(crate) fn on_stored(&mut self, range: ChunkRange) {
        let Some(geometry) = self.geometry() else { return };
        self.stored.insert(range);
        for group in geometry.groups_touching(range) {
            if self.stored.covers(geometry.group_chunks(group)) {
                self.verifier.close_group(group);
            }
        }
    }

    /// Forgets that `range` is here.
    pub(crate) fn forget(&mut self, range: ChunkRange) {
        self.stored.remove(range);
        self.acknowledged.remove(range);
        self.verifier.forget(range);
    }

    /// Takes note that the application is done with `range`, stored or not (R19).
    pub(crate) fn confirm(&mut self, range: ChunkRange) {
        let Some(geometry) = self.geometry() else { return };
        let bytes = geometry.byte_range(range);
        self.unconfirmed = self.unconfirmed.saturating_sub(bytes.end - bytes.start);
    }

    /// Whether every wanted chunk is stored and nothing is left to be read back.
    pub(crate) fn is_satisfied(&self) -> bool {
        self.geometry().is_some_and(|geometry| {
            self.unchecked.is_empty() && self.wanted.intersection_in(geometry.all()).all(|run| self.stored.covers(run))
        })
    }

    /// Bytes of the chunks in `set`.
    pub(crate) fn bytes_of(&self, set: &RangeSet) -> u64 {
        let Some(geometry) = self.geometry() else { return 0 };
        set.runs()
            .map(|run| {
                let bytes = geometry.byte_range(run);
                bytes.end - bytes.start
            })
            .sum()
    }

    /// Whether `group` is verified as a whole.
    pub(crate) fn has_group(&self, group: GroupIndex) -> bool {
        self.verifier.is_group_complete(group)
    }
}
