//! Adjacent writes made into one, in whatever order they come.

use std::io::{self, IoSlice};
use std::ops::Range;

use bytes::Bytes;

use crate::file::Storage;

/// Adjacent bytes are written once there are so many: eight groups. Fewer and larger writes cost less in the file
/// system.
pub(super) const GATHER_BYTES: usize = 128 * 1024;

/// Bytes that may wait: room for two runs of chunks that arrive at the same time.
pub(super) const WAITING_BYTES: usize = 2 * GATHER_BYTES;

/// Pieces that may wait. Each keeps the whole buffer that it is a part of.
pub(super) const WAITING_PIECES: usize = 64;

/// Bytes that belong to the file and are not written to it yet.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// In order of offset, none over another.
    pieces: Vec<Piece>,
    /// The number of the next piece.
    next: u64,
}

#[derive(Debug)]
struct Piece {
    /// Older pieces have lower ones.
    number: u64,
    offset: u64,
    data: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

impl Gather {
    /// Takes `data`, which is at `offset` in the file. May write what is waiting, or both.
    ///
    /// After an error `data` is not taken, but may have been written in part; what waited still waits.
    pub(super) fn write(&mut self, file: &dyn Storage, offset: u64, data: Bytes) -> io::Result<()> {
        let end = offset + data.len() as u64;
        if data.is_empty() {
            return Ok(());
        }
        if self.pieces.iter().any(|piece| piece.offset < end && offset < piece.end()) {
            self.flush(file)?;
        }
        let number = self.next;
        self.next += 1;
        let place = self.pieces.partition_point(|piece| piece.offset < offset);
        self.pieces.insert(place, Piece { number, offset, data });
        let written = self.write_what_is_due(file, place);
        if written.is_err() {
            self.pieces.retain(|piece| piece.number != number);
        }
        written
    }

    /// Writes what is waiting.
    pub(super) fn flush(&mut self, file: &dyn Storage) -> io::Result<()> {
        while !self.pieces.is_empty() {
            self.write_run(file, self.run_at(0))?;
        }
        Ok(())
    }

    /// Puts what is waiting over bytes that were read from the file at `offset`.
    pub(super) fn overlay(&self, offset: u64, read: &mut [u8]) {
        for piece in &self.pieces {
            let start = offset.max(piece.offset);
            let end = (offset + read.len() as u64).min(piece.end());
            if start < end {
                let waiting = piece.data.get((start - piece.offset) as usize..(end - piece.offset) as usize);
                let place = read.get_mut((start - offset) as usize..(end - offset) as usize);
                if let (Some(place), Some(waiting)) = (place, waiting) {
                    place.copy_from_slice(waiting);
                }
            }
        }
    }

    /// Writes the run with the piece at `place`, which just came, if that is long enough; otherwise the runs with the
    /// oldest pieces, until no more is waiting than may. So nothing waits for long for neighbours that do not come.
    fn write_what_is_due(&mut self, file: &dyn Storage, place: usize) -> io::Result<()> {
        let run = self.run_at(place);
        if self.bytes_of(run.clone()) >= GATHER_BYTES {
            return self.write_run(file, run);
        }
        while self.pieces.len() > WAITING_PIECES || self.bytes_of(0..self.pieces.len()) > WAITING_BYTES {
            let oldest = self.pieces.iter().enumerate().min_by_key(|(_, piece)| piece.number);
            let Some((oldest, _)) = oldest else { break };
            self.write_run(file, self.run_at(oldest))?;
        }
        Ok(())
    }

    /// Writes adjacent pieces, which then wait no longer.
    fn write_run(&mut self, file: &dyn Storage, run: Range<usize>) -> io::Result<()> {
        let pieces = self.pieces.get(run.clone()).unwrap_or_default();
        let Some(first) = pieces.first() else { return Ok(()) };
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(&piece.data)).collect();
        file.write_all_vectored_at(&mut slices, first.offset)?;
        self.pieces.drain(run);
        Ok(())
    }

