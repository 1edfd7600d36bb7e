//! Adversaries: hosts that speak the raw wire and keep no promise.

mod flood;
mod liar;
mod wire;

pub use flood::HandshakeFlood;
pub use liar::{Liar, Lie};
