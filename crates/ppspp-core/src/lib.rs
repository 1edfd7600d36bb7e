//! PPSPP (RFC 7574) as a pure state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
// The derive behind `arbitrary` names it.
#[cfg(any(test, feature = "arbitrary"))]
extern crate std;

pub mod availability;
pub mod chunk;
pub mod congestion;
pub mod integrity;
pub mod time;
pub mod wire;
