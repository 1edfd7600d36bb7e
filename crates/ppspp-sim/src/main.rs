//! The `ppspp-sim` command: runs swarms in a deterministic network.

mod args;
mod command;
mod cost;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // A closed pipe is no reason to complain.
            drop(error.print());
            return if asked { ExitCode::SUCCESS } else { command::Stop::USAGE.into() };
        }
    };
    match command::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            drop(writeln!(std::io::stderr(), "ppspp-sim: {}", stop.sentence));
            stop.code.into()
        }
    }
}
