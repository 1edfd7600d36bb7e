//! One swarm as the event loop sees it: the core's questions answered from its files, its state reported.

use std::path::PathBuf;

use bytes::Bytes;
use ppspp_core::chunk::{ChunkRange, Geometry, RangeSet};
use ppspp_core::{Endpoint, Instant, Order, ReadError, ReadToken, StoreError, SwarmId, Wanted};

use crate::command::Mailbox;
use crate::content::Content;
use crate::error::TransferError;
use crate::file::FileError;
use crate::progress::{Reporter, TransferEvent, TransferProgress};

/// A swarm the node is in.
#[derive(Debug)]
pub(crate) struct Swarm {
    id: SwarmId,
    content: Content,
    reporter: Reporter,
    /// Bytes stored in this run.
    bytes_written: u64,
    /// What is stored and not confirmed yet.
    stored: ChunkRange,
    /// Whether something changed since the last checkpoint.
    unsaved: bool,
    /// The finished file of a fetch that had nothing left to fetch, until that is told.
    there: Option<PathBuf>,
    complete: bool,
    /// Whether the core is done with it, so that only its file is still being finished.
    left: bool,
}

impl Swarm {
    /// The swarm `id`; `there` is the finished file if there is nothing left to fetch.
    pub(crate) fn new(id: SwarmId, content: Content, reporter: Reporter, there: Option<PathBuf>) -> Self {
        let complete = matches!(content, Content::Complete(_));
        let stored = ChunkRange::EMPTY;
        Self { id, content, reporter, bytes_written: 0, stored, unsaved: false, there, complete, left: false }
    }

    /// Whether a thread is finishing its file.
    pub(crate) fn is_finishing(&self) -> bool {
        self.content.is_finishing()
    }

    /// Answers a read.
    pub(crate) fn read(&self, endpoint: &mut Endpoint, token: ReadToken, offset: u64, len: usize, now: Instant) {
        let data = match self.content.read(offset, len) {
            Some(Ok(data)) => Ok(data),
            Some(Err(error)) => {
                // The core tells which chunks are affected.
                tracing::warn!(%error, offset, len, "content cannot be read; the rest is still shared");
                Err(ReadError)
            }
            None => Err(ReadError),
        };
        endpoint.provide(token, data, now);
    }

    /// Stores verified bytes, to be confirmed together with their neighbours; a failure ends the transfer.
    pub(crate) fn store(&mut self, endpoint: &mut Endpoint, range: ChunkRange, offset: u64, data: Bytes, now: Instant) {
        let bytes = data.len() as u64;
        match self.content.write(offset, data) {
            Some(Ok(())) => {
                self.bytes_written += bytes;
                self.unsaved = true;
                if let Some(spool) = self.content.stream_mut() {
                    spool.on_stored(range);
                }
                if self.stored.end() == range.start() {
                    self.stored = ChunkRange::new(self.stored.start(), range.end());
                } else {
                    self.confirm(endpoint, now);
                    self.stored = range;
                }
            }
            Some(Err(error)) => {
                self.confirm(endpoint, now);
                endpoint.confirm_stored(self.id, range, Err(StoreError), now);
                self.fail(endpoint, error, now);
            }
            None => endpoint.confirm_stored(self.id, range, Err(StoreError), now),
        }
    }

    /// Confirms what is stored.
    pub(crate) fn confirm(&mut self, endpoint: &mut Endpoint, now: Instant) {
        let stored = core::mem::replace(&mut self.stored, ChunkRange::EMPTY);
        if !stored.is_empty() {
            endpoint.confirm_stored(self.id, stored, Ok(()), now);
        }
    }

    /// The length of the content is known.
    pub(crate) fn size_known(&mut self, endpoint: &mut Endpoint, geometry: Geometry, now: Instant) {
        let length = geometry.content_length();
        if let Some(length) = length {
            self.reporter
                .publish_with(TransferEvent::SizeKnown(length), |progress| progress.content_length = Some(length));
        }
        if let Some(path) = self.there.take() {
            self.reporter.send(TransferEvent::Complete { path: Some(path) });
        }
        if let Err(error) = self.content.set_geometry(geometry) {
            self.fail(endpoint, error, now);
        }
        self.want(endpoint, now);
    }

    /// Fetches in this order from now on, unless there is nothing to fetch.
    pub(crate) fn set_order(&self, endpoint: &mut Endpoint, order: Order, now: Instant) {
        let everything = RangeSet::from(ChunkRange::new(0, u64::MAX));
        if self.content.is_partial() && endpoint.set_wanted(self.id, Wanted { ranges: everything, order }, now).is_err()
        {
            tracing::debug!("a fetch was left while its order was changed");
        }
    }

    /// The reader of a stream has got to `position`.
    pub(crate) fn advance(&mut self, endpoint: &mut Endpoint, position: u64, now: Instant) {
        if let Some(spool) = self.content.stream_mut() {
            spool.advance(position);
            self.want(endpoint, now);
        }
    }

    /// Fetches a stream as far as its reader may be ahead of.
    fn want(&mut self, endpoint: &mut Endpoint, now: Instant) {
        if let Some(wanted) = self.content.stream_mut().and_then(|spool| spool.wanted())
            && !self.complete
            && endpoint.set_wanted(self.id, wanted, now).is_err()
        {
            tracing::debug!("a stream was left while it was read");
        }
    }

