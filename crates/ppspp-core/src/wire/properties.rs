//! Laws of the whole room, over all messages, options and addressing methods.

use core::net::{SocketAddrV4, SocketAddrV6};
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::chunk::{Bin, ChunkIndex, ChunkRange};

/// A chunk far into any content.
const FAR: u64 = 1 << 40;

/// Owns what a [`Message`] borrows.
#[derive(Clone, Debug)]
struct Sample {
    format: Format,
    bytes: Vec<u8>,
    range: ChunkRange,
    node: Bin,
    number: u64,
    handshake: OwnedHandshake,
    message: MessageType,
}

#[derive(Clone, Debug)]
struct OwnedHandshake {
    swarm_id: Option<Vec<u8>>,
    rest: Handshake<'static>,
}

impl OwnedHandshake {
    fn borrow(&self) -> Handshake<'_> {
        Handshake { swarm_id: self.swarm_id.as_deref(), ..self.rest }
    }
}

impl Sample {
    fn message(&self) -> Message<'_> {
        let Self { range, node, number, .. } = *self;
        let head = |len: usize| &self.bytes[..len.min(self.bytes.len())];
        let address: [u8; 16] = self.bytes[..16].try_into().unwrap();
        match self.message {
            MessageType::Handshake => Message::Handshake(self.handshake.borrow()),
            MessageType::Data => {
                let chunk = ChunkIndex::new(range.start());
                let len = usize::try_from(self.format.chunk_size().bytes()).unwrap();
                Message::Data { chunk, timestamp: number, payload: head(len) }
            }
            MessageType::Ack => Message::Ack { range, delay: number },
            MessageType::Have => Message::Have(range),
            MessageType::Integrity => Message::Integrity { node, hash: head(self.format.hash_len()) },
            MessageType::PexResV4 => {
                Message::PexResV4(SocketAddrV4::new(u32::from_be_bytes([1, 2, 3, address[0]]).into(), 6778))
            }
            MessageType::PexReq => Message::PexReq,
            MessageType::SignedIntegrity => {
                Message::SignedIntegrity { node, timestamp: number, signature: head(self.format.signature_len()) }
            }
            MessageType::Request => Message::Request(range),
            MessageType::Cancel => Message::Cancel(range),
            MessageType::Choke => Message::Choke,
            MessageType::Unchoke => Message::Unchoke,
            MessageType::PexResV6 => Message::PexResV6(SocketAddrV6::new(address.into(), 1, 0, 0)),
            MessageType::PexResCert => Message::PexResCert(&self.bytes),
        }
    }
}

fn formats() -> impl Strategy<Value = Format> {
    let addressing = prop::sample::select(ChunkAddressing::ALL.to_vec());
    let chunk_size = prop_oneof![Just(512_u32), Just(1024), Just(61_440), 512..=61_440_u32];
    let hash_len = prop::sample::select(std::vec![20_usize, 28, 32, 48, 64]);
    (addressing, chunk_size, hash_len, prop::sample::select(std::vec![64_usize, 96, 256])).prop_map(
        |(addressing, chunk_size, hash_len, signature_len)| {
            Format::new(addressing, ChunkSize::new(chunk_size).unwrap(), hash_len, signature_len)
        },
    )
}

fn nodes(format: &Format) -> BoxedStrategy<Bin> {
    let top = u8::try_from(format.max_chunks().ilog2()).unwrap();
    (0..=top)
        .prop_flat_map(move |layer| (Just(layer), 0..1_u64 << (top - layer).min(63)))
        .prop_map(|(layer, offset)| Bin::at(layer, offset).unwrap())
        .boxed()
}

/// Runs of chunks that are one specification.
fn ranges(format: &Format) -> BoxedStrategy<ChunkRange> {
    let max = format.max_chunks();
    match format.addressing() {
        ChunkAddressing::Bin32 | ChunkAddressing::Bin64 => {
            prop_oneof![1 => Just(ChunkRange::EMPTY), 9 => nodes(format).prop_map(Bin::base_range)].boxed()
        }
        _ => {
            let ends = (0..max, 0..max).prop_map(|(a, b)| ChunkRange::new(a.min(b), a.max(b) + 1));
            prop_oneof![8 => ends, 1 => Just(ChunkRange::new(0, max)), 1 => Just(ChunkRange::new(max - 1, max))].boxed()
        }
    }
}

fn message_sets() -> impl Strategy<Value = MessageSet> {
    vec(any::<u8>(), 0..=32).prop_map(|bitmap| MessageSet::from_bitmap(&bitmap).unwrap())
}

