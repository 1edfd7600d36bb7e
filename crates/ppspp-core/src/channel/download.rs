//! What we ask of one peer and what it still owes us.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::acks::{Acks, Arrival};
use crate::channel::rate::RateMeter;
use crate::chunk::{ChunkIndex, ChunkRange, ChunkSize, RangeSet};
use crate::integrity::{EarlyHashes, PeakClaim};
use crate::time::Instant;

/// Rate assumed of a peer until it is measured, in bytes per second.
const ASSUMED_RATE: u64 = 64 * 1024;
/// A request unanswered for this long, or four round trips, is made again (R16).
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// A batch that arrives chunk by chunk is waited for this many times as long: R20 bounds it to a second's worth.
const MAX_TRICKLE: u32 = 4;
/// Chunks asked for at once while more are outstanding.
const REQUEST_QUANTUM: u32 = 128;

/// Runs remembered of what a peer was asked for in vain.
const MAX_LATE_RUNS: usize = 256;

/// Chunks asked for together, in the order of asking.
#[derive(Debug)]
struct Batch {
    range: ChunkRange,
    left: u64,
    asked_at: Instant,
}

/// A chunk that cannot be verified yet, for want of hashes (R17).
#[derive(Debug)]
pub(crate) struct PendingChunk {
    pub(crate) arrival: Arrival,
    pub(crate) payload: Vec<u8>,
}

/// The receiving half of a channel.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) acks: Acks,
    pub(crate) early: EarlyHashes,
    /// What the peer's peaks say of the content's size, while it is not known (R1).
    pub(crate) claim: Option<PeakClaim>,
    pub(crate) rate: RateMeter,
    pending: VecDeque<PendingChunk>,
    batches: VecDeque<Batch>,
    /// What was asked for in vain: it may come late, and is taken then.
    late: RangeSet,
    outstanding: u64,
    /// Place of the batch that was looked for last.
    latest: usize,
    /// When a chunk of the oldest batch last arrived, or it became the oldest.
    progress_at: Instant,
    /// When any chunk that was asked for last arrived.
    delivered_at: Instant,
    /// How often everything expired since the last arrival.
    expired: u32,
}

impl Download {
    pub(crate) fn new(early_hashes: usize, now: Instant) -> Self {
        Self {
            acks: Acks::default(),
            early: EarlyHashes::new(early_hashes),
            claim: None,
            rate: RateMeter::default(),
            pending: VecDeque::new(),
            batches: VecDeque::new(),
            late: RangeSet::new(),
            outstanding: 0,
            latest: 0,
            progress_at: now,
            delivered_at: now,
            expired: 0,
        }
    }

    /// Chunks asked for and not yet here.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// How many chunks to ask for now, zero while enough are outstanding.
    ///
    /// R20: at least one chunk, at most max(1 s, 2 RTT) of the peer's rate; half a second of it or two round trips
    /// keep the peer busy. Hysteresis makes for long runs.
    pub(crate) fn allowance(&self, srtt: Duration, chunk_size: ChunkSize, limit: u32) -> u64 {
        if self.expired > 1 {
            // A peer that twice answered nothing is asked for one chunk, to find out when it does.
            return 1_u64.saturating_sub(self.outstanding);
        }
        let rate = self.rate.rate().unwrap_or(ASSUMED_RATE);
        let span = (2 * srtt).max(Duration::from_millis(500));
        let bytes = u128::from(rate) * u128::from(crate::time::micros(span)) / 1_000_000;
        let target = ((bytes / u128::from(chunk_size.bytes())) as u64).clamp(1, u64::from(limit));
        let room = target.saturating_sub(self.outstanding);
        if self.outstanding > 0 && room < (target / 4).min(u64::from(REQUEST_QUANTUM)) { 0 } else { room }
    }

    /// Records that `range` is asked for.
    pub(crate) fn on_requested(&mut self, now: Instant, range: ChunkRange) {
        if self.batches.is_empty() {
            self.rate.resume(now);
            self.progress_at = now;
        }
        self.outstanding += range.count();
        if let Some(last) = self.batches.back_mut()
            && last.range.end() == range.start()
            && last.range.count() < u64::from(REQUEST_QUANTUM)
            && now - last.asked_at < MIN_REQUEST_TIMEOUT
        {
            last.range = ChunkRange::new(last.range.start(), range.end());
            last.left += range.count();
        } else {
            self.batches.push_back(Batch { range, left: range.count(), asked_at: now });
        }
    }

