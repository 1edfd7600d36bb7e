//! The node behind a command.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_mio::{Node, NodeConfig, StartError};

use crate::console::Console;
use crate::exit::{Exit, Outcome, Stop};

/// How long peers are waited for at the end; they are told goodbye, no more.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How often a command looks around while nothing happens.
pub(crate) const TURN: Duration = Duration::from_millis(100);

/// Opens the socket.
pub(crate) fn start(listen: Option<SocketAddr>, console: Console) -> Outcome<Node> {
    let config = listen.map_or_else(NodeConfig::default, NodeConfig::listening_on);
    let node = Node::start(config).map_err(|error| {
        let exit = if matches!(error, StartError::Bind(_)) { Exit::Usage } else { Exit::Failed };
        Stop::Failure(exit, error.into())
    })?;
    if let Some(port) = node.port_was_taken() {
        let address = node.local_address();
        console.warn(format_args!("port {port} is in use, listening on {address} instead; choose with --listen"));
    }
    Ok(node)
}
