//! Fetches that are broken off, and files that are not what was left.

use super::*;

#[test]
fn a_whole_fetch_leaves_only_the_file() {
    for (len, function, chunk_size) in [
        (1, HashFunction::Sha256, 1024),
        (1024, HashFunction::Sha1, 1024),
        (1025, HashFunction::Sha224, 1024),
        (300 * 1024, HashFunction::Sha384, 512),
        (200_001, HashFunction::Sha512, 61_440),
    ] {
        let fetch = Fetch::new(Content::new(len, function, chunk_size, 2));
        let mut store = fetch.fresh();
        assert!(store.warning().is_none());
        fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..fetch.content.geometry.chunk_count());
        assert_eq!(fetch.files(), ["film.mp4.part", "film.mp4.ppspp"].map(String::from).into());
        let reader = store.reader().unwrap();
        assert_eq!(store.finish().unwrap(), fetch.output());
        assert_eq!(store.finish().unwrap(), fetch.output(), "again is harmless");
        assert_eq!(fetch.files(), ["film.mp4".to_owned()].into());
        assert_eq!(fs::read(fetch.output()).unwrap(), fetch.content.data);
        assert_eq!(reader.read(0, len).unwrap(), fetch.content.data);
        assert_eq!(store.read(0, len).unwrap(), fetch.content.data);
        drop(store);
        assert_eq!(fetch.files(), ["film.mp4".to_owned()].into());
    }
}

#[test]
fn r22_a_kill_at_any_instant_costs_only_what_came_after_the_last_checkpoint() {
    for (len, function, chunk_size) in [
        (100_000, HashFunction::Sha256, 1024),
        (70_001, HashFunction::Sha1, 512),
        (16_384, HashFunction::Sha256, 1024),
        (300_000, HashFunction::Sha512, 16_384),
    ] {
        let fetch = Fetch::new(Content::new(len, function, chunk_size, 3));
        let count = fetch.content.geometry.chunk_count();
        let mut store = fetch.fresh();
        let mut leecher = Leecher::new(&fetch.content);
        let mut saved = RangeSet::new();
        for (step, chunk) in shuffled(count, 4).into_iter().map(ChunkIndex::new).enumerate() {
            leecher.receive(&fetch.content, chunk);
            let (offset, data) = fetch.content.bytes(ChunkRange::single(chunk));
            store.write(offset, Bytes::copy_from_slice(data)).unwrap();
            if step % 7 == 6 {
                store.checkpoint(leecher.checkpoint()).unwrap();
                saved = leecher.stored.clone();
            }
            let copy = fetch.snapshot();
            assert_eq!(fetch.verified_in(copy.path()), saved, "after chunk number {step}");
            assert!(!copy.path().join("film.mp4").exists());
        }
        store.checkpoint(leecher.checkpoint()).unwrap();
        assert_eq!(fetch.verified_in(fetch.snapshot().path()), fetch.content.geometry.all().into());
        store.finish().unwrap();
        assert_eq!(fetch.verified_in(fetch.snapshot().path()), fetch.content.geometry.all().into());
    }
}

#[test]
fn a_kill_before_anything_was_written_leaves_a_fresh_start() {
    let fetch = Fetch::small();
    fs::write(fetch.sidecar(), "").unwrap();
    drop(fetch.fresh());
    fs::write(fetch.sidecar(), "").unwrap();
    fs::write(fetch.part(), "").unwrap();
    let store = fetch.fresh();
    assert_eq!(store.warning(), None);
    // With the header and nothing else.
    let copy = fetch.snapshot();
    drop(fresh(FileStore::open(&copy.path().join("film.mp4"), &fetch.content.metadata, false)));
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 0);
}

#[test]
fn a_kill_while_the_file_gets_its_name_costs_nothing() {
    let fetch = Fetch::small().killed_after(0..98);
    // As hard links make it: both names, or the final one with the sidecar still there.
    fs::copy(fetch.part(), fetch.output()).unwrap();
    let whole = RangeSet::from(fetch.content.geometry.all());
    let copy = fetch.snapshot();
    assert_eq!(fetch.verified_in(copy.path()), whole);
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 1, "what was left over is removed");
    fs::remove_file(fetch.part()).unwrap();
    assert_eq!(fetch.verified(), whole);
    assert_eq!(fetch.files(), ["film.mp4".to_owned()].into());
}

#[test]
fn a_resumed_fetch_goes_on_and_is_resumed_again() {
    let fetch = Fetch::new(Content::new(3_000_000, HashFunction::Sha256, 1024, 5));
    let order = shuffled(fetch.content.geometry.chunk_count(), 6);
    let mut before = RangeSet::new();
    for part in order.chunks(700) {
        let (mut store, mut leecher) = match fetch.open().unwrap() {
            Opened::Resume { store, tree, stored, open_groups } => {
                let read = |offset, len| store.read(offset, len).unwrap();
                let leecher = Leecher::resume(tree, &stored, &open_groups, read);
                (store, leecher)
            }
            Opened::Fresh { store } => (store, Leecher::new(&fetch.content)),
            Opened::AlreadyComplete { .. } => panic!("not yet"),
        };
        assert_eq!(leecher.stored, before);
        fetch.store(&mut store, &mut leecher, part.iter().copied());
        before = leecher.stored;
    }
    assert_eq!(before, fetch.content.geometry.all().into());
}

