//! Hashing a file into its tree, with all cores and little memory.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use ppspp_core::chunk::{Geometry, GeometryError};
use ppspp_core::integrity::{BuildSpan, Incomplete, SpanError, SpanHasher, SpanNodes, Tree, TreeBuilder, TreeParams};
use thiserror::Error;

use crate::file::{DiskFile, FileAction, FileError, FileProblem, Stamp, Storage, open_regular};

/// Bytes that a thread reads at a time, rounded down to whole groups: enough to make the system call cheap, little
/// enough to stay in a core's cache until it is hashed.
const READ_BYTES: usize = 256 * 1024;

/// Spans hashed and not yet added to the tree, for each thread: at most 32 KiB each.
const SPANS_AHEAD: usize = 2;

/// A file that could not be hashed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum HashError {
    /// The file cannot be read, or changed meanwhile.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be cut into chunks.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The caller asked to stop.
    #[error("hashing was interrupted; start again")]
    Cancelled,
    /// The tree builder refused a piece: a bug.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// The tree builder lacks a piece: a bug.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
}

/// The complete tree of the file at `path` (RFC 7574 §5.1).
///
/// Uses every core and 256 KiB of buffer for each, whatever the file's length; the tree takes two hashes for each
/// 16 KiB. `progress` is called in the calling thread with the bytes hashed and the file's length. Once `cancel` is
/// true the threads stop within one read.
///
/// # Errors
/// [`HashError`] if the file is missing, unreadable, empty or no regular file, or if its length, time of modification
/// or identity changed before the end.
pub fn hash_file(
    path: &Path,
    params: TreeParams,
    progress: &dyn Fn(u64, u64),
    cancel: &AtomicBool,
) -> Result<Tree, HashError> {
    hash_stamped(path, params, progress, cancel).map(|(tree, _)| tree)
}

/// [`hash_file`] that also tells the state of the file the tree is of.
pub(crate) fn hash_stamped(
    path: &Path,
    params: TreeParams,
    progress: &dyn Fn(u64, u64),
    cancel: &AtomicBool,
) -> Result<(Tree, Stamp), HashError> {
    let (file, stamp) = open_regular(path)?;
    if stamp.len == 0 {
        return Err(FileError::new(FileAction::Read, path, FileProblem::Empty).into());
    }
    let file = DiskFile::new(file);
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let tree = hash_storage(&file, path, params, stamp.len, cores, progress, cancel)?;
    let now = std::fs::metadata(path).map_err(FileError::io(FileAction::Read, path))?;
    if Stamp::from(&now) != stamp {
        return Err(FileError::new(FileAction::Read, path, FileProblem::Changed).into());
    }
    Ok((tree, stamp))
}

fn hash_storage(
    file: &dyn Storage,
    path: &Path,
    params: TreeParams,
    len: u64,
    threads: usize,
    progress: &dyn Fn(u64, u64),
    cancel: &AtomicBool,
) -> Result<Tree, HashError> {
    let geometry = Geometry::new(len, params.chunk_size)?;
    let mut builder = TreeBuilder::new(params, geometry);
    let threads = threads.clamp(1, usize::try_from(builder.span_count()).unwrap_or(usize::MAX));
    let job = Job {
        file,
        path,
        params,
        geometry,
        spans: Mutex::new(Box::new(builder.spans())),
        failed: AtomicBool::new(false),
        cancel,
    };
    let mut done = 0;
    let mut add = |builder: &mut TreeBuilder, bytes: u64, nodes: SpanNodes| -> Result<(), HashError> {
        builder.add(nodes)?;
        done += bytes;
        progress(done, len);
        Ok(())
    };
    thread::scope(|scope| {
        let (sender, results) = sync_channel(threads * SPANS_AHEAD);
        let mut started = 0;
        // A single span is not worth a thread.
        for _ in 0..if threads > 1 { threads } else { 0 } {
            let (job, sender) = (&job, sender.clone());
            let worker = move || job.run(|result| sender.send(result).is_ok());
            started +=
                usize::from(thread::Builder::new().name("ppspp-hash".into()).spawn_scoped(scope, worker).is_ok());
        }
        drop(sender);
        if started > 0 {
            return collect(&job, &results, |bytes, nodes| add(&mut builder, bytes, nodes));
        }
        let mut outcome = Ok(());
        job.run(|result| {
            outcome = result.and_then(|(bytes, nodes)| add(&mut builder, bytes, nodes));
            outcome.is_ok()
        });
        outcome
    })?;
    Ok(builder.finish()?)
}

