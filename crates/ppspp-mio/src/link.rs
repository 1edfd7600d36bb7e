//! The link: one line of text that names a content and where to find it.
//!
//! ```text
//! ppsp://HOST:PORT[,HOST:PORT…]/<swarm id in hex>?key=value&…
//! ```
//!
//! Hosts may be left out (`ppsp:///<id>`). The keys are those of libswift's links, their values the codes and numbers
//! of RFC 7574 §7 in decimal:
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `v` | protocol version (§7.2) | 1 |
//! | `cp` | content integrity protection method (§7.5) | 1, Merkle hash tree |
//! | `hf` | Merkle hash function (§7.6) | 2, SHA-256 |
//! | `ca` | chunk addressing method (§7.8) | 2, 32-bit chunk ranges |
//! | `cs` | chunk size in bytes (§7.11, R3) | 1024 |
//! | `cl` | content length in bytes | unknown |
//! | `ld` | live discard window; checked, of no use to static content | none |
//! | `et`, `mt` | external tracker, MIME type; checked, not used | none |
//! | `fn` | hint for the file name | none |
//!
//! Only what differs from the default is written, and always the content length. Other keys are ignored.

mod host;
mod name;
mod percent;

use std::fmt;
use std::str::FromStr;

use ppspp_core::Metadata;
use ppspp_core::chunk::{ChunkAddressing, ChunkSize, GeometryError};
use ppspp_core::integrity::{Hash, HashFunction};
use thiserror::Error;

pub use host::{HostError, HostName, HostPort};
pub use name::FileName;

/// Longest link that is read, in bytes; longer ones are no work of ours.
pub const MAX_LINK_BYTES: usize = 8 * 1024;

/// Most hosts in one link; each costs a handshake.
pub const MAX_HOSTS: usize = 64;

const SCHEME: &str = "ppsp://";

/// A content and where to find it. See the [module](self) for its text form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Where peers may be found, in the order given; possibly none.
    pub hosts: Vec<HostPort>,
    /// What must be known of the content to join its swarm.
    pub metadata: Metadata,
    /// What to call the content's file.
    pub name: Option<FileName>,
}

/// Text that is not a usable link. Every message names the part, what it is and what it should be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The text is longer than [`MAX_LINK_BYTES`].
    #[error("the link has {0} bytes, at most {MAX_LINK_BYTES} are read")]
    TooLong(usize),
    /// The text does not start with `ppsp://`.
    #[error("the link does not start with ppsp://")]
    Scheme,
    /// There is no `/` after the hosts.
    #[error("the link has no swarm id: write ppsp://HOST:PORT/ID, or ppsp:///ID without hosts")]
    NoSwarmId,
    /// More hosts than [`MAX_HOSTS`].
    #[error("the link names {0} hosts, at most {MAX_HOSTS} are tried")]
    TooManyHosts(usize),
    /// A host is malformed or cannot be a peer's.
    #[error("the link's host is unusable: {0}")]
    Host(#[from] HostError),
    /// The swarm id is not hexadecimal.
    #[error("the link's swarm id is not made of pairs of hexadecimal digits")]
    SwarmIdHex,
    /// The swarm id has not the length of the hash function's values.
    #[error("the link's swarm id has {actual} bytes, {function} makes {expected}: copy it whole, or set hf")]
    SwarmIdLength {
        /// Bytes the swarm id has.
        actual: usize,
        /// Bytes the hash function yields.
        expected: usize,
        /// The hash function that `hf` names.
        function: HashFunction,
    },
    /// A known key has a value that it cannot have.
    #[error("the link's {key}={value} is unusable: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value, shortened if it is long.
        value: String,
        /// What the value should be.
        reason: ValueReason,
    },
    /// A known key appears twice.
    #[error("the link has {0} twice, keep one")]
    Repeated(&'static str),
}

