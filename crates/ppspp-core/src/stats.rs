//! Counters. They only grow; units are in the names.

/// Datagrams and messages of an endpoint since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// UDP payload bytes sent.
    pub bytes_sent: u64,
    /// Datagrams received, good or bad.
    pub datagrams_received: u64,
    /// UDP payload bytes received.
    pub bytes_received: u64,
    /// Datagrams dropped, by reason.
    pub dropped: DropStats,
}

/// Datagrams dropped, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DropStats {
    /// Shorter than a channel id.
    pub too_short: u64,
    /// For a channel that is not ours.
    pub unknown_channel: u64,
    /// From an address that is not the channel's (R11).
    pub wrong_address: u64,
    /// An opening handshake that does not decode.
    pub bad_handshake: u64,
    /// An opening handshake for a swarm that we are not in, or with other options.
    pub refused_handshake: u64,
    /// Messages that do not decode; the rest of the datagram is dropped.
    pub undecodable: u64,
    /// DATA beyond the bound on unconfirmed bytes (R19).
    pub backpressure: u64,
    /// DATA of chunks that nobody was asked for (§12.6.3).
    pub unrequested: u64,
}

/// What one swarm or peer moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TransferStats {
    /// Chunks received and verified for the first time.
    pub chunks_received: u64,
    /// Content bytes received and verified for the first time.
    pub content_bytes_received: u64,
    /// Chunks received again.
    pub duplicate_chunks: u64,
    /// Chunks sent, repeats included.
    pub chunks_sent: u64,
    /// Content bytes sent, repeats included.
    pub content_bytes_sent: u64,
    /// Chunks sent again because they were lost.
    pub chunks_resent: u64,
    /// INTEGRITY messages sent.
    pub integrity_sent: u64,
    /// INTEGRITY messages received.
    pub integrity_received: u64,
    /// Chunks asked for.
    pub chunks_requested: u64,
    /// Chunks whose request went unanswered and was made again.
    pub requests_expired: u64,
}

impl TransferStats {
    /// Adds `other` to each counter.
    pub fn add(&mut self, other: &Self) {
        self.chunks_received += other.chunks_received;
        self.content_bytes_received += other.content_bytes_received;
        self.duplicate_chunks += other.duplicate_chunks;
        self.chunks_sent += other.chunks_sent;
        self.content_bytes_sent += other.content_bytes_sent;
        self.chunks_resent += other.chunks_resent;
        self.integrity_sent += other.integrity_sent;
        self.integrity_received += other.integrity_received;
        self.chunks_requested += other.chunks_requested;
        self.requests_expired += other.requests_expired;
    }
}
