//! Standard output, which programs read, and standard error, which people read.

use std::fmt;
use std::io::{self, BufWriter, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::signals::Interrupt;
use crate::writer::Writer;

/// What goes to standard output. A closed pipe ends the command quietly.
pub(crate) struct Output<W: Write = Writer> {
    to: BufWriter<W>,
}

impl Output {
    /// The process's standard output. A reader who has paused is waited for until `interrupt`.
    pub(crate) fn stdout(interrupt: &Interrupt) -> Outcome<Self> {
        Self::start(io::stdout(), interrupt)
    }

    /// Standard error, where standard output carries content.
    pub(crate) fn stderr(interrupt: &Interrupt) -> Outcome<Self> {
        Self::start(io::stderr(), interrupt)
    }

    fn start(to: impl Write + Send + 'static, interrupt: &Interrupt) -> Outcome<Self> {
        let writer = Writer::start(to, interrupt.clone()).context("cannot start a thread to write in");
        Ok(Self::new(writer.or_exit(Exit::Failed)?))
    }
}

impl<W: Write> Output<W> {
    /// Output that goes to `to`.
    pub(crate) fn new(to: W) -> Self {
        Self { to: BufWriter::with_capacity(64 * 1024, to) }
    }

    /// Writes a line, and lets it wait for others.
    pub(crate) fn queue(&mut self, line: impl fmt::Display) -> Outcome {
        writeln!(self.to, "{line}").or_else(judge)
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.to.flush().or_else(judge)
    }

    /// Writes a line at once.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Outcome {
        self.queue(line)?;
        self.flush()
    }

    /// Writes `value` as one line of JSON, at once.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> Outcome {
        let text = serde_json::to_string(value).context("cannot write JSON").or_exit(Exit::Failed)?;
        self.line(text)
    }
}

/// A write that failed: nobody reads any more, or something is wrong.
pub(crate) fn judge(error: io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Err(Stop::Unread),
        _ => Err(error).context("cannot write to standard output").or_exit(Exit::Failed),
    }
}

/// Writes a line for people. If standard error is gone nobody misses it.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a warning or an error, with the command's name in front as is the custom.
pub(crate) fn complain(sentence: impl fmt::Display) {
    say(format_args!("ppspp: {sentence}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(io::ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
        let stop = Output::new(Refuses(io::ErrorKind::BrokenPipe)).line("x").unwrap_err();
        assert!(matches!(stop, Stop::Unread));
        assert_eq!(stop.exit(), Exit::Done);
        let stop = Output::new(Refuses(io::ErrorKind::StorageFull)).line("x").unwrap_err();
        let Stop::Failure(Exit::Failed, error) = stop else { panic!("{stop:?}") };
        assert!(error.to_string().starts_with("cannot write to standard output"));
    }

    #[test]
    fn objects_are_single_lines() {
        let mut written = Vec::new();
        Output::new(&mut written).object(&[("a\nb", 1)]).unwrap();
        assert_eq!(written, b"[[\"a\\nb\",1]]\n");
    }
}
