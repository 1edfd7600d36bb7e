//! Whom to deal with, and who is served how much: reputation, turns by bytes, upload slots, rate limits.
//!
//! Pure decisions over numbers and keys; the swarm and the endpoint say whom they concern.

mod bucket;
mod choke;
mod conduct;
mod fair;
mod intake;
mod rates;
mod reputation;

pub(crate) use bucket::{Bucket, Reserved};
pub use choke::{Candidate, Grant, Reciprocity, Round, UnchokePolicy};
pub(crate) use conduct::Conduct;
pub(crate) use fair::{FairQueue, Place};
pub(crate) use intake::Intake;
pub use rates::{ByteRate, Rates};
pub(crate) use reputation::{Host, Offence, Reputation};
