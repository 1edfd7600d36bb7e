//! The node behind a command.

use std::net::SocketAddr;
use std::time::Duration;

use ppspp_core::PexPolicy;
use ppspp_mio::{BindError, Node, NodeConfig, StartError};

use crate::args::ExchangeArgs;
use crate::console::Console;
use crate::exit::{Exit, Outcome, Stop};

/// How long peers are waited for at the end; they are told goodbye, no more.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How often a command looks around while nothing happens.
pub(crate) const TURN: Duration = Duration::from_millis(100);

/// The setup of a node that listens on `listen` and keeps to what was asked of its exchange.
pub(crate) fn config(listen: Option<SocketAddr>, exchange: &ExchangeArgs) -> NodeConfig {
    let mut config = listen.map_or_else(NodeConfig::default, NodeConfig::listening_on);
    config.endpoint.rates = exchange.rates();
    if let Some(most) = exchange.max_peers {
        config.endpoint.max_peers = most.into();
    }
    if exchange.no_pex {
        config.endpoint.pex = PexPolicy::Off;
    }
    config
}

/// Opens the socket.
pub(crate) fn start(config: NodeConfig, console: Console) -> Outcome<Node> {
    let node = Node::start(config).map_err(|error| {
        let exit = match error {
            StartError::Bind(BindError::TooManyOpen(_)) => Exit::Failed,
            StartError::Bind(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        Stop::Failure(exit, error.into())
    })?;
    if let Some(port) = node.port_was_taken() {
        let address = node.local_address();
        console.warn(format_args!("port {port} is in use, listening on {address} instead; choose with --listen"));
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ppspp_core::{ByteRate, Rates};

    use super::*;
    use crate::args::{Cli, Command};

    fn configured(words: &str) -> NodeConfig {
        match Cli::parse_from(words.split(' ')).command {
            Command::Seed(args) => config(args.socket.listen, &args.exchange),
            Command::Get(args) => config(args.socket.listen, &args.exchange),
            _ => panic!("{words} has no node"),
        }
    }

    #[test]
    fn flags_reach_the_endpoint() {
        let get = format!("ppspp get ppsp:///{}", "00".repeat(32));
        for command in ["ppspp seed file", &get] {
            let plain = configured(command).endpoint;
            assert_eq!((plain.rates, plain.pex, plain.max_peers), (Rates::default(), PexPolicy::Benign, 10_000));
            let alone = configured(&format!("{command} --no-pex --max-peers 3")).endpoint;
            assert_eq!((alone.pex, alone.max_peers), (PexPolicy::Off, 3));
            let limited = configured(&format!("{command} --upload-limit 64KiB --download-limit 2MB/s"));
            let (up, down) = (ByteRate::new(65_536), ByteRate::new(2_000_000));
            assert_eq!(limited.endpoint.rates, Rates { up, down });
        }
    }
}
