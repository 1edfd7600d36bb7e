//! A UDP socket with the same batching and buffers as the product's.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::SockRef;

/// What is asked of the kernel for either direction, in bytes.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Longest UDP payload over IPv4, in bytes.
const MAX_PAYLOAD: usize = 65_507;
/// Silence after which the other side counts as gone: on loopback something was lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Socket events of one wait.
const EVENTS: usize = 8;

#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    poll: Poll,
    events: Events,
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Socket {
    pub(super) fn bind() -> Result<Self> {
        let mut io = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("cannot open a UDP socket")?;
        SockRef::from(&io).set_recv_buffer_size(SOCKET_BUFFER).context("cannot size the receive buffer")?;
        SockRef::from(&io).set_send_buffer_size(SOCKET_BUFFER).context("cannot size the send buffer")?;
        let state = UdpSocketState::new(UdpSockRef::from(&io)).context("cannot set the socket up for batches")?;
        let poll = Poll::new().context("cannot poll")?;
        poll.registry()
            .register(&mut io, Token(0), Interest::READABLE | Interest::WRITABLE)
            .context("cannot poll the socket")?;
        Ok(Self {
            io,
            state,
            poll,
            events: Events::with_capacity(EVENTS),
            buffers: vec![vec![0; MAX_PAYLOAD + 1]; BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
        })
    }

    pub(super) fn local_address(&self) -> Result<SocketAddr> {
        self.io.local_addr().context("the socket has no address")
    }

    /// Datagrams of `len` bytes that one system call may send.
    pub(super) fn batch_of(&self, len: usize) -> usize {
        self.state.max_gso_segments().min(MAX_PAYLOAD / len.max(1)).max(1)
    }

    /// Sends datagrams of `segment` bytes each, the last may be shorter.
    pub(super) fn send(&mut self, destination: SocketAddr, contents: &[u8], segment: usize) -> Result<()> {
        let transmit = Transmit { destination, ecn: None, contents, segment_size: Some(segment), src_ip: None };
        loop {
            match self.state.try_send(UdpSockRef::from(&self.io), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&mut self.poll, &mut self.events, Some(PATIENCE))?;
                }
                result => return result.context("cannot send"),
            }
        }
    }

    /// Waits up to `patience` for a datagram and hands what one system call brings to `take`.
    pub(super) fn receive(
        &mut self,
        patience: Option<Duration>,
        mut take: impl FnMut(SocketAddr, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut slices = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect::<Vec<_>>();
        let received = loop {
            match self.state.recv(UdpSockRef::from(&self.io), &mut slices, &mut self.metas) {
                Ok(received) => break received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot receive"),
            }
            wait_for(&mut self.poll, &mut self.events, patience)?;
        };
        for (buffer, meta) in self.buffers.iter().zip(&self.metas).take(received) {
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                take(meta.addr, datagram)?;
            }
        }
        Ok(())
    }
}

fn wait_for(poll: &mut Poll, events: &mut Events, patience: Option<Duration>) -> Result<()> {
    match poll.poll(events, patience) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error).context("cannot wait for the socket"),
        Ok(()) if events.is_empty() => bail!("the other side is silent: a datagram was lost, or the process is gone"),
        Ok(()) => Ok(()),
    }
}
