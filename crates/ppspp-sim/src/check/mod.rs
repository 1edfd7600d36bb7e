//! Checkers: rules that are watched at every step of a run.

mod amplification;
mod integrity;
mod limits;
mod memory;
mod requests;

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

use ppspp_core::chunk::ChunkRange;
use ppspp_core::wire::{Message, Messages, split_channel};
use ppspp_core::{CloseReason, EndpointConfig, PeerView};

use crate::content::Content;
use crate::disk::Disk;
use crate::id::HostId;
use crate::time::SimTime;

pub use amplification::AmplificationBound;
pub use integrity::{NothingUnstoredIsAnnounced, NothingUnverifiedIsUsed};
pub use limits::LimitsHold;
pub use memory::MemoryHolds;
pub use requests::NothingIsAskedTwice;

/// The host that a fact is about.
#[derive(Debug)]
pub struct Scene<'a> {
    /// When.
    pub now: SimTime,
    /// Which host.
    pub host: HostId,
    /// What it seeds or fetches.
    pub content: &'a Content,
    /// Its disk.
    pub disk: &'a Disk,
    /// How its endpoint is configured.
    pub config: &'a EndpointConfig,
    /// Heap bytes that its endpoint holds, if that is measured.
    pub memory: Option<u64>,
}

/// Something that a host's endpoint did, or that was done to it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fact<'a> {
    /// It started, or started again after a crash, and knows nothing but its disk.
    Started,
    /// It was told to open a channel.
    Dialled(SocketAddr),
    /// A channel was established.
    Connected(SocketAddr),
    /// A channel ended.
    Closed(SocketAddr, CloseReason),
    /// It sent a datagram.
    Sent {
        /// Where to.
        to: SocketAddr,
        /// The UDP payload.
        payload: &'a [u8],
    },
    /// A message in that datagram.
    Said {
        /// Where to.
        to: SocketAddr,
        /// The message.
        message: &'a Message<'a>,
    },
    /// It received a datagram.
    Received {
        /// From whom, as the packet says.
        from: SocketAddrV4,
        /// The UDP payload.
        payload: &'a [u8],
    },
    /// It handed out verified bytes to be stored.
    Verified {
        /// The chunks.
        range: ChunkRange,
        /// Offset of the first byte.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// The disk was done with those.
    Stored {
        /// The chunks.
        range: ChunkRange,
        /// Whether they are stored.
        good: bool,
    },
    /// It asked for bytes to be read.
    ReadNeeded(ChunkRange),
    /// They were read.
    Read(ChunkRange),
    /// It found stored bytes changed.
    Changed(ChunkRange),
    /// It has everything it wants.
    Complete,
    /// The run is looked at as a whole, once in a second of virtual time.
    Sampled(&'a [PeerView]),
}

/// A rule.
pub trait Checker: Send {
    /// Its name, for the report.
    fn name(&self) -> &'static str;

    /// Takes note of a fact.
    ///
    /// # Errors
    /// What broke the rule, in a sentence.
    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String>;
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// When.
    pub at: SimTime,
    /// By which host, if by one.
    pub host: Option<HostId>,
    /// The rule.
    pub rule: &'static str,
    /// What happened.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}", self.at)?;
        if let Some(host) = self.host {
            write!(f, ", {host}")?;
        }
        write!(f, ": {}: {}", self.rule, self.detail)
    }
}

/// The checkers of a run and the first rule that was broken.
pub(crate) struct Watch {
    checkers: Vec<Box<dyn Checker>>,
    pub(crate) violation: Option<Violation>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("checkers", &self.checkers.len()).finish_non_exhaustive()
    }
}

/// The checkers that every run has unless it says otherwise.
pub fn standard() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(NothingUnverifiedIsUsed),
        Box::new(NothingUnstoredIsAnnounced),
        Box::new(LimitsHold::default()),
        Box::new(NothingIsAskedTwice::default()),
        Box::new(AmplificationBound::default()),
    ]
}

impl Watch {
    pub(crate) const fn new(checkers: Vec<Box<dyn Checker>>) -> Self {
        Self { checkers, violation: None }
    }

    /// Tells every checker.
    pub(crate) fn tell(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) {
        for checker in &mut self.checkers {
            if let Err(detail) = checker.observe(scene, fact)
                && self.violation.is_none()
            {
                self.violation =
                    Some(Violation { at: scene.now, host: Some(scene.host), rule: checker.name(), detail });
            }
        }
    }

    /// Tells of a datagram and of each message in it.
    pub(crate) fn sent(&mut self, scene: &Scene<'_>, to: SocketAddr, payload: &[u8]) {
        if self.checkers.is_empty() {
            return;
        }
        self.tell(scene, &Fact::Sent { to, payload });
        let Some((_, body)) = split_channel(payload) else { return };
        for message in Messages::new(body, scene.content.format()) {
            let Ok(message) = message else {
                let detail = "a datagram that does not decode was sent".to_owned();
                self.fail(scene, "what is said can be understood", detail);
                return;
            };
            self.tell(scene, &Fact::Said { to, message: &message });
        }
    }

    /// Ends the run for a rule that no checker watches.
    pub(crate) fn fail(&mut self, scene: &Scene<'_>, rule: &'static str, detail: String) {
        let violation = Violation { at: scene.now, host: Some(scene.host), rule, detail };
        self.violation.get_or_insert(violation);
    }
}

/// A slot for each host, grown as hosts appear.
pub(crate) fn slot<T: Default>(slots: &mut Vec<T>, host: HostId) -> &mut T {
    if slots.len() <= host.index() {
        slots.resize_with(host.index() + 1, T::default);
    }
    &mut slots[host.index()]
}
