//! What a run yields: a table for people, JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bound::{NET_SHARE, ratio};
use crate::id::HostId;
use crate::link::PipeStats;
use crate::network::Ledger;
use crate::progress::Progress;
use crate::time::SimTime;

/// How one host fared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct HostResult {
    /// Its number.
    pub host: u32,
    /// `seeder`, `leecher` or `node`.
    pub role: &'static str,
    /// Time from joining to completeness.
    pub completed_after: Option<Duration>,
    /// Content bytes on its disk.
    pub stored: u64,
    /// Content bytes received and verified; for nodes, bytes they count themselves.
    pub delivered: u64,
    /// Content bytes sent, repeats included.
    pub sent: u64,
    /// Chunks received and verified.
    pub chunks_received: u64,
    /// Chunks received again.
    pub duplicate_chunks: u64,
    /// Chunks sent again because they were lost.
    pub chunks_resent: u64,
}

impl HostResult {
    pub(crate) const fn of_node(host: HostId, delivered: u64) -> Self {
        Self {
            host: host.0,
            role: "node",
            completed_after: None,
            stored: 0,
            delivered,
            sent: 0,
            chunks_received: 0,
            duplicate_chunks: 0,
            chunks_resent: 0,
        }
    }
}

/// Everything a report is made from.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) time: SimTime,
    pub(crate) events: u64,
    pub(crate) ledger: Ledger,
    pub(crate) trace_hash: u64,
    pub(crate) bound: Option<Duration>,
    pub(crate) pipes: Vec<[PipeStats; 2]>,
    pub(crate) hosts: Vec<HostResult>,
    pub(crate) progress: Option<Progress>,
}

/// Completion times over all leechers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Completion {
    /// Leechers.
    pub leechers: usize,
    /// Those that are complete.
    pub complete: usize,
    /// The shortest time.
    pub min: Duration,
    /// The middle one.
    pub median: Duration,
    /// The one that a twentieth exceed.
    pub p95: Duration,
    /// The longest.
    pub max: Duration,
}

/// What a run yielded. Times are virtual; floating-point fields are for people and are not decided on.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The scenario.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// Hosts of all kinds.
    pub hosts: usize,
    /// How long the run was, in virtual time.
    pub time: Duration,
    /// Events.
    pub events: u64,
    /// Completion times.
    pub completion: Completion,
    /// Chunks received again, per cent of those received.
    pub duplicates_percent: f64,
    /// Wire bytes sent beyond the content bytes that were new to their receiver, per cent of those sent.
    pub overhead_percent: f64,
    /// Mean wait of what the queues of all links took in, in milliseconds.
    pub queue_mean_ms: f64,
    /// The longest wait.
    pub queue_max_ms: f64,
    /// Jain's index of the leechers' rates: 1 if all are alike.
    pub fairness: f64,
    /// Least possible time, if the scenario knows it.
    pub bound: Option<Duration>,
    /// Time of the last completion over the least possible.
    pub raw_ratio: Option<f64>,
    /// The same over the least possible time at 0.919 of the rates: what headers, hashes and acknowledgements leave.
    pub net_ratio: Option<f64>,
    /// Packets by their fate.
    pub packets: Ledger,
    /// A hash of the history: the same for the same scenario and seed, on every machine.
    pub trace_hash: String,
    /// Host by host.
    pub results: Vec<HostResult>,
    /// Progress over time, if it was kept.
    #[serde(skip)]
    pub progress: Option<Progress>,
}

