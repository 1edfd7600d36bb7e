//! Running the command as its users do.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// After this long a command hangs, and its test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The last line of standard output as JSON.
    pub(crate) fn summary(&self) -> serde_json::Value {
        serde_json::from_str(self.stdout.lines().last().unwrap()).unwrap()
    }

    /// Checks that it failed with `code` and one sentence that starts like `says`.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, says: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let sentence = self.stderr.strip_prefix("ppspp: ").unwrap_or_else(|| panic!("{self:?}"));
        assert!(sentence.starts_with(says), "{sentence:?} does not start with {says:?}");
        assert_eq!(sentence.trim_end().lines().count(), 1, "{sentence}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

/// A directory for one test, with the caches of its commands.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of `len` bytes that repeat nowhere.
    pub(crate) fn file(&self, name: &str, len: usize) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes(len, name.len() as u64)).unwrap();
        path
    }

    /// The command, in this directory, without settings from outside.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PPSPP_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.current_dir(self.dir.path()).env("XDG_CACHE_HOME", self.path("cache")).stdin(Stdio::null());
        command
    }

    pub(crate) fn ppspp(&self) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_ppspp")))
    }

    /// Runs the command to its end.
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        finish(self.ppspp().args(arguments))
    }

    /// Fetches `link` into `output`, from any free port.
    pub(crate) fn get(&self, link: &str, output: &str, more: &[&str]) -> Ended {
        finish(self.ppspp().args(["get", link, "-o", output, "--listen", "127.0.0.1:0"]).args(more))
    }

    /// Starts to share a file on a free port of the loopback.
    pub(crate) fn seed(&self, path: &Path, more: &[&str]) -> Running {
        let mut command = self.ppspp();
        command.arg("seed").arg(path).args(["--listen", "127.0.0.1:0"]).args(more);
        Running::start(&mut command)
    }
}

/// Bytes that look random and depend on `seed`.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Runs a command to its end; one that hangs is killed.
pub(crate) fn finish(command: &mut Command) -> Ended {
    Running::start(command).wait()
}

/// A command that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<thread::JoinHandle<String>>,
    /// Lines of standard output already taken.
    taken: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts a command whose output goes where it was told to.
    pub(crate) fn start_with(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(|mut errors| {
            thread::spawn(move || {
                let mut text = String::new();
                errors.read_to_string(&mut text).unwrap();
                text
            })
        });
        Self { child, stdout, stderr, taken: String::new() }
    }

    /// The next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        self.taken.push_str(&line);
        line.trim_end().to_owned()
    }

    /// Waits until a file exists and takes room on the disk.
    pub(crate) fn wait_for_bytes(&mut self, path: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        let started = Instant::now();
        while !path.metadata().is_ok_and(|metadata| metadata.blocks() > 0) {
            assert!(started.elapsed() < PATIENCE && self.child.try_wait().unwrap().is_none(), "{}", path.display());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has a thread of that name.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait_for_thread(&mut self, name: &str) {
        let (started, tasks) = (Instant::now(), format!("/proc/{}/task", self.child.id()));
        let is_there = || {
            let tasks = fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path().join("comm"));
            tasks.filter_map(|comm| fs::read_to_string(comm).ok()).any(|comm| comm.trim_end() == name)
        };
        while !is_there() {
            assert!(started.elapsed() < PATIENCE && self.child.try_wait().unwrap().is_none(), "no thread {name}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lines of standard output up to one that holds `what`, which is returned.
    pub(crate) fn line_with(&mut self, what: &str) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "ended without {what}: {}", self.taken);
            if line.contains(what) {
                return line;
            }
        }
    }

    /// Closes this end of standard output.
    pub(crate) fn stop_reading(&mut self) {
        self.stdout = None;
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Processor time it took so far, in hundredths of a second.
    #[cfg(target_os = "linux")]
    pub(crate) fn processor_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // proc_pid_stat(5): fields 14 and 15 are utime and stime; field 2, in parentheses, may hold anything.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        fields.map(|field| field.parse::<u64>().unwrap()).sum()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let reader = self.stdout.take().map(|mut stdout| {
            thread::spawn(move || {
                let mut text = String::new();
                stdout.read_to_string(&mut text).unwrap();
                text
            })
        });
        let started = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            if started.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                let stderr = self.stderr.take().map(|reader| reader.join().unwrap());
                panic!("hangs: {} {stderr:?}", self.taken);
            }
            thread::sleep(Duration::from_millis(5));
        };
        let rest = reader.map(|reader| reader.join().unwrap()).unwrap_or_default();
        let stderr = self.stderr.take().map(|reader| reader.join().unwrap()).unwrap_or_default();
        Ended { code, stdout: std::mem::take(&mut self.taken) + &rest, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks that two files hold the same bytes.
#[track_caller]
pub(crate) fn same(one: &Path, other: &Path) {
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} differs from {}", one.display(), other.display());
}

/// A partial file: the seeder's file changed on disk, so that one group is missing.
pub(crate) fn partial(place: &Place, original: &Path, link: &mut String) -> Running {
    let mut seeder = place.seed(original, &["--json"]);
    let first: serde_json::Value = serde_json::from_str(&seeder.line()).unwrap();
    first["link"].as_str().unwrap().clone_into(link);
    let mut file = fs::OpenOptions::new().write(true).open(original).unwrap();
    file.write_all(b"changed").unwrap();
    let ended = place.get(link, "copy", &["--timeout", "2s", "--json"]);
    ended.refused(1, "no new data for 2 s with 1 peer");
    let summary = ended.summary();
    assert_eq!((&summary["complete"], &summary["bytes_fetched"]), (&false.into(), &(200_000 - 16_384).into()));
    assert!(summary["error"].as_str().unwrap().starts_with("no new data for 2 s"));
    assert!(!place.path("copy").exists());
    seeder
}
