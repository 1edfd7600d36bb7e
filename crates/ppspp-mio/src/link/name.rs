//! File names that came from elsewhere.

use std::fmt;

/// A file name without surprises: one component, never a path, that every common file system takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileName(String);

impl FileName {
    /// Longest name in bytes: leaves room below the usual 255 for the suffixes of unfinished files.
    pub const MAX_BYTES: usize = 200;

    /// The name closest to `text`. Separators, control and direction-changing characters, and what Windows refuses
    /// become `_`, as do a leading dot or dash and trailing dots and spaces; reserved device names get a `_` in front.
    pub fn sanitise(text: &str) -> Self {
        let mut name: String = text.chars().map(|c| if is_safe(c) { c } else { '_' }).collect();
        shorten(&mut name);
        let kept = name.trim_end_matches(['.', ' ']).len();
        if kept < name.len() {
            name.truncate(kept);
            name.push('_');
        }
        if name.starts_with(['.', '-', ' ']) {
            name.replace_range(..1, "_");
        }
        if name.is_empty() || is_reserved(&name) {
            name.insert(0, '_');
            shorten(&mut name);
        }
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Cuts the name to [`FileName::MAX_BYTES`], between characters.
fn shorten(name: &mut String) {
    let mut end = name.len().min(FileName::MAX_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
}

/// Whether the character may stand in a file name everywhere, and does not change how the rest is shown.
fn is_safe(c: char) -> bool {
    let changes_direction = matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !changes_direction && !matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// Whether Windows takes the name for a device, whatever its extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for FileName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hint_is_never_a_path() {
        for (text, name) in [
            ("film.mkv", "film.mkv"),
            ("Größe 1.txt", "Größe 1.txt"),
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("/etc/passwd", "_etc_passwd"),
            ("..\\boot.ini", "_._boot.ini"),
            ("..", "_"),
            (".", "_"),
            ("", "_"),
            (".bashrc", "_bashrc"),
            ("-rf", "_rf"),
            ("a\0b\nc", "a_b_c"),
            ("gpj.\u{202e}exe", "gpj._exe"),
            ("name. . ", "name_"),
            ("con", "_con"),
            ("LPT1.txt", "_LPT1.txt"),
            ("COM10", "COM10"),
            ("console", "console"),
        ] {
            assert_eq!(FileName::sanitise(text).as_str(), name, "{text:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = FileName::sanitise(&"ä".repeat(300));
        assert_eq!(name.as_str(), "ä".repeat(100));
        assert!(FileName::sanitise(&format!("nul.{}", "x".repeat(400))).as_str().len() <= FileName::MAX_BYTES);
    }

    proptest! {
        #[test]
        fn every_text_becomes_one_plain_component(text in any::<String>()) {
            let name = FileName::sanitise(&text);
            prop_assert!(!name.as_str().is_empty() && name.as_str().len() <= FileName::MAX_BYTES);
            let components: Vec<_> = Path::new(name.as_str()).components().collect();
            prop_assert_eq!(components, [Component::Normal(name.as_str().as_ref())]);
            prop_assert_eq!(FileName::sanitise(name.as_str()), name);
        }

        #[test]
        fn tame_names_stay(text in "[A-Za-z0-9][A-Za-z0-9 ._-]{0,40}[A-Za-z0-9]") {
            prop_assume!(!is_reserved(&text));
            let name = FileName::sanitise(&text);
            prop_assert_eq!(name.as_str(), text);
        }
    }
}
