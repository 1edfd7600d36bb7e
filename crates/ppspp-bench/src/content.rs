//! The content, and whether it arrived.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Bytes made, read or compared at once.
const PIECE: usize = 1024 * 1024;

/// Makes a file of `len` pseudo-random bytes, and leaves it in the page cache.
pub(crate) fn make(path: &Path, len: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut piece = vec![0; PIECE];
    let mut left = len;
    while left > 0 {
        for word in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.write_all(&piece[..now]).with_context(|| format!("cannot write {}", path.display()))?;
        left -= now as u64;
    }
    // Nothing is left to be written back while transfers are timed.
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes `len` bytes in `dir` and removes them, so that transfers find memory that was just used.
///
/// A virtual machine may hand unused memory back to its host. Whoever writes to such a page first waits for the host,
/// longer than all else that is done for a chunk takes, and the shape that writes most would wait most.
pub(crate) fn warm(dir: &Path, len: u64) -> Result<()> {
    let path = dir.join("warm");
    let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let copied = std::io::copy(&mut std::io::repeat(0).take(len), &mut file);
    let removed = std::fs::remove_file(&path);
    copied.and(removed).with_context(|| format!("cannot write {len} bytes to {}", path.display()))
}

/// Fails unless both files hold the same bytes.
pub(crate) fn compare(expected: &Path, found: &Path) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (mut left, mut right) = (open(expected)?, open(found)?);
    let (left_len, right_len) = (left.metadata()?.len(), right.metadata()?.len());
    ensure!(left_len == right_len, "{} has {right_len} bytes instead of {left_len}", found.display());
    let (mut left_piece, mut right_piece) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    while offset < left_len {
        let now = usize::try_from(left_len - offset).unwrap_or(PIECE).min(PIECE);
        left.read_exact(&mut left_piece[..now])?;
        right.read_exact(&mut right_piece[..now])?;
        ensure!(left_piece[..now] == right_piece[..now], "{} differs near byte {offset}", found.display());
        offset += now as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_warms_memory_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        warm(dir.path(), 1_500_001).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        assert!(warm(&dir.path().join("none"), 1).is_err());
    }

    #[test]
    fn a_copy_compares_equal_and_a_changed_or_shorter_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        make(&one, 1_500_001).unwrap();
        let mut bytes = std::fs::read(&one).unwrap();
        assert_eq!(bytes.len(), 1_500_001);
        std::fs::write(&two, &bytes).unwrap();
        compare(&one, &two).unwrap();
        bytes[1_500_000] ^= 1;
        std::fs::write(&two, &bytes).unwrap();
        assert!(compare(&one, &two).is_err());
        bytes.pop();
        std::fs::write(&two, &bytes).unwrap();
        assert!(compare(&one, &two).is_err());
        assert!(compare(&one, &dir.path().join("none")).is_err());
    }
}
