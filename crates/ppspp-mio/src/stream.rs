//! A fetch that is read in order while it arrives, as a player does.
//!
//! Verified bytes go into a spool, a file without a name, and from there to the reader and to other peers: whoever
//! watches also serves, everything that was fetched so far. At most [`StreamRequest::ahead`] bytes are asked for beyond
//! the reader's place, so that a slow reader slows the download; memory holds none of it.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ppspp_core::chunk::{ChunkIndex, ChunkRange, Geometry, RangeSet};
use ppspp_core::{Metadata, Order, SwarmId, Wanted};

use crate::command::{Command, Mailbox};
use crate::file::{DiskFile, FileAction, FileError, FileProblem, Storage};

/// Asked for once so much of what may be asked for was read, as a share: runs stay long, and the window full.
const STEPS: u64 = 8;

/// A content to read while it arrives.
#[derive(Debug)]
pub struct StreamRequest {
    /// The swarm's metadata, from a link or another trusted source.
    pub metadata: Metadata,
    /// Peers to ask; those that cannot be talked to are logged and left out. More can be added with
    /// [`Transfer::add_peer`](crate::Transfer::add_peer).
    pub peers: Vec<SocketAddr>,
    /// An empty file, readable and writable, for what was fetched; it grows to the length of the content. One without a
    /// name leaves nothing behind.
    pub spool: File,
    /// Bytes fetched beyond the place of the reader, rounded up to whole groups of chunks.
    pub ahead: u64,
}

impl StreamRequest {
    /// A good value of [`ahead`](Self::ahead) in bytes: keeps peers busy that are fast or far away (16 MiB cover
    /// 1 Gbit/s over 130 ms), and is little to have fetched in vain.
    pub const AHEAD: u64 = 16 << 20;
}

/// What the loop and the reader know of each other.
#[derive(Debug, Default)]
struct State {
    /// Length of the content in bytes, once known.
    length: Option<u64>,
    /// Bytes from the start that are stored without a gap.
    ready: u64,
    /// Whether no more will come.
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The event loop's end: where verified bytes go.
#[derive(Debug)]
pub(crate) struct Spool {
    file: Arc<dyn Storage>,
    shared: Arc<Shared>,
    geometry: Option<Geometry>,
    stored: RangeSet,
    ahead: u64,
    /// The reader's place when it was last told.
    position: u64,
}

/// The content of a stream, in order from its first byte. Reading blocks until the next bytes are verified.
///
/// Reads nothing more (`Ok(0)`) at the content's end, and fails with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if
/// the transfer ends before.
#[derive(Debug)]
pub struct ByteStream {
    file: Arc<dyn Storage>,
    shared: Arc<Shared>,
    mailbox: Mailbox,
    swarm: SwarmId,
    position: u64,
    /// The place that the loop was told last.
    told: u64,
    step: u64,
}

/// The reader's end while its swarm has no id yet.
#[derive(Debug)]
pub(crate) struct Reading {
    file: Arc<dyn Storage>,
    shared: Arc<Shared>,
    ahead: u64,
}

/// Both ends of a stream.
pub(crate) fn stream(spool: File, ahead: u64) -> (Spool, Reading) {
    let file: Arc<dyn Storage> = Arc::new(DiskFile::new(spool));
    let shared = Arc::new(Shared::default());
    let reading = Reading { file: Arc::clone(&file), shared: Arc::clone(&shared), ahead };
    (Spool { file, shared, geometry: None, stored: RangeSet::new(), ahead, position: 0 }, reading)
}

impl Reading {
    /// The stream of `swarm`, whose loop listens to `mailbox`.
    pub(crate) fn of(self, swarm: SwarmId, mailbox: Mailbox) -> ByteStream {
        let Self { file, shared, ahead } = self;
        ByteStream { file, shared, mailbox, swarm, position: 0, told: 0, step: (ahead / STEPS).max(1) }
    }
}

impl Spool {
    /// The cut of the content is known.
    pub(crate) fn set_geometry(&mut self, geometry: Geometry) {
        let Some(length) = geometry.content_length() else { return };
        self.geometry = Some(geometry);
        self.shared.change(|state| state.length = Some(length));
    }

    /// The bytes from `offset` on, exactly `len` of them.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes, FileError> {
        let bytes = self.file.read_vec_at(offset, len).map_err(|error| problem(FileAction::Read, &error))?;
        Ok(bytes.into())
    }

