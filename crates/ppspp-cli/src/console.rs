//! Standard error: what people read while a command runs.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use console::Term;
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::OutputArgs;
use crate::output;

/// How often a bar is drawn again, per second.
const DRAWS: u8 = 10;

/// Columns of a terminal that has room for a bar and for all figures of a transfer.
const WIDE: u16 = 120;

/// How much is said to people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    quiet: bool,
    bars: bool,
}

impl Console {
    /// Bars are drawn on a terminal only, and not between the lines of a log.
    pub(crate) fn new(args: &OutputArgs, logging: bool) -> Self {
        Self { quiet: args.quiet, bars: !args.quiet && !logging && io::stderr().is_terminal() }
    }

    /// A console that keeps silent: standard error belongs to programs.
    pub(crate) const fn silent() -> Self {
        Self { quiet: true, bars: false }
    }

    /// Says something, unless asked to be quiet.
    pub(crate) fn say(self, line: impl fmt::Display) {
        if !self.quiet {
            output::say(line);
        }
    }

    /// Warns of something, unless asked to be quiet.
    pub(crate) fn warn(self, sentence: impl fmt::Display) {
        if !self.quiet {
            output::complain(sentence);
        }
    }

    /// A progress bar over bytes. It shows nothing where bars are not drawn.
    pub(crate) fn bar(self, what: &'static str) -> Bar {
        self.draw(what, "{prefix} [{bar:12}] {percent}% of {decimal_total_bytes}, {eta} left{wide_msg}")
    }

    /// A progress bar over the bytes of a transfer, with its figures behind it. Where there is no room for both the bar
    /// makes way for the figures.
    pub(crate) fn transfer(self, what: &'static str) -> Bar {
        let narrow = self.bars && Term::stderr().size_checked().is_some_and(|(_, columns)| columns < WIDE);
        if narrow { self.draw(what, "{percent}%, {eta} left{wide_msg}") } else { self.bar(what) }
    }

    /// A line that is written over and over. It shows nothing where bars are not drawn.
    pub(crate) fn status(self, what: &'static str) -> Bar {
        self.draw(what, "{spinner} {prefix}{wide_msg}")
    }

    fn draw(self, what: &'static str, template: &str) -> Bar {
        if !self.bars {
            return Bar(None, Cell::new(false));
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(DRAWS));
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what);
        Bar(Some(bar), Cell::new(false))
    }
}

/// A progress bar, or nothing. It disappears when dropped.
pub(crate) struct Bar(Option<ProgressBar>, Cell<bool>);

impl Bar {
    /// Shows that `done` of `total` bytes are done.
    pub(crate) fn show(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
            self.tick(bar);
        }
    }

    /// Starts the rate afresh at `done` bytes, which took no time.
    pub(crate) fn restart(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// Shows a remark behind the bar.
    pub(crate) fn remark(&self, remark: impl fmt::Display) {
        if let Some(bar) = &self.0 {
            bar.set_message(remark.to_string());
            self.tick(bar);
        }
    }

    /// Draws on without being told to, from the first figures on: before them there is nothing to see.
    fn tick(&self, bar: &ProgressBar) {
        if !self.1.replace(true) {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
    }

    /// Does something that writes to standard error, with the bar out of the way.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Bytes over a time, in a unit that people can compare.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let per_second = u128::from(bytes) * 1_000_000 / time.as_micros().max(1);
    format!("{}/s", DecimalBytes(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

/// `1 peer`, `2 peers`.
pub(crate) fn peers(count: usize) -> String {
    counted(count, "peer")
}

/// `2 seeders, 1 leecher`, or `no peers`.
pub(crate) fn swarm(peers: usize, seeders: usize) -> String {
    let leechers = peers.saturating_sub(seeders);
    match (seeders, leechers) {
        (0, 0) => "no peers".to_owned(),
        (_, 0) => counted(seeders, "seeder"),
        (0, _) => counted(leechers, "leecher"),
        _ => format!("{}, {}", counted(seeders, "seeder"), counted(leechers, "leecher")),
    }
}

/// A number and what it counts, in the plural unless it is one.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second() {
        assert_eq!(rate(5_000_000, Duration::from_secs(2)), "2.50 MB/s");
        assert_eq!(rate(0, Duration::ZERO), "0 B/s");
        assert_eq!(rate(u64::MAX, Duration::ZERO), rate(u64::MAX, Duration::from_micros(1)));
    }

    #[test]
    fn peers_are_told_apart() {
        let cases = [
            (0, 0, "no peers"),
            (1, 1, "1 seeder"),
            (2, 0, "2 leechers"),
            (3, 2, "2 seeders, 1 leecher"),
            (0, 1, "1 seeder"),
        ];
        for (peers, seeders, told) in cases {
            assert_eq!(swarm(peers, seeders), told);
        }
    }

    #[test]
    fn a_bar_that_is_not_drawn_still_lets_others_write() {
        let console = Console { quiet: true, bars: false };
        let bar = console.bar("x");
        bar.show(1, 2);
        bar.restart(1);
        bar.remark("y");
        let mut written = false;
        bar.aside(|| written = true);
        assert!(written);
    }
}
