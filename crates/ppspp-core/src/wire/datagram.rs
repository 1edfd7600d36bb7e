//! Datagrams: walking the messages of one, and building one.

use alloc::vec::Vec;
use core::iter::FusedIterator;

use thiserror::Error;

use super::chunk_spec::{read_range, write_range};
use super::cursor::Cursor;
use super::error::WireError;
use super::message::{DataMessage, IntegrityMessage, Message, MessageType};
use super::{CHANNEL_ID_LEN, CODE_LEN, ChannelId, Format};
use crate::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkRange};

/// The messages of a datagram, in order.
///
/// Ends with the first error, since an invalid message voids the rest of its datagram (RFC 7574 §3).
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    cursor: Cursor<'a>,
    format: Format,
    failed: bool,
}

impl<'a> Messages<'a> {
    /// The messages in `body`, a datagram without its channel id.
    #[inline]
    pub const fn new(body: &'a [u8], format: &Format) -> Self {
        Self { cursor: Cursor::new(body), format: *format, failed: false }
    }

    /// The messages of `body` from `offset` on.
    #[inline]
    pub(crate) const fn from_offset(body: &'a [u8], offset: usize, format: &Format) -> Self {
        Self { cursor: Cursor::from_offset(body, offset), format: *format, failed: false }
    }

    /// What is left to be read: nothing after an error.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        if self.failed { &[] } else { self.cursor.rest() }
    }

    /// The next message if it is an ACK that can be read, as its run and delay sample: many come together, and a [`Message`]
    /// is long.
    #[inline]
    pub(crate) fn next_ack(&mut self) -> Option<(ChunkRange, u64)> {
        let mut cursor = self.cursor.clone();
        if self.failed || MessageType::from_code(*cursor.at_most(CODE_LEN).first()?)? != MessageType::Ack {
            return None;
        }
        let ack = (read_range(&mut cursor, &self.format).ok()?, cursor.u64("delay sample").ok()?);
        self.cursor = cursor;
        Some(ack)
    }

    /// Where the next message begins, in bytes after the channel id.
    pub const fn offset(&self) -> usize {
        self.cursor.offset()
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest().is_empty() {
            return None;
        }
        let first = self.cursor.offset() == 0;
        let message = Message::decode(&mut self.cursor, &self.format, first);
        self.failed = message.is_err();
        Some(message)
    }
}

impl FusedIterator for Messages<'_> {}

/// A message that is nothing but a run of chunks, for [`DatagramBuilder::push_range`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RangeMessage {
    /// HAVE.
    Have,
    /// ACK.
    Ack {
        /// One-way delay sample in microseconds, in two's complement.
        delay: u64,
    },
    /// REQUEST.
    Request,
    /// CANCEL.
    Cancel,
}

impl RangeMessage {
    const fn message_type(self) -> MessageType {
        match self {
            Self::Have => MessageType::Have,
            Self::Ack { .. } => MessageType::Ack,
            Self::Request => MessageType::Request,
            Self::Cancel => MessageType::Cancel,
        }
    }

    /// Bytes with one chunk specification.
    const fn len(self, format: &Format) -> usize {
        if let Self::Ack { .. } = self { format.ack_len() } else { format.have_len() }
    }
}

/// Why a message was not put into a datagram. Nothing of it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The datagram's budget is too small for what is in it and this.
    #[error("the datagram has no room for the message: put it into another")]
    Full,
    /// DATA stands last in a datagram (RFC 7574 §8.6).
    #[error("the datagram already ends with DATA: put the message into another")]
    AfterData,
    /// A HANDSHAKE stands first in a datagram (RFC 7574 §3.1).
    #[error("the datagram already holds a message: put the HANDSHAKE first")]
    HandshakeNotFirst,
    /// The swarm's format has no form for it; [`Message::encode`] says why.
    #[error("the message cannot be written in the swarm's format: split or leave it out")]
    Unrepresentable,
}

/// Writes one datagram, message by message, to the end of a buffer.
///
/// The buffer may already hold datagrams that are sent together. Messages are never split, a HANDSHAKE is only taken
/// first and DATA only last, and the datagram never outgrows its budget.
#[derive(Debug)]
pub struct DatagramBuilder<'b> {
    buf: &'b mut Vec<u8>,
    start: usize,
    first_message: usize,
    budget: usize,
    format: Format,
    sealed: bool,
}

