//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, every rule held
  1  a rule was broken or the goal was not reached; the report names seed, time, host, rule, and how to repeat it
  2  the command cannot be done as given: an unknown scenario, impossible parameters, a file that cannot be written";

/// Replay PPSPP swarms in a deterministic network: one seed, one history
#[derive(Parser, Debug)]
#[command(name = "ppspp-sim", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Run(RunArgs),
    List,
}

/// Run a scenario that ships
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunArgs {
    /// Its name; `ppspp-sim list` shows them
    pub(crate) scenario: String,
    /// The seed: everything random is drawn from it
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Number of leechers; default: the scenario's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) peers: Option<u32>,
    /// Content length in bytes; default: the scenario's
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) size: Option<u64>,
    /// Do not watch the rules: faster, for figures on speed
    #[arg(long)]
    pub(crate) no_checks: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What is written besides the table.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Write one line per event
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Write every datagram as pcapng
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
}
