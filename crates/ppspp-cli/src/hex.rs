//! Bytes in hexadecimal digits.

use std::fmt;

/// Shows bytes in lower-case hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The bytes that hexadecimal digits stand for; white space and colons between them are ignored.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let mut digits = Vec::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != ':') {
        digits.push(u8::try_from(c.to_digit(16)?).ok()?);
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    (rest.is_empty() && !pairs.is_empty()).then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_pairs() {
        assert_eq!(unhex("00 fF:1a\n"), Some(vec![0, 0xff, 0x1a]));
        assert_eq!(Hex(&[0, 0xff, 0x1a]).to_string(), "00ff1a");
        for text in ["", " ", "abc", "0g", "0x00", "٣٣"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
