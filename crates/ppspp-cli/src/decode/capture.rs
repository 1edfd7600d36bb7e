//! Capture files: classic pcap and pcapng, read as a stream.

use std::io::{self, Read};
use std::time::Duration;

use thiserror::Error;

/// Longest record that is read, in bytes; capture programs cut packets at 256 KiB.
const MAX_RECORD: usize = 1 << 20;

/// Most interfaces of one pcapng section; each costs a few bytes.
const MAX_INTERFACES: usize = 1 << 16;

/// A capture that cannot be read on.
#[derive(Debug, Error)]
pub(crate) enum CaptureError {
    /// Neither pcap nor pcapng.
    #[error("it is no capture file: neither pcap nor pcapng")]
    NotACapture,
    /// The file ends within a record.
    #[error("the capture ends in the middle of packet {0}")]
    CutOff(u64),
    /// A length that no capture program writes.
    #[error("packet {packet} claims {len} bytes: the capture is damaged")]
    Damaged {
        /// The packet's number, from 1.
        packet: u64,
        /// The length it claims.
        len: u64,
    },
    /// The operating system's error.
    #[error("cannot read the capture: {0}")]
    Io(#[from] io::Error),
}

/// How the bytes of a packet begin: a link-layer type of the tcpdump registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LinkType(pub(crate) u32);

/// One captured packet.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Its number in the capture, from 1.
    pub(crate) number: u64,
    /// When it was captured, since the Unix epoch.
    pub(crate) time: Duration,
    /// Its link layer.
    pub(crate) link: LinkType,
    /// Its bytes.
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Endian {
    Little,
    Big,
}

impl Endian {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..)?.first_chunk().map(|bytes| self.u32(*bytes))
    }

    fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        bytes.get(at..)?.first_chunk().map(|bytes| self.u16(*bytes))
    }
}

/// What a pcapng section says of an interface.
struct Interface {
    link: LinkType,
    /// Timestamp units per second.
    resolution: u64,
}

enum Kind {
    Classic {
        endian: Endian,
        link: LinkType,
        /// Timestamp units per second.
        resolution: u32,
    },
    Blocks {
        endian: Endian,
        interfaces: Vec<Interface>,
    },
}

/// A capture being read.
pub(crate) struct Capture<R> {
    from: R,
    kind: Kind,
    packets: u64,
}

impl<R: Read> Capture<R> {
    /// Whether a file that begins with these bytes is a capture.
    pub(crate) fn recognises(start: &[u8]) -> bool {
        start.first_chunk().is_some_and(|magic| classic(*magic).is_some() || *magic == SECTION.to_be_bytes())
    }

