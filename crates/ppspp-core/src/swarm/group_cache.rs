//! Groups at hand for upload: a bounded cache with second chances.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::chunk::{ChunkRange, GroupIndex, GroupMap};
use crate::integrity::GroupNodes;

/// Verified bytes of a group, with the nodes below the group hash.
#[derive(Debug)]
pub(crate) struct CachedGroup {
    /// What `data` spans: the group, or of an incomplete one the part from its first stored chunk to its last.
    pub(crate) range: ChunkRange,
    /// The chunks in it that are verified: bit n is the group's n-th chunk.
    pub(crate) chunks: u32,
    pub(crate) data: Bytes,
    pub(crate) nodes: GroupNodes,
}

#[derive(Debug)]
struct Entry {
    group: CachedGroup,
    /// Names the entry's place in the queue.
    serial: u64,
    /// Used since it came, or since it was last passed over.
    used: bool,
}

/// Keeps the groups used lately: when room is needed the oldest goes, unless it was used since it was last looked at.
/// Every operation takes constant time on average, the look-up aside.
#[derive(Debug, Default)]
pub(crate) struct GroupCache {
    groups: GroupMap<Entry>,
    /// In order of arrival; an entry that was dropped or replaced stays until it comes to the front.
    queue: VecDeque<(GroupIndex, u64)>,
    serial: u64,
}

impl GroupCache {
    /// The bytes of `group`.
    pub(crate) fn get(&self, group: GroupIndex) -> Option<&CachedGroup> {
        self.groups.get(group).map(|entry| &entry.group)
    }

    /// The same, for a use that earns it a second chance.
    pub(crate) fn touch(&mut self, group: GroupIndex) -> Option<&CachedGroup> {
        let entry = self.groups.get_mut(group)?;
        entry.used = true;
        Some(&entry.group)
    }

    /// Keeps `cached` as the bytes of `group`; at most `limit` groups are kept, at least one. Those that are `spent` are not
    /// kept for later, the oldest first.
    pub(crate) fn keep(
        &mut self,
        group: GroupIndex,
        cached: CachedGroup,
        limit: usize,
        spent: impl Fn(GroupIndex) -> bool,
    ) {
        self.serial += 1;
        self.groups.insert(group, Entry { group: cached, serial: self.serial, used: false });
        while let Some(&(oldest, serial)) = self.queue.front() {
            let full = self.groups.len() > limit.max(1);
            let spent = spent(oldest);
            if !full && !spent {
                break;
            }
            self.queue.pop_front();
            let mut spared = false;
            self.groups.remove_if(oldest, |entry| {
                let same = entry.serial == serial;
                spared = same && core::mem::take(&mut entry.used) && !spent;
                same && !spared
            });
            if spared {
                self.queue.push_back((oldest, serial));
            }
        }
        self.queue.push_back((group, self.serial));
        if self.queue.len() > limit.max(1).saturating_mul(2) {
            let groups = &self.groups;
            self.queue.retain(|(group, serial)| groups.get(*group).is_some_and(|entry| entry.serial == *serial));
        }
    }

    /// Drops `group`: its bytes changed, or are about to.
    pub(crate) fn drop_group(&mut self, group: GroupIndex) {
        self.groups.remove(group);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::integrity::HashFunction;

    fn cached() -> CachedGroup {
        let nodes = GroupNodes::empty(HashFunction::Sha256, ChunkRange::EMPTY);
        CachedGroup { range: ChunkRange::EMPTY, chunks: 0, data: Bytes::new(), nodes }
    }

    fn group(index: u64) -> GroupIndex {
        GroupIndex::new(index)
    }

    #[test]
    fn the_oldest_unused_makes_room() {
        let mut cache = GroupCache::default();
        for index in 0..3 {
            cache.keep(group(index), cached(), 3, |_| false);
        }
        assert!(cache.touch(group(0)).is_some());
        cache.keep(group(3), cached(), 3, |_| false);
        assert!(cache.get(group(0)).is_some() && cache.get(group(1)).is_none() && cache.get(group(2)).is_some());
        // One second chance for each use.
        cache.keep(group(4), cached(), 3, |_| false);
        cache.keep(group(5), cached(), 3, |_| false);
        assert!(cache.get(group(0)).is_none() && cache.get(group(4)).is_some());
    }

    #[test]
    fn what_is_spent_leaves_from_the_oldest_on() {
        let mut cache = GroupCache::default();
        for index in 0..4 {
            cache.keep(group(index), cached(), 8, |_| false);
            assert!(cache.touch(group(index)).is_some());
        }
        cache.keep(group(4), cached(), 8, |spent| [0, 1, 3, 4].contains(&spent.value()));
        let left: Vec<u64> = (0..8).filter(|&index| cache.get(group(index)).is_some()).collect();
        assert_eq!(left, [2, 3, 4], "no second chance, what comes is kept, and what stands behind another waits");
    }

    #[test]
    fn nothing_grows_beyond_the_limit() {
        let mut cache = GroupCache::default();
        for round in 0..1000 {
            cache.keep(group(round % 7), cached(), 4, |_| false);
            if round % 3 == 0 {
                cache.drop_group(group(round % 5));
            }
            assert!(cache.groups.len() <= 4 && cache.queue.len() <= 8, "{round}");
        }
        cache.keep(group(9), cached(), 0, |_| false);
        assert_eq!(cache.groups.len(), 1, "room for one");
    }
}
