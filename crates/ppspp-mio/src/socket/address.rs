//! Addresses as the core sees them (IPv4 is IPv4) and as a dual-stack socket sees them (IPv4 is mapped into IPv6).

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// `address` as the core sees it: an IPv4-mapped IPv6 address becomes the IPv4 address it stands for.
///
/// The IPv6 flow label is dropped: it is no part of a peer's identity.
pub(crate) fn to_core(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
        },
        SocketAddr::V4(_) => address,
    }
}

/// `address` as a socket of family IPv6 (`ipv6`) or IPv4 takes it; `None` if that socket cannot reach it.
pub(crate) fn to_socket(address: SocketAddr, ipv6: bool) -> Option<SocketAddr> {
    match address {
        SocketAddr::V4(v4) if ipv6 => {
            Some(SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)))
        }
        SocketAddr::V6(_) if !ipv6 => match to_core(address) {
            v4 @ SocketAddr::V4(_) => Some(v4),
            SocketAddr::V6(_) => None,
        },
        same => Some(same),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn mapped_addresses_are_ipv4_to_the_core() {
        assert_eq!(to_core(address("[::ffff:192.0.2.7]:6778")), address("192.0.2.7:6778"));
        assert_eq!(to_core(address("192.0.2.7:6778")), address("192.0.2.7:6778"));
        assert_eq!(to_core(address("[2001:db8::1]:6778")), address("[2001:db8::1]:6778"));
        // Neither the loopback nor the deprecated compatible form is a mapped address.
        assert_eq!(to_core(address("[::1]:6778")), address("[::1]:6778"));
        assert_eq!(to_core(address("[::192.0.2.7]:6778")), address("[::192.0.2.7]:6778"));
    }

    #[test]
    fn link_local_scope_stays_and_flow_label_goes() {
        let with_flow = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 77, 3));
        assert_eq!(to_core(with_flow), SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3)));
    }

    #[test]
    fn each_socket_family_gets_its_form() {
        let v4 = address("192.0.2.7:6778");
        let v6 = address("[2001:db8::1]:6778");
        let mapped = address("[::ffff:192.0.2.7]:6778");
        assert_eq!(to_socket(v4, true), Some(mapped));
        assert_eq!(to_socket(v4, false), Some(v4));
        assert_eq!(to_socket(v6, true), Some(v6));
        assert_eq!(to_socket(v6, false), None);
        assert_eq!(to_socket(mapped, false), Some(v4));
        assert_eq!(to_core(to_socket(v4, true).unwrap()), v4);
    }
}
