//! What `--json` prints: one object per line, its kind in `event`. `docs/JSON.md` describes each, and a test holds this
//! file and that one together.

use std::net::SocketAddr;

use ppspp_core::CloseReason;
use ppspp_mio::TransferProgress;
use serde::Serialize;

use crate::hash::Description;
use crate::meter::Rates;
use crate::stats::Stats;

/// One line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Report<'a> {
    /// `seed` is ready to serve a file.
    Seeding {
        path: String,
        listen: SocketAddr,
        #[serde(flatten)]
        content: &'a Description,
    },
    /// `get` begins.
    Fetching { swarm_id: &'a str, path: &'a str, listen: SocketAddr, peers: &'a [SocketAddr] },
    /// A peer answered.
    PeerConnected { swarm_id: &'a str, address: SocketAddr },
    /// A peer is gone, or never was there.
    PeerClosed { swarm_id: &'a str, address: SocketAddr, reason: &'static str, detail: String },
    /// The content's length became known.
    SizeKnown { swarm_id: &'a str, content_length: u64 },
    /// How far it is.
    Progress(Progress<'a>),
    /// Bytes of a shared file changed on disk.
    ContentChanged { swarm_id: &'a str, offset: u64, len: u64 },
    /// The content is complete and verified.
    Complete { swarm_id: &'a str, path: &'a str },
    /// What a transfer cost, with `--stats`.
    Stats(&'a Stats<'a>),
    /// The last line of `get`.
    Summary(Summary<'a>),
    /// The result of one peer of `demo`.
    Leecher(Leecher),
    /// The last line of `demo`.
    DemoDone { leechers: usize, content_length: u64, seconds: f64 },
}

/// How far a transfer is.
#[derive(Serialize)]
pub(crate) struct Progress<'a> {
    swarm_id: &'a str,
    bytes: u64,
    content_length: Option<u64>,
    bytes_down: u64,
    bytes_up: u64,
    rate_down: u64,
    rate_up: u64,
    peers: usize,
    seeders: usize,
    duplicate_chunks: u64,
}

impl<'a> Progress<'a> {
    /// The snapshot `now`, with the rates at that time.
    pub(crate) fn new(swarm_id: &'a str, now: &TransferProgress, rates: Rates) -> Self {
        Self {
            swarm_id,
            bytes: now.bytes_stored,
            content_length: now.content_length,
            bytes_down: now.bytes_down,
            bytes_up: now.bytes_up,
            rate_down: rates.down,
            rate_up: rates.up,
            peers: now.peers,
            seeders: now.seeders,
            duplicate_chunks: now.stats.duplicate_chunks,
        }
    }
}

/// What `get` did.
#[derive(Serialize)]
pub(crate) struct Summary<'a> {
    pub(crate) swarm_id: &'a str,
    pub(crate) complete: bool,
    pub(crate) path: &'a str,
    pub(crate) bytes_fetched: u64,
    pub(crate) bytes_already_there: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) seconds: f64,
    pub(crate) error: Option<String>,
}

/// What one peer of `demo` did.
#[derive(Serialize)]
pub(crate) struct Leecher {
    pub(crate) number: usize,
    pub(crate) bytes: u64,
    pub(crate) bytes_up: u64,
    pub(crate) seconds: f64,
    pub(crate) overhead: f64,
    pub(crate) peers: usize,
    pub(crate) duplicate_chunks: u64,
}

/// The word for a reason, for programs; the sentence for people stands beside it.
pub(crate) const fn word(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Locally => "local",
        CloseReason::ByPeer => "by_peer",
        CloseReason::TimedOut => "timed_out",
        CloseReason::Incompatible(_) => "incompatible",
        CloseReason::Misbehaved(_) => "misbehaved",
        CloseReason::Replaced => "replaced",
        CloseReason::Ourselves => "ourselves",
        _ => "other",
    }
}
