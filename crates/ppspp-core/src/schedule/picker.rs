//! Picks the chunks to ask a peer for next, one run at a time: in order, the rarest first, or by deadline.

use core::time::Duration;

use arrayvec::ArrayVec;
use rand_core::Rng;

use crate::availability::{PeerMap, Rarity};
use crate::chunk::{ChunkIndex, ChunkRange, Geometry, RangeSet};
use crate::config::PlayHead;
use crate::schedule::requests::{Requests, bit_runs, set_mask};
use crate::time::micros;

/// Bytes of a run that is asked for as one, where every part of it is equally good: what a seeder sends together.
const RUN_BYTES: u64 = 128 * 1024;
/// How long a run may take to arrive: until it is whole, others do not know that it is on its way.
const RUN_TIME: Duration = Duration::from_millis(100);
/// Runs looked at in a search for the rarest: in a larger or more scattered content, a random part of it.
const MAX_STEPS: usize = 1024;
/// Equally rare runs to choose from at random: more are not looked for if none can be rarer.
const MAX_EQUALS: usize = 256;
/// Groups begun and not finished that are looked at before anything else.
const MAX_TORN: usize = 256;

/// The order to pick in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan<'a> {
    /// From the first to the last.
    InOrder,
    /// What fewest peers have.
    RarestFirst,
    /// What each head needs soonest, then the rarest. The heads were at their positions `since` ago.
    Deadline { heads: &'a [PlayHead], since: Duration },
}

/// How fast the peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// How long it takes until a chunk asked for now is here.
    pub(crate) ready: Duration,
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Whether no other peer is much faster.
    pub(crate) fastest: bool,
}

/// What is to be asked for, and the peer to ask.
#[derive(Debug)]
pub(crate) struct Picker<'a, R> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) requests: &'a Requests,
    pub(crate) rarity: &'a Rarity,
    /// What the peer has.
    pub(crate) have: &'a PeerMap,
    pub(crate) pace: Pace,
    /// Most groups with outstanding requests (R2).
    pub(crate) max_groups: usize,
    /// Where the last pick for the peer ended.
    pub(crate) cursor: u64,
    pub(crate) rng: &'a mut R,
}

