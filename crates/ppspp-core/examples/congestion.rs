//! Measures the congestion controllers on a virtual bottleneck and holds them to their figures.
//!
//! `cargo run --release -p ppspp-core --example congestion`
//!
//! Each line is one run: a minute to settle, then five minutes that count. Shares are parts of a thousand of the link,
//! in wire bytes; delays are what packets of the first flow waited at the bottleneck. The exit code is 1 if a figure
//! is missed.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use ppspp_core::congestion::ControllerConfig;

#[expect(dead_code, reason = "the tests disturb flows and count losses")]
#[path = "../tests/congestion/network.rs"]
mod network;
#[path = "../tests/congestion/reno.rs"]
mod reno;

use network::{Measured, Network};

const SPAN: Duration = Duration::from_secs(300);
const LATER: Duration = Duration::from_secs(30);

/// Who crosses the bottleneck, and what they are held to.
#[derive(Clone, Copy)]
enum Scenario {
    /// One channel.
    Alone,
    /// A channel, then TCP.
    TcpLater,
    /// TCP, then a channel; reported alone.
    TcpFirst,
    /// A channel, then another.
    Latecomer,
    /// Eight channels, then TCP, with a buffer of 300 ms.
    Crowd,
}

impl Scenario {
    const ALL: [Self; 5] = [Self::Alone, Self::TcpLater, Self::TcpFirst, Self::Latecomer, Self::Crowd];

    fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::TcpLater => "then TCP",
            Self::TcpFirst => "after TCP",
            Self::Latecomer => "then another",
            Self::Crowd => "eight, then TCP",
        }
    }

    fn network(self, config: ControllerConfig, megabits: u64, rtt: Duration) -> Network {
        let buffer = if matches!(self, Self::Crowd) { 300 } else { 400 };
        let mut network = Network::new(megabits, Duration::from_millis(buffer));
        match self {
            Self::Alone => network.add_ppspp(config, rtt, Duration::ZERO),
            Self::TcpLater => {
                network.add_ppspp(config, rtt, Duration::ZERO);
                network.add_reno(rtt, LATER);
            }
            Self::TcpFirst => {
                network.add_ppspp(config, rtt, LATER);
                network.add_reno(rtt, Duration::ZERO);
            }
            Self::Latecomer => {
                network.add_ppspp(config, rtt, Duration::ZERO);
                network.add_ppspp(config, rtt, LATER);
            }
            Self::Crowd => {
                for channel in 0..8 {
                    network.add_ppspp(config, rtt, Duration::from_secs(channel));
                }
                network.add_reno(rtt, LATER);
            }
        }
        network
    }

    /// What is asked of `measured`, and whether it holds.
    fn verdict(self, plus_plus: bool, shares: &[u64], measured: &[Measured]) -> Option<(&'static str, bool)> {
        let millis = Duration::from_millis;
        let (mean, most) = (measured[0].mean_queue(), measured[0].queue_percentile(95));
        match self {
            Self::Alone if plus_plus => Some(("share >= 850, p95 <= 66 ms", shares[0] >= 850 && most <= millis(66))),
            Self::Alone => {
                let near = mean >= millis(90) && mean <= millis(110);
                Some(("share >= 900, mean 90 to 110 ms", shares[0] >= 900 && near))
            }
            // Alone it has all of the link: the buffer holds more than a round trip.
            Self::TcpLater => Some(("TCP >= 900", shares[1] >= 900)),
            Self::Latecomer if plus_plus => {
                let (least, most) = (shares[0].min(shares[1]), shares[0].max(shares[1]));
                Some(("within 1:1.3", most * 10 <= least * 13))
            }
            Self::Crowd if plus_plus => Some(("TCP >= 900", shares[8] >= 900)),
            Self::TcpFirst | Self::Latecomer | Self::Crowd => None,
        }
    }
}

/// Of two LEDBAT++ channels, the second of which starts 1 to 35 s after the first: what the pair that shares worst has,
/// less and more.
fn worst_pair(megabits: u64, rtt: Duration) -> (u64, u64) {
    let shares = (1..=35).map(|later| {
        let mut network = Network::new(megabits, Duration::from_millis(400));
        for start in [0, later] {
            network.add_ppspp(ControllerConfig::ledbat_plus_plus(), rtt, Duration::from_secs(start));
        }
        let measured = network.settle_and_run(SPAN);
        let [one, other] = [0, 1].map(|at: usize| measured[at].utilisation(network.link(), SPAN));
        (one.min(other), one.max(other))
    });
    // a : b is worse than c : d if b * c exceeds a * d.
    shares.max_by(|(a, b), (c, d)| (b * c).cmp(&(a * d))).unwrap_or_default()
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<9}{:<11}{:<16}{:>8}{:>8}  shares", "Mbit/s", "algorithm", "scenario", "mean ms", "p95 ms")?;
    let mut missed = false;
    let algorithms = [("RFC 6817", ControllerConfig::ledbat()), ("LEDBAT++", ControllerConfig::ledbat_plus_plus())];
    for (megabits, rtt) in [(10, 50), (100, 100)] {
        for (name, config) in algorithms {
            for scenario in Scenario::ALL {
                let mut network = scenario.network(config, megabits, Duration::from_millis(rtt));
                let measured = network.settle_and_run(SPAN);
                let link = network.link();
                let shares: Vec<u64> = measured.iter().map(|flow| flow.utilisation(link, SPAN)).collect();
                let mut line = format!("{megabits:<9}{name:<11}{:<16}", scenario.name());
                let delays = [measured[0].mean_queue(), measured[0].queue_percentile(95)];
                for delay in delays.map(|delay| delay.as_micros() / 100) {
                    write!(line, "{:>6}.{}", delay / 10, delay % 10).map_err(io::Error::other)?;
                }
                let flows: Vec<String> = shares.iter().map(ToString::to_string).collect();
                write!(line, "  {}", flows.join(" : ")).map_err(io::Error::other)?;
                if let Some((asked, holds)) = scenario.verdict(name == "LEDBAT++", &shares, &measured) {
                    missed |= !holds;
                    let verdict = if holds { "holds" } else { "MISSED" };
                    write!(line, "  ({asked}: {verdict})").map_err(io::Error::other)?;
                }
                writeln!(out, "{line}")?;
            }
        }
        let (least, most) = worst_pair(megabits, Duration::from_millis(rtt));
        let holds = most * 10 <= least * 13;
        missed |= !holds;
        let verdict = if holds { "holds" } else { "MISSED" };
        writeln!(
            out,
            "{megabits:<9}{:<11}{:<32}  {most} : {least}  (within 1:1.3: {verdict})",
            "LEDBAT++", "worst of 35 latecomers"
        )?;
    }
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
