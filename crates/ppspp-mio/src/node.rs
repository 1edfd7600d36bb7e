//! The handle of a node: a socket and a thread that serve any number of swarms.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::{Poll, Waker};
use ppspp_core::chunk::Geometry;
use ppspp_core::integrity::Tree;
use ppspp_core::{Content as CoreContent, Endpoint, EndpointConfig, Metadata, Rates, Scope, SwarmConfig};

use crate::clock::Clock;
use crate::command::{Command, Join, JoinRefused, Mailbox, NodeStats};
use crate::content::Content;
use crate::error::{FetchError, NodeStopped, ShareError, StartError};
use crate::event_loop::{EventLoop, WAKER};
use crate::progress::reports;
use crate::socket::{Listen, Socket};
use crate::source::FileSource;
use crate::store::{FileStore, Opened};
use crate::stream::{ByteStream, StreamRequest, stream};
use crate::transfer::Transfer;

/// Default of [`NodeConfig::socket_buffer`], in bytes: what arrives in some milliseconds at full speed, while the loop
/// is busy hashing and writing, must not be lost.
const SOCKET_BUFFER: usize = 4 << 20;

/// How a node is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// The address to listen on.
    pub listen: Listen,
    /// The protocol's settings and bounds. `receive_buffer` is set to what the system grants the socket.
    pub endpoint: EndpointConfig,
    /// Bytes asked of the kernel for each of the socket's buffers. Default 4 MiB.
    pub socket_buffer: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { listen: Listen::Default, endpoint: EndpointConfig::default(), socket_buffer: SOCKET_BUFFER }
    }
}

impl NodeConfig {
    /// The default setup on `address`; port 0 means any free one.
    pub fn listening_on(address: SocketAddr) -> Self {
        Self { listen: Listen::Address(address), ..Self::default() }
    }
}

/// A complete file to share.
#[derive(Debug)]
pub struct ShareSource {
    /// The file.
    pub path: PathBuf,
    /// Its complete hash tree, for instance from [`hash_file`](crate::hashing::hash_file).
    pub tree: Tree,
    /// The swarm's metadata.
    pub metadata: Metadata,
}

/// A content to fetch.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The swarm's metadata, from a link or another trusted source.
    pub metadata: Metadata,
    /// Peers to ask; those that cannot be talked to are logged and left out. More can be added with
    /// [`Transfer::add_peer`].
    pub peers: Vec<SocketAddr>,
    /// Where the finished file goes. Until then it is a partial file beside it.
    pub output: PathBuf,
    /// Whether an existing file of other content may be replaced.
    pub force: bool,
}

/// How a node ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether every peer was told goodbye; `false` if the grace period was too short for it.
    pub drained: bool,
}

/// A UDP socket with a thread that serves it.
///
/// Dropping it saves what was fetched, says goodbye to peers as far as that takes no waiting, and ends the thread.
#[derive(Debug)]
pub struct Node {
    mailbox: Mailbox,
    thread: Option<JoinHandle<bool>>,
    local_address: SocketAddr,
    taken: Option<u16>,
    buffers: (usize, usize),
}

