//! Requests against a slow twin that goes chunk by chunk; for tests and the fuzz target `request_ops`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::chunk::{ChunkIndex, ChunkRange, ChunkSize, Geometry, GroupIndex, RangeSet};
use crate::schedule::requests::{BatchId, MAX_ASKED, PROBE_BATCHES, PeerSlot, RUN_BATCHES, Requests, mask};

/// Contents by length and chunk size: groups of 16 chunks, of 32, of 2 and of 1, the last one cut.
const CONTENTS: [(u64, u32); 4] =
    [(70 * 1024 - 100, 1024), (69 * 512, 512), (8192 * 5, 8192), (20_000 * 7 - 1, 20_000)];
/// More peers and batches than fit into one group.
const PEERS: u8 = 6;
const BATCHES: u8 = 3;
/// Steps in one run.
const MAX_STEPS: usize = 256;

/// Takes the steps that `data` describes, and compares after each.
///
/// # Panics
/// If the requests and their twin differ.
pub fn request_ops(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let (length, chunk_size) = CONTENTS[usize::from(choice) % CONTENTS.len()];
    let geometry = ChunkSize::new(chunk_size).and_then(|size| Geometry::new(length, size));
    let Ok(geometry) = geometry else { panic!("{length} bytes in chunks of {chunk_size} were refused") };
    let mut pair = Pair { geometry, real: Requests::default(), twin: Twin::default() };
    for step in rest.chunks(5).take(MAX_STEPS) {
        let at = |place: usize| step.get(place).copied().unwrap_or_default();
        let start = u64::from(at(1)) % geometry.chunk_count();
        let range = ChunkRange::new(start, start + 1 + u64::from(at(2) % 40)).intersection(geometry.all());
        let (peer, batch) = (PeerSlot::from(at(3) % PEERS), BatchId::new(u32::from(at(4) % BATCHES)));
        pair.step(at(0), range, peer, batch);
        pair.compare();
    }
}

/// Whom a chunk is asked of, and in which batch unless it was withdrawn.
type Owner = (PeerSlot, Option<BatchId>);

/// The same, chunk by chunk.
#[derive(Debug, Default)]
struct Twin {
    free: BTreeSet<u64>,
    asked: BTreeMap<u64, BTreeSet<Owner>>,
    /// Whether a chunk became free in this step.
    freed: bool,
}

impl Twin {
    fn owners_in(&self, chunks: ChunkRange) -> BTreeSet<Owner> {
        self.asked.range(chunks.start()..chunks.end()).flat_map(|(_, owners)| owners.iter().copied()).collect()
    }

    fn within(&mut self, chunks: ChunkRange) -> impl Iterator<Item = (&u64, &mut BTreeSet<Owner>)> {
        self.asked.range_mut(chunks.start()..chunks.end())
    }

    /// Whether a group of `chunks` takes `owner`.
    fn takes(&self, chunks: ChunkRange, owner: Owner) -> bool {
        let owners = self.owners_in(chunks);
        owners.contains(&owner) || owners.len() < MAX_ASKED
    }

    /// Asks `owners` no longer for `chunk`, which is free if that was all.
    fn drop_owners(&mut self, chunk: u64, owners: &[Owner]) {
        let Some(left) = self.asked.get_mut(&chunk) else { return };
        left.retain(|owner| !owners.contains(owner));
        if left.is_empty() {
            self.asked.remove(&chunk);
            self.set_free(chunk);
        }
    }

    fn set_free(&mut self, chunk: u64) {
        self.freed |= self.free.insert(chunk);
    }

    fn is_asked_of(&self, chunk: u64, peer: PeerSlot) -> bool {
        self.asked.get(&chunk).is_some_and(|owners| owners.iter().any(|owner| owner.0 == peer))
    }
}

#[derive(Debug)]
struct Pair {
    geometry: Geometry,
    real: Requests,
    twin: Twin,
}

impl Pair {
    fn step(&mut self, op: u8, range: ChunkRange, peer: PeerSlot, batch: BatchId) {
        let version = self.real.version();
        self.twin.freed = false;
        match op % 9 {
            0 => self.want(range),
            1 => {
                self.twin.free.retain(|&chunk| !range.contains(ChunkIndex::new(chunk)));
                self.real.unwant(&self.geometry, range);
            }
            2 => self.ask(range, peer, batch),
            3 => self.ask_also(range, peer, batch),
            4 => self.settle(range),
            5 => self.release(range, peer),
            6 => self.withdraw(range, peer),
            7 => self.release_withdrawn(range, peer),
            _ => self.release_all(peer),
        }
        assert_eq!(self.real.version() > version, self.twin.freed, "the version tells of chunks that became free");
        assert!(self.real.version() >= version);
    }

