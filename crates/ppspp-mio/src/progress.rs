//! What an application hears of a transfer: snapshots and events, both in bounded memory.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use ppspp_core::{CloseReason, TrafficStats, TransferStats};

use crate::error::TransferError;

/// Events that wait for the application. Beyond it progress is not told: the newest is in the snapshot.
const QUEUED_EVENTS: usize = 256;
/// Events of what happened once that wait beside these. Beyond it those are missed after which the transfer goes on.
const OVERFLOW_EVENTS: usize = 4096;

/// How far a transfer is: one consistent snapshot, at most about 50 ms old.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TransferProgress {
    /// Length of the content in bytes, once known.
    pub content_length: Option<u64>,
    /// Bytes that are verified and stored, from this run or an earlier one.
    pub bytes_stored: u64,
    /// Bytes of those that came from peers in this run.
    pub bytes_fetched: u64,
    /// Bytes of those that were there already, read back and verified (R22).
    pub bytes_resumed: u64,
    /// Bytes from an earlier run still to be read back and verified.
    pub bytes_to_check: u64,
    /// Content bytes received from peers and verified.
    pub bytes_down: u64,
    /// Content bytes sent to peers, repeats included.
    pub bytes_up: u64,
    /// Peers with an established channel.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeders: usize,
    /// Counters of chunks and requests.
    pub stats: TransferStats,
    /// Counters of datagrams and of messages by type.
    pub traffic: TrafficStats,
    /// Whether the whole content is there, verified, and under its final name.
    pub complete: bool,
    /// Why the transfer failed, if it did.
    pub failure: Option<TransferError>,
    /// Whether the transfer has ended: no file is open and no datagram leaves any more.
    pub closed: bool,
}

