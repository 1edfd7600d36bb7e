//! Which chunks are asked for next, and of whom.

mod picker;
mod requests;

pub(crate) use picker::{Pickable, Picker};
pub(crate) use requests::{PeerSlot, Requests, mask};
