//! The UDP socket of a node: batches in both directions, no error from the network is fatal.

mod address;
mod bind;

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::num::NonZeroUsize;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use ppspp_core::{BatchLimit, DatagramMeta, Transmit};
use quinn_udp::{RecvMeta, UdpSocketState};

pub use bind::{BindError, DEFAULT_PORT, Listen};

pub(crate) use address::to_core;
use address::to_socket;

/// Receive buffers per system call. Sixteen coalesced batches of 64 KiB are a megabyte: enough to empty a quarter of
/// the kernel's default 4 MiB at once, little enough to stay in the processor's cache.
const RECEIVE_BUFFERS: usize = 16;
/// Bytes of one receive buffer: the longest UDP datagram, which is also the most that GRO coalesces.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Most bytes handed to one GSO send: the longest IPv4 UDP payload.
const SEND_BYTES: usize = 65_507;
/// Receive errors in a row after which the socket counts as empty until the system reports it again: errors answer
/// datagrams sent before, so that a few in a row are normal, and more must not keep the loop busy.
const RECEIVE_ERRORS_IN_ROW: u32 = 16;

/// What the socket of a node met so far. The counters only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SocketStats {
    /// System calls that received something.
    pub receive_calls: u64,
    /// Receive errors, for instance an ICMP message about a datagram sent before. None is fatal.
    pub receive_errors: u64,
    /// System calls that sent something.
    pub send_calls: u64,
    /// Datagrams dropped because the system refused to send them (no route, too long, no buffer, a firewall).
    pub send_errors: u64,
    /// Times the kernel's send buffer was full.
    pub send_blocked: u64,
    /// Batches sent datagram by datagram because the system refused to segment them.
    pub segmentation_refused: u64,
}

/// Where and how a batch leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outgoing {
    /// The peer.
    pub(crate) destination: SocketAddr,
    /// Our address to send from, if that matters.
    pub(crate) source: Option<IpAddr>,
    /// Bytes of each datagram but the last; `None` for a single one.
    pub(crate) segment: Option<NonZeroUsize>,
    /// Whether the datagram may exceed the path MTU.
    pub(crate) may_fragment: bool,
}

impl From<&Transmit> for Outgoing {
    fn from(transmit: &Transmit) -> Self {
        Self {
            destination: transmit.destination,
            source: transmit.source,
            segment: transmit.segment_size,
            may_fragment: transmit.may_fragment,
        }
    }
}

/// Whether a batch left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Sent {
    /// All of it left, or was dropped and counted.
    All,
    /// The kernel's buffer is full; so many bytes of the batch are done with.
    Blocked(usize),
}

/// What one call to [`Socket::receive`] brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    /// Datagrams handed over.
    pub(crate) datagrams: usize,
    /// Whether the kernel has nothing more for now.
    pub(crate) drained: bool,
}

