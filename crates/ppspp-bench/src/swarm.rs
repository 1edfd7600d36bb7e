//! More than one seeder or leecher: what a swarm of processes moves, next to one pair in the same run.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ppspp_core::chunk::{ChunkSize, Geometry};
use ppspp_core::integrity::{SpanHasher, TreeBuilder, TreeParams};

use crate::args::SwarmArgs;
use crate::content;
use crate::process::{Process, Usage};
use crate::product::{Format, Job, Product, Sender};
use crate::report;
use crate::run::{Place, memory_dir};

/// Peers on the side that has several.
const MANY: usize = 4;

/// A shape of swarm.
#[derive(Clone, Copy, Debug)]
struct Shape {
    seeders: usize,
    leechers: usize,
}

const SHAPES: [Shape; 3] =
    [Shape { seeders: 1, leechers: 1 }, Shape { seeders: 1, leechers: MANY }, Shape { seeders: MANY, leechers: 1 }];

/// What one round of a shape cost.
#[derive(Clone, Debug)]
struct Round {
    /// Until the last leecher has ended.
    elapsed: Duration,
    seeders: Vec<Usage>,
    leechers: Vec<Usage>,
}

impl Round {
    /// Millions of bytes per second, of all leechers together.
    fn rate(&self, len: u64) -> f64 {
        report::rate(len * self.leechers.len() as u64, self.elapsed)
    }
}

/// Measures and prints.
pub(crate) fn run(args: &SwarmArgs) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let place = Place::new(&args.common, &memory_dir(), args.size)?;
    let product = Product::new(&args.common)?;
    let job = place.job(Format { chunk_size: args.chunk_size, hash: args.hash });
    // The first seeder hashes the file; the others find its tree.
    product.seed(&job)?;
    let mut rounds: [Vec<Round>; 3] = Default::default();
    for round in 0..=args.rounds {
        for (shape, results) in SHAPES.iter().zip(&mut rounds) {
            let result = transfer(&product, &job, *shape)?;
            // The first round warms caches and the processor.
            if round > 0 {
                print(*shape, round, &job, &result)?;
                results.push(result);
            }
        }
    }
    summary(&job, &mut rounds)
}

fn transfer(product: &Product, job: &Job<'_>, shape: Shape) -> Result<Round> {
    let seeders = (0..shape.seeders).map(|_| product.seed(job)).collect::<Result<Vec<Sender>>>()?;
    let link = joined_link(&seeders)?;
    content::warm(job.dir, MANY as u64 * job.len)?;
    let before = seeders.iter().map(Sender::usage).collect::<Result<Vec<_>>>()?;
    let outputs: Vec<PathBuf> = (0..shape.leechers).map(|number| job.dir.join(format!("download-{number}"))).collect();
    let began = Instant::now();
    let started = outputs
        .iter()
        .map(|output| Process::start(&mut product.get(&link, output), job.patience))
        .collect::<Result<Vec<_>>>()?;
    let mut leechers = Vec::new();
    for process in started {
        leechers.push(process.finish()?.2);
    }
    let elapsed = began.elapsed();
    for output in &outputs {
        content::compare(job.content, output)?;
        std::fs::remove_file(output).context("cannot remove a download")?;
    }
    let after = seeders.iter().map(Sender::usage).collect::<Result<Vec<_>>>()?;
    let seeders = before
        .iter()
        .zip(after)
        .map(|(before, after)| Usage { cpu: after.cpu.saturating_sub(before.cpu), peak_kib: after.peak_kib });
    Ok(Round { elapsed, seeders: seeders.collect(), leechers })
}

/// The link of the first seeder with the addresses of all.
fn joined_link(seeders: &[Sender]) -> Result<String> {
    let parts = |link: &str| -> Option<(String, String)> {
        let (hosts, rest) = link.strip_prefix("ppsp://")?.split_once('/')?;
        Some((hosts.to_owned(), rest.to_owned()))
    };
    let parts: Option<Vec<_>> = seeders.iter().map(|seeder| parts(seeder.at())).collect();
    let parts = parts.context("a seeder printed no link")?;
    let hosts: Vec<&str> = parts.iter().map(|(hosts, _)| hosts.as_str()).collect();
    let (_, rest) = parts.first().context("there is no seeder")?;
    Ok(format!("ppsp://{}/{rest}", hosts.join(",")))
}

fn print(shape: Shape, round: usize, job: &Job<'_>, result: &Round) -> Result<()> {
    let seconds = |usages: &[Usage]| {
        usages.iter().map(|usage| format!("{:.2}", usage.cpu.as_secs_f64())).collect::<Vec<_>>().join(" ")
    };
    report::line(&format!(
        "{} -> {}  round {round}  {:>7.1} MB/s  {:>6.3} s  seeders' cpu s {}  leechers' cpu s {}",
        shape.seeders,
        shape.leechers,
        result.rate(job.len),
        result.elapsed.as_secs_f64(),
        seconds(&result.seeders),
        seconds(&result.leechers),
    ))
}

fn summary(job: &Job<'_>, rounds: &mut [Vec<Round>; 3]) -> Result<()> {
    let mut rates = Vec::new();
    for results in rounds.iter_mut() {
        results.sort_by_key(|result| result.elapsed);
        rates.push(results.get(results.len() / 2).map_or(0.0, |median| median.rate(job.len)));
    }
    let [one, spread, gathered] = rates[..] else { return Ok(()) };
    report::line(&format!("1 -> 1: {one:.1} MB/s"))?;
    report::line(&format!("1 -> 4: {spread:.1} MB/s in sum, {:.2} of 1 -> 1 (goal: 1.00)", spread / one))?;
    report::line(&format!("4 -> 1: {gathered:.1} MB/s, {:.2} of 1 -> 1 (goal: 0.85)", gathered / one))?;
    let hashing = hash_groups(job)?;
    let pair = rounds[0].first().and_then(|round| round.seeders.first()).map_or(0.0, |usage| usage.cpu.as_secs_f64());
    report::line(&format!(
        "the seeder's hashing of every group: {:.2} s of processor time for its first copy, of {pair:.2} s for 1 -> 1",
        hashing.as_secs_f64()
    ))
}

/// What it takes to hash the content once, group by group, as a seeder does before it sends.
fn hash_groups(job: &Job<'_>) -> Result<Duration> {
    let params = TreeParams { function: job.format.hash, chunk_size: ChunkSize::new(job.format.chunk_size)? };
    let geometry = Geometry::new(job.len, params.chunk_size)?;
    let mut file = File::open(job.content)?;
    let mut bytes = Vec::new();
    let mut total = Duration::ZERO;
    for span in TreeBuilder::new(params, geometry).spans() {
        let mut hasher = SpanHasher::new(params, geometry, span);
        loop {
            let next = hasher.next_bytes();
            if next.is_empty() {
                break;
            }
            bytes.resize(usize::try_from(next.end - next.start)?, 0);
            file.read_exact(&mut bytes)?;
            let began = Instant::now();
            hasher.push_group(&bytes)?;
            total += began.elapsed();
        }
    }
    Ok(total)
}
