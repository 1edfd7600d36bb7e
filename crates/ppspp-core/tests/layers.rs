//! Holds the sources to the plan: rooms only look down, stay small and never name `std`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::slice;

/// Every room and the rooms it may name (`*`: all before it), from the lowest up; a room may always name itself.
const ROOMS: &[(&str, &str)] = &[
    ("time", ""),
    ("chunk", ""),
    ("wire", "time chunk"),
    ("stats", "time wire"),
    ("integrity", "time chunk wire"),
    ("availability", "chunk"),
    ("congestion", "time chunk"),
    ("policy", "time"),
    ("config", "time chunk wire integrity congestion policy"),
    ("error", "time chunk wire integrity config"),
    ("event", "time chunk wire stats integrity config error"),
    ("pex", "time config policy"),
    ("context", "time chunk wire stats integrity policy config event"),
    ("io", ""),
    ("progress", "chunk integrity"),
    ("negotiation", "chunk wire integrity config event"),
    ("schedule", "time chunk availability config"),
    ("channel", "*"),
    ("swarm", "*"),
    ("endpoint", "*"),
];

/// Lines a file may have before its tests; a longer one needs a wall.
const MAX_LINES: usize = 600;

/// The sources, by path within `src`.
type Sources = BTreeMap<PathBuf, String>;

/// A word or a mark of the source, and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// Splits `source` into words, `::` and single marks; leaves out space, comments, literals and lifetimes.
fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (len, kept) = if let Some(len) = skipped(rest) {
            (len, false)
        } else if word_len(rest) > 0 {
            (word_len(rest), true)
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let (text, after) = rest.split_at(len);
        if kept {
            found.push(Token { text: text.into(), line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// Length of the word that `text` starts with.
fn word_len(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Length of the comment, string, character or lifetime that `rest` starts with.
fn skipped(rest: &str) -> Option<usize> {
    let until = |text: &str, end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    if rest.starts_with("//") {
        return Some(until(rest, "\n"));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    let literal = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let prefix = rest.len() - literal.len();
    if let Some(raw) = literal.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        return Some(prefix + 1 + hashes + 1 + until(body, &format!("\"{}", "#".repeat(hashes))));
    }
    if let Some(body) = literal.strip_prefix('"') {
        return Some(prefix + 1 + closed(body, '"'));
    }
    let body = literal.strip_prefix('\'')?;
    let mut chars = body.chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (_, Some('\'')) => Some(prefix + 1 + closed(body, '\'')),
        _ => Some(prefix + 1 + word_len(body)),
    }
}

/// Length of `body` up to and with the first `quote` that is not escaped.
fn closed(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if c == quote && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    body.len()
}

/// Length of the block comment, which may hold others, that `text` starts with.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += first.len_utf8();
        }
    }
    at
}

/// Whether `tokens` start with the given texts.
fn starts(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// Index after the bracket that closes the one at `open`.
fn close(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth <= 1 => return at + 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// What counts in one file.
#[derive(Default)]
struct Code {
    /// The tokens outside test items.
    tokens: Vec<Token>,
    /// Modules in files of their own that only tests see.
    test_files: Vec<String>,
    /// Lines before the test module.
    lines: usize,
}

/// Reads `source`, leaving out the items behind `#[cfg(test)]`.
fn code(source: &str) -> Code {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let all = tokens(source);
    let mut code = Code { lines: source.lines().count(), ..Code::default() };
    let mut at = 0;
    while at < all.len() {
        if !starts(&all[at..], &TEST) {
            code.tokens.push(all[at].clone());
            at += 1;
            continue;
        }
        let line = all[at].line;
        at += TEST.len();
        while starts(&all[at..], &["#", "["]) {
            at = close(&all, at + 1);
        }
        let mut end = at;
        while end < all.len() && !matches!(all[end].text.as_str(), ";" | "{" | "}") {
            end = if matches!(all[end].text.as_str(), "(" | "[") { close(&all, end) } else { end + 1 };
        }
        let block = starts(&all[end..], &["{"]);
        let named = all[at..end].iter().skip_while(|token| token.text != "mod").nth(1);
        match named {
            Some(_) if block => code.lines = code.lines.min(line - 1),
            Some(name) => code.test_files.push(name.text.clone()),
            None => {}
        }
        at = if block { close(&all, end) } else { (end + 1).min(all.len()) };
    }
    code
}

/// The module a file holds, from the crate root: `chunk/bin.rs` is `["chunk", "bin"]`, `lib.rs` is `[]`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
        path.pop();
    }
    path
}

/// The names that follow a path prefix which ends before `at`: one, or the first of each branch of a group.
fn heads(tokens: &[Token], at: usize) -> Vec<Token> {
    if !starts(&tokens[at..], &["{"]) {
        return tokens.get(at).cloned().into_iter().collect();
    }
    let end = close(tokens, at);
    let mut heads = Vec::new();
    let mut next = at + 1;
    let mut branch = true;
    while next + 1 < end {
        if branch {
            heads.push(tokens[next].clone());
        }
        branch = tokens[next].text == ",";
        next = if tokens[next].text == "{" { close(tokens, next) } else { next + 1 };
    }
    heads
}

/// The names right below the crate root that the code of a module `depth` levels below it uses.
fn root_names(tokens: &[Token], depth: usize) -> Vec<Token> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if starts(&tokens[at..], &["crate", "::"]) {
            names.extend(heads(tokens, at + 2));
        }
        let mut ups = 0;
        while starts(&tokens[at..], &["super", "::"]) {
            ups += 1;
            at += 2;
        }
        if ups == 0 {
            at += 1;
        } else if ups >= depth {
            names.extend(heads(tokens, at));
        }
    }
    names
}

