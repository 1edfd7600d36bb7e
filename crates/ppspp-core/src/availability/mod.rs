//! Who has what.

mod map;

pub use map::PeerMap;
