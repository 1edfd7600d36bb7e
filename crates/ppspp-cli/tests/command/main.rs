//! The `ppspp` command as its users see it: real processes, real sockets, real files.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod bad_input;
mod capture;
mod json;
#[cfg(target_os = "linux")]
mod paused;
#[cfg(target_os = "linux")]
mod slow_disk;
mod stream;
mod support;
mod swarm;
mod transfer;