/// What is wrong with the value of a link's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ValueReason {
    /// Not a decimal number, or too large.
    #[error("it must be a decimal number")]
    Number,
    /// Not protocol version 1.
    #[error("only protocol version 1 is spoken")]
    Version,
    /// Content integrity protection method 0.
    #[error("content without integrity protection is refused, it must be 1 (Merkle hash tree)")]
    Unprotected,
    /// A method for live content.
    #[error("live content is not supported yet, it must be 1 (Merkle hash tree)")]
    Live,
    /// No content integrity protection method.
    #[error("no such content integrity protection method, it must be 1 (Merkle hash tree)")]
    Protection,
    /// No hash function.
    #[error("it must be 0 (sha1), 1 (sha224), 2 (sha256), 3 (sha384) or 4 (sha512)")]
    HashFunction,
    /// No chunk addressing method.
    #[error("it must be 0 (bin32), 1 (byte64), 2 (chunk32), 3 (bin64) or 4 (chunk64)")]
    Addressing,
    /// A chunk size or length that content cannot have.
    #[error("{0}")]
    Geometry(GeometryError),
    /// A value that is empty or not percent-encoded UTF-8.
    #[error("it must be percent-encoded text")]
    Text,
}

/// The keys that are read; what else a link says is ignored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Version,
    Protection,
    HashFunction,
    Addressing,
    ChunkSize,
    ContentLength,
    DiscardWindow,
    Tracker,
    MimeType,
    FileName,
}

