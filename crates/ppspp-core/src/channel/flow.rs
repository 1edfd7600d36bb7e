//! What congestion control knows of the way to one peer; outlives what the peer asked for.

use alloc::boxed::Box;
use core::time::Duration;

use crate::config::EndpointConfig;
use crate::congestion::{Controller, Pacer, RttEstimator};
use crate::time::Instant;

/// What an [`Upload`](super::Upload) leaves behind when its peer asks for nothing, for the next one.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) controller: Box<dyn Controller>,
    pub(crate) rtt: RttEstimator,
    pub(crate) pacer: Pacer,
    /// The last acknowledgement, or the first sending after a pause.
    pub(crate) progress_at: Instant,
}

impl Flow {
    /// Nothing was sent yet, in segments of `mss` bytes; the handshake took `rtt`, or was repeated.
    pub(crate) fn new(config: &EndpointConfig, mss: u32, rtt: Option<Duration>, now: Instant) -> Self {
        let mut congestion = config.congestion;
        congestion.mss = mss;
        let fresh = if rtt.is_some() { RttEstimator::new(now) } else { RttEstimator::after_repeats(now) };
        let mut estimator = fresh.remembering(congestion.base_history, now);
        if let Some(rtt) = rtt {
            estimator.on_handshake(now, rtt);
        }
        Self { controller: congestion.build(now), rtt: estimator, pacer: Pacer::new(now, mss), progress_at: now }
    }

    /// The path carries segments of `mss` bytes.
    pub(crate) fn set_mss(&mut self, mss: u32) {
        self.controller.set_mss(mss);
        self.pacer.set_mss(mss);
    }

    /// Whether the base history of congestion control has forgotten everything (R25).
    pub(crate) fn is_stale(&self, now: Instant, config: &EndpointConfig) -> bool {
        let memory = Duration::from_secs(60 * (u64::from(config.congestion.base_history) + 1));
        self.progress_at + memory <= now
    }
}
