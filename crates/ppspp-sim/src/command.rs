//! What the command does.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ppspp_sim::scenarios::{self, Options};
use ppspp_sim::{Failure, Recording, Report};

use crate::args::{Cli, Command, OutputArgs, RunArgs};

/// Why the command ends early.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) code: u8,
    pub(crate) sentence: String,
}

impl Stop {
    /// The exit code of a command that cannot be done as given.
    pub(crate) const USAGE: u8 = 2;
    const FAILED: u8 = 1;

    fn usage(sentence: impl Display) -> Self {
        Self { code: Self::USAGE, sentence: sentence.to_string() }
    }
}

pub(crate) fn run(cli: &Cli) -> Result<(), Stop> {
    match &cli.command {
        Command::Run(args) => run_scenario(args),
        Command::List => {
            let width = scenarios::ALL.iter().map(|shipped| shipped.name().len()).max().unwrap_or(0);
            let lines =
                scenarios::ALL.iter().map(|shipped| format!("{:width$}  {}\n", shipped.name(), shipped.about()));
            print(&lines.collect::<String>());
            Ok(())
        }
    }
}

fn run_scenario(args: &RunArgs) -> Result<(), Stop> {
    let options = Options { seed: args.seed, peers: args.peers.map(|peers| peers as usize), size: args.size };
    let name = &args.scenario;
    let shipped = scenarios::find(name)
        .ok_or_else(|| Stop::usage(format_args!("there is no scenario {name:?}; `ppspp-sim list` names them")))?;
    let mut scenario = shipped.build(&options);
    if args.no_checks {
        scenario.without_checkers();
    }
    let recording = recording(&args.output)?;
    let begun = Instant::now();
    let result = scenario.run_recorded(recording);
    conclude(result, begun.elapsed(), args.output.json)
}

/// Prints the report, and says what went wrong.
fn conclude(result: Result<Report, Failure>, took: Duration, json: bool) -> Result<(), Stop> {
    let stop = match &result {
        Ok(_) => None,
        Err(Failure::Impossible(error)) => return Err(Stop::usage(error)),
        Err(failure) => Some(Stop { code: Stop::FAILED, sentence: failure.to_string() }),
    };
    let report = match result {
        Ok(report) => report,
        Err(Failure::Broken { report, .. }) => *report,
        Err(Failure::Impossible(error)) => return Err(Stop::usage(error)),
    };
    if json {
        print(&format!("{}\n", report.to_json()));
    } else {
        let rate = u128::from(report.events) * 1_000_000 / took.as_micros().max(1);
        print(&format!("{report}{:<22}{:.3} s, {rate} events per second\n", "real time", took.as_secs_f64()));
    }
    stop.map_or(Ok(()), Err)
}

fn recording(args: &OutputArgs) -> Result<Recording, Stop> {
    let open = |path: &Option<PathBuf>| path.as_deref().map(create).transpose();
    Ok(Recording { trace: open(&args.trace)?, pcap: open(&args.pcap)? })
}

fn create(path: &Path) -> Result<Box<dyn Write + Send>, Stop> {
    match File::create(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Stop::usage(format_args!("{} cannot be written: {error}", path.display()))),
    }
}

/// Prints to standard output; a closed pipe is no reason to complain.
fn print(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}
