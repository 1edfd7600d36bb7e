//! What we ask of one peer and what it still owes us.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::acks::Acks;
use crate::channel::pending::{Pending, PendingChunk};
use crate::channel::rate::RateMeter;
use crate::chunk::{ChunkIndex, ChunkRange, ChunkSize, RangeSet};
use crate::integrity::{EarlyHashes, PeakClaim, Verifier};
use crate::schedule::{BatchId, Shortlist};
use crate::time::{Instant, micros};

/// Rate assumed of a peer until it is measured, in bytes per second.
const ASSUMED_RATE: u64 = 64 * 1024;
/// Bytes asked of a peer until its rate is measured: half a second's worth of what is assumed.
const FIRST_REQUEST: u128 = ASSUMED_RATE as u128 / 2;
/// How much of a peer's rate is outstanding beyond one round trip, so that it never runs dry between our datagrams.
pub(super) const MARGIN: Duration = Duration::from_millis(150);
/// R20: the most of a peer's rate that is outstanding, or two round trips.
const MAX_SPAN: Duration = Duration::from_secs(1);
/// A request unanswered for this long, or four round trips, is made again (R16).
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// A batch that arrives chunk by chunk is waited for this many times as long: R20 bounds it to a second's worth.
const MAX_TRICKLE: u32 = 4;
/// Most chunks of a batch, and fewest asked for at once while more are outstanding.
const REQUEST_QUANTUM: u64 = 128;
/// Runs of chunks to be told to the peer that it is not to send.
const MAX_CANCELS: usize = 64;

/// Answers to requests of which the quickest tells the round trip.
const ROUND_TRIPS: usize = 3;

/// Runs remembered of what a peer was asked for in vain.
const MAX_LATE_RUNS: usize = 256;

/// Chunks asked for together, in the order of asking.
#[derive(Debug)]
struct Batch {
    range: ChunkRange,
    left: u64,
    asked_at: Instant,
    /// Whether the peer was asked for some of it before: then nothing tells which request an answer belongs to.
    again: bool,
}

impl Batch {
    /// Whether chunks from `start` on, asked for now, can join: they go on where it ends. They expire with it, so that it
    /// must be young.
    fn takes(&self, now: Instant, start: u64) -> bool {
        self.range.end() == start
            && self.range.count() < REQUEST_QUANTUM
            && now - self.asked_at < MIN_REQUEST_TIMEOUT / 2
    }
}

/// What came of requests since the last arrival.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    /// How often everything expired.
    expired: u16,
    /// How often the wait for what is asked for doubled.
    doublings: u16,
}

impl Silence {
    /// Everything was asked for in vain once more.
    const fn longer(self) -> Self {
        Self { expired: self.expired.saturating_add(1), doublings: self.doublings.saturating_add(1) }
    }
}

/// The receiving half of a channel.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) acks: Acks,
    pub(crate) early: EarlyHashes,
    /// What the peer's peaks say of the content's size, while it is not known (R1).
    pub(crate) claim: Option<PeakClaim>,
    pub(crate) rate: RateMeter,
    pending: Pending,
    batches: VecDeque<Batch>,
    /// Name of the oldest batch.
    oldest: u32,
    /// How many of the oldest batches were asked for before another that something came of.
    passed: usize,
    /// What was asked for in vain: it may come late, and is taken then.
    late: RangeSet,
    outstanding: u64,
    /// The last batch that expired, and when it was asked for.
    lapsed: Option<(ChunkRange, Instant)>,
    /// How long requests took to be answered when nothing else was on the way, the latest first.
    round_trips: [Duration; ROUND_TRIPS],
    /// What the peer was chosen for, but no REQUEST has told it.
    untold: RangeSet,
    /// What the peer is to be told not to send (RFC 7574 §3.8).
    cancels: RangeSet,
    /// Where the last pick ended: the next goes on there, for long runs.
    pub(crate) cursor: u64,
    /// What else a search for the rarest found to ask this peer for.
    pub(crate) shortlist: Shortlist,
    /// The state of the swarm's requests in which nothing was found to ask this peer for.
    pub(crate) exhausted: Option<u64>,
    /// When a chunk of the oldest batch last arrived, or it became the oldest.
    progress_at: Instant,
    /// When any chunk that was asked for last arrived.
    delivered_at: Instant,
    /// When any chunk last arrived.
    came_at: Instant,
    silence: Silence,
    /// How long we waited in vain for what CHOKE took back, since the last arrival.
    evaded: Duration,
    /// When something last came that could not be taken in.
    untaken_at: Option<Instant>,
    /// So long a stretch of its rate, or a round trip, is outstanding beyond one round trip at most.
    pub(crate) most_ahead: Duration,
    /// The same where the peer is to have a choice.
    pub(crate) most_choice: Duration,
}