    /// Records that `chunk` arrived or is not wanted from this peer any more; returns whether it was asked for.
    pub(crate) fn on_settled(&mut self, now: Instant, chunk: ChunkIndex) -> bool {
        let Some(place) = self.batch_of(chunk) else { return false };
        self.outstanding = self.outstanding.saturating_sub(1);
        self.batches[place].left -= 1;
        self.delivered_at = now;
        if place == 0 {
            self.progress_at = now;
        }
        while self.batches.front().is_some_and(|batch| batch.left == 0) {
            self.batches.pop_front();
            self.progress_at = now;
        }
        if self.batches.is_empty() {
            self.rate.pause(now);
        }
        true
    }

    /// The batch with `chunk`; chunks of one batch mostly arrive together.
    fn batch_of(&mut self, chunk: ChunkIndex) -> Option<usize> {
        let holds = |batch: &Batch| batch.left > 0 && batch.range.contains(chunk);
        if !self.batches.get(self.latest).is_some_and(holds) {
            self.latest = self.batches.iter().position(holds)?;
        }
        Some(self.latest)
    }

    /// Notes that the peer delivers.
    pub(crate) const fn on_delivery(&mut self) {
        self.expired = 0;
    }

    /// When the oldest request is to be made again; each expiry in a row doubles the wait.
    pub(crate) fn request_deadline(&self, srtt: Duration) -> Option<Instant> {
        let timeout = MIN_REQUEST_TIMEOUT.max(4 * srtt) * (1 << self.expired.min(3));
        self.batches.front().map(|oldest| (self.progress_at + timeout).min(oldest.asked_at + MAX_TRICKLE * timeout))
    }

    /// Takes the oldest batch, whose request went unanswered. The next one's wait began when it was asked for, or with
    /// the last delivery: a peer that fell silent altogether holds nothing back.
    pub(crate) fn take_expired(&mut self) -> Option<ChunkRange> {
        let batch = self.batches.pop_front()?;
        self.outstanding = self.outstanding.saturating_sub(batch.left);
        if self.late.insert_bounded(batch.range, MAX_LATE_RUNS).is_err() {
            // The oldest requests are the least likely to be answered still.
            self.late.clear();
            self.late.insert(batch.range);
        }
        match self.batches.front() {
            Some(next) => self.progress_at = next.asked_at.max(self.delivered_at),
            None => self.expired += 1,
        }
        Some(batch.range)
    }

    /// Whether `chunk` was asked for in vain, so that it may still come.
    pub(crate) fn may_come_late(&self, chunk: ChunkIndex) -> bool {
        self.late.contains(chunk)
    }

    /// Forgets all requests: the peer will not answer them.
    pub(crate) fn clear_requests(&mut self, now: Instant) {
        self.batches.clear();
        self.outstanding = 0;
        self.rate.pause(now);
    }

    /// Keeps a chunk until its hashes arrive; the oldest goes when `limit` are kept (R17).
    pub(crate) fn keep_pending(&mut self, chunk: PendingChunk, limit: usize) {
        self.pending.retain(|kept| kept.arrival.chunk != chunk.arrival.chunk);
        if limit == 0 {
            return;
        }
        while self.pending.len() >= limit {
            self.pending.pop_front();
        }
        self.pending.push_back(chunk);
    }

    /// Takes the kept chunks, in order of arrival.
    pub(crate) fn take_pending(&mut self) -> VecDeque<PendingChunk> {
        core::mem::take(&mut self.pending)
    }

    /// Whether chunks are kept.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Drops kept chunks that arrived at `before` or earlier.
    pub(crate) fn expire_pending(&mut self, before: Instant) {
        while self.pending.front().is_some_and(|chunk| chunk.arrival.at <= before) {
            self.pending.pop_front();
        }
    }

    /// When the oldest kept chunk arrived.
    pub(crate) fn oldest_pending(&self) -> Option<Instant> {
        self.pending.front().map(|chunk| chunk.arrival.at)
    }
}
