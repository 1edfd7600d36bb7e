//! What one peer asked for, and how fast it may have it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::flow::Flow;
use crate::channel::inflight::{Acked, InFlight, LostChunk};
use crate::channel::run::{Run, RunLength, Stretch};
use crate::channel::spread::Spread;
use crate::chunk::{Bin, ChunkIndex, ChunkRange, RangeSet};
use crate::congestion::{AckEvent, DelaySample, INITIAL_CTO, LossEvent};
use crate::time::Instant;

/// How long a lost chunk is sent again without being asked for again, or four round trips (R16).
const MIN_REPAIR_TIME: Duration = Duration::from_millis(1500);
/// Longest a peer may delay an ACK, for the timing of a tail probe (R14).
const MAX_ACK_DELAY: Duration = Duration::from_millis(10);
/// Runs remembered of what comes first because it was asked for again.
const MAX_FIRST: usize = 256;
/// Chunks to repeat that are read ahead: what is lost together lies apart, in ruler order.
const REPEATS_AHEAD: usize = 64;
/// Runs looked at to find the one sent least often.
const PLAN_AHEAD: usize = 64;
/// Shortest wait before a tail probe.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_millis(20);
/// How often that wait is doubled, at most.
const MAX_PROBE_BACK_OFF: u32 = 6;

/// A chunk to send next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NextChunk {
    pub(crate) chunk: ChunkIndex,
    /// When it was sent first, if it is a repeat.
    pub(crate) first_sent_at: Option<Instant>,
}

/// The sending half of a channel, while anything is asked for or in flight.
#[derive(Debug)]
pub(crate) struct Upload {
    queue: VecDeque<ChunkRange>,
    run: Option<Run>,
    next_run: Option<Run>,
    /// Whether what is planned was looked up since it last changed.
    prepared: bool,
    /// Chunks that were asked for and turned out not to be there.
    absent: u64,
    /// What was planned for this peer before: asked for again it comes first, and an ACK may be for an earlier copy.
    planned: RangeSet,
    /// What it asks for although it waits already: it comes first as well.
    first: RangeSet,
    /// Groups that it seems to have lost the hashes of: HAVE says nothing of these, only ACK does.
    doubted: RangeSet,
    /// Groups that it asked for yet again: no ACK says anything of their hashes, in whatever group, until one of theirs.
    disproved: RangeSet,
    resend: VecDeque<LostChunk>,
    /// What was cancelled while something was in flight, which is not repaired then.
    cancelled: RangeSet,
    pub(crate) in_flight: InFlight,
    pub(crate) flow: Flow,
    /// Hashes that went ahead of a chunk because they do not fit into its datagram.
    pub(crate) ahead: Option<(ChunkIndex, Vec<Bin>)>,
    acked: Acked,
    /// What a draft-10 peer announced in the datagram at hand.
    announced: RangeSet,
    in_flight_before: u64,
    delay: Option<u64>,
    /// Whether sending last stopped for want of something to send.
    pub(crate) app_limited: bool,
    last_loss: Option<Instant>,
    probed: bool,
    /// Probes since a round trip was last measured: what is probed too early is never acknowledged without doubt (Karn).
    probes: u32,
    lost: Vec<LostChunk>,
    /// Bytes that were read for it and that it did not ask for, to be charged to its share (R2).
    pub(crate) owed: u64,
}

impl Upload {
    pub(crate) fn new(flow: Flow) -> Self {
        Self {
            queue: VecDeque::new(),
            run: None,
            next_run: None,
            prepared: false,
            absent: 0,
            planned: RangeSet::new(),
            first: RangeSet::new(),
            doubted: RangeSet::new(),
            disproved: RangeSet::new(),
            resend: VecDeque::new(),
            cancelled: RangeSet::new(),
            in_flight: InFlight::default(),
            flow,
            ahead: None,
            acked: Acked::default(),
            announced: RangeSet::new(),
            in_flight_before: 0,
            delay: None,
            app_limited: false,
            last_loss: None,
            probed: false,
            probes: 0,
            lost: Vec::new(),
            owed: 0,
        }
    }

