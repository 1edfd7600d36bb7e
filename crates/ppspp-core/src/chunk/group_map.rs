//! Values by group, for the groups being worked on.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use slab::Slab;

use super::GroupIndex;

/// Fewest and most pairs of slots in the index, each 40 bytes: powers of two. Between these, at least twice as many as
/// groups. Few in tests, so that many groups share one.
const MIN_PAIRS: usize = 8;
const MAX_PAIRS: usize = if cfg!(test) { 16 } else { 2048 };

/// A map from groups to values that finds most without a search: chunks arrive and leave in an order that goes to and
/// fro among runs of adjacent groups.
///
/// Groups are few (a limit bounds them wherever they are kept), and begin and end near the ends of those there are: in
/// order, they are found and moved faster in one piece than in a tree.
#[derive(Clone, Debug)]
pub(crate) struct GroupMap<T> {
    values: Slab<(GroupIndex, T)>,
    /// In order of the groups. A group whose value was removed stays, so that nothing has to move, until it is at either
    /// end or more than half are such.
    places: VecDeque<(GroupIndex, usize)>,
    /// Places by the low bits of the group's index, of groups that share a pair of slots the two used last; [`NOWHERE`]
    /// for a group without a value. Whoever chooses groups that share one makes them be searched for, and no more than
    /// that.
    index: Vec<Pair>,
}

/// Two groups of those that share a place in the index, with the places of their values.
#[derive(Clone, Copy, Debug)]
struct Pair {
    slots: [(GroupIndex, usize); 2],
    /// Values of others of these groups: while there is none, a group that has no slot has no value.
    hidden: usize,
}

/// No value has this place.
const NOWHERE: usize = usize::MAX;
/// Slots that no group used: group 0, which may be one of these, has no value then.
const UNUSED: Pair = Pair { slots: [(GroupIndex::new(0), NOWHERE); 2], hidden: 0 };
/// Groups without a value that may stay however few have one.
const MIN_GONE: usize = 16;

impl<T> Default for GroupMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> GroupMap<T> {
    pub(crate) const fn new() -> Self {
        Self { values: Slab::new(), places: VecDeque::new(), index: Vec::new() }
    }

    #[inline]
    const fn pair(&self, group: GroupIndex) -> usize {
        group.value() as usize & self.index.len().wrapping_sub(1)
    }

    /// The place of `group`, or one without a value; `None` if only a search can tell.
    #[inline]
    fn indexed(&self, group: GroupIndex) -> Option<usize> {
        let Some(pair) = self.index.get(self.pair(group)) else { return Some(NOWHERE) };
        let [first, second] = &pair.slots;
        if first.0 == group {
            return Some(first.1);
        }
        if second.0 == group {
            return Some(second.1);
        }
        (pair.hidden == 0).then_some(NOWHERE)
    }

    /// The place of `group`, or one without a value.
    #[inline]
    fn place(&self, group: GroupIndex) -> usize {
        self.indexed(group).unwrap_or_else(|| self.search(group))
    }

    /// The place of `group`, or one without a value; a value has a slot then.
    #[inline]
    fn place_noted(&mut self, group: GroupIndex) -> usize {
        self.indexed(group).unwrap_or_else(|| self.uncover(group))
    }

    /// The place of `group`, which has no slot: if it has a value, it gets one.
    #[inline(never)]
    fn uncover(&mut self, group: GroupIndex) -> usize {
        let place = self.search(group);
        if place != NOWHERE {
            let pair = self.pair(group);
            self.index[pair].hidden -= 1;
            self.note(group, place);
        }
        place
    }

    /// Lets `group` have a slot: its own, or that of the one of two that was noted before the other.
    #[inline]
    fn note(&mut self, group: GroupIndex, place: usize) {
        let pair = self.pair(group);
        let Some(Pair { slots: [first, second], hidden }) = self.index.get_mut(pair) else { return };
        if first.0 != group {
            let left = core::mem::replace(second, *first);
            *hidden += usize::from(left.0 != group && left.1 != NOWHERE);
        }
        *first = (group, place);
    }

