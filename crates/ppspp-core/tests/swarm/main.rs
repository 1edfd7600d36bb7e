//! Small swarms on a virtual clock, each host behind an access link of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../pair/net.rs"]
#[expect(dead_code, reason = "shared with the tests of pairs")]
mod net;

mod bound;
mod crowd;
mod events;
mod orders;
