//! The peers that `get` was given.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ppspp_mio::PeerError;
use ppspp_mio::link::{HostError, HostPort};
use thiserror::Error;

use crate::console::Console;
use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::node::TURN;
use crate::signals::Interrupt;

/// Most names that are looked up at a time.
const LOOKUPS: usize = 16;

/// A peer as the user names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// As in a link.
    Host(HostPort),
    /// By an address of a network that this machine is in, and the interface that leads there: `[fe80::1%eth0]:6778`.
    Near {
        /// The address.
        ip: Ipv6Addr,
        /// The interface's name or number.
        zone: String,
        /// The UDP port.
        port: u16,
    },
}

/// Text that names no peer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum NoPeer {
    /// It is no host and port.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Only addresses of one network need an interface.
    #[error("{0} is no link-local address and takes no zone: leave out the % and what follows it")]
    Zone(IpAddr),
}

impl Peer {
    /// Whether it has to be looked up.
    const fn is_named(&self) -> bool {
        matches!(self, Self::Host(HostPort::Name(..)))
    }

    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Host(host) => host.resolve(),
            Self::Near { ip, zone, port } => match zone.parse() {
                Ok(number) => Ok(vec![SocketAddrV6::new(*ip, *port, 0, number).into()]),
                // The system's resolver knows the names of interfaces.
                Err(_) => Ok((format!("{ip}%{zone}").as_str(), *port).to_socket_addrs()?.collect()),
            },
        }
    }
}

impl FromStr for Peer {
    type Err = NoPeer;