impl<R: Rng> Picker<'_, R> {
    /// The next run of at most `allowance` chunks to ask for; `None` if there is none.
    ///
    /// Chunks before `after` were looked at: nothing in them is picked in order.
    pub(crate) fn pick(&mut self, plan: Plan<'_>, after: u64, allowance: u64) -> Option<ChunkRange> {
        let all = self.geometry.all();
        match plan {
            Plan::InOrder => self.first_in(ChunkRange::new(after, all.end()), allowance),
            Plan::RarestFirst => self.rarest_in(&RangeSet::from(all), allowance),
            Plan::Deadline { heads, since } => self.by_deadline(heads, since, allowance),
        }
    }

    /// The next run of `begun`, groups of which a part is here, whatever the plan: nothing else can be verified (R2).
    pub(crate) fn finish(&self, mut begun: impl Iterator<Item = ChunkRange>, allowance: u64) -> Option<ChunkRange> {
        begun.find_map(|chunks| self.first_in(chunks, allowance))
    }

    /// Whether the peer has nothing that is free, whatever the order and the limits.
    pub(crate) fn has_nothing(&self) -> bool {
        self.offered(self.geometry.all()).next().is_none()
    }

    /// The first free run in `range` that the peer has.
    fn first_in(&self, range: ChunkRange, allowance: u64) -> Option<ChunkRange> {
        self.offered(range).find_map(|piece| self.cut(piece, allowance))
    }

    /// The free parts of `range` that the peer has, in order.
    fn offered(&self, range: ChunkRange) -> impl Iterator<Item = ChunkRange> {
        let have = self.have.as_set();
        self.requests.free().intersection_in(range).flat_map(move |run| have.intersection_in(run))
    }

    /// The start of `piece` that can be asked for within `allowance`, whole groups if it holds any.
    fn cut(&self, piece: ChunkRange, allowance: u64) -> Option<ChunkRange> {
        let mut room = self.max_groups.saturating_sub(self.requests.group_count());
        let mut end = piece.start();
        for group in self.geometry.groups_touching(piece) {
            let next = self.geometry.group_chunks(group).end().min(piece.end());
            let begun = self.requests.asked(group) != 0 || self.requests.is_torn(group);
            if (!begun && room == 0) || !self.requests.has_room(group) {
                break;
            }
            room -= usize::from(!begun);
            if next - piece.start() > allowance {
                // A part of a group only if that is all there is to ask for.
                end = if end > piece.start() { end } else { piece.start() + allowance };
                break;
            }
            end = next;
        }
        (end > piece.start()).then(|| ChunkRange::new(piece.start(), end))
    }

    /// A run of what fewest peers have within `within`, at random among equals. R21: whole groups, and begun ones
    /// first, since only what is whole is told to others.
    fn rarest_in(&mut self, within: &RangeSet, allowance: u64) -> Option<ChunkRange> {
        // R20 leaves room for a whole group where that is a second's worth at most.
        let group = 1 << self.geometry.group_layer();
        let second = self.pace.rate / u64::from(self.geometry.chunk_size().bytes());
        let allowance = if second >= group { allowance.max(group) } else { allowance };
        if let Some(piece) = self.torn_in(within) {
            return self.cut(piece, allowance);
        }
        let run = self.run_chunks();
        // The middle of a run, where the last pick ended.
        if !self.cursor.is_multiple_of(run)
            && let Some(piece) = self.at(self.cursor, within)
        {
            return self.cut(clip_to_run(piece, run), allowance);
        }
        let found = self.search(within)?;
        let last = found.end() - 1;
        let somewhere = found.start() + below(self.rng, found.count());
        let start = (somewhere - somewhere % run).clamp(found.start(), last);
        self.cut(clip_to_run(ChunkRange::new(start, found.end()), run), allowance)
    }

    /// A free run that the peer has in a group of which others have come.
    ///
    /// What a leecher has too is not asked of a seeder for that: there may be something that only seeders have.
    fn torn_in(&self, within: &RangeSet) -> Option<ChunkRange> {
        let seeders = self.rarity.complete();
        let most = if self.have.is_complete(self.geometry.chunk_count()) { seeders } else { u32::MAX };
        self.requests.torn().take(MAX_TORN).find_map(|group| {
            if self.rarity.count(group.value()) > most {
                return None;
            }
            let chunks = self.geometry.group_chunks(group);
            let bits = set_mask(chunks, self.requests.free())
                & set_mask(chunks, self.have.as_set())
                & set_mask(chunks, within);
            bit_runs(chunks.start(), bits).next().filter(|_| self.requests.has_room(group))
        })
    }

    /// The free run from `position` on that the peer has, if it begins there.
    fn at(&self, position: u64, within: &RangeSet) -> Option<ChunkRange> {
        let run = within.run_at(ChunkIndex::new(position))?;
        let piece = self.offered(ChunkRange::new(position, run.end())).next()?;
        (piece.start() == position).then_some(piece)
    }

    /// A run of equally rare chunks, none rarer; each of those found first, from a random place on, with the chance of its
    /// length.
    fn search(&mut self, within: &RangeSet) -> Option<ChunkRange> {
        let layer = self.geometry.group_layer();
        let all = self.geometry.all();
        let start = below(self.rng, all.count());
        let (rarity, have, free) = (self.rarity, self.have.as_set(), self.requests.free());
        let found = [ChunkRange::new(start, all.end()), ChunkRange::new(0, start)]
            .into_iter()
            .flat_map(|half| within.intersection_in(half))
            .flat_map(|part| free.intersection_in(part))
            .flat_map(|run| have.intersection_in(run))
            .flat_map(|piece| {
                let groups = ChunkRange::new(piece.start() >> layer, ((piece.end() - 1) >> layer) + 1);
                rarity.runs_in(groups).map(move |(groups, count)| {
                    (ChunkRange::new(groups.start() << layer, groups.end() << layer).intersection(piece), count)
                })
            })
            .take(MAX_STEPS);
        // A leecher has what it has.
        let least = rarity.complete() + u32::from(!self.have.is_complete(all.count()));
        let mut fewest = u32::MAX;
        let mut equals: ArrayVec<ChunkRange, MAX_EQUALS> = ArrayVec::new();
        for (piece, count) in found {
            if count < fewest {
                fewest = count;
                equals.clear();
            }
            if count == fewest && equals.try_push(piece).is_err() && fewest <= least {
                break;
            }
        }
        let total = equals.iter().map(|piece| piece.count()).sum();
        let mut left = below(self.rng, total);
        equals.into_iter().find(|piece| {
            let found = left < piece.count();
            left = left.saturating_sub(piece.count());
            found
        })
    }

    /// Near chunks by deadline, from peers that can meet it; then the rarest of the others; then what is late.
    fn by_deadline(&mut self, heads: &[PlayHead], since: Duration, allowance: u64) -> Option<ChunkRange> {
        let mut near = RangeSet::new();
        let mut soonest: Option<(u64, ChunkRange)> = None;
        for head in heads {
            let window = head_window(head, since, self.geometry);
            near.insert(window);
            // A slow peer leaves the first chunks to others: they would come too late from it.
            let skipped = if self.pace.fastest { 0 } else { head_chunks(head, self.pace.ready, self.geometry) };
            let reachable = ChunkRange::new(window.start().saturating_add(skipped), window.end());
            let Some(run) = self.first_in(reachable, allowance) else { continue };
            let due = deadline(head, run.start() - window.start(), self.geometry);
            if soonest.is_none_or(|(before, _)| due < before) {
                soonest = Some((due, run));
            }
        }
        if let Some((_, run)) = soonest {
            return Some(run);
        }
        let far: RangeSet = near.missing_in(self.geometry.all()).collect();
        self.rarest_in(&far, allowance).or_else(|| near.runs().find_map(|window| self.first_in(window, allowance)))
    }

    /// Chunks of a run that is sent as one: a power of two. Nothing of it is whole before nearly all of it is here, so
    /// a slow peer is asked for shorter ones.
    fn run_chunks(&self) -> u64 {
        let bytes = u128::from(self.pace.rate) * RUN_TIME.as_millis() / 1000;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).min(RUN_BYTES);
        let chunks = (bytes / u64::from(self.geometry.chunk_size().bytes())).max(1);
        (1 << chunks.ilog2()).max(1 << self.geometry.group_layer())
    }
}