impl Download {
    pub(crate) fn new(early_hashes: usize, now: Instant) -> Self {
        Self {
            acks: Acks::default(),
            early: EarlyHashes::new(early_hashes),
            claim: None,
            rate: RateMeter::default(),
            pending: Pending::default(),
            batches: VecDeque::new(),
            oldest: 0,
            passed: 0,
            late: RangeSet::new(),
            lapsed: None,
            round_trips: [Duration::MAX; ROUND_TRIPS],
            outstanding: 0,
            untold: RangeSet::new(),
            cancels: RangeSet::new(),
            cursor: 0,
            shortlist: Shortlist::default(),
            exhausted: None,
            progress_at: now,
            delivered_at: now,
            came_at: now,
            silence: Silence::default(),
            evaded: Duration::ZERO,
            untaken_at: None,
            most_ahead: Duration::MAX,
            most_choice: Duration::MAX,
        }
    }

    /// Chunks asked for and not yet here.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// How many chunks to ask for now, zero while enough are outstanding. Hysteresis makes for long runs.
    pub(crate) fn allowance(&self, srtt: Duration, chunk_size: ChunkSize, limit: u32, amply: bool) -> u64 {
        let target = self.target(srtt, chunk_size, limit, amply);
        let most = self.chunks_in(MAX_SPAN.max(2 * srtt), chunk_size, limit).max(target);
        let waited_for = self.outstanding.saturating_sub(self.passed());
        let room = target.saturating_sub(waited_for).min(most.saturating_sub(self.outstanding));
        if waited_for > 0 && room < (target / 4).min(REQUEST_QUANTUM) { 0 } else { room }
    }

    /// How many chunks are missing although others came that were asked for later: the REQUEST may have been lost. They are
    /// asked for again in their time (R16), and the peer need not run dry until then.
    fn passed(&self) -> u64 {
        if self.is_probed() {
            return 0;
        }
        self.batches.iter().take(self.passed).map(|batch| batch.left).sum()
    }

    /// How many chunks are to be outstanding.
    ///
    /// R20: at least one chunk, at most max(1 s, 2 RTT) of the peer's rate, and `limit`. One round trip of it and as much
    /// again, or [`MARGIN`], keep the peer busy and let what is asked double from batch to batch until the peer sets the
    /// pace, as long as there is room for it here. `amply` is the most that there is room for: a seeder can then send each
    /// peer something else (R21), and one whose window doubles with each round trip, which the rate of the last half second
    /// says little of, does not wait for requests.
    pub(crate) fn target(&self, srtt: Duration, chunk_size: ChunkSize, limit: u32, amply: bool) -> u64 {
        if self.is_probed() {
            // A peer that twice answered nothing is asked for one chunk, to find out when it does.
            return 1;
        }
        let most = MAX_SPAN.max(2 * srtt);
        let ahead = (self.acks.queueing().min(most) + srtt.max(MARGIN)).min(self.most_ahead.max(srtt));
        let busy = (srtt + ahead).min(most);
        let span = if amply { most.min(self.most_choice).max(busy) } else { busy };
        self.chunks_in(span, chunk_size, limit)
    }

