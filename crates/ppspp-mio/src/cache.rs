//! Trees of shared files, kept so that a file is hashed once.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use ppspp_core::chunk::{Geometry, GroupIndex};
use ppspp_core::integrity::{GroupNodes, Hash, HashFunction, Tree, TreeParams};

use crate::file::{DiskFile, FileAction, FileError, FileProblem, Stamp, Storage, open_regular};
use crate::hashing::{HashError, hash_stamped};
use crate::tree_file::{PEAKS_LEN, TreePlace};

/// Bytes all entries may take together; beyond, those used longest ago go. Enough for the trees of 64 GiB of content.
const MAX_CACHE_BYTES: u64 = 256 << 20;

/// Groups compared with the file when an entry is used: catches a file whose time of modification was set back.
const SPOT_CHECKS: u64 = 16;

const MAGIC: [u8; 8] = *b"ppspptc\n";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 128;
/// What comes before: the magic, the version and code of the function, the chunk size, length and time of modification.
const ROOT_AT: usize = 8 + 4 + 4 + 8 + 8 + 16;
const PLACE: TreePlace = TreePlace { peaks_at: HEADER_LEN as u64, pages_at: HEADER_LEN as u64 + PEAKS_LEN };
const ENTRY_EXTENSION: &str = "tree";

/// A directory of hash trees, one file for each shared file and set of parameters (ruling R23).
///
/// An entry counts only if the file's length and time of modification are what they were, if its nodes hash up to its
/// root, and if a few groups of the file match it. Beyond that the endpoint verifies every group before it sends it for the first time,
/// so that a wrong entry can never make a peer receive wrong bytes. Several processes may use one directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeCache {
    dir: PathBuf,
}

/// Where a tree came from.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CacheOutcome {
    /// From the cache; the file was not hashed.
    Loaded,
    /// The file was hashed and its tree saved.
    Saved,
    /// The file was hashed; its tree could not be saved, which costs only time at the next start.
    NotSaved(FileError),
    /// The file was hashed; there is no cache.
    NoCache,
}

/// The tree of the file at `path`: from `cache` if it is there and valid, else by hashing the file.
///
/// `progress` and `cancel` are those of [`hash_file`](crate::hashing::hash_file), and not used for a tree that is in
/// the cache.
///
/// # Errors
/// As `hash_file`. A cache that cannot be read or written is never an error.
pub fn hash_or_load(
    path: &Path,
    params: TreeParams,
    cache: Option<&TreeCache>,
    progress: &dyn Fn(u64, u64),
    cancel: &AtomicBool,
) -> Result<(Tree, CacheOutcome), HashError> {
    let Some(cache) = cache else {
        return hash_stamped(path, params, progress, cancel).map(|(tree, _)| (tree, CacheOutcome::NoCache));
    };
    let (file, stamp) = open_regular(path)?;
    if let Some(tree) = cache.load(path, params, &DiskFile::new(file), &stamp) {
        return Ok((tree, CacheOutcome::Loaded));
    }
    let (tree, stamp) = hash_stamped(path, params, progress, cancel)?;
    let outcome = match cache.save(path, &tree, &stamp) {
        Ok(()) => CacheOutcome::Saved,
        Err(error) => {
            tracing::warn!(%error, "the hash tree is not cached, so the file will be hashed again at the next start");
            CacheOutcome::NotSaved(error)
        }
    };
    Ok((tree, outcome))
}

impl TreeCache {
    /// A cache in `dir`, which is made when the first tree is saved.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The cache in the user's own directory: `ppspp` in `$XDG_CACHE_HOME` or `~/.cache`, on macOS in
    /// `~/Library/Caches`, on Windows in `%LOCALAPPDATA%`. `None` if the environment names none of these.
    pub fn of_user() -> Option<Self> {
        user_cache_dir(|name| env::var_os(name)).map(|dir| Self::new(dir.join("ppspp")))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn entry(&self, path: &Path, params: TreeParams) -> PathBuf {
        // The same file under two names is hashed twice at worst.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut key = path.as_os_str().as_encoded_bytes().to_vec();
        key.push(params.function.code());
        key.extend_from_slice(&params.chunk_size.bytes().to_be_bytes());
        self.dir.join(HashFunction::Sha256.leaf(&key).to_string()).with_extension(ENTRY_EXTENSION)
    }

    fn load(&self, path: &Path, params: TreeParams, content: &dyn Storage, stamp: &Stamp) -> Option<Tree> {
        let geometry = Geometry::new(stamp.len, params.chunk_size).ok()?;
        let entry = self.entry(path, params);
        let handle = File::options().read(true).open(&entry).ok()?;
        let file = DiskFile::new(handle);
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0).ok()?;
        let root = header.get(ROOT_AT..ROOT_AT + params.function.len()).and_then(Hash::from_slice)?;
        if header != encode_header(params, stamp, &root) {
            return None;
        }
        let tree = PLACE.read(&file, params, root, geometry)?;
        if !tree.is_complete() || !spot_check(&tree, &geometry, content) {
            tracing::debug!(entry = %entry.display(), "a cached hash tree is damaged or of other content");
            return None;
        }
        // Marks it as used, for `prune`; a cache that only others may write needs none.
        let _ = File::options().append(true).open(&entry).and_then(|file| file.set_modified(SystemTime::now()));
        Some(tree)
    }

