//! The handle of one swarm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use ppspp_core::{Order, PeerView, Rates, Scope, SwarmId};

use crate::command::{Command, Mailbox};
use crate::error::NodeStopped;
use crate::progress::{Snapshot, TransferEvent, TransferProgress};
use crate::store::StoreWarning;

/// One content being shared or fetched by a [`Node`](crate::Node).
///
/// Dropping it stops the transfer as [`stop`](Self::stop) does, without waiting.
#[derive(Debug)]
pub struct Transfer {
    swarm: SwarmId,
    mailbox: Mailbox,
    events: Receiver<TransferEvent>,
    snapshot: Arc<Snapshot>,
    warning: Option<StoreWarning>,
}

impl Transfer {
    pub(crate) fn new(
        swarm: SwarmId,
        mailbox: Mailbox,
        events: Receiver<TransferEvent>,
        snapshot: Arc<Snapshot>,
    ) -> Self {
        Self { swarm, mailbox, events, snapshot, warning: None }
    }

    pub(crate) fn with_warning(mut self, warning: Option<StoreWarning>) -> Self {
        self.warning = warning;
        self
    }

    pub(crate) const fn swarm(&self) -> SwarmId {
        self.swarm
    }

    /// What was odd about the files that an earlier run of a fetch left, if anything.
    pub fn warning(&self) -> Option<&StoreWarning> {
        self.warning.as_ref()
    }

    /// How far the transfer is: a snapshot, cheap to take, at most about 50 ms old.
    pub fn progress(&self) -> TransferProgress {
        self.snapshot.read()
    }

    /// What happens, in order. It ends after [`TransferEvent::Closed`], or when the node stops.
    ///
    /// 256 events wait; while nobody reads them, further ones that can be missed are dropped, and 4,096 others wait.
    pub fn events(&self) -> &Receiver<TransferEvent> {
        &self.events
    }

    /// The peers as they are now, established or being opened; none once the transfer has ended.
    ///
    /// # Errors
    /// [`NodeStopped`] if the node no longer runs.
    pub fn peers(&self) -> Result<Vec<PeerView>, NodeStopped> {
        self.mailbox.ask(|reply| Command::Peers { swarm: self.swarm, reply })
    }

    /// Adds a peer. One that cannot be talked to is logged and otherwise ignored, as is one already known.
    pub fn add_peer(&self, address: SocketAddr) {
        // A node that has stopped adds no peers; the events say that it stopped.
        let _ = self.mailbox.send(Command::AddPeer { swarm: self.swarm, address });
    }

    /// Limits what this transfer sends and receives, within the limits of the node, from now on. It begins without.
    pub fn set_rates(&self, rates: Rates) {
        // A node that has stopped sends nothing.
        let _ = self.mailbox.send(Command::SetRates { scope: Scope::Swarm(self.swarm), rates });
    }

    /// Fetches in this order from now on; at the start it is [`Order::Auto`]. Means nothing to a complete file, and
    /// nothing to a stream, which goes with its reader.
    pub fn set_order(&self, order: Order) {
        // A node that has stopped fetches nothing.
        let _ = self.mailbox.send(Command::SetOrder { swarm: self.swarm, order });
    }

    /// Leaves the swarm: says goodbye to its peers and keeps what was stored, so that it can be resumed.
    ///
    /// Returns at once. [`TransferEvent::Closed`] tells when the files are closed and the peers told.
    pub fn stop(&self) {
        let _ = self.mailbox.send(Command::Leave { swarm: self.swarm });
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop();
    }
}
