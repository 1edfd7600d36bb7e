//! UDP datagrams inside captured packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::capture::LinkType;

/// A captured UDP datagram.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Udp<'a> {
    /// Where it came from.
    pub(crate) source: SocketAddr,
    /// Where it went.
    pub(crate) destination: SocketAddr,
    /// What it carried, as far as it was captured.
    pub(crate) payload: &'a [u8],
    /// Whether the capture holds less of it than was sent.
    pub(crate) cut: bool,
}

/// Why a packet holds no datagram that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Skipped {
    /// Another protocol, or too little captured to tell.
    NotUdp,
    /// A part of a datagram that was sent in several packets.
    Fragment,
    /// A link layer that is not understood.
    UnknownLink,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The UDP datagram in a packet.
pub(crate) fn udp(link: LinkType, packet: &[u8]) -> Result<Udp<'_>, Skipped> {
    let ip = match link.0 {
        // Ethernet, perhaps with VLAN tags.
        1 => ethernet(packet),
        // Loopback of the BSDs: an address family in somebody's byte order.
        0 | 108 => packet.get(4..),
        // Bare IP, under its various numbers.
        12 | 14 | 101 | 228 | 229 => Some(packet),
        // Linux "any" device, both versions.
        113 => packet.get(16..).filter(|_| u16_at(packet, 14).is_some_and(is_ip)),
        276 => packet.get(20..).filter(|_| u16_at(packet, 0).is_some_and(is_ip)),
        _ => return Err(Skipped::UnknownLink),
    };
    let ip = ip.ok_or(Skipped::NotUdp)?;
    match ip.first().map(|first| first >> 4) {
        Some(4) => ipv4(ip),
        Some(6) => ipv6(ip),
        _ => Err(Skipped::NotUdp),
    }
}

fn is_ip(kind: u16) -> bool {
    kind == IPV4 || kind == IPV6
}

fn ethernet(frame: &[u8]) -> Option<&[u8]> {
    /// Tags that one frame may carry.
    const MAX_TAGS: usize = 4;
    let mut at = 12;
    for _ in 0..=MAX_TAGS {
        match u16_at(frame, at)? {
            0x8100 | 0x88a8 | 0x9100 => at += 4,
            kind if is_ip(kind) => return frame.get(at + 2..),
            _ => return None,
        }
    }
    None
}

fn ipv4(packet: &[u8]) -> Result<Udp<'_>, Skipped> {
    let header = usize::from(packet.first().map_or(0, |first| first & 15)) * 4;
    let address = |at: usize| packet.get(at..)?.first_chunk().map(|bytes: &[u8; 4]| Ipv4Addr::from(*bytes));
    let (Some(source), Some(destination)) = (address(12), address(16)) else { return Err(Skipped::NotUdp) };
    if packet.get(9) != Some(&UDP) || header < 20 {
        return Err(Skipped::NotUdp);
    }
    // "More fragments", or an offset.
    if u16_at(packet, 6).is_some_and(|field| field & 0x3fff != 0) {
        return Err(Skipped::Fragment);
    }
    datagram(source.into(), destination.into(), packet.get(header..).unwrap_or_default())
}

fn ipv6(packet: &[u8]) -> Result<Udp<'_>, Skipped> {
    /// Extension headers that one packet may carry.
    const MAX_HEADERS: usize = 8;
    let address = |at: usize| packet.get(at..)?.first_chunk().map(|bytes: &[u8; 16]| Ipv6Addr::from(*bytes));
    let (Some(source), Some(destination), Some(next)) = (address(8), address(24), packet.get(6)) else {
        return Err(Skipped::NotUdp);
    };
    let (mut next, mut rest) = (*next, packet.get(40..).unwrap_or_default());
    for _ in 0..MAX_HEADERS {
        let len = match next {
            UDP => return datagram(source.into(), destination.into(), rest),
            // Fragment header: harmless if it is the whole datagram.
            44 if u16_at(rest, 2).is_some_and(|field| field & 0xfff9 != 0) => return Err(Skipped::Fragment),
            44 => 8,
            // Hop-by-hop, routing and destination options.
            0 | 43 | 60 => 8 + usize::from(rest.get(1).copied().unwrap_or_default()) * 8,
            _ => return Err(Skipped::NotUdp),
        };
        next = *rest.first().ok_or(Skipped::NotUdp)?;
        rest = rest.get(len..).ok_or(Skipped::NotUdp)?;
    }
    Err(Skipped::NotUdp)
}

