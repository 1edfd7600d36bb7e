//! What a run cost the machine it ran on. Shown, and no part of the history: another machine has other figures.

use std::fs;
use std::time::Duration;

use ppspp_sim::Report;
use serde::Serialize;

/// Time and memory of one run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Cost {
    real_seconds: f64,
    events_per_second: u64,
    /// The most memory that the process ever had; `None` where the system does not tell.
    peak_memory_bytes: Option<u64>,
    /// The same for each host.
    memory_bytes_per_host: Option<u64>,
}

impl Cost {
    /// The cost of a run that took `took` and ended just now.
    pub(crate) fn of(report: &Report, took: Duration) -> Self {
        let rate = u128::from(report.events) * 1_000_000 / took.as_micros().max(1);
        let peak = fs::read_to_string("/proc/self/status").ok().and_then(|status| peak(&status));
        Self {
            real_seconds: took.as_secs_f64(),
            events_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
            peak_memory_bytes: peak,
            memory_bytes_per_host: peak.map(|bytes| bytes / (report.hosts as u64).max(1)),
        }
    }

    /// The rows that follow the report's own.
    pub(crate) fn rows(&self) -> String {
        let time = format!("{:.3} s, {} events per second", self.real_seconds, self.events_per_second);
        let memory = match self.peak_memory_bytes.zip(self.memory_bytes_per_host) {
            Some((peak, each)) => format!("{} MiB at most, {each} bytes per host", peak >> 20),
            None => "unknown on this system".to_owned(),
        };
        format!("{:<22}{time}\n{:<22}{memory}\n", "real time", "memory")
    }
}

/// The high-water mark of the resident set in what Linux tells of a process.
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_found() {
        assert_eq!(peak("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t      12 kB\n"), Some(2 << 20));
        assert_eq!(peak("Name:\tx\n"), None);
        assert_eq!(peak("VmHWM:\t many kB\n"), None);
    }
}