/// The start of `piece`, up to the end of its aligned run.
const fn clip_to_run(piece: ChunkRange, run: u64) -> ChunkRange {
    let end = (piece.start() / run + 1) * run;
    ChunkRange::new(piece.start(), if end < piece.end() { end } else { piece.end() })
}

/// The chunks that `head` passes in `time`.
fn head_chunks(head: &PlayHead, time: Duration, geometry: &Geometry) -> u64 {
    let bytes = u128::from(head.bytes_per_second) * u128::from(micros(time)) / 1_000_000;
    u64::try_from(bytes / u128::from(geometry.chunk_size().bytes())).unwrap_or(u64::MAX)
}

/// The chunks that `head` is going to need soon, when it was set `since` ago.
fn head_window(head: &PlayHead, since: Duration, geometry: &Geometry) -> ChunkRange {
    let start = head.position.value().saturating_add(head_chunks(head, since, geometry));
    let end = start.saturating_add(head_chunks(head, head.window, geometry).max(1));
    ChunkRange::new(start, end).intersection(geometry.all())
}

/// When `head` needs the chunk that many ahead of it, in microseconds from now.
fn deadline(head: &PlayHead, ahead: u64, geometry: &Geometry) -> u64 {
    let bytes = u128::from(ahead) * u128::from(geometry.chunk_size().bytes());
    u64::try_from(bytes * 1_000_000 / u128::from(head.bytes_per_second.max(1))).unwrap_or(u64::MAX)
}

/// A number below `bound`, which is not zero; the bias of the division is of no account here.
fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    rng.next_u64() % bound.max(1)
}