impl<'b> DatagramBuilder<'b> {
    /// Begins a datagram of at most `budget` bytes of UDP payload to `channel`, and writes the channel id.
    ///
    /// A budget below four bytes is as good as four: nothing fits.
    #[inline]
    pub fn new(buf: &'b mut Vec<u8>, budget: usize, channel: ChannelId, format: Format) -> Self {
        let start = buf.len();
        buf.extend_from_slice(&channel.value().to_be_bytes());
        let first_message = buf.len();
        Self { buf, start, first_message, budget, format, sealed: false }
    }

    /// Bytes written of this datagram, channel id included.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "the channel id is always there; see is_bare")]
    pub const fn len(&self) -> usize {
        self.buf.len().saturating_sub(self.start)
    }

    /// Whether there is no message yet: as it stands the datagram is a keep-alive (RFC 7574 §8.14).
    #[inline]
    pub const fn is_bare(&self) -> bool {
        self.buf.len() == self.first_message
    }

    /// Bytes left of the budget.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.budget.saturating_sub(self.len())
    }

    /// Adds `message`.
    ///
    /// # Errors
    /// [`PushError`] says why it was not added; the datagram is as before.
    #[inline]
    pub fn push(&mut self, message: &Message<'_>) -> Result<(), PushError> {
        if self.sealed {
            return Err(PushError::AfterData);
        }
        if matches!(message, Message::Handshake(_)) && !self.is_bare() {
            return Err(PushError::HandshakeNotFirst);
        }
        if message.encoded_len(&self.format) > self.remaining() {
            return Err(PushError::Full);
        }
        message.encode(&self.format, self.buf).map_err(|_| PushError::Unrepresentable)?;
        self.sealed = matches!(message, Message::Data { .. });
        Ok(())
    }

    /// Adds as much of `range` as fits and returns the rest: empty when all was written.
    ///
    /// Range addressing takes one message, bins as many as the run has parts. An empty run writes nothing; chunks that
    /// the addressing method cannot name are left out (ruling R3). After DATA nothing fits.
    #[must_use = "the rest belongs into another datagram"]
    pub fn push_range(&mut self, message: RangeMessage, range: ChunkRange) -> ChunkRange {
        let mut rest = range.intersection(ChunkRange::new(0, self.format.max_chunks()));
        while !rest.is_empty() {
            let part = match self.format.addressing() {
                ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => {
                    Bin::largest_prefix(rest).map_or(ChunkRange::EMPTY, Bin::base_range)
                }
                _ => rest,
            };
            match self.push_run(message, part) {
                Ok(()) => rest = ChunkRange::new(part.end(), rest.end()),
                Err(PushError::Unrepresentable) => break,
                Err(_) => return rest,
            }
        }
        ChunkRange::EMPTY
    }

    /// Whether a datagram of its own would hold all of `range`.
    pub(crate) fn holds(&self, message: RangeMessage, range: ChunkRange) -> bool {
        if !matches!(self.format.addressing(), ChunkAddressing::Bin32 | ChunkAddressing::Bin64) {
            return true;
        }
        let most = self.budget.saturating_sub(CHANNEL_ID_LEN).checked_div(message.len(&self.format)).unwrap_or(0);
        let mut rest = range;
        // A run has two bins of each size at most.
        let sizes = u64::BITS.saturating_sub(range.count().leading_zeros()) as usize;
        sizes.saturating_mul(2) <= most
            || (0..most).any(|_| {
                let bin = Bin::largest_prefix(rest).map_or(ChunkRange::EMPTY, Bin::base_range);
                rest = ChunkRange::new(bin.end(), rest.end());
                rest.is_empty() || bin.is_empty()
            })
    }

    /// Adds a message over `run`, which is one chunk specification.
    #[inline]
    fn push_run(&mut self, message: RangeMessage, run: ChunkRange) -> Result<(), PushError> {
        if self.sealed {
            return Err(PushError::AfterData);
        }
        if message.len(&self.format) > self.remaining() {
            return Err(PushError::Full);
        }
        let before = self.buf.len();
        self.buf.push(message.message_type().code());
        if write_range(run, &self.format, self.buf).is_err() {
            self.buf.truncate(before);
            return Err(PushError::Unrepresentable);
        }
        if let RangeMessage::Ack { delay } = message {
            self.buf.extend_from_slice(&delay.to_be_bytes());
        }
        Ok(())
    }

    /// Adds a DATA message with the INTEGRITY messages it needs before it, or nothing (RFC 7574 §5.3).
    ///
    /// # Errors
    /// [`PushError`] says why nothing was added.
    #[inline]
    pub fn push_data(
        &mut self,
        hashes: &[(Bin, &[u8])],
        chunk: ChunkIndex,
        timestamp: u64,
        payload: &[u8],
    ) -> Result<(), PushError> {
        if self.sealed {
            return Err(PushError::AfterData);
        }
        let integrity = hashes.len().saturating_mul(self.format.integrity_len());
        let needed = integrity.saturating_add(self.format.data_overhead()).saturating_add(payload.len());
        if needed > self.remaining() {
            return Err(PushError::Full);
        }
        self.buf.reserve(needed);
        let hashes = hashes.iter().map(|&(node, hash)| Some(IntegrityMessage { node, hash }));
        if !write_content(self.buf, &self.format, hashes, DataMessage { chunk, timestamp, payload }) {
            return Err(PushError::Unrepresentable);
        }
        self.sealed = true;
        Ok(())
    }

    /// Ends the datagram and returns its length in bytes.
    pub fn finish(self) -> usize {
        self.len()
    }

    /// Takes the datagram back out of the buffer.
    pub fn discard(self) {
        self.buf.truncate(self.start);
    }
}

