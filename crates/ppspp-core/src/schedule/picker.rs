//! Picks the chunks to ask a peer for next, one run at a time: in order, the rarest first, or by deadline.

use alloc::vec::Vec;
use core::time::Duration;

use arrayvec::ArrayVec;
use rand_core::Rng;

use crate::availability::{PeerMap, Place, Rarity};
use crate::chunk::{ChunkIndex, ChunkRange, Geometry, RangeSet};
use crate::config::PlayHead;
use crate::schedule::requests::{Requests, bit_runs, set_mask};
use crate::time::{Instant, micros};

/// Bytes of a run that is asked for as one, where every part of it is equally good: what a seeder sends together.
const RUN_BYTES: u64 = 128 * 1024;
/// Runs in a second that a peer must deliver to be asked, in order, for whole ones where there is room for one. Up to a run
/// less is outstanding then, which slower peers would want for when a REQUEST is lost.
const WHOLE_RUNS: u64 = 64;
/// How long a run may take to arrive: until it is whole, others do not know that it is on its way.
const RUN_TIME: Duration = Duration::from_millis(100);
/// Runs looked at in a search for the rarest: in a larger or more scattered content, a random part of it.
const MAX_STEPS: usize = 1024;
/// Equally rare runs to choose from at random, four times as many as are drawn: more are not looked for if none can be
/// rarer.
const MAX_EQUALS: usize = 64;
/// Pieces that one search draws: it serves as many picks.
const SHORTLIST: usize = 16;
/// How long what was drawn is picked without another search, which would see what has become rarer since: long enough for
/// peers that are asked for hundreds of runs a second, and less than most others take for one.
const SHORTLIST_LIFE: Duration = Duration::from_millis(20);
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

impl Pace {
    /// Chunks of a run that is sent as one: a power of two. Nothing of it is whole before nearly all of it is here, so
    /// a slow peer is asked for shorter ones.
    fn run_chunks(self, geometry: &Geometry) -> u64 {
        let bytes = u128::from(self.rate) * RUN_TIME.as_millis() / 1000;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).min(RUN_BYTES);
        let chunks = (bytes / u64::from(geometry.chunk_size().bytes())).max(1);
        (1 << chunks.ilog2()).max(1 << geometry.group_layer())
    }
}

/// What a search for the rarest drew besides what it was made for, to be asked of the same peer.
#[derive(Debug, Default)]
pub(crate) struct Shortlist {
    /// At most [`SHORTLIST`]; the last one is next.
    pieces: Vec<ChunkRange>,
    /// How many more had each of them than had to.
    above: u32,
    until: Instant,
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
    /// Batches that a group must have room for.
    pub(crate) batches: usize,
    /// Where the last pick for the peer ended.
    pub(crate) cursor: u64,
    /// What the last search for the peer left.
    pub(crate) shortlist: &'a mut Shortlist,
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut R,
}