impl Node {
    /// Opens the socket and starts the thread.
    ///
    /// # Errors
    /// [`StartError`] if the address cannot be had or the system refuses a thread or means to wait.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        let socket = Socket::open(config.listen, config.socket_buffer)?;
        let (local_address, taken, buffers) = (socket.local_address(), socket.taken(), socket.buffers());
        let poll = Poll::new()?;
        let (mailbox, commands) = Mailbox::new(Waker::new(poll.registry(), WAKER)?);
        let clock = Clock::start();
        let mut endpoint = config.endpoint;
        endpoint.receive_buffer = buffers.0;
        let endpoint = Endpoint::new(Arc::new(endpoint), seed()?, clock.now());
        let event_loop = EventLoop::new(socket, poll, clock, endpoint, commands, mailbox.clone())?;
        let thread = thread::Builder::new().name("ppspp".into()).spawn(move || event_loop.run())?;
        Ok(Self { mailbox, thread: Some(thread), local_address, taken, buffers })
    }

    /// The address the node listens on, with the port it got.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// The default port, if another program had it so that the node listens on another one.
    pub fn port_was_taken(&self) -> Option<u16> {
        self.taken
    }

    /// Bytes of the receive and the send buffer that the kernel granted.
    pub fn socket_buffers(&self) -> (usize, usize) {
        self.buffers
    }

    /// Counters since the start.
    ///
    /// # Errors
    /// [`NodeStopped`] if the node no longer runs.
    pub fn stats(&self) -> Result<NodeStats, NodeStopped> {
        self.mailbox.ask(|reply| Command::Stats { reply })
    }

    /// Tells the node that the machine has another address or route (R11).
    pub fn network_changed(&self) {
        // A node that has stopped has no channels to move.
        let _ = self.mailbox.send(Command::NetworkChanged);
    }

    /// Limits what all transfers together send and receive, from now on.
    ///
    /// The limits at the start are those of [`EndpointConfig::rates`].
    pub fn set_rates(&self, rates: Rates) {
        // A node that has stopped sends nothing.
        let _ = self.mailbox.send(Command::SetRates { scope: Scope::Endpoint, rates });
    }

    /// Shares a complete file until the transfer is stopped.
    ///
    /// # Errors
    /// [`ShareError`] if the file cannot be read or is not what the tree was made for, or the swarm cannot be joined.
    pub fn share(&self, source: ShareSource) -> Result<Transfer, ShareError> {
        let ShareSource { path, tree, metadata } = source;
        let file = FileSource::open(&path)?;
        if let Some(expected) = tree.geometry().and_then(Geometry::content_length)
            && expected != file.len()
        {
            return Err(ShareError::Length { path, actual: file.len(), expected });
        }
        let config = SwarmConfig { metadata, content: CoreContent::Seed { tree } };
        self.join(config, Content::Complete(file), None, Vec::new()).map_err(|refused| match refused {
            Refused::Loop(JoinRefused::Swarm(error)) => ShareError::Join(error),
            Refused::Loop(JoinRefused::Peer(_)) | Refused::Stopped => ShareError::Stopped(NodeStopped),
        })
    }

    /// Fetches a content into a file, resuming an earlier attempt if its partial file is there.
    ///
    /// If the output is complete already, it is verified here and shared at once: the transfer is then complete from
    /// the start, and needs no peer. Verifying reads the whole file.
    ///
    /// # Errors
    /// [`FetchError`] if the output cannot be opened, is not complete and none of the peers can be talked to, or the
    /// swarm cannot be joined.
    pub fn fetch(&self, request: FetchRequest) -> Result<Transfer, FetchError> {
        self.fetch_watched(request, &|_, _| {}, &AtomicBool::new(false))
    }

    /// [`Node::fetch`] that tells how far the verification of an existing output is (bytes hashed, its length), and
    /// stops it once `cancel` is true.
    ///
    /// # Errors
    /// As [`Node::fetch`]; the cause is [`HashError::Cancelled`](crate::hashing::HashError::Cancelled) if cancelled.
    pub fn fetch_watched(
        &self,
        request: FetchRequest,
        progress: &dyn Fn(u64, u64),
        cancel: &AtomicBool,
    ) -> Result<Transfer, FetchError> {
        let FetchRequest { metadata, peers, output, force } = request;
        let opened = FileStore::open_watched(&output, &metadata, force, progress, cancel)?;
        let warning = match &opened {
            Opened::Fresh { store } | Opened::Resume { store, .. } => store.warning().cloned(),
            Opened::AlreadyComplete { .. } => None,
        };
        let (content, core_content, complete) = match opened {
            Opened::Fresh { store } => (Content::Partial(Box::new(store)), CoreContent::Fetch, None),
            Opened::Resume { store, tree, stored, open_groups } => {
                (Content::Partial(Box::new(store)), CoreContent::Resume { tree, stored, open_groups }, None)
            }
            Opened::AlreadyComplete { path, tree } => (
                Content::Complete(FileSource::open(&path).map_err(FetchError::File)?),
                CoreContent::Seed { tree },
                Some(path),
            ),
        };
        let config = SwarmConfig { metadata, content: core_content };
        Ok(self.join(config, content, complete, peers)?.with_warning(warning))
    }

    /// Fetches a content to be read in order while it arrives. What was fetched is served to others as long as the
    /// transfer lasts.
    ///
    /// # Errors
    /// [`FetchError`] if none of the peers can be talked to or the swarm cannot be joined.
    pub fn stream(&self, request: StreamRequest) -> Result<(Transfer, ByteStream), FetchError> {
        let StreamRequest { metadata, peers, spool, ahead } = request;
        let (spool, reading) = stream(spool, ahead);
        let config = SwarmConfig { metadata, content: CoreContent::Fetch };
        let transfer = self.join(config, Content::Stream(Box::new(spool)), None, peers)?;
        let stream = reading.of(transfer.swarm(), self.mailbox.clone());
        Ok((transfer, stream))
    }

    fn join(
        &self,
        config: SwarmConfig,
        content: Content,
        complete: Option<PathBuf>,
        peers: Vec<SocketAddr>,
    ) -> Result<Transfer, Refused> {
        let (reporter, events, snapshot) = reports();
        let joined = self
            .mailbox
            .ask(|reply| Command::Join(Box::new(Join { config, content, complete, peers, reporter, reply })));
        match joined {
            Ok(Ok(swarm)) => Ok(Transfer::new(swarm, self.mailbox.clone(), events, snapshot)),
            Ok(Err(refused)) => Err(Refused::Loop(refused)),
            Err(NodeStopped) => Err(Refused::Stopped),
        }
    }

    /// Closes every transfer in order and ends the thread: state is saved, peers are told goodbye.
    ///
    /// Waits at most `grace` for the peers; a download that is being given its name is waited for in any case.
    pub fn shutdown(mut self, grace: Duration) -> ShutdownReport {
        self.end(grace)
    }

    fn end(&mut self, grace: Duration) -> ShutdownReport {
        let Some(thread) = self.thread.take() else { return ShutdownReport { drained: true } };
        // A loop that has ended already takes no command, and needs none.
        let _ = self.mailbox.send(Command::Shutdown { grace });
        ShutdownReport { drained: thread.join().unwrap_or(false) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Why a swarm was not joined.
enum Refused {
    Loop(JoinRefused),
    Stopped,
}

impl From<Refused> for FetchError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Loop(JoinRefused::Swarm(error)) => Self::Join(error),
            Refused::Loop(JoinRefused::Peer(error)) => Self::Peer(error),
            Refused::Stopped => Self::Stopped(NodeStopped),
        }
    }
}

/// Entropy for the endpoint: channel ids must not be guessable (RFC 7574 §12.1).
fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ() {
        let seeds: Vec<_> = (0..100).map(|_| seed().unwrap()).collect();
        for (index, one) in seeds.iter().enumerate() {
            assert!(seeds.iter().skip(index + 1).all(|other| other != one));
            assert!(one.chunks_exact(8).any(|word| word != &one[..8]));
        }
    }
}
