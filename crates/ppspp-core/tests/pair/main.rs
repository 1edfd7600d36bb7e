//! Pairs and small groups of endpoints on a virtual clock.

mod net;
mod transfer;
