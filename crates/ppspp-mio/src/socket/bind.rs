//! Opening the sockets of a node: which address, which port, how large the kernel's buffers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;

use crate::file::{FileProblem, is_out_of_files};

/// The port a node listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 6778;

/// The address a node listens on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Listen {
    /// `[::]:6778`, IPv4 included, or `0.0.0.0:6778` where there is no IPv6; another port if 6778 is taken.
    #[default]
    Default,
    /// Exactly this address. Port 0 means any free port; a taken port is an error. `[::]` includes IPv4 where the
    /// system allows it.
    Address(SocketAddr),
}

/// A socket that cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the port.
    #[error("port {} of {} is in use; choose another port or stop the program that has it", .0.port(), .0.ip())]
    PortInUse(SocketAddr),
    /// The address belongs to another machine.
    #[error("{0} is not an address of this machine; listen on one of its addresses or on [::]")]
    NotOurs(SocketAddr),
    /// The port is reserved for privileged users.
    #[error("port {} may not be opened by this user; choose one above 1023", .0.port())]
    Denied(SocketAddr),
    /// This process, or the whole system, has as many files and sockets open as it may.
    #[error("cannot listen on {0}: {problem}", problem = FileProblem::TooManyOpen)]
    TooManyOpen(SocketAddr),
    /// The system refused for another reason.
    #[error("cannot listen on {address}: {reason}")]
    Failed {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
}

impl BindError {
    pub(super) fn new(address: SocketAddr, reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NotOurs(address),
            io::ErrorKind::PermissionDenied => Self::Denied(address),
            _ if is_out_of_files(&reason) => Self::TooManyOpen(address),
            _ => Self::Failed { address, reason },
        }
    }
}

/// The bound sockets of one address.
#[derive(Debug)]
pub(super) struct Bound {
    /// Receives; sends as well if `sender` is absent.
    pub(super) receiver: UdpSocket,
    /// Sends, on the same port.
    pub(super) sender: Option<UdpSocket>,
    /// The address both are bound to.
    pub(super) local: SocketAddr,
    /// The default port, if it was taken so that another had to do.
    pub(super) taken: Option<u16>,
}

/// Opens what `listen` asks for.
pub(super) fn bind(listen: Listen) -> Result<Bound, BindError> {
    match listen {
        Listen::Address(address) => bind_pair(address),
        Listen::Default => {
            let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
            match bind_or_any_port(v6) {
                Ok(bound) if !SockRef::from(&bound.receiver).only_v6().unwrap_or(true) => Ok(bound),
                Ok(_) => bind_or_any_port(v4),
                Err(error) => {
                    tracing::debug!(%error, "no IPv6 socket, trying IPv4");
                    bind_or_any_port(v4)
                }
            }
        }
    }
}

fn bind_or_any_port(address: SocketAddr) -> Result<Bound, BindError> {
    match bind_pair(address) {
        Err(BindError::PortInUse(_)) => {
            let bound = bind_pair(SocketAddr::new(address.ip(), 0))?;
            Ok(Bound { taken: Some(address.port()), ..bound })
        }
        other => other,
    }
}

/// Two sockets on one port where the system hands datagrams to the one bound last (Linux), one elsewhere.
///
/// The receiver needs GRO, which `quinn-udp` only switches on together with DF; the sender must leave DF to the kernel,
/// or chunks larger than the path MTU are lost without a word (R3).
fn bind_pair(address: SocketAddr) -> Result<Bound, BindError> {
    let failed = |source| BindError::new(address, source);
    let first = open(address).map_err(failed)?;
    // The first bind is exclusive: it alone tells whether the port is free.
    first.bind(&address.into()).map_err(failed)?;
    let first = UdpSocket::from(first);
    let local = first.local_addr().map_err(failed)?;
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return Ok(Bound { receiver: first, sender: None, local, taken: None });
    }
    match share_port(&first, local) {
        Ok(second) => Ok(Bound { receiver: second, sender: Some(first), local, taken: None }),
        Err(error) => {
            tracing::debug!(%error, %local, "no second socket on the port, sending and receiving with one");
            Ok(Bound { receiver: first, sender: None, local, taken: None })
        }
    }
}

/// A second socket on the port of `first`; afterwards the port is exclusive again.
fn share_port(first: &UdpSocket, local: SocketAddr) -> io::Result<UdpSocket> {
    let first = SockRef::from(first);
    first.set_reuse_address(true)?;
    let second = open(local).and_then(|second| {
        second.set_reuse_address(true)?;
        second.bind(&local.into())?;
        second.set_reuse_address(false)?;
        Ok(second)
    });
    first.set_reuse_address(false)?;
    Ok(UdpSocket::from(second?))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6()
        && address.ip().is_unspecified()
        && let Err(error) = socket.set_only_v6(false)
    {
        tracing::debug!(%error, "this system has no dual-stack sockets");
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Asks for buffers of `bytes` and returns what was granted for receiving and sending, in bytes.
///
/// A system limit may grant less (Linux: `net.core.rmem_max` and `net.core.wmem_max`).
pub(super) fn ask_for_buffers(bound: &Bound, bytes: usize) -> (usize, usize) {
    let receiver = SockRef::from(&bound.receiver);
    let sender = SockRef::from(bound.sender.as_ref().unwrap_or(&bound.receiver));
    if let Err(error) = receiver.set_recv_buffer_size(bytes) {
        tracing::debug!(%error, bytes, "receive buffer refused");
    }
    if let Err(error) = sender.set_send_buffer_size(bytes) {
        tracing::debug!(%error, bytes, "send buffer refused");
    }
    let granted = |reported: io::Result<usize>| {
        // Linux reports twice what was asked for: it counts its own bookkeeping in.
        let share = if cfg!(any(target_os = "linux", target_os = "android")) { 2 } else { 1 };
        reported.unwrap_or(0) / share
    };
    (granted(receiver.recv_buffer_size()), granted(sender.send_buffer_size()))
}
