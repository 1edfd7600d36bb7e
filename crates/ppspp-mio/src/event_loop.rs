//! The loop: one thread that owns the socket, the endpoint and the files.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use mio::{Events, Poll, Token};
use ppspp_core::{Endpoint, Event, Instant, PeerSource, SwarmId};

use crate::clock::Clock;
use crate::command::{Command, Join, JoinRefused, Mailbox, NodeStats};
use crate::error::PeerError;
use crate::progress::{Reporter, TransferEvent};
use crate::socket::{Outgoing, Sent, Socket};
use crate::swarm::Swarm;

/// Token of the waker.
pub(crate) const WAKER: Token = Token(2);
/// Datagrams handed to the core before answers leave: half a megabyte of 1 KiB chunks, a millisecond of hashing.
const DATAGRAMS_PER_TURN: usize = 512;
/// Batches sent before the socket is read again: acknowledgements must not wait behind megabytes of content.
const BATCHES_PER_TURN: usize = 32;
/// Events answered before datagrams leave: reads are of 64 KiB, and hashed, so that these take some milliseconds.
const EVENTS_PER_ROUND: usize = 64;
/// Times that answering events and sending alternate in one turn: an answered read makes datagrams, sent datagrams
/// make room for reads.
const ROUNDS_PER_TURN: usize = 4;
/// Such rounds when a swarm is left: enough for the 4,096 events that may wait and what is handed out in the end.
const ROUNDS_AT_LEAVING: usize = 128;
/// When datagrams end a wait sooner, others may run before they are read. Where those who send share the processor, more
/// lies there afterwards: fewer turns, more chunks judged together. Where nobody else is ready it costs a system call.
const SHORT_WAIT: Duration = Duration::from_millis(10);
/// Time between two snapshots of a transfer.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);
/// How often events are offered again that an application has no room for.
const RETELL_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two checkpoints of a fetch: what a crash may cost to fetch again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
/// Longest UDP payload that leaves unfragmented to this machine itself, in bytes: its MTU, less the headers of IPv6 and
/// UDP. A machine with another one sends the datagrams that do not fit one by one and in fragments.
const LOOPBACK_PAYLOAD: u16 = if cfg!(any(target_os = "linux", target_os = "android")) { 65_488 } else { 16_336 };
/// Turns given to the goodbyes at the very end, when nothing is waited for any more.
const LAST_TURNS: usize = 512;

/// Whether more can be sent at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transmission {
    /// The core has nothing to send now.
    Idle,
    /// The core may have more.
    More,
    /// The kernel's buffer is full.
    Blocked,
}

/// A batch that the kernel had no room for: it lies in the send buffer from `done` on.
#[derive(Debug)]
struct Unsent {
    batch: Outgoing,
    done: usize,
}

/// Everything the loop's thread owns.
#[derive(Debug)]
pub(crate) struct EventLoop {
    poll: Poll,
    socket: Socket,
    clock: Clock,
    endpoint: Endpoint,
    commands: Receiver<Command>,
    mailbox: Mailbox,
    swarms: BTreeMap<SwarmId, Swarm>,
    /// Reporters of closed swarms whose last events still wait.
    parting: Vec<Reporter>,
    buffer: Vec<u8>,
    unsent: Option<Unsent>,
    receiver_ready: bool,
    sender_ready: bool,
    woken: bool,
    /// When snapshots are due; `None` while nothing moved since the last.
    publish_due: Option<Instant>,
    last_publish: Instant,
    /// When fetches are saved; `None` while nothing was stored since they were.
    checkpoint_due: Option<Instant>,
    /// Until when the loop goes on closing; `None` while it runs.
    closing_until: Option<Instant>,
}

impl EventLoop {
    /// A loop around `endpoint`; `socket` is registered with `poll`.
    pub(crate) fn new(
        mut socket: Socket,
        poll: Poll,
        clock: Clock,
        endpoint: Endpoint,
        commands: Receiver<Command>,
        mailbox: Mailbox,
    ) -> io::Result<Self> {
        socket.register(poll.registry())?;
        Ok(Self {
            poll,
            socket,
            clock,
            endpoint,
            commands,
            mailbox,
            swarms: BTreeMap::new(),
            parting: Vec::new(),
            buffer: Vec::new(),
            unsent: None,
            receiver_ready: true,
            sender_ready: true,
            woken: false,
            publish_due: None,
            last_publish: Instant::ZERO,
            checkpoint_due: None,
            closing_until: None,
        })
    }

