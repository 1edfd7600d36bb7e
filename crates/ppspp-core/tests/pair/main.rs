//! Pairs and small groups of endpoints on a virtual clock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod abuse;
mod acks;
mod admission;
mod batches;
mod bounds;
mod changed;
mod channels;
mod choking;
mod crowding;
mod deadlines;
mod end_game;
mod exchange;
mod fairness;
mod far;
mod flow;
mod handshake;
mod have;
mod lifetime;
mod loss;
mod net;
mod older;
mod rates;
mod raw;
mod replay;
mod rivals;
mod script;
mod silent;
mod sparing;
mod spread;
mod start;
mod storage;
mod traffic;
mod transfer;
mod untried;