    /// Queues what a REQUEST asks for, in order of arrival (RFC 7574 §3.7), at most `limit` ranges.
    ///
    /// What is queued already is not queued again; what is in flight is skipped when its turn comes (R16). Returns
    /// whether there was room for all of it.
    pub(crate) fn on_request(&mut self, range: ChunkRange, limit: usize) -> bool {
        let mut room = true;
        self.cancelled.remove(range);
        if self.cancelled.runs().len() > MAX_FIRST {
            // Requests that tear it apart.
            self.cancelled.clear();
        }
        let mut fresh = RangeSet::new();
        fresh.insert(range);
        for &queued in &self.queue {
            if fresh.remove(queued) > 0 {
                // Others may have had it, but this peer did not get it from them: it waits no longer for its turn.
                let _ = self.first.insert_bounded(queued.intersection(range), MAX_FIRST);
            }
        }
        for run in self.run.iter().chain(&self.next_run) {
            fresh.remove(run.rest());
        }
        for part in fresh.runs() {
            if let Some(last) = self.queue.back_mut()
                && last.end() == part.start()
            {
                *last = ChunkRange::new(last.start(), part.end());
            } else if self.queue.len() < limit {
                self.queue.push_back(part);
            } else {
                room = false;
            }
        }
        room
    }

    /// Whether any of `range` was planned for the peer before.
    pub(crate) fn was_planned(&self, range: ChunkRange) -> bool {
        self.planned.intersects(range)
    }

    /// Takes the peer to know the hashes within `groups` no longer, whatever it announced; when that is doubted already,
    /// nor any above, whatever it acknowledged: an ACK may have been mangled on its way, or be a lie.
    pub(crate) fn doubt(&mut self, groups: ChunkRange) {
        let set = if self.doubted.covers(groups) { &mut self.disproved } else { &mut self.doubted };
        if set.insert_bounded(groups, MAX_FIRST).is_err() {
            set.clear();
            set.insert(groups);
        }
    }

    /// Whether the peer is taken to know no hash that proves `chunk`.
    pub(crate) fn is_disproved(&self, chunk: ChunkIndex) -> bool {
        self.disproved.contains(chunk)
    }

    /// Whether nothing follows from an announcement of a chunk of `range`.
    pub(crate) fn is_doubted(&self, range: ChunkRange) -> bool {
        self.doubted.covers(range)
    }

    /// Drops `range` from what is to be sent: a CANCEL, or a HAVE that acts as one (§3.8, R18).
    ///
    /// At most `limit` ranges stay: what many small cancellations tear apart is asked for again.
    pub(crate) fn cancel(&mut self, range: ChunkRange, limit: usize) {
        if self.in_flight.chunks() > 0 && self.cancelled.insert_bounded(range, MAX_FIRST).is_err() {
            self.cancelled.clear();
            self.cancelled.insert(range);
        }
        if range.is_empty() || !self.has_requests() {
            return;
        }
        self.resend.retain(|lost| !range.contains(lost.chunk));
        for run in self.run.iter_mut().chain(&mut self.next_run) {
            run.cancel(range);
        }
        if self.queue.iter().any(|queued| queued.intersects(range)) {
            let pieces = core::mem::take(&mut self.queue);
            for queued in pieces {
                let left = ChunkRange::new(queued.start(), queued.end().min(range.start()));
                let right = ChunkRange::new(queued.start().max(range.end()), queued.end());
                if queued.intersects(range) {
                    self.queue.extend([left, right].into_iter().filter(|part| !part.is_empty()));
                } else {
                    self.queue.push_back(queued);
                }
            }
            self.queue.truncate(limit);
        }
    }

    /// Forgets all requests (§3.9). What is in flight may still be acknowledged.
    pub(crate) fn clear_requests(&mut self) {
        self.queue.clear();
        self.resend.clear();
        (self.run, self.next_run, self.ahead) = (None, None, None);
    }

    /// Whether the peer still waits for chunks that are not in flight.
    pub(crate) fn has_requests(&self) -> bool {
        !self.queue.is_empty()
            || !self.resend.is_empty()
            || self.run.iter().chain(&self.next_run).any(|run| !run.is_done())
    }

