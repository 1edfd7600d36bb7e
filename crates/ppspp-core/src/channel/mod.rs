//! One peer in one swarm: its state, what is in flight to it and asked of it, and when something is due.
//!
//! A channel knows nothing of the content, other channels or the application; the swarm brings these together.

mod acks;
mod download;
mod flow;
mod inflight;
mod outgoing;
mod pending;
mod rate;
mod run;
mod service;
mod spread;
mod state;
mod upload;
mod withheld;

pub(crate) use acks::Arrival;
pub(crate) use download::Download;
pub(crate) use flow::Flow;
pub(crate) use outgoing::{Batch, Blocked, ChunkGroup, ChunkSource, Path, Writer};
pub(crate) use pending::PendingChunk;
pub(crate) use run::RunLength;
pub(crate) use service::{Service, Standing};
pub(crate) use spread::Spread;
pub(crate) use state::{Established, HalfOpen, Opening, Repeat, State, Unheard};
pub(crate) use upload::Upload;
pub(crate) use withheld::Withheld;

use alloc::boxed::Box;
use core::net::SocketAddr;
use core::time::Duration;

use crate::config::{EndpointConfig, PeerSource};
use crate::event::PeerId;
use crate::policy::{Place, Reserved};
use crate::stats::TransferStats;
use crate::time::Instant;
use crate::wire::ChannelId;

/// Datagrams that must have been sent in vain before silence means death (RFC 7574 §3.12).
const DEAD_AFTER_DATAGRAMS: u32 = 3;
/// Opening HANDSHAKEs sent to an address that another peer named.
const MAX_HEARSAY_OPENINGS: u32 = 3;
/// Datagrams that called for an answer in vain before the channel is opened anew (R11).
const REOPEN_AFTER_DATAGRAMS: u32 = 3;
/// Shortest silence before the channel is opened anew, or four round trips (R11).
const MIN_REOPEN_SILENCE: Duration = Duration::from_secs(5);

/// A channel and its peer.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: PeerId,
    /// Our channel id: the prefix of every datagram from the peer.
    pub(crate) local: ChannelId,
    pub(crate) address: SocketAddr,
    pub(crate) source: PeerSource,
    /// Whether we opened it.
    pub(crate) initiator: bool,
    pub(crate) state: State,
    pub(crate) stats: TransferStats,
    /// Largest UDP payload that needs no fragmentation on the way to the peer.
    pub(crate) mtu: u16,
    pub(crate) last_received: Instant,
    pub(crate) last_sent: Instant,
    /// Datagrams sent since one was last received.
    sent_in_vain: u32,
    /// Datagrams with DATA or REQUEST among them.
    unanswered: u32,
    /// A successor was opened because the peer fell silent.
    pub(crate) reopened: bool,
    /// Whether the channel waits in the ready queue.
    pub(crate) queued: bool,
    pub(crate) ration: Ration,
    /// Where it stands among those with DATA to send.
    pub(crate) turn: Option<Place>,
    /// The deadline the timer queue knows.
    pub(crate) armed: Option<Instant>,
}

/// How a channel stands with the download limits.
#[derive(Debug, Default)]
pub(crate) struct Ration {
    /// Whether it waits in line to ask for more.
    pub(crate) hungry: bool,
    /// Whether it brought nothing, and it is its turn to be tried.
    pub(crate) called: bool,
    /// Bytes counted for what it was asked for and has not brought yet.
    pub(crate) reserved: Reserved,
}

/// What became due on a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Nothing that concerns others.
    Nothing,
    /// The peer is dead (§3.12), or never proved its address.
    Dead,
    /// The peer answers almost nothing that it is asked for.
    Useless,
    /// The peer fell silent: a new channel may get through (R11).
    Reopen,
}