/// Takes in what the threads hash; after an error, lets them end.
fn collect(
    job: &Job<'_>,
    results: &Receiver<Result<(u64, SpanNodes), HashError>>,
    mut add: impl FnMut(u64, SpanNodes) -> Result<(), HashError>,
) -> Result<(), HashError> {
    let mut outcome = Ok(());
    for result in results {
        if outcome.is_ok() {
            outcome = result.and_then(|(bytes, nodes)| add(bytes, nodes));
        }
        if outcome.is_err() {
            job.failed.store(true, Ordering::Relaxed);
        }
    }
    outcome
}

/// What the threads that hash one file share.
struct Job<'a> {
    file: &'a dyn Storage,
    path: &'a Path,
    params: TreeParams,
    geometry: Geometry,
    spans: Mutex<Box<dyn Iterator<Item = BuildSpan> + Send>>,
    failed: AtomicBool,
    cancel: &'a AtomicBool,
}

impl Job<'_> {
    /// Hashes spans until there are none left, `give` returns false, or something fails.
    fn run(&self, mut give: impl FnMut(Result<(u64, SpanNodes), HashError>) -> bool) {
        let mut buffer = vec![0; self.buffer_len()];
        while !self.failed.load(Ordering::Relaxed) {
            let next = self.spans.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(span) = next else { break };
            let bytes = span.byte_range();
            let result = self.hash_span(span, &mut buffer).map(|nodes| (bytes.end - bytes.start, nodes));
            if !give(result) {
                break;
            }
        }
    }

    /// As many whole groups as fit [`READ_BYTES`], at least one.
    fn buffer_len(&self) -> usize {
        let group = (self.geometry.chunk_size().bytes() as usize) << self.geometry.group_layer();
        group * (READ_BYTES / group).max(1)
    }

    fn hash_span(&self, span: BuildSpan, buffer: &mut [u8]) -> Result<SpanNodes, HashError> {
        let bytes = span.byte_range();
        let mut hasher = SpanHasher::new(self.params, self.geometry, span);
        let mut at = bytes.start;
        while at < bytes.end {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(HashError::Cancelled);
            }
            let len = usize::try_from(bytes.end - at).unwrap_or(usize::MAX).min(buffer.len());
            let mut rest = buffer.get_mut(..len).unwrap_or_default();
            self.file.read_exact_at(rest, at).map_err(FileError::io(FileAction::Read, self.path))?;
            while !rest.is_empty() {
                let group = hasher.next_bytes();
                let (group, later) = rest.split_at_mut(rest.len().min((group.end - group.start).max(1) as usize));
                hasher.push_group(group)?;
                rest = later;
            }
            at += len as u64;
        }
        Ok(hasher.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use ppspp_core::chunk::ChunkSize;
    use ppspp_core::integrity::HashFunction;

    use super::*;
    use crate::testing::{Content, Memory, noise};

    static GO: AtomicBool = AtomicBool::new(false);

    fn params(function: HashFunction, chunk_size: u32) -> TreeParams {
        TreeParams { function, chunk_size: ChunkSize::new(chunk_size).unwrap() }
    }

    fn same(a: &Tree, b: &Tree) {
        assert_eq!(a.root(), b.root());
        assert_eq!(a.geometry(), b.geometry());
        assert_eq!(a.peaks(), b.peaks());
        assert!(a.is_complete() && b.is_complete());
        let geometry = a.geometry().unwrap();
        for page in 0..Tree::page_count(&geometry) {
            assert_eq!(a.page_bytes(page), b.page_bytes(page));
        }
    }

    #[test]
    fn any_number_of_threads_builds_the_same_tree() {
        for (len, function, chunk_size) in [
            (1, HashFunction::Sha256, 1024),
            (1025, HashFunction::Sha1, 1024),
            (5 << 20, HashFunction::Sha256, 1024),
            ((5 << 20) + 777, HashFunction::Sha512, 512),
            ((4 << 20) + 1, HashFunction::Sha224, 16_384),
            (9 << 20, HashFunction::Sha384, 61_440),
        ] {
            let params = params(function, chunk_size);
            let Content { data, tree: expected, .. } = Content::new(len, function, chunk_size, 1);
            for threads in [1, 2, 7] {
                let calls = RefCell::new(Vec::new());
                let progress = |done, total| calls.borrow_mut().push((done, total));
                let file = Memory::new(data.clone());
                let tree = hash_storage(&file, Path::new("m"), params, len as u64, threads, &progress, &GO).unwrap();
                same(&tree, &expected);
                let calls = calls.into_inner();
                assert!(calls.is_sorted());
                assert_eq!(calls.last(), Some(&(len as u64, len as u64)));
            }
        }
    }

    #[test]
    fn hashes_a_file_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content = Content::new(5_000_000, HashFunction::Sha256, 1024, 2);
        std::fs::write(&path, &content.data).unwrap();
        same(&hash_file(&path, TreeParams::default(), &|_, _| {}, &GO).unwrap(), &content.tree);
    }

    #[test]
    fn notices_a_change_while_hashing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, noise(100_000, 3)).unwrap();
        let changes: [&dyn Fn(); 3] = [
            &|| std::fs::write(&path, noise(100_001, 3)).unwrap(),
            &|| {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            },
            &|| std::fs::remove_file(&path).unwrap(),
        ];
        for (change, problem) in
            changes.into_iter().zip([FileProblem::Changed, FileProblem::Changed, FileProblem::Missing])
        {
            let error = hash_file(&path, TreeParams::default(), &|_, _| change(), &GO).unwrap_err();
            assert_eq!(error, HashError::File(FileError::new(FileAction::Read, &path, problem)));
        }
    }

    #[test]
    fn a_file_cut_short_ends_every_thread() {
        let file = Memory::new(noise(9 << 20, 4));
        for threads in [1, 3] {
            let result =
                hash_storage(&file, Path::new("cut"), TreeParams::default(), 64 << 20, threads, &|_, _| {}, &GO);
            let expected = FileError::new(FileAction::Read, Path::new("cut"), FileProblem::Changed);
            assert_eq!(result.unwrap_err(), HashError::File(expected));
        }
    }

    #[test]
    fn a_failing_disk_is_reported() {
        let file = Memory::new(noise(9 << 20, 5));
        file.fail_reads(io::ErrorKind::PermissionDenied);
        let result = hash_storage(&file, Path::new("bad"), TreeParams::default(), 9 << 20, 2, &|_, _| {}, &GO);
        assert_eq!(
            result.unwrap_err().to_string(),
            FileError::new(FileAction::Read, Path::new("bad"), FileProblem::Denied).to_string()
        );
    }

    #[test]
    fn stops_when_told_to() {
        let file = Memory::new(noise(9 << 20, 6));
        let cancel = AtomicBool::new(false);
        let progress = |_, _| cancel.store(true, Ordering::Relaxed);
        let hash = |threads, progress: &dyn Fn(u64, u64), cancel| {
            hash_storage(&file, Path::new("m"), TreeParams::default(), 9 << 20, threads, progress, cancel)
        };
        assert_eq!(hash(1, &progress, &cancel).unwrap_err(), HashError::Cancelled);
        let at_once = AtomicBool::new(true);
        for threads in [1, 2, 3] {
            assert_eq!(hash(threads, &|_, _| {}, &at_once).unwrap_err(), HashError::Cancelled);
        }
    }

    #[test]
    fn an_empty_file_cannot_be_shared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, "").unwrap();
        let error = hash_file(&path, TreeParams::default(), &|_, _| {}, &GO).unwrap_err();
        assert_eq!(error, HashError::File(FileError::new(FileAction::Read, &path, FileProblem::Empty)));
    }
}
