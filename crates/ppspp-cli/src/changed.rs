//! What changed on disk of a file that is shared.

use std::fmt;

use crate::console::Bar;
use crate::output::complain;

/// Changed parts of the file, until they are told.
#[derive(Default)]
pub(crate) struct Changed {
    first: Option<(u64, u64)>,
    more: u64,
}

impl Changed {
    /// Notes that `len` bytes from `offset` on changed.
    pub(crate) fn add(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        match &mut self.first {
            Some((_, known)) if *known == offset => *known = end,
            Some((start, known)) if *start <= offset && end <= *known => {}
            Some(_) => self.more = self.more.saturating_add(len),
            None => self.first = Some((offset, end)),
        }
    }

    /// Says what changed of the file called `path` since the last time, if anything. Errors are told even if asked to be
    /// quiet: peers will not get the file whole.
    pub(crate) fn tell(&mut self, path: impl fmt::Display, bar: &Bar) {
        let Some(what) = self.take() else { return };
        bar.aside(|| {
            complain(format_args!(
                "{path} changed on disk: {what} no longer match and are not served, the rest is; restore the file \
                 and start again, or share it anew"
            ));
        });
    }

    fn take(&mut self) -> Option<String> {
        let Self { first, more } = std::mem::take(self);
        let (start, end) = first?;
        let others = if more > 0 { format!(" and {more} others") } else { String::new() };
        Some(format!("bytes {start} to {}{others}", end.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_together() {
        let mut changed = Changed::default();
        assert_eq!(changed.take(), None);
        changed.add(16384, 16384);
        changed.add(32768, 16384);
        changed.add(16384, 16384);
        assert_eq!(changed.take().unwrap(), "bytes 16384 to 49151");
        changed.add(0, 10);
        changed.add(100, 10);
        changed.add(200, 5);
        assert_eq!(changed.take().unwrap(), "bytes 0 to 9 and 15 others");
        assert_eq!(changed.take(), None);
    }
}
