//! Hash trees: chunks and hashes, true and false, in any order; nothing false is ever believed.

use ppspp_core::Instant;
use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange, GroupIndex};
use ppspp_core::integrity::{
    EarlyHashes, GroupNodes, Hash, PeakClaim, Tree, Verdict, Verifier, peaks_needed, root_from_peaks, uncles,
};

use super::content::{Sample, samples};
use super::input::Input;

/// Steps of one input: enough to fetch the largest sample, few enough to stay quick.
const MAX_STEPS: usize = 300;
/// Hashes kept early.
const MAX_EARLY: usize = 48;
/// Groups open at once.
const MAX_OPEN: usize = 2;

/// Feeds a verifier what the input says, and compares all that it believes with the content.
pub fn proof(data: &[u8]) {
    let mut input = Input::new(data);
    let sample = &samples()[usize::from(input.u8()) % samples().len()];
    let geometry = input.flag().then_some(sample.geometry);
    let mut bench = Bench {
        sample,
        verifier: Verifier::new(sample.params(), sample.metadata.root, geometry, MAX_OPEN),
        early: EarlyHashes::new(MAX_EARLY),
        candidates: Vec::new(),
    };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        bench.step(&mut input);
        assert!(bench.early.len() <= MAX_EARLY);
    }
    bench.check_belief();
}

struct Bench<'a> {
    sample: &'a Sample,
    verifier: Verifier,
    early: EarlyHashes,
    candidates: Vec<(Bin, Hash)>,
}