    /// The chunks of `span` at the peer's rate, at least one and at most `limit`.
    fn chunks_in(&self, span: Duration, chunk_size: ChunkSize, limit: u32) -> u64 {
        let bytes =
            self.rate.rate().map_or(FIRST_REQUEST, |rate| u128::from(rate) * u128::from(micros(span)) / 1_000_000);
        ((bytes / u128::from(chunk_size.bytes())) as u64).min(u64::from(limit)).max(1)
    }

    /// The rate in bytes per second, or what is assumed until it is measured.
    pub(crate) fn rate_or_assumed(&self) -> u64 {
        self.rate.rate().unwrap_or(ASSUMED_RATE).max(1)
    }

    /// How long the peer will take for what is outstanding and `more` chunks.
    pub(crate) fn time_for(&self, more: u64, chunk_size: ChunkSize) -> Duration {
        self.time_to_deliver(self.outstanding + more, chunk_size)
    }

    /// How long `chunks` take to arrive at the peer's rate.
    pub(crate) fn time_to_deliver(&self, chunks: u64, chunk_size: ChunkSize) -> Duration {
        let bytes = u128::from(chunks) * u128::from(chunk_size.bytes());
        let time = bytes * 1_000_000 / u128::from(self.rate_or_assumed());
        Duration::from_micros(u64::try_from(time).unwrap_or(u64::MAX))
    }

    /// When the peer last delivered anything that it was asked for.
    pub(crate) const fn delivered_at(&self) -> Instant {
        self.delivered_at
    }

    /// Notes that something came that cannot be taken in: for want of hashes, room, or the content's size.
    pub(crate) const fn on_untaken(&mut self, now: Instant) {
        self.untaken_at = Some(now);
    }

    /// Whether the oldest request was left unanswered by a peer that was last heard at `heard`, and delivered nothing since:
    /// one that is not heard may be cut off, from one that delivers a single chunk may be lost again and again, and of what
    /// could not be taken in it may have been a part.
    pub(crate) fn is_ignored(&self, heard: Instant, srtt: Duration) -> bool {
        let delivers = self.batches.front().is_none_or(|oldest| oldest.asked_at <= self.delivered_at);
        !delivers && heard >= self.progress_at + srtt && self.untaken_at.is_none_or(|at| at < self.progress_at)
    }

    /// Whether the peer twice answered nothing.
    pub(crate) const fn is_probed(&self) -> bool {
        self.silence.expired > 1
    }

    /// Whether the peer left nothing unanswered since it last delivered.
    pub(crate) const fn is_answering(&self) -> bool {
        self.silence.expired == 0
    }