impl Channel {
    pub(crate) fn new(
        id: PeerId,
        local: ChannelId,
        address: SocketAddr,
        source: PeerSource,
        state: State,
        config: &EndpointConfig,
        now: Instant,
    ) -> Self {
        let initiator = matches!(state, State::Opening(_));
        let mtu = if address.is_ipv4() { config.mtu_v4 } else { config.mtu_v6 }.max(EndpointConfig::MIN_MTU);
        Self {
            id,
            local,
            address,
            source,
            initiator,
            state,
            stats: TransferStats::default(),
            mtu,
            last_received: now,
            last_sent: now,
            sent_in_vain: 0,
            unanswered: 0,
            reopened: false,
            queued: false,
            ration: Ration::default(),
            turn: None,
            armed: None,
        }
    }

    /// The established state.
    pub(crate) fn established(&self) -> Option<&Established> {
        match &self.state {
            State::Established(established) => Some(established),
            _ => None,
        }
    }

    /// The established state, to change it.
    pub(crate) fn established_mut(&mut self) -> Option<&mut Established> {
        match &mut self.state {
            State::Established(established) => Some(established),
            _ => None,
        }
    }

    /// Our opening that waits for its reply.
    pub(crate) fn opening(&self) -> Option<&Opening> {
        match &self.state {
            State::Opening(opening) => Some(opening),
            State::HalfOpen(half_open) => half_open.ours.as_ref(),
            _ => None,
        }
    }

    /// Our opening that waits for its reply, to change it.
    pub(crate) fn opening_mut(&mut self) -> Option<&mut Opening> {
        match &mut self.state {
            State::Opening(opening) => Some(opening),
            State::HalfOpen(half_open) => half_open.ours.as_mut(),
            _ => None,
        }
    }

    /// Notes that a datagram arrived.
    pub(crate) fn on_received(&mut self, now: Instant) {
        if let Some(established) = self.established_mut() {
            established.unheard = None;
        }
        self.last_received = now;
        self.sent_in_vain = 0;
        self.unanswered = 0;
    }

    /// Notes that `datagrams` leave; `calling` if they call for an answer.
    pub(crate) fn on_sent(&mut self, now: Instant, datagrams: usize, calling: bool) {
        self.last_sent = now;
        let datagrams = u32::try_from(datagrams).unwrap_or(u32::MAX);
        self.sent_in_vain = self.sent_in_vain.saturating_add(datagrams);
        if calling {
            self.unanswered = self.unanswered.saturating_add(datagrams);
        }
    }

    /// There was no room for a successor: one is tried when as much was sent in vain again.
    pub(crate) const fn put_off_reopening(&mut self) {
        self.unanswered = 0;
    }

    /// When something is due next.
    pub(crate) fn deadline(&self, config: &EndpointConfig) -> Instant {
        match &self.state {
            State::Opening(opening) => opening.next_at.min(self.dead_at(config)),
            State::HalfOpen(half_open) => match &half_open.ours {
                Some(opening) => opening.next_at.min(self.dead_at(config)),
                None => half_open.deadline(),
            },
            State::Established(established) => {
                let timers = [
                    self.reopen_at(established),
                    established.announce_at,
                    established.service.as_ref().and_then(|service| service.tell_at()),
                    established.unheard.map(|unheard| unheard.at),
                    established.repeat.map(|repeat| repeat.at),
                    match established.blocked {
                        Blocked::Until(at) => Some(at),
                        _ => None,
                    },
                    established.upload.as_ref().and_then(|upload| upload.congestion_deadline()),
                    established.upload.as_ref().and_then(|upload| upload.probe_deadline()),
                    established.download.as_ref().and_then(|download| download.acks.due()),
                    established.download.as_ref().and_then(|download| download.request_deadline(established.srtt())),
                    established
                        .download
                        .as_ref()
                        .and_then(|download| download.pending_deadline(established.pending_life())),
                ];
                let always = self.keep_alive_at(config).min(self.dead_at(config));
                timers.into_iter().flatten().fold(always, Instant::min)
            }
            State::Closing(_) | State::Closed => Instant::ZERO,
        }
    }