fn datagram(source: IpAddr, destination: IpAddr, udp: &[u8]) -> Result<Udp<'_>, Skipped> {
    let (Some(from), Some(to), Some(len)) = (u16_at(udp, 0), u16_at(udp, 2), u16_at(udp, 4)) else {
        return Err(Skipped::NotUdp);
    };
    let captured = udp.get(8..).ok_or(Skipped::NotUdp)?;
    let len = usize::from(len).checked_sub(8).ok_or(Skipped::NotUdp)?;
    let payload = captured.get(..len).unwrap_or(captured);
    Ok(Udp {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
        payload,
        cut: captured.len() < len,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A UDP header and its payload.
    fn transport(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len() + 8).unwrap();
        [&[from, to, len, 0].map(u16::to_be_bytes).concat()[..], payload].concat()
    }

    /// An IPv4 packet from the loopback address to itself.
    pub(crate) fn ipv4_packet(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let udp = transport(from, to, payload);
        let mut packet = vec![0x45, 0];
        packet.extend(u16::try_from(20 + udp.len()).unwrap().to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        packet.extend(udp);
        packet
    }

    fn ipv6_packet(headers: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, headers.first().map_or(17, |first| first.0), 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        for (index, (_, body)) in headers.iter().enumerate() {
            packet.push(headers.get(index + 1).map_or(17, |next| next.0));
            packet.extend(*body);
        }
        packet.extend(transport(1, 2, payload));
        packet
    }

    fn payload(link: u32, packet: &[u8]) -> Result<&[u8], Skipped> {
        udp(LinkType(link), packet).map(|udp| udp.payload)
    }

    #[test]
    fn every_link_layer_leads_to_the_datagram() {
        let ip = ipv4_packet(1000, 6778, b"payload");
        let behind = |header: &[u8]| [header, &ip].concat();
        let macs = [0; 12];
        for (link, packet) in [
            (1, behind(&[&macs[..], &[8, 0]].concat())),
            (1, behind(&[&macs[..], &[0x81, 0, 0, 5, 8, 0]].concat())),
            (1, behind(&[&macs[..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]].concat())),
            (0, behind(&[2, 0, 0, 0])),
            (108, behind(&[0, 0, 0, 2])),
            (101, ip.clone()),
            (228, ip.clone()),
            (113, behind(&[&[0; 14][..], &[8, 0]].concat())),
            (276, behind(&[&[8, 0][..], &[0; 18]].concat())),
        ] {
            let found = udp(LinkType(link), &packet).unwrap();
            assert_eq!(found.payload, b"payload", "{link}");
            assert_eq!(found.source, "127.0.0.1:1000".parse().unwrap());
            assert_eq!(found.destination, "127.0.0.1:6778".parse().unwrap());
            assert!(!found.cut);
        }
        assert_eq!(payload(105, &ip), Err(Skipped::UnknownLink));
    }

    #[test]
    fn ipv6_extension_headers_are_passed() {
        assert_eq!(payload(101, &ipv6_packet(&[], b"six")), Ok(&b"six"[..]));
        let options = [0, 0, 0, 0, 0, 0, 0];
        let long = [&[1][..], &[0; 14]].concat();
        assert_eq!(payload(101, &ipv6_packet(&[(0, &options), (60, &long)], b"six")), Ok(&b"six"[..]));
        let whole = [0, 0, 0, 0, 0, 0, 7];
        assert_eq!(payload(101, &ipv6_packet(&[(44, &whole)], b"six")), Ok(&b"six"[..]));
        let first = [0, 0, 1, 0, 0, 0, 7];
        assert_eq!(payload(101, &ipv6_packet(&[(44, &first)], b"six")), Err(Skipped::Fragment));
        assert_eq!(payload(101, &ipv6_packet(&[(58, &options)], b"six")), Err(Skipped::NotUdp));
    }

    #[test]
    fn padding_is_left_out_and_cuts_are_told() {
        let mut packet = ipv4_packet(1, 2, b"abc");
        packet.extend([0; 9]);
        assert_eq!(payload(101, &packet), Ok(&b"abc"[..]));
        packet.truncate(20 + 8 + 2);
        let found = udp(LinkType(101), &packet).unwrap();
        assert_eq!((found.payload, found.cut), (&b"ab"[..], true));
    }

    #[test]
    fn other_traffic_and_fragments_are_told_apart() {
        let mut packet = ipv4_packet(1, 2, b"abc");
        packet[6] = 0x20;
        assert_eq!(payload(101, &packet), Err(Skipped::Fragment));
        packet[6] = 0;
        packet[9] = 6;
        assert_eq!(payload(101, &packet), Err(Skipped::NotUdp));
        for end in 0..packet.len() {
            assert!(payload(101, &packet[..end]).is_err() && payload(1, &packet[..end]).is_err());
        }
        let whole = ipv6_packet(&[(0, &[0; 7])], b"abc");
        for end in 0..whole.len() {
            let _ = payload(101, &whole[..end]);
        }
    }
}