    fn save(&self, path: &Path, tree: &Tree, stamp: &Stamp) -> Result<(), FileError> {
        fs::create_dir_all(&self.dir).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => FileError::new(FileAction::Create, &self.dir, FileProblem::NotDirectory),
            _ => FileError::io(FileAction::Create, &self.dir)(error),
        })?;
        let entry = self.entry(path, tree.params());
        // Written aside and renamed, so that no process reads half an entry.
        let aside = entry.with_extension(format!("{}.tmp", std::process::id()));
        let written = File::create(&aside)
            .and_then(|file| write_entry(&DiskFile::new(file), tree, stamp))
            .map_err(FileError::io(FileAction::Write, &aside));
        let renamed =
            written.and_then(|()| fs::rename(&aside, &entry).map_err(FileError::io(FileAction::Rename, &entry)));
        if renamed.is_err() {
            // It may not even exist.
            let _ = fs::remove_file(&aside);
        }
        renamed?;
        self.prune(&entry, MAX_CACHE_BYTES);
        Ok(())
    }

    /// Removes the entries used longest ago until the rest fits `max_bytes`; never `newest`.
    fn prune(&self, newest: &Path, max_bytes: u64) {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let path = entry.path();
                let ours = path.extension().is_some_and(|extension| extension == ENTRY_EXTENSION || extension == "tmp");
                let metadata = entry.metadata().ok().filter(|metadata| ours && metadata.is_file())?;
                Some((metadata.modified().ok()?, metadata.len(), path))
            })
            .collect();
        let mut total: u64 = entries.iter().map(|(_, len, _)| *len).sum();
        entries.sort_unstable();
        for (_, len, path) in entries {
            if total <= max_bytes {
                break;
            }
            if path != newest && fs::remove_file(&path).is_ok() {
                total -= len;
            }
        }
    }
}

/// Numbers are big-endian, as on the wire; the root lies at [`ROOT_AT`], the rest is zero.
fn encode_header(params: TreeParams, stamp: &Stamp, root: &Hash) -> [u8; HEADER_LEN] {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&u32::from(params.function.code()).to_be_bytes());
    header.extend_from_slice(&u64::from(params.chunk_size.bytes()).to_be_bytes());
    header.extend_from_slice(&stamp.len.to_be_bytes());
    header.extend_from_slice(&stamp.modified.to_be_bytes());
    header.extend_from_slice(root.as_slice());
    let mut block = [0; HEADER_LEN];
    for (to, from) in block.iter_mut().zip(header) {
        *to = from;
    }
    block
}

fn write_entry(file: &dyn Storage, tree: &Tree, stamp: &Stamp) -> io::Result<()> {
    let (params, Some(geometry)) = (tree.params(), tree.geometry()) else { return Ok(()) };
    file.write_all_at(&encode_header(params, stamp, tree.root()), 0)?;
    PLACE.write_peaks(file, tree.peaks())?;
    for number in 0..Tree::page_count(&geometry) {
        if let Some(page) = tree.page_bytes(number) {
            PLACE.write_page(file, params.function, &geometry, number, &page)?;
        }
    }
    Ok(())
}

/// Whether a few groups, the first and the last among them, are what the tree says.
fn spot_check(tree: &Tree, geometry: &Geometry, content: &dyn Storage) -> bool {
    let last = geometry.group_count() - 1;
    let steps = SPOT_CHECKS - 1;
    (0..=steps).all(|step| {
        let group = u128::from(last) * u128::from(step) / u128::from(steps);
        group_matches(tree, geometry, content, GroupIndex::new(group as u64))
    })
}

