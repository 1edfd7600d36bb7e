//! What handlers are given instead of owning it: the time, the configuration, and where results go.

use alloc::collections::VecDeque;
use core::fmt;

use rand_chacha::ChaCha12Rng;

use crate::config::EndpointConfig;
use crate::event::{Event, SwarmId};
use crate::policy::{Bucket, Intake, Reputation};
use crate::stats::EndpointStats;
use crate::time::Instant;

/// Numbers that nobody else knows, or finds in a log; none is zero.
#[derive(Clone, Copy)]
pub(crate) struct Secret([u64; 2]);

impl Secret {
    pub(crate) fn new(numbers: [u64; 2]) -> Self {
        Self(numbers.map(|number| number.max(1)))
    }

    pub(crate) const fn reveal(self) -> [u64; 2] {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The surroundings of one call into the endpoint.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a EndpointConfig,
    /// For choices among equals. Channel ids, which must not be guessed, have a stream of their own.
    pub(crate) rng: &'a mut ChaCha12Rng,
    /// For what others must not be able to foresee.
    pub(crate) secret: Secret,
    pub(crate) events: &'a mut EventQueue,
    pub(crate) stats: &'a mut EndpointStats,
    /// What all swarms together may send.
    pub(crate) up: &'a mut Bucket,
    /// What all swarms together may ask for.
    pub(crate) down: &'a mut Intake,
    pub(crate) reputation: &'a mut Reputation,
}

/// Events waiting for the application.
///
/// Growth is bounded at the sources: verified bytes by R19, reads by `Limits::pending_reads`, progress by
/// coalescing, channels by refusing new ones while [`EventQueue::is_full`].
#[derive(Debug)]
pub(crate) struct EventQueue {
    queue: VecDeque<Event>,
    limit: usize,
}

impl EventQueue {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), limit }
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    /// Adds a progress event unless one for the swarm is the newest already.
    pub(crate) fn push_progress(&mut self, swarm: SwarmId) {
        if self.queue.back() != Some(&Event::Progress { swarm }) {
            self.queue.push_back(Event::Progress { swarm });
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    /// Whether nothing should be started that yields further events.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= self.limit
    }
}
