//! Where a peer may be found.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU16;
use std::str::FromStr;

use thiserror::Error;

/// A DNS name: labels of letters, digits, hyphens and underscores, at most 253 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostName(String);

impl HostName {
    fn new(text: &str) -> Option<Self> {
        let label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
        };
        // A last label of digits alone is a mistyped IPv4 address.
        let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        (text.len() <= 253 && !numeric && text.split('.').all(label)).then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address or name of a host and a UDP port, `HOST:PORT` in text, IPv6 addresses in brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HostPort {
    /// An address, and a port.
    Address(IpAddr, NonZeroU16),
    /// A name to be resolved, and a port.
    Name(HostName, NonZeroU16),
}

/// Text that does not name a host and port where a peer could be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// Not of the form `HOST:PORT`.
    #[error("{0:?} is not of the form HOST:PORT (IPv6 addresses in brackets)")]
    Form(String),
    /// The port is not a number from 1 to 65,535.
    #[error("{0:?} has no port from 1 to 65535")]
    Port(String),
    /// The address has a zone, the interface by which one machine reaches it.
    #[error("{0:?} has a zone, which means nothing on other machines; name an address that needs none")]
    Zone(String),
    /// The address is unspecified or multicast.
    #[error("{0} is not the address of one host")]
    NotUnicast(IpAddr),
}

impl HostPort {
    /// The UDP port.
    pub const fn port(&self) -> NonZeroU16 {
        match self {
            Self::Address(_, port) | Self::Name(_, port) => *port,
        }
    }

    /// The addresses of the host; asks the system's resolver if it is a name, and blocks meanwhile.
    ///
    /// # Errors
    /// What the resolver says, or [`io::ErrorKind::NotFound`] if the name has no address.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Address(ip, port) => Ok(vec![SocketAddr::new(*ip, port.get())]),
            Self::Name(name, port) => {
                let found: Vec<_> = (name.as_str(), port.get()).to_socket_addrs()?.collect();
                if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
            }
        }
    }
}

impl TryFrom<SocketAddr> for HostPort {
    type Error = HostError;

    fn try_from(address: SocketAddr) -> Result<Self, HostError> {
        let port = NonZeroU16::new(address.port()).ok_or_else(|| HostError::Port(address.to_string()))?;
        let ip = address.ip().to_canonical();
        let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(HostError::NotUnicast(ip));
        }
        Ok(Self::Address(ip, port))
    }
}

impl FromStr for HostPort {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        /// Enough of the text to recognise it by.
        const SHOWN: usize = 80;
        let shown = || text.chars().take(SHOWN).collect::<String>();
        let (host, port) = text.rsplit_once(':').ok_or_else(|| HostError::Form(shown()))?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.parse::<NonZeroU16>().ok().filter(|_| digits).ok_or_else(|| HostError::Port(shown()))?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let ip = match bracketed {
            Some(inner) if inner.contains('%') => return Err(HostError::Zone(shown())),
            Some(inner) => Some(IpAddr::V6(inner.parse::<Ipv6Addr>().map_err(|_| HostError::Form(shown()))?)),
            None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        match ip {
            Some(ip) => Self::try_from(SocketAddr::new(ip, number.get())),
            None => HostName::new(host).map(|name| Self::Name(name, number)).ok_or_else(|| HostError::Form(shown())),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip, port) => SocketAddr::new(*ip, port.get()).fmt(f),
            Self::Name(name, port) => write!(f, "{}:{port}", name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        for text in ["127.0.0.1:6778", "[::1]:1", "[2001:db8::7]:65535", "localhost:80", "a-b.example.org:6778"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        let mapped: HostPort = "[::ffff:10.0.0.1]:7".parse().unwrap();
        assert_eq!(mapped.to_string(), "10.0.0.1:7");
    }

    #[test]
    fn unusable_hosts_are_named() {
        for (text, says) in [
            ("localhost", "\"localhost\" is not of the form HOST:PORT (IPv6 addresses in brackets)"),
            ("localhost:", "\"localhost:\" has no port from 1 to 65535"),
            ("localhost:0", "\"localhost:0\" has no port from 1 to 65535"),
            ("localhost:65536", "\"localhost:65536\" has no port from 1 to 65535"),
            ("localhost:+80", "\"localhost:+80\" has no port from 1 to 65535"),
            (":80", "\":80\" is not of the form HOST:PORT (IPv6 addresses in brackets)"),
            ("::1:80", "\"::1:80\" is not of the form HOST:PORT (IPv6 addresses in brackets)"),
            ("[::1:80", "\"[::1:80\" is not of the form HOST:PORT (IPv6 addresses in brackets)"),
            ("300.1.1.1:80", "\"300.1.1.1:80\" is not of the form HOST:PORT (IPv6 addresses in brackets)"),
            ("a b:80", "\"a b:80\" is not of the form HOST:PORT (IPv6 addresses in brackets)"),
            ("0.0.0.0:80", "0.0.0.0 is not the address of one host"),
            ("[::]:80", ":: is not the address of one host"),
            (
                "[fe80::1%4]:80",
                "\"[fe80::1%4]:80\" has a zone, which means nothing on other machines; name an address that needs none",
            ),
            ("[ff02::1]:80", "ff02::1 is not the address of one host"),
            ("255.255.255.255:80", "255.255.255.255 is not the address of one host"),
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap_err().to_string(), says, "{text}");
        }
    }

    #[test]
    fn an_address_resolves_to_itself() {
        let host: HostPort = "[::1]:9".parse().unwrap();
        assert_eq!(host.resolve().unwrap(), ["[::1]:9".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]:.0-9a-z%]{0,30}") {
            if let Ok(host) = text.parse::<HostPort>() {
                prop_assert_eq!(host.to_string().parse::<HostPort>(), Ok(host));
            }
        }
    }
}