/// The rooms that the room at `at` in the table may name.
fn allowed(at: usize) -> Vec<&'static str> {
    let (_, names) = ROOMS[at];
    if names == "*" { ROOMS[..at].iter().map(|(name, _)| *name).collect() } else { names.split(' ').collect() }
}

/// Every breach of the plan, as `file:line: what`.
fn breaches(sources: &Sources) -> Vec<String> {
    let read = sources.iter().map(|(file, source)| (file, module_path(file), code(source))).collect::<Vec<_>>();
    let test_files = read
        .iter()
        .flat_map(|(_, module, code)| code.test_files.iter().map(|name| [&module[..], slice::from_ref(name)].concat()))
        .collect::<Vec<_>>();
    let mut found = Vec::new();
    for (file, module, code) in &read {
        if test_files.iter().any(|test_file| module.starts_with(test_file)) {
            continue;
        }
        let mut report = |line: usize, what: &str| found.push(format!("{}:{line}: {what}", file.display()));
        if code.lines > MAX_LINES {
            report(code.lines, "more than 600 lines before the tests");
        }
        for pair in code.tokens.windows(2) {
            // `extern crate std` alone gives nothing away: a derive behind a feature needs it.
            if pair[1].text == "std" && pair[0].text != "crate" {
                report(pair[1].line, "names std");
            }
        }
        // The crate root wires the rooms and lies in none.
        let Some(room) = module.first() else { continue };
        let Some(at) = ROOMS.iter().position(|(name, _)| name == room) else {
            report(1, &format!("room {room} has no place in the table of tests/layers.rs"));
            continue;
        };
        for name in root_names(&code.tokens, module.len()) {
            if name.text != *room && !allowed(at).contains(&name.text.as_str()) {
                report(name.line, &format!("{room} may not name crate::{}", name.text));
            }
        }
    }
    found
}

