//! Which chunks are asked for next, and of whom.

mod picker;
mod requests;

pub(crate) use picker::{Pace, Picker, Plan};
pub(crate) use requests::{BatchId, PeerSlot, Requests, bit_runs, mask, set_mask};