/// Appends a datagram of DATA to `channel` and the hashes it needs, which takes `len` bytes, or nothing if one of these is
/// `None` or cannot be written; returns whether it did.
///
/// What a [`DatagramBuilder`] does message by message, for those who know what goes into it.
#[inline]
pub(crate) fn write_data_datagram<'a>(
    buf: &mut Vec<u8>,
    len: usize,
    channel: ChannelId,
    format: &Format,
    hashes: impl Iterator<Item = Option<IntegrityMessage<'a>>>,
    data: DataMessage<'a>,
) -> bool {
    let start = buf.len();
    buf.reserve(len);
    buf.extend_from_slice(&channel.value().to_be_bytes());
    let written = write_content(buf, format, hashes, data);
    if !written {
        buf.truncate(start);
    }
    debug_assert!(!written || buf.len() == start.saturating_add(len), "the caller counted");
    written
}

/// Appends INTEGRITY messages and the DATA message after them, or nothing if one of them is `None` or cannot be written;
/// returns whether it did.
#[inline]
fn write_content<'a>(
    buf: &mut Vec<u8>,
    format: &Format,
    mut hashes: impl Iterator<Item = Option<IntegrityMessage<'a>>>,
    data: DataMessage<'a>,
) -> bool {
    let before = buf.len();
    let written = hashes.all(|hash| hash.is_some_and(|hash| hash.write(format, buf).is_ok()));
    if written && data.write(format, buf).is_ok() {
        return true;
    }
    buf.truncate(before);
    false
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::chunk::ChunkSize;

    fn format(addressing: ChunkAddressing) -> Format {
        Format::new(addressing, ChunkSize::DEFAULT, 20, 64)
    }

    fn read(datagram: &[u8], format: &Format) -> (ChannelId, Vec<Message<'static>>) {
        let datagram: &'static [u8] = datagram.to_vec().leak();
        let (channel, body) = crate::wire::split_channel(datagram).unwrap();
        (channel, Messages::new(body, format).map(Result::unwrap).collect())
    }

    #[test]
    fn a_run_takes_one_message_per_bin() {
        let format = format(ChunkAddressing::Bin32);
        let mut buf = Vec::new();
        let mut builder = DatagramBuilder::new(&mut buf, 4 + 2 * 5, ChannelId::new(7), format);
        let rest = builder.push_range(RangeMessage::Have, ChunkRange::new(0, 7));
        assert_eq!(rest, ChunkRange::new(6, 7));
        assert_eq!(builder.finish(), 14);
        let (channel, messages) = read(&buf, &format);
        assert_eq!(channel, ChannelId::new(7));
        assert_eq!(messages, [Message::Have(ChunkRange::new(0, 4)), Message::Have(ChunkRange::new(4, 6))]);
    }

    #[test]
    fn hashes_and_their_data_go_together_or_not_at_all() {
        let format = format(ChunkAddressing::Chunk32);
        let node = Bin::from_number(3).unwrap();
        let hashes = [(node, &[9_u8; 20][..]), (Bin::from_number(1).unwrap(), &[8; 20])];
        let needed = 4 + 2 * format.integrity_len() + format.data_overhead() + 1024;
        for (budget, expected) in [(needed - 1, Err(PushError::Full)), (needed, Ok(()))] {
            let mut buf = Vec::from(&b"earlier"[..]);
            let mut builder = DatagramBuilder::new(&mut buf, budget, ChannelId::new(7), format);
            let pushed = builder.push_data(&hashes, ChunkIndex::new(2), 5, &[1; 1024]);
            assert_eq!(pushed, expected);
            if pushed.is_ok() {
                assert_eq!(builder.push(&Message::Choke), Err(PushError::AfterData));
                assert_eq!(builder.finish(), needed);
                let (_, messages) = read(&buf[7..], &format);
                assert_eq!(messages.len(), 3);
                assert_eq!(messages[0], Message::Integrity { node, hash: &[9; 20] });
                let chunk = ChunkIndex::new(2);
                assert_eq!(messages[2], Message::Data { chunk, timestamp: 5, payload: &[1; 1024] });
            } else {
                assert!(builder.is_bare());
                builder.discard();
                assert_eq!(buf, b"earlier");
            }
        }
    }

    #[test]
    fn what_does_not_fit_or_belong_leaves_no_trace() {
        let format = format(ChunkAddressing::Chunk32);
        let mut buf = Vec::new();
        let mut builder = DatagramBuilder::new(&mut buf, 2000, ChannelId::ZERO, format);
        let node = Bin::from_number(0).unwrap();
        let chunk = ChunkIndex::new(0);
        let short_hash = [(node, &[0_u8; 20][..]), (node, &[0; 19])];
        let refused = Err(PushError::Unrepresentable);
        assert_eq!(builder.push_data(&short_hash, chunk, 0, &[0]), refused);
        assert_eq!(builder.push_data(&[], ChunkIndex::new(1 << 32), 0, &[0]), refused);
        assert_eq!(builder.push_data(&[], chunk, 0, &[]), refused);
        assert_eq!(builder.push_data(&[], chunk, 0, &[0; 1025]), refused);
        assert_eq!(builder.push(&Message::Have(ChunkRange::EMPTY)), refused);
        assert!(builder.is_bare());
        assert_eq!(builder.push(&Message::Choke), Ok(()));
        let handshake = Message::Handshake(crate::wire::Handshake::closing());
        assert_eq!(builder.push(&handshake), Err(PushError::HandshakeNotFirst));
        assert_eq!(builder.push_data(&[], chunk, 0, &[0]), Ok(()));
        assert_eq!(builder.push(&Message::Choke), Err(PushError::AfterData));
        assert_eq!(builder.push_data(&[], chunk, 0, &[0]), Err(PushError::AfterData));
        let range = ChunkRange::new(3, 9);
        assert_eq!(builder.push_range(RangeMessage::Request, range), range);
        assert_eq!(builder.finish(), 4 + 1 + format.data_overhead() + 1);
    }

    #[test]
    fn a_tiny_budget_takes_nothing_but_the_channel() {
        for budget in 0..=CHANNEL_ID_LEN {
            let mut buf = Vec::new();
            let mut builder = DatagramBuilder::new(&mut buf, budget, ChannelId::ZERO, format(ChunkAddressing::Bin64));
            assert_eq!(builder.remaining(), 0);
            assert_eq!(builder.push(&Message::Choke), Err(PushError::Full));
            assert_eq!(builder.push_range(RangeMessage::Have, ChunkRange::new(1, 2)), ChunkRange::new(1, 2));
            assert!(builder.is_bare());
            assert_eq!(builder.finish(), CHANNEL_ID_LEN);
        }
    }

    #[test]
    fn r3_chunks_beyond_the_addressing_are_left_out() {
        for addressing in ChunkAddressing::ALL {
            let format = format(addressing);
            let max = format.max_chunks();
            let mut buf = Vec::new();
            let mut builder = DatagramBuilder::new(&mut buf, 2000, ChannelId::ZERO, format);
            assert!(builder.push_range(RangeMessage::Have, ChunkRange::new(max - 1, u64::MAX)).is_empty());
            let written = builder.len();
            assert!(builder.push_range(RangeMessage::Have, ChunkRange::new(max, u64::MAX)).is_empty());
            assert!(builder.push_range(RangeMessage::Have, ChunkRange::new(5, 5)).is_empty());
            assert_eq!(builder.finish(), written);
            let (_, messages) = read(&buf, &format);
            assert_eq!(messages, [Message::Have(ChunkRange::new(max - 1, max))]);
        }
    }
}
