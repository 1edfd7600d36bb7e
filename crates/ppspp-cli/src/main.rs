//! The `ppspp` command: shares files and fetches them, verified, peer to peer (RFC 7574).

mod addresses;
mod args;
mod changed;
mod console;
mod content;
mod decode;
mod demo;
mod exit;
mod get;
mod given;
mod hash;
mod hex;
mod limits;
mod meter;
mod node;
mod output;
mod patience;
mod pipe;
mod report;
mod seed;
mod signals;
mod stats;
mod units;
mod writer;

use std::env;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use exit::{Exit, OrExit as _, Outcome, Stop};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error).into(),
    };
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            let exit = stop.exit();
            match stop {
                Stop::Failure(Exit::Interrupted, error) => writer::complain_briefly(format!("{error:#}")),
                Stop::Failure(_, error) => output::complain(format_args!("{error:#}")),
                Stop::Unread => {}
            }
            exit.into()
        }
    }
}

fn run(cli: &Cli) -> Outcome<Exit> {
    let logging = log(cli.verbose)?;
    limits::raise();
    match &cli.command {
        Command::Seed(args) => seed::run(args, logging),
        Command::Get(args) => get::run(args, logging),
        Command::Hash(args) => hash::run(args, logging),
        Command::Demo(args) => demo::run(args, logging),
        Command::Decode(args) => decode::run(args),
    }
}

/// Logs to standard error if asked to, by `-v` or by `RUST_LOG`; whether it does.
fn log(verbose: u8) -> Outcome<bool> {
    let filter = match (env::var(EnvFilter::DEFAULT_ENV), verbose) {
        (Ok(filter), _) if !filter.is_empty() => filter,
        (_, 0) => return Ok(false),
        (_, 1) => "info".to_owned(),
        (_, 2) => "debug".to_owned(),
        (_, _) => "trace".to_owned(),
    };
    let filter = EnvFilter::builder().parse(filter).context("RUST_LOG cannot be used").or_exit(Exit::Usage)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(true)
}

/// Says in one sentence what is wrong with the command line; help and version are nothing wrong.
fn refuse(error: &clap::Error) -> Exit {
    use std::error::Error as _;

    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed pipe is no reason to complain.
        drop(error.print());
        return if asked { Exit::Done } else { Exit::Usage };
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue), error.source()) {
        // The sentences about links name the part that is wrong; the whole link would bury them.
        (Some("<LINK>"), _, Some(source)) => output::complain(source),
        (Some(flag), Some(value), Some(source)) => {
            output::complain(format_args!("{value:?} cannot be used for {flag}: {source}"));
        }
        _ => {
            let text = error.render().to_string();
            let paragraph = text.split("\n\n").next().unwrap_or(&text);
            let words: Vec<_> = paragraph.trim_start_matches("error: ").split_whitespace().collect();
            output::complain(format_args!("{}; see ppspp --help", words.join(" ")));
        }
    }
    Exit::Usage
}