    /// Acts on deadlines that concern this channel alone, and names the others.
    pub(crate) fn on_timeout(&mut self, now: Instant, config: &EndpointConfig) -> Due {
        // RFC 7574 §12.2.1: who was merely named by another may be a victim, and an opening from there forged.
        let last = self.opening().filter(|opening| opening.attempts >= MAX_HEARSAY_OPENINGS);
        let last = last.filter(|_| self.source == PeerSource::Exchange);
        let dead = match &self.state {
            State::HalfOpen(half_open) if half_open.ours.is_none() => half_open.deadline() <= now,
            _ => match last {
                Some(last) => last.next_at <= now,
                None => self.dead_at(config) <= now && self.sent_in_vain >= DEAD_AFTER_DATAGRAMS,
            },
        };
        if dead {
            return Due::Dead;
        }
        let keep_alive_at = self.keep_alive_at(config);
        let State::Established(established) = &mut self.state else { return Due::Nothing };
        if let Some(upload) = &mut established.upload {
            upload.on_timeout(now);
        }
        let life = established.pending_life();
        if let Some(download) = &mut established.download {
            download.expire(now, life);
        }
        if keep_alive_at <= now {
            established.rest(now, config);
        }
        let reopen = self.established().and_then(|established| self.reopen_at(established));
        if reopen.is_some_and(|at| at <= now) { Due::Reopen } else { Due::Nothing }
    }

    /// When a keep-alive is due (RFC 7574 §3.12, R12).
    pub(crate) fn keep_alive_at(&self, config: &EndpointConfig) -> Instant {
        self.last_sent + config.keep_alive.clamp(EndpointConfig::MIN_KEEP_ALIVE, EndpointConfig::MAX_KEEP_ALIVE)
    }

    /// When the peer is dead if it stays silent and enough was sent to it; moves on until then.
    fn dead_at(&self, config: &EndpointConfig) -> Instant {
        let at = self.last_received + config.dead_after.max(EndpointConfig::MIN_DEAD_AFTER);
        if self.sent_in_vain < DEAD_AFTER_DATAGRAMS { at.max(self.keep_alive_at(config)) } else { at }
    }

    /// When the initiator opens a new channel for want of answers (R11).
    fn reopen_at(&self, established: &Established) -> Option<Instant> {
        if !self.initiator || self.reopened || self.unanswered < REOPEN_AFTER_DATAGRAMS {
            return None;
        }
        Some(self.last_received + MIN_REOPEN_SILENCE.max(4 * established.srtt()))
    }
}

impl Established {
    /// Frees what a channel that carries only keep-alives does not need. What is known of the path stays as long as the
    /// base history of its congestion control remembers anything (R25).
    fn rest(&mut self, now: Instant, config: &EndpointConfig) {
        if let Some(upload) = self.upload.take_if(|upload| upload.is_idle()) {
            self.rtt = upload.flow.rtt.srtt().or(self.rtt);
            self.flow = Some(Box::new(upload.flow));
        }
        self.flow.take_if(|flow| flow.is_stale(now, config));
        if self.download.as_ref().is_some_and(|download| download.is_idle()) {
            self.download = None;
        }
        self.withheld.take_if(|withheld| withheld.announced().is_none());
    }

    /// The sending half, made when the peer asks, from what is remembered of the path if anything is.
    pub(crate) fn upload_mut(&mut self, config: &EndpointConfig, mss: u32, now: Instant) -> &mut Upload {
        let (flow, rtt) = (&mut self.flow, self.rtt);
        self.upload.get_or_insert_with(|| {
            let flow = flow.take().map_or_else(|| Flow::new(config, mss, rtt, now), |flow| *flow);
            Box::new(Upload::new(flow))
        })
    }

    /// What congestion control knows of the path, once anything was asked for.
    pub(crate) fn flow(&self) -> Option<&Flow> {
        self.upload.as_deref().map(|upload| &upload.flow).or(self.flow.as_deref())
    }