    /// What is asked for cannot become wanted: it is.
    fn want(&mut self, range: ChunkRange) {
        let asked: RangeSet = self.twin.asked.keys().map(|&chunk| single(chunk)).collect();
        let runs: Vec<ChunkRange> = asked.missing_in(range).collect();
        for run in runs {
            run.iter().for_each(|chunk| self.twin.set_free(chunk.value()));
            self.real.want(&self.geometry, run);
        }
    }

    fn ask(&mut self, range: ChunkRange, peer: PeerSlot, batch: BatchId) {
        let owner = (peer, Some(batch));
        let mut count = 0;
        for group in self.geometry.groups_touching(range) {
            let chunks = self.geometry.group_chunks(group);
            if !self.twin.takes(chunks, owner) {
                continue;
            }
            for chunk in chunks.intersection(range).iter().map(ChunkIndex::value) {
                if self.twin.free.remove(&chunk) {
                    self.twin.asked.entry(chunk).or_default().insert(owner);
                    count += 1;
                }
            }
        }
        assert_eq!(self.real.ask(&self.geometry, range, peer, batch), count);
    }

    fn ask_also(&mut self, range: ChunkRange, peer: PeerSlot, batch: BatchId) {
        let owner = (peer, Some(batch));
        let group = self.geometry.group_of(ChunkIndex::new(range.start()));
        let chunks = self.geometry.group_chunks(group);
        let mut expected = 0;
        if self.twin.takes(chunks, owner) {
            for chunk in chunks.intersection(range).iter().map(ChunkIndex::value) {
                if self.twin.is_asked_of(chunk, peer) {
                    continue;
                }
                if let Some(owners) = self.twin.asked.get_mut(&chunk) {
                    owners.insert(owner);
                    expected |= mask(chunks, single(chunk));
                }
            }
        }
        assert_eq!(self.real.ask_also(group, mask(chunks, range), peer, batch), expected);
    }

    fn settle(&mut self, range: ChunkRange) {
        let group = self.geometry.group_of(ChunkIndex::new(range.start()));
        let chunks = self.geometry.group_chunks(group);
        let mut settled = Vec::new();
        let on_owner = |peer, batch, bits| settled.push((peer, batch, bits));
        self.real.settle(&self.geometry, group, mask(chunks, range), on_owner);
        // What was withdrawn from one peer may have belonged to several batches.
        let live = || settled.iter().filter(|(_, batch, _)| batch.is_some());
        let names: BTreeSet<Owner> = live().map(|&(peer, batch, _)| (peer, batch)).collect();
        assert_eq!(names.len(), live().count(), "an owner is named twice");
        for chunk in chunks.intersection(range).iter().map(ChunkIndex::value) {
            let bit = mask(chunks, single(chunk));
            let of_chunk = settled.iter().filter(|(.., bits)| bits & bit != 0).map(|&(peer, batch, _)| (peer, batch));
            assert_eq!(of_chunk.collect::<BTreeSet<_>>(), self.twin.asked.remove(&chunk).unwrap_or_default());
            self.twin.free.remove(&chunk);
        }
        assert!(settled.iter().all(|(.., bits)| *bits != 0 && bits & !mask(chunks, range) == 0), "others are named");
    }

    fn release(&mut self, range: ChunkRange, peer: PeerSlot) {
        let mut expected = BTreeSet::new();
        for chunk in range.iter().map(ChunkIndex::value) {
            let theirs = |owner: &&Owner| owner.0 == peer && owner.1.is_some();
            let owners: Vec<Owner> =
                self.twin.asked.get(&chunk).into_iter().flatten().filter(theirs).copied().collect();
            expected.extend(owners.iter().filter_map(|owner| Some((chunk, owner.1?))));
            self.twin.drop_owners(chunk, &owners);
        }
        let released = self.real.release(&self.geometry, peer, range);
        let chunks = released.iter().flat_map(|(run, batch)| run.iter().map(|chunk| (chunk.value(), *batch)));
        assert_eq!(chunks.collect::<BTreeSet<_>>(), expected);
        assert_eq!(released.iter().map(|(run, _)| run.count()).sum::<u64>(), expected.len() as u64);
    }

    fn withdraw(&mut self, range: ChunkRange, peer: PeerSlot) {
        let group = self.geometry.group_of(ChunkIndex::new(range.start()));
        let mut expected = BTreeSet::new();
        for (&chunk, owners) in self.twin.within(self.geometry.group_chunks(group)) {
            let theirs: Vec<Owner> = owners.iter().copied().filter(|owner| owner.0 == peer).collect();
            for owner in theirs {
                owners.remove(&owner);
                owners.insert((peer, None));
                expected.extend(owner.1.map(|batch| (chunk, batch)));
            }
        }
        let withdrawn = self.real.withdraw(&self.geometry, peer, group);
        let chunks = withdrawn.iter().flat_map(|(run, batch)| run.iter().map(|chunk| (chunk.value(), *batch)));
        assert_eq!(chunks.collect::<BTreeSet<_>>(), expected);
        assert_eq!(withdrawn.iter().map(|(run, _)| run.count()).sum::<u64>(), expected.len() as u64);
    }

