//! The set of message types in option 8.

use core::fmt;

use super::message::MessageType;

/// A set of message types, by code, 256 bits (RFC 7574 §7.10). Holds unassigned codes as received.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageSet([u8; Self::MAX_LEN]);

impl MessageSet {
    /// Longest bitmap in bytes: one bit for each of the 256 codes.
    pub const MAX_LEN: usize = 32;

    /// No message.
    pub const EMPTY: Self = Self([0; Self::MAX_LEN]);

    /// Every message that RFC 7574 assigns.
    pub const ALL_KNOWN: Self = {
        let mut bits = [0; Self::MAX_LEN];
        bits[0] = 0xff;
        bits[1] = 0xfc;
        Self(bits)
    };

    /// The set in a compressed bitmap; `None` above 32 bytes. Trailing zero bytes are allowed.
    pub(super) fn from_bitmap(bitmap: &[u8]) -> Option<Self> {
        let mut bits = [0; Self::MAX_LEN];
        bits.get_mut(..bitmap.len())?.copy_from_slice(bitmap);
        Some(Self(bits))
    }

    /// The compressed bitmap: one bit per code, most significant first, up to the last byte that is not zero.
    pub fn bitmap(&self) -> &[u8] {
        let mut bitmap: &[u8] = &self.0;
        while let Some((0, shorter)) = bitmap.split_last() {
            bitmap = shorter;
        }
        bitmap
    }

    /// Whether `message` is in the set.
    pub fn contains(&self, message: MessageType) -> bool {
        let (index, mask) = Self::position(message);
        self.0.get(index).is_some_and(|byte| byte & mask != 0)
    }

    /// Puts `message` into the set.
    pub fn insert(&mut self, message: MessageType) {
        let (index, mask) = Self::position(message);
        if let Some(byte) = self.0.get_mut(index) {
            *byte |= mask;
        }
    }

    /// Takes `message` out of the set.
    pub fn remove(&mut self, message: MessageType) {
        let (index, mask) = Self::position(message);
        if let Some(byte) = self.0.get_mut(index) {
            *byte &= !mask;
        }
    }

    /// The assigned message types in the set, by code.
    pub fn iter(&self) -> impl Iterator<Item = MessageType> {
        MessageType::ALL.into_iter().filter(|message| self.contains(*message))
    }

    const fn position(message: MessageType) -> (usize, u8) {
        let code = message.code();
        ((code >> 3) as usize, 0x80 >> (code & 7))
    }
}

impl fmt::Debug for MessageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
