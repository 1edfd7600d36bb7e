//! The states of a channel, from the first HANDSHAKE to the last (RFC 7574 §3.1.1).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::availability::PeerMap;
use crate::channel::download::{Download, MARGIN};
use crate::channel::flow::Flow;
use crate::channel::outgoing::Blocked;
use crate::channel::service::{Service, Standing};
use crate::channel::upload::Upload;
use crate::channel::withheld::Withheld;
use crate::chunk::{ChunkRange, RangeSet};
use crate::negotiation::Session;
use crate::pex::Dialogue;
use crate::policy::Conduct;
use crate::time::Instant;
use crate::wire::{ChannelId, WireError};

/// First wait before an unanswered opening HANDSHAKE is repeated; doubles up to [`MAX_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Longest wait before an unanswered opening HANDSHAKE is repeated.
const MAX_RETRY: Duration = Duration::from_secs(8);
/// How long an unproven channel is kept.
const HALF_OPEN_LIFE: Duration = Duration::from_secs(30);
/// Wait before an announcement is repeated to a peer that asks for nothing; grows fourfold up to [`MAX_REPEAT`].
const FIRST_REPEAT: Duration = Duration::from_secs(2);
/// Longest wait before an announcement is repeated; then it is not.
const MAX_REPEAT: Duration = Duration::from_secs(32);

/// Where a channel stands.
#[derive(Debug)]
pub(crate) enum State {
    /// We sent a HANDSHAKE and wait for the reply.
    Opening(Opening),
    /// We replied to a HANDSHAKE; the peer's address is not proven.
    HalfOpen(Box<HalfOpen>),
    /// Both addresses are proven.
    Established(Box<Established>),
    /// A closing HANDSHAKE is to be sent to that channel, then the channel goes.
    Closing(ChannelId),
    /// Nothing is left to do.
    Closed,
}

/// Step 1 is done; steps 3 to 5 follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Datagrams sent so far.
    pub(crate) attempts: u32,
    /// When the first left: with a single one, the reply tells the round-trip time.
    pub(crate) sent_at: Instant,
    /// When the next leaves.
    pub(crate) next_at: Instant,
}

impl Opening {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { attempts: 0, sent_at: now, next_at: now }
    }

    /// Lets a HANDSHAKE leave if one is due, and returns how many left before it.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<u32> {
        if self.next_at > now {
            return None;
        }
        let attempt = self.attempts;
        let wait = (FIRST_RETRY * (1 << self.attempts.min(8))).min(MAX_RETRY);
        if self.attempts == 0 {
            self.sent_at = now;
        }
        self.attempts += 1;
        self.next_at = now + wait;
        Some(attempt)
    }

    /// The round-trip time, unless a repeat makes it ambiguous.
    pub(crate) fn rtt(&self, now: Instant) -> Option<Duration> {
        (self.attempts == 1).then(|| now - self.sent_at)
    }
}

/// Step 2 is done; step 7 follows. There is no timer: only a repeated HANDSHAKE repeats the reply (R8).
#[derive(Debug)]
pub(crate) struct HalfOpen {
    /// The peer's channel id.
    pub(crate) remote: ChannelId,
    pub(crate) session: Session,
    /// What the peer said it has, in datagram 1.
    pub(crate) have: PeerMap,
    /// The reply, to be repeated as it is.
    pub(crate) reply: Vec<u8>,
    /// Whether the reply is to be sent (again).
    pub(crate) reply_due: bool,
    /// Payload bytes received from and sent to the unproven address.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) opened_at: Instant,
    /// When the reply first left.
    pub(crate) replied_at: Option<Instant>,
    /// Our own opening to the same address, which goes on until either is answered (R9): the other one may be forged.
    pub(crate) ours: Option<Opening>,
}

impl HalfOpen {
    /// Counts a (repeated) HANDSHAKE of `bytes`, and lets it be answered if that stays within what was received.
    pub(crate) fn on_handshake(&mut self, bytes: usize) {
        self.received += bytes as u64;
        self.reply_due = self.sent + self.reply.len() as u64 <= self.received;
    }

    /// When the channel is given up.
    pub(crate) fn deadline(&self) -> Instant {
        self.opened_at + HALF_OPEN_LIFE
    }
}

/// When our first announcement is repeated. HAVE is not acknowledged, and a peer that missed it asks for nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unheard {
    pub(crate) at: Instant,
    wait: Duration,
}

impl Unheard {
    pub(crate) fn new(now: Instant) -> Self {
        Self { at: now + FIRST_RETRY, wait: FIRST_RETRY }
    }

    /// The time after this one; ever later, and then never.
    pub(crate) fn next(self, now: Instant) -> Option<Self> {
        let wait = 2 * self.wait;
        (wait <= MAX_RETRY).then(|| Self { at: now + wait, wait })
    }
}