fn group_matches(tree: &Tree, geometry: &Geometry, content: &dyn Storage, group: GroupIndex) -> bool {
    let bytes = geometry.byte_range(geometry.group_chunks(group));
    let mut data = vec![0; (bytes.end - bytes.start) as usize];
    if content.read_exact_at(&mut data, bytes.start).is_err() {
        return false;
    }
    let Some(nodes) = GroupNodes::from_data(tree.params().function, geometry, group, &data) else { return false };
    nodes.tops().all(|(bin, hash)| hash.is_some() && tree.node(bin) == hash)
}

/// The directory for caches that the environment names.
fn user_cache_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let dir = |name: &str| variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    if cfg!(windows) {
        return dir("LOCALAPPDATA");
    }
    if cfg!(target_os = "macos") {
        return dir("HOME").map(|home| home.join("Library").join("Caches"));
    }
    // The XDG base directory specification has relative paths ignored.
    dir("XDG_CACHE_HOME").or_else(|| dir("HOME").map(|home| home.join(".cache")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ppspp_core::chunk::ChunkSize;

    use super::*;
    use crate::testing::noise;

    static GO: AtomicBool = AtomicBool::new(false);

    struct Fixture {
        dir: tempfile::TempDir,
        cache: TreeCache,
    }

    impl Fixture {
        fn new(len: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("file"), noise(len, 1)).unwrap();
            let cache = TreeCache::new(dir.path().join("new").join("cache"));
            Self { dir, cache }
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("file")
        }

        fn tree(&self, params: TreeParams) -> (Tree, CacheOutcome) {
            hash_or_load(&self.file(), params, Some(&self.cache), &|_, _| {}, &GO).unwrap()
        }

        fn outcome(&self) -> CacheOutcome {
            self.tree(TreeParams::default()).1
        }

        fn entries(&self) -> Vec<PathBuf> {
            let mut entries: Vec<_> =
                fs::read_dir(self.cache.dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            entries
        }

        /// Changes the file's bytes but not its time of modification.
        fn overwrite(&self, data: &[u8]) {
            let modified = fs::metadata(self.file()).unwrap().modified().unwrap();
            fs::write(self.file(), data).unwrap();
            File::options().append(true).open(self.file()).unwrap().set_modified(modified).unwrap();
        }
    }

    #[test]
    fn the_second_start_does_not_hash() {
        for (len, function, chunk_size) in [
            (1, HashFunction::Sha256, 1024),
            (5000, HashFunction::Sha1, 512),
            (20 << 20, HashFunction::Sha256, 1024),
            ((9 << 20) + 3, HashFunction::Sha512, 61_440),
        ] {
            let fixture = Fixture::new(len);
            let params = TreeParams { function, chunk_size: ChunkSize::new(chunk_size).unwrap() };
            let (first, outcome) = fixture.tree(params);
            assert_eq!(outcome, CacheOutcome::Saved);
            let (second, outcome) = fixture.tree(params);
            assert_eq!(outcome, CacheOutcome::Loaded);
            assert_eq!(first.root(), second.root());
            assert_eq!(first.peaks(), second.peaks());
            for page in 0..Tree::page_count(&first.geometry().unwrap()) {
                assert_eq!(first.page_bytes(page), second.page_bytes(page));
            }
        }
    }

    #[test]
    fn without_a_cache_every_start_hashes() {
        let fixture = Fixture::new(1000);
        let hash = || hash_or_load(&fixture.file(), TreeParams::default(), None, &|_, _| {}, &GO).unwrap().1;
        assert_eq!((hash(), hash()), (CacheOutcome::NoCache, CacheOutcome::NoCache));
    }

    #[test]
    fn other_parameters_are_other_entries() {
        let fixture = Fixture::new(100_000);
        let sha1 = TreeParams { function: HashFunction::Sha1, ..TreeParams::default() };
        let large = TreeParams { chunk_size: ChunkSize::new(8192).unwrap(), ..TreeParams::default() };
        for params in [TreeParams::default(), sha1, large] {
            assert_eq!(fixture.tree(params).1, CacheOutcome::Saved);
        }
        for params in [TreeParams::default(), sha1, large] {
            let (tree, outcome) = fixture.tree(params);
            assert_eq!((tree.params(), outcome), (params, CacheOutcome::Loaded));
        }
        assert_eq!(fixture.entries().len(), 3, "and no file is left over");
    }

    #[test]
    fn a_changed_file_is_hashed_again() {
        let fixture = Fixture::new(100_000);
        let (old, _) = fixture.tree(TreeParams::default());
        fixture.overwrite(&noise(100_001, 1));
        let (new, outcome) = fixture.tree(TreeParams::default());
        assert_eq!(outcome, CacheOutcome::Saved, "length");
        assert_ne!(old.root(), new.root());

        let earlier = SystemTime::now() - Duration::from_secs(3600);
        File::options().append(true).open(fixture.file()).unwrap().set_modified(earlier).unwrap();
        assert_eq!(fixture.outcome(), CacheOutcome::Saved, "time of modification");
        assert_eq!(fixture.outcome(), CacheOutcome::Loaded);

        fixture.overwrite(&noise(100_001, 2));
        assert_eq!(fixture.outcome(), CacheOutcome::Saved, "bytes");
        assert_eq!(fixture.outcome(), CacheOutcome::Loaded);
        assert_eq!(fixture.entries().len(), 1);
    }

    #[test]
    fn a_damaged_entry_is_never_believed() {
        let fixture = Fixture::new(9 << 20);
        let (tree, _) = fixture.tree(TreeParams::default());
        let entry = fixture.entries().pop().unwrap();
        let good = fs::read(&entry).unwrap();
        let page = crate::tree_file::page_len(HashFunction::Sha256) as usize;
        assert_eq!(good.len(), HEADER_LEN + PEAKS_LEN as usize + 3 * page, "two pages of spans and one above");
        let cuts = [0, 1, HEADER_LEN, HEADER_LEN + 70, good.len() - page, good.len() - 1];
        let flips =
            [0, 9, 15, 20, 31, 40, ROOT_AT, HEADER_LEN, HEADER_LEN + PEAKS_LEN as usize + 40, good.len() - page];
        let damaged = cuts.into_iter().map(|cut| good[..cut].to_vec()).chain(flips.into_iter().map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        }));
        for bytes in damaged {
            let changed = bytes != good;
            fs::write(&entry, bytes).unwrap();
            let (again, outcome) = fixture.tree(TreeParams::default());
            assert_eq!(again.root(), tree.root());
            assert_eq!(outcome, CacheOutcome::Saved, "{changed}");
            assert_eq!(fs::read(&entry).unwrap(), good, "repaired");
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_only_reported() {
        let fixture = Fixture::new(1000);
        let cache = TreeCache::new(fixture.file().join("below a file"));
        let (_, outcome) = hash_or_load(&fixture.file(), TreeParams::default(), Some(&cache), &|_, _| {}, &GO).unwrap();
        let CacheOutcome::NotSaved(error) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.path, cache.dir());
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let fixture = Fixture::new(1000);
        fixture.outcome();
        let used = fixture.entries().pop().unwrap();
        for (name, age) in [("a.tree", 50), ("b.tree", 90), ("c.123.tmp", 70), ("other", 100)] {
            let path = fixture.cache.dir().join(name);
            let file = File::create(path).unwrap();
            file.set_len(1000).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        let left = |max| {
            fixture.cache.prune(&used, max);
            fixture.entries().iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let own = used.file_name().unwrap().to_owned();
        let size = fs::metadata(&used).unwrap().len();
        let mut expected = vec![own.clone(), "a.tree".into(), "b.tree".into(), "c.123.tmp".into(), "other".into()];
        expected.sort();
        assert_eq!(left(size + 3000), expected);
        expected.retain(|name| name != "b.tree");
        assert_eq!(left(size + 2999), expected);
        expected.retain(|name| *name == own || name == "other");
        assert_eq!(left(0), expected, "what is just used stays, what is not ours too");
    }

    #[test]
    fn finds_the_users_directory() {
        let of = |variables: &[(&str, &str)]| {
            user_cache_dir(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[]), None);
        if cfg!(all(unix, not(target_os = "macos"))) {
            assert_eq!(of(&[("HOME", "/home/u")]), Some("/home/u/.cache".into()));
            assert_eq!(of(&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "/var/c")]), Some("/var/c".into()));
            assert_eq!(of(&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "relative")]), Some("/home/u/.cache".into()));
            assert_eq!(of(&[("HOME", "")]), None);
        }
    }
}
