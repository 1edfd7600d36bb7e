//! Where the bytes of a swarm lie, and the answers to what the core asks of them.

use std::path::PathBuf;
use std::sync::mpsc::{SendError, sync_channel};
use std::thread;

use bytes::Bytes;
use ppspp_core::chunk::Geometry;
use ppspp_core::{Checkpoint, SwarmId};

use crate::command::{Command, Mailbox};
use crate::file::FileError;
use crate::source::FileSource;
use crate::store::FileStore;
use crate::stream::Spool;

/// Where the bytes of a swarm lie.
#[derive(Debug)]
pub(crate) enum Content {
    /// A complete file that is only read.
    Complete(FileSource),
    /// A file being fetched.
    Partial(Box<FileStore>),
    /// A stream that is read while it arrives.
    Stream(Box<Spool>),
    /// A fetched file that another thread makes durable and gives its name; readable meanwhile.
    Finishing(FileSource),
    /// Nowhere any more: the transfer is over.
    Closed,
}

impl Content {
    /// The bytes from `offset` on, exactly `len` of them.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Option<Result<Bytes, FileError>> {
        match self {
            Self::Complete(source) | Self::Finishing(source) => Some(source.read(offset, len)),
            Self::Partial(store) => Some(store.read(offset, len)),
            Self::Stream(spool) => Some(spool.read(offset, len)),
            Self::Closed => None,
        }
    }

    /// Stores `data` at `offset`; `None` if there is nowhere to store it.
    pub(crate) fn write(&mut self, offset: u64, data: Bytes) -> Option<Result<(), FileError>> {
        match self {
            Self::Partial(store) => Some(store.write(offset, data)),
            Self::Stream(spool) => Some(spool.write(offset, &data)),
            Self::Complete(_) | Self::Finishing(_) | Self::Closed => None,
        }
    }

    /// Tells what is being fetched how large it gets.
    pub(crate) fn set_geometry(&mut self, geometry: Geometry) -> Result<(), FileError> {
        match self {
            Self::Partial(store) => store.set_geometry(geometry),
            Self::Stream(spool) => {
                spool.set_geometry(geometry);
                Ok(())
            }
            Self::Complete(_) | Self::Finishing(_) | Self::Closed => Ok(()),
        }
    }

    /// Saves `checkpoint`, so that the fetch can be resumed.
    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), FileError> {
        match self {
            Self::Partial(store) => store.checkpoint(checkpoint),
            Self::Complete(_) | Self::Stream(_) | Self::Finishing(_) | Self::Closed => Ok(()),
        }
    }

    /// Whether it is a file being fetched.
    pub(crate) fn is_partial(&self) -> bool {
        matches!(self, Self::Partial(_))
    }

    /// The stream, if it is one.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut Spool> {
        match self {
            Self::Stream(spool) => Some(spool),
            _ => None,
        }
    }

    /// Whether a thread is at work on it.
    pub(crate) fn is_finishing(&self) -> bool {
        matches!(self, Self::Finishing(_))
    }

    /// Has another thread make a fetched file durable and give it its name: that may take seconds, in which the loop
    /// has peers to serve. The thread answers with [`Command::Finished`]; where there is none to be had, the work is
    /// done here and the path returned.
    pub(crate) fn finish(&mut self, swarm: SwarmId, mailbox: &Mailbox) -> Result<Option<PathBuf>, FileError> {
        let Self::Partial(store) = self else { return Ok(None) };
        // Open before the rename: the file stays the same under its new name.
        let reader = store.reader()?;
        let Self::Partial(mut store) = std::mem::replace(self, Self::Finishing(reader)) else { return Ok(None) };
        let (hand_over, take_over) = sync_channel::<Box<FileStore>>(1);
        let mailbox = mailbox.clone();
        let spawned = thread::Builder::new().name("ppspp-finish".into()).spawn(move || {
            let Ok(mut store) = take_over.recv() else { return };
            let result = store.finish();
            drop(store);
            if mailbox.send(Command::Finished { swarm, result }).is_err() {
                tracing::debug!("a download was finished after its node had stopped");
            }
        });
        if let Err(error) = spawned {
            tracing::debug!(%error, "no thread to finish the download in");
            return store.finish().map(Some);
        }
        match hand_over.send(store) {
            Ok(()) => Ok(None),
            Err(SendError(mut store)) => store.finish().map(Some),
        }
    }
}
