//! A thread that makes written bytes durable now and then, so that nobody else has to wait for the disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::file::{FileAction, FileError, Storage};

/// How often: what a crash of the machine may cost, beside the last checkpoint's age.
const SYNC_INTERVAL: Duration = Duration::from_secs(2);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Files with their names, in the order in which they become durable.
    files: [(Arc<dyn Storage>, PathBuf); 2],
    /// Whether something was written since the last time.
    dirty: AtomicBool,
    failed: AtomicBool,
    /// Held while waiting for the disk: its error goes to one of two that ask at the same time.
    turn: Mutex<()>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    error: Option<FileError>,
}

impl Syncer {
    /// Starts the thread. Without one, files become durable only when they are finished.
    pub(super) fn start(files: [(Arc<dyn Storage>, PathBuf); 2], interval: Duration) -> Self {
        let shared = Arc::new(Shared {
            files,
            dirty: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            turn: Mutex::new(()),
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("ppspp-sync".into()).spawn(move || theirs.run(interval));
        let thread = thread.inspect_err(|error| tracing::debug!(%error, "no thread to sync files in")).ok();
        Self { shared, thread }
    }

    /// [`Syncer::start`] with the usual interval.
    pub(super) fn start_default(files: [(Arc<dyn Storage>, PathBuf); 2]) -> Self {
        Self::start(files, SYNC_INTERVAL)
    }

    /// Says that something was written, and whether what was written before could be made durable.
    ///
    /// An error stays: the operating system reports it once and forgets the bytes.
    pub(super) fn wrote(&self) -> Result<(), FileError> {
        self.shared.dirty.store(true, Ordering::Release);
        self.shared.check()
    }

    /// Makes everything durable now, in the calling thread.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        self.shared.sync()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.wake.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that syncs files has panicked");
        }
    }
}

impl Shared {
    fn run(&self, interval: Duration) {
        loop {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.wake.wait_timeout_while(state, interval, |state| !state.stop);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.stop {
                return;
            }
            drop(state);
            if self.dirty.swap(false, Ordering::AcqRel) && self.sync().is_err() {
                return;
            }
        }
    }

    fn check(&self) -> Result<(), FileError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.error.clone().map_or(Ok(()), Err)
    }

    fn sync(&self) -> Result<(), FileError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        for (file, path) in &self.files {
            if let Err(error) = file.sync() {
                let error = FileError::io(FileAction::Sync, path)(error);
                self.state.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error.clone());
                self.failed.store(true, Ordering::Release);
                return Err(error);
            }
        }
        Ok(())
    }
}