#[expect(clippy::cast_precision_loss, reason = "shown, never decided on")]
impl Report {
    pub(crate) fn new(summary: Summary) -> Self {
        let leechers: Vec<_> = summary.hosts.iter().filter(|host| host.role == "leecher").collect();
        let completion = completion(&leechers);
        let sum = |of: fn(&HostResult) -> u64| leechers.iter().map(|host| of(host)).sum::<u64>();
        let (received, again) = (sum(|host| host.chunks_received), sum(|host| host.duplicate_chunks));
        let useful = sum(|host| host.delivered);
        let pipes = summary.pipes.iter().flatten();
        let (packets, waited, longest) = pipes.fold((0, 0, 0), |(packets, waited, longest): (u64, u64, u64), pipe| {
            (packets + pipe.queued, waited + pipe.waited_nanos, longest.max(pipe.longest_wait_nanos))
        });
        let last = (completion.complete == completion.leechers).then_some(completion.max);
        let raw_ratio = summary.bound.zip(last).map(|(bound, last)| ratio(last, bound));
        let sent = summary.ledger.bytes_sent;
        Self {
            hosts: summary.hosts.len(),
            name: summary.name,
            seed: summary.seed,
            time: summary.time.since(SimTime::ZERO),
            events: summary.events,
            completion,
            duplicates_percent: percent(again, received),
            overhead_percent: percent(sent.saturating_sub(useful), sent),
            queue_mean_ms: waited as f64 / 1e6 / packets.max(1) as f64,
            queue_max_ms: longest as f64 / 1e6,
            fairness: fairness(&leechers),
            bound: summary.bound,
            raw_ratio,
            net_ratio: raw_ratio.map(|ratio| ratio * NET_SHARE),
            packets: summary.ledger,
            trace_hash: format!("{:016x}", summary.trace_hash),
            results: summary.hosts,
            progress: summary.progress,
        }
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn completion(leechers: &[&HostResult]) -> Completion {
    let mut times: Vec<Duration> = leechers.iter().filter_map(|host| host.completed_after).collect();
    times.sort_unstable();
    let at = |per_cent: usize| times.get((times.len() * per_cent).div_ceil(100).saturating_sub(1)).copied();
    Completion {
        leechers: leechers.len(),
        complete: times.len(),
        min: at(0).unwrap_or_default(),
        median: at(50).unwrap_or_default(),
        p95: at(95).unwrap_or_default(),
        max: at(100).unwrap_or_default(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown, never decided on")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Jain's fairness index of bytes per second.
#[expect(clippy::cast_precision_loss, reason = "shown, never decided on")]
fn fairness(leechers: &[&HostResult]) -> f64 {
    let rates =
        leechers.iter().filter_map(|host| Some(host.stored as f64 / host.completed_after?.as_secs_f64().max(1e-9)));
    let (count, sum, squares) =
        rates.fold((0.0, 0.0, 0.0), |(count, sum, squares), rate| (count + 1.0, sum + rate, squares + rate * rate));
    if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = |time: Duration| format!("{:.3} s", time.as_secs_f64());
        let done = &self.completion;
        let mut row = |name: &str, value: String| writeln!(f, "{name:<22}{value}");
        row("scenario", format!("{}, seed {}", self.name, self.seed))?;
        row("hosts", self.hosts.to_string())?;
        row("virtual time", secs(self.time))?;
        row("events", self.events.to_string())?;
        row("complete", format!("{} of {} leechers", done.complete, done.leechers))?;
        if done.complete > 0 {
            let [min, median, p95, max] = [done.min, done.median, done.p95, done.max].map(secs);
            row("completion", format!("min {min}, median {median}, p95 {p95}, max {max}"))?;
        }
        row("duplicates", format!("{:.2} %", self.duplicates_percent))?;
        row("overhead", format!("{:.2} %", self.overhead_percent))?;
        row("queue delay", format!("mean {:.1} ms, max {:.1} ms", self.queue_mean_ms, self.queue_max_ms))?;
        row("fairness", format!("{:.3}", self.fairness))?;
        if let (Some(bound), Some(raw), Some(net)) = (self.bound, self.raw_ratio, self.net_ratio) {
            row("fluid bound", format!("{}, raw ratio {raw:.3}, net ratio {net:.3}", secs(bound)))?;
        }
        let packets = &self.packets;
        let dropped = packets.sent + packets.doubled - packets.delivered - packets.flying;
        row("packets", format!("{} sent, {} delivered, {dropped} dropped", packets.sent, packets.delivered))?;
        row("trace hash", self.trace_hash.clone())
    }
}