impl Key {
    const ALL: [Self; 10] = [
        Self::Version,
        Self::Protection,
        Self::HashFunction,
        Self::Addressing,
        Self::ChunkSize,
        Self::ContentLength,
        Self::DiscardWindow,
        Self::Tracker,
        Self::MimeType,
        Self::FileName,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Version => "v",
            Self::Protection => "cp",
            Self::HashFunction => "hf",
            Self::Addressing => "ca",
            Self::ChunkSize => "cs",
            Self::ContentLength => "cl",
            Self::DiscardWindow => "ld",
            Self::Tracker => "et",
            Self::MimeType => "mt",
            Self::FileName => "fn",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    fn refuse(self, value: &str, reason: ValueReason) -> LinkError {
        /// Enough of a value to recognise it by.
        const SHOWN: usize = 40;
        let shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        LinkError::Value { key: self.name(), value: shown, reason }
    }

    fn number(self, value: &str) -> Result<u64, LinkError> {
        // u64::from_str takes a leading plus, a link does not.
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        value.parse().ok().filter(|_| digits).ok_or_else(|| self.refuse(value, ValueReason::Number))
    }
}

/// What the query says.
#[derive(Default)]
struct Query {
    seen: u16,
    function: HashFunction,
    addressing: ChunkAddressing,
    chunk_size: ChunkSize,
    content_length: Option<u64>,
    name: Option<FileName>,
}

impl Query {
    fn read(text: &str) -> Result<Self, LinkError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(key) = Key::ALL.into_iter().find(|known| known.name() == key) else { continue };
            if query.seen & key.bit() != 0 {
                return Err(LinkError::Repeated(key.name()));
            }
            query.seen |= key.bit();
            let decoded = percent::decode(value).filter(|decoded| !decoded.is_empty());
            query.set(key, &decoded.ok_or_else(|| key.refuse(value, ValueReason::Text))?)?;
        }
        Ok(query)
    }

    fn set(&mut self, key: Key, value: &str) -> Result<(), LinkError> {
        match key {
            Key::Version => match key.number(value)? {
                1 => {}
                _ => return Err(key.refuse(value, ValueReason::Version)),
            },
            Key::Protection => match key.number(value)? {
                1 => {}
                0 => return Err(key.refuse(value, ValueReason::Unprotected)),
                2 | 3 => return Err(key.refuse(value, ValueReason::Live)),
                _ => return Err(key.refuse(value, ValueReason::Protection)),
            },
            Key::HashFunction => {
                let code = u8::try_from(key.number(value)?).ok();
                let function = code.and_then(HashFunction::from_code);
                self.function = function.ok_or_else(|| key.refuse(value, ValueReason::HashFunction))?;
            }
            Key::Addressing => {
                let code = u8::try_from(key.number(value)?).ok();
                let addressing = code.and_then(ChunkAddressing::from_code);
                self.addressing = addressing.ok_or_else(|| key.refuse(value, ValueReason::Addressing))?;
            }
            Key::ChunkSize => {
                let bytes = u32::try_from(key.number(value)?).unwrap_or(u32::MAX);
                let size = ChunkSize::new(bytes);
                self.chunk_size = size.map_err(|error| key.refuse(value, ValueReason::Geometry(error)))?;
            }
            Key::ContentLength => self.content_length = Some(key.number(value)?),
            Key::DiscardWindow => drop(key.number(value)?),
            Key::Tracker | Key::MimeType => {}
            Key::FileName => self.name = Some(FileName::sanitise(value)),
        }
        Ok(())
    }

    fn metadata(&self, id: &str) -> Result<Metadata, LinkError> {
        let bytes = unhex(id).ok_or(LinkError::SwarmIdHex)?;
        let (actual, expected) = (bytes.len(), self.function.len());
        let root = Hash::from_slice(&bytes).filter(|_| actual == expected);
        let root = root.ok_or(LinkError::SwarmIdLength { actual, expected, function: self.function })?;
        let metadata = Metadata {
            root,
            function: self.function,
            addressing: self.addressing,
            chunk_size: self.chunk_size,
            content_length: self.content_length,
        };
        let length = self.content_length.unwrap_or_default();
        metadata
            .geometry()
            .map_err(|error| Key::ContentLength.refuse(&length.to_string(), ValueReason::Geometry(error)))?;
        Ok(metadata)
    }
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        if text.len() > MAX_LINK_BYTES {
            return Err(LinkError::TooLong(text.len()));
        }
        let (scheme, rest) = text.split_at_checked(SCHEME.len()).ok_or(LinkError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(LinkError::Scheme);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, id) = rest.split_once('/').ok_or(LinkError::NoSwarmId)?;
        if id.is_empty() {
            return Err(LinkError::NoSwarmId);
        }
        let count = hosts.split(',').count();
        if count > MAX_HOSTS {
            return Err(LinkError::TooManyHosts(count));
        }
        let hosts = match hosts {
            "" => Vec::new(),
            hosts => hosts.split(',').map(HostPort::from_str).collect::<Result<_, _>>()?,
        };
        let query = Query::read(query)?;
        Ok(Self { hosts, metadata: query.metadata(id)?, name: query.name })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        f.write_str("/")?;
        for byte in self.metadata.root.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        let Metadata { function, addressing, chunk_size, content_length, .. } = &self.metadata;
        let mut separator = '?';
        let mut number = |f: &mut fmt::Formatter<'_>, key: Key, value: Option<u64>| {
            let Some(value) = value else { return Ok(()) };
            write!(f, "{separator}{}={value}", key.name())?;
            separator = '&';
            Ok(())
        };
        let unusual = *function != HashFunction::default();
        number(f, Key::HashFunction, unusual.then(|| function.code().into()))?;
        let unusual = *addressing != ChunkAddressing::default();
        number(f, Key::Addressing, unusual.then(|| addressing.code().into()))?;
        let unusual = *chunk_size != ChunkSize::default();
        number(f, Key::ChunkSize, unusual.then(|| chunk_size.bytes().into()))?;
        number(f, Key::ContentLength, *content_length)?;
        if let Some(name) = &self.name {
            write!(f, "{separator}{}={}", Key::FileName.name(), percent::Encoded(name.as_str()))?;
        }
        Ok(())
    }
}

