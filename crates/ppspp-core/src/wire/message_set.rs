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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_section_7_10() {
        let mut set = MessageSet::ALL_KNOWN;
        for message in [
            MessageType::Ack,
            MessageType::PexReq,
            MessageType::PexResV4,
            MessageType::PexResV6,
            MessageType::PexResCert,
        ] {
            assert!(set.contains(message));
            set.remove(message);
            assert!(!set.contains(message));
        }
        assert_eq!(set.bitmap(), [0b1101_1001, 0b1111_0000]);
        assert_eq!(MessageSet::from_bitmap(&[0b1101_1001, 0b1111_0000]), Some(set));
    }

    #[test]
    fn bitmaps_are_cut_after_the_last_one() {
        assert_eq!(MessageSet::EMPTY.bitmap(), []);
        let mut set = MessageSet::EMPTY;
        set.insert(MessageType::Handshake);
        assert_eq!(set.bitmap(), [0x80]);
        set.insert(MessageType::PexResCert);
        assert_eq!(set.bitmap(), [0x80, 0x04]);
        assert_eq!(MessageSet::from_bitmap(&[0x80, 0x04, 0, 0]), Some(set));
        assert_eq!(set.iter().count(), 2);
        assert_eq!(MessageSet::ALL_KNOWN.iter().count(), MessageType::ALL.len());
    }

    #[test]
    fn unassigned_codes_are_kept_and_33_bytes_refused() {
        let set = MessageSet::from_bitmap(&[1; 32]).unwrap();
        assert_eq!(set.bitmap(), [1; 32]);
        assert_eq!(MessageSet::from_bitmap(&[0; 33]), None);
    }
}