/// What happens in a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TransferEvent {
    /// A channel to a peer is established.
    PeerConnected {
        /// Its address.
        address: SocketAddr,
    },
    /// A channel ended, or never came about.
    PeerClosed {
        /// The peer's address.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// The length of the content in bytes is known.
    SizeKnown(u64),
    /// The snapshot changed; at most one in about 50 ms.
    Progress,
    /// The whole content is verified and stored; the node goes on sharing it until the transfer is stopped.
    Complete {
        /// The file, for a fetch.
        path: Option<PathBuf>,
    },
    /// Bytes on disk no longer match the content, or cannot be read. The rest is still shared.
    ContentChanged {
        /// Offset of the first of them.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The transfer cannot go on and is being closed. What was stored is kept.
    Failed(TransferError),
    /// The transfer has ended and its files are closed. The last event.
    Closed,
}

impl TransferEvent {
    /// Whether it may not be missed. Each such event comes once in a transfer.
    fn is_terminal(&self) -> bool {
        matches!(self, Self::SizeKnown(_) | Self::Complete { .. } | Self::Failed(_) | Self::Closed)
    }
}

/// The snapshot that the event loop writes and the handle reads.
#[derive(Debug, Default)]
pub(crate) struct Snapshot(Mutex<TransferProgress>);

impl Snapshot {
    /// A copy of the latest snapshot.
    pub(crate) fn read(&self) -> TransferProgress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the snapshot.
    fn write(&self, progress: &TransferProgress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(progress);
    }
}

/// The event loop's end: events and snapshots of one transfer.
#[derive(Debug)]
pub(crate) struct Reporter {
    channel: SyncSender<TransferEvent>,
    /// Events that found the channel full, [`OVERFLOW_EVENTS`] at most and beyond these one of each terminal kind.
    overflow: VecDeque<TransferEvent>,
    snapshot: Arc<Snapshot>,
    progress: TransferProgress,
}

/// Both ends of a transfer's reports.
pub(crate) fn reports() -> (Reporter, Receiver<TransferEvent>, Arc<Snapshot>) {
    let (channel, events) = sync_channel(QUEUED_EVENTS);
    let snapshot = Arc::new(Snapshot::default());
    let reporter = Reporter {
        channel,
        overflow: VecDeque::new(),
        snapshot: Arc::clone(&snapshot),
        progress: TransferProgress::default(),
    };
    (reporter, events, snapshot)
}

impl Reporter {
    /// What was reported last.
    pub(crate) fn progress(&self) -> &TransferProgress {
        &self.progress
    }

    /// Publishes `progress` if it differs from the last, with an event.
    pub(crate) fn publish(&mut self, progress: TransferProgress) {
        if progress == self.progress {
            return;
        }
        self.progress = progress;
        self.snapshot.write(&self.progress);
        self.send(TransferEvent::Progress);
    }

    /// Publishes a change made in place, then sends `event`, so that whoever hears of it finds it in the snapshot.
    pub(crate) fn publish_with(&mut self, event: TransferEvent, change: impl FnOnce(&mut TransferProgress)) {
        change(&mut self.progress);
        self.snapshot.write(&self.progress);
        self.send(event);
    }

    /// Sends `event`, or lets it wait if the application is behind; if it is far behind and the event can be missed, drops
    /// it.
    pub(crate) fn send(&mut self, event: TransferEvent) {
        let event = if self.flush() {
            match self.channel.try_send(event) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(event)) => event,
            }
        } else {
            event
        };
        let room = event != TransferEvent::Progress && self.overflow.len() < OVERFLOW_EVENTS;
        if room || event.is_terminal() {
            self.overflow.push_back(event);
        }
    }

    /// Whether events wait for the application.
    pub(crate) fn is_ahead(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Sends what had to wait; whether nothing waits any more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(event) = self.overflow.pop_front() {
            if let Err(TrySendError::Full(event)) = self.channel.try_send(event) {
                self.overflow.push_front(event);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_published_once_and_before_their_event() {
        let (mut reporter, events, snapshot) = reports();
        let progress = TransferProgress { bytes_stored: 7, ..TransferProgress::default() };
        reporter.publish(progress.clone());
        reporter.publish(progress.clone());
        assert_eq!(events.try_recv(), Ok(TransferEvent::Progress));
        assert_eq!(snapshot.read(), progress);
        assert!(events.try_recv().is_err());
        reporter.publish_with(TransferEvent::Closed, |progress| progress.closed = true);
        assert!(snapshot.read().closed);
        assert_eq!(events.try_recv(), Ok(TransferEvent::Closed));
    }

    #[test]
    fn a_full_queue_drops_what_can_be_missed_and_keeps_the_rest_in_order() {
        let (mut reporter, events, _) = reports();
        for _ in 0..QUEUED_EVENTS * 10 {
            reporter.send(TransferEvent::Progress);
        }
        reporter.send(TransferEvent::SizeKnown(5));
        reporter.send(TransferEvent::Complete { path: None });
        reporter.send(TransferEvent::Progress);
        reporter.send(TransferEvent::Closed);
        assert!(!reporter.flush());
        for _ in 0..QUEUED_EVENTS {
            assert_eq!(events.try_recv(), Ok(TransferEvent::Progress));
        }
        assert!(events.try_recv().is_err());
        assert!(reporter.flush());
        assert_eq!(events.try_recv(), Ok(TransferEvent::SizeKnown(5)));
        assert_eq!(events.try_recv(), Ok(TransferEvent::Complete { path: None }));
        assert_eq!(events.try_recv(), Ok(TransferEvent::Closed));
        assert!(events.try_recv().is_err());
    }

    #[test]
    fn what_happens_once_waits_for_an_application_that_is_behind() {
        let (mut reporter, events, _) = reports();
        let sent: Vec<_> = (0..2000).map(|offset| TransferEvent::ContentChanged { offset, len: 1 }).collect();
        for event in &sent {
            reporter.send(event.clone());
            reporter.send(TransferEvent::Progress);
        }
        let mut received = Vec::new();
        while let Ok(event) = events.try_recv() {
            received.push(event);
            reporter.flush();
        }
        received.retain(|event| *event != TransferEvent::Progress);
        assert_eq!(received, sent);
        // It is not waited for without end, and the end is told.
        for offset in 0..10_000 {
            reporter.send(TransferEvent::ContentChanged { offset, len: 1 });
        }
        reporter.send(TransferEvent::Closed);
        assert_eq!(reporter.overflow.len(), OVERFLOW_EVENTS + 1);
        assert_eq!(reporter.overflow.back(), Some(&TransferEvent::Closed));
    }

    #[test]
    fn nobody_listening_is_no_error() {
        let (mut reporter, events, _) = reports();
        drop(events);
        reporter.send(TransferEvent::Closed);
        assert!(reporter.flush());
    }
}
