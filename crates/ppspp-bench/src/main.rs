//! Measures `ppspp seed` and `ppspp get` against a bare loop that does only the unavoidable work.
//!
//! Both move the same file between two processes over loopback. The bare loop reads, sends batches of chunks with one
//! hash each, receives batches, hashes every chunk and every interior node, and writes. The ratio of the two rates says
//! what the protocol and its implementation cost; it compares between machines, the rates do not.
//!
//! `cargo build --release -p ppspp-cli -p ppspp-bench && target/release/ppspp-bench`

mod args;
mod bare;
mod content;
mod idle;
mod process;
mod product;
mod profile;
mod report;
mod run;
mod split;
mod start;
mod swarm;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Mode};

fn main() -> ExitCode {
    let result = match Args::parse().mode {
        Mode::Compare(args) => run::compare(&args),
        Mode::Memory(args) => run::memory(&args),
        Mode::Swarm(args) => swarm::run(&args),
        Mode::Start(args) => start::run(&args),
        Mode::Idle(args) => idle::run(&args),
        Mode::Profile(args) => profile::run(&args),
        Mode::Split(args) => split::run(&args),
        Mode::BareSeed(args) => bare::seed::run(&args),
        Mode::BareGet(args) => bare::get::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("ppspp-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