fn handshakes() -> impl Strategy<Value = OwnedHandshake> {
    let codes = any::<[Option<u8>; 5]>();
    let addressing = prop::option::of(prop::sample::select(ChunkAddressing::ALL.to_vec()));
    let rest = (any::<Option<u64>>(), prop::option::of(message_sets()), any::<Option<u32>>());
    (any::<u32>(), codes, prop::option::of(vec(any::<u8>(), 0..300)), addressing, rest).prop_map(
        |(source, codes, swarm_id, addressing, (window, supported_messages, chunk_size))| {
            let [version, min_version, integrity_method, hash_function, live_signature] = codes;
            let live_discard_window =
                addressing.zip(window).map(|(addressing, window)| match addressing.integer_len() {
                    4 => window >> 32,
                    _ => window,
                });
            let rest = Handshake {
                source: ChannelId::new(source),
                version,
                min_version,
                swarm_id: None,
                integrity_method,
                hash_function,
                live_signature,
                addressing: addressing.map(ChunkAddressing::code),
                live_discard_window,
                supported_messages,
                chunk_size,
            };
            OwnedHandshake { swarm_id, rest }
        },
    )
}

fn samples_of(format: Format) -> impl Strategy<Value = Sample> {
    let message = prop::sample::select(MessageType::ALL.to_vec());
    (vec(any::<u8>(), 256..2048), ranges(&format), nodes(&format), any::<u64>(), handshakes(), message).prop_map(
        move |(bytes, range, node, number, handshake, message)| Sample {
            format,
            bytes,
            range,
            node,
            number,
            handshake,
            message,
        },
    )
}

fn samples() -> impl Strategy<Value = Sample> {
    formats().prop_flat_map(samples_of)
}

