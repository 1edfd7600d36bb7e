//! The pages of one tree, those alone that hold something.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::page::Page;

/// Pages by number. Found without a search are the one that was changed last, since content comes, most often, in order,
/// and those that came in order themselves, as of a content that is here.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    all: Vec<(u64, Page)>,
    /// Where each lies.
    places: BTreeMap<u64, usize>,
    /// Number and place of the one that was changed last.
    recent: Option<(u64, usize)>,
}

impl Pages {
    /// No pages.
    pub(super) const fn new() -> Self {
        Self { all: Vec::new(), places: BTreeMap::new(), recent: None }
    }

    #[inline]
    fn place(&self, number: u64) -> Option<usize> {
        if let Some((_, place)) = self.recent.filter(|(recent, _)| *recent == number) {
            return Some(place);
        }
        let in_order = usize::try_from(number).ok().filter(|at| self.all.get(*at).is_some_and(|(is, _)| *is == number));
        in_order.or_else(|| self.places.get(&number).copied())
    }

    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&Page> {
        self.all.get(self.place(number)?).map(|(_, page)| page)
    }

    /// The page with that number, an empty one if there is none yet.
    #[inline]
    pub(super) fn get_or_begin(&mut self, number: u64) -> &mut Page {
        let place = self.place(number).unwrap_or_else(|| {
            self.places.insert(number, self.all.len());
            self.all.push((number, Page::default()));
            self.all.len() - 1
        });
        self.recent = Some((number, place));
        &mut self.all[place].1
    }

    /// How many.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    /// Every page, in order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Page)> {
        self.places.iter().map(|(number, place)| (*number, &self.all[*place].1))
    }

    /// Every page.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Page> {
        self.all.iter_mut().map(|(_, page)| page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_and_told_in_order() {
        let mut pages = Pages::new();
        assert!(pages.get(0).is_none());
        for number in [0, 7, 2, 0, 7, 1 << 40] {
            // The slot tells which it is.
            pages.get_or_begin(number).insert(number as usize % 512, &[1; 20]);
        }
        assert_eq!((pages.len(), pages.get(1).is_none()), (4, true));
        assert!(pages.iter().map(|(number, _)| number).eq([0, 2, 7, 1 << 40]));
        for (number, page) in pages.iter() {
            let found = pages.get(number).unwrap();
            assert!(core::ptr::eq(found, page) && found.get(number as usize % 512, 20).is_some());
        }
        pages.iter_mut().for_each(|page| page.set_dirty(false));
        assert!(pages.iter().all(|(_, page)| !page.is_dirty()));
    }
}
