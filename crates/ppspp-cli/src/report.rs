//! What `--json` prints: one object per line, its kind in `event`. Bytes are content bytes, times are seconds.

use std::net::SocketAddr;

use serde::Serialize;

use crate::hash::Description;

/// One line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Report<'a> {
    /// `seed` is ready; the first line.
    Seeding {
        /// The file.
        path: String,
        /// Where it listens.
        listen: SocketAddr,
        /// The content.
        #[serde(flatten)]
        content: &'a Description,
    },
    /// `get` begins; its first line.
    Fetching {
        /// The output.
        path: &'a str,
        /// The swarm.
        swarm_id: String,
        /// Where it listens.
        listen: SocketAddr,
        /// Whom it asks.
        peers: &'a [SocketAddr],
    },
    /// A peer answered.
    PeerConnected {
        /// Its address.
        address: SocketAddr,
    },
    /// A peer is gone, or never was there.
    PeerClosed {
        /// Its address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The content's length became known.
    SizeKnown {
        /// In bytes.
        content_length: u64,
    },
    /// How far it is; about once a second while something changes.
    Progress {
        /// Bytes verified and stored.
        bytes: u64,
        /// Length of the content, if known.
        content_length: Option<u64>,
        /// Content bytes received since the start.
        bytes_down: u64,
        /// Content bytes sent since the start.
        bytes_up: u64,
        /// Connected peers.
        peers: usize,
    },
    /// Bytes of a shared file changed on disk; they are not served any more.
    ContentChanged {
        /// The first of them.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The file is complete and verified.
    Complete {
        /// The file.
        path: &'a str,
    },
    /// The last line of `get`.
    Summary(Summary<'a>),
    /// The result of one peer of `demo`.
    Leecher(Leecher),
    /// The last line of `demo`.
    DemoDone {
        /// How many peers fetched the file.
        leechers: usize,
        /// Length of the file.
        content_length: u64,
        /// From the first to the last of them.
        seconds: f64,
    },
}

/// What `get` did.
#[derive(Serialize)]
pub(crate) struct Summary<'a> {
    /// Whether the file is complete and verified.
    pub(crate) complete: bool,
    /// The output.
    pub(crate) path: &'a str,
    /// Bytes that came from peers.
    pub(crate) bytes_fetched: u64,
    /// Bytes that an earlier run had stored, verified again.
    pub(crate) bytes_already_there: u64,
    /// Bytes sent to peers.
    pub(crate) bytes_sent: u64,
    /// From the start until the file was complete, or the command gave up.
    pub(crate) seconds: f64,
    /// What went wrong, if anything did.
    pub(crate) error: Option<String>,
}

/// What one peer of `demo` did.
#[derive(Serialize)]
pub(crate) struct Leecher {
    /// Which one, from 1.
    pub(crate) number: usize,
    /// Content bytes fetched and compared.
    pub(crate) bytes: u64,
    /// Until complete and verified.
    pub(crate) seconds: f64,
    /// Bytes received beyond the content, as a share of it.
    pub(crate) overhead: f64,
}
