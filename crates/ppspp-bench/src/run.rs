//! What is measured, in which order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::args::{Common, CompareArgs, MemoryArgs, mebibytes};
use crate::content;
use crate::product::{Bare, Format, Job, Product};
use crate::report::{self, Sample};

/// The bare loop against the product.
pub(crate) fn compare(args: &CompareArgs) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let place = Place::new(&args.common, &memory_dir(), args.size)?;
    let bare = if args.skip_bare { None } else { Some(Bare::new()?) };
    let product = if args.skip_product { None } else { Some(Product::new(&args.common)?) };
    let mut summary = Vec::new();
    for &chunk_size in &args.chunk_size {
        let job = place.job(Format { chunk_size, hash: args.hash });
        if let Some(product) = &product {
            start_up(product, &job)?;
        }
        report::heading()?;
        let mut samples: [Vec<Sample>; 3] = Default::default();
        for round in 0..=args.rounds {
            for (kind, samples) in Kind::ALL.into_iter().zip(&mut samples) {
                let sample = match (kind, &bare, &product) {
                    (Kind::Bare, Some(bare), _) => bare.transfer(&job, false)?,
                    (Kind::Rehashing, Some(bare), _) => bare.transfer(&job, true)?,
                    (Kind::Product, _, Some(product)) => product.transfer(&job)?,
                    _ => continue,
                };
                let name = if round == 0 { "warm".to_owned() } else { round.to_string() };
                report::row(kind.name(), chunk_size, &name, job.len, &sample)?;
                // The first warmed caches and the processor.
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        let medians = samples.each_ref().map(|samples| report::median(samples));
        for (kind, median) in Kind::ALL.into_iter().zip(&medians) {
            if let Some(median) = median {
                report::row(kind.name(), chunk_size, "med", job.len, median)?;
            }
        }
        if let [Some(bare), Some(rehashing), Some(product)] = &medians {
            summary.push(ratios(chunk_size, job.len, bare, rehashing, product));
        }
    }
    summary.iter().try_for_each(|text| report::line(text))
}

/// Peak memory of the product in large transfers.
pub(crate) fn memory(args: &MemoryArgs) -> Result<()> {
    let product = Product::new(&args.common)?;
    let place = Place::new(&args.common, &std::env::temp_dir(), args.size)?;
    for &hash in &args.hash {
        let job = place.job(Format { chunk_size: args.chunk_size, hash });
        start_up(&product, &job)?;
        let sample = product.transfer(&job)?;
        report::line(&format!(
            "{hash}, {} MiB in chunks of {}: VmHWM {:.1} MiB seeding, {:.1} MiB fetching, {:.1} MB/s",
            args.size,
            args.chunk_size,
            sample.sender.peak_mib(),
            sample.receiver.peak_mib(),
            report::rate(job.len, sample.elapsed),
        ))?;
    }
    Ok(())
}

/// How long a seeder takes to its link, hashing the file and then with the tree kept.
fn start_up(product: &Product, job: &Job<'_>) -> Result<()> {
    let cold = product.seed(job)?.ready_after;
    let warm = product.seed(job)?.ready_after;
    report::line(&format!(
        "seed start-up, {}, chunks of {}: {:.3} s hashing ({:.1} MB/s), {:.3} s with the tree kept",
        job.format.hash,
        job.format.chunk_size,
        cold.as_secs_f64(),
        report::rate(job.len, cold),
        warm.as_secs_f64(),
    ))
}

fn ratios(chunk_size: u32, bytes: u64, bare: &Sample, rehashing: &Sample, product: &Sample) -> String {
    let cpu = |sample: &Sample| sample.receiver.cpu.as_secs_f64();
    let of_cpu = cpu(bare) / cpu(product).max(f64::EPSILON);
    let [bare, rehashing, product] = [bare, rehashing, product].map(|sample| report::rate(bytes, sample.elapsed));
    format!(
        "chunks of {chunk_size}: bare {bare:.1} MB/s, ppspp {product:.1} MB/s, ratio {:.2}; bare with a sender that \
         hashes {rehashing:.1} MB/s, ratio {:.2}; of receivers' processor time {of_cpu:.2}",
        product / bare,
        product / rehashing,
    )
}

/// What moves the content.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bare,
    /// The bare loop with a sender that hashes, which tells what a seeder's re-hashing costs.
    Rehashing,
    Product,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Bare, Self::Rehashing, Self::Product];

    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Rehashing => "rehash",
            Self::Product => "ppspp",
        }
    }
}

/// A directory with the content in it.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    content: PathBuf,
    len: u64,
    patience: Duration,
}

impl Place {
    pub(crate) fn new(args: &Common, default: &Path, size: u64) -> Result<Self> {
        ensure!(size > 0, "--size must be at least 1");
        let dir = in_dir(args.dir.as_deref().unwrap_or(default))?;
        let content = dir.path().join("content");
        let len = mebibytes(size);
        content::make(&content, len)?;
        Ok(Self { dir, content, len, patience: Duration::from_secs(args.patience) })
    }

    pub(crate) fn job(&self, format: Format) -> Job<'_> {
        Job { content: &self.content, len: self.len, dir: self.dir.path(), patience: self.patience, format }
    }
}

/// Files in memory, so that no disk is measured.
pub(crate) fn memory_dir() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

fn in_dir(dir: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("ppspp-bench-")
        .tempdir_in(dir)
        .with_context(|| format!("cannot make a directory in {}", dir.display()))
}
