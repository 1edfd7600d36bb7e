//! Captures in pcapng, for Wireshark and for `ppspp decode`.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddrV4;

use crate::packet::UDP_HEADERS;
use crate::time::SimTime;

/// Link type of packets that begin with their IP header.
const LINKTYPE_RAW: u16 = 101;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// Bytes of a block around its body: type and both lengths.
const BLOCK_OVERHEAD: u32 = 12;

/// Writes a capture.
#[derive(Debug)]
pub(crate) struct Capture<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Capture<W> {
    /// Begins a capture with one interface that counts nanoseconds.
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let mut capture = Self { out: BufWriter::new(out) };
        let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        section.extend_from_slice(&[1, 0, 0, 0]);
        section.extend_from_slice(&u64::MAX.to_le_bytes());
        capture.block(SECTION, &section)?;
        let mut interface = LINKTYPE_RAW.to_le_bytes().to_vec();
        interface.extend_from_slice(&[0; 6]);
        // if_tsresol: ten to the minus nine; opt_endofopt.
        interface.extend_from_slice(&[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        capture.block(INTERFACE, &interface)?;
        Ok(capture)
    }

    /// Writes one datagram with the headers it would have.
    pub(crate) fn datagram(
        &mut self,
        now: SimTime,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let len = payload.len() as u32 + UDP_HEADERS;
        let nanos = now.as_nanos();
        let mut body = Vec::with_capacity(payload.len() + 64);
        for field in [0, (nanos >> 32) as u32, nanos as u32, len, len] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        body.extend_from_slice(&ip_header(len as u16, source, destination));
        for field in [source.port(), destination.port(), len as u16 - 20, 0] {
            body.extend_from_slice(&field.to_be_bytes());
        }
        body.extend_from_slice(payload);
        body.resize(body.len().next_multiple_of(4), 0);
        self.block(PACKET, &body)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = (body.len() as u32 + BLOCK_OVERHEAD).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&len)?;
        self.out.write_all(body)?;
        self.out.write_all(&len)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An IPv4 header for UDP (RFC 791 §3.1).
fn ip_header(len: u16, source: SocketAddrV4, destination: SocketAddrV4) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[8] = 64;
    header[9] = 17;
    header[12..16].copy_from_slice(&source.ip().octets());
    header[16..20].copy_from_slice(&destination.ip().octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_capture_is_made_of_blocks_of_fours() {
        let address = |host| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), 6778);
        let mut bytes = Vec::new();
        let mut capture = Capture::new(&mut bytes).unwrap();
        capture.datagram(SimTime::from_nanos(1 << 33), address(1), address(2), b"ppspp").unwrap();
        capture.flush().unwrap();
        drop(capture);
        let mut kinds = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let len = word(4) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(len - 4) as usize, len);
            kinds.push(word(0));
            rest = &rest[len..];
        }
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET]);
        // The checksum of a header with its checksum is all ones.
        let header = ip_header(33, address(1), address(2));
        let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