    /// Reads the file's header.
    pub(crate) fn open(mut from: R) -> Result<Self, CaptureError> {
        let not_one = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CaptureError::NotACapture,
            _ => error.into(),
        };
        let mut magic = [0; 4];
        from.read_exact(&mut magic).map_err(not_one)?;
        let kind = if magic == SECTION.to_be_bytes() {
            let mut rest = [0; 8];
            from.read_exact(&mut rest).map_err(not_one)?;
            let endian = section(&mut from, rest).map_err(|error| error.unwrap_or(CaptureError::NotACapture))?;
            Kind::Blocks { endian, interfaces: Vec::new() }
        } else {
            let (endian, resolution) = classic(magic).ok_or(CaptureError::NotACapture)?;
            let mut header = [0; 20];
            from.read_exact(&mut header).map_err(not_one)?;
            let link = endian.u32_at(&header, 16).ok_or(CaptureError::NotACapture)?;
            // The upper bits tell about frame check sequences.
            Kind::Classic { endian, link: LinkType(link & 0x0fff_ffff), resolution }
        };
        Ok(Self { from, kind, packets: 0 })
    }

    /// The next packet; `None` at the end.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet>, CaptureError> {
        match self.kind {
            Kind::Classic { endian, link, resolution } => self.next_record(endian, link, resolution),
            Kind::Blocks { .. } => loop {
                match self.next_block()? {
                    Block::Packet(packet) => return Ok(Some(packet)),
                    Block::Other => {}
                    Block::End => return Ok(None),
                }
            },
        }
    }

    fn next_record(&mut self, endian: Endian, link: LinkType, resolution: u32) -> Result<Option<Packet>, CaptureError> {
        let mut header = [0; 16];
        if !self.fill_or_end(&mut header)? {
            return Ok(None);
        }
        let field = |at| u64::from(endian.u32_at(&header, at).unwrap_or_default());
        let time = timestamp(field(0) * u64::from(resolution) + field(4), u64::from(resolution));
        let data = self.take(field(8))?;
        self.packets += 1;
        Ok(Some(Packet { number: self.packets, time, link, data }))
    }

    /// Fills `buffer`; `false` at the end of the file.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> Result<bool, CaptureError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(CaptureError::CutOff(self.packets + 1)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn take(&mut self, len: u64) -> Result<Vec<u8>, CaptureError> {
        let packet = self.packets + 1;
        let short = usize::try_from(len).ok().filter(|len| *len <= MAX_RECORD);
        let mut data = vec![0; short.ok_or(CaptureError::Damaged { packet, len })?];
        if data.is_empty() || self.fill_or_end(&mut data)? { Ok(data) } else { Err(CaptureError::CutOff(packet)) }
    }

    fn next_block(&mut self) -> Result<Block, CaptureError> {
        let mut header = [0; 8];
        if !self.fill_or_end(&mut header)? {
            return Ok(Block::End);
        }
        let packets = self.packets;
        let Kind::Blocks { endian, interfaces } = &mut self.kind else { return Ok(Block::End) };
        let kind = endian.u32_at(&header, 0).unwrap_or_default();
        if kind == SECTION {
            let mut rest = [0; 8];
            rest[..4].copy_from_slice(&header[4..]);
            self.from.read_exact(&mut rest[4..]).map_err(|_| CaptureError::CutOff(packets + 1))?;
            *endian =
                section(&mut self.from, rest).map_err(|error| error.unwrap_or(CaptureError::CutOff(packets + 1)))?;
            interfaces.clear();
            return Ok(Block::Other);
        }
        let endian = *endian;
        let len = u64::from(endian.u32_at(&header, 4).unwrap_or_default());
        let body = self.take(len.checked_sub(8).ok_or(CaptureError::Damaged { packet: packets + 1, len })?)?;
        Ok(self.block(endian, kind, &body).unwrap_or(Block::Other))
    }

    /// What a block holds; `None` if it is too short for its kind.
    fn block(&mut self, endian: Endian, kind: u32, body: &[u8]) -> Option<Block> {
        let Kind::Blocks { interfaces, .. } = &mut self.kind else { return None };
        match kind {
            INTERFACE if interfaces.len() < MAX_INTERFACES => {
                let link = LinkType(endian.u16_at(body, 0)?.into());
                interfaces.push(Interface { link, resolution: resolution(endian, body.get(8..)?) });
                Some(Block::Other)
            }
            ENHANCED => {
                let interface = interfaces.get(usize::try_from(endian.u32_at(body, 0)?).ok()?)?;
                let units = u64::from(endian.u32_at(body, 4)?) << 32 | u64::from(endian.u32_at(body, 8)?);
                let (time, link) = (timestamp(units, interface.resolution), interface.link);
                self.packet(time, link, body.get(20..)?, endian.u32_at(body, 12)?)
            }
            SIMPLE => {
                let link = interfaces.first()?.link;
                self.packet(Duration::ZERO, link, body.get(4..)?, endian.u32_at(body, 0)?)
            }
            _ => None,
        }
    }

    /// The packet of `len` bytes at the start of `rest`, which goes on to the end of its block.
    fn packet(&mut self, time: Duration, link: LinkType, rest: &[u8], len: u32) -> Option<Block> {
        // A simple packet block names the original length, which may be more than was captured.
        let room = rest.get(..rest.len().checked_sub(4)?)?;
        let data = room.get(..usize::try_from(len).ok()?).unwrap_or(room).to_vec();
        self.packets += 1;
        Some(Block::Packet(Packet { number: self.packets, time, link, data }))
    }
}

/// Block types of pcapng.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;

enum Block {
    Packet(Packet),
    Other,
    End,
}