fn encoded(sample: &Sample) -> Vec<u8> {
    let mut out = Vec::new();
    sample.message().encode(&sample.format, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn what_is_written_reads_back(sample in samples()) {
        let bytes = encoded(&sample);
        prop_assert_eq!(bytes.len(), sample.message().encoded_len(&sample.format));
        let read: Vec<_> = Messages::new(&bytes, &sample.format).collect();
        prop_assert_eq!(read, [Ok(sample.message())]);
    }

    #[test]
    fn handshakes_read_back_without_a_format(handshake in handshakes(), rest in vec(any::<u8>(), 0..9)) {
        let mut bytes = Vec::new();
        handshake.borrow().encode(&mut bytes).unwrap();
        prop_assert_eq!(bytes.len(), handshake.borrow().encoded_len());
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(read_handshake(&bytes), Ok((handshake.borrow(), &rest[..])));
    }

    #[test]
    fn a_cut_message_is_an_error(sample in samples(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&sample);
        let cut = cut.index(bytes.len());
        let read: Vec<_> = Messages::new(&bytes[..cut], &sample.format).collect();
        match sample.message() {
            _ if cut == 0 => prop_assert!(read.is_empty()),
            // A shorter chunk is a chunk too, unless the byte range says otherwise.
            Message::Data { chunk, timestamp, payload } if cut > sample.format.data_overhead() => {
                let payload = &payload[..cut - sample.format.data_overhead()];
                if read[0].is_ok() {
                    prop_assert_eq!(&read, &[Ok(Message::Data { chunk, timestamp, payload })]);
                } else {
                    prop_assert_eq!(sample.format.addressing(), ChunkAddressing::Byte64);
                }
            }
            message => {
                prop_assert_eq!(read.len(), 1);
                let error = read[0].unwrap_err();
                prop_assert_eq!(error.message(), Some(message.message_type()));
                prop_assert!(error.offset() <= cut);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_to_an_end(format in formats(), bytes in vec(any::<u8>(), 0..400)) {
        let mut messages = Messages::new(&bytes, &format);
        let mut offset = 0;
        while let Some(message) = messages.next() {
            prop_assert!(messages.offset() <= bytes.len());
            if message.is_err() {
                break;
            }
            prop_assert!(messages.offset() > offset);
            offset = messages.offset();
        }
        prop_assert_eq!(messages.next(), None);
    }

    /// What reads at all and is written again reads the same: no two meanings for one message.
    #[test]
    fn damaged_messages_stay_consistent(
        sample in samples(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let mut bytes = encoded(&sample);
        let at = at.index(bytes.len().min(64));
        bytes[at] ^= flip;
        for message in Messages::new(&bytes, &sample.format).map_while(Result::ok) {
            let mut again = Vec::new();
            match message.encode(&sample.format, &mut again) {
                Ok(()) => {
                    let read: Vec<_> = Messages::new(&again, &sample.format).collect();
                    prop_assert_eq!(read, [Ok(message)]);
                }
                // Readable beyond what may be written: only a byte range past the last whole chunk.
                Err(error) => prop_assert!(matches!(error, EncodeError::BeyondAddressing { .. }), "{}", error),
            }
        }
    }

    #[test]
    fn a_builder_keeps_to_its_budget_and_order(
        (format, samples) in formats().prop_flat_map(|format| (Just(format), vec(samples_of(format), 0..12))),
        budget in 0_usize..4000,
        earlier in vec(any::<u8>(), 0..9),
    ) {
        let mut buf = earlier.clone();
        let mut builder = DatagramBuilder::new(&mut buf, budget, ChannelId::new(9), format);
        let mut pushed = Vec::new();
        for sample in &samples {
            let message = sample.message();
            let (before, room) = (builder.len(), builder.remaining());
            let result = builder.push(&message);
            let after_data = matches!(pushed.last(), Some(Message::Data { .. }));
            let late = matches!(message, Message::Handshake(_)) && !pushed.is_empty();
            let expected = if after_data {
                Err(PushError::AfterData)
            } else if late {
                Err(PushError::HandshakeNotFirst)
            } else if message.encoded_len(&format) > room {
                Err(PushError::Full)
            } else {
                pushed.push(message);
                Ok(())
            };
            prop_assert_eq!(result, expected);
            prop_assert_eq!(builder.is_bare(), pushed.is_empty());
            prop_assert!(result.is_ok() || builder.len() == before);
        }
        let len = builder.finish();
        prop_assert!(len <= budget.max(CHANNEL_ID_LEN));
        prop_assert_eq!(&buf[..earlier.len()], &earlier[..]);
        prop_assert_eq!(buf.len() - earlier.len(), len);
        let (channel, body) = split_channel(&buf[earlier.len()..]).unwrap();
        prop_assert_eq!(channel, ChannelId::new(9));
        let read: Vec<_> = Messages::new(body, &format).map(Result::unwrap).collect();
        prop_assert_eq!(read, pushed);
    }

    #[test]
    fn a_run_is_written_whole_over_several_datagrams(
        format in formats(),
        start in prop_oneof![0_u64..1000, 0..FAR],
        count in 0_u64..5000,
        budget in 40_usize..200,
        kind in prop::sample::select(std::vec![
            RangeMessage::Have, RangeMessage::Ack { delay: 5 }, RangeMessage::Request, RangeMessage::Cancel,
        ]),
    ) {
        let range = ChunkRange::new(start, start + count).intersection(ChunkRange::new(0, format.max_chunks()));
        let mut rest = range;
        let mut next = range.start();
        while !rest.is_empty() {
            let mut buf = Vec::new();
            let mut builder = DatagramBuilder::new(&mut buf, budget, ChannelId::ZERO, format);
            rest = builder.push_range(kind, rest);
            prop_assert!(!builder.is_bare());
            for message in Messages::new(&buf[CHANNEL_ID_LEN..], &format) {
                let part = match (kind, message.unwrap()) {
                    (RangeMessage::Have, Message::Have(part))
                    | (RangeMessage::Ack { .. }, Message::Ack { range: part, delay: 5 })
                    | (RangeMessage::Request, Message::Request(part))
                    | (RangeMessage::Cancel, Message::Cancel(part)) => part,
                    other => return Err(TestCaseError::fail(std::format!("{other:?}"))),
                };
                prop_assert_eq!(part.start(), next);
                next = part.end();
            }
            prop_assert!(rest.is_empty() || rest.start() == next);
        }
        prop_assert_eq!(next, range.end());
    }

    #[test]
    fn byte_ranges_within_a_known_length_read_back(
        length in 1_u64..200_000,
        size in 512_u32..3000,
        (a, b) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let format = Format::new(ChunkAddressing::Byte64, ChunkSize::new(size).unwrap(), 20, 0)
            .with_content_length(Some(length));
        let chunks = usize::try_from(length.div_ceil(u64::from(size))).unwrap();
        let (a, b) = (a.index(chunks) as u64, b.index(chunks) as u64);
        let have = Message::Have(ChunkRange::new(a.min(b), a.max(b) + 1));
        let mut bytes = Vec::new();
        have.encode(&format, &mut bytes).unwrap();
        let end = u64::from_be_bytes(bytes[9..].try_into().unwrap());
        prop_assert!(end < length);
        for known in [Some(length), None] {
            let read: Vec<_> = Messages::new(&bytes, &format.with_content_length(known)).collect();
            prop_assert_eq!(read, [Ok(have)]);
        }
    }
}
