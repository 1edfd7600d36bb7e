//! `get -o -`: the content on standard output, in order, as it arrives.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use ppspp_mio::ByteStream;

use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::output::judge;

/// Bytes copied at a time; what a pipe holds on Linux.
const BUFFER: usize = 64 * 1024;

/// A thread that copies a stream to standard output.
///
/// It is not waited for at the end of the command: a reader that has paused would hold it up.
#[derive(Debug)]
pub(crate) struct Pipe {
    shared: Arc<Shared>,
    ended: Receiver<Outcome>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes the reader took.
    written: AtomicU64,
    /// Whether the thread waits for the reader rather than for the network.
    writing: AtomicBool,
}

impl Pipe {
    /// Starts to copy `stream`.
    pub(crate) fn start(stream: ByteStream) -> Outcome<Self> {
        let shared = Arc::new(Shared::default());
        let (end, ended) = sync_channel(1);
        let copier = Arc::clone(&shared);
        thread::Builder::new()
            .name("ppspp-pipe".into())
            // The command may have ended meanwhile, and with it whoever wants to know.
            .spawn(move || drop(end.send(copier.copy(stream))))
            .context("cannot start a thread to write to standard output")
            .or_exit(Exit::Failed)?;
        Ok(Self { shared, ended })
    }

    /// Bytes the reader took so far.
    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Whether the reader holds things up: it has not yet taken what it was given.
    pub(crate) fn is_held_up(&self) -> bool {
        self.shared.writing.load(Ordering::Relaxed)
    }

    /// Waits for the end, at most for `time`; `None` if the copying goes on.
    pub(crate) fn wait(&self, time: Duration) -> Option<Outcome> {
        match self.ended.recv_timeout(time) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(Stop::new(Exit::Failed, "cannot write to standard output any more; start again")))
            }
        }
    }
}

impl Shared {
    fn copy(&self, mut stream: ByteStream) -> Outcome {
        let mut out = io::stdout().lock();
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = stream.read(&mut buffer).context("cannot go on").or_exit(Exit::Failed)?;
            let Some(part) = buffer.get(..len).filter(|part| !part.is_empty()) else { return Ok(()) };
            self.writing.store(true, Ordering::Relaxed);
            out.write_all(part).and_then(|()| out.flush()).or_else(judge)?;
            self.writing.store(false, Ordering::Relaxed);
            self.written.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}