    /// Makes room for the slots of more groups.
    #[inline(never)]
    fn grow_index(&mut self) {
        let pairs = (2 * self.index.len()).clamp(MIN_PAIRS, MAX_PAIRS);
        self.index = vec![UNUSED; pairs];
        let places: Vec<_> = self.values.iter().map(|(place, (group, _))| (*group, place)).collect();
        for (group, place) in places {
            self.note(group, place);
        }
    }

    /// Whether the value of `group` lies at `place`.
    #[inline]
    fn is_at(&self, group: GroupIndex, place: usize) -> bool {
        self.values.get(place).is_some_and(|(owner, _)| *owner == group)
    }

    fn search(&self, group: GroupIndex) -> usize {
        let found = self.find(group).ok().map(|at| self.places[at].1);
        found.filter(|place| self.is_at(group, *place)).unwrap_or(NOWHERE)
    }

    /// Where `group` stands among the places, or would stand.
    #[inline]
    fn find(&self, group: GroupIndex) -> Result<usize, usize> {
        match self.places.back() {
            Some((last, _)) if *last < group => Err(self.places.len()),
            _ => self.places.binary_search_by_key(&group, |(group, _)| *group),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    pub(crate) fn contains(&self, group: GroupIndex) -> bool {
        self.get(group).is_some()
    }

    #[inline]
    pub(crate) fn get(&self, group: GroupIndex) -> Option<&T> {
        self.values.get(self.place(group)).map(|(_, value)| value)
    }

    /// The value of `group`, which is found faster from now on.
    #[inline]
    pub(crate) fn get_mut(&mut self, group: GroupIndex) -> Option<&mut T> {
        let place = self.place_noted(group);
        self.values.get_mut(place).map(|(_, value)| value)
    }

    /// The value of `group`, made by `make` if there is none.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "every chunk passes here")]
    pub(crate) fn get_or_insert_with(&mut self, group: GroupIndex, make: impl FnOnce() -> T) -> &mut T {
        let mut place = self.place_noted(group);
        if place == NOWHERE {
            place = self.add(group, make());
        }
        &mut self.values[place].1
    }

    /// Adds a `value` for `group`, which has none; returns its place.
    #[inline(never)]
    fn add(&mut self, group: GroupIndex, value: T) -> usize {
        if 2 * self.values.len() >= self.index.len() && self.index.len() < MAX_PAIRS {
            self.grow_index();
        }
        let place = self.values.insert((group, value));
        match self.find(group) {
            Ok(at) => self.places[at].1 = place,
            Err(at) => self.places.insert(at, (group, place)),
        }
        self.note(group, place);
        place
    }

    /// Makes `value` that of `group`, which is found faster from now on; returns the one before.
    pub(crate) fn insert(&mut self, group: GroupIndex, value: T) -> Option<T> {
        if let Some(held) = self.get_mut(group) {
            return Some(core::mem::replace(held, value));
        }
        self.add(group, value);
        None
    }

    /// Removes the value of `group` if `leaves` says so.
    pub(crate) fn remove_if(&mut self, group: GroupIndex, leaves: impl FnOnce(&mut T) -> bool) -> Option<T> {
        let place = self.place_noted(group);
        if !leaves(&mut self.values.get_mut(place)?.1) {
            return None;
        }
        let (_, value) = self.values.try_remove(place)?;
        self.note(group, NOWHERE);
        self.drop_gone();
        Some(value)
    }

    pub(crate) fn remove(&mut self, group: GroupIndex) -> Option<T> {
        self.remove_if(group, |_| true)
    }

    /// Drops groups without a value from either end, and all of them if they are most.
    fn drop_gone(&mut self) {
        while self.places.front().is_some_and(|&(group, place)| !self.is_at(group, place)) {
            self.places.pop_front();
        }
        while self.places.back().is_some_and(|&(group, place)| !self.is_at(group, place)) {
            self.places.pop_back();
        }
        if self.places.len() > 2 * self.values.len() + MIN_GONE {
            let values = &self.values;
            self.places.retain(|(group, place)| values.get(*place).is_some_and(|(owner, _)| owner == group));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.places.clear();
        self.index.fill(UNUSED);
    }

    /// Every value, in order of the groups.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (GroupIndex, &T)> {
        self.places.iter().filter_map(|&(group, place)| {
            let (owner, value) = self.values.get(place)?;
            (*owner == group).then_some((group, value))
        })
    }

    /// The groups from `first` up to and without `end` that have a value, in order.
    pub(crate) fn groups_in(&self, first: GroupIndex, end: GroupIndex) -> impl Iterator<Item = GroupIndex> {
        let within = self.places.range(self.span(first, end));
        within.filter(|&&(group, place)| self.is_at(group, place)).map(|&(group, _)| group)
    }

    /// Changes the values from group `first` up to and without `end`.
    pub(crate) fn for_each_in(&mut self, first: GroupIndex, end: GroupIndex, mut change: impl FnMut(&mut T)) {
        for &(group, place) in self.places.range(self.span(first, end)) {
            match self.values.get_mut(place) {
                Some((owner, value)) if *owner == group => change(value),
                _ => {}
            }
        }
    }

    /// Where the groups from `first` up to and without `end` stand among the places.
    fn span(&self, first: GroupIndex, end: GroupIndex) -> Range<usize> {
        let [from, to] = [first, end].map(|group| self.find(group).unwrap_or_else(|at| at));
        from..to.max(from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn does_what_a_plain_map_does(steps in prop::collection::vec((0u8..5, 0u64..60, any::<u8>()), 0..300)) {
            let mut map = GroupMap::new();
            let mut twin = BTreeMap::new();
            for (kind, number, value) in steps {
                let group = GroupIndex::new(number);
                match kind {
                    0 if value % 3 == 0 => {
                        let leaves = |held: &mut u8| *held & 1 == 0;
                        let expected = twin.remove(&group).filter(|&held| leaves(&mut { held }) || twin.insert(group, held).is_some());
                        prop_assert_eq!(map.remove_if(group, leaves), expected);
                    }
                    1 if value % 3 == 0 => prop_assert_eq!(map.insert(group, value), twin.insert(group, value)),
                    0 => prop_assert_eq!(map.remove(group), twin.remove(&group)),
                    1 => prop_assert_eq!(
                        *map.get_or_insert_with(group, || value),
                        *twin.entry(group).or_insert(value)
                    ),
                    2 => {
                        if let Some(held) = map.get_mut(group) {
                            *held = value;
                        }
                        if let Some(held) = twin.get_mut(&group) {
                            *held = value;
                        }
                    }
                    3 => {
                        let end = GroupIndex::new(number + u64::from(value));
                        prop_assert!(map.groups_in(group, end).eq(twin.range(group..end).map(|(&group, _)| group)));
                        map.for_each_in(group, end, |held| *held = held.wrapping_add(1));
                        twin.range_mut(group..end).for_each(|(_, held)| *held = held.wrapping_add(1));
                    }
                    _ if value == 0 => {
                        map.clear();
                        twin.clear();
                    }
                    _ => prop_assert_eq!(map.contains(group), twin.contains_key(&group)),
                }
                prop_assert_eq!(map.get(group), twin.get(&group));
                prop_assert_eq!(map.len(), twin.len());
                prop_assert!(map.index.len() <= MAX_PAIRS && map.index.len() >= (2 * map.len()).min(MAX_PAIRS));
                prop_assert!(map.places.len() <= 2 * map.len() + MIN_GONE);
                for (at, pair) in map.index.iter().enumerate() {
                    let hides = |group: GroupIndex| map.pair(group) == at && map.indexed(group).is_none();
                    prop_assert_eq!(pair.hidden, map.iter().filter(|(group, _)| hides(*group)).count());
                }
            }
            prop_assert!(map.iter().eq(twin.iter().map(|(&group, value)| (group, value))));
        }
    }
}
