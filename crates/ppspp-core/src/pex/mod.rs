//! Peer address exchange (RFC 7574 §3.10, §8.13, R24): who may be named to whom, and which names are dialled.
//!
//! Pure: nothing here knows channels or content. `swarm/exchange.rs` puts it to work.

mod candidates;
mod dialogue;

pub(crate) use candidates::{Candidates, Dial};
pub(crate) use dialogue::{Dialogue, MAX_NAMES};

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::PexPolicy;

/// Where an address means something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// Within one host.
    Loopback,
    /// Within one network: private (RFC 1918), link-local or unique-local.
    Private,
    /// Within the network of a provider, which several customers share (RFC 6598): outside of each one's own.
    Shared,
    /// Anywhere.
    Public,
}

impl Reach {
    /// The reach of `address`; `None` if nobody can be dialled there from what a PEX message carries.
    ///
    /// An IPv6 link-local address needs a scope, an IPv4-mapped one stands for another address.
    pub(crate) fn of(address: SocketAddr) -> Option<Self> {
        if address.port() == 0 {
            return None;
        }
        match address.ip() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        let [first, second, ..] = ip.octets();
        // This network, multicast, reserved, broadcast.
        if first == 0 || first >= 224 {
            return None;
        }
        let shared = first == 100 && second & 0xc0 == 64;
        Some(match ip {
            _ if ip.is_loopback() => Self::Loopback,
            _ if ip.is_private() || ip.is_link_local() => Self::Private,
            _ if shared => Self::Shared,
            _ => Self::Public,
        })
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        // Site-local addresses (fec0::/10) are deprecated, and link-local ones lie right before them.
        let scoped = ip.segments()[0] & 0xff80 == 0xfe80;
        if ip.is_unspecified() || ip.is_multicast() || scoped || ip.to_ipv4_mapped().is_some() {
            return None;
        }
        Some(match ip {
            _ if ip.is_loopback() => Self::Loopback,
            _ if ip.is_unique_local() => Self::Private,
            _ => Self::Public,
        })
    }
}

/// Whether `partner` could name anybody to us.
pub(crate) fn may_tell(policy: PexPolicy, partner: SocketAddr) -> bool {
    match (policy, Reach::of(partner)) {
        (PexPolicy::Off, _) | (_, None) => false,
        (PexPolicy::Benign, Some(reach)) => reach != Reach::Public,
        (PexPolicy::Open, Some(_)) => true,
    }
}

/// Whether an address may pass between us and a peer, in either direction.
///
/// RFC 7574 §3.10.1 has plain addresses in benign networks alone; §8.13 and R24 keep those of one network within it.
pub(crate) fn may_pass(policy: PexPolicy, partner: SocketAddr, named: SocketAddr) -> bool {
    let (Some(partner), Some(named)) = (Reach::of(partner), Reach::of(named)) else { return false };
    match (policy, partner, named) {
        (PexPolicy::Off, ..) => false,
        (_, _, Reach::Public) => policy == PexPolicy::Open,
        (_, partner, named) => partner == named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &[&str] = &["127.0.0.1:1", "127.9.8.7:65535", "[::1]:6778"];
    const PRIVATE: &[&str] = &[
        "10.0.0.1:6778",
        "172.16.0.1:6778",
        "172.31.255.255:6778",
        "192.168.1.1:6778",
        "169.254.1.1:6778",
        "[fc00::1]:6778",
        "[fd12:3456::1]:6778",
    ];
    const SHARED: &[&str] = &["100.64.0.1:6778", "100.127.255.255:6778"];
    const PUBLIC: &[&str] =
        &["9.255.255.255:6778", "172.32.0.1:6778", "100.128.0.1:6778", "192.0.2.1:6778", "[2001:db8::1]:6778"];
    const NOWHERE: &[&str] = &[
        "10.0.0.1:0",
        "192.0.2.1:0",
        "[2001:db8::1]:0",
        "0.0.0.0:6778",
        "0.1.2.3:6778",
        "224.0.0.1:6778",
        "239.1.1.1:6778",
        "240.0.0.1:6778",
        "255.255.255.255:6778",
        "[::]:6778",
        "[ff02::1]:6778",
        "[fe80::1]:6778",
        "[fec0::1]:6778",
        "[::ffff:10.0.0.1]:6778",
        "[::ffff:192.0.2.1]:6778",
    ];

    fn parsed(texts: &[&str]) -> impl Iterator<Item = SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap())
    }

    #[test]
    fn every_kind_of_address_has_its_reach() {
        let kinds = [
            (LOOPBACK, Some(Reach::Loopback)),
            (PRIVATE, Some(Reach::Private)),
            (SHARED, Some(Reach::Shared)),
            (PUBLIC, Some(Reach::Public)),
            (NOWHERE, None),
        ];
        for (texts, reach) in kinds {
            for address in parsed(texts) {
                assert_eq!(Reach::of(address), reach, "{address}");
            }
        }
    }

    // RFC 7574 §8.13, R24.
    #[test]
    fn addresses_stay_within_their_network() {
        let all = || [LOOPBACK, PRIVATE, SHARED, PUBLIC, NOWHERE].into_iter().flat_map(parsed);
        for partner in all() {
            for named in all() {
                let (of, to) = (Reach::of(named), Reach::of(partner));
                let within = of.is_some() && of == to && of != Some(Reach::Public);
                let outside = of == Some(Reach::Public) && to.is_some();
                assert!(!may_pass(PexPolicy::Off, partner, named));
                assert_eq!(may_pass(PexPolicy::Benign, partner, named), within, "{named} to {partner}");
                assert_eq!(may_pass(PexPolicy::Open, partner, named), within || outside, "{named} to {partner}");
            }
            for policy in [PexPolicy::Off, PexPolicy::Benign, PexPolicy::Open] {
                assert_eq!(may_tell(policy, partner), all().any(|named| may_pass(policy, partner, named)), "{partner}");
            }
        }
    }
}
