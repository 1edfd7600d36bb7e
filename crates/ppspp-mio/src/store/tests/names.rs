//! Names that are taken, and files of others.

use super::*;

#[test]
fn r23_a_second_fetch_into_the_same_file_is_refused() {
    let fetch = Fetch::small();
    let store = fetch.fresh();
    assert_eq!(fetch.problem(), FileProblem::InUse);
    let forced = FileStore::open(&fetch.output(), &fetch.content.metadata, true);
    assert_eq!(problem(forced), FileProblem::InUse, "force does not break locks");
    drop(store);
    assert!(fetch.files().is_empty(), "nothing was fetched");
    let mut store = fetch.fresh();
    store.write(0, Bytes::from_static(&[0; 10])).unwrap();
    drop(store);
    assert_eq!(fetch.files().len(), 2, "something was");
    drop(fetch.fresh());
}

#[test]
fn r23_of_many_that_come_at_once_one_gets_the_file() {
    let fetch = Fetch::small();
    let (alive, opened) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    match fetch.open() {
                        Ok(Opened::Fresh { store }) => {
                            assert_eq!(alive.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                            opened.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            alive.fetch_sub(1, Ordering::SeqCst);
                            drop(store);
                        }
                        other => assert_eq!(problem(other), FileProblem::InUse),
                    }
                }
            });
        }
    });
    assert!(opened.into_inner() > 0);
    assert!(fetch.files().is_empty());
}

#[test]
fn an_existing_file_is_never_replaced_without_force() {
    let fetch = Fetch::small();
    for other in [noise(100_000, 99), noise(50, 99), Vec::new()] {
        fs::write(fetch.output(), &other).unwrap();
        assert_eq!(fetch.problem(), FileProblem::Exists);
        assert_eq!(fs::read(fetch.output()).unwrap(), other);
        assert_eq!(fetch.files().len(), 1);
    }
    let other = noise(100_000, 99);
    fs::write(fetch.output(), &other).unwrap();
    let mut store = fresh(FileStore::open(&fetch.output(), &fetch.content.metadata, true));
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
    assert_eq!(fs::read(fetch.output()).unwrap(), other, "not before the fetch is complete");
    store.finish().unwrap();
    assert_eq!(fs::read(fetch.output()).unwrap(), fetch.content.data);
    assert_eq!(fetch.files().len(), 1);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let fetch = Fetch::small();
    let mut store = fetch.fresh();
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
    fs::write(fetch.output(), "precious").unwrap();
    let error = store.finish().unwrap_err();
    assert_eq!(error.problem, FileProblem::Exists);
    assert_eq!(error.path, fetch.output());
    assert_eq!(fs::read(fetch.output()).unwrap(), b"precious");
    fs::remove_file(fetch.output()).unwrap();
    store.finish().unwrap();
    assert_eq!(fs::read(fetch.output()).unwrap(), fetch.content.data);
}

#[test]
fn r23_a_complete_file_is_verified_and_enough() {
    let mut fetch = Fetch::small();
    fs::write(fetch.output(), &fetch.content.data).unwrap();
    for length in [Some(100_000), None] {
        fetch.content.metadata.content_length = length;
        let Opened::AlreadyComplete { path, tree } = fetch.open().unwrap() else { panic!() };
        assert_eq!(path, fetch.output());
        assert_eq!(tree.root(), fetch.content.tree.root());
    }
    let cancelled = AtomicBool::new(true);
    let opened = FileStore::open_watched(&fetch.output(), &fetch.content.metadata, false, &|_, _| {}, &cancelled);
    assert_eq!(opened.unwrap_err(), StoreOpenError::Hash(HashError::Cancelled));
}

