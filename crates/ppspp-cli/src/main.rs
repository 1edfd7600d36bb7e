//! The `ppspp` command: shares files and fetches them, verified, peer to peer (RFC 7574).

mod addresses;
mod args;
mod decode;
mod exit;
mod output;
mod signals;
mod units;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use args::{Cli, Command};
use exit::{Exit, Outcome, Stop};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error).into(),
    };
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            if let Stop::Failure(_, error) = &stop {
                output::complain(format_args!("{error:#}"));
            }
            stop.exit().into()
        }
    }
}

fn run(cli: &Cli) -> Outcome<Exit> {
    match &cli.command {
        Command::Decode(args) => decode::run(args),
        _ => Ok(Exit::Done),
    }
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
