//! Links: what lies between a host and the rest of the network.

mod codel;
mod loss;
mod pipe;
mod presets;

use std::time::Duration;

pub use codel::CoDelSpec;
pub use loss::Loss;
pub use pipe::PipeStats;
pub(crate) use pipe::{Carried, Pipe};

/// What a full or standing queue does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum QueueSpec {
    /// What does not fit into this many bytes is dropped.
    DropTail {
        /// Wire bytes that may wait.
        bytes: u64,
    },
    /// Controlled delay (RFC 8289): drops more and more often while packets wait longer than the target.
    CoDel(CoDelSpec),
}

/// One direction of a link.
#[derive(Clone, PartialEq, Debug)]
pub struct PipeSpec {
    /// Wire bits per second; `None` if sending takes no time.
    pub rate: Option<u64>,
    /// Propagation delay.
    pub delay: Duration,
    /// Up to so much more delay, drawn for each packet; order is kept.
    pub jitter: Duration,
    /// The queue before the bottleneck.
    pub queue: QueueSpec,
    /// Random loss.
    pub loss: Loss,
    /// Share of packets that others may overtake.
    pub reorder: f64,
    /// By how much such a packet is late.
    pub reorder_delay: Duration,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// Share of packets that arrive with a bit flipped.
    pub corrupt: f64,
    /// Largest packet in bytes, headers included; larger ones cross in fragments if they may, and are lost otherwise.
    pub mtu: u32,
}

impl PipeSpec {
    /// A clean pipe of `rate` wire bits per second with `delay`, and a drop-tail queue that holds 300 milliseconds.
    pub fn new(rate: u64, delay: Duration) -> Self {
        Self { rate: Some(rate), ..Self::free(delay) }.queue_of(Duration::from_millis(300))
    }

    /// A pipe in which sending takes no time and nothing is lost.
    pub const fn free(delay: Duration) -> Self {
        Self {
            rate: None,
            delay,
            jitter: Duration::ZERO,
            queue: QueueSpec::DropTail { bytes: u64::MAX },
            loss: Loss::None,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(20),
            duplicate: 0.0,
            corrupt: 0.0,
            mtu: 1500,
        }
    }

    /// The same with a drop-tail queue that takes `time` to empty.
    #[must_use]
    pub fn queue_of(mut self, time: Duration) -> Self {
        let bytes = u128::from(self.rate.unwrap_or(u64::MAX)) * time.as_micros() / 8_000_000;
        self.queue = QueueSpec::DropTail { bytes: u64::try_from(bytes).unwrap_or(u64::MAX) };
        self
    }

    /// The same with `loss`.
    #[must_use]
    pub const fn losing(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Whether the pipe draws random numbers.
    fn is_random(&self) -> bool {
        !self.jitter.is_zero()
            || self.loss != Loss::None
            || self.reorder > 0.0
            || self.duplicate > 0.0
            || self.corrupt > 0.0
    }

    /// What is impossible about it, in a sentence.
    pub(crate) fn flaw(&self) -> Option<String> {
        if self.rate == Some(0) {
            return Some("a link needs a rate above zero".into());
        }
        if self.rate.is_some() && self.queue == (QueueSpec::DropTail { bytes: 0 }) {
            return Some("a link needs a queue that holds at least one packet".into());
        }
        let shares = [("reorder", self.reorder), ("duplicate", self.duplicate), ("corrupt", self.corrupt)];
        let shares = shares.into_iter().chain(self.loss.shares());
        shares
            .into_iter()
            .find(|(_, share)| !(0.0..=1.0).contains(share))
            .map(|(name, share)| format!("{name} must be between 0 and 1, not {share}"))
    }
}

/// Both directions of a link.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkSpec {
    /// From the host.
    pub up: PipeSpec,
    /// To the host.
    pub down: PipeSpec,
}

impl LinkSpec {
    /// The same in both directions: `rate` wire bits per second, `delay` in each, 300 ms of drop-tail queue.
    pub fn symmetric(rate: u64, delay: Duration) -> Self {
        Self { up: PipeSpec::new(rate, delay), down: PipeSpec::new(rate, delay) }
    }

    /// Changes both directions alike.
    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut PipeSpec)) -> Self {
        change(&mut self.up);
        change(&mut self.down);
        self
    }
}
