//! The peers that `get` was given.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ppspp_mio::PeerError;
use ppspp_mio::link::{HostError, HostPort};
use thiserror::Error;

use crate::console::{Bar, Console};
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

/// What the addresses of a peer are.
type Resolve = fn(&Peer) -> io::Result<Vec<SocketAddr>>;

/// Looks for the addresses of given peers that a node can talk to. What is wrong with the others is said, unless they are
/// merely of the other family.
///
/// Names are looked up several at a time, in threads that nobody waits for: where name servers are silent, one name takes
/// many seconds.
pub(crate) struct Search {
    local: SocketAddr,
    console: Console,
    told: Receiver<(Peer, io::Result<Vec<SocketAddr>>)>,
    /// Names still looked up.
    left: usize,
    /// All that were found, and how many of them were handed out.
    reachable: Vec<SocketAddr>,
    taken: usize,
    /// One of the other family.
    other: Option<SocketAddr>,
    /// Whether there was one where nobody can be.
    unusable: bool,
}

impl Search {
    /// Begins to look `given` up for a node on `local`.
    pub(crate) fn start(given: Vec<Peer>, local: SocketAddr, console: Console) -> Outcome<Self> {
        Self::with(given, local, console, Peer::resolve)
    }

    fn with(given: Vec<Peer>, local: SocketAddr, console: Console, resolve: Resolve) -> Outcome<Self> {
        let (names, plain): (Vec<_>, Vec<_>) = given.into_iter().partition(Peer::is_named);
        let (tell, told) = channel();
        let left = names.len();
        let (reachable, other) = (Vec::new(), None);
        let mut search = Self { local, console, told, left, reachable, taken: 0, other, unusable: false };
        for peer in plain {
            search.judge(&peer, resolve(&peer));
        }
        let names = Arc::new(Mutex::new(names.into_iter()));
        for _ in 0..left.min(LOOKUPS) {
            let (names, tell) = (Arc::clone(&names), tell.clone());
            let next = move || names.lock().unwrap_or_else(PoisonError::into_inner).next();
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
        Ok(search)
    }

    /// Waits until a peer can be asked; fails if none can, or when a signal comes.
    pub(crate) fn wait(&mut self, interrupt: &Interrupt) -> Outcome {
        while self.reachable.is_empty() && self.left > 0 {
            if interrupt.is_set() {
                return Err(Stop::new(Exit::Interrupted, "interrupted while the names of peers were looked up"));
            }
            match self.told.recv_timeout(TURN) {
                Ok((peer, addresses)) => {
                    self.left -= 1;
                    self.judge(&peer, addresses);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody looks any further.
                Err(RecvTimeoutError::Disconnected) => self.left = 0,
            }
        }
        let (local, sentence) = (self.local, "check the link and the name service");
        match self.other {
            _ if !self.reachable.is_empty() => Ok(()),
            Some(peer) => Err(PeerError::Unreachable { peer, local }).or_exit(Exit::Usage),
            None if self.unusable => {
                Err(Stop::new(Exit::Usage, format!("no peer has an address that can be used; {sentence}")))
            }
            None => Err(Stop::new(Exit::NoPeer, format!("no peer has an address; {sentence}"))),
        }
    }

    /// What was found since the last call. What is wrong with others is said beside `bar`.
    pub(crate) fn take(&mut self, bar: &Bar) -> &[SocketAddr] {
        while self.left > 0 {
            match self.told.try_recv() {
                Ok((peer, addresses)) => {
                    self.left -= 1;
                    bar.aside(|| self.judge(&peer, addresses));
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.left = 0,
            }
        }
        let taken = std::mem::replace(&mut self.taken, self.reachable.len());
        self.reachable.get(taken..).unwrap_or_default()
    }

    /// Whether names are still looked up.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// All that were found so far.
    pub(crate) fn found(&self) -> &[SocketAddr] {
        &self.reachable
    }

    fn judge(&mut self, peer: &Peer, addresses: io::Result<Vec<SocketAddr>>) {
        let addresses = addresses.unwrap_or_else(|error| {
            self.console.warn(format_args!("{peer} has no address: {error}"));
            Vec::new()
        });
        for address in addresses {
            // A name may lead anywhere: blocked ones lead to 0.0.0.0.
            match check(address) {
                Ok(()) if !is_reachable(address, self.local) => self.other = Some(address),
                Ok(()) if self.reachable.contains(&address) => {}
                Ok(()) => self.reachable.push(address),
                Err(reason) => {
                    self.unusable = true;
                    self.console.warn(format_args!("{peer} is no peer: {reason}"));
                }
            }
        }
    }
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
    use crate::args::OutputArgs;

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

    fn quiet() -> Console {
        Console::new(&OutputArgs { quiet: true, ..OutputArgs::default() }, false)
    }

    fn search(given: Vec<Peer>, resolve: Resolve) -> Search {
        Search::with(given, "[::]:1".parse().unwrap(), quiet(), resolve).unwrap()
    }

    /// Serially these would wait for each other for ever.
    #[test]
    fn names_are_looked_up_at_once() {
        static ALL: Barrier = Barrier::new(LOOKUPS);
        let resolve = |peer: &Peer| {
            ALL.wait();
            let number = peer.to_string().chars().filter(char::is_ascii_digit).collect::<String>();
            Ok(vec![format!("192.0.2.1:{number}").parse().unwrap()])
        };
        let (mut search, bar) = (search(named(2 * LOOKUPS), resolve), quiet().bar("fetching"));
        search.wait(&Interrupt::default()).unwrap();
        let mut found = Vec::new();
        while found.len() < 2 * LOOKUPS {
            found.extend_from_slice(search.take(&bar));
            thread::yield_now();
        }
        found.sort();
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{found:?}");
        assert_eq!((search.is_under_way(), search.take(&bar)), (false, [].as_slice()));
        assert_eq!(search.found().len(), 2 * LOOKUPS);
    }

    /// Of names nothing is ever heard.
    const SILENT: Resolve = |peer| {
        if peer.is_named() {
            thread::park();
        }
        Ok(vec!["192.0.2.1:1".parse().unwrap()])
    };

    #[test]
    fn silent_name_servers_hold_no_other_peer_up() {
        let mut given = named(3);
        given.push("192.0.2.1:1".parse().unwrap());
        let (mut search, bar) = (search(given, SILENT), quiet().bar("fetching"));
        search.wait(&Interrupt::default()).unwrap();
        assert_eq!(search.take(&bar), ["192.0.2.1:1".parse().unwrap()]);
        assert_eq!(search.take(&bar), []);
        assert!(search.is_under_way());
    }

    #[test]
    fn a_signal_ends_a_long_search() {
        let interrupt = Interrupt::default();
        interrupt.flag().store(true, Ordering::Relaxed);
        let stop = search(named(3), SILENT).wait(&interrupt).unwrap_err();
        assert_eq!(stop.exit(), Exit::Interrupted);
    }

    #[test]
    fn without_any_address_the_search_says_why() {
        let nothing = |_: &Peer| Err(io::ErrorKind::NotFound.into());
        let stop = search(named(3), nothing).wait(&Interrupt::default()).unwrap_err();
        assert_eq!(stop.exit(), Exit::NoPeer);
        let nowhere = |_: &Peer| Ok(vec!["0.0.0.0:1".parse().unwrap()]);
        let stop = search(named(3), nowhere).wait(&Interrupt::default()).unwrap_err();
        assert_eq!(stop.exit(), Exit::Usage);
    }
}
