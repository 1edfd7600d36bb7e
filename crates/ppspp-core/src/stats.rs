//! Counters. They only grow; units are in the names.

use crate::wire::{CHANNEL_ID_LEN, Format, Message, MessageType, Messages};

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
    /// PEX messages ignored: not asked for, too many, certificates.
    pub pex_ignored: u64,
    /// Complete groups read back to be sent.
    pub groups_served: u64,
    /// Those of them that were not hashed again, since they have the fingerprint of what they were
    /// ([`Limits::remembered_groups`](crate::config::Limits::remembered_groups)).
    pub groups_recalled: u64,
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
    /// An opening handshake for a swarm that we are not in, with other options, or from where no peer can be.
    pub refused_handshake: u64,
    /// An opening handshake from a peer that misbehaved not long ago.
    pub shunned: u64,
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
    /// Content bytes received again.
    pub duplicate_bytes: u64,
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
        self.duplicate_bytes += other.duplicate_bytes;
        self.chunks_sent += other.chunks_sent;
        self.content_bytes_sent += other.content_bytes_sent;
        self.chunks_resent += other.chunks_resent;
        self.integrity_sent += other.integrity_sent;
        self.integrity_received += other.integrity_received;
        self.chunks_requested += other.chunks_requested;
        self.requests_expired += other.requests_expired;
    }
}

/// What one swarm sent and received since it was joined, on all its channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TrafficStats {
    /// What left.
    pub sent: Traffic,
    /// What came.
    pub received: Traffic,
}

/// What went one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// UDP payload bytes: messages, channel ids, and whatever did not decode.
    pub bytes: u64,
    /// The messages in them.
    pub messages: MessageCounts,
}

/// Messages of one type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MessageCount {
    /// How many.
    pub count: u64,
    /// Their bytes, from the type octet to the end of the payload.
    pub bytes: u64,
}

/// Messages by type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MessageCounts([MessageCount; MessageType::ALL.len()]);

impl MessageCounts {
    /// The messages of type `message`.
    pub const fn of(&self, message: MessageType) -> MessageCount {
        self.0[message.code() as usize]
    }

    /// Every type with its messages, by code, also those that never occurred.
    pub fn iter(&self) -> impl Iterator<Item = (MessageType, MessageCount)> {
        MessageType::ALL.into_iter().map(|message| (message, self.of(message)))
    }

    /// Bytes of all messages.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|messages| messages.bytes).sum()
    }

    const fn add(&mut self, message: MessageType, count: u64, bytes: u64) {
        let messages = &mut self.0[message.code() as usize];
        messages.count += count;
        messages.bytes += bytes;
    }
}

impl Traffic {
    /// Counts datagrams of `bytes` bytes together, without the messages in them.
    pub(crate) const fn on_datagrams(&mut self, datagrams: usize, bytes: usize) {
        self.datagrams += datagrams as u64;
        self.bytes += bytes as u64;
    }

    /// Counts one message.
    pub(crate) fn on_message(&mut self, message: &Message<'_>, format: &Format) {
        self.messages.add(message.message_type(), 1, message.encoded_len(format) as u64);
    }

    /// Counts `count` messages of one type, of `bytes` bytes together.
    pub(crate) const fn on_messages(&mut self, message: MessageType, count: u64, bytes: usize) {
        self.messages.add(message, count, bytes as u64);
    }

    /// Counts the messages of one datagram that was written here, by reading it. For the few that carry no content: nearly
    /// all of what is in them needs no more than its type to be read.
    pub(crate) fn on_control(&mut self, datagram: &[u8], format: &Format) {
        let mut rest = datagram.get(CHANNEL_ID_LEN..).unwrap_or_default();
        while let Some((message, len)) = control_at(rest, format) {
            let alike = |next: &&[u8]| next.first() == Some(&message.code());
            let count = rest.chunks_exact(len).take_while(alike).count();
            self.messages.add(message, count as u64, (count * len) as u64);
            rest = rest.get(count * len..).unwrap_or_default();
        }
        for message in Messages::new(rest, format).map_while(Result::ok) {
            self.on_message(&message, format);
        }
    }

    /// Counts the messages of DATA datagrams: `chunks` of `content` bytes together, and `hashes`.
    pub(crate) fn on_chunks(&mut self, format: &Format, chunks: u64, content: u64, hashes: u64) {
        self.messages.add(MessageType::Data, chunks, content + chunks * format.data_overhead() as u64);
        self.messages.add(MessageType::Integrity, hashes, hashes * format.integrity_len() as u64);
    }
}

/// The type of the message at the start of `rest` and its length, if the type tells that and all of it is there.
fn control_at(rest: &[u8], format: &Format) -> Option<(MessageType, usize)> {
    let message = MessageType::from_code(*rest.first()?)?;
    Some((message, format.control_len(message).filter(|len| *len <= rest.len())?))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::chunk::{ChunkAddressing, ChunkIndex, ChunkRange, ChunkSize};
    use crate::wire::{ChannelId, DatagramBuilder};

    #[test]
    fn a_datagram_is_its_channel_and_its_messages() {
        let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 32, 0);
        let mut bytes = Vec::new();
        let mut datagram = DatagramBuilder::new(&mut bytes, 2000, ChannelId::new(1), format);
        for message in [
            Message::Have(ChunkRange::new(0, 2)),
            Message::Have(ChunkRange::new(4, 6)),
            Message::Choke,
            Message::PexResV4("10.0.0.1:80".parse().unwrap()),
            Message::Have(ChunkRange::new(8, 9)),
            Message::Data { chunk: ChunkIndex::new(9), timestamp: 1, payload: &[7; 100] },
        ] {
            datagram.push(&message).unwrap();
        }
        datagram.finish();
        let mut traffic = Traffic::default();
        traffic.on_datagrams(1, bytes.len());
        traffic.on_control(&bytes, &format);
        assert_eq!(traffic.messages.of(MessageType::Have), MessageCount { count: 3, bytes: 27 });
        assert_eq!(traffic.messages.of(MessageType::Choke), MessageCount { count: 1, bytes: 1 });
        assert_eq!(traffic.messages.of(MessageType::Data), MessageCount { count: 1, bytes: 117 });
        assert_eq!(traffic.messages.bytes() + CHANNEL_ID_LEN as u64, traffic.bytes);
        // By sums instead of one by one, the same.
        let mut sums = Traffic::default();
        sums.on_chunks(&format, 1, 100, 0);
        assert_eq!(sums.messages.of(MessageType::Data), traffic.messages.of(MessageType::Data));
        assert_eq!(sums.messages.iter().map(|(_, messages)| messages.count).sum::<u64>(), 1);
    }

    #[test]
    fn what_does_not_decode_counts_in_the_bytes_alone() {
        let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 32, 0);
        let mut traffic = Traffic::default();
        for datagram in [&[][..], &[0, 0], &[0, 0, 0, 1], &[0, 0, 0, 1, 0xff, 10], &[0, 0, 0, 1, 10, 0xff]] {
            traffic.on_datagrams(1, datagram.len());
            traffic.on_control(datagram, &format);
        }
        assert_eq!((traffic.datagrams, traffic.bytes, traffic.messages.bytes()), (5, 18, 1));
    }
}
