//! The addresses of the peers that `get` was given.

use std::net::SocketAddr;

use ppspp_mio::PeerError;
use ppspp_mio::link::HostPort;

use crate::console::Console;
use crate::exit::{Exit, OrExit as _, Outcome, Stop};

/// The addresses of `hosts` that a node on `local` can talk to. What is wrong with the others is said, unless they are
/// merely of the other family; it fails if there are no others.
pub(crate) fn addresses(hosts: &[&HostPort], local: SocketAddr, console: Console) -> Outcome<Vec<SocketAddr>> {
    let (mut found, mut unusable) = (Vec::new(), false);
    for host in hosts {
        match host.resolve() {
            Ok(addresses) => {
                for address in addresses {
                    // A name may lead anywhere: blocked ones lead to 0.0.0.0.
                    match HostPort::try_from(address) {
                        Ok(_) => found.push(address),
                        Err(error) => {
                            unusable = true;
                            console.warn(format_args!("{host} is no peer: {error}"));
                        }
                    }
                }
            }
            Err(error) => console.warn(format_args!("{host} has no address: {error}")),
        }
    }
    found.sort();
    found.dedup();
    let reachable: Vec<_> = found.iter().copied().filter(|peer| is_reachable(*peer, local)).collect();
    match found.first() {
        Some(peer) if reachable.is_empty() => Err(PeerError::Unreachable { peer: *peer, local }).or_exit(Exit::Usage),
        Some(_) => Ok(reachable),
        None if unusable => {
            Err(Stop::new(Exit::Usage, "no peer has an address that can be used; check the link and the name service"))
        }
        None => Err(Stop::new(Exit::NoPeer, "no peer has an address; check the link and the name service")),
    }
}

/// Whether a socket on `local` reaches addresses of the family of `peer`.
fn is_reachable(peer: SocketAddr, local: SocketAddr) -> bool {
    let wildcard = local.ip().is_unspecified() && local.is_ipv6();
    wildcard || peer.is_ipv6() == local.is_ipv6()
}