/// Byte order and timestamp units per second that a classic pcap's first bytes stand for.
fn classic(magic: [u8; 4]) -> Option<(Endian, u32)> {
    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    const NANOSECONDS: u32 = 0xa1b2_3c4d;
    [Endian::Little, Endian::Big].into_iter().find_map(|endian| match endian.u32(magic) {
        MICROSECONDS => Some((endian, 1_000_000)),
        NANOSECONDS => Some((endian, 1_000_000_000)),
        _ => None,
    })
}

/// Reads a section header block to its end. `rest` is its length and byte-order magic.
fn section(from: &mut impl Read, rest: [u8; 8]) -> Result<Endian, Option<CaptureError>> {
    const ORDER: u32 = 0x1a2b_3c4d;
    /// Type, two lengths and the magic.
    const READ: u64 = 12;
    let [len @ .., _, _, _, _] = rest;
    let [_, _, _, _, magic @ ..] = rest;
    let endian = [Endian::Little, Endian::Big].into_iter().find(|endian| endian.u32(magic) == ORDER).ok_or(None)?;
    let remaining = u64::from(endian.u32(len)).checked_sub(READ).ok_or(None)?;
    let skipped = io::copy(&mut from.take(remaining), &mut io::sink()).map_err(|error| Some(error.into()))?;
    if skipped == remaining { Ok(endian) } else { Err(None) }
}

/// Timestamp units per second that an interface's options state; microseconds unless they do.
fn resolution(endian: Endian, mut options: &[u8]) -> u64 {
    const END: u16 = 0;
    const RESOLUTION: u16 = 9;
    while let (Some(code), Some(len)) = (endian.u16_at(options, 0), endian.u16_at(options, 2)) {
        let len = usize::from(len);
        match (code, options.get(4)) {
            (END, _) => break,
            (RESOLUTION, Some(exponent)) => {
                let base = if exponent & 0x80 == 0 { 10_u64 } else { 2 };
                return base.checked_pow((exponent & 0x7f).into()).unwrap_or(u64::MAX);
            }
            _ => options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default(),
        }
    }
    1_000_000
}

