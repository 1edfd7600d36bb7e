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
        let (mut bares, mut products) = (Vec::new(), Vec::new());
        for round in 0..=args.rounds {
            if let Some(bare) = &bare {
                bares.push(bare.transfer(&job)?);
                print_last("bare", &job, round, &bares)?;
            }
            if let Some(product) = &product {
                products.push(product.transfer(&job)?);
                print_last("ppspp", &job, round, &products)?;
            }
            if round == 0 {
                // It warmed caches and the processor.
                bares.clear();
                products.clear();
            }
        }
        let medians = (report::median(&bares), report::median(&products));
        for (what, median) in [("bare", medians.0), ("ppspp", medians.1)] {
            if let Some(median) = median {
                report::row(what, chunk_size, "med", job.len, &median)?;
            }
        }
        if let (Some(bare), Some(product)) = medians {
            summary.push(ratio(chunk_size, job.len, &bare, &product));
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

fn print_last(what: &str, job: &Job<'_>, round: usize, samples: &[Sample]) -> Result<()> {
    let round = if round == 0 { "warm".to_owned() } else { round.to_string() };
    samples.last().map_or(Ok(()), |sample| report::row(what, job.format.chunk_size, &round, job.len, sample))
}

fn ratio(chunk_size: u32, bytes: u64, bare: &Sample, product: &Sample) -> String {
    let cpu = |sample: &Sample| sample.receiver.cpu.as_secs_f64();
    let of_cpu = cpu(bare) / cpu(product).max(f64::EPSILON);
    let (bare, product) = (report::rate(bytes, bare.elapsed), report::rate(bytes, product.elapsed));
    format!(
        "chunks of {chunk_size}: bare {bare:.1} MB/s, ppspp {product:.1} MB/s, ratio {:.2}; of receivers' processor time \
         {of_cpu:.2}",
        product / bare
    )
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