/// When what the peer lacks is announced again. It may have missed it, and asks for nothing therefore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeat {
    pub(crate) at: Instant,
    wait: Duration,
}

impl Repeat {
    pub(crate) fn new(now: Instant) -> Self {
        Self { at: now + FIRST_REPEAT, wait: FIRST_REPEAT }
    }

    /// The time after this one; ever later, and then never.
    pub(crate) fn next(self, now: Instant) -> Option<Self> {
        let wait = 4 * self.wait;
        (wait <= MAX_REPEAT).then(|| Self { at: now + wait, wait })
    }
}

/// The handshake is complete; chunks may flow both ways.
#[derive(Debug)]
pub(crate) struct Established {
    /// The peer's channel id: the prefix of every datagram to it.
    pub(crate) remote: ChannelId,
    pub(crate) session: Session,
    /// What the peer announced with HAVE, and does not withhold.
    pub(crate) have: PeerMap,
    /// What the peer acknowledged: it knows the hashes around it.
    pub(crate) acked: PeerMap,
    /// What the peer asks for and is sent.
    pub(crate) upload: Option<Box<Upload>>,
    /// What the last upload left, until there is another.
    pub(crate) flow: Option<Box<Flow>>,
    pub(crate) download: Option<Box<Download>>,
    /// Stored chunks to announce.
    pub(crate) announce: RangeSet,
    pub(crate) announce_at: Option<Instant>,
    /// We opened the channel and have not heard from the peer since it stands.
    pub(crate) unheard: Option<Unheard>,
    /// The peer asks for nothing, and lacks something that we have.
    pub(crate) repeat: Option<Repeat>,
    /// The peer does not serve us at present (§3.9).
    pub(crate) choked: bool,
    /// What the peer is granted, once it has asked.
    pub(crate) service: Option<Box<Service>>,
    /// Something must leave now, if only a keep-alive (§12.1.2).
    pub(crate) answer_due: bool,
    /// Round-trip time of the handshake.
    pub(crate) rtt: Option<Duration>,
    /// What keeps DATA from leaving.
    pub(crate) blocked: Blocked,
    /// Datagrams with messages that did not decode, and the last reason.
    pub(crate) undecodable: Option<(u32, WireError)>,
    /// Addresses asked for and told, once there were any.
    pub(crate) dialogue: Option<Box<Dialogue>>,
    /// What speaks against the peer, once there is anything.
    pub(crate) conduct: Option<Box<Conduct>>,
    /// What the peer announced and does not deliver, once there is anything.
    pub(crate) withheld: Option<Box<Withheld>>,
}

impl Established {
    pub(crate) fn new(remote: ChannelId, session: Session, have: PeerMap, rtt: Option<Duration>) -> Self {
        Self {
            remote,
            session,
            have,
            acked: PeerMap::new(),
            upload: None,
            flow: None,
            download: None,
            announce: RangeSet::new(),
            announce_at: None,
            unheard: None,
            repeat: None,
            choked: false,
            service: None,
            answer_due: false,
            rtt,
            blocked: Blocked::Idle,
            undecodable: None,
            dialogue: None,
            conduct: None,
            withheld: None,
        }
    }

    /// Whether we refuse the peer's requests at present.
    pub(crate) fn is_choked_by_us(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.standing == Standing::Choked)
    }

    /// What the peer announced with HAVE, whether it delivers it or not.
    pub(crate) fn announced(&self) -> &PeerMap {
        let withheld = self.withheld.as_ref().and_then(|withheld| withheld.announced());
        withheld.unwrap_or(&self.have)
    }

    /// Whether the peer has all of `chunks`, and none of them is about to be sent to it.
    pub(crate) fn needs_no_more(&self, chunks: ChunkRange) -> bool {
        let planned = |upload: &Upload| upload.is_planning(chunks);
        (self.acked.covers(chunks) || self.have.covers(chunks)) && !self.upload.as_deref().is_some_and(planned)
    }

    /// The round-trip time of what we send, or of the handshake unless that was repeated.
    pub(crate) fn measured_rtt(&self) -> Option<Duration> {
        self.upload.as_ref().and_then(|upload| upload.flow.rtt.srtt()).or(self.rtt)
    }

    /// The best estimate of the round-trip time: of what we send, or of the handshake, unless requests take much longer to be
    /// answered; two seconds at most. A peer that acknowledges late, or proves its address late, chooses what it is.
    pub(crate) fn srtt(&self) -> Duration {
        let known = self.measured_rtt().unwrap_or(DEFAULT_RTT);
        let asked = self.download.as_ref().and_then(|download| download.round_trip());
        asked.filter(|&asked| asked > known + MARGIN).unwrap_or(known).min(MAX_WAIT)
    }
}

/// Round-trip time assumed until one is measured.
const DEFAULT_RTT: Duration = Duration::from_millis(100);
/// Longest round-trip time that a peer is waited for.
const MAX_WAIT: Duration = Duration::from_secs(2);