#[test]
fn beside_a_complete_file_only_our_leftovers_go() {
    let fetch = Fetch::small().killed_after(0..50);
    fs::write(fetch.output(), &fetch.content.data).unwrap();
    let lock = File::open(fetch.sidecar()).unwrap();
    lock.try_lock().unwrap();
    assert!(matches!(fetch.open(), Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(fetch.files().len(), 3, "somebody uses them");
    drop(lock);
    assert!(matches!(fetch.open(), Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(fetch.files().len(), 1);

    let other = Fetch::new(Content::new(100_000, HashFunction::Sha256, 1024, 9)).killed_after(0..50);
    fs::write(other.output(), &fetch.content.data).unwrap();
    let opened = FileStore::open(&other.output(), &fetch.content.metadata, true);
    assert!(matches!(opened, Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(other.files().len(), 3, "another download's");
    fs::write(other.sidecar(), "").unwrap();
    let opened = FileStore::open(&other.output(), &fetch.content.metadata, false);
    assert!(matches!(opened, Ok(Opened::AlreadyComplete { .. })));
    assert_eq!(other.files().len(), 3, "nobody's");
}

#[test]
fn r1_two_hashes_are_not_taken_for_the_content_above_them() {
    let content = Content::new(2048, HashFunction::Sha256, 1024, 8);
    let leaves: Vec<u8> =
        content.data.chunks(1024).flat_map(|chunk| HashFunction::Sha256.leaf(chunk).as_slice().to_vec()).collect();
    assert_eq!(HashFunction::Sha256.leaf(&leaves).as_slice(), content.metadata.root.as_slice());
    let mut fetch = Fetch::new(content);
    fetch.content.metadata.content_length = None;
    fs::write(fetch.output(), &leaves).unwrap();
    assert_eq!(fetch.problem(), FileProblem::Exists);
}

#[test]
fn another_download_is_not_discarded_without_force() {
    let fetch = Fetch::small().killed_after(0..50);
    let held = set(0..50);
    let other = Content::new(100_000, HashFunction::Sha256, 1024, 9).metadata;
    let longer = Metadata { content_length: Some(100_001), ..fetch.content.metadata.clone() };
    let chunked = Metadata { chunk_size: ChunkSize::new(2048).unwrap(), ..fetch.content.metadata.clone() };
    let sha1 = Content::new(10, HashFunction::Sha1, 1024, 9).metadata;
    let unlike = ", with another length, chunk size or hash function";
    for (metadata, how) in [(other.clone(), ""), (longer, unlike), (chunked, unlike), (sha1, "")] {
        let refused = problem(FileStore::open(&fetch.output(), &metadata, false));
        assert_eq!(refused, FileProblem::OtherSwarm(fetch.content.metadata.root.to_string() + how));
    }
    assert_eq!(fetch.verified(), held);
    drop(fresh(FileStore::open(&fetch.output(), &other, true)));
    assert!(fetch.files().is_empty());
}

#[test]
fn files_of_others_are_left_alone() {
    let fetch = Fetch::small();
    fs::write(fetch.part(), "a browser's download").unwrap();
    assert_eq!(fetch.problem(), FileProblem::NotOurs);
    assert_eq!(fs::read(fetch.part()).unwrap(), b"a browser's download");
    assert_eq!(fetch.files().len(), 1);
    fs::write(fetch.sidecar(), "").unwrap();
    assert_eq!(fetch.problem(), FileProblem::NotOurs, "an empty sidecar proves nothing");
    assert_eq!(fs::read(fetch.part()).unwrap(), b"a browser's download");
    fs::rename(fetch.part(), fetch.sidecar()).unwrap();
    assert_eq!(fetch.problem(), FileProblem::NotOurs);
    assert_eq!(fs::read(fetch.sidecar()).unwrap(), b"a browser's download");
    assert_eq!(fetch.files().len(), 1);
    drop(fresh(FileStore::open(&fetch.output(), &fetch.content.metadata, true)));
    assert!(fetch.files().is_empty());
}

#[test]
fn says_that_it_starts_afresh() {
    let fetch = Fetch::small().killed_after(0..50);
    fs::write(fetch.sidecar(), "beyond recognition").unwrap();
    let store = fetch.fresh();
    assert_eq!(store.warning(), Some(&StoreWarning::DamagedSidecar(fetch.sidecar())));
    assert_eq!(fs::metadata(store.partial()).unwrap().len(), 100_000);
    assert!(fs::read(store.partial()).unwrap().iter().all(|byte| *byte == 0));
    drop(store);
    let fetch = fetch.killed_after(0..50);
    fs::remove_file(fetch.part()).unwrap();
    assert_eq!(fetch.fresh().warning(), Some(&StoreWarning::MissingPart(fetch.part())));
}

#[test]
fn a_newer_format_is_not_touched() {
    let fetch = Fetch::small().killed_after(0..50);
    let mut bytes = fs::read(fetch.sidecar()).unwrap();
    bytes[11] = 2;
    let check = HashFunction::Sha256.leaf(&bytes[..96]);
    bytes[96..128].copy_from_slice(check.as_slice());
    fs::write(fetch.sidecar(), &bytes).unwrap();
    assert_eq!(fetch.problem(), FileProblem::OtherVersion(2));
    assert_eq!(fs::read(fetch.sidecar()).unwrap(), bytes);
}

#[test]
fn an_output_that_cannot_be_used_says_why() {
    let fetch = Fetch::small();
    let metadata = &fetch.content.metadata;
    let open = |path: &Path| problem(FileStore::open(path, metadata, false));
    let dir = fetch.dir.path();
    assert_eq!(open(dir), FileProblem::IsDirectory);
    assert_eq!(open(&dir.join("none").join("film")), FileProblem::MissingDirectory);
    assert_eq!(open(&dir.join("name/")), FileProblem::NoName);
    assert_eq!(open(&dir.join("sub").join("..")), FileProblem::NoName);
    assert_eq!(open(Path::new("")), FileProblem::NoName);
    fs::write(dir.join("plain"), "").unwrap();
    assert_eq!(open(&dir.join("plain").join("film")), FileProblem::MissingDirectory);
    fs::create_dir(fetch.part()).unwrap();
    assert_eq!(fetch.problem(), FileProblem::IsDirectory);
    #[cfg(unix)]
    {
        assert_eq!(open(&dir.join("n".repeat(300))), FileProblem::BadName);
        assert_eq!(open(Path::new("/dev/null")), FileProblem::NotRegular);
        std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
        assert_eq!(open(&dir.join("link")), FileProblem::Exists);
        std::os::unix::fs::symlink(dir.join("plain"), dir.join("other.part")).unwrap();
        assert_eq!(open(&dir.join("other")), FileProblem::NotRegular);
    }
}

#[test]
fn a_content_larger_than_any_file_is_refused() {
    let fetch = Fetch::small();
    for length in [i64::MAX as u64, 1 << 62] {
        let metadata = Metadata { content_length: Some(length), ..fetch.content.metadata.clone() };
        let refused = problem(FileStore::open(&fetch.output(), &metadata, false));
        assert!(matches!(refused, FileProblem::TooLarge | FileProblem::Full), "{refused:?}");
        assert!(fetch.files().is_empty());
    }
    let metadata = Metadata { content_length: Some(0), ..fetch.content.metadata.clone() };
    let opened = FileStore::open(&fetch.output(), &metadata, false);
    assert_eq!(opened.unwrap_err(), StoreOpenError::Geometry(GeometryError::Empty));
}

/// A copy that another process finished meanwhile is as good as this one.
#[test]
fn a_copy_that_appears_meanwhile_is_taken() {
    let fetch = Fetch::small();
    let mut store = fetch.fresh();
    fetch.store(&mut store, &mut Leecher::new(&fetch.content), 0..98);
    fs::write(fetch.output(), &fetch.content.data).unwrap();
    assert_eq!(store.finish().unwrap(), fetch.output());
    assert_eq!(fetch.files(), ["film.mp4".to_owned()].into());
}

/// A process may be killed after it gave the finished file its name and before it took the other away: whatever is
/// fetched next, the finished file stays as it is.
#[test]
#[cfg(unix)]
fn a_finished_file_is_not_written_to_by_its_other_name() {
    let other = Fetch::new(Content::new(200_000, HashFunction::Sha256, 1024, 9));
    for moved in [false, true] {
        let fetch = Fetch::small().killed_after(0..98);
        fs::hard_link(fetch.part(), fetch.output()).unwrap();
        let finished = if moved { fetch.dir.path().join("kept") } else { fetch.output() };
        if moved {
            fs::rename(fetch.output(), &finished).unwrap();
            let store = fetch.fresh();
            assert_eq!(store.warning(), Some(&StoreWarning::SharedPart(fetch.part())));
            drop(store);
            fs::hard_link(&finished, fetch.part()).unwrap();
            fs::write(fetch.sidecar(), "").unwrap();
        }
        let mut store = fresh(FileStore::open(&fetch.output(), &other.content.metadata, true));
        other.store(&mut store, &mut Leecher::new(&other.content), 0..100);
        drop(store);
        assert_eq!(fs::read(&finished).unwrap(), fetch.content.data);
    }
}
