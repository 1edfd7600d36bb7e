//! The pairs of commands that are measured: the product's and the bare loop's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ppspp_core::integrity::HashFunction;

use crate::args::Common;
use crate::content;
use crate::process::{Process, Usage};
use crate::report::Sample;

/// How the content is cut and hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) chunk_size: u32,
    pub(crate) hash: HashFunction,
}

/// A file to move, and the place to move it to.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) content: &'a Path,
    pub(crate) len: u64,
    pub(crate) dir: &'a Path,
    pub(crate) patience: Duration,
    pub(crate) format: Format,
}

/// A running sender.
#[derive(Debug)]
pub(crate) struct Sender {
    process: Process,
    /// Address or link.
    at: String,
    /// From its start until it can serve.
    pub(crate) ready_after: Duration,
}

impl Sender {
    fn start(command: &mut Command, patience: Duration) -> Result<Self> {
        // Nothing but the arguments decides what is measured.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PPSPP_") {
                command.env_remove(name);
            }
        }
        let mut process = Process::start(command, patience)?;
        let (at, ready_after) = process.next_line()?;
        Ok(Self { process, at, ready_after })
    }

    /// Its address or link.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// Its process's number in the system.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has cost so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    fn serve(&self, job: &Job<'_>, receive: impl FnOnce(&str, &Path) -> Command) -> Result<Sample> {
        let output = job.dir.join("download");
        content::warm(job.dir, job.len)?;
        let before = self.process.usage()?;
        let mut command = receive(&self.at, &output);
        let (_, elapsed, receiver) = Process::start(&mut command, job.patience)?.finish()?;
        let after = self.process.usage()?;
        content::compare(job.content, &output)?;
        std::fs::remove_file(&output).context("cannot remove a download")?;
        let sender = Usage { cpu: after.cpu.saturating_sub(before.cpu), peak_kib: after.peak_kib };
        Ok(Sample { elapsed, sender, receiver })
    }
}

/// The bare loop.
#[derive(Debug)]
pub(crate) struct Bare(PathBuf);

impl Bare {
    pub(crate) fn new() -> Result<Self> {
        std::env::current_exe().map(Self).context("cannot find this program")
    }

    /// With `rehash` the sender hashes what it sends, as a seeder does.
    pub(crate) fn transfer(&self, job: &Job<'_>, rehash: bool) -> Result<Sample> {
        let format = [
            "--chunk-size".to_owned(),
            job.format.chunk_size.to_string(),
            "--hash".to_owned(),
            job.format.hash.name().to_owned(),
        ];
        let mut seed = Command::new(&self.0);
        seed.arg("bare-seed").arg(job.content).args(&format).args(rehash.then_some("--rehash"));
        Sender::start(&mut seed, job.patience)?.serve(job, |at, output| {
            let mut get = Command::new(&self.0);
            get.args(["bare-get", at, "--len", &job.len.to_string(), "-o"]).arg(output).args(&format);
            get
        })
    }
}

/// The `ppspp` command.
#[derive(Debug)]
pub(crate) struct Product(PathBuf);

impl Product {
    pub(crate) fn new(args: &Common) -> Result<Self> {
        let path = match &args.ppspp {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .context("cannot find this program")?
                .with_file_name(format!("ppspp{}", std::env::consts::EXE_SUFFIX)),
        };
        ensure!(path.is_file(), "{} is missing: `cargo build --release -p ppspp-cli` makes it", path.display());
        Ok(Self(path))
    }

    /// Starts a seeder whose trees are kept in `job.dir`.
    pub(crate) fn seed(&self, job: &Job<'_>) -> Result<Sender> {
        let mut seed = Command::new(&self.0);
        seed.arg("seed").arg(job.content).args(["--listen", "127.0.0.1:0", "--quiet"]);
        seed.args(["--chunk-size", &job.format.chunk_size.to_string(), "--hash", job.format.hash.name()]);
        seed.arg("--cache-dir").arg(job.dir.join("cache"));
        Sender::start(&mut seed, job.patience)
    }

    /// Fetches from a seeder that has just been started.
    pub(crate) fn transfer(&self, job: &Job<'_>) -> Result<Sample> {
        self.seed(job)?.serve(job, |link, output| self.get(link, output))
    }

    /// The command that fetches what `link` names to `output`.
    pub(crate) fn get(&self, link: &str, output: &Path) -> Command {
        let mut get = Command::new(&self.0);
        get.args(["get", link, "--listen", "127.0.0.1:0", "--quiet", "--json", "-o"]).arg(output);
        get
    }
}
