//! What tests stand in for a disk with.

use std::io;
use std::sync::{Mutex, MutexGuard};

use crate::file::Storage;

/// A file in memory that fails when it is told to.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Vec<u8>,
    read_error: Option<io::ErrorKind>,
    /// Bytes that may still be written before the disk is full.
    room: usize,
}

impl Memory {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(Inner { bytes, read_error: None, room: usize::MAX }))
    }

    pub(crate) fn fail_reads(&self, kind: io::ErrorKind) {
        self.lock().read_error = Some(kind);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Storage for Memory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.lock();
        if let Some(kind) = inner.read_error {
            return Err(kind.into());
        }
        let start = (offset as usize).min(inner.bytes.len());
        // Not always all that is asked for: so do network file systems, and signals make it.
        let count = (inner.bytes.len() - start).min(buffer.len()).min(100_000);
        buffer[..count].copy_from_slice(&inner.bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.lock();
        let count = data.len().min(inner.room);
        if count == 0 && !data.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.room -= count;
        let start = offset as usize;
        if inner.bytes.len() < start + count {
            inner.bytes.resize(start + count, 0);
        }
        inner.bytes[start..start + count].copy_from_slice(&data[..count]);
        Ok(count)
    }
}

/// Bytes without a pattern, the same for the same seed (splitmix64).
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
