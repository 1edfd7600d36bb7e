//! What the fuzz targets do with an input. Each function panics if the core breaks a promise.
//!
//! The targets in `fuzz_targets` call these functions, and so does `crates/ppspp-core/tests/corpus.rs`, which includes
//! this file as a module and replays the committed corpora on stable Rust.

mod bins;
mod content;
mod endpoint;
mod handshakes;
mod input;
mod mangled;
mod messages;
mod proofs;
mod range_sets;

pub use bins::bin_ops;
pub use endpoint::endpoint_receive;
pub use handshakes::handshake_options;
pub use mangled::mangled_pair;
pub use messages::{decode, roundtrip};
pub use proofs::proof;
pub use range_sets::range_set_ops;
