//! No more is sent to an unproven address than came from it (R8).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ppspp_core::wire::{ChannelId, split_channel};

use super::{Checker, Fact, Scene, slot};

/// Bytes sent to an address that has not proven itself stay within those received from it.
#[derive(Clone, Debug, Default)]
pub struct AmplificationBound {
    hosts: Vec<Addresses>,
}

#[derive(Clone, Debug, Default)]
struct Addresses {
    /// Whom the host called itself, or who has proven to receive what is sent to it.
    proven: BTreeSet<SocketAddr>,
    /// Of the others, bytes received less bytes sent.
    credit: BTreeMap<SocketAddr, u64>,
}

impl Checker for AmplificationBound {
    fn name(&self) -> &'static str {
        "nothing is amplified towards an unproven address"
    }

    fn observe(&mut self, scene: &Scene<'_>, fact: &Fact<'_>) -> Result<(), String> {
        let known = slot(&mut self.hosts, scene.host);
        match fact {
            Fact::Connected(address) | Fact::Dialled(address) => {
                known.proven.insert(*address);
                known.credit.remove(address);
            }
            Fact::Received { from, payload } if !known.proven.contains(&SocketAddr::V4(*from)) => {
                *known.credit.entry(SocketAddr::V4(*from)).or_default() += payload.len() as u64;
            }
            Fact::Sent { to, payload } if !known.proven.contains(to) => {
                if split_channel(payload).is_some_and(|(channel, _)| channel == ChannelId::ZERO) {
                    // An opening of the host's own, to an address that another peer named.
                    known.proven.insert(*to);
                    return Ok(());
                }
                let credit = known.credit.entry(*to).or_default();
                let Some(left) = credit.checked_sub(payload.len() as u64) else {
                    let len = payload.len();
                    return Err(format!("{len} bytes were sent to {to}, {credit} were left of what came from it"));
                };
                *credit = left;
            }
            _ => {}
        }
        Ok(())
    }
}
