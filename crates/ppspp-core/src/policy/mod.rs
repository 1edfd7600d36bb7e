//! Who is served how much: turns by bytes, upload slots, rate limits.
//!
//! Pure decisions over numbers and keys; the swarm and the endpoint say whom they concern.

mod bucket;
mod fair;
mod intake;
mod rates;

pub(crate) use bucket::Bucket;
pub(crate) use fair::{FairQueue, Place};
pub(crate) use intake::Intake;
pub use rates::{ByteRate, Rates};