    fn release_withdrawn(&mut self, range: ChunkRange, peer: PeerSlot) {
        let group = self.geometry.group_of(ChunkIndex::new(range.start()));
        for chunk in self.geometry.group_chunks(group).iter() {
            self.twin.drop_owners(chunk.value(), &[(peer, None)]);
        }
        self.real.release_withdrawn(&self.geometry, peer, group);
    }

    fn release_all(&mut self, peer: PeerSlot) {
        for chunk in self.geometry.all().iter().map(ChunkIndex::value) {
            let owners = self.twin.asked.get(&chunk).into_iter().flatten();
            let owners: Vec<Owner> = owners.filter(|owner| owner.0 == peer).copied().collect();
            self.twin.drop_owners(chunk, &owners);
        }
        self.real.release_all(&self.geometry, peer);
    }

    fn compare(&self) {
        let free: RangeSet = self.twin.free.iter().map(|&chunk| single(chunk)).collect();
        assert_eq!(self.real.free(), &free);
        assert!(self.twin.asked.keys().all(|chunk| !self.twin.free.contains(chunk)), "a chunk is in two states");
        let torn = |group: &GroupIndex| {
            let chunks = self.geometry.group_chunks(*group);
            free.intersects(chunks) && !free.covers(chunks)
        };
        let geometry = self.geometry;
        let all = || geometry.groups_touching(geometry.all());
        assert!(self.real.torn().eq(all().filter(torn)), "torn groups");
        all().for_each(|group| self.compare_group(group));
        let with_requests: Vec<GroupIndex> =
            all().filter(|&group| !self.twin.owners_in(self.geometry.group_chunks(group)).is_empty()).collect();
        assert_eq!(self.real.group_count(), with_requests.len());
        assert!(self.real.outstanding().map(|(group, _)| group).eq(with_requests), "groups that are asked for");
    }

    fn compare_group(&self, group: GroupIndex) {
        let chunks = self.geometry.group_chunks(group);
        let bits = |test: &dyn Fn(u64) -> bool| {
            let inside = chunks.iter().map(ChunkIndex::value).filter(|&chunk| test(chunk));
            inside.fold(0, |bits, chunk| bits | mask(chunks, single(chunk)))
        };
        for chunk in chunks.iter() {
            assert_eq!(self.real.is_asked(&self.geometry, chunk), self.twin.asked.contains_key(&chunk.value()));
        }
        let asked = bits(&|chunk| self.twin.asked.contains_key(&chunk));
        assert_eq!(self.real.asked(group), asked, "{group:?}");
        let owners = self.twin.owners_in(chunks);
        for batches in [1, RUN_BATCHES, PROBE_BATCHES] {
            assert_eq!(self.real.has_room(group, batches), owners.len() + batches <= MAX_ASKED);
        }
        for peer in 0..PeerSlot::from(PEERS) {
            let theirs = bits(&|chunk| self.twin.is_asked_of(chunk, peer));
            assert_eq!(self.real.asked_of(group, peer), theirs, "{group:?}, peer {peer}");
            let alone = |chunk: u64| {
                let owners = self.twin.asked.get(&chunk);
                owners.is_some_and(|owners| owners.iter().all(|owner| owner.0 == peer && owner.1.is_some()))
            };
            assert_eq!(self.real.asked_of_alone(group, peer), bits(&alone), "{group:?}, peer {peer}");
            if self.real.owner_of(group, mask(chunks, chunks)) == Some(peer) {
                assert_eq!(theirs, mask(chunks, chunks), "{peer} is not asked for all of {group:?}");
            }
        }
        let listed = self.real.outstanding().find(|(other, _)| *other == group);
        let listed = listed.into_iter().flat_map(|(_, asked)| asked).fold(0, |all, (_, _, bits)| all | bits);
        assert_eq!(listed, asked);
    }
}

fn single(chunk: u64) -> ChunkRange {
    ChunkRange::single(ChunkIndex::new(chunk))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::println;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chunk_is_in_one_state_at_a_time(data in prop::collection::vec(any::<u8>(), 0..400)) {
            request_ops(&data);
        }
    }

    #[test]
    fn the_corpus_of_the_fuzz_target_passes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/request_ops");
        let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            // A failing test shows its output, and so which input it was.
            println!("{}", input.display());
            request_ops(&fs::read(&input).unwrap());
        }
    }
}