    /// What is to be sent soon, to be read: chunks to repeat, each alone since its group may be gone from memory, or
    /// the planned runs.
    pub(crate) fn upcoming(&self) -> impl Iterator<Item = ChunkRange> {
        let resend = self.resend.iter().take(REPEATS_AHEAD).map(|lost| ChunkRange::single(lost.chunk));
        let runs = self.run.iter().chain(&self.next_run).filter(|_| self.resend.is_empty()).map(Run::rest);
        resend.chain(runs).filter(|range| !range.is_empty())
    }

    /// Whether any of `chunks` is about to be sent: repeated soon, or part of a planned run, even one that waits for repeats.
    pub(crate) fn is_planning(&self, chunks: ChunkRange) -> bool {
        let mut repeats = self.resend.iter().take(REPEATS_AHEAD);
        let mut runs = self.run.iter().chain(&self.next_run);
        runs.any(|run| run.rest().intersects(chunks)) || repeats.any(|lost| chunks.contains(lost.chunk))
    }

    /// Whether [`Upload::upcoming`] is to be looked up, once: after it changed, or after something was not there.
    pub(crate) const fn take_unprepared(&mut self) -> bool {
        !core::mem::replace(&mut self.prepared, true)
    }

    /// Notes that something to be sent was not at hand.
    pub(crate) const fn on_missing(&mut self) {
        self.prepared = false;
    }

    /// Gives up on the chunk that [`Upload::next`] named: it is not there.
    pub(crate) fn skip_absent(&mut self, next: NextChunk) {
        self.absent = self.absent.saturating_add(1);
        self.skip(next);
    }

    /// Whether something that was asked for turned out not to be there, since that was last asked.
    pub(crate) const fn take_absent(&mut self) -> bool {
        core::mem::replace(&mut self.absent, 0) > 0
    }

