//! A question put to the simulator: how does loss on every link slow a swarm? One row for each share of loss, over a
//! few seeds, and a plot of the last run if a file is named.
//!
//! `cargo run --release -p ppspp-sim --example sweep [FILE.svg]`

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use ppspp_sim::{LinkSpec, Loss, Peer, Report, Scenario, plot};

const LEECHERS: usize = 6;
const SEEDS: u64 = 3;

/// A seeder and leechers that know each other, behind 10 Mbit/s that lose `loss` of all packets.
fn swarm(loss: f64, seed: u64) -> Scenario {
    let mut scenario = Scenario::new("sweep", seed);
    let content = scenario.content(1 << 20);
    let link = LinkSpec::symmetric(10_000_000, Duration::from_millis(15)).with(|pipe| pipe.loss = Loss::Uniform(loss));
    let seeder = scenario.add(Peer::seeder(content).on(link.clone()));
    let leechers: Vec<_> =
        (0..LEECHERS).map(|_| scenario.add(Peer::leecher(content).on(link.clone()).knows([seeder]))).collect();
    scenario.acquaint(&leechers, LEECHERS - 1);
    scenario.until_complete(&leechers, Duration::from_secs(600));
    // What is asked here is how long it takes, not whether every rule of the protocol is kept.
    scenario.without_checkers();
    scenario.keep_progress();
    scenario
}

#[expect(clippy::cast_precision_loss, reason = "printed with a few digits")]
fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut out = std::io::stdout().lock();
    let mut last: Option<Report> = None;
    writeln!(out, "loss %  median s  slowest s  sent again  overhead %")?;
    for percent in [0.0, 0.5, 1.0, 2.0, 4.0] {
        let reports: Vec<Report> =
            (1..=SEEDS).map(|seed| swarm(percent / 100.0, seed).run()).collect::<Result<_, _>>()?;
        let mean = |of: fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / reports.len() as f64;
        writeln!(
            out,
            "{percent:>6}  {:>8.2}  {:>9.2}  {:>10.1}  {:>10.2}",
            mean(|report| report.completion.median.as_secs_f64()),
            mean(|report| report.completion.max.as_secs_f64()),
            mean(|report| report.results.iter().map(|host| host.chunks_resent as f64).sum()),
            mean(|report| report.overhead_percent),
        )?;
        last = reports.into_iter().last();
    }
    if let (Some(path), Some(report)) = (std::env::args_os().nth(1), &last) {
        std::fs::write(path, plot(report)?.unwrap_or_default())?;
    }
    Ok(())
}