impl<R: Rng> Picker<'_, R> {
    /// The next run of at most `allowance` chunks to ask for; `None` if there is none.
    ///
    /// Chunks before `after` were looked at: nothing in them is picked in order.
    pub(crate) fn pick(&mut self, plan: Plan<'_>, after: u64, allowance: u64) -> Option<ChunkRange> {
        let all = self.geometry.all();
        match plan {
            Plan::InOrder => {
                let piece = self.first_in(ChunkRange::new(after, all.end()), allowance)?;
                self.to_run_end(piece, after > 0)
            }
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

    /// `piece` up to where the last aligned run in it ends, if more could be asked for behind it and the peer is fast: what
    /// is sent together is then asked of one peer. What ends no run is left to the next time, if there is `enough` without.
    fn to_run_end(&self, piece: ChunkRange, enough: bool) -> Option<ChunkRange> {
        if self.pace.rate < WHOLE_RUNS * RUN_BYTES {
            return Some(piece);
        }
        let run = self.pace.run_chunks(self.geometry);
        let whole = ChunkRange::new(piece.start(), piece.end() / run * run);
        if !whole.is_empty() {
            return Some(whole);
        }
        let next = ChunkIndex::new(piece.end());
        let goes_on = self.requests.free().contains(next) && self.have.has(next);
        (!enough || !goes_on).then_some(piece)
    }

    /// The free parts of `range` that the peer has, in order.
    fn offered(&self, range: ChunkRange) -> impl Iterator<Item = ChunkRange> {
        self.requests.free().common_with(self.have.as_set(), range)
    }

    /// The start of `piece` that can be asked for within `allowance`, whole groups if it holds any.
    fn cut(&self, piece: ChunkRange, allowance: u64) -> Option<ChunkRange> {
        let mut room = self.max_groups.saturating_sub(self.requests.group_count());
        let (mut start, mut end) = (piece.start(), piece.start());
        for group in self.geometry.groups_touching(piece) {
            let next = self.geometry.group_chunks(group).end().min(piece.end());
            if end == start && !self.requests.has_room(group, self.batches) {
                // What follows is not kept waiting.
                (start, end) = (next, next);
                continue;
            }
            let begun = self.requests.asked(group) != 0 || self.requests.is_torn(group);
            if (!begun && room == 0) || !self.requests.has_room(group, self.batches) {
                break;
            }
            room -= usize::from(!begun);
            if next - start > allowance {
                // A part of a group only if that is all there is to ask for.
                end = if end > start { end } else { start + allowance };
                break;
            }
            end = next;
        }
        (end > start).then(|| ChunkRange::new(start, end))
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
        let run = self.pace.run_chunks(self.geometry);
        // The middle of a run, where the last pick ended.
        if !self.cursor.is_multiple_of(run)
            && let Some(piece) = self.at(self.cursor, within)
        {
            return self.cut(clip_to_run(piece, run), allowance);
        }
        if self.shortlist.until <= self.now {
            self.shortlist.pieces.clear();
        }
        let piece = match self.listed(within) {
            Some(piece) => piece,
            None => self.search(within)?,
        };
        self.cut(clip_to_run(piece, run), allowance)
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
            bit_runs(chunks.start(), bits).next().filter(|_| self.requests.has_room(group, self.batches))
        })
    }

    /// The free run from `position` on that the peer has, if it begins there.
    fn at(&self, position: u64, within: &RangeSet) -> Option<ChunkRange> {
        let sets = [within, self.requests.free(), self.have.as_set()];
        sets.into_iter().try_fold(ChunkRange::new(position, u64::MAX), |piece, set| {
            Some(piece.intersection(set.run_at(ChunkIndex::new(position))?))
        })
    }

    /// The next of the shortlist, as far as it can still be asked for and is as rare as when it was found.
    fn listed(&mut self, within: &RangeSet) -> Option<ChunkRange> {
        let most = self.fewest_possible().saturating_add(self.shortlist.above);
        loop {
            let listed = self.shortlist.pieces.pop()?;
            let left = self.counted(listed, within).find(|&(_, count)| count <= most);
            if let Some((piece, _)) = left {
                return Some(piece);
            }
        }
    }

    /// A piece of a run of equally rare chunks, none rarer, with the chance of its length; of those found first, from a
    /// random place on. Others go to the shortlist.
    fn search(&mut self, within: &RangeSet) -> Option<ChunkRange> {
        let all = self.geometry.all();
        let start = below(self.rng, all.count());
        let least = self.fewest_possible();
        let mut fewest = u32::MAX;
        let mut equals: ArrayVec<ChunkRange, MAX_EQUALS> = ArrayVec::new();
        let halves = [ChunkRange::new(start, all.end()), ChunkRange::new(0, start)];
        for (piece, count) in halves.into_iter().flat_map(|half| self.counted(half, within)).take(MAX_STEPS) {
            if count < fewest {
                fewest = count;
                equals.clear();
            }
            if count == fewest && equals.try_push(piece).is_err() && fewest <= least {
                break;
            }
        }
        self.shortlist.above = fewest.saturating_sub(least);
        self.shortlist.until = self.now + SHORTLIST_LIFE;
        self.draw(&equals);
        self.shortlist.pieces.pop()
    }

    /// Fills the shortlist with pieces of `equals`, no two the same, each with the chance of its length.
    fn draw(&mut self, equals: &[ChunkRange]) {
        let run = self.pace.run_chunks(self.geometry);
        let mut total = 0;
        let ends: ArrayVec<u64, MAX_EQUALS> = equals
            .iter()
            .map(|piece| {
                total += piece.count();
                total
            })
            .collect();
        let pieces = &mut self.shortlist.pieces;
        pieces.clear();
        for _ in 0..SHORTLIST {
            let place = below(self.rng, total);
            let at = ends.partition_point(|&end| end <= place);
            let (Some(found), Some(end)) = (equals.get(at), ends.get(at)) else { return };
            let somewhere = found.end() - (end - place);
            let start = (somewhere - somewhere % run).max(found.start());
            let piece = clip_to_run(ChunkRange::new(start, found.end()), run);
            if !pieces.contains(&piece) {
                pieces.push(piece);
            }
        }
        // What was drawn first is used first.
        pieces.reverse();
    }

    /// The free parts of `range` within `within` that the peer has, with how many peers have them.
    fn counted(&self, range: ChunkRange, within: &RangeSet) -> impl Iterator<Item = (ChunkRange, u32)> {
        let layer = self.geometry.group_layer();
        let (rarity, have, free) = (self.rarity, self.have.as_set(), self.requests.free());
        let mut near = Place::default();
        within.intersection_in(range).flat_map(|part| free.common_with(have, part)).flat_map(move |piece| {
            let groups = ChunkRange::new(piece.start() >> layer, ((piece.end() - 1) >> layer) + 1);
            rarity.runs_near(&mut near, groups).map(move |(groups, count)| {
                (ChunkRange::new(groups.start() << layer, groups.end() << layer).intersection(piece), count)
            })
        })
    }

    /// How many peers have what the peer has, at least: a leecher has what it has.
    fn fewest_possible(&self) -> u32 {
        self.rarity.complete() + u32::from(!self.have.is_complete(self.geometry.chunk_count()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng as _;

    use super::*;
    use crate::chunk::{ChunkSize, GroupIndex};
    use crate::schedule::requests::{BatchId, PROBE_BATCHES, RUN_BATCHES};

    /// Groups of the content, of 16 chunks each.
    const GROUPS: u64 = 64;
    /// A pace at which a run is one group.
    const SLOW: u64 = 16 * 1024;

    /// A peer that is asked for the rarest, by a leecher that others tell what they have.
    struct Scene {
        geometry: Geometry,
        requests: Requests,
        rarity: Rarity,
        have: PeerMap,
        rate: u64,
        cursor: u64,
        shortlist: Shortlist,
        now: Instant,
        rng: ChaCha12Rng,
    }

    impl Scene {
        /// Everything is wanted, and the peer alone has the groups of `have`.
        fn new(have: &[ChunkRange], rate: u64, seed: u8) -> Self {
            let geometry = Geometry::of_chunks(16 * GROUPS, ChunkSize::DEFAULT).unwrap();
            let mut requests = Requests::default();
            requests.want(&geometry, geometry.all());
            let have: RangeSet = have.iter().copied().collect();
            let mut rarity = Rarity::new(usize::MAX);
            let mut map = PeerMap::new();
            for groups in have.runs() {
                rarity.add(groups);
                map.add(chunks_of(groups), None, usize::MAX);
            }
            let rng = ChaCha12Rng::from_seed([seed; 32]);
            let (shortlist, now) = (Shortlist::default(), Instant::from_micros(1));
            Self { geometry, requests, rarity, have: map, rate, cursor: 0, shortlist, now, rng }
        }

        fn picker(&mut self) -> Picker<'_, ChaCha12Rng> {
            Picker {
                geometry: &self.geometry,
                requests: &self.requests,
                rarity: &self.rarity,
                have: &self.have,
                pace: Pace { ready: Duration::ZERO, rate: self.rate, fastest: true },
                max_groups: usize::MAX,
                batches: RUN_BATCHES,
                cursor: self.cursor,
                shortlist: &mut self.shortlist,
                now: self.now,
                rng: &mut self.rng,
            }
        }

        fn rarest_in(&mut self, within: &RangeSet, allowance: u64) -> Option<ChunkRange> {
            let picked = self.picker().rarest_in(within, allowance);
            assert!(self.shortlist.pieces.len() <= SHORTLIST);
            self.cursor = picked.map_or(self.cursor, ChunkRange::end);
            picked
        }

        /// Picks whole groups from everywhere, until there is nothing more or `count` are picked.
        fn pick_groups(&mut self, count: usize) -> Vec<u64> {
            let mut picked = Vec::new();
            while picked.len() < count
                && let Some(chunks) = self.rarest_in(&RangeSet::from(self.geometry.all()), 16)
            {
                self.requests.unwant(&self.geometry, chunks);
                picked.push(self.geometry.group_of(ChunkIndex::new(chunks.start())).value());
            }
            picked
        }

        /// The chunks within `within` that are free and that the peer has, and how many peers have each.
        fn offered(&self, within: &RangeSet) -> Vec<(u64, u32)> {
            let chunks = self.geometry.all().iter().filter(|&chunk| {
                within.contains(chunk) && self.requests.free().contains(chunk) && self.have.has(chunk)
            });
            chunks.map(|chunk| (chunk.value(), self.rarity.count(self.geometry.group_of(chunk).value()))).collect()
        }

        /// Whether something goes before what is rarest: a group that is begun, or the rest of a run.
        fn goes_on(&self, within: &RangeSet) -> bool {
            let run = Pace { ready: Duration::ZERO, rate: self.rate, fastest: true }.run_chunks(&self.geometry);
            let torn = |&(chunk, _): &(u64, u32)| self.requests.is_torn(GroupIndex::new(chunk / 16));
            let offered = self.offered(within);
            offered.iter().any(torn)
                || (!self.cursor.is_multiple_of(run) && offered.iter().any(|&(chunk, _)| chunk == self.cursor))
        }
    }

    fn chunks_of(groups: ChunkRange) -> ChunkRange {
        ChunkRange::new(16 * groups.start(), 16 * groups.end())
    }

    /// What happens between picks.
    #[derive(Clone, Debug)]
    enum Event {
        /// Another peer got groups.
        Got(ChunkRange),
        /// The last that got some left.
        Left,
        SeederCame,
        SeederLeft,
        /// Chunks are asked of others, or are here.
        Taken(ChunkRange),
        /// Chunks are to be asked for again.
        Freed(ChunkRange),
        /// The part that is picked from.
        Within(ChunkRange),
        Wait(Duration),
        /// Picks of at most so many chunks.
        Pick(u64),
    }

    fn groups() -> impl Strategy<Value = ChunkRange> {
        (0..GROUPS, 1u64..12).prop_map(|(start, count)| ChunkRange::new(start, (start + count).min(GROUPS)))
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => groups().prop_map(Event::Got),
            2 => Just(Event::Left),
            1 => Just(Event::SeederCame),
            1 => Just(Event::SeederLeft),
            4 => groups().prop_map(|groups| Event::Taken(chunks_of(groups))),
            1 => (0..16 * GROUPS).prop_map(|chunk| Event::Taken(ChunkRange::single(ChunkIndex::new(chunk)))),
            3 => groups().prop_map(|groups| Event::Freed(chunks_of(groups))),
            2 => groups().prop_map(|groups| Event::Within(ChunkRange::new(0, 8 * groups.end()))),
            1 => Just(Event::Within(ChunkRange::new(0, 16 * GROUPS))),
            4 => (1u64..60).prop_map(|millis| Event::Wait(Duration::from_millis(millis))),
            16 => prop_oneof![Just(16u64), Just(64), 1u64..40].prop_map(Event::Pick),
        ]
    }

    #[test]
    fn who_may_not_answer_leaves_a_group_to_others() {
        let mut scene = Scene::new(&[ChunkRange::new(0, GROUPS)], SLOW, 1);
        let geometry = scene.geometry;
        let next = |scene: &mut Scene, batches: usize| {
            let mut picker = Picker { batches, ..scene.picker() };
            picker.pick(Plan::InOrder, 0, 64).unwrap().start()
        };
        for peer in 0..3 {
            let chunk = next(&mut scene, PROBE_BATCHES);
            assert_eq!(chunk, u64::from(peer));
            scene.requests.ask(&geometry, ChunkRange::new(chunk, chunk + 1), peer, BatchId::new(0));
        }
        assert_eq!(next(&mut scene, PROBE_BATCHES), 16);
        assert_eq!(next(&mut scene, RUN_BATCHES), 3);
    }

    #[test]
    fn fast_peers_are_asked_for_whole_runs_in_order() {
        let everything = [ChunkRange::new(0, GROUPS)];
        let pick = |scene: &mut Scene, after, allowance| {
            let picked = scene.picker().pick(Plan::InOrder, after, allowance);
            picked.map(|piece| (piece.start(), piece.end()))
        };
        let mut fast = Scene::new(&everything, WHOLE_RUNS * RUN_BYTES, 1);
        assert_eq!(pick(&mut fast, 0, 300), Some((0, 256)));
        assert_eq!(pick(&mut fast, 256, 44), None, "that is a part of a run");
        assert_eq!(pick(&mut fast, 0, 100), Some((0, 96)), "if that is all there may be, and whole groups");
        assert_eq!(pick(&mut fast, 90, 300), Some((90, 384)), "from wherever the last ended");
        // What is free ends within a run: nobody else is asked for the rest of it.
        let geometry = fast.geometry;
        fast.requests.unwant(&geometry, ChunkRange::new(144, 1024));
        assert_eq!(pick(&mut fast, 128, 300), Some((128, 144)));
        assert_eq!(pick(&mut fast, 0, 300), Some((0, 128)));
        let mut slow = Scene::new(&everything, WHOLE_RUNS * RUN_BYTES - 1, 1);
        assert_eq!(pick(&mut slow, 0, 300), Some((0, 288)));
        assert_eq!(pick(&mut slow, 256, 44), Some((256, 288)));
    }

    proptest! {
        #[test]
        fn picks_what_can_be_asked_for_and_is_rarest(
            have in prop::collection::vec(groups(), 1..12),
            rate in prop_oneof![Just(SLOW), Just(1 << 20), Just(100 << 20)],
            events in prop::collection::vec(events(), 1..120),
            seed in any::<u8>(),
        ) {
            let mut scene = Scene::new(&have, rate, seed);
            let geometry = scene.geometry;
            let mut within = RangeSet::from(geometry.all());
            let (mut others, mut seeders) = (Vec::new(), 0);
            // When the last search was seen, and how many had what it found beyond those that must.
            let mut seen = (Instant::ZERO, 0);
            for event in events {
                match event {
                    Event::Got(groups) => {
                        scene.rarity.add(groups);
                        others.push(groups);
                    }
                    Event::Left => others.pop().into_iter().for_each(|groups| scene.rarity.remove(groups)),
                    Event::SeederCame => {
                        scene.rarity.add_complete();
                        seeders += 1;
                    }
                    Event::SeederLeft if seeders > 0 => {
                        scene.rarity.remove_complete();
                        seeders -= 1;
                    }
                    Event::SeederLeft => {}
                    Event::Taken(chunks) => scene.requests.unwant(&geometry, chunks),
                    Event::Freed(chunks) => scene.requests.want(&geometry, chunks),
                    Event::Within(part) => within = RangeSet::from(part),
                    Event::Wait(time) => scene.now = scene.now + time,
                    Event::Pick(allowance) => {
                        // Each search has its own time.
                        scene.now = scene.now + Duration::from_micros(1);
                        let offered = scene.offered(&within);
                        let goes_on = scene.goes_on(&within);
                        let (listed, until) = (scene.shortlist.pieces.len(), scene.shortlist.until);
                        let picked = scene.rarest_in(&within, allowance);
                        prop_assert_eq!(picked.is_none(), offered.is_empty());
                        let Some(picked) = picked else { continue };
                        prop_assert!(!picked.is_empty() && picked.count() <= allowance.max(16));
                        let at = |chunk: u64| offered.iter().find(|&&(offered, _)| offered == chunk);
                        prop_assert!((picked.start()..picked.end()).all(|chunk| at(chunk).is_some()), "{picked:?}");
                        scene.requests.unwant(&geometry, picked);
                        if goes_on {
                            continue;
                        }
                        let count = picked.iter().filter_map(|chunk| at(chunk.value())).map(|at| at.1).max().unwrap();
                        let floor = seeders + u32::from(!scene.have.is_complete(geometry.chunk_count()));
                        let rarest = offered.iter().all(|at| at.1 >= count);
                        let searched = listed == 0 || until <= scene.now || scene.shortlist.until != until;
                        if searched {
                            prop_assert!(rarest, "{picked:?} after a search");
                            seen = (scene.now, count - floor);
                        }
                        prop_assert!(rarest || (count - floor <= seen.1 && scene.now < seen.0 + SHORTLIST_LIFE));
                    }
                }
            }
        }
    }

    #[test]
    fn one_search_serves_many_picks() {
        let mut scene = Scene::new(&[ChunkRange::new(0, GROUPS)], SLOW, 1);
        let (mut picked, mut lists) = (Vec::new(), BTreeSet::new());
        while let [group] = scene.pick_groups(1)[..] {
            picked.push(group);
            lists.insert(scene.shortlist.until);
            scene.now = scene.now + Duration::from_micros(1);
        }
        picked.sort_unstable();
        assert!(picked.into_iter().eq(0..GROUPS), "each group once");
        assert!(lists.len() < 16, "{} searches", lists.len());
    }

    #[test]
    fn what_becomes_rarer_waits_no_longer_than_the_list_lives() {
        for seed in 0..20 {
            let mut scene = Scene::new(&[ChunkRange::new(0, GROUPS)], SLOW, seed);
            let all = ChunkRange::new(0, GROUPS);
            scene.rarity.add(all);
            let first = scene.pick_groups(1)[0];
            // Another peer leaves, which had had everything but the last free group.
            let rare = if first == GROUPS - 1 { 0 } else { GROUPS - 1 };
            scene.rarity.remove(ChunkRange::single(ChunkIndex::new(rare)));
            scene.now = scene.now + SHORTLIST_LIFE;
            assert_eq!(scene.pick_groups(1), [rare]);
        }
    }

    #[test]
    fn what_is_no_longer_rare_is_not_picked_from_the_list() {
        for seed in 0..20 {
            let mut scene = Scene::new(&[ChunkRange::new(0, GROUPS)], SLOW, seed);
            let first = scene.pick_groups(1)[0];
            let half =
                if first < GROUPS / 2 { ChunkRange::new(GROUPS / 2, GROUPS) } else { ChunkRange::new(0, GROUPS / 2) };
            // Another peer announces what lies in the other half.
            scene.rarity.add(half);
            let next = scene.pick_groups(GROUPS as usize / 2 - 1);
            assert!(next.iter().all(|&group| !half.contains(ChunkIndex::new(group))), "{next:?}");
        }
    }
}
