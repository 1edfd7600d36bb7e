//! Who has what, and how many have it.

mod map;
mod rarity;

pub use map::PeerMap;
pub(crate) use rarity::Place;
pub use rarity::{Rarity, whole_groups};
