//! No more is sent to an unproven address than came from it (R8).

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};

use ppspp_core::wire::{ChannelId, split_channel};

use super::{Checker, Fact, Scene, slot};

/// Bytes sent to an address that has not proven itself stay within those received from it.
#[derive(Clone, Debug, Default)]
pub struct AmplificationBound {
    hosts: Vec<Addresses>,
}

#[derive(Clone, Debug, Default)]
struct Addresses {
    /// Whom the host called itself, or who has proven to receive what is sent to it; in order, close together, since
    /// they are looked up for every datagram.
    proven: Vec<SocketAddrV4>,
    /// Of the others, bytes received less bytes sent.
    credit: BTreeMap<SocketAddrV4, u64>,
}

impl Addresses {
    fn is_proven(&self, address: SocketAddrV4) -> bool {
        self.proven.binary_search(&address).is_ok()
    }

    fn prove(&mut self, address: SocketAddrV4) {
        if let Err(place) = self.proven.binary_search(&address) {
            self.proven.insert(place, address);
        }
        self.credit.remove(&address);
    }

    fn spend(&mut self, to: SocketAddrV4, payload: &[u8]) -> Result<(), String> {
        if split_channel(payload).is_some_and(|(channel, _)| channel == ChannelId::ZERO) {
            // An opening of the host's own, to an address that another peer named.
            self.prove(to);
            return Ok(());
        }
        let credit = self.credit.entry(to).or_default();
        let len = payload.len();
        let Some(left) = credit.checked_sub(len as u64) else {
            return Err(format!("{len} bytes were sent to {to}, {credit} were left of what came from it"));
        };
        *credit = left;
        Ok(())
    }
}

impl Checker for AmplificationBound {
    fn name(&self) -> &'static str {
        "nothing is amplified towards an unproven address"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        // The network has no other addresses.
        match fact {
            Fact::Connected(SocketAddr::V4(address)) | Fact::Dialled(SocketAddr::V4(address)) => {
                slot(&mut self.hosts, scene.host).prove(*address);
            }
            Fact::Received { from, payload } => {
                let known = slot(&mut self.hosts, scene.host);
                if !known.is_proven(*from) {
                    *known.credit.entry(*from).or_default() += payload.len() as u64;
                }
            }
            Fact::Sent { to: SocketAddr::V4(to), payload } => {
                let known = slot(&mut self.hosts, scene.host);
                if !known.is_proven(*to) {
                    return known.spend(*to, payload);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
