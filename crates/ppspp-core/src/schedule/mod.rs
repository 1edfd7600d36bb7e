//! Which chunks are asked for next, and of whom.

mod picker;
mod requests;
#[cfg(any(test, fuzzing))]
mod requests_twin;

pub(crate) use picker::{Pace, Picker, Plan, Shortlist};
pub(crate) use requests::{BatchId, PROBE_BATCHES, PeerSlot, RUN_BATCHES, Requests, bit_runs, mask, set_mask};
#[cfg(any(test, fuzzing))]
pub use requests_twin::request_ops;