/// The UDP socket of a node, or two of them on one port.
pub(crate) struct Socket {
    /// Receives, with GRO. Sends too where there is no `sender`.
    receiver: UdpSocket,
    /// Sends, and leaves it to the kernel whether to set DF (R3).
    sender: Option<UdpSocket>,
    state: UdpSocketState,
    /// Datagrams that one call may send, as far as the system segments; one if it does not. `state` counts too, but gives
    /// up at the first destination that is refused for whatever reason.
    segments: NonZeroUsize,
    /// The host to which a batch was refused last and left one by one. None since one left whole.
    refused: Option<IpAddr>,
    local: SocketAddr,
    /// Whether the socket's family is IPv6; then IPv4 peers are written as mapped addresses.
    ipv6: bool,
    buffers: (usize, usize),
    taken: Option<u16>,
    ring: Box<[u8]>,
    waiting: bool,
    errors_in_row: u32,
    stats: SocketStats,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("local", &self.local).field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Socket {
    /// Token of the receiving socket.
    pub(crate) const RECEIVER: Token = Token(0);
    /// Token of the sending socket, if it is another.
    pub(crate) const SENDER: Token = Token(1);

    /// Opens the sockets for `listen`, asking the kernel for buffers of `buffer_bytes` each way.
    pub(crate) fn open(listen: Listen, buffer_bytes: usize) -> Result<Self, BindError> {
        let bound = bind::bind(listen)?;
        let local = bound.local;
        let buffers = bind::ask_for_buffers(&bound, buffer_bytes);
        let failed = |source| BindError::new(local, source);
        let state = match &bound.sender {
            Some(_) => UdpSocketState::new((&bound.receiver).into()),
            // What `new` sets on a socket includes DF; a socket that also sends must not have it (R3).
            None => {
                StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|scratch| UdpSocketState::new((&scratch).into()))
            }
        }
        .map_err(failed)?;
        tracing::info!(
            %local,
            receive_buffer = buffers.0,
            send_buffer = buffers.1,
            gso = state.max_gso_segments(),
            gro = state.gro_segments(),
            "listening"
        );
        if buffers.0.min(buffers.1) < buffer_bytes {
            tracing::info!(asked = buffer_bytes, "the system grants smaller socket buffers than asked for");
        }
        Ok(Self {
            receiver: UdpSocket::from_std(bound.receiver),
            sender: bound.sender.map(UdpSocket::from_std),
            segments: NonZeroUsize::new(state.max_gso_segments()).unwrap_or(NonZeroUsize::MIN),
            refused: None,
            state,
            local: to_core(local),
            ipv6: local.is_ipv6(),
            buffers,
            taken: bound.taken,
            ring: vec![0; RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            waiting: false,
            errors_in_row: 0,
            stats: SocketStats::default(),
        })
    }

    /// The address the socket is bound to.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Bytes of the kernel's receive and send buffers.
    pub(crate) fn buffers(&self) -> (usize, usize) {
        self.buffers
    }

    /// The default port, if it was taken.
    pub(crate) fn taken(&self) -> Option<u16> {
        self.taken
    }

    /// The counters.
    pub(crate) fn stats(&self) -> SocketStats {
        self.stats
    }

    /// Whether datagrams to `peer` can leave: an IPv4 socket reaches no IPv6 address, a socket bound to one family's
    /// address no other family.
    pub(crate) fn reaches(&self, peer: SocketAddr) -> bool {
        match (self.local, to_core(peer)) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => true,
            (SocketAddr::V6(local), SocketAddr::V4(_)) => local.ip().is_unspecified(),
            (SocketAddr::V4(_), SocketAddr::V6(_)) => false,
        }
    }

    /// How much one batch may hold.
    pub(crate) fn batch_limit(&self) -> BatchLimit {
        BatchLimit { datagrams: self.segments, bytes: SEND_BYTES }
    }