    /// The piece at `place` and those next to it without a gap.
    fn run_at(&self, place: usize) -> Range<usize> {
        let (before, after) = self.pieces.split_at_checked(place).unwrap_or_default();
        let adjacent = |pair: (&Piece, &Piece)| pair.0.end() == pair.1.offset;
        let earlier = before.iter().rev();
        let earlier = earlier.clone().zip(after.first().into_iter().chain(earlier)).take_while(|&pair| adjacent(pair));
        let later = after.iter().zip(after.iter().skip(1)).take_while(|&pair| adjacent(pair));
        place - earlier.count()..place + 1 + later.count()
    }

    fn bytes_of(&self, run: Range<usize>) -> usize {
        self.pieces.get(run).unwrap_or_default().iter().map(|piece| piece.data.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Memory, noise};

    const GROUP: usize = 16_384;
    const GROUPS: usize = GATHER_BYTES / GROUP;

    /// In which order the groups of a run become complete.
    const RULER: [usize; GROUPS] = [0, 4, 2, 6, 1, 3, 5, 7];

    /// Writes groups in that order, and returns how many writes it takes until all are in the file.
    fn writes(order: impl IntoIterator<Item = usize>) -> usize {
        let order: Vec<usize> = order.into_iter().collect();
        let data = Bytes::from(noise((order.iter().max().unwrap() + 1) * GROUP, 1));
        let file = Memory::new(Vec::new());
        let mut gather = Gather::default();
        for group in &order {
            let piece = data.slice(group * GROUP..(group + 1) * GROUP);
            gather.write(&file, (group * GROUP) as u64, piece).unwrap();
            assert!(gather.bytes_of(0..gather.pieces.len()) <= WAITING_BYTES);
        }
        gather.flush(&file).unwrap();
        assert!(gather.pieces.is_empty());
        assert_eq!(file.written(), order.len() * GROUP, "each byte once");
        let all: std::collections::BTreeSet<_> = order.iter().collect();
        for group in all {
            let range = group * GROUP..(group + 1) * GROUP;
            assert!(file.bytes()[range.clone()] == data[range], "group {group}");
        }
        file.writes()
    }

    /// Those runs, their groups in turn.
    fn interleaved(runs: &[usize]) -> impl Iterator<Item = usize> {
        RULER.into_iter().flat_map(move |group| runs.iter().map(move |run| run * GROUPS + group))
    }

    #[test]
    fn a_run_is_one_write_in_whatever_order_it_comes() {
        assert_eq!(writes(0..64), 8);
        assert_eq!(writes((0..64).rev()), 8);
        let ruler = || (0..8).flat_map(|run| RULER.map(|group| run * GROUPS + group));
        assert_eq!(writes(ruler()), 8);
        // One of them was here before, which cuts the third in two.
        assert_eq!(writes(ruler().filter(|group| *group != 20)), 9);
    }

    #[test]
    fn runs_that_come_at_the_same_time_are_few_writes() {
        assert_eq!(writes(interleaved(&[0, 5])), 2);
        assert_eq!(writes(interleaved(&[9, 1, 5])), 5, "all cannot wait");
        assert_eq!(writes(interleaved(&[9, 1, 5, 13])), 8);
        // Nothing is adjacent.
        assert_eq!(writes((0..100).map(|at| at * 2)), 100);
    }

    #[test]
    fn a_run_is_written_as_soon_as_it_is_whole() {
        let file = Memory::new(Vec::new());
        let mut gather = Gather::default();
        let piece = Bytes::from(vec![1; GROUP]);
        for (count, group) in interleaved(&[0, 2]).enumerate() {
            gather.write(&file, (group * GROUP) as u64, piece.clone()).unwrap();
            assert_eq!(file.writes(), (count + 2) / 16 + (count + 1) / 16);
        }
        gather.write(&file, 1, Bytes::from(vec![1; GATHER_BYTES])).unwrap();
        assert_eq!(file.writes(), 3, "what is long need not wait");
    }

    #[test]
    fn the_number_of_pieces_is_bounded() {
        let file = Memory::new(Vec::new());
        let mut gather = Gather::default();
        let data = Bytes::from(noise(512, 2));
        for at in 0..1000 {
            gather.write(&file, at * 1024, data.clone()).unwrap();
            assert!(gather.pieces.len() <= WAITING_PIECES);
            gather.write(&file, 5, Bytes::new()).unwrap();
        }
        assert_eq!(file.writes(), 1000 - WAITING_PIECES, "the oldest first");
        gather.flush(&file).unwrap();
        assert!(file.bytes().chunks(1024).all(|chunk| chunk[..512] == data));
    }

    #[test]
    fn what_finds_no_neighbours_does_not_wait_for_ever() {
        let file = Memory::new(Vec::new());
        let mut gather = Gather::default();
        let piece = Bytes::from(vec![1; GROUP]);
        gather.write(&file, 1 << 30, piece.clone()).unwrap();
        for at in 0..WAITING_BYTES / GROUP - 1 {
            assert_eq!(file.writes(), 0);
            gather.write(&file, (at * 2 * GROUP) as u64, piece.clone()).unwrap();
        }
        gather.write(&file, 1 << 20, piece).unwrap();
        assert_eq!(file.len().unwrap(), (1 << 30) + GROUP as u64);
        assert_eq!(file.writes(), 1);
    }

    #[test]
    fn behaves_like_plain_memory_on_a_disk_that_fails_now_and_then() {
        const LEN: usize = 1 << 20;
        let file = Memory::new(vec![0; LEN]);
        let mut model = vec![0; LEN];
        let mut gather = Gather::default();
        let (mut refused, mut gathered) = (0, 0);
        for step in 0..6000 {
            let dice = noise(16, step);
            let word = |at: usize| u32::from_le_bytes(dice[at..at + 4].try_into().unwrap()) as usize;
            let longest = if dice[14] < 8 { 200_000 } else { 20_000 };
            let len = 1 + word(4) % longest;
            // Often right behind or before something that waits.
            let beside = (!gather.pieces.is_empty()).then(|| &gather.pieces[word(0) % gather.pieces.len()]);
            let offset = match (beside, dice[15]) {
                (Some(piece), 0..100) => piece.end() as usize,
                (Some(piece), 100..200) => (piece.offset as usize).saturating_sub(len),
                _ => word(0),
            } % LEN;
            let len = len.min(LEN - offset);
            let data = Bytes::from(noise(len, step + 10_000));
            file.set_room(if dice[13] < 40 { word(8) % 40_000 } else { usize::MAX });
            let written = file.written();
            let before: Vec<_> = gather.pieces.iter().map(|piece| (piece.offset, piece.data.clone())).collect();
            if gather.write(&file, offset as u64, data.clone()).is_ok() {
                gathered += usize::from(file.written() == written);
            } else {
                refused += 1;
                let unchanged = |piece: &Piece| before.contains(&(piece.offset, piece.data.clone()));
                assert!(gather.pieces.iter().all(unchanged), "step {step}");
                // It may have been written in part, which only the caller can repeat.
                file.set_room(usize::MAX);
                gather.write(&file, offset as u64, data.clone()).unwrap();
            }
            model[offset..offset + len].copy_from_slice(&data);
            let start = word(8) % LEN;
            let mut read = vec![0; (1 + word(0) % 50_000).min(LEN - start)];
            file.read_exact_at(&mut read, start as u64).unwrap();
            gather.overlay(start as u64, &mut read);
            assert!(read == model[start..start + read.len()], "step {step}");
        }
        assert!(refused > 100 && gathered > 1000, "{refused}, {gathered}");
        file.set_room(usize::MAX);
        gather.flush(&file).unwrap();
        assert!(file.bytes() == model);
    }
}
