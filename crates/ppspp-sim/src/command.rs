//! What the command does.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ppspp_sim::scenarios::{self, Options};
use ppspp_sim::{Failure, Recording, Report, Scenario, fuzz, plot};

use serde::Serialize;

use crate::args::{Cli, Command, FuzzArgs, OutputArgs, ReplayArgs, RunArgs, Seeds};
use crate::cost::Cost;

/// Minutes that `fuzz` takes without being told.
const MINUTES: u64 = 10;

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

    fn failed(sentence: impl Display) -> Self {
        Self { code: Self::FAILED, sentence: sentence.to_string() }
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
        Command::Fuzz(args) => run_seeds(args),
        Command::Replay(ReplayArgs { seed, output }) => run_recorded(fuzz::draw(*seed), output),
    }
}

fn run_scenario(args: &RunArgs) -> Result<(), Stop> {
    let options = Options { seed: args.seed, peers: args.peers.map(|peers| peers as usize), size: args.size };
    let name = &args.scenario;
    let shipped = scenarios::find(name)
        .ok_or_else(|| Stop::usage(format_args!("there is no scenario {name:?}; `ppspp-sim list` names them")))?;
    let mut scenario = shipped.build(&options);
    if let Some(seconds) = args.within {
        scenario.must_end_within(Duration::from_secs(seconds));
        scenario.repeated_by(format!("{} --within {seconds}", options.command(name)));
    }
    if args.no_checks {
        scenario.without_checkers();
    }
    run_recorded(scenario, &args.output)
}

fn run_recorded(mut scenario: Scenario, output: &OutputArgs) -> Result<(), Stop> {
    let open = |path: &Option<PathBuf>| path.as_deref().map(create).transpose();
    let recording = Recording { trace: open(&output.trace)?, pcap: open(&output.pcap)? };
    let mut drawing = open(&output.plot)?;
    if drawing.is_some() {
        scenario.keep_progress();
    }
    let begun = Instant::now();
    let result = scenario.run_recorded(recording);
    let took = begun.elapsed();
    let (report, sentence) = match result {
        Ok(report) => (report, None),
        Err(Failure::Impossible(error)) => return Err(Stop::usage(error)),
        Err(failure) => {
            let sentence = failure.to_string();
            let Failure::Broken { report, .. } = failure else { return Err(Stop::failed(sentence)) };
            (*report, Some(sentence))
        }
    };
    if let Some(file) = &mut drawing {
        let svg = plot(&report).map_err(|error| Stop::failed(format_args!("the plot cannot be drawn: {error}")))?;
        let written = file.write_all(svg.unwrap_or_default().as_bytes());
        written.map_err(|error| Stop::usage(format_args!("the plot cannot be written: {error}")))?;
    }
    show(&report, took, output.json);
    sentence.map_or(Ok(()), |sentence| Err(Stop::failed(sentence)))
}

fn show(report: &Report, took: Duration, json: bool) {
    /// A report and what is no part of it.
    #[derive(Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        report: &'a Report,
        cost: Cost,
    }

    let cost = Cost::of(report, took);
    if json {
        let shown = serde_json::to_string(&Shown { report, cost });
        return print(&format!("{}\n", shown.unwrap_or_default()));
    }
    print(&format!("{report}{}", cost.rows()));
}

/// Runs one seed after the other, on as many threads as asked for. Every failure is told when it occurs.
fn run_seeds(args: &FuzzArgs) -> Result<(), Stop> {
    let minutes = args.minutes.or_else(|| args.seeds.is_none().then_some(MINUTES));
    let Seeds { first, end } = args.seeds.unwrap_or(Seeds { first: 0, end: u64::MAX });
    let begun = Instant::now();
    let (next, done, failed) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    // A sum does not depend on the order in which threads come to it.
    let histories = AtomicU64::new(0);
    let in_time = || minutes.is_none_or(|minutes| begun.elapsed() < Duration::from_secs(60 * minutes));
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while in_time() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    let (history, broken) = run_seed(seed);
                    histories.fetch_add(mix(seed, history), Ordering::Relaxed);
                    if let Some(sentence) = broken {
                        failed.fetch_add(1, Ordering::Relaxed);
                        print(&format!("{sentence}\n"));
                    }
                }
            });
        }
    });
    let (done, failed) = (done.into_inner(), failed.into_inner());
    let (took, histories) = (begun.elapsed().as_secs_f64(), histories.into_inner());
    print(&format!("{done} runs from seed {first} on in {took:.1} s, {failed} failed, histories {histories:016x}\n"));
    if failed == 0 { Ok(()) } else { Err(Stop::failed(format_args!("{failed} of {done} runs failed"))) }
}

/// Runs one seed; the hash of its history, and what went wrong, if anything did. A panic of the core is a failure like
/// others.
fn run_seed(seed: u64) -> (u64, Option<String>) {
    let history = |report: &Report| u64::from_str_radix(&report.trace_hash, 16).unwrap_or(0);
    match panic::catch_unwind(|| fuzz::draw(seed).run()) {
        Ok(Ok(report)) => (history(&report), None),
        Ok(Err(failure)) => {
            let sentence = failure.to_string();
            let Failure::Broken { report, .. } = failure else { return (0, Some(sentence)) };
            (history(&report), Some(sentence))
        }
        Err(_) => (0, Some(format!("seed {seed}: a panic; repeat with: ppspp-sim replay --seed {seed} --trace"))),
    }
}

/// One number of a seed and its history.
const fn mix(seed: u64, history: u64) -> u64 {
    (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ history).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Opens a file to write to; `-` is standard error.
fn create(path: &Path) -> Result<Box<dyn Write + Send>, Stop> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stderr()));
    }
    match File::create(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Stop::usage(format_args!("{} cannot be written: {error}", path.display()))),
    }
}

/// Prints to standard output; a closed pipe is no reason to complain.
fn print(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}