    /// Has `registry` report what arrives.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.receiver, Self::RECEIVER, Interest::READABLE)?;
        if let Some(sender) = &mut self.sender {
            // What arrived before the receiver was bound waits here.
            registry.register(sender, Self::SENDER, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Has `registry` report when the kernel's send buffer has room again, or stop reporting it.
    pub(crate) fn await_room(&mut self, registry: &Registry, waiting: bool) -> io::Result<()> {
        if self.waiting == waiting {
            return Ok(());
        }
        let interest = if waiting { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        match &mut self.sender {
            Some(sender) => registry.reregister(sender, Self::SENDER, interest)?,
            None => registry.reregister(&mut self.receiver, Self::RECEIVER, interest)?,
        }
        self.waiting = waiting;
        Ok(())
    }

    /// Hands the waiting datagrams of one system call to `each`: those that the kernel coalesced together, and how long
    /// each but the last of them is. `token` says which socket is asked.
    ///
    /// Errors are counted and logged; the next call goes on.
    pub(crate) fn receive(
        &mut self,
        token: Token,
        mut each: impl FnMut(DatagramMeta, &[u8], Option<NonZeroUsize>),
    ) -> Received {
        let socket = match (&self.sender, token) {
            (Some(sender), Self::SENDER) => sender,
            _ => &self.receiver,
        };
        let mut metas = [RecvMeta::default(); RECEIVE_BUFFERS];
        let mut ring = self.ring.chunks_exact_mut(RECEIVE_BUFFER_BYTES);
        let mut slices: [IoSliceMut<'_>; RECEIVE_BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(ring.next().unwrap_or_default()));
        let filled = match socket.try_io(|| self.state.recv(socket.into(), &mut slices, &mut metas)) {
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.errors_in_row = 0;
                return Received { datagrams: 0, drained: true };
            }
            Err(error) => {
                self.stats.receive_errors += 1;
                self.errors_in_row += 1;
                tracing::debug!(%error, "receive failed");
                let drained = self.errors_in_row >= RECEIVE_ERRORS_IN_ROW;
                if drained {
                    self.errors_in_row = 0;
                }
                return Received { datagrams: 0, drained };
            }
        };
        self.errors_in_row = 0;
        self.stats.receive_calls += 1;
        let mut datagrams = 0;
        for (meta, buffer) in metas.iter().zip(self.ring.chunks_exact(RECEIVE_BUFFER_BYTES)).take(filled) {
            let core_meta = DatagramMeta {
                remote: to_core(meta.addr),
                local: meta.dst_ip.map(|ip| ip.to_canonical()),
                ecn: meta.ecn.map(|ecn| ecn as u8),
            };
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            let segment = NonZeroUsize::new(meta.stride);
            datagrams += segment.map_or(1, |segment| bytes.len().div_ceil(segment.get()));
            each(core_meta, bytes, segment);
        }
        // recvmmsg stops early only where the next receive would block.
        let drained = cfg!(any(target_os = "linux", target_os = "android")) && filled < RECEIVE_BUFFERS;
        Received { datagrams, drained }
    }

    /// Sends `data`, the part of the batch that has not left yet.
    pub(crate) fn send(&mut self, batch: &Outgoing, data: &[u8]) -> Sent {
        let segment = batch.segment.map_or(data.len(), NonZeroUsize::get).max(1);
        let count = data.len().div_ceil(segment);
        let Some(destination) = to_socket(batch.destination, self.ipv6) else {
            self.stats.send_errors += count as u64;
            tracing::debug!(destination = %batch.destination, "no route: the socket is of the other family");
            return Sent::All;
        };
        // A socket bound to one address has no other to send from.
        let source = batch.source.filter(|_| self.local.ip().is_unspecified());
        let mut cannot_segment = false;
        if count > 1 && !batch.may_fragment && self.segments > NonZeroUsize::MIN {
            match self.send_once(destination, source, data, Some(segment)) {
                Ok(()) => {
                    self.refused = None;
                    return Sent::All;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.blocked(0),
                Err(error) => {
                    // The path MTU shrank below the segment, or an adapter cannot segment.
                    cannot_segment = is_no_segmentation(&error);
                    self.stats.segmentation_refused += 1;
                    tracing::debug!(%error, segment, count, %destination, "sending one by one");
                }
            }
        }
        for (index, datagram) in data.chunks(segment).enumerate() {
            match self.send_once(destination, source, datagram, None) {
                Ok(()) => {
                    if std::mem::take(&mut cannot_segment) {
                        self.on_refused(destination.ip());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.blocked(index * segment),
                Err(error) => {
                    self.stats.send_errors += 1;
                    tracing::debug!(%error, %destination, bytes = datagram.len(), "datagram dropped");
                }
            }
        }
        Sent::All
    }

    /// A batch to `host` left one by one, since it was refused as a whole. Of two hosts neither is to blame.
    fn on_refused(&mut self, host: IpAddr) {
        if self.refused.replace(host).is_some_and(|other| other != host) {
            self.segments = NonZeroUsize::MIN;
        }
    }

    fn blocked(&mut self, done: usize) -> Sent {
        self.stats.send_blocked += 1;
        Sent::Blocked(done)
    }

    fn send_once(
        &mut self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let socket = self.sender.as_ref().unwrap_or(&self.receiver);
        let transmit = quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip };
        socket.try_io(|| self.state.try_send(socket.into(), &transmit))?;
        self.stats.send_calls += 1;
        Ok(())
    }
}

/// Whether an adapter that cannot segment may be meant, which it stays.
fn is_no_segmentation(error: &io::Error) -> bool {
    // EIO and EINVAL of Linux. Both are said of a path that is too narrow or encrypted, too, and the latter of
    // destinations that nothing can be sent to.
    cfg!(any(target_os = "linux", target_os = "android")) && matches!(error.raw_os_error(), Some(5 | 22))
}

#[cfg(test)]
mod tests;