    /// What is on disk no longer matches the content.
    pub(crate) fn content_changed(&mut self, endpoint: &Endpoint, range: ChunkRange) {
        if matches!(self.content, Content::Closed) {
            return;
        }
        let Some(geometry) = endpoint.swarm(self.id).and_then(|view| view.geometry()) else { return };
        let bytes = geometry.byte_range(range);
        let (offset, len) = (bytes.start, bytes.end - bytes.start);
        tracing::warn!(offset, len, "content on disk does not match any more");
        self.reporter.send(TransferEvent::ContentChanged { offset, len });
        self.unsaved = true;
    }

    /// Everything that is wanted is verified and stored: a file gets its name, a stream goes on with its reader.
    pub(crate) fn all_stored(&mut self, endpoint: &mut Endpoint, mailbox: &Mailbox, now: Instant) {
        if let Some(spool) = self.content.stream_mut() {
            if spool.is_complete() && !std::mem::replace(&mut self.complete, true) {
                self.refresh(endpoint);
                self.reporter.publish_with(TransferEvent::Complete { path: None }, |progress| progress.complete = true);
            }
            return;
        }
        // What comes now may wait for the disk.
        self.refresh(endpoint);
        // Should it not get its name, nothing is fetched again.
        self.save(endpoint);
        match self.content.finish(self.id, mailbox) {
            Ok(None) => {}
            Ok(Some(path)) => self.finished(endpoint, Ok(path), now),
            Err(error) => self.finished(endpoint, Err(error), now),
        }
    }

    /// The file has got its name, or not.
    pub(crate) fn finished(&mut self, endpoint: &mut Endpoint, result: Result<PathBuf, FileError>, now: Instant) {
        match result {
            Ok(path) => {
                tracing::info!(path = %path.display(), "complete");
                self.complete = true;
                self.refresh(endpoint);
                self.reporter
                    .publish_with(TransferEvent::Complete { path: Some(path) }, |progress| progress.complete = true);
                if let Content::Finishing(source) = std::mem::replace(&mut self.content, Content::Closed) {
                    self.content = Content::Complete(source);
                }
            }
            Err(error) => {
                if self.content.is_finishing() {
                    self.content = Content::Closed;
                }
                self.fail(endpoint, error, now);
            }
        }
    }

    /// A peer came or went, or something else that can be missed happened.
    pub(crate) fn tell(&mut self, event: TransferEvent) {
        self.reporter.send(event);
    }

    /// Ends the transfer because of `error`; what was stored is kept.
    fn fail(&mut self, endpoint: &mut Endpoint, error: FileError, now: Instant) {
        tracing::error!(%error, "the transfer failed");
        self.refresh(endpoint);
        let error = TransferError::File(error);
        self.reporter.publish_with(TransferEvent::Failed(error.clone()), |progress| progress.failure = Some(error));
        self.save_and_close(endpoint);
        endpoint.leave(self.id, now);
    }

    /// Saves what was fetched and closes the files. A file that is being finished gets its name all the same.
    pub(crate) fn save_and_close(&mut self, endpoint: &mut Endpoint) {
        self.save(endpoint);
        self.refresh(endpoint);
        if !self.content.is_finishing() {
            self.content = Content::Closed;
        }
    }

    /// Saves what was fetched since the last time, so that the fetch can be resumed.
    pub(crate) fn save(&mut self, endpoint: &mut Endpoint) {
        if !std::mem::take(&mut self.unsaved) || !self.content.is_partial() {
            return;
        }
        let Some(checkpoint) = endpoint.take_checkpoint(self.id) else { return };
        // Without a sidecar the fetch still completes; only resuming it would start over.
        if let Err(error) = self.content.checkpoint(checkpoint) {
            tracing::warn!(%error, "the state of the fetch cannot be saved");
        }
    }

    /// Publishes the snapshot if it changed.
    pub(crate) fn refresh(&mut self, endpoint: &Endpoint) {
        self.reporter.flush();
        let Some(view) = endpoint.swarm(self.id) else { return };
        let (core, stats) = (view.progress(), view.stats());
        let last = self.reporter.progress();
        let progress = TransferProgress {
            content_length: core.content_length,
            bytes_stored: core.bytes_stored,
            bytes_fetched: self.bytes_written.min(core.bytes_stored),
            bytes_resumed: core.bytes_stored.saturating_sub(self.bytes_written),
            bytes_to_check: core.bytes_to_check,
            bytes_down: stats.content_bytes_received,
            bytes_up: stats.content_bytes_sent,
            peers: core.peers,
            seeders: core.seeders,
            stats,
            traffic: *view.traffic(),
            complete: self.complete,
            failure: last.failure.clone(),
            closed: last.closed,
        };
        self.reporter.publish(progress);
    }

    /// Whether events wait for the application.
    pub(crate) fn is_ahead(&self) -> bool {
        self.reporter.is_ahead()
    }

    /// The core is done with the swarm; whether nothing keeps it any more.
    pub(crate) fn core_is_done(&mut self) -> bool {
        self.left = true;
        self.is_over()
    }

    /// Whether the core is done with it and no file is being finished.
    pub(crate) fn is_over(&self) -> bool {
        self.left && !self.content.is_finishing()
    }

    /// The last report. Returns the reporter if some of it still waits to be read.
    pub(crate) fn close(mut self) -> Option<Reporter> {
        self.reporter.publish_with(TransferEvent::Closed, |progress| {
            progress.closed = true;
            progress.peers = 0;
            progress.seeders = 0;
        });
        (!self.reporter.flush()).then_some(self.reporter)
    }
}
