//! From a file to the tree and the metadata it is shared with.

use std::path::Path;
use std::{env, io};

use anyhow::Context as _;
use ppspp_core::Metadata;
use ppspp_core::chunk::Geometry;
use ppspp_core::integrity::{Tree, TreeParams};
use ppspp_mio::cache::{CacheOutcome, TreeCache, hash_or_load};
use ppspp_mio::file::{FileError, FileProblem};
use ppspp_mio::hashing::HashError;
use ppspp_mio::link::FileName;
use ppspp_mio::source::FileSource;

use crate::args::{CacheArgs, MetadataArgs};
use crate::console::Console;
use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::signals::Interrupt;

/// A file that is ready to be shared.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The complete tree.
    pub(crate) tree: Tree,
    /// The metadata, with the length.
    pub(crate) metadata: Metadata,
    /// Length in bytes.
    pub(crate) length: u64,
    /// The file's own name, as a hint for others.
    pub(crate) name: Option<FileName>,
}

/// The cache that the arguments name; `None` if the environment names no directory for it.
pub(crate) fn cache(args: &CacheArgs) -> Option<TreeCache> {
    args.cache_dir.as_ref().map_or_else(TreeCache::of_user, |dir| Some(TreeCache::new(dir)))
}

/// Refuses a file that cannot be shared, before any is hashed in vain (R3); returns its length in bytes.
pub(crate) fn check(path: &Path, args: &MetadataArgs) -> Outcome<u64> {
    let length = FileSource::open(path).map_err(file_failure)?.len();
    let fits = Geometry::new(length, args.chunk_size).and_then(|geometry| geometry.check_addressing(args.addressing));
    fits.with_context(|| format!("cannot share {}", path.display())).or_exit(Exit::Usage)?;
    Ok(length)
}

/// Hashes a file, or takes its tree from the cache.
pub(crate) fn prepare(
    path: &Path,
    args: &MetadataArgs,
    cache: Option<&TreeCache>,
    console: Console,
    interrupt: &Interrupt,
) -> Outcome<Prepared> {
    let MetadataArgs { chunk_size, hash: function, addressing } = *args;
    let length = check(path, args)?;
    let bar = console.bar("hashing");
    let show = |done, total| bar.show(done, total);
    let params = TreeParams { function, chunk_size };
    let (tree, outcome) = hash_or_load(path, params, cache, &show, interrupt.flag()).map_err(hash_failure)?;
    drop(bar);
    if let CacheOutcome::NotSaved(error) = outcome {
        console.warn(format_args!("{error}; the file will be hashed again at the next start"));
    }
    let length = tree.geometry().and_then(Geometry::content_length).unwrap_or(length);
    let metadata = Metadata { root: *tree.root(), function, addressing, chunk_size, content_length: Some(length) };
    let name = path.file_name().map(|name| FileName::sanitise(&name.to_string_lossy()));
    Ok(Prepared { tree, metadata, length, name })
}

/// A file's error with its exit code: what the user named cannot be used, or something went wrong on the way.
pub(crate) fn file_failure(error: FileError) -> Stop {
    use FileProblem as Problem;
    let exit = match error.problem {
        Problem::Full
        | Problem::TooLarge
        | Problem::TooManyOpen
        | Problem::Changed
        | Problem::OutOfRange { .. }
        | Problem::Other { .. } => Exit::Failed,
        _ => Exit::Usage,
    };
    Stop::Failure(exit, error.into())
}

/// There is no place for temporary files.
#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
pub(crate) fn temporary(error: io::Error) -> Stop {
    let (dir, problem) = (env::temp_dir(), FileProblem::from(&error));
    let sentence =
        format!("cannot make temporary files in {}: {problem}, or name another directory in TMPDIR", dir.display());
    Stop::new(Exit::Failed, sentence)
}

/// The exit code of a file that could not be hashed.
pub(crate) fn hash_failure(error: HashError) -> Stop {
    match error {
        HashError::File(error) => file_failure(error),
        HashError::Geometry(error) => Stop::Failure(Exit::Usage, error.into()),
        HashError::Cancelled => Stop::Failure(Exit::Interrupted, error.into()),
        error => Stop::Failure(Exit::Failed, error.into()),
    }
}
