//! Puts the hosts of a scenario into the network.

use std::net::SocketAddrV4;
use std::sync::Arc;

use crate::content::Content;
use crate::disk::Disk;
use crate::host::{Parts, PeerHost, Role};
use crate::id::{HostId, LinkId};
use crate::link::LinkSpec;
use crate::meter::Meter;
use crate::network::Network;
use crate::node::NodeHost;
use crate::scenario::{Entry, Peer, Place, ScenarioError};
use crate::time::{Clock, SimTime};
use crate::timetable::{Action, When};

/// Clocks show a time within so many microseconds, about a year, unless the scenario says otherwise.
const EPOCHS: u64 = 1 << 45;
const MOST_DRIFT: i32 = 100_000;

/// A host at work.
#[derive(Debug)]
pub(crate) enum Host {
    Peer(Box<PeerHost>),
    Node(Box<NodeHost>),
}

impl Host {
    pub(crate) fn address(&self) -> SocketAddrV4 {
        match self {
            Self::Peer(peer) => peer.address,
            Self::Node(node) => node.address,
        }
    }

    fn knows(&mut self) -> &mut Vec<SocketAddrV4> {
        match self {
            Self::Peer(peer) => &mut peer.knows,
            Self::Node(node) => &mut node.knows,
        }
    }
}

/// Refuses a link that cannot be.
pub(crate) fn check_link(spec: &LinkSpec) -> Result<(), ScenarioError> {
    spec.up.flaw().or_else(|| spec.down.flaw()).map_or(Ok(()), |flaw| Err(ScenarioError::Link(flaw)))
}

/// The hosts, each with the time at which it joins.
pub(crate) fn hosts(
    entries: Vec<Entry>,
    contents: &[Content],
    timetable: &[(When, Action)],
    meter: Option<Meter>,
    net: &mut Network,
) -> Result<Vec<(Option<SimTime>, Host)>, ScenarioError> {
    let mut saves = vec![false; entries.len()];
    for (_, action) in timetable {
        match action {
            Action::Crash { host, keep: true } => saves[host.index()] = true,
            Action::Link(_, spec) => check_link(spec)?,
            _ => {}
        }
    }
    let mut hosts = Vec::with_capacity(entries.len());
    let mut knows = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let id = HostId(index as u32);
        let (host, joins, known) = match entry {
            Entry::Peer(peer) => peer_host(id, *peer, contents, saves[index], meter, net)?,
            Entry::Node { node, place, knows } => {
                let link = settle(&place, net)?;
                let address = net.add_host(id, link);
                let rng = net.streams.stream(&format!("host/{index}/node"));
                let node = NodeHost { id, node, address, knows: Vec::new(), rng, armed: SimTime::NEVER };
                (Host::Node(Box::new(node)), None, knows)
            }
        };
        hosts.push((joins, host));
        knows.push(known);
    }
    let addresses: Vec<_> = hosts.iter().map(|(_, host)| host.address()).collect();
    for ((_, host), known) in hosts.iter_mut().zip(knows) {
        *host.knows() = known.into_iter().map(|id| addresses[id.index()]).collect();
    }
    Ok(hosts)
}

fn settle(place: &Place, net: &mut Network) -> Result<LinkId, ScenarioError> {
    match place {
        Place::Shared(link) => Ok(*link),
        Place::Own(spec) => {
            check_link(spec)?;
            Ok(net.add_link(spec, None))
        }
    }
}

fn peer_host(
    id: HostId,
    peer: Peer,
    contents: &[Content],
    saves: bool,
    meter: Option<Meter>,
    net: &mut Network,
) -> Result<(Host, Option<SimTime>, Vec<HostId>), ScenarioError> {
    let link = settle(&peer.link, net)?;
    let streams = net.streams;
    let clock = peer.clock.unwrap_or_else(|| {
        let epoch_micros = streams.stream(&format!("host/{}/clock", id.0)).below(EPOCHS);
        Clock { epoch_micros, drift_ppm: 0 }
    });
    if clock.drift_ppm.unsigned_abs() > MOST_DRIFT.unsigned_abs() {
        return Err(ScenarioError::Drift(clock.drift_ppm));
    }
    let content = contents[peer.content.0 as usize].clone();
    let saves = saves && peer.role == Role::Leecher;
    let host = PeerHost::new(Parts {
        id,
        role: peer.role,
        address: net.add_host(id, link),
        disk: Disk::new(peer.disk, content.clone(), streams.stream(&format!("host/{}/disk", id.0))),
        content,
        config: Arc::new(peer.config),
        clock,
        saves,
        // What is saved leaves the endpoint, and its account would not know.
        meter: meter.filter(|_| !saves),
    });
    Ok((Host::Peer(Box::new(host)), peer.joins, peer.knows))
}
