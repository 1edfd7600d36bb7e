//! Reads numbers and choices off the front of a fuzz input.

use ppspp_core::chunk::{ChunkAddressing, ChunkRange, ChunkSize};
use ppspp_core::wire::Format;

/// What is left of an input. Past its end everything reads as zero, so that every input means something.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.take(N);
        out[..taken.len()].copy_from_slice(taken);
        out
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// The next `len` bytes, or what there is of them.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their 16-bit length.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.take(usize::from(len))
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// One of `choices`, by one byte.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }

    /// A run of chunks anywhere.
    pub(crate) fn range(&mut self) -> ChunkRange {
        let start = self.u64();
        ChunkRange::new(start, start.saturating_add(self.u64()))
    }

    /// A swarm's format, by six bytes.
    pub(crate) fn format(&mut self) -> Format {
        let addressing = self.pick(&ChunkAddressing::ALL);
        let chunk_size = ChunkSize::new(self.pick(&[1024, 512, 8192, 61_440, 1000])).unwrap_or_default();
        let hash_len = self.pick(&[20, 28, 32, 48, 64, 0]);
        let signature_len = self.pick(&[0, 64, 96, 256]);
        let length = self.u16();
        let content_length = (length > 0).then_some(u64::from(length));
        Format::new(addressing, chunk_size, hash_len, signature_len).with_content_length(content_length)
    }
}
