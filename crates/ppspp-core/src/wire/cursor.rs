//! Reading big-endian fields off a datagram.

use super::error::{WireError, WireErrorKind};
use super::message::MessageType;

/// The unread part of a datagram's body, with what its errors need to say.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    body_len: usize,
    message: Option<MessageType>,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self { rest: body, body_len: body.len(), message: None }
    }

    /// What follows the first `offset` bytes of `body`.
    #[inline]
    pub(super) const fn from_offset(body: &'a [u8], offset: usize) -> Self {
        let rest = match body.split_at_checked(offset) {
            Some((_, rest)) => rest,
            None => &[],
        };
        Self { rest, body_len: body.len(), message: None }
    }

    /// Names the message whose fields are read from here on.
    #[inline]
    pub(super) const fn begin(&mut self, message: Option<MessageType>) {
        self.message = message;
    }

    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Position of the next byte in the body.
    #[inline]
    pub(super) const fn offset(&self) -> usize {
        self.body_len.saturating_sub(self.rest.len())
    }

    /// An error at `offset` in the current message.
    #[cold]
    pub(super) const fn error_at(&self, offset: usize, kind: WireErrorKind) -> WireError {
        WireError::new(self.message, offset, kind)
    }

    #[cold]
    const fn truncated(&self, field: &'static str, needed: usize) -> WireError {
        self.error_at(self.offset(), WireErrorKind::Truncated { field, needed, available: self.rest.len() })
    }

    /// The next bytes if there are as many: for fields that are read together.
    #[inline]
    pub(super) const fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Some(*head)
            }
            None => None,
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        match self.take() {
            Some(bytes) => Ok(bytes),
            None => Err(self.truncated(field, N)),
        }
    }

    #[inline]
    pub(super) fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        match self.rest.split_at_checked(len) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.truncated(field, len)),
        }
    }

    /// Up to `most` bytes: all that is left if that is less.
    #[inline]
    pub(super) fn at_most(&mut self, most: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at_checked(most).unwrap_or((self.rest, &[]));
        self.rest = rest;
        head
    }

    #[inline]
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(u8::from_be_bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_be_bytes)
    }
}
