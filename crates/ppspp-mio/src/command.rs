//! What handles ask of the event loop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use mio::Waker;
use ppspp_core::{EndpointStats, JoinError, Order, PeerView, Rates, Scope, SwarmConfig, SwarmId};

use crate::content::Content;
use crate::error::{NodeStopped, PeerError};
use crate::file::FileError;
use crate::progress::Reporter;
use crate::socket::SocketStats;

/// Commands that wait for the loop; whoever sends more waits for it. The loop takes them all at every turn.
const QUEUED_COMMANDS: usize = 256;

/// A swarm to join.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) config: SwarmConfig,
    pub(crate) content: Content,
    /// The finished file, if there is nothing left to fetch.
    pub(crate) complete: Option<PathBuf>,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) reporter: Reporter,
    pub(crate) reply: SyncSender<Result<SwarmId, JoinRefused>>,
}

/// Why a swarm was not joined.
#[derive(Debug)]
pub(crate) enum JoinRefused {
    Swarm(JoinError),
    Peer(PeerError),
}

/// What is asked of the loop.
#[derive(Debug)]
pub(crate) enum Command {
    Join(Box<Join>),
    AddPeer {
        swarm: SwarmId,
        address: SocketAddr,
    },
    Leave {
        swarm: SwarmId,
    },
    /// Fetch in this order from now on.
    SetOrder {
        swarm: SwarmId,
        order: Order,
    },
    /// The reader of a stream has got that far, in bytes.
    Advance {
        swarm: SwarmId,
        position: u64,
    },
    /// From a thread that made a download durable and gave it its name.
    Finished {
        swarm: SwarmId,
        result: Result<PathBuf, FileError>,
    },
    Peers {
        swarm: SwarmId,
        reply: SyncSender<Vec<PeerView>>,
    },
    NetworkChanged,
    SetRates {
        scope: Scope,
        rates: Rates,
    },
    Stats {
        reply: SyncSender<NodeStats>,
    },
    /// Close everything, for at most this long.
    Shutdown {
        grace: Duration,
    },
}

/// Counters of a node since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct NodeStats {
    /// What the endpoint counted: datagrams and their bytes, dropped ones by reason.
    pub endpoint: EndpointStats,
    /// What the socket counted.
    pub socket: SocketStats,
}

/// Sends commands to the loop and wakes it.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox whose owner is woken by `waker`.
    pub(crate) fn new(waker: Waker) -> (Self, Receiver<Command>) {
        let (commands, receiver) = sync_channel(QUEUED_COMMANDS);
        (Self { commands, waker: Arc::new(waker) }, receiver)
    }

    /// Hands `command` to the loop.
    pub(crate) fn send(&self, command: Command) -> Result<(), NodeStopped> {
        self.commands.send(command).map_err(|_| NodeStopped)?;
        self.waker.wake().map_err(|error| {
            tracing::error!(%error, "the event loop cannot be woken");
            NodeStopped
        })
    }

    /// Hands over the command that `make` builds around a reply channel, and waits for the reply.
    pub(crate) fn ask<T>(&self, make: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, NodeStopped> {
        let (reply, answer) = sync_channel(1);
        self.send(make(reply))?;
        answer.recv().map_err(|_| NodeStopped)
    }
}