    /// The path carries segments of `mss` bytes.
    pub(crate) fn set_mss(&mut self, mss: u32) {
        if let Some(flow) = self.upload.as_deref_mut().map(|upload| &mut upload.flow).or(self.flow.as_deref_mut()) {
            flow.set_mss(mss);
        }
    }

    /// How long a chunk waits for its hashes: one round trip, with some slack for scheduling (R17).
    fn pending_life(&self) -> Duration {
        self.srtt() + Duration::from_millis(50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::PeerMap;
    use crate::chunk::{ChunkRange, ChunkSize};
    use crate::negotiation::Session;
    use core::mem::size_of;

    const MSS: u32 = 1200;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1_000_000 + millis * 1000)
    }

    fn established() -> Established {
        let session = Session { older: false, messages: crate::negotiation::supported_messages(false) };
        Established::new(ChannelId::new(7), session, PeerMap::new(), Some(Duration::from_millis(80)))
    }

    /// Sends a chunk, and has it acknowledged after 20 ms if `acknowledged`.
    fn serve(established: &mut Established, config: &EndpointConfig, now: Instant, acknowledged: bool) {
        let mut spread = Spread::default();
        let upload = established.upload_mut(config, MSS, now);
        upload.on_request(ChunkRange::new(0, 1), 8);
        upload.plan(&mut spread, RunLength::new(ChunkSize::DEFAULT, 128), false, |_| true);
        let next = upload.next().expect("a chunk was asked for");
        upload.on_sent(next, MSS, now);
        if acknowledged {
            upload.on_ack(ChunkRange::new(0, 1), 500);
            upload.finish_acks(now + Duration::from_millis(20));
        }
    }

    #[test]
    fn an_upload_leaves_what_it_learnt_of_the_path() {
        let config = EndpointConfig::default();
        let mut established = established();
        serve(&mut established, &config, at(0), true);
        let srtt = established.srtt();
        let window = established.flow().map(|flow| flow.controller.window());
        assert!(srtt < Duration::from_millis(80) && window.is_some());
        established.rest(at(3000), &config);
        assert!(established.upload.is_none(), "nothing is asked for and nothing flies");
        assert_eq!((established.srtt(), established.flow().map(|flow| flow.controller.window())), (srtt, window));
        let upload = established.upload_mut(&config, MSS, at(4000));
        assert_eq!((upload.flow.rtt.srtt(), Some(upload.flow.controller.window())), (Some(srtt), window));
    }

    #[test]
    fn an_upload_stays_while_a_chunk_flies() {
        let config = EndpointConfig::default();
        let mut established = established();
        serve(&mut established, &config, at(0), false);
        established.rest(at(900_000), &config);
        assert!(established.upload.is_some());
    }

    #[test]
    fn r25_what_was_learnt_goes_with_the_base_history() {
        let config = EndpointConfig::default();
        let mut established = established();
        serve(&mut established, &config, at(0), true);
        let srtt = established.srtt();
        let minutes = u64::from(config.congestion.base_history) + 1;
        established.rest(at(60_000 * minutes), &config);
        assert!(established.flow().is_some(), "acknowledged 20 ms later");
        established.rest(at(60_000 * minutes + 20), &config);
        assert!(established.flow().is_none());
        assert_eq!(established.srtt(), srtt);
    }

    #[test]
    fn a_path_that_changes_while_idle_counts_when_the_peer_asks_again() {
        let config = EndpointConfig::default();
        let mut established = established();
        serve(&mut established, &config, at(0), true);
        established.rest(at(1000), &config);
        established.set_mss(60_000);
        assert!(established.flow().is_some_and(|flow| flow.controller.window() >= 60_000));
    }

    /// The budget is 2 KiB; half of it is for the controller, the base delays and what the peer has.
    #[test]
    fn an_idle_channel_is_small() {
        let sizes = [size_of::<Channel>(), size_of::<Established>(), size_of::<Flow>(), size_of::<Service>()];
        assert!(sizes.iter().sum::<usize>() <= 1024, "{sizes:?}");
    }
}
