//! Adjacent writes made into one.

use std::io;

use crate::file::Storage;

/// Bytes gathered before they are written: eight groups. Fewer and larger writes cost less in the file system.
pub(super) const GATHER_BYTES: usize = 128 * 1024;

/// Bytes that belong to the file and are not written to it yet.
#[derive(Debug, Default)]
pub(super) struct Gather {
    offset: u64,
    bytes: Vec<u8>,
}

impl Gather {
    /// Takes `data`, which is at `offset` in the file. May write what is waiting, or both.
    ///
    /// After an error `data` is not taken, and what waited still waits.
    pub(super) fn write(&mut self, file: &dyn Storage, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset != self.end() || self.bytes.len() + data.len() > GATHER_BYTES {
            self.flush(file)?;
        }
        if data.len() >= GATHER_BYTES {
            return file.write_all_at(data, offset);
        }
        if self.bytes.is_empty() {
            self.offset = offset;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Writes what is waiting.
    pub(super) fn flush(&mut self, file: &dyn Storage) -> io::Result<()> {
        file.write_all_at(&self.bytes, self.offset)?;
        self.bytes.clear();
        Ok(())
    }

    /// Puts what is waiting over bytes that were read from the file at `offset`.
    pub(super) fn overlay(&self, offset: u64, read: &mut [u8]) {
        let start = offset.max(self.offset);
        let end = (offset + read.len() as u64).min(self.end());
        if start < end {
            let waiting = self.bytes.get((start - self.offset) as usize..(end - self.offset) as usize);
            let place = read.get_mut((start - offset) as usize..(end - offset) as usize);
            if let (Some(place), Some(waiting)) = (place, waiting) {
                place.copy_from_slice(waiting);
            }
        }
    }

    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Memory, noise};

    #[test]
    fn adjacent_writes_become_one() {
        let file = Memory::new(vec![0; 1 << 20]);
        let data = noise(1 << 20, 1);
        let mut gather = Gather::default();
        for (piece, at) in data.chunks(16_384).zip((0..).step_by(16_384)) {
            gather.write(&file, at, piece).unwrap();
            assert_eq!(file.written() % GATHER_BYTES, 0);
            assert!(gather.bytes.len() <= GATHER_BYTES);
        }
        gather.flush(&file).unwrap();
        assert_eq!(file.bytes(), data);
        assert_eq!(file.written(), data.len(), "each byte once");
    }

    #[test]
    fn behaves_like_plain_memory_on_a_disk_that_fails_now_and_then() {
        const LEN: usize = 1 << 20;
        let file = Memory::new(vec![0; LEN]);
        let mut model = vec![0; LEN];
        let mut gather = Gather::default();
        let mut refused = 0;
        for step in 0..3000 {
            let dice = noise(16, step);
            let word = |at: usize| u32::from_le_bytes(dice[at..at + 4].try_into().unwrap()) as usize;
            // Often right behind the last write.
            let offset = if dice[15] < 160 { (gather.end() as usize).min(LEN - 1) } else { word(0) % LEN };
            let longest = if dice[14] < 8 { 200_000 } else { 20_000 };
            let len = (1 + word(4) % longest).min(LEN - offset);
            let data = noise(len, step + 10_000);
            file.set_room(if dice[13] < 40 { word(8) % 40_000 } else { usize::MAX });
            if gather.write(&file, offset as u64, &data).is_ok() {
                model[offset..offset + len].copy_from_slice(&data);
            } else {
                refused += 1;
                if len >= GATHER_BYTES {
                    // It may have been written in part, which only the caller can repeat.
                    file.set_room(usize::MAX);
                    gather.write(&file, offset as u64, &data).unwrap();
                    model[offset..offset + len].copy_from_slice(&data);
                }
            }
            let start = word(8) % LEN;
            let mut read = vec![0; (1 + word(0) % 50_000).min(LEN - start)];
            file.read_exact_at(&mut read, start as u64).unwrap();
            gather.overlay(start as u64, &mut read);
            assert!(read == model[start..start + read.len()], "step {step}");
        }
        assert!(refused > 10);
        file.set_room(usize::MAX);
        gather.flush(&file).unwrap();
        assert!(file.bytes() == model);
    }
}
