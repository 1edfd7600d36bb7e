//! Other traffic: flows that are no peers and compete with them for links.

mod constant;
mod reno;

pub use constant::{ConstantRate, Sink};
pub use reno::{RenoReceiver, RenoSender};
