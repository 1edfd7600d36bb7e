//! Child processes, and what they cost.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Clock ticks in a second, as Linux counts processor time for programs on every architecture.
const TICKS_PER_SECOND: u64 = 100;
/// Time between two looks at a process's memory: it cannot be read once the process has ended.
const MEMORY_INTERVAL: Duration = Duration::from_millis(20);
/// Time between two looks at whether a process that closed its output has ended.
const END_INTERVAL: Duration = Duration::from_millis(1);

/// What a process has cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// Highest resident memory in KiB (`VmHWM`).
    pub(crate) peak_kib: u64,
}

impl Usage {
    /// Highest resident memory in MiB.
    #[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
    pub(crate) fn peak_mib(self) -> f64 {
        self.peak_kib as f64 / 1024.0
    }
}

/// A running child with a thread that watches its memory. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    started: Instant,
    peak_kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; it is killed after `patience`.
    pub(crate) fn start(command: &mut Command, patience: Duration) -> Result<Self> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("a child has no standard output")?;
        let peak_kib = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let pid = child.id();
        let watcher = thread::spawn({
            let (peak_kib, stop) = (Arc::clone(&peak_kib), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    peak_kib.fetch_max(peak_of(pid), Ordering::Relaxed);
                    if started.elapsed() > patience {
                        // The child is not reaped before this thread has ended: the number is still its own.
                        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                        return;
                    }
                    thread::park_timeout(MEMORY_INTERVAL);
                }
            }
        });
        Ok(Self { child, stdout: BufReader::new(stdout), started, peak_kib, stop, watchers: vec![watcher] })
    }

    /// The next line of its standard output, and the time since the start.
    pub(crate) fn next_line(&mut self) -> Result<(String, Duration)> {
        let mut text = String::new();
        self.stdout.read_line(&mut text).context("cannot read what a child prints")?;
        if text.is_empty() {
            bail!("a child ended without the line that was waited for");
        }
        Ok((text.trim_end().to_owned(), self.started.elapsed()))
    }

    /// Its number in the system.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has cost so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let pid = self.child.id();
        let peak_kib = self.peak_kib.fetch_max(peak_of(pid), Ordering::Relaxed).max(peak_of(pid));
        Ok(Usage { cpu: stat(pid)?.cpu, peak_kib })
    }

    /// Waits for a successful end. Returns what it printed, how long it ran and what it cost.
    pub(crate) fn finish(mut self) -> Result<(String, Duration, Usage)> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).context("cannot read what a child prints")?;
        let pid = self.child.id();
        // Ended but not reaped it still shows its processor time.
        while !stat(pid)?.ended {
            thread::sleep(END_INTERVAL);
        }
        let elapsed = self.started.elapsed();
        let usage = self.usage()?;
        self.stop_watching();
        let status = self.child.wait().context("cannot wait for a child")?;
        if !status.success() {
            bail!("a child ended with {status} after {:.1} s; it printed: {}", elapsed.as_secs_f64(), text.trim_end());
        }
        Ok((text, elapsed, usage))
    }

    fn stop_watching(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers.drain(..) {
            // Whoever times several processes waits for their watchers one after the other.
            watcher.thread().unpark();
            let _ = watcher.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop_watching();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Peak resident memory of process `pid` in KiB; 0 once it has ended.
fn peak_of(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| parse_peak(&text)).unwrap_or(0)
}

/// Resident memory of this process in KiB.
pub(crate) fn resident_kib() -> Result<u64> {
    let path = "/proc/self/status";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}: only Linux has it"))?;
    field_kib(&text, "VmRSS:").with_context(|| format!("cannot understand {path}"))
}

/// Processor time of this process so far.
pub(crate) fn own_cpu() -> Result<Duration> {
    Ok(stat(std::process::id())?.cpu)
}

fn parse_peak(status: &str) -> Option<u64> {
    field_kib(status, "VmHWM:")
}

fn field_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    ended: bool,
    cpu: Duration,
}

fn stat(pid: u32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}: only Linux has it"))?;
    parse_stat(&text).with_context(|| format!("cannot understand {path}"))
}

/// Fields 3, 14 and 15 of `proc_pid_stat(5)`; the name before them may hold anything, also brackets and blanks.
fn parse_stat(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()?.checked_add(fields.get(12)?.parse().ok()?)?;
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X"),
        cpu: Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood() {
        let stat = "42 (a) b) (c) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 1 0 5 1 1";
        assert_eq!(parse_stat(stat), Some(Stat { ended: false, cpu: Duration::from_millis(1750) }));
        let ended = stat.replace(" S ", " Z ");
        assert!(parse_stat(&ended).unwrap().ended);
        assert_eq!(parse_stat("42 (a) S 1"), None);
        assert_eq!(parse_peak("Name:\ta\nVmHWM:\t    5120 kB\nVmRSS:\t 1 kB\n"), Some(5120));
        assert_eq!(parse_peak("Name:\ta\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_is_run_and_measured() {
        let patience = Duration::from_secs(60);
        let mut process = Process::start(Command::new("sh").args(["-c", "echo one; echo two"]), patience).unwrap();
        assert_eq!(process.next_line().unwrap().0, "one");
        assert_eq!(process.finish().unwrap().0, "two\n");
        let failing = Process::start(Command::new("sh").args(["-c", "exit 3"]), patience).unwrap();
        assert!(failing.finish().is_err());
    }
}
