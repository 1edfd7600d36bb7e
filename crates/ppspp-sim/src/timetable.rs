//! What happens to hosts and to the network, and when.

use crate::disk::DiskSpec;
use crate::id::HostId;
use crate::link::LinkSpec;
use crate::network::Cut;
use crate::time::SimTime;

/// When an entry of the timetable is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// At a time.
    At(SimTime),
    /// Once the condition of that number is true.
    Once(usize),
}

/// What the timetable has done at a time.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Join(HostId),
    Leave(HostId),
    Crash { host: HostId, keep: bool },
    Pause(HostId),
    Resume(HostId),
    Move(HostId),
    Cut(Cut),
    Heal,
    Link(HostId, Box<LinkSpec>),
    Disk(HostId, DiskSpec),
    Rot(HostId, u64),
    Meet(HostId, HostId),
}

impl Action {
    /// The host it is done to, if to one.
    pub(crate) const fn host(&self) -> Option<HostId> {
        match self {
            Self::Cut(_) | Self::Heal => None,
            Self::Join(host)
            | Self::Leave(host)
            | Self::Crash { host, .. }
            | Self::Pause(host)
            | Self::Resume(host)
            | Self::Move(host)
            | Self::Link(host, _)
            | Self::Disk(host, _)
            | Self::Rot(host, _)
            | Self::Meet(host, _) => Some(*host),
        }
    }
}

/// What happens at a time.
#[derive(Debug)]
pub struct At<'a> {
    when: When,
    timetable: &'a mut Vec<(When, Action)>,
}

impl<'a> At<'a> {
    pub(crate) const fn new(when: When, timetable: &'a mut Vec<(When, Action)>) -> Self {
        Self { when, timetable }
    }

    fn plan(&mut self, action: Action) -> &mut Self {
        self.timetable.push((self.when, action));
        self
    }

    /// The host joins, or joins again.
    pub fn join(&mut self, host: HostId) -> &mut Self {
        self.plan(Action::Join(host))
    }

    /// The host leaves the swarm and says goodbye; what it handed to its disk is written all the same. A pause ends.
    pub fn leave(&mut self, host: HostId) -> &mut Self {
        self.plan(Action::Leave(host))
    }

    /// The host crashes; what it has stored is there when it joins again, but for what was written last.
    pub fn crash(&mut self, host: HostId) -> &mut Self {
        self.plan(Action::Crash { host, keep: true })
    }

    /// The host crashes and its disk is gone.
    pub fn crash_and_lose(&mut self, host: HostId) -> &mut Self {
        self.plan(Action::Crash { host, keep: false })
    }

    /// The host's process stops; datagrams wait in its socket as far as there is room.
    pub fn pause(&mut self, host: HostId) -> &mut Self {
        self.plan(Action::Pause(host))
    }

    /// A paused host goes on.
    pub fn resume(&mut self, host: HostId) -> &mut Self {
        self.plan(Action::Resume(host))
    }

    /// The host gets another address, and is told so. Not for hosts behind a NAT.
    pub fn change_address(&mut self, host: HostId) -> &mut Self {
        self.plan(Action::Move(host))
    }

    /// Nothing gets from `one` to `other` or back.
    pub fn partition(&mut self, one: &[HostId], other: &[HostId]) -> &mut Self {
        let (from, to) = (one.iter().copied().collect(), other.iter().copied().collect());
        self.plan(Action::Cut(Cut { from, to, both_ways: true }))
    }

    /// Nothing gets from `from` to `to`, but back.
    pub fn partition_one_way(&mut self, from: &[HostId], to: &[HostId]) -> &mut Self {
        let (from, to) = (from.iter().copied().collect(), to.iter().copied().collect());
        self.plan(Action::Cut(Cut { from, to, both_ways: false }))
    }

    /// All partitions end.
    pub fn heal(&mut self) -> &mut Self {
        self.plan(Action::Heal)
    }

    /// The link that the host is behind becomes another; packets on their way are not touched.
    pub fn change_link(&mut self, host: HostId, link: LinkSpec) -> &mut Self {
        self.plan(Action::Link(host, Box::new(link)))
    }

    /// The host's disk becomes another, with what it holds.
    pub fn change_disk(&mut self, host: HostId, disk: DiskSpec) -> &mut Self {
        self.plan(Action::Disk(host, disk))
    }

    /// The octet at `offset` of the host's content changes on its disk.
    pub fn rot(&mut self, host: HostId, offset: u64) -> &mut Self {
        self.plan(Action::Rot(host, offset))
    }

    /// The host opens a channel to `other`.
    pub fn meet(&mut self, host: HostId, other: HostId) -> &mut Self {
        self.plan(Action::Meet(host, other))
    }
}
