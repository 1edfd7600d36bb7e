//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, every rule held
  1  a rule was broken or the goal was not reached; what is printed names seed, time, host, rule, and how to repeat it
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
    Fuzz(FuzzArgs),
    Replay(ReplayArgs),
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
    /// Number of leechers, at most 100,000; default: the scenario's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) peers: Option<u32>,
    /// Content length in bytes; default: the scenario's
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) size: Option<u64>,
    /// Fail unless the goal is reached within so many virtual seconds; default: the scenario's own limit
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) within: Option<u64>,
    /// Do not watch the rules: faster, for figures on speed
    #[arg(long)]
    pub(crate) no_checks: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Run many scenarios drawn from seeds: faults first, then everyone must complete
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct FuzzArgs {
    /// The seeds, the last not included; default: from 0 until the time is up
    #[arg(long, value_name = "A..B")]
    pub(crate) seeds: Option<Seeds>,
    /// Begin no run after so many minutes; default: 10, or none if seeds are given
    #[arg(long, value_name = "M")]
    pub(crate) minutes: Option<u64>,
    /// Runs at the same time; each run is alone in its thread and the same whatever their number
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: u16,
}

/// Repeat one run of `fuzz`
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ReplayArgs {
    /// The seed
    #[arg(long)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What is written besides the table.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Write one line per event: time, what, host, details. To standard error without a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) trace: Option<PathBuf>,
    /// Write every datagram as pcapng
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
    /// Draw progress, link use and queue delay over time
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

/// A range of seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seeds {
    pub(crate) first: u64,
    pub(crate) end: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once("..").and_then(|(first, end)| Some((first.parse().ok()?, end.parse().ok()?)));
        match numbers {
            Some((first, end)) if first < end => Ok(Self { first, end }),
            _ => Err("seeds are given as two whole numbers, the second larger, such as 0..2000".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_with_something_in_it() {
        assert_eq!("3..5".parse(), Ok(Seeds { first: 3, end: 5 }));
        for text in ["", "3", "3..", "..5", "5..5", "5..3", "a..b", "-1..2", "1..=2"] {
            assert!(text.parse::<Seeds>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