impl Bench<'_> {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 11 {
            0 => {
                let bin = Self::bin(input);
                self.hear(bin, input);
            }
            1 => self.true_proof(input, true),
            2 => self.true_proof(input, false),
            3 => self.false_chunk(input),
            4 => self.claim(input),
            5 => {
                let range = ChunkRange::new(u64::from(input.u8()), u64::from(input.u8()));
                self.verifier.forget(range);
                assert!(range.iter().all(|chunk| !self.verifier.has(chunk)));
            }
            6 => self.verifier.close_group(GroupIndex::new(u64::from(input.u8()))),
            7 => self.group(input),
            8 => self.restore(input),
            9 => self.import(input),
            _ => {
                self.early.expire(Instant::from_micros(u64::from(input.u8())));
                self.candidates.clear();
            }
        }
    }

    fn bin(input: &mut Input<'_>) -> Bin {
        match input.u8() {
            255 => Bin::from_number(input.u64()).unwrap_or(Bin::EVERYTHING),
            number => Bin::from_number(u64::from(number)).unwrap_or(Bin::EVERYTHING),
        }
    }

    /// The hash of `bin`, true unless the input says otherwise.
    fn hash(&self, bin: Bin, input: &mut Input<'_>) -> Vec<u8> {
        let function = self.sample.metadata.function;
        let mut hash = self.sample.nodes.get(&bin).map_or(vec![0; function.len()], |hash| hash.as_slice().to_vec());
        match input.u8() {
            255 => hash = input.bytes().to_vec(),
            254 => {
                let other = Self::bin(input);
                hash = self.sample.nodes.get(&other).map_or(hash, |hash| hash.as_slice().to_vec());
            }
            at @ 200..=253 => {
                let at = usize::from(at) % hash.len();
                hash[at] ^= input.u8();
            }
            _ => {}
        }
        hash
    }

    fn hear(&mut self, bin: Bin, input: &mut Input<'_>) {
        let hash = self.hash(bin, input);
        self.early.insert(bin, &hash, Instant::from_micros(u64::from(input.u8())));
        if let Some(hash) = Hash::from_slice(&hash) {
            self.candidates.push((bin, hash));
        }
    }

    /// What an honest sender sends with a chunk, to a receiver that it knows nothing or everything of.
    fn true_proof(&mut self, input: &mut Input<'_>, all: bool) {
        let geometry = self.sample.geometry;
        let chunk = ChunkIndex::new(u64::from(input.u8()) % geometry.chunk_count());
        let knows = |range: ChunkRange| !all && range.iter().any(|chunk| self.verifier.has(chunk));
        let acknowledged = knows(geometry.all());
        let bins: Vec<Bin> = peaks_needed(&geometry, acknowledged).chain(uncles(&geometry, chunk, knows)).collect();
        assert!(bins.len() <= 2 * 64);
        self.early.clear();
        for bin in bins {
            let hash = self.sample.nodes[&bin];
            self.early.insert(bin, hash.as_slice(), Instant::ZERO);
            self.candidates.push((bin, hash));
        }
        let verdict = self.verifier.check(chunk, self.sample.chunk(chunk), &self.early);
        let (has, known) = (self.verifier.has(chunk), self.verifier.geometry().is_some());
        match verdict {
            Verdict::Verified => self.early.remove_used(chunk),
            Verdict::AlreadyHave => {}
            Verdict::NeedsGeometry => assert!(!known),
            Verdict::TooManyOpenGroups => assert!(self.verifier.open_groups().count() >= MAX_OPEN),
            // Hashes that were proven stay; those dropped with a group have to come again.
            Verdict::Missing => assert!(!all, "a whole proof was not enough for {chunk:?}"),
            other => panic!("{other:?} for a true chunk with true hashes"),
        }
        assert_eq!(has, matches!(verdict, Verdict::Verified | Verdict::AlreadyHave));
    }

    /// Bytes that may not be the chunk's, with whatever hashes were heard.
    fn false_chunk(&mut self, input: &mut Input<'_>) {
        let chunk = ChunkIndex::new(match input.u8() {
            255 => input.u64(),
            chunk => u64::from(chunk),
        });
        let mut payload = self.sample.chunk(chunk).to_vec();
        match input.u8() % 4 {
            0 => payload.truncate(usize::from(input.u16())),
            1 => payload = self.children(input),
            2 => {
                if let Some(byte) = payload.first_mut() {
                    *byte ^= input.u8();
                }
            }
            _ => {}
        }
        let had = self.verifier.has(chunk);
        let verdict = self.verifier.check(chunk, &payload, &self.early);
        if verdict == Verdict::Verified {
            assert!(!had);
            assert_eq!(payload, self.sample.chunk(chunk), "false bytes of {chunk:?} were verified");
            self.early.remove_used(chunk);
        }
        assert!(had || verdict != Verdict::AlreadyHave, "{chunk:?} was never verified");
    }

    /// What an interior node is hashed from, as a payload (R1).
    fn children(&self, input: &mut Input<'_>) -> Vec<u8> {
        let children = Self::bin(input).children();
        let hash = |bin| self.sample.nodes.get(&bin).map_or(&[][..], Hash::as_slice);
        children.map_or(Vec::new(), |(left, right)| [hash(left), hash(right)].concat())
    }

    /// A size claimed from the hashes heard so far, and a last chunk to prove it.
    fn claim(&mut self, input: &mut Input<'_>) {
        let root = self.sample.metadata.root;
        let claim = match input.u8() % 4 {
            0 => PeakClaim::one_chunk(self.sample.params(), &root),
            _ => PeakClaim::find(self.sample.params(), &root, &self.candidates),
        };
        let Some(claim) = claim else { return };
        let peaks = root_from_peaks(self.sample.metadata.function, claim.geometry(), claim.peaks());
        assert!(claim.peaks().len() <= 64 && (claim.chunks() == 1 || peaks == Some(root)));
        let payload = match input.u8() % 4 {
            0 => self.children(input),
            1 => self.sample.chunk(ChunkIndex::new(u64::from(input.u8()))).to_vec(),
            _ => self.sample.chunk(self.sample.geometry.last_chunk()).to_vec(),
        };
        if let Ok(geometry) = self.verifier.adopt(&claim, &payload, &self.early) {
            assert_eq!(geometry, self.sample.geometry, "a false size was adopted");
        }
    }

    /// A group read back, whole or damaged (R22).
    fn group(&mut self, input: &mut Input<'_>) {
        let geometry = self.sample.geometry;
        let group = GroupIndex::new(u64::from(input.u8()) % (geometry.group_count() + 1));
        let mut data = self.sample.of_range(geometry.group_chunks(group)).to_vec();
        let whole = data.clone();
        if let Some(at) = data.get_mut(usize::from(input.u16())) {
            *at ^= input.u8();
        }
        let nodes = GroupNodes::from_data(self.sample.metadata.function, &geometry, group, &data);
        assert_eq!(nodes.is_some(), !data.is_empty());
        let Some(nodes) = nodes else { return };
        if self.verifier.verify_group(group, &nodes) {
            assert_eq!(data, whole, "a damaged group was verified");
            self.verifier.mark_complete(group);
            assert!(self.verifier.is_group_complete(group));
        }
    }

    /// Nodes of an unfinished group from a file.
    fn restore(&mut self, input: &mut Input<'_>) {
        let group = GroupIndex::new(u64::from(input.u8()));
        let mut nodes = Vec::new();
        for _ in 0..input.u8() {
            let bin = Self::bin(input);
            if let Some(hash) = Hash::from_slice(&self.hash(bin, input)) {
                nodes.push((bin, hash));
            }
        }
        let entered = self.verifier.restore_open_group(group, &nodes);
        assert!(entered <= nodes.len());
        self.check_belief();
    }

    /// A tree from a file, damaged at one place; the verifier starts again from it.
    fn import(&mut self, input: &mut Input<'_>) {
        let sample = self.sample;
        let (damaged, at, flip) = (input.u64(), usize::from(input.u16()), input.u8());
        let peaks = if input.flag() { sample.tree.peaks() } else { &[] };
        let imported = Tree::import(sample.params(), sample.metadata.root, sample.geometry, peaks, |page| {
            let mut bytes = sample.tree.page_bytes(page)?;
            if page == damaged
                && let Some(byte) = bytes.get_mut(at)
            {
                *byte ^= flip;
            }
            Some(bytes)
        });
        let Ok(tree) = imported else { panic!("the true peaks were refused") };
        self.verifier = Verifier::from_tree(tree, MAX_OPEN);
        self.check_belief();
    }

    /// Every hash that the verifier holds for proven is true, and its groups are within the bound.
    fn check_belief(&self) {
        for (bin, hash) in &self.sample.nodes {
            let known = self.verifier.node(*bin);
            assert!(known.is_none_or(|known| known == hash.as_slice()), "{bin:?} is believed to be {known:?}");
        }
        let geometry = self.verifier.geometry();
        assert!(geometry.is_none_or(|geometry| geometry.chunk_count() == self.sample.geometry.chunk_count()));
        for (group, open) in self.verifier.open_groups() {
            assert_eq!(open.chunks(), self.sample.geometry.group_chunks(group));
        }
    }
}
