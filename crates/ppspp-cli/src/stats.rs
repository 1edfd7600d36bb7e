//! `--stats`: what a transfer cost.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use indicatif::DecimalBytes;
use ppspp_core::PeerView;
use ppspp_core::wire::MessageType;
use ppspp_mio::{Transfer, TransferProgress};
use serde::Serialize;

use crate::units::as_f64;

/// Time between two looks at the peers: each asks the node's thread, and goes over all of them.
const INTERVAL: Duration = Duration::from_millis(100);

/// The smallest, the mean and the largest of some samples.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Spread {
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Spread {
    fn add(&mut self, sample: u64) {
        self.min = if self.count == 0 { sample } else { self.min.min(sample) };
        self.max = self.max.max(sample);
        self.sum += u128::from(sample);
        self.count += 1;
    }

    fn add_time(&mut self, sample: Duration) {
        self.add(u64::try_from(sample.as_micros()).unwrap_or(u64::MAX));
    }

    /// The figures, each multiplied by `unit`; `None` without samples.
    fn figures(&self, unit: f64) -> Option<Figures> {
        let mean = self.sum.checked_div(u128::from(self.count))?;
        let mean = u64::try_from(mean).unwrap_or(u64::MAX);
        Some(Figures { min: as_f64(self.min) * unit, mean: as_f64(mean) * unit, max: as_f64(self.max) * unit })
    }
}

/// Samples of windows and delays over all peers, taken while a transfer runs.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    looked: Option<Duration>,
    window: Spread,
    rtt: Spread,
    delay: Spread,
}

impl Sampler {
    /// Looks at the peers of `transfer` if the last look was a while ago; `now` is a time since the start.
    pub(crate) fn look(&mut self, transfer: &Transfer, now: Duration) {
        if self.looked.is_none_or(|last| now.saturating_sub(last) >= INTERVAL) {
            self.looked = Some(now);
            self.look_again(transfer);
        }
    }

    /// Looks at the peers of `transfer` in any case.
    pub(crate) fn look_again(&mut self, transfer: &Transfer) {
        // A node that has stopped has no peers.
        self.add(&transfer.peers().unwrap_or_default());
    }

    fn add(&mut self, peers: &[PeerView]) {
        for peer in peers.iter().filter(|peer| peer.established) {
            peer.cwnd.into_iter().for_each(|bytes| self.window.add(bytes));
            peer.srtt.into_iter().for_each(|time| self.rtt.add_time(time));
            peer.queuing_delay.into_iter().for_each(|time| self.delay.add_time(time));
        }
    }
}

/// Three figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
struct Figures {
    min: f64,
    mean: f64,
    max: f64,
}

/// Messages of one type, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
struct Messages {
    sent: u64,
    sent_bytes: u64,
    received: u64,
    received_bytes: u64,
}

/// What a transfer cost.
#[derive(Debug, Serialize)]
pub(crate) struct Stats<'a> {
    swarm_id: &'a str,
    datagrams_sent: u64,
    bytes_sent: u64,
    datagrams_received: u64,
    bytes_received: u64,
    /// By the names of RFC 7574; types that never occurred are left out.
    messages: BTreeMap<&'static str, Messages>,
    /// UDP payload bytes that are no content, both ways, as a share of the content.
    overhead: Option<f64>,
    duplicate_chunks: u64,
    requests_expired: u64,
    chunks_resent: u64,
    /// Bytes.
    congestion_window: Option<Figures>,
    /// Seconds.
    round_trip_time: Option<Figures>,
    /// Seconds.
    queuing_delay: Option<Figures>,
}