    /// Since when the peer has delivered nothing although it was asked.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        self.batches.front().map(|oldest| self.unanswered_since(oldest))
    }

    /// Since when nothing came of `batch` or anything else that the peer is asked for.
    pub(crate) fn waiting_since(&self, batch: BatchId) -> Option<Instant> {
        let batch = self.batches.get(batch.after(self.oldest) as usize)?;
        Some(self.unanswered_since(batch))
    }

    /// Since when nothing came of `batch` or anything else, earlier by as long as the peer had let us wait before it choked
    /// us.
    fn unanswered_since(&self, batch: &Batch) -> Instant {
        batch.asked_at.max(self.delivered_at) - self.evaded
    }

    /// Records that `range` is asked for: batches of at most [`REQUEST_QUANTUM`] chunks, each with its name.
    pub(crate) fn on_requested(&mut self, now: Instant, range: ChunkRange) -> Vec<(ChunkRange, BatchId)> {
        if self.batches.is_empty() {
            self.rate.resume(now);
            self.progress_at = now;
        }
        self.outstanding += range.count();
        self.cancels.remove(range);
        let again = self.late.intersects(range);
        let mut named = Vec::new();
        let mut start = range.start();
        while start < range.end() {
            let mut end = range.end().min(start + REQUEST_QUANTUM);
            match self.batches.back_mut() {
                Some(last) if last.takes(now, start) => {
                    end = end.min(last.range.start() + REQUEST_QUANTUM);
                    last.range = ChunkRange::new(last.range.start(), end);
                    last.left += end - start;
                    last.again |= again;
                }
                _ => {
                    let range = ChunkRange::new(start, end);
                    self.batches.push_back(Batch { range, left: range.count(), asked_at: now, again });
                }
            }
            let batch = BatchId::new(self.oldest.wrapping_add(self.batches.len() as u32).wrapping_sub(1));
            named.push((ChunkRange::new(start, end), batch));
            start = end;
        }
        named
    }

    /// Records that `count` chunks of `batch`, or that were withdrawn, arrived; `from_peer` unless another delivered them.
    pub(crate) fn on_settled(&mut self, now: Instant, batch: Option<BatchId>, count: u64, from_peer: bool) {
        let place = batch.map(|batch| batch.after(self.oldest) as usize);
        if from_peer {
            self.measure_answer(now, place);
            self.passed = self.passed.max(place.filter(|&place| place < self.batches.len()).unwrap_or(0));
        }
        if place.is_none_or(|place| self.drop_from(now, place, count)) && from_peer {
            self.delivered_at = now;
            if place == Some(0) {
                self.progress_at = now;
            }
        }
    }

    /// Measures the round trip by the first answer to the batch at `place`, if nothing else was on the way: nothing came
    /// for half of the time that it took.
    fn measure_answer(&mut self, now: Instant, place: Option<usize>) {
        let Some(batch) = place.and_then(|place| self.batches.get(place)) else { return };
        let took = now - batch.asked_at;
        let first = batch.left == batch.range.count() && !batch.again;
        if first && now - self.came_at.max(batch.asked_at) >= took / 2 {
            self.on_round_trip(took);
        }
    }

    fn on_round_trip(&mut self, took: Duration) {
        self.round_trips.rotate_right(1);
        self.round_trips[0] = took;
    }

    /// How long the peer takes to answer, as far as requests tell: the way back may be longer than the handshake found, or
    /// the handshake have told nothing, since it was repeated.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trips.into_iter().min().filter(|&least| least < Duration::MAX)
    }

    /// Records that `chunk`, of a content of unknown size, arrived; returns whether it was asked for.
    pub(crate) fn on_unsized(&mut self, now: Instant, chunk: ChunkIndex) -> bool {
        let holds = |batch: &Batch| batch.left > 0 && batch.range.contains(chunk);
        let Some(place) = self.batches.iter().position(holds) else { return false };
        self.delivered_at = now;
        self.drop_from(now, place, 1)
    }

    /// Records that `count` chunks of the batch at `place` are no longer asked of the peer; returns whether they were.
    fn drop_from(&mut self, now: Instant, place: usize, count: u64) -> bool {
        let Some(batch) = self.batches.get_mut(place).filter(|batch| batch.left > 0) else { return false };
        let count = count.min(batch.left);
        batch.left -= count;
        self.outstanding = self.outstanding.saturating_sub(count);
        if self.drop_settled() {
            self.progress_at = now;
        }
        if self.batches.is_empty() {
            self.rate.pause(now);
        }
        true
    }

    fn pop_oldest(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.oldest = self.oldest.wrapping_add(1);
        self.passed = self.passed.saturating_sub(1);
        Some(batch)
    }

    /// Drops the oldest batches of which nothing is left; returns whether there were any.
    fn drop_settled(&mut self) -> bool {
        let before = self.batches.len();
        while self.batches.front().is_some_and(|batch| batch.left == 0) {
            self.pop_oldest();
        }
        self.batches.len() < before
    }

    /// What was asked for last and is not here yet, batch by batch, the newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = ChunkRange> {
        self.batches.iter().rev().filter(|batch| batch.left > 0).map(|batch| batch.range)
    }

    /// Records that `count` chunks of `batch` are no longer asked of the peer.
    pub(crate) fn on_released(&mut self, now: Instant, batch: BatchId, count: u64) {
        self.drop_from(now, batch.after(self.oldest) as usize, count);
    }

    /// Notes that the peer is to be told not to send `range`; when it sends what did not fit, it is told again
    /// ([`Download::cancel_around`]).
    pub(crate) fn cancel(&mut self, range: ChunkRange) {
        self.untold.remove(range);
        let _ = self.cancels.insert_bounded(range, MAX_CANCELS);
        self.expect_late(range);
    }

    /// Notes that the peer sends `chunk`, of `count`, for which it is not asked: it may have missed a CANCEL, and would
    /// send everything before what is asked for now. It is told to leave out all up to the next things asked for.
    pub(crate) fn cancel_around(&mut self, chunk: ChunkIndex, count: u64) {
        // Looked for once, not for each of many that come together.
        if self.cancels.contains(chunk) || self.cancels.runs().len() >= MAX_CANCELS {
            return;
        }
        let chunk = chunk.value();
        let (mut start, mut end) = (0, count);
        for asked in self.batches.iter().filter(|batch| batch.left > 0).map(|batch| batch.range) {
            if asked.end() <= chunk {
                start = start.max(asked.end());
            } else if asked.start() > chunk {
                end = end.min(asked.start());
            } else {
                (start, end) = (chunk, chunk + 1);
                break;
            }
        }
        let _ = self.cancels.insert_bounded(ChunkRange::new(start, end), MAX_CANCELS);
    }

    /// What the peer is to be told not to send.
    pub(crate) const fn cancels(&mut self) -> &mut RangeSet {
        &mut self.cancels
    }

    /// What the peer was chosen for and not told.
    pub(crate) const fn untold(&mut self) -> &mut RangeSet {
        &mut self.untold
    }

    /// Notes that the peer delivers `chunks`, the latest at `at`. Unless the round trip is `known`, one that was asked for
    /// in vain tells it.
    pub(crate) fn on_delivery(&mut self, at: Instant, known: bool, chunks: impl IntoIterator<Item = ChunkIndex>) {
        if let Some((range, asked_at)) = self.lapsed
            && !known
            && at - self.came_at.max(asked_at) >= (at - asked_at) / 2
            && chunks.into_iter().any(|chunk| range.contains(chunk))
        {
            // It was not waited for long enough, or the request that was made since was answered: then the next answer
            // sets this right.
            self.lapsed = None;
            self.round_trips = [Duration::MAX; ROUND_TRIPS];
            self.on_round_trip(at - asked_at);
        }
        self.came_at = at;
        self.evaded = Duration::ZERO;
        self.silence = Silence { expired: 0, doublings: 0 };
    }

    /// When the oldest request is to be made again; each expiry in a row doubles the wait.
    pub(crate) fn request_deadline(&self, srtt: Duration) -> Option<Instant> {
        let timeout = MIN_REQUEST_TIMEOUT.max(4 * srtt) * (1 << self.silence.doublings.min(3));
        self.batches.front().map(|oldest| (self.progress_at + timeout).min(oldest.asked_at + MAX_TRICKLE * timeout))
    }

    /// Takes the oldest batch, whose request went unanswered. The next one's wait began when it was asked for, or with
    /// the last delivery: a peer that fell silent altogether holds nothing back.
    pub(crate) fn take_expired(&mut self) -> Option<ChunkRange> {
        let batch = self.pop_oldest()?;
        self.outstanding = self.outstanding.saturating_sub(batch.left);
        self.expect_late(batch.range);
        self.lapsed = Some((batch.range, batch.asked_at));
        self.drop_settled();
        if let Some(next) = self.batches.front() {
            self.progress_at = next.asked_at.max(self.delivered_at);
        } else {
            self.silence = self.silence.longer();
        }
        Some(batch.range)
    }

    /// Notes that another is asked for what the peer was asked for, since it delivered nothing for long: if that was all,
    /// it went unanswered.
    pub(crate) const fn on_taken_over(&mut self) {
        if self.outstanding == 0 {
            self.silence = self.silence.longer();
        }
    }

    /// Notes that the peer is asked for something else than what it left unanswered, for the second time in a row if
    /// `again`. To `hurry` the wait for that begins anew; otherwise it doubles, whatever else is outstanding.
    pub(crate) fn on_passed_over(&mut self, again: bool, hurry: bool) {
        let Silence { expired, doublings } = self.silence;
        let more = u16::from(again || !hurry);
        let doublings = if hurry { doublings.min(1) } else { doublings.saturating_add(more) };
        self.silence = Silence { expired: expired.saturating_add(more), doublings };
    }

    /// Notes that `range`, which was asked for, may come although it is not waited for.
    fn expect_late(&mut self, range: ChunkRange) {
        if self.late.insert_bounded(range, MAX_LATE_RUNS).is_err() {
            // The oldest requests are the least likely to be answered still.
            self.late.clear();
            self.late.insert(range);
        }
    }

    /// Whether `chunk` was asked for in vain, so that it may still come.
    pub(crate) fn may_come_late(&self, chunk: ChunkIndex) -> bool {
        self.late.contains(chunk)
    }

    /// Forgets all requests: the peer chokes us. How long it answered none of them still counts: a peer that chokes and
    /// unchokes us in turn would never be found silent, and nobody else be asked (RFC 7574 §12.6.9). Returns whether there
    /// were any: a CHOKE that follows another changes nothing for others.
    pub(crate) fn on_choked(&mut self, now: Instant, srtt: Duration) -> bool {
        let had_any = self.outstanding > 0;
        if let Some(oldest) = self.batches.front().filter(|oldest| oldest.asked_at >= self.delivered_at) {
            self.evaded = now - self.unanswered_since(oldest);
            if self.evaded >= MIN_REQUEST_TIMEOUT.max(4 * srtt) {
                self.silence = self.silence.longer();
            }
        }
        self.clear_requests(now);
        had_any
    }

    /// Forgets all requests: the peer will not answer them.
    pub(crate) fn clear_requests(&mut self, now: Instant) {
        self.oldest = self.oldest.wrapping_add(self.batches.len() as u32);
        self.batches.clear();
        self.passed = 0;
        self.outstanding = 0;
        self.untold.clear();
        self.cancels.clear();
        self.exhausted = None;
        self.rate.pause(now);
    }

    /// Keeps a chunk until its hashes arrive; the oldest goes when `limit` are kept (R17).
    pub(crate) fn keep_pending(&mut self, chunk: PendingChunk, limit: usize) {
        self.pending.keep(chunk, limit);
    }

    /// Takes the kept chunks for which no hash is missing any more, in order of arrival.
    pub(crate) fn take_provable(&mut self, verifier: &Verifier) -> Vec<PendingChunk> {
        self.pending.take_provable(verifier, &self.early)
    }

    /// Whether chunks are kept.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Drops kept chunks after `life`, and hashes after four times as long. What waits for the size stays: it was
    /// acknowledged, and not every peer sends such a chunk again.
    pub(crate) fn expire(&mut self, now: Instant, life: Duration) {
        if self.claim.is_some() {
            return;
        }
        self.pending.expire(now, life);
        self.early.expire(now - 4 * life);
    }

    /// When the oldest kept chunk goes, if it does.
    pub(crate) fn pending_deadline(&self, life: Duration) -> Option<Instant> {
        if self.claim.is_some() { None } else { self.pending.deadline(life) }
    }

    /// Whether nothing is asked for, kept or to be acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.batches.is_empty()
            && self.pending.is_empty()
            && self.early.is_empty()
            && self.claim.is_none()
            && self.acks.due().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_around_an_unwanted_chunk_is_cancelled() {
        let now = Instant::from_micros(1);
        let around = |chunk| {
            let mut download = Download::new(16, now);
            let batches = [(100, 110), (40, 50), (200, 201)].map(|(start, end)| ChunkRange::new(start, end));
            for range in batches {
                let named = download.on_requested(now, range);
                assert_eq!(named.len(), 1);
            }
            download.cancel_around(ChunkIndex::new(chunk), 1000);
            download.cancels().runs().collect::<Vec<_>>()
        };
        assert_eq!(around(0), [ChunkRange::new(0, 40)]);
        assert_eq!(around(50), [ChunkRange::new(50, 100)]);
        assert_eq!(around(199), [ChunkRange::new(110, 200)]);
        assert_eq!(around(999), [ChunkRange::new(201, 1000)]);
        // Others of its batch may be waited for.
        assert_eq!(around(45), [ChunkRange::new(45, 46)]);
    }

    #[test]
    fn what_another_delivered_does_not_expire_behind_what_did() {
        let now = Instant::from_micros(1);
        let mut download = Download::new(16, now);
        let ranges = [(0, 10), (20, 30), (40, 50)].map(|(start, end)| ChunkRange::new(start, end));
        let names = ranges.map(|range| download.on_requested(now, range)[0].1);
        download.on_settled(now, Some(names[1]), 10, false);
        assert_eq!(download.take_expired(), Some(ranges[0]));
        assert_eq!(download.take_expired(), Some(ranges[2]));
        assert_eq!((download.take_expired(), download.outstanding()), (None, 0));
    }

    #[test]
    fn who_delivers_what_was_withdrawn_is_not_taken_to_ignore_us() {
        let [asked, later, heard] = [1, 1000, 2000].map(Instant::from_micros);
        for (from_peer, ignored) in [(true, false), (false, true)] {
            let mut download = Download::new(16, Instant::ZERO);
            download.on_requested(asked, ChunkRange::new(0, 10));
            download.on_settled(later, None, 1, from_peer);
            assert_eq!(download.is_ignored(heard, Duration::ZERO), ignored);
            assert_eq!(download.outstanding(), 10, "it was counted when it was withdrawn");
        }
    }

    #[test]
    fn cancels_are_bounded() {
        let now = Instant::from_micros(1);
        let mut download = Download::new(16, now);
        for chunk in 0..10_000 {
            download.cancel(ChunkRange::single(ChunkIndex::new(2 * chunk)));
        }
        assert_eq!(download.cancels().runs().len(), MAX_CANCELS);
        assert!(download.late.runs().len() <= MAX_LATE_RUNS);
    }

    #[test]
    fn what_others_overtook_does_not_hold_back_requests() {
        let (now, srtt, size) = (Instant::from_micros(1), Duration::from_millis(20), ChunkSize::DEFAULT);
        let mut download = Download::new(16, now);
        let most = download.allowance(srtt, size, 1000, false);
        let names =
            [0, 100, 200].map(|start| download.on_requested(now, ChunkRange::new(start, start + most / 4))[0].1);
        assert_eq!(download.allowance(srtt, size, 1000, false), most - 3 * (most / 4));
        download.on_settled(now, Some(names[0]), 1, true);
        let left = download.allowance(srtt, size, 1000, false);
        download.on_settled(now, Some(names[2]), 1, false);
        assert_eq!(download.allowance(srtt, size, 1000, false), left + 1, "another delivered it");
        download.on_settled(now, Some(names[2]), 1, true);
        assert_eq!(download.passed(), 2 * (most / 4) - 1, "the first two batches");
        assert_eq!(download.allowance(srtt, size, 3 * (most / 4) as u32 - 2, false), 0, "of the limit nothing is left");
        assert_eq!(download.take_expired(), Some(ChunkRange::new(0, most / 4)));
        assert_eq!(download.passed(), most / 4);
        assert_eq!(download.take_expired(), Some(ChunkRange::new(100, 100 + most / 4)));
        assert_eq!(download.passed(), 0);
        download.clear_requests(now);
        assert_eq!((download.passed(), download.outstanding()), (0, 0));
    }

    #[test]
    fn one_choke_of_many_takes_requests_back() {
        let (now, srtt) = (Instant::from_micros(1), Duration::from_millis(20));
        let mut download = Download::new(16, now);
        assert!(!download.on_choked(now, srtt), "nothing was asked for");
        download.on_requested(now, ChunkRange::new(0, 10));
        let took_back: Vec<bool> = (0..1000).map(|_| download.on_choked(now, srtt)).collect();
        assert_eq!(took_back.iter().position(|&any| any), Some(0));
        assert!(!took_back[1..].contains(&true));
    }
}
