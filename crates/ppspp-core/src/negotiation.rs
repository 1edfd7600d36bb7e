//! Our options and theirs: what we offer, and whether what they offer fits (RFC 7574 §3.1.1, §7).

use crate::config::Metadata;
use crate::event::Incompatible;
use crate::integrity::HashFunction;
use crate::wire::{ChannelId, Handshake, MessageSet, MessageType};

/// The protocol version spoken here, lowest and highest.
pub(crate) const VERSION: u8 = 1;
/// Code of the Merkle Hash Tree method (RFC 7574 §7.5).
const MERKLE: u8 = 1;

/// What was agreed on with one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    /// A draft-10 peer, which does not know options 8 and 9 (R6).
    pub(crate) older: bool,
    /// Message types the peer understands.
    pub(crate) messages: MessageSet,
}

/// Which side of the handshake a HANDSHAKE comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// The message types understood here; a proper subset, so option 8 is sent (RFC 7574 §7.10). PEX only with `pex`.
pub(crate) fn supported_messages(pex: bool) -> MessageSet {
    let mut set = MessageSet::default();
    for kind in [
        MessageType::Handshake,
        MessageType::Data,
        MessageType::Ack,
        MessageType::Have,
        MessageType::Integrity,
        MessageType::Request,
        MessageType::Cancel,
        MessageType::Choke,
        MessageType::Unchoke,
    ] {
        set.insert(kind);
    }
    if pex {
        for kind in [MessageType::PexReq, MessageType::PexResV4, MessageType::PexResV6] {
            set.insert(kind);
        }
    }
    set
}

/// Our HANDSHAKE for `metadata`. With `older`, without the options draft-10 peers stumble over (R6, R7).
pub(crate) fn offer(metadata: &Metadata, source: ChannelId, role: Role, older: bool, pex: bool) -> Handshake<'_> {
    Handshake {
        source,
        version: Some(VERSION),
        min_version: Some(VERSION),
        // R6: libperegrine refuses a reply that names the swarm.
        swarm_id: match role {
            Role::Initiator => Some(metadata.root.as_slice()),
            Role::Responder => None,
        },
        integrity_method: Some(MERKLE),
        hash_function: Some(metadata.function.code()),
        addressing: Some(metadata.addressing.code()),
        supported_messages: if older { None } else { Some(supported_messages(pex)) },
        chunk_size: if older { None } else { Some(metadata.chunk_size.bytes()) },
        ..Handshake::default()
    }
}

/// Checks a peer's HANDSHAKE, sent in `role`, against the swarm's metadata.
///
/// Only SHA-1 swarms take draft-10 peers, which leave out the chunk size and may leave out the hash function.
pub(crate) fn check(metadata: &Metadata, theirs: &Handshake<'_>, role: Role) -> Result<Session, Incompatible> {
    check_version(theirs, role)?;
    match (theirs.swarm_id, role) {
        (Some(id), _) if id != metadata.root.as_slice() => return Err(Incompatible::SwarmId),
        (None, Role::Initiator) => return Err(Incompatible::MissingOption("Swarm Identifier")),
        _ => {}
    }
    let older = theirs.chunk_size.is_none() && metadata.function == HashFunction::Sha1;
    let method = theirs.integrity_method.ok_or(Incompatible::MissingOption("Content Integrity Protection Method"))?;
    if method != MERKLE {
        return Err(Incompatible::IntegrityMethod { theirs: method, ours: MERKLE });
    }
    let function = match theirs.hash_function {
        Some(code) => code,
        // NOTES 5: in draft-10 an absent option 4 means SHA-1.
        None if older => HashFunction::Sha1.code(),
        None => return Err(Incompatible::MissingOption("Merkle Hash Tree Function")),
    };
    if function != metadata.function.code() {
        return Err(Incompatible::HashFunction { theirs: function, ours: metadata.function.code() });
    }
    let addressing = theirs.addressing.ok_or(Incompatible::MissingOption("Chunk Addressing Method"))?;
    if addressing != metadata.addressing.code() {
        return Err(Incompatible::Addressing { theirs: addressing, ours: metadata.addressing.code() });
    }
    match theirs.chunk_size {
        Some(size) if size != metadata.chunk_size.bytes() => {
            return Err(Incompatible::ChunkSize { theirs: size, ours: metadata.chunk_size.bytes() });
        }
        None if !older => return Err(Incompatible::MissingOption("Chunk Size")),
        _ => {}
    }
    Ok(Session { older, messages: theirs.supported_messages.unwrap_or(MessageSet::ALL_KNOWN) })
}

/// RFC 7574 §7.2, §7.3 and RFC 6709 §4.1: the ranges of versions must overlap. Version 0 is reserved.
fn check_version(theirs: &Handshake<'_>, role: Role) -> Result<(), Incompatible> {
    let maximum = theirs.version.ok_or(Incompatible::MissingOption("Version"))?;
    let minimum = match (theirs.min_version, role) {
        (Some(minimum), _) => minimum,
        (None, Role::Responder) => maximum.min(VERSION),
        (None, Role::Initiator) => return Err(Incompatible::MissingOption("Minimum Version")),
    };
    if maximum < VERSION || minimum > VERSION || minimum == 0 {
        return Err(Incompatible::Version { minimum, maximum });
    }
    Ok(())
}