    fn from_str(text: &str) -> Result<Self, NoPeer> {
        let zoned = text.rsplit_once("]:").and_then(|(host, port)| Some((host.split_once('%')?, port)));
        let Some(((address, zone), port)) = zoned.filter(|((_, zone), _)| !zone.is_empty()) else {
            return Ok(Self::Host(text.parse()?));
        };
        match format!("{address}]:{port}").parse()? {
            HostPort::Address(IpAddr::V6(ip), port) if ip.is_unicast_link_local() => {
                Ok(Self::Near { ip, zone: zone.to_owned(), port: port.get() })
            }
            HostPort::Address(ip, _) => Err(NoPeer::Zone(ip)),
            HostPort::Name(..) => Err(HostError::Form(text.to_owned()).into()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Near { ip, zone, port } => write!(f, "[{ip}%{zone}]:{port}"),
        }
    }
}

/// The addresses of `given` peers that a node on `local` can talk to, each told to `add` as soon as it is known. What is
/// wrong with the others is said, unless they are merely of the other family; it fails if there are no others.
pub(crate) fn addresses(
    given: Vec<Peer>,
    local: SocketAddr,
    console: Console,
    interrupt: &Interrupt,
    mut add: impl FnMut(SocketAddr),
) -> Outcome<Vec<SocketAddr>> {
    let (mut reachable, mut other, mut unusable) = (Vec::new(), None, false);
    look_up(given, Peer::resolve, interrupt, |peer, addresses| match addresses {
        Ok(addresses) => {
            for address in addresses {
                // A name may lead anywhere: blocked ones lead to 0.0.0.0.
                match check(address) {
                    Ok(()) if !is_reachable(address, local) => other = Some(address),
                    Ok(()) if reachable.contains(&address) => {}
                    Ok(()) => {
                        reachable.push(address);
                        add(address);
                    }
                    Err(reason) => {
                        unusable = true;
                        console.warn(format_args!("{peer} is no peer: {reason}"));
                    }
                }
            }
        }
        Err(error) => console.warn(format_args!("{peer} has no address: {error}")),
    })?;
    reachable.sort();
    match other {
        _ if !reachable.is_empty() => Ok(reachable),
        Some(peer) => Err(PeerError::Unreachable { peer, local }).or_exit(Exit::Usage),
        None if unusable => {
            Err(Stop::new(Exit::Usage, "no peer has an address that can be used; check the link and the name service"))
        }
        None => Err(Stop::new(Exit::NoPeer, "no peer has an address; check the link and the name service")),
    }
}

/// Tells `found` the addresses of all `given`, of those that need no looking up first.
///
/// Names are looked up several at a time, and threads that still do so are left behind when a signal comes: where name
/// servers are silent, one name takes many seconds.
fn look_up(
    given: Vec<Peer>,
    resolve: fn(&Peer) -> io::Result<Vec<SocketAddr>>,
    interrupt: &Interrupt,
    mut found: impl FnMut(&Peer, io::Result<Vec<SocketAddr>>),
) -> Outcome {
    let (names, plain): (Vec<_>, Vec<_>) = given.into_iter().partition(Peer::is_named);
    for peer in &plain {
        found(peer, resolve(peer));
    }
    let mut left = names.len();
    let (names, (tell, told)) = (Arc::new(Mutex::new(names)), channel());
    for _ in 0..left.min(LOOKUPS) {
        let (names, tell) = (Arc::clone(&names), tell.clone());
        let next = move || names.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let worker = thread::Builder::new().name("ppspp-names".into()).spawn(move || {
            while let Some(peer) = next() {
                let addresses = resolve(&peer);
                if tell.send((peer, addresses)).is_err() {
                    break;
                }
            }
        });
        worker.map_err(|error| Stop::system("cannot start a thread to look names up in", &error))?;
    }
    while left > 0 {
        if interrupt.is_set() {
            return Err(Stop::new(Exit::Interrupted, "interrupted while the names of peers were looked up"));
        }
        if let Ok((peer, addresses)) = told.recv_timeout(TURN) {
            found(&peer, addresses);
            left -= 1;
        }
    }
    Ok(())
}

/// Whether a peer can be there.
fn check(address: SocketAddr) -> Result<(), String> {
    HostPort::try_from(address).map_err(|error| error.to_string())?;
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let (ip, port) = (v6.ip(), v6.port());
            Err(format!(
                "{ip} does not say which network it is in; add the interface, as in --peer '[{ip}%eth0]:{port}'"
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a socket on `local` reaches addresses of the family of `peer`.
fn is_reachable(peer: SocketAddr, local: SocketAddr) -> bool {
    let wildcard = local.ip().is_unspecified() && local.is_ipv6();
    wildcard || peer.is_ipv6() == local.is_ipv6()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn near_peers_have_a_zone() {
        for text in ["[fe80::1%4]:7000", "[fe80::1%eth0.1]:7000", "[fe80::1]:7000", "localhost:1", "[::1]:2"] {
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), text);
        }
        let near: Peer = "[fe80::1%4]:7000".parse().unwrap();
        assert_eq!(near.resolve().unwrap(), [SocketAddrV6::new("fe80::1".parse().unwrap(), 7000, 0, 4).into()]);
        for (text, says) in [
            ("[2001:db8::1%4]:1", "2001:db8::1 is no link-local address and takes no zone: leave out the %"),
            ("[fe80::1%4]:0", "\"[fe80::1]:0\" has no port from 1 to 65535"),
            ("[fe80::x%4]:1", "\"[fe80::x]:1\" is not of the form HOST:PORT"),
            ("[fe80::1%]:1", "\"[fe80::1%]:1\" has a zone"),
        ] {
            let error = text.parse::<Peer>().unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn interfaces_have_names() {
        let near: Peer = "[fe80::1%lo]:7000".parse().unwrap();
        let found = near.resolve().unwrap();
        assert!(matches!(found[..], [SocketAddr::V6(v6)] if v6.scope_id() != 0), "{found:?}");
        assert!("[fe80::1%nonsense]:7000".parse::<Peer>().unwrap().resolve().is_err());
    }

    fn named(count: usize) -> Vec<Peer> {
        (0..count).map(|number| format!("host-{number}.example:1").parse().unwrap()).collect()
    }

    /// Serially these would wait for each other for ever.
    #[test]
    fn names_are_looked_up_at_once_and_addresses_before() {
        static ALL: Barrier = Barrier::new(LOOKUPS);
        let resolve = |peer: &Peer| {
            if peer.is_named() {
                ALL.wait();
            }
            Ok(Vec::new())
        };
        let mut given = named(2 * LOOKUPS);
        given.push("192.0.2.1:1".parse().unwrap());
        let mut found = Vec::new();
        look_up(given.clone(), resolve, &Interrupt::default(), |peer, _| found.push(peer.to_string())).unwrap();
        assert_eq!(found[0], "192.0.2.1:1");
        let mut expected: Vec<_> = given.iter().map(Peer::to_string).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_signal_ends_a_long_search() {
        let interrupt = Interrupt::default();
        let silent = |_: &Peer| {
            thread::park();
            Ok(Vec::new())
        };
        interrupt.flag().store(true, Ordering::Relaxed);
        let stop = look_up(named(3), silent, &interrupt, |_, _| panic!("nothing is found")).unwrap_err();
        assert_eq!(stop.exit(), Exit::Interrupted);
    }
}