impl<'a> Stats<'a> {
    /// Sums up `progress` and what was sampled on the way.
    pub(crate) fn new(swarm_id: &'a str, progress: &TransferProgress, sampler: &Sampler) -> Self {
        let (sent, received) = (&progress.traffic.sent, &progress.traffic.received);
        let messages = MessageType::ALL.into_iter().filter_map(|kind| {
            let (sent, received) = (sent.messages.of(kind), received.messages.of(kind));
            let both = Messages {
                sent: sent.count,
                sent_bytes: sent.bytes,
                received: received.count,
                received_bytes: received.bytes,
            };
            (sent.count + received.count > 0).then_some((kind.name(), both))
        });
        let content = progress.bytes_down.saturating_add(progress.bytes_up);
        let bytes = sent.bytes.saturating_add(received.bytes);
        Self {
            swarm_id,
            datagrams_sent: sent.datagrams,
            bytes_sent: sent.bytes,
            datagrams_received: received.datagrams,
            bytes_received: received.bytes,
            messages: messages.collect(),
            overhead: (content > 0).then(|| as_f64(bytes) / as_f64(content) - 1.0),
            duplicate_chunks: progress.stats.duplicate_chunks,
            requests_expired: progress.stats.requests_expired,
            chunks_resent: progress.stats.chunks_resent,
            congestion_window: sampler.window.figures(1.0),
            round_trip_time: sampler.rtt.figures(1e-6),
            queuing_delay: sampler.delay.figures(1e-6),
        }
    }
}

/// For people: a table of the messages, then a line for each concern.
impl fmt::Display for Stats<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<17}{:>11} {:>14} {:>11} {:>14}", "message", "sent", "bytes", "received", "bytes")?;
        for (name, both) in &self.messages {
            let Messages { sent, sent_bytes, received, received_bytes } = both;
            writeln!(f, "{name:<17}{sent:>11} {sent_bytes:>14} {received:>11} {received_bytes:>14}")?;
        }
        let Self { datagrams_sent, bytes_sent, datagrams_received, bytes_received, .. } = self;
        writeln!(
            f,
            "{:<17}{datagrams_sent:>11} {bytes_sent:>14} {datagrams_received:>11} {bytes_received:>14}",
            "datagrams"
        )?;
        match self.overhead {
            Some(overhead) => writeln!(f, "overhead         {:.2}% of the content", overhead * 100.0)?,
            None => writeln!(f, "overhead         no content was moved")?,
        }
        writeln!(
            f,
            "repeats          {} chunks received twice, {} requests made again, {} chunks sent again",
            self.duplicate_chunks, self.requests_expired, self.chunks_resent
        )?;
        let bytes = |value: f64| DecimalBytes(whole(value)).to_string();
        let time = |value: f64| format!("{:.2} ms", value * 1e3);
        write!(f, "window           {}", range(self.congestion_window, bytes))?;
        write!(f, "\nround trip       {}", range(self.round_trip_time, time))?;
        write!(f, "\nqueuing delay    {}", range(self.queuing_delay, time))
    }
}

fn range(figures: Option<Figures>, show: impl Fn(f64) -> String) -> String {
    figures.map_or_else(
        || "not measured".to_owned(),
        |Figures { min, mean, max }| format!("{} to {}, {} on average", show(min), show(max), show(mean)),
    )
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made from a whole number of bytes")]
const fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_samples() {
        let mut spread = Spread::default();
        assert_eq!(spread.figures(1.0), None);
        for sample in [6, 2, 4] {
            spread.add(sample);
        }
        assert_eq!(spread.figures(0.5), Some(Figures { min: 1.0, mean: 2.0, max: 3.0 }));
        spread.add_time(Duration::from_secs(1));
        assert_eq!(spread.max, 1_000_000);
    }

    #[test]
    fn what_did_not_happen_is_said() {
        let stats = Stats::new("00", &TransferProgress::default(), &Sampler::default());
        let text = stats.to_string();
        assert!(text.contains("no content was moved") && text.contains("round trip       not measured"), "{text}");
        assert_eq!(serde_json::to_value(&stats).unwrap()["overhead"], serde_json::Value::Null);
    }
}