fn timestamp(units: u64, per_second: u64) -> Duration {
    let per_second = per_second.max(1);
    let nanos = u128::from(units % per_second) * 1_000_000_000 / u128::from(per_second);
    Duration::new(units / per_second, u32::try_from(nanos).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A classic capture of `packets`, little-endian, microseconds.
    pub(crate) fn classic_file(link: u32, packets: &[&[u8]]) -> Vec<u8> {
        let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, link].map(u32::to_le_bytes).concat();
        for (index, packet) in packets.iter().enumerate() {
            let len = u32::try_from(packet.len()).unwrap();
            file.extend([u32::try_from(index).unwrap(), 250_000, len, len].map(u32::to_le_bytes).concat());
            file.extend_from_slice(packet);
        }
        file
    }

    fn read(file: &[u8]) -> Result<Vec<Packet>, CaptureError> {
        let mut capture = Capture::open(file)?;
        let mut packets = Vec::new();
        while let Some(packet) = capture.next_packet()? {
            packets.push(packet);
        }
        Ok(packets)
    }

    #[test]
    fn classic_captures_are_read_in_both_orders_and_units() {
        let packets = read(&classic_file(1, &[b"abc", b"", b"defg"])).unwrap();
        let seen: Vec<_> =
            packets.iter().map(|packet| (packet.number, packet.time.as_micros(), &packet.data[..])).collect();
        assert_eq!(seen, [(1, 250_000, &b"abc"[..]), (2, 1_250_000, b""), (3, 2_250_000, b"defg")]);
        assert_eq!(packets[0].link, LinkType(1));

        let mut file = [0xa1b2_3c4d_u32, 0x0002_0004, 0, 0, 65_535, 0x1000_0071].map(u32::to_be_bytes).concat();
        file.extend([7_u32, 999_999_999, 2, 900].map(u32::to_be_bytes).concat());
        file.extend(b"xy");
        let packets = read(&file).unwrap();
        assert_eq!((packets[0].link, packets[0].time), (LinkType(113), Duration::new(7, 999_999_999)));
        assert_eq!(packets[0].data, b"xy");
    }

    fn block(endian: fn(u32) -> [u8; 4], kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let len = endian(u32::try_from(padded).unwrap() + 12);
        let mut block = [endian(kind), len].concat();
        block.extend(body);
        block.resize(8 + padded, 0);
        block.extend(len);
        block
    }

    fn blocks(endian: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let section = [endian(0x1a2b_3c4d), endian(0x0001_0000), endian(u32::MAX), endian(u32::MAX)].concat();
        let nanoseconds = [
            &short(1)[..],
            &short(0),
            &endian(0),
            &short(2),
            &short(3),
            b"lo\0\0",
            &short(9),
            &short(1),
            &[9, 0, 0, 0],
            &endian(0),
        ];
        let interface = nanoseconds.concat();
        let plain = [&short(101)[..], &short(0), &endian(0)].concat();
        let enhanced =
            [&[endian(1), endian(0), endian(1_500_000), endian(5), endian(5)].concat()[..], b"hello"].concat();
        let first = [&[endian(0), endian(1), endian(0), endian(2), endian(2)].concat()[..], b"ab"].concat();
        let simple = [&endian(3)[..], b"xyz"].concat();
        [
            block(endian, 0x0a0d_0d0a, &section),
            block(endian, 1, &interface),
            block(endian, 1, &plain),
            block(endian, 5, b"statistics"),
            block(endian, 6, &enhanced),
            block(endian, 6, &first),
            block(endian, 3, &simple),
        ]
        .concat()
    }

    #[test]
    fn pcapng_is_read_in_both_orders() {
        let both = [
            blocks(u32::to_le_bytes, u16::to_le_bytes),
            blocks(u32::to_be_bytes, u16::to_be_bytes),
            // A second section starts afresh.
            [blocks(u32::to_be_bytes, u16::to_be_bytes), blocks(u32::to_le_bytes, u16::to_le_bytes)].concat(),
        ];
        for file in both {
            let packets = read(&file).unwrap();
            assert_eq!(packets.len() % 3, 0);
            for three in packets.chunks(3) {
                assert_eq!((three[0].link, three[0].time), (LinkType(101), Duration::from_millis(1500)));
                assert_eq!(three[0].data, b"hello");
                assert_eq!((three[1].link, three[1].time), (LinkType(1), Duration::from_nanos(1 << 32)));
                assert_eq!(three[1].data, b"ab");
                assert_eq!(three[2].data, b"xyz");
            }
        }
    }

    #[test]
    fn other_files_are_no_captures() {
        for file in [
            &b""[..],
            b"abc",
            b"hello world, this is text",
            &0xa1b2_c3d4_u32.to_le_bytes(),
            b"\x0a\x0d\x0d\x0a12345678901234567890",
        ] {
            assert!(matches!(read(file), Err(CaptureError::NotACapture)), "{file:?}");
        }
    }

    #[test]
    fn every_cut_is_noticed_or_lies_between_packets() {
        for file in [classic_file(1, &[b"abc", b"", b"defg"]), blocks(u32::to_le_bytes, u16::to_le_bytes)] {
            let whole = read(&file).unwrap().len();
            let mut clean = 0;
            for end in 24..file.len() {
                match read(&file[..end]) {
                    Ok(packets) => {
                        assert!(packets.len() < whole || end == file.len());
                        clean += 1;
                    }
                    Err(CaptureError::CutOff(_) | CaptureError::NotACapture) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(clean < 8, "{clean}");
        }
    }

    #[test]
    fn absurd_lengths_are_damage() {
        let mut file = classic_file(1, &[b"abc"]);
        file[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&file), Err(CaptureError::Damaged { packet: 1, len: 0xffff_ffff })));
        let mut file = blocks(u32::to_le_bytes, u16::to_le_bytes);
        let at = block(u32::to_le_bytes, 0x0a0d_0d0a, &[0; 16]).len() + 4;
        file[at..at + 4].copy_from_slice(&7_u32.to_le_bytes());
        assert!(matches!(read(&file), Err(CaptureError::Damaged { packet: 1, len: 7 })));
    }
}
