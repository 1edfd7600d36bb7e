//! Datagrams: reading any bytes, and writing what was read.

use ppspp_core::chunk::{Bin, ChunkAddressing, ChunkIndex, ChunkRange};
use ppspp_core::wire::{
    ChannelId, DatagramBuilder, EncodeError, Format, Message, Messages, PushError, RangeMessage, read_handshake,
    split_channel,
};

use super::input::Input;

/// Reads a datagram in some format: every message and every error stays within the datagram and its format.
pub fn decode(data: &[u8]) {
    let mut input = Input::new(data);
    let format = input.format();
    let datagram = input.rest();
    let Some((_, body)) = split_channel(datagram) else {
        assert!(datagram.len() < 4, "a datagram with a channel id was refused");
        return;
    };
    if let Ok((handshake, rest)) = read_handshake(body) {
        assert!(rest.len() < body.len());
        assert_eq!(handshake.encoded_len() > 0, body[0] == 0);
    }
    let mut messages = Messages::new(body, &format);
    let mut before = 0;
    let mut after_short = false;
    while let Some(message) = messages.next() {
        assert!(!after_short, "a message after the last bytes of a DATA message");
        let end = messages.offset();
        assert!(end <= body.len(), "a message past the end");
        match message {
            Ok(message) => {
                assert!(end > before, "a message of no bytes");
                let chunk_size = format.chunk_size().bytes() as usize;
                after_short = matches!(message, Message::Data { payload, .. } if payload.len() < chunk_size);
                check_message(&message, &format, body.len());
                assert!(!format!("{message:?}").is_empty());
            }
            Err(error) => {
                assert!(error.offset() <= body.len(), "an error past the end");
                assert!(!error.to_string().is_empty());
                assert_eq!(messages.next(), None, "a message after an error");
            }
        }
        before = end;
    }
}

/// What a message promises to whoever handles it.
fn check_message(message: &Message<'_>, format: &Format, len: usize) {
    match message {
        Message::Data { payload, .. } => {
            assert!(!payload.is_empty() && payload.len() <= format.chunk_size().bytes() as usize);
        }
        Message::Integrity { node, hash } => {
            assert_eq!(hash.len(), format.hash_len());
            assert!(node.base_range().count().is_power_of_two());
        }
        Message::SignedIntegrity { signature, .. } => assert_eq!(signature.len(), format.signature_len()),
        Message::PexResCert(certificate) => assert!(certificate.len() < len),
        Message::Handshake(handshake) => {
            assert!(handshake.swarm_id.is_none_or(|id| id.len() < len));
        }
        _ => {}
    }
}

/// Writes what was read, and other messages of the same fields, and reads them back.
pub fn roundtrip(data: &[u8]) {
    let mut input = Input::new(data);
    let format = input.format();
    let budget = usize::from(input.u16());
    let body = input.rest();
    let read: Vec<Message<'_>> = Messages::new(body, &format).map_while(Result::ok).collect();
    for message in &read {
        write_and_read(message, &format);
    }
    build(&read, &format, budget);
    for made in [made_message(body, &format), made_message(body.get(1..).unwrap_or_default(), &format)] {
        write_and_read(&made, &format);
    }
    spread(body, &format, budget);
}

/// A message of any kind, with fields of the input's choice.
fn made_message<'a>(bytes: &'a [u8], format: &Format) -> Message<'a> {
    let mut input = Input::new(bytes);
    let kind = input.u8();
    let range = input.range();
    let node = Bin::from_number(range.start()).unwrap_or(Bin::EVERYTHING);
    let number = input.u64();
    match kind % 7 {
        0 => Message::Have(range),
        1 => Message::Ack { range, delay: number },
        2 => Message::Request(node.base_range()),
        3 => Message::Cancel(range),
        4 => Message::Integrity { node, hash: input.take(format.hash_len()) },
        5 => Message::SignedIntegrity { node, timestamp: number, signature: input.take(format.signature_len()) },
        _ => Message::Data { chunk: ChunkIndex::new(range.start()), timestamp: number, payload: input.rest() },
    }
}

fn write_and_read(message: &Message<'_>, format: &Format) {
    let mut bytes = vec![0xa5];
    match message.encode(format, &mut bytes) {
        Ok(()) => {
            let written = &bytes[1..];
            assert_eq!(written.len(), message.encoded_len(format), "{message:?}");
            let read: Vec<_> = Messages::new(written, format).collect();
            assert_eq!(read, [Ok(same(message, format))]);
        }
        Err(error) => {
            assert_eq!(bytes, [0xa5], "half a message was written: {message:?}");
            assert!(!error.to_string().is_empty());
            assert!(!matches!(error, EncodeError::BeyondAddressing { .. } if is_near(message)), "{message:?}");
        }
    }
}