    /// Whether nothing is asked for and nothing in flight: what counts is then the [`Flow`].
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_requests() && self.in_flight.chunks() == 0
    }

    /// Whether the window has room: without it nothing needs to be read.
    pub(crate) fn has_window(&self) -> bool {
        self.in_flight.bytes() < self.flow.controller.window()
    }

    /// Chooses the runs of `length` that leave next: of those asked for, the one sent least often to others (R21), in
    /// the order of asking where that is equal, or the peer `alone` is served. What this peer asks for again comes first.
    /// Only what is `here` counts as sent: the first chunk of a part stands for it.
    pub(crate) fn plan(
        &mut self,
        spread: &mut Spread,
        length: RunLength,
        alone: bool,
        here: impl Fn(ChunkIndex) -> bool,
    ) {
        loop {
            if self.run.as_ref().is_none_or(Run::is_done) {
                self.run = self.next_run.take();
            }
            if self.next_run.is_some() {
                return;
            }
            let Some(part) = self.take_part((!alone).then_some(&*spread), length) else { return };
            if here(ChunkIndex::new(part.start())) {
                spread.note(part);
            }
            let again = self.planned.intersects(part);
            if self.planned.insert_bounded(part, MAX_FIRST).is_err() {
                // Whoever asks for so many pieces is asked to wait as a newcomer is.
                self.planned.clear();
                self.first.clear();
            }
            let mut run = Run::split_from(part, length).0;
            run.again = again;
            self.next_run = Some(run);
            self.prepared = false;
        }
    }

    /// Takes a part of the queue that lies in one run: the one least often sent by `spread`, or the first.
    fn take_part(&mut self, spread: Option<&Spread>, length: RunLength) -> Option<ChunkRange> {
        let mut best: Option<(u32, usize, ChunkRange)> = None;
        let mut seen = 0;
        'search: for (place, &queued) in self.queue.iter().enumerate() {
            let mut rest = queued;
            while !rest.is_empty() && seen < PLAN_AHEAD {
                let (_, after) = Run::split_from(rest, length);
                let part = ChunkRange::new(rest.start(), rest.end() - after.count());
                let start = ChunkIndex::new(part.start());
                let again = self.planned.contains(start) || self.first.contains(start);
                let times = spread.filter(|_| !again).map_or(0, |spread| spread.times(part));
                if best.is_none_or(|(fewest, ..)| times < fewest) {
                    best = Some((times, place, part));
                }
                if times == 0 {
                    break 'search;
                }
                rest = after;
                seen += 1;
            }
        }
        let (_, place, part) = best?;
        let queued = self.queue.remove(place)?;
        let right = ChunkRange::new(part.end(), queued.end());
        let left = ChunkRange::new(queued.start(), part.start());
        for piece in [right, left] {
            if !piece.is_empty() {
                self.queue.insert(place, piece);
            }
        }
        Some(part)
    }

    /// The chunk to send next of those planned; stays the same until it is sent or skipped.
    pub(crate) fn next(&mut self) -> Option<NextChunk> {
        while let Some(lost) = self.resend.front() {
            if !self.in_flight.contains(lost.chunk) {
                return Some(NextChunk { chunk: lost.chunk, first_sent_at: Some(lost.first_sent_at) });
            }
            self.resend.pop_front();
        }
        loop {
            let run = self.run.as_mut()?;
            while let Some(chunk) = run.next() {
                if !self.in_flight.contains(chunk) {
                    return Some(NextChunk { chunk, first_sent_at: None });
                }
                run.cancel(ChunkRange::single(chunk));
            }
            self.run = self.next_run.take();
        }
    }

    /// Gives up on the chunk that [`Upload::next`] named.
    pub(crate) fn skip(&mut self, next: NextChunk) {
        if next.first_sent_at.is_some() {
            self.resend.pop_front();
        } else if let Some(run) = &mut self.run {
            run.cancel(ChunkRange::single(next.chunk));
        }
    }

    /// Records that the chunk that [`Upload::next`] named leaves in a datagram of `bytes`. The pacer is told
    /// once for a batch.
    pub(crate) fn on_sent(&mut self, next: NextChunk, bytes: u32, now: Instant) {
        if self.in_flight.chunks() == 0 {
            self.flow.progress_at = now;
        }
        let again = self.run.as_ref().is_some_and(|run| run.again);
        if next.first_sent_at.is_some() {
            self.resend.pop_front();
        } else if let Some(run) = &mut self.run {
            run.on_sent(next.chunk);
        }
        self.in_flight.on_sent(next.chunk, bytes, now, next.first_sent_at, again);
    }

    /// What [`Upload::next`] would name next, one after another, as far as it needs equally many hashes.
    pub(crate) fn stretch(&mut self) -> Option<Stretch> {
        let run = self.run.as_mut().filter(|_| self.resend.is_empty() && self.ahead.is_none())?;
        run.stretch().filter(|&stretch| !self.in_flight.intersects(stretch))
    }

    /// Records that a part of [`Upload::stretch`], not an empty one, leaves in datagrams of `bytes` each.
    pub(crate) fn on_stretch_sent(&mut self, sent: Stretch, bytes: u32, now: Instant) {
        let Some(run) = &mut self.run else { return };
        if self.in_flight.chunks() == 0 {
            self.flow.progress_at = now;
        }
        run.on_stretch_sent(sent);
        self.in_flight.on_stretch_sent(sent, bytes, now, run.again);
    }

    /// How many chunks the smallest aligned run around `chunk` has that the peer will know the hash over, and those over
    /// its halves, from what was sent in the same run.
    ///
    /// R17: hashes in unacknowledged datagrams count only within one run, and while the last RTT saw no loss.
    pub(crate) fn sent_beside(&self, chunk: NextChunk) -> Option<u64> {
        if chunk.first_sent_at.is_some() {
            return None;
        }
        self.run.as_ref()?.sent_beside(chunk.chunk)
    }

    /// Takes in one ACK message; [`Upload::finish_acks`] draws the conclusions for the datagram.
    pub(crate) fn on_ack(&mut self, range: ChunkRange, delay: u64) {
        if self.acked.bytes == 0 {
            self.in_flight_before = self.in_flight.bytes();
        }
        self.in_flight.on_ack(range, &mut self.acked);
        // The hashes came, with whichever of those chunks.
        if self.disproved.intersects(range) {
            self.disproved = self.disproved.runs().filter(|groups| !groups.intersects(range)).collect();
        }
        if !self.resend.is_empty() {
            self.resend.retain(|lost| !range.contains(lost.chunk));
        }
        self.delay = Some(delay);
    }

    /// Adjusts the window after the ACK messages of one datagram.
    pub(crate) fn finish_acks(&mut self, now: Instant) {
        let acked = core::mem::take(&mut self.acked);
        let delay = self.delay.take();
        let Some(newest_acked_sent_at) = acked.newest_sent_at else { return };
        if let Some(least) = self.flow.rtt.min_rtt() {
            self.in_flight.trust_copies(&acked, now, least);
        }
        // Karn: what is asked for again may be acknowledged for the copy that was sent before. Such a time may be too short
        // and never too long: it counts unless it is the shortest. On a slow path everything is asked for again.
        let doubtful = |since: Duration| acked.again && self.flow.rtt.min_rtt().is_some_and(|least| since < least);
        if let Some(sent_at) = acked.rtt_from.filter(|&sent_at| !doubtful(now - sent_at)) {
            self.flow.rtt.on_sample(now, now - sent_at);
            self.probes = 0;
        } else {
            self.flow.rtt.on_repeat(now - newest_acked_sent_at);
        }
        self.flow.rtt.on_progress();
        self.flow.progress_at = now;
        self.probed = false;
        let srtt = self.flow.rtt.srtt_or_default();
        self.flow.controller.on_ack(
            now,
            &AckEvent {
                bytes_acked: acked.bytes,
                in_flight_before: self.in_flight_before,
                delay: delay.map(DelaySample::from_micros),
                srtt,
                min_rtt: self.flow.rtt.min_rtt().unwrap_or(srtt),
                app_limited: self.app_limited,
                newest_acked_sent_at,
            },
        );
    }

    /// Takes in a HAVE of a draft-10 peer, which answers DATA that it has already with HAVE in place of ACK.
    pub(crate) fn on_have(&mut self, range: ChunkRange) {
        self.announced.insert(range);
    }

    /// Forgets the transmissions that HAVE messages answered: they are neither lost nor a sample. To be called after
    /// [`Upload::finish_acks`], since libswift puts HAVE before the ACK of the same chunk.
    pub(crate) fn finish_haves(&mut self, now: Instant) {
        if self.announced.is_empty() {
            return;
        }
        for range in core::mem::take(&mut self.announced).runs() {
            self.in_flight.forget(range);
        }
        self.flow.progress_at = now;
    }

    /// Finds what is lost among the chunks in flight; to be called once all received datagrams are handled, since
    /// acknowledgements are ordered by chunk and not by sending.
    pub(crate) fn detect_loss(&mut self, now: Instant) {
        let mut lost = core::mem::take(&mut self.lost);
        self.in_flight.take_lost(self.flow.rtt.srtt_or_default(), &mut lost);
        if let Some(newest) = lost.iter().map(|lost| lost.sent_at).max() {
            let bytes_lost = lost.iter().map(|lost| u64::from(lost.bytes)).sum();
            self.flow.controller.on_loss(now, &LossEvent { bytes_lost, newest_lost_sent_at: newest });
            self.last_loss = Some(now);
        }
        if self.last_loss.is_some_and(|at| now - at < self.flow.rtt.srtt_or_default())
            && let Some(run) = &mut self.run
        {
            run.distrust();
        }
        self.repair(now, &lost);
        lost.clear();
        self.lost = lost;
    }

    /// Queues lost chunks to be sent again while their requests live (R16).
    fn repair(&mut self, now: Instant, lost: &[LostChunk]) {
        let life = MIN_REPAIR_TIME.max(4 * self.flow.rtt.srtt_or_default());
        // The window may have kept earlier ones waiting for too long.
        self.resend.retain(|lost| now - lost.first_sent_at < life);
        let cancelled = &self.cancelled;
        let lives = |lost: &&LostChunk| now - lost.first_sent_at < life && !cancelled.contains(lost.chunk);
        self.resend.extend(lost.iter().filter(lives));
        if self.in_flight.chunks() == 0 {
            self.cancelled.clear();
        }
    }

    /// When nothing was acknowledged for so long that the window collapses (RFC 6817 §2.4.2).
    pub(crate) fn congestion_deadline(&self) -> Option<Instant> {
        (self.in_flight.chunks() > 0).then(|| self.flow.progress_at + self.flow.rtt.cto())
    }

    /// When the last transmission is repeated, to find out whether the tail was lost.
    pub(crate) fn probe_deadline(&self) -> Option<Instant> {
        if self.probed || self.in_flight.chunks() == 0 {
            return None;
        }
        let srtt = self.flow.rtt.srtt_or_default();
        let wait = (srtt + 4 * self.flow.rtt.rttvar().unwrap_or(srtt) + MAX_ACK_DELAY).max(MIN_PROBE_TIMEOUT);
        // The handshake tells nothing of a queue, and took too long if some of it was lost.
        let unmeasured = (wait * (1 << self.flow.rtt.doublings_until_measured())).min(INITIAL_CTO);
        let wait = wait.max(unmeasured) * (1 << self.probes.min(MAX_PROBE_BACK_OFF));
        self.in_flight.newest_sent_at().map(|sent_at| sent_at.max(self.flow.progress_at) + wait)
    }

    /// Acts on deadlines that have passed.
    pub(crate) fn on_timeout(&mut self, now: Instant) {
        if self.congestion_deadline().is_some_and(|deadline| deadline <= now) {
            let mut lost = core::mem::take(&mut self.lost);
            self.in_flight.take_all(&mut lost);
            self.flow.controller.on_congestion_timeout(now);
            self.flow.rtt.back_off();
            self.last_loss = Some(now);
            if let Some(run) = &mut self.run {
                run.distrust();
            }
            self.repair(now, &lost);
            lost.clear();
            self.lost = lost;
            self.flow.progress_at = now;
        } else if self.probe_deadline().is_some_and(|deadline| deadline <= now) {
            self.probed = true;
            self.probes = self.probes.saturating_add(1);
            if let Some(lost) = self.in_flight.take_newest() {
                self.repair(now, &[lost]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointConfig;

    #[test]
    fn a_run_that_waits_for_repeats_is_about_to_be_sent() {
        let now = Instant::from_micros(1);
        let mut upload = Upload::new(Flow::new(&EndpointConfig::default(), 1200, None, now));
        upload.on_request(ChunkRange::new(0, 400), 64);
        let length = RunLength::new(crate::chunk::ChunkSize::DEFAULT, u64::MAX);
        upload.plan(&mut Spread::default(), length, false, |_| true);
        let lost = ChunkIndex::new(1000);
        upload.resend.push_back(LostChunk { chunk: lost, sent_at: now, first_sent_at: now, bytes: 1100 });
        assert!(upload.is_planning(ChunkRange::new(16, 32)) && upload.is_planning(ChunkRange::single(lost)));
        assert!(!upload.is_planning(ChunkRange::new(256, 400)), "nothing of it is planned yet");
    }

    #[test]
    fn what_is_remembered_of_cancels_is_bounded() {
        let now = Instant::from_micros(1);
        let mut upload = Upload::new(Flow::new(&EndpointConfig::default(), 1200, None, now));
        upload.in_flight.on_sent(ChunkIndex::new(20_000), 1100, now, None, false);
        upload.cancel(ChunkRange::new(0, 10_000), 64);
        for chunk in (0..5000).rev() {
            upload.on_request(ChunkRange::single(ChunkIndex::new(2 * chunk)), 64);
            assert!(upload.cancelled.runs().len() <= MAX_FIRST + 1);
        }
        for chunk in 0..5000 {
            upload.cancel(ChunkRange::single(ChunkIndex::new(2 * chunk)), 64);
            assert!(upload.cancelled.runs().len() <= MAX_FIRST + 1);
        }
    }
}
