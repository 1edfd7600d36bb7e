//! The bare loop: what any implementation must do to move a file in hashed chunks over UDP, and nothing else.
//!
//! Datagrams are laid out like PPSPP's (channel, INTEGRITY, DATA), so that as many bytes cross the kernel. There is no
//! handshake, no request, no repair and no congestion control: a window smaller than the socket buffer loses nothing.

pub(crate) mod get;
pub(crate) mod seed;
mod socket;
mod tree;

use ppspp_core::integrity::HashFunction;

/// What a receiver opens with.
const HELLO: u64 = u64::MAX;
/// Chunks between two acknowledgements, at 1 KiB; fewer of larger ones.
const ACK_EVERY_BYTES: u64 = 128 * 1024;
/// Content bytes in flight: well below the 4 MiB of the socket buffer, of which the kernel charges its own overhead.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// Channel ID, 4 bytes; INTEGRITY with type and two 32-bit chunk numbers, 9 bytes before its hash.
const BEFORE_HASH: usize = 4 + 9;
/// DATA with type, two 32-bit chunk numbers and a timestamp.
const AFTER_HASH: usize = 17;

/// Where things lie in a datagram.
#[derive(Clone, Copy, Debug)]
struct Layout {
    hash_len: usize,
    chunk_size: usize,
}

impl Layout {
    fn new(function: HashFunction, chunk_size: u32) -> Self {
        Self { hash_len: function.len(), chunk_size: chunk_size as usize }
    }

    /// Bytes before the chunk.
    fn header_len(self) -> usize {
        BEFORE_HASH + self.hash_len + AFTER_HASH
    }

    /// Bytes of a datagram with a full chunk.
    fn datagram_len(self) -> usize {
        self.header_len() + self.chunk_size
    }

    /// Appends the header of chunk `index`.
    fn put_header(self, index: u64, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        buffer.resize(start + self.header_len() - 8, 0x5a);
        buffer.extend_from_slice(&index.to_be_bytes());
    }

    /// The chunk in a datagram and its index.
    fn split(self, datagram: &[u8]) -> Option<(u64, &[u8])> {
        let (header, chunk) = datagram.split_at_checked(self.header_len())?;
        Some((u64::from_be_bytes(*header.last_chunk()?), chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_as_long_as_ppspps() {
        let layout = Layout::new(HashFunction::Sha256, 1024);
        // Channel 4, INTEGRITY 1 + 8 + 32, DATA 1 + 8 + 8 + 1024 (RFC 7574 §8.4, §8.6).
        assert_eq!(layout.datagram_len(), 4 + 41 + 1041);
        let mut datagram = Vec::new();
        layout.put_header(7, &mut datagram);
        datagram.extend_from_slice(&[1; 1024]);
        assert_eq!(datagram.len(), layout.datagram_len());
        assert_eq!(layout.split(&datagram), Some((7, &[1; 1024][..])));
        assert_eq!(layout.split(&datagram[..20]), None);
    }
}
