//! Peers that lie, flood, replay and guess.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod company;
mod data;
mod handshake;
#[expect(dead_code, reason = "shared with the pairs, which use all of it")]
#[path = "../pair/net.rs"]
mod net;
#[expect(dead_code, reason = "shared with the pairs, which use all of it")]
#[path = "../pair/raw.rs"]
mod raw;
#[expect(dead_code, reason = "shared with the pairs, which use all of it")]
#[path = "../pair/script.rs"]
mod script;
mod searching;
mod serving;