/// The bytes that pairs of hexadecimal digits stand for.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|v| u8::try_from(v).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const SHA1_ID: &str = "00112233445566778899aabbccddeeff00112233";

    fn parse(text: &str) -> Result<Link, String> {
        text.parse().map_err(|error: LinkError| error.to_string())
    }

    fn error(query: &str) -> String {
        parse(&format!("ppsp://localhost:6778/{ID}?{query}")).unwrap_err()
    }

    #[test]
    fn defaults_need_no_key() {
        let link = parse(&format!("ppsp:///{ID}")).unwrap();
        assert_eq!(link.metadata.function, HashFunction::Sha256);
        assert_eq!(link.metadata.addressing, ChunkAddressing::Chunk32);
        assert_eq!(link.metadata.chunk_size.bytes(), 1024);
        assert_eq!(link.metadata.content_length, None);
        assert!(link.hosts.is_empty() && link.name.is_none());
        assert_eq!(link.to_string(), format!("ppsp:///{ID}"));
    }

    #[test]
    fn every_key_is_read() {
        let text = format!(
            "PPSP://10.0.0.1:6778,[2001:db8::1]:7,example.org:8/{}?v=1&cp=1&hf=0&ca=3&cs=8192&cl=7162&ld=0&et=http%3A%2F%2Ft&mt=a/b&fn=a%20b.txt&new=x&",
            SHA1_ID.to_ascii_uppercase()
        );
        let link = parse(&text).unwrap();
        assert_eq!(link.hosts.len(), 3);
        assert_eq!(link.metadata.function, HashFunction::Sha1);
        assert_eq!(link.metadata.addressing, ChunkAddressing::Bin64);
        assert_eq!(link.metadata.content_length, Some(7162));
        assert_eq!(link.name.as_ref().map(FileName::as_str), Some("a b.txt"));
        let written = "ppsp://10.0.0.1:6778,[2001:db8::1]:7,example.org:8/".to_owned() + SHA1_ID;
        assert_eq!(link.to_string(), written + "?hf=0&ca=3&cs=8192&cl=7162&fn=a%20b.txt");
    }

    #[test]
    fn unknown_keys_are_ignored() {
        assert!(parse(&format!("ppsp:///{ID}?x&x=1&x=2&V=9&=3&%63%6c=0")).is_ok());
    }

    #[test]
    fn bad_values_name_their_key() {
        for (query, says) in [
            ("v=2", "the link's v=2 is unusable: only protocol version 1 is spoken"),
            (
                "cp=0",
                "the link's cp=0 is unusable: content without integrity protection is refused, it must be 1 (Merkle hash tree)",
            ),
            ("cp=3", "the link's cp=3 is unusable: live content is not supported yet, it must be 1 (Merkle hash tree)"),
            (
                "cp=9",
                "the link's cp=9 is unusable: no such content integrity protection method, it must be 1 (Merkle hash tree)",
            ),
            ("hf=sha1", "the link's hf=sha1 is unusable: it must be a decimal number"),
            (
                "hf=5",
                "the link's hf=5 is unusable: it must be 0 (sha1), 1 (sha224), 2 (sha256), 3 (sha384) or 4 (sha512)",
            ),
            (
                "ca=258",
                "the link's ca=258 is unusable: it must be 0 (bin32), 1 (byte64), 2 (chunk32), 3 (bin64) or 4 (chunk64)",
            ),
            ("cs=100", "the link's cs=100 is unusable: chunk size 100 is outside 512..=61440 bytes"),
            ("cs=+1024", "the link's cs=+1024 is unusable: it must be a decimal number"),
            ("cl=0", "the link's cl=0 is unusable: the content is empty; share at least one byte"),
            ("cl=18446744073709551616", "the link's cl=18446744073709551616 is unusable: it must be a decimal number"),
            ("cl", "the link's cl= is unusable: it must be percent-encoded text"),
            ("ld=x", "the link's ld=x is unusable: it must be a decimal number"),
            ("fn=%ff", "the link's fn=%ff is unusable: it must be percent-encoded text"),
            ("et=%", "the link's et=% is unusable: it must be percent-encoded text"),
            ("mt=", "the link's mt= is unusable: it must be percent-encoded text"),
            ("cs=512&cs=512", "the link has cs twice, keep one"),
            ("hf=0", "the link's swarm id has 32 bytes, sha1 makes 20: copy it whole, or set hf"),
        ] {
            assert_eq!(error(query), says, "{query}");
        }
    }

    #[test]
    fn contents_too_large_for_the_addressing_are_refused() {
        let says = error("ca=0&cs=512&cl=1099511627777");
        assert!(says.starts_with("the link's cl=1099511627777 is unusable: 2147483649 chunks"), "{says}");
        assert!(parse(&format!("ppsp:///{ID}?ca=0&cs=512&cl=1099511627776")).is_ok());
    }

    #[test]
    fn broken_links_are_refused() {
        for (text, says) in [
            ("http://x/".to_owned(), "the link does not start with ppsp://"),
            (String::new(), "the link does not start with ppsp://"),
            (
                "ppsp://localhost:6778".to_owned(),
                "the link has no swarm id: write ppsp://HOST:PORT/ID, or ppsp:///ID without hosts",
            ),
            (
                "ppsp:///?cl=5".to_owned(),
                "the link has no swarm id: write ppsp://HOST:PORT/ID, or ppsp:///ID without hosts",
            ),
            (format!("ppsp:///{}", &ID[1..]), "the link's swarm id is not made of pairs of hexadecimal digits"),
            (format!("ppsp:///{ID}/x"), "the link's swarm id is not made of pairs of hexadecimal digits"),
            (
                format!("ppsp:///{}", &ID[2..]),
                "the link's swarm id has 31 bytes, sha256 makes 32: copy it whole, or set hf",
            ),
            (
                format!("ppsp://a:1,/{ID}"),
                "the link's host is unusable: \"\" is not of the form HOST:PORT (IPv6 addresses in brackets)",
            ),
            (format!("ppsp://{}a:1/{ID}", "a:1,".repeat(64)), "the link names 65 hosts, at most 64 are tried"),
            (format!("ppsp:///{ID}?x={}", "x".repeat(9000)), "the link has 9075 bytes, at most 8192 are read"),
        ] {
            assert_eq!(parse(&text).unwrap_err(), says, "{text}");
        }
    }

    fn hosts() -> impl Strategy<Value = Vec<HostPort>> {
        let host = prop_oneof![
            "([1-9]|1[0-9]{2})\\.[0-9]\\.[0-9]\\.[0-9]",
            "\\[[1-9a-e][0-9a-f]{3}(:[1-9a-f]){7}\\]",
            "[a-z]{1,9}(\\.[a-z-]{1,9}){0,3}"
        ];
        let with_port = (host, 1..=u16::MAX).prop_map(|(host, port)| format!("{host}:{port}").parse().unwrap());
        prop::collection::vec(with_port, 0..5)
    }

    fn links() -> impl Strategy<Value = Link> {
        let function = prop::sample::select(HashFunction::ALL.to_vec());
        let addressing = prop::sample::select(ChunkAddressing::ALL.to_vec());
        let root = prop::collection::vec(any::<u8>(), 64);
        let length = prop::option::of(1..1u64 << 40);
        let name = prop::option::of(any::<String>());
        (hosts(), function, addressing, 512..=61_440u32, root, length, name).prop_map(
            |(hosts, function, addressing, chunk_size, root, content_length, name)| Link {
                hosts,
                metadata: Metadata {
                    root: Hash::from_slice(&root[..function.len()]).unwrap(),
                    function,
                    addressing,
                    chunk_size: ChunkSize::new(chunk_size).unwrap(),
                    content_length,
                },
                name: name.map(|name| FileName::sanitise(&name)),
            },
        )
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(link in links()) {
            let text = link.to_string();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(text.parse(), Ok(link));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), tail in "[a-z0-9:/?&=%,\\[\\].]{0,80}") {
            let _ = text.parse::<Link>();
            let _ = format!("ppsp://{tail}{text}").parse::<Link>();
            let _ = format!("ppsp:///{ID}?{tail}{text}").parse::<Link>();
        }

        #[test]
        fn damaged_links_do_not_panic(link in links(), at in any::<prop::sample::Index>(), with in any::<char>()) {
            let mut text = link.to_string();
            let at = at.index(text.len());
            text.replace_range(at..=at, &with.to_string());
            if let Ok(read) = text.parse::<Link>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