#[test]
fn a_damaged_sidecar_never_yields_a_wrong_byte() {
    let fetch = Fetch::small().killed_after((0..40).chain(50..53).chain([60, 97]));
    let good = fs::read(fetch.sidecar()).unwrap();
    let everything = fetch.verified();
    assert_eq!(everything.count(), 45);
    let mut lost = 0;
    let mut check = |bytes: &[u8]| {
        let copy = fetch.snapshot();
        fs::write(copy.path().join("film.mp4.ppspp"), bytes).unwrap();
        let verified = fetch.verified_in(copy.path());
        assert!(verified.runs().all(|run| everything.covers(run)));
        lost += u64::from(verified != everything);
    };
    for cut in (1..130).step_by(3).chain((130..good.len()).step_by(487)) {
        check(&good[..cut]);
    }
    let written: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    for at in written.into_iter().step_by(17).chain((0..130).step_by(3)) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes);
    }
    check(&noise(good.len(), 7));
    check(vec![0xff; 200_000].as_slice());
    check(vec![0; 200_000].as_slice());
    assert!(lost > 100, "damage that matters was among it: {lost}");
}

#[test]
fn a_lying_sidecar_never_yields_a_wrong_byte() {
    // The header is right, everything else claims the most that it can.
    let fetch = Fetch::small().killed_after(0..40);
    let mut bytes = fs::read(fetch.sidecar()).unwrap();
    let lie = |bytes: &mut Vec<u8>, from: usize, to: usize| {
        bytes[from..to].fill(0xff);
        fs::write(fetch.sidecar(), &bytes).unwrap();
    };
    lie(&mut bytes, 8192, 12_288);
    assert_eq!(fetch.verified(), set(0..32), "all groups stored: of group 2 only the first half is");
    let len = bytes.len();
    lie(&mut bytes, 12_288, len);
    assert_eq!(fetch.verified(), RangeSet::new(), "and no tree to prove any");
}

#[test]
fn a_changed_partial_file_costs_only_what_changed() {
    let fetch = Fetch::small().killed_after(0..98);
    let mut bytes = fs::read(fetch.part()).unwrap();
    bytes[40_000] ^= 1;
    bytes.truncate(90_000);
    fs::write(fetch.part(), &bytes).unwrap();
    assert_eq!(fetch.verified(), set((0..32).chain(48..80)), "groups 2 and 5, and the cut last one");
    assert_eq!(fs::metadata(fetch.part()).unwrap().len(), 100_000, "and it has its length again");
}

#[test]
fn a_torn_slot_falls_back_to_the_one_before() {
    let fetch = Fetch::small();
    let mut store = fetch.fresh();
    let mut leecher = Leecher::new(&fetch.content);
    fetch.store(&mut store, &mut leecher, [0, 1, 2, 16]);
    fetch.store(&mut store, &mut leecher, [3, 17]);
    let layout = layout::Layout::new(HashFunction::Sha256, fetch.content.geometry).unwrap();
    let slot = |sequence| layout.slot_at(sequence) as usize;
    assert!(slot(2) < slot(1));
    drop(store);
    let good = fs::read(fetch.sidecar()).unwrap();
    assert_eq!(fetch.verified(), set([0, 1, 2, 3, 16, 17]));
    let mut torn = good.clone();
    torn[slot(2) + 200] ^= 1;
    fs::write(fetch.sidecar(), &torn).unwrap();
    assert_eq!(fetch.verified(), set([0, 1, 2, 16]));
    torn[slot(1) + 200] ^= 1;
    fs::write(fetch.sidecar(), &torn).unwrap();
    assert_eq!(fetch.verified(), RangeSet::new());
}

#[test]
fn without_a_known_length_the_sidecar_tells_it() {
    let mut fetch = Fetch::small();
    fetch.content.metadata.content_length = None;
    let mut store = fetch.fresh();
    let out_of_range = FileProblem::OutOfRange { offset: 0, len: 1 };
    assert_eq!(
        store.write(0, Bytes::from_static(b"x")).unwrap_err().problem,
        out_of_range,
        "before the length is known"
    );
    assert_eq!(store.finish().unwrap_err().problem, FileProblem::Unfinished);
    let unknown = Geometry::of_chunks(98, ChunkSize::DEFAULT).unwrap();
    store.set_geometry(unknown).unwrap();
    assert_eq!(store.write(0, Bytes::from_static(b"x")).unwrap_err().problem, out_of_range);
    let mut leecher = Leecher::new(&fetch.content);
    leecher.receive(&fetch.content, ChunkIndex::new(0));
    store.checkpoint(leecher.checkpoint()).unwrap();
    store.set_geometry(fetch.content.geometry).unwrap();
    fetch.store(&mut store, &mut leecher, 1..20);
    store.write(0, Bytes::copy_from_slice(&fetch.content.data[..1024])).unwrap();
    drop(store);
    let Opened::Resume { tree, .. } = fetch.open().unwrap() else { panic!() };
    assert_eq!(tree.geometry(), Some(fetch.content.geometry));
    assert_eq!(fetch.verified(), set(0..20), "pages that came before the length are there too");
}

#[test]
fn another_length_starts_afresh() {
    let mut fetch = Fetch::small();
    fetch.content.metadata.content_length = None;
    let mut store = fetch.fresh();
    store.set_geometry(Geometry::new(5000, ChunkSize::DEFAULT).unwrap()).unwrap();
    store.write(0, Bytes::from_static(&[1; 5000])).unwrap();
    store.set_geometry(fetch.content.geometry).unwrap();
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..33);
    drop(store);
    assert_eq!(fetch.verified(), set(0..33));
}