    /// Runs until it is told to shut down. Returns whether every peer could be told goodbye.
    pub(crate) fn run(mut self) -> bool {
        let mut events = Events::with_capacity(8);
        let mut busy = true;
        loop {
            let timeout = if busy { Some(Duration::ZERO) } else { self.time_to_wait() };
            let waiting_since = (!busy).then(|| self.clock.now());
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the event loop cannot wait for the socket and ends");
                    break;
                }
            }
            for event in &events {
                match event.token() {
                    Socket::RECEIVER => {
                        self.receiver_ready |= event.is_readable() || event.is_error();
                        self.writable(event.is_writable());
                    }
                    Socket::SENDER => {
                        self.sender_ready |= event.is_readable() || event.is_error();
                        self.writable(event.is_writable());
                    }
                    _ => self.woken = true,
                }
            }
            let woken_soon = waiting_since.is_some_and(|since| self.clock.now() - since < SHORT_WAIT);
            if woken_soon && (self.receiver_ready || self.sender_ready) {
                thread::yield_now();
            }
            busy = self.turn();
            if self.is_finished() {
                break;
            }
        }
        self.end()
    }

    /// Everything there is to do now, within bounds. Returns whether there may be more at once.
    fn turn(&mut self) -> bool {
        if self.woken {
            self.woken = false;
            self.take_commands();
        }
        let more_to_receive = self.receive();
        let now = self.clock.now();
        if self.endpoint.poll_timeout().is_some_and(|due| due <= now) {
            self.endpoint.handle_timeout(now);
        }
        let mut busy = true;
        for _ in 0..ROUNDS_PER_TURN {
            // Events last: sending asks for reads, and a question left unanswered would wait for the next timer.
            let transmission = self.transmit();
            let answered = self.answer_events();
            if !answered {
                busy = transmission == Transmission::More;
                break;
            }
        }
        self.on_timers();
        busy || more_to_receive
    }

    fn writable(&mut self, writable: bool) {
        if !writable || self.unsent.is_none() {
            return;
        }
        if let Err(error) = self.socket.await_room(self.poll.registry(), false) {
            tracing::debug!(%error, "cannot change what the socket is watched for");
        }
        let Some(unsent) = self.unsent.take() else { return };
        self.send(unsent);
    }

    /// Hands waiting datagrams to the core. Returns whether there may be more.
    fn receive(&mut self) -> bool {
        let mut count = 0;
        for (token, ready) in [(Socket::SENDER, self.sender_ready), (Socket::RECEIVER, self.receiver_ready)] {
            let mut drained = !ready;
            while !drained && count < DATAGRAMS_PER_TURN {
                let endpoint = &mut self.endpoint;
                let now = self.clock.now();
                let received = self.socket.receive(token, |meta, payload, segment| {
                    endpoint.handle_datagrams(now, meta, payload, segment);
                });
                count += received.datagrams;
                drained = received.drained;
            }
            match token {
                Socket::SENDER => self.sender_ready = !drained,
                _ => self.receiver_ready = !drained,
            }
        }
        if count > 0 {
            self.something_moved();
        }
        self.sender_ready || self.receiver_ready
    }

    /// Sends what the core has.
    fn transmit(&mut self) -> Transmission {
        if self.unsent.is_some() {
            return Transmission::Blocked;
        }
        for _ in 0..BATCHES_PER_TURN {
            self.buffer.clear();
            let now = self.clock.now();
            let limit = self.socket.batch_limit();
            let Some(transmit) = self.endpoint.poll_transmit(now, limit, &mut self.buffer) else {
                return Transmission::Idle;
            };
            self.something_moved();
            if !self.send(Unsent { batch: Outgoing::from(&transmit), done: 0 }) {
                return Transmission::Blocked;
            }
        }
        Transmission::More
    }

    /// Sends the rest of a batch; whether all of it left.
    fn send(&mut self, mut unsent: Unsent) -> bool {
        let rest = self.buffer.get(unsent.done..).unwrap_or_default();
        match self.socket.send(&unsent.batch, rest) {
            Sent::All => true,
            Sent::Blocked(done) => {
                unsent.done += done;
                self.unsent = Some(unsent);
                if let Err(error) = self.socket.await_room(self.poll.registry(), true) {
                    // Without a report of room the batch would wait for ever; as lost datagrams its content is repaired.
                    tracing::warn!(%error, "cannot wait for room in the send buffer, dropping a batch");
                    self.unsent = None;
                    return true;
                }
                false
            }
        }
    }

    /// Answers what the core asks and passes on what it tells. Returns whether it said anything.
    fn answer_events(&mut self) -> bool {
        let now = self.clock.now();
        let mut count = 0;
        // The swarm whose chunks are being stored: adjacent ones come together and are confirmed together.
        let mut storing = None;
        while count < EVENTS_PER_ROUND
            && let Some(event) = self.endpoint.poll_event()
        {
            let stores = if let Event::Verified { swarm, .. } = &event { Some(*swarm) } else { None };
            if storing != stores {
                self.confirm(storing, now);
                storing = stores;
            }
            self.answer(event, now);
            count += 1;
        }
        self.confirm(storing, now);
        count > 0
    }

    /// Confirms what was stored of a swarm.
    fn confirm(&mut self, swarm: Option<SwarmId>, now: Instant) {
        if let Some(state) = swarm.and_then(|swarm| self.swarms.get_mut(&swarm)) {
            state.confirm(&mut self.endpoint, now);
        }
    }

    fn answer(&mut self, event: Event, now: Instant) {
        let endpoint = &mut self.endpoint;
        match event {
            Event::Verified { swarm, range, offset, data } => {
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.store(endpoint, range, offset, data, now);
                }
                self.something_stored(now);
            }
            Event::ReadNeeded { token, swarm, offset, len, .. } => match self.swarms.get_mut(&swarm) {
                Some(state) => state.read(endpoint, token, offset, len, now),
                None => endpoint.provide(token, Err(ppspp_core::ReadError), now),
            },
            Event::PeerConnected { peer, address } => {
                tracing::debug!(?peer, %address, "connected");
                if address.ip().is_loopback() {
                    endpoint.set_path_mtu(peer, LOOPBACK_PAYLOAD);
                }
                self.tell(peer.swarm(), TransferEvent::PeerConnected { address });
            }
            Event::PeerClosed { peer, address, reason } => {
                tracing::debug!(?peer, %address, %reason, "closed");
                self.tell(peer.swarm(), TransferEvent::PeerClosed { address, reason });
            }
            Event::SizeKnown { swarm, geometry } => {
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.size_known(endpoint, geometry, now);
                }
            }
            Event::ContentChanged { swarm, range } => {
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.content_changed(endpoint, range);
                }
                self.something_stored(now);
            }
            Event::Complete { swarm } => {
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.all_stored(endpoint, &self.mailbox, now);
                }
            }
            Event::SwarmClosed { swarm } => self.swarm_closed(swarm),
            // Snapshots are due whenever anything moves.
            _ => {}
        }
        self.something_moved();
    }

    fn tell(&mut self, swarm: SwarmId, event: TransferEvent) {
        if let Some(state) = self.swarms.get_mut(&swarm) {
            state.tell(event);
        }
    }

    fn swarm_closed(&mut self, swarm: SwarmId) {
        if self.swarms.get_mut(&swarm).is_some_and(Swarm::core_is_done) {
            self.remove(swarm);
        }
    }

    fn remove(&mut self, swarm: SwarmId) {
        if let Some(reporter) = self.swarms.remove(&swarm).and_then(Swarm::close) {
            self.parting.push(reporter);
        }
    }

    /// Snapshots will be due.
    fn something_moved(&mut self) {
        let due = self.last_publish + PUBLISH_INTERVAL;
        // What waits to be told again does not hold up the rest.
        self.publish_due = Some(self.publish_due.map_or(due, |set| set.min(due)));
    }

    /// Fetches will have to be saved.
    fn something_stored(&mut self, now: Instant) {
        self.checkpoint_due.get_or_insert(now + CHECKPOINT_INTERVAL);
    }

    /// Snapshots and checkpoints, if they are due.
    fn on_timers(&mut self) {
        let now = self.clock.now();
        if self.publish_due.is_some_and(|due| due <= now) {
            self.publish_due = None;
            self.last_publish = now;
            for swarm in self.swarms.values_mut() {
                swarm.refresh(&self.endpoint);
            }
            self.parting.retain_mut(|reporter| !reporter.flush());
            if !self.parting.is_empty() || self.swarms.values().any(Swarm::is_ahead) {
                self.publish_due = Some(now + RETELL_INTERVAL);
            }
        }
        if self.checkpoint_due.is_some_and(|due| due <= now) {
            self.checkpoint_due = None;
            for swarm in self.swarms.values_mut() {
                swarm.save(&mut self.endpoint);
            }
        }
    }

    fn time_to_wait(&self) -> Option<Duration> {
        let own = [self.publish_due, self.checkpoint_due, self.closing_until];
        let due = own.into_iter().flatten().chain(self.endpoint.poll_timeout()).min()?;
        Some(due.saturating_since(self.clock.now()))
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Join(join) => self.join(*join, now),
            Command::AddPeer { swarm, address } => {
                if let Err(error) = self.add_peer(swarm, address, now) {
                    tracing::warn!(%error, "peer not added");
                }
            }
            Command::Leave { swarm } => {
                self.endpoint.hand_out(swarm, now);
                self.store_the_rest();
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.save(&mut self.endpoint);
                    self.endpoint.leave(swarm, now);
                }
                self.store_the_rest();
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.save_and_close(&mut self.endpoint);
                }
            }
            Command::SetOrder { swarm, order } => {
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.set_order(&mut self.endpoint, order, now);
                }
            }
            Command::Advance { swarm, position } => {
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.advance(&mut self.endpoint, position, now);
                }
            }
            Command::Finished { swarm, result } => {
                if let Some(state) = self.swarms.get_mut(&swarm) {
                    state.finished(&mut self.endpoint, result, now);
                    if state.is_over() {
                        self.remove(swarm);
                    }
                }
            }
            Command::Peers { swarm, reply } => {
                let peers = self.endpoint.swarm(swarm).map(|view| view.peers().collect()).unwrap_or_default();
                // Whoever asked may have gone.
                let _ = reply.try_send(peers);
            }
            Command::NetworkChanged => self.endpoint.network_changed(now),
            Command::SetRates { scope, rates } => self.endpoint.set_rates(scope, rates, now),
            Command::Stats { reply } => {
                let stats = NodeStats { endpoint: self.endpoint.stats(), socket: self.socket.stats() };
                // Whoever asked may have gone.
                let _ = reply.try_send(stats);
            }
            Command::Shutdown { grace } => {
                self.closing_until = Some(now + grace);
                self.swarms.keys().for_each(|&swarm| self.endpoint.hand_out(swarm, now));
                self.store_the_rest();
                for swarm in self.swarms.values_mut() {
                    swarm.save(&mut self.endpoint);
                }
                self.endpoint.close(now);
                self.store_the_rest();
                for swarm in self.swarms.values_mut() {
                    swarm.save_and_close(&mut self.endpoint);
                }
            }
        }
        self.something_moved();
    }

    /// Stores what the core hands out when a swarm is left: verified bytes that it was still gathering. They come
    /// after the events that wait already.
    fn store_the_rest(&mut self) {
        for _ in 0..ROUNDS_AT_LEAVING {
            if !self.answer_events() {
                break;
            }
        }
    }

    fn join(&mut self, join: Join, now: Instant) {
        let Join { config, content, complete, peers, reporter, reply } = join;
        let needs_peers = complete.is_none();
        let joined = self.endpoint.join(config, now).map_err(JoinRefused::Swarm).and_then(|swarm| {
            self.swarms.insert(swarm, Swarm::new(swarm, content, reporter, complete));
            if let Err(error) = self.add_peers(swarm, peers, now)
                && needs_peers
            {
                self.swarms.remove(&swarm);
                self.endpoint.leave(swarm, now);
                return Err(JoinRefused::Peer(error));
            }
            if let Some(state) = self.swarms.get_mut(&swarm) {
                state.refresh(&self.endpoint);
            }
            Ok(swarm)
        });
        // Whoever asked may have gone; its handle is then dropped and leaves the swarm.
        let _ = reply.try_send(joined);
    }

    /// Adds those of `peers` that can be talked to; fails if none of them can.
    fn add_peers(&mut self, swarm: SwarmId, peers: Vec<SocketAddr>, now: Instant) -> Result<(), PeerError> {
        let (mut added, mut refused) = (false, None);
        for address in peers {
            match self.add_peer(swarm, address, now) {
                Ok(()) => added = true,
                Err(error) => {
                    tracing::warn!(%error, "peer not added");
                    refused.get_or_insert(error);
                }
            }
        }
        refused.filter(|_| !added).map_or(Ok(()), Err)
    }

    fn add_peer(&mut self, swarm: SwarmId, address: SocketAddr, now: Instant) -> Result<(), PeerError> {
        use ppspp_core::AddPeerError;

        let peer = crate::socket::to_core(address);
        if !self.socket.reaches(peer) {
            return Err(PeerError::Unreachable { peer, local: self.socket.local_address() });
        }
        match self.endpoint.add_peer(swarm, peer, PeerSource::Trusted, now) {
            Ok(_) | Err(AddPeerError::AlreadyKnown(_)) => Ok(()),
            Err(error) => Err(PeerError::Refused(error)),
        }
    }

    fn is_drained(&self) -> bool {
        self.endpoint.is_drained() && self.unsent.is_none()
    }

    fn is_finished(&self) -> bool {
        self.closing_until.is_some_and(|until| self.is_drained() || until <= self.clock.now())
    }

    /// Saves what was fetched, waits for files that are being finished, and sends the last reports.
    fn end(mut self) -> bool {
        for _ in 0..LAST_TURNS {
            self.answer_events();
            if self.transmit() != Transmission::More {
                break;
            }
        }
        let drained = self.is_drained();
        for swarm in self.swarms.values_mut() {
            swarm.save_and_close(&mut self.endpoint);
        }
        while self.swarms.values().any(Swarm::is_finishing) {
            let Ok(command) = self.commands.recv() else { break };
            if let Command::Finished { .. } = command {
                self.obey(command);
            }
        }
        while let Some((_, swarm)) = self.swarms.pop_first() {
            drop(swarm.close());
        }
        drained
    }
}