/// Reads every `.rs` file below `folder`.
fn read_sources(root: &Path, folder: &Path, sources: &mut Sources) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(root).map_err(io::Error::other)?.to_path_buf();
            sources.insert(file, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn the_sources_keep_to_the_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    read_sources(&root, &root, &mut sources).unwrap();
    assert!(sources.contains_key(Path::new("chunk/bin.rs")), "the sources were found");
    let found = breaches(&sources);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_table_only_looks_down() {
    for (at, (room, names)) in ROOMS.iter().enumerate() {
        let lower = ROOMS[..at].iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert!(!lower.contains(room), "{room} has one place");
        let looks_down = names.is_empty() || allowed(at).iter().all(|name| lower.contains(name));
        assert!(looks_down, "{room} names a room that is not below it");
    }
}

/// The breaches of one file.
fn of(file: &str, source: &str) -> Vec<String> {
    breaches(&Sources::from([(file.into(), source.into())]))
}

#[test]
fn a_look_up_is_found() {
    let cases = [
        ("time.rs", "use crate::chunk::Bin;", 1, "time may not name crate::chunk"),
        ("time.rs", "\nuse super::chunk::Bin;", 2, "time may not name crate::chunk"),
        ("wire/mod.rs", "use super::swarm;", 1, "wire may not name crate::swarm"),
        ("wire/a.rs", "use super::super::swarm::X;", 1, "wire may not name crate::swarm"),
        ("wire/a/b.rs", "use super::super::super::{chunk::X, swarm};", 1, "wire may not name crate::swarm"),
        ("wire/mod.rs", "use crate::{\n    chunk::{Bin, X},\n    event,\n};", 3, "wire may not name crate::event"),
        ("wire/mod.rs", "fn f<'a>(c: &'a u8) -> crate::event::E<'a> {}", 1, "wire may not name crate::event"),
        ("wire/mod.rs", "const Q: char = '\"'; use crate::event::E;", 1, "wire may not name crate::event"),
        ("wire/mod.rs", "const Q: char = '\\''; use crate::event::E;", 1, "wire may not name crate::event"),
        ("wire/mod.rs", "use crate::Endpoint;", 1, "wire may not name crate::Endpoint"),
        ("swarm/mod.rs", "use crate::{channel, endpoint};", 1, "swarm may not name crate::endpoint"),
        ("wire/mod.rs", "use crate::*;", 1, "wire may not name crate::*"),
        ("wire/mod.rs", "#[cfg(test)]\nuse a::{b};\nuse crate::event;", 3, "wire may not name crate::event"),
        ("wire/mod.rs", "#[cfg(test)]\nmod tests {}\nuse crate::event;", 3, "wire may not name crate::event"),
        ("attic/mod.rs", "", 1, "room attic has no place in the table of tests/layers.rs"),
        ("chunk/mod.rs", "fn f() { std::process::abort() }", 1, "names std"),
        ("lib.rs", "use std as s;", 1, "names std"),
    ];
    for (file, source, line, what) in cases {
        assert_eq!(of(file, source), [format!("{file}:{line}: {what}")], "{source}");
    }
    let long = "\n".repeat(MAX_LINES + 1);
    assert_eq!(of("time.rs", &long), ["time.rs:601: more than 600 lines before the tests"]);
    assert_eq!(of("time.rs", &format!("{long}\n#[cfg(test)]\nmod tests {{}}")).len(), 1);
}

#[test]
fn what_is_allowed_is_not_reported() {
    let cases = [
        ("lib.rs", "pub use crate::endpoint::Endpoint;\n#[cfg(test)]\nextern crate std;"),
        ("wire/mod.rs", "use crate::chunk::{Bin, X};\npub(crate) use crate::wire::a;\npub(in crate::wire) fn f() {}"),
        ("wire/a.rs", "use super::{endpoint, swarm};\nuse super::b::swarm;"),
        ("wire/a/b.rs", "use super::super::event;"),
        ("swarm/a.rs", "use crate::{channel::C, swarm::b, time::Instant};"),
        ("wire/a.rs", "// use crate::event;\n/* /* */ crate::event */ const S: &str = \"crate::event \\\" std::fs\";"),
        (
            "wire/a.rs",
            "const S: &[u8] = br#\"\" crate::event\"#; const C: u8 = b'\\''; /// [`crate::event`]\nfn f() {}",
        ),
        ("wire/a.rs", "#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n use std::vec; fn f() { crate::swarm::f() }\n}"),
        ("wire/a.rs", "#[cfg(test)] fn f(x: [u8; 2]) -> std::io::Result<()> { crate::event::f() }"),
    ];
    for (file, source) in cases {
        assert_eq!(of(file, source), [""; 0], "{source}");
    }
    let tests = format!("\n#[cfg(test)]\nmod tests {{{}}}", "\n".repeat(MAX_LINES));
    assert_eq!(of("time.rs", &tests), [""; 0]);
    let twin = "use std::vec; use crate::swarm::S;";
    let only_for_tests = Sources::from([
        ("wire/mod.rs".into(), "#[cfg(test)]\npub(crate) mod twin;".into()),
        ("wire/twin.rs".into(), twin.into()),
    ]);
    assert_eq!(breaches(&only_for_tests), [""; 0]);
    assert_eq!(of("wire/twin.rs", twin).len(), 2);
}
