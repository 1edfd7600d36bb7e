//! How long a fetching process takes to its first verified bytes.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::args::StartArgs;
use crate::product::{Format, Job, Product};
use crate::report;
use crate::run::{Place, memory_dir};

/// What must be verified and in the file.
const FIRST: usize = 64 * 1024;
/// Time between two looks at the file.
const INTERVAL: Duration = Duration::from_micros(250);

/// Measures and prints.
pub(crate) fn run(args: &StartArgs) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let place = Place::new(&args.common, &memory_dir(), args.size)?;
    let product = Product::new(&args.common)?;
    let job = place.job(Format { chunk_size: args.chunk_size, hash: ppspp_core::integrity::HashFunction::Sha256 });
    let mut expected = vec![0; FIRST];
    File::open(job.content)?.read_exact(&mut expected).context("the content is shorter than 64 KiB")?;
    let seeder = product.seed(&job)?;
    let mut times = Vec::new();
    for round in 0..=args.rounds {
        let output = job.dir.join(format!("download-{round}"));
        let mut get = product.get(seeder.at(), &output);
        let began = std::time::Instant::now();
        let process = crate::process::Process::start(&mut get, job.patience)?;
        while !begins_with(&job, &output, &expected) {
            ensure!(began.elapsed() < job.patience, "nothing arrived in {} s", job.patience.as_secs());
            thread::sleep(INTERVAL);
        }
        // The first start fills caches.
        if round > 0 {
            times.push(began.elapsed());
        }
        process.finish()?;
        std::fs::remove_file(&output).context("cannot remove a download")?;
    }
    times.sort_unstable();
    let millis = |time: &Duration| time.as_secs_f64() * 1e3;
    report::line(&format!(
        "first verified 64 KiB after {:.1} ms (median of {}; {:.1} to {:.1}; goal: 30)",
        times.get(times.len() / 2).map_or(0.0, millis),
        times.len(),
        times.first().map_or(0.0, millis),
        times.last().map_or(0.0, millis),
    ))
}

/// Whether the download, finished or not, begins with `expected`: only what is verified is written.
fn begins_with(job: &Job<'_>, output: &Path, expected: &[u8]) -> bool {
    let mut partial = output.as_os_str().to_owned();
    partial.push(".part");
    let mut found = vec![0; expected.len()];
    let mut read = |path: &Path| File::open(path).and_then(|mut file| file.read_exact(&mut found)).is_ok();
    debug_assert!(output.starts_with(job.dir));
    (read(Path::new(&partial)) || read(output)) && found == expected
}