    /// Stores verified bytes.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<(), FileError> {
        self.file.write_all_at(data, offset).map_err(|error| problem(FileAction::Write, &error))
    }

    /// `range` was written: the reader may go on if it was waiting for it.
    pub(crate) fn on_stored(&mut self, range: ChunkRange) {
        let Some(geometry) = self.geometry else { return };
        self.stored.insert(range);
        let chunks = self.stored.first_missing_from(0);
        let ready = geometry.byte_range(ChunkRange::new(0, chunks)).end;
        if ready > self.shared.lock().ready {
            self.shared.change(|state| state.ready = ready);
        }
    }

    /// The reader has got to `position`.
    pub(crate) fn advance(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    /// What to fetch now: from the reader's place on, in order, as far as it may be ahead.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let geometry = self.geometry?;
        let size = u64::from(geometry.chunk_size().bytes());
        let end = (self.position.saturating_add(self.ahead) / size).min(geometry.last_chunk().value());
        // Whole groups: chunks of a group that stays incomplete wait to be handed out.
        let end = geometry.group_chunks(geometry.group_of(ChunkIndex::new(end))).end();
        let start = (self.position / size).min(end);
        Some(Wanted { ranges: RangeSet::from(ChunkRange::new(start, end)), order: Order::InOrder })
    }

    /// Whether the whole content is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.geometry.is_some_and(|geometry| self.stored.covers(geometry.all()))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.change(|state| state.ended = true);
    }
}

impl ByteStream {
    /// Waits for bytes beyond the place of reading; how many there are, zero at the content's end.
    fn available(&self) -> io::Result<u64> {
        let mut state = self.shared.lock();
        loop {
            if state.ready > self.position {
                return Ok(state.ready - self.position);
            }
            if state.length.is_some_and(|length| self.position >= length) {
                return Ok(0);
            }
            if state.ended {
                let error = "the transfer ended before the content was complete";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let available = self.available()?;
        let len = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..len) else { return Ok(0) };
        self.file.read_exact_at(part, self.position)?;
        self.position += len as u64;
        if self.position - self.told >= self.step {
            self.told = self.position;
            // A node that has stopped fetches nothing more; the next read says so.
            let _ = self.mailbox.send(Command::Advance { swarm: self.swarm, position: self.position });
        }
        Ok(len)
    }
}

/// What happened to the spool. It has no name, so the message has to do without.
fn problem(action: FileAction, error: &io::Error) -> FileError {
    FileError::new(action, "the spool".as_ref(), FileProblem::from(error))
}

#[cfg(test)]
mod tests {
    use ppspp_core::chunk::ChunkSize;

    use super::*;

    fn spool(ahead: u64) -> (Spool, Reading) {
        stream(tempfile::tempfile().unwrap(), ahead)
    }

    fn geometry(length: u64) -> Geometry {
        Geometry::new(length, ChunkSize::DEFAULT).unwrap()
    }

    fn wanted(spool: &Spool) -> Vec<ChunkRange> {
        spool.wanted().unwrap().ranges.runs().collect()
    }

    #[test]
    fn the_window_moves_with_the_reader_in_whole_groups() {
        let (mut spool, _reading) = spool(20_000);
        assert_eq!(spool.wanted(), None);
        spool.set_geometry(geometry(100_000));
        assert_eq!(wanted(&spool), [ChunkRange::new(0, 32)]);
        spool.advance(30_000);
        assert_eq!(wanted(&spool), [ChunkRange::new(29, 64)]);
        spool.advance(10);
        assert_eq!(wanted(&spool), [ChunkRange::new(29, 64)]);
        spool.advance(99_999);
        assert_eq!(wanted(&spool), [ChunkRange::new(97, 98)]);
        spool.advance(100_000);
        assert_eq!(wanted(&spool), [ChunkRange::new(97, 98)]);
    }

    #[test]
    fn bytes_become_ready_without_gaps() {
        let (mut spool, reading) = spool(1);
        spool.set_geometry(geometry(3000));
        spool.on_stored(ChunkRange::new(1, 3));
        assert_eq!(reading.shared.lock().ready, 0);
        assert!(!spool.is_complete());
        spool.on_stored(ChunkRange::new(0, 1));
        assert_eq!(reading.shared.lock().ready, 3000);
        assert!(spool.is_complete());
        drop(spool);
        assert!(reading.shared.lock().ended);
    }

    #[test]
    fn a_full_disk_is_named() {
        let error = problem(FileAction::Write, &io::ErrorKind::StorageFull.into());
        assert!(error.to_string().starts_with("cannot write the spool: the disk is full; make room"), "{error}");
    }
}
