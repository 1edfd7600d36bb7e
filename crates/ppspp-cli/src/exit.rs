//! How the command ends.

use std::process::ExitCode;
use std::{fmt, io};

use ppspp_mio::file::FileProblem;

use crate::signals::Interrupt;

/// The exit codes, documented in `--help`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// A transfer failed, or content is not what it should be.
    Failed,
    /// The command cannot be done as given.
    Usage,
    /// No peer answered in time.
    NoPeer,
    /// Ended by Ctrl-C or SIGTERM.
    Interrupted,
}

/// The exit codes as `--help` shows them.
pub(crate) const HELP: &str = "\
Exit codes:
    0  done, or nobody reads standard output any more
    1  the transfer failed, or content is not what it should be
    2  the command cannot be done as given: a flag, link, file, output or address that cannot be used
    3  no peer answered in time
  130  interrupted by Ctrl-C or SIGTERM; what was fetched is kept, what was decoded is printed";

impl Exit {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoPeer => 3,
            Self::Interrupted => 130,
        }
    }

    /// How a command ends whose last lines a signal may have cut off.
    pub(crate) fn done_unless(interrupt: &Interrupt) -> Self {
        if interrupt.is_set() { Self::Interrupted } else { Self::Done }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads standard output any more: nothing is left to be done, or to be said.
    Unread,
    /// It failed; the sentence is for standard error.
    Failure(Exit, anyhow::Error),
}

impl Stop {
    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Unread => Exit::Done,
            Self::Failure(exit, _) => *exit,
        }
    }

    /// A failure with a sentence.
    pub(crate) fn new(exit: Exit, sentence: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::Failure(exit, anyhow::Error::msg(sentence))
    }

    /// Something that the operating system refused, with the remedy where there is one.
    pub(crate) fn system(what: impl fmt::Display, error: &io::Error) -> Self {
        let sentence = match FileProblem::from(error) {
            FileProblem::Other { .. } => format!("{what}: {error}"),
            problem => format!("{what}: {problem}"),
        };
        Self::new(Exit::Failed, sentence)
    }
}

/// What a command yields.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

/// Gives an error its exit code.
pub(crate) trait OrExit<T> {
    /// The value, or the error as a failure with this exit code.
    fn or_exit(self, exit: Exit) -> Outcome<T>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Outcome<T> {
        self.map_err(|error| Stop::Failure(exit, error.into()))
    }
}
