//! What is printed.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Usage;

/// What one transfer cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// From the start of the receiving process to its end.
    pub(crate) elapsed: Duration,
    pub(crate) sender: Usage,
    pub(crate) receiver: Usage,
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Writes a line to standard error. If that is gone nobody misses it.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The heading over [`row`].
pub(crate) fn heading() -> Result<()> {
    line("what      chunk  round      MB/s  seconds  sender cpu s  receiver cpu s  sender MiB  receiver MiB")
}

/// One transfer of `bytes`.
pub(crate) fn row(what: &str, chunk_size: u32, round: &str, bytes: u64, sample: &Sample) -> Result<()> {
    line(&format!(
        "{what:<8} {chunk_size:>6}  {round:>5}  {:>8.1}  {:>7.3}  {:>12.2}  {:>14.2}  {:>10.1}  {:>12.1}",
        rate(bytes, sample.elapsed),
        sample.elapsed.as_secs_f64(),
        sample.sender.cpu.as_secs_f64(),
        sample.receiver.cpu.as_secs_f64(),
        sample.sender.peak_mib(),
        sample.receiver.peak_mib(),
    ))
}

/// Millions of bytes per second.
#[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
pub(crate) fn rate(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64().max(1e-9)
}

/// The transfer of median duration, with the highest memory of all.
pub(crate) fn median(samples: &[Sample]) -> Option<Sample> {
    let mut sorted = samples.to_vec();
    sorted.sort_by_key(|sample| sample.elapsed);
    let mut median = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    for sample in samples {
        median.sender.peak_kib = median.sender.peak_kib.max(sample.sender.peak_kib);
        median.receiver.peak_kib = median.receiver.peak_kib.max(sample.receiver.peak_kib);
    }
    Some(median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_has_the_middle_time_and_the_highest_memory() {
        let of = |millis, peak_kib| {
            let usage = Usage { cpu: Duration::ZERO, peak_kib };
            Sample { elapsed: Duration::from_millis(millis), sender: usage, receiver: usage }
        };
        let median = median(&[of(9, 1), of(1, 5), of(4, 2)]).unwrap();
        assert_eq!(median.elapsed, Duration::from_millis(4));
        assert_eq!(median.sender.peak_kib, 5);
        assert!(super::median(&[]).is_none());
    }

    #[test]
    fn rates_are_in_millions_of_bytes() {
        assert!((rate(2_000_000, Duration::from_millis(500)) - 4.0).abs() < 1e-9);
    }
}
