//! What is decoded: a file, or what arrives meanwhile.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;

use crate::node::TURN;
use crate::signals::Interrupt;

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// Pieces that are read ahead of what is decoded.
const AHEAD: usize = 16;

/// Bytes to decode.
pub(super) enum Input {
    /// A regular file: reading it takes no waiting.
    File(BufReader<File>),
    /// Anything else.
    Live(Live),
}

impl Input {
    /// What `file` holds.
    pub(super) fn of(file: File, interrupt: &Interrupt) -> io::Result<Self> {
        if file.metadata()?.is_file() {
            return Ok(Self::File(BufReader::with_capacity(1 << 20, file)));
        }
        Live::start(file, interrupt).map(Self::Live)
    }

    /// Standard input.
    pub(super) fn stdin(interrupt: &Interrupt) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::fd::AsFd as _;
            Self::of(io::stdin().as_fd().try_clone_to_owned()?.into(), interrupt)
        }
        #[cfg(not(unix))]
        Live::start(io::stdin(), interrupt).map(Self::Live)
    }

    /// Tells whether reading on takes no waiting.
    pub(super) fn at_hand(&self) -> impl Fn() -> bool + use<> {
        let queued = match self {
            Self::File(_) => None,
            Self::Live(live) => Some(Arc::clone(&live.queued)),
        };
        move || queued.as_ref().is_none_or(|queued| queued.load(Ordering::Relaxed) > 0)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Live(live) => live.read(buffer),
        }
    }
}

/// Input that a thread reads, so that a signal ends the wait for more.
pub(super) struct Live {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// How many of them wait.
    queued: Arc<AtomicUsize>,
    piece: io::Cursor<Vec<u8>>,
    interrupt: Interrupt,
}

impl Live {
    fn start(mut from: impl Read + Send + 'static, interrupt: &Interrupt) -> io::Result<Self> {
        let (send, pieces) = sync_channel(AHEAD);
        let queued = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&queued);
        thread::Builder::new().name("ppspp-input".into()).spawn(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let read = match from.read(&mut piece) {
                    Ok(0) => break,
                    Ok(len) => {
                        piece.truncate(len);
                        Ok(piece)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                count.fetch_add(1, Ordering::Relaxed);
                if send.send(read).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(Self { pieces, queued, piece: io::Cursor::default(), interrupt: interrupt.clone() })
    }
}

impl Read for Live {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.pieces.recv_timeout(TURN) {
                Ok(piece) => {
                    self.queued.fetch_sub(1, Ordering::Relaxed);
                    self.piece = io::Cursor::new(piece?);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) if self.interrupt.is_set() => {
                    return Err(io::Error::other("a signal came before the rest"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
