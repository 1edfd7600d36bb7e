//! Where the nanoseconds of a chunk go in a transfer between two processes, as perf samples them.
//!
//! By the processor's clock, so that no counters of the processor are needed, which virtual machines often lack.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ppspp_core::integrity::HashFunction;

use crate::args::SplitArgs;
use crate::content;
use crate::process::Process;
use crate::product::{Format, Job, Product};
use crate::profile::{Work, output};
use crate::report;
use crate::run::{Place, memory_dir};

/// Samples in a second of processor time.
const FREQUENCY: u64 = 4000;
/// Time that perf has to attach to a process.
const ATTACHING: Duration = Duration::from_millis(500);
const SIDES: [&str; 2] = ["seeder", "leecher"];
const WORKS: [Work; 5] = [Work::Kernel, Work::Hashing, Work::Copying, Work::Allocation, Work::Bookkeeping];

/// Nanoseconds for each chunk.
type Split = BTreeMap<Work, f64>;

/// Measures and prints.
pub(crate) fn run(args: &SplitArgs) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let place = Place::new(&args.common, &memory_dir(), args.size)?;
    let product = Product::new(&args.common)?;
    let job = place.job(Format { chunk_size: args.chunk_size, hash: HashFunction::Sha256 });
    // The first hashes the file; those that are measured find its tree.
    product.seed(&job)?;
    let mut rounds: [Vec<Split>; 2] = Default::default();
    for round in 1..=args.rounds {
        for ((side, split), all) in SIDES.iter().zip(transfer(&product, &job)?).zip(&mut rounds) {
            print(side, &format!("round {round}"), &split)?;
            all.push(split);
        }
    }
    for (side, all) in SIDES.iter().zip(&mut rounds) {
        all.sort_by(|one, other| total(one).total_cmp(&total(other)));
        for (name, place) in [("least", 0), ("median", all.len() / 2)] {
            if let Some(split) = all.get(place) {
                print(side, name, split)?;
            }
        }
    }
    Ok(())
}

/// One transfer: what each side spent.
fn transfer(product: &Product, job: &Job<'_>) -> Result<[Split; 2]> {
    let [seeder_data, leecher_data] = SIDES.map(|side| job.dir.join(side));
    let seeder = product.seed(job)?;
    let pid = seeder.id().to_string();
    let attached = Process::start(&mut record(&seeder_data, &["-p".as_ref(), pid.as_ref()]), job.patience)?;
    thread::sleep(ATTACHING);
    content::warm(job.dir, job.len)?;
    let download = job.dir.join("download");
    let get = product.get(seeder.at(), &download);
    let mut arguments = vec!["--".as_ref(), get.get_program()];
    arguments.extend(get.get_args());
    Process::start(&mut record(&leecher_data, &arguments), job.patience)?.finish()?;
    content::compare(job.content, &download)?;
    std::fs::remove_file(&download).context("cannot remove a download")?;
    // That ends the recording as well.
    drop(seeder);
    attached.finish()?;
    let chunks = job.len.div_ceil(u64::from(job.format.chunk_size));
    Ok([read(&seeder_data, chunks)?, read(&leecher_data, chunks)?])
}

/// Records samples to `data`.
fn record(data: &Path, arguments: &[&OsStr]) -> Command {
    let mut perf = Command::new("perf");
    perf.args(["record", "--quiet", "--event", "cpu-clock", "--freq", &FREQUENCY.to_string(), "--output"]);
    perf.arg(data).args(arguments);
    perf
}

fn read(data: &Path, chunks: u64) -> Result<Split> {
    let mut report = Command::new("perf");
    report.args(["report", "--stdio", "--no-children", "--show-nr-samples", "--sort", "symbol", "--input"]).arg(data);
    let samples = parse(&output(&mut report)?);
    ensure!(!samples.is_empty(), "perf sampled nothing");
    let mut split: Split = WORKS.iter().map(|work| (*work, 0.0)).collect();
    for (count, work) in samples {
        *split.entry(work).or_default() += nanos(count, chunks);
    }
    Ok(split)
}

#[expect(clippy::cast_precision_loss, reason = "printed without decimals")]
fn nanos(samples: u64, chunks: u64) -> f64 {
    samples as f64 * (1_000_000_000 / FREQUENCY) as f64 / chunks as f64
}

/// The lines `share samples [where] function` of `perf report`.
fn parse(text: &str) -> Vec<(u64, Work)> {
    text.lines()
        .filter_map(|line| {
            let (share, rest) = line.trim_start().split_once('%')?;
            share.parse::<f64>().ok()?;
            let (count, rest) = rest.trim_start().split_once(' ')?;
            let (place, function) = rest.trim_start().split_once(' ')?;
            let work = if place == "[k]" { Work::Kernel } else { Work::of(function) };
            Some((count.parse().ok()?, work))
        })
        .collect()
}

fn total(split: &Split) -> f64 {
    split.values().sum()
}

fn print(side: &str, name: &str, split: &Split) -> Result<()> {
    let works: Vec<String> =
        split.iter().map(|(work, nanos)| format!("{} {nanos:>4.0}", format!("{work:?}").to_lowercase())).collect();
    report::line(&format!("{side:<8} {name:<9} {}  together {:>5.0} ns per chunk", works.join("  "), total(split)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_perf_report_are_understood() {
        let text = "\
# Samples: 3K of event 'cpu-clock'
#
# Overhead       Samples  Symbol
# ........  ............  ......
#
    27.25%           862  [.] ppspp_core::integrity::sha256::compress::compress_avx      -      -
     9.17%           290  [k] shmem_write_end                                            -      -
     3.26%           103  [.] __memmove_avx512_unaligned_erms                            -      -
     0.66%            21  [.] <impl ppspp_core::swarm::Swarm>::judge_gathered            -      -
     0.05%             1  [.] cfree@GLIBC_2.2.5                                          -      -
";
        let works = [Work::Hashing, Work::Kernel, Work::Copying, Work::Bookkeeping, Work::Allocation];
        assert_eq!(parse(text), [862, 290, 103, 21, 1].into_iter().zip(works).collect::<Vec<_>>());
        assert!((nanos(1000, 500_000) - 500.0).abs() < 1e-9);
    }
}
