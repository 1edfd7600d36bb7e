//! Which address goes into a link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ppspp_mio::link::{HostError, HostPort};

/// An address at which a socket listening on `listen` is reached from this machine, and from others where possible.
///
/// A wildcard becomes the address this machine has towards the rest of the world, or its loopback address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => outbound(ip.into()).unwrap_or(Ipv4Addr::LOCALHOST.into()),
        // A wildcard IPv6 socket takes IPv4 as well, as a rule; IPv4 works in more places.
        IpAddr::V6(ip) if ip.is_unspecified() => outbound(Ipv4Addr::UNSPECIFIED.into())
            .filter(|local| accepts(listen, *local))
            .or_else(|| outbound(ip.into()))
            .unwrap_or(Ipv6Addr::LOCALHOST.into()),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Where a socket listening on `listen` is found, for links. A link-local IPv6 address is of no use in them: each
/// machine gets there by another interface.
pub(crate) fn for_links(listen: SocketAddr) -> Result<Option<HostPort>, HostError> {
    match reachable(listen) {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Ok(None),
        address => HostPort::try_from(address).map(Some),
    }
}

/// The address that datagrams to the rest of the world leave from. Nothing is sent: connecting only picks a route.
fn outbound(wildcard: IpAddr) -> Option<IpAddr> {
    // Addresses reserved for documentation (RFC 5737, RFC 3849): routed like any other, owned by nobody.
    let elsewhere: IpAddr = match wildcard {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind((wildcard, 0)).ok()?;
    socket.connect((elsewhere, 9)).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_unspecified()).then_some(local)
}

/// Whether the port of `listen` is held for `ip` too, as by a dual stack socket: then nobody else can have it.
fn accepts(listen: SocketAddr, ip: IpAddr) -> bool {
    UdpSocket::bind((ip, listen.port())).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_addresses_stay() {
        for address in ["127.0.0.1:5", "[::1]:6", "192.0.2.7:8", "[2001:db8::1]:9"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(reachable(address), address);
        }
        assert_eq!(reachable("[::ffff:10.0.0.1]:5".parse().unwrap()), "10.0.0.1:5".parse().unwrap());
    }

    #[test]
    fn addresses_of_one_network_are_in_no_link() {
        assert_eq!(for_links("[fe80::1%4]:5".parse().unwrap()), Ok(None));
        for address in ["[fd00::1]:5", "169.254.0.1:5"] {
            assert_eq!(for_links(address.parse().unwrap()), Ok(Some(address.parse().unwrap())));
        }
    }

    #[test]
    fn a_wildcard_becomes_an_address_that_works_here() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let address = reachable(socket.local_addr().unwrap());
        assert!(!address.ip().is_unspecified());
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", address).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    }
}