/// What a message reads as.
fn same<'a>(message: &Message<'a>, format: &Format) -> Message<'a> {
    match *message {
        Message::Have(range) => Message::Have(clipped(range, format)),
        Message::Request(range) => Message::Request(clipped(range, format)),
        Message::Cancel(range) => Message::Cancel(clipped(range, format)),
        Message::Ack { range, delay } => Message::Ack { range: clipped(range, format), delay },
        message => message,
    }
}

/// What a run reads as: byte ranges end with the content (R4), empty bins have no place.
fn clipped(range: ChunkRange, format: &Format) -> ChunkRange {
    match format.content_length() {
        _ if range.is_empty() => ChunkRange::EMPTY,
        Some(length) if format.addressing() == ChunkAddressing::Byte64 => {
            let chunks = length.div_ceil(u64::from(format.chunk_size().bytes()));
            if range.start() < chunks { range.intersection(ChunkRange::new(0, chunks)) } else { range }
        }
        _ => range,
    }
}

/// Whether a message names chunks that every addressing method can name.
fn is_near(message: &Message<'_>) -> bool {
    const NEAR: u64 = 1 << 31;
    match message {
        Message::Have(range) | Message::Request(range) | Message::Cancel(range) | Message::Ack { range, .. } => {
            range.end() <= NEAR
        }
        Message::Integrity { node, .. } | Message::SignedIntegrity { node, .. } => node.base_range().end() <= NEAR,
        Message::Data { chunk, .. } => chunk.value() < NEAR,
        _ => true,
    }
}

/// Puts messages into a datagram of `budget` bytes and reads back those that went in.
fn build(messages: &[Message<'_>], format: &Format, budget: usize) {
    let channel = ChannelId::new(7);
    let mut buf = Vec::from(&b"earlier"[..]);
    let mut builder = DatagramBuilder::new(&mut buf, budget, channel, *format);
    let mut taken = Vec::new();
    for message in messages {
        let before = builder.len();
        match builder.push(message) {
            Ok(()) => taken.push(*message),
            Err(error) => {
                assert_eq!(builder.len(), before);
                let full = message.encoded_len(format) > budget.saturating_sub(before);
                assert!(error != PushError::Full || full, "{message:?} was refused for want of room");
            }
        }
    }
    let len = builder.finish();
    assert!(len <= budget.max(4));
    assert_eq!(buf.len(), b"earlier".len() + len);
    let Some((read_channel, body)) = split_channel(&buf[b"earlier".len()..]) else { panic!("no channel id") };
    assert_eq!(read_channel, channel);
    let read: Vec<_> = Messages::new(body, format).collect();
    assert_eq!(read, taken.iter().map(|message| Ok(same(message, format))).collect::<Vec<_>>());
}

/// Writes a run of chunks over as many datagrams as it takes.
fn spread(bytes: &[u8], format: &Format, budget: usize) {
    let mut input = Input::new(bytes);
    let kind =
        input.pick(&[RangeMessage::Have, RangeMessage::Ack { delay: 9 }, RangeMessage::Request, RangeMessage::Cancel]);
    let named = ChunkRange::new(0, format.max_chunks());
    let range = input.range().intersection(named);
    let mut rest = range;
    let mut next = range.start();
    // A run of 2^64 chunks is at most 126 bins.
    for _ in 0..128 {
        if rest.is_empty() {
            break;
        }
        let mut buf = Vec::new();
        let mut builder = DatagramBuilder::new(&mut buf, budget.max(64), ChannelId::ZERO, *format);
        rest = builder.push_range(kind, rest);
        assert!(!builder.is_bare(), "no progress");
        for message in Messages::new(&buf[4..], format) {
            let Ok(
                Message::Have(part) | Message::Request(part) | Message::Cancel(part) | Message::Ack { range: part, .. },
            ) = message
            else {
                panic!("{message:?} instead of a run")
            };
            assert_eq!(part.start(), next);
            next = part.end();
        }
    }
    assert!(rest.is_empty(), "{rest:?} left of {range:?}");
    assert!(range.is_empty() || next == clipped(range, format).end());
}
