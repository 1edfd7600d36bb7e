//! `--json`: every line is an object, and `docs/JSON.md` describes every event and key that is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Place, partial};

type Keys = BTreeMap<String, BTreeSet<String>>;

/// What stands between the first two backticks of `line` behind `prefix`.
fn quoted<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    line.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()
}

/// The events and keys that the document describes.
fn documented() -> Keys {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/JSON.md");
    let mut events = Keys::new();
    let mut event = None;
    for line in fs::read_to_string(path).unwrap().lines() {
        if let Some(name) = quoted(line, "## ") {
            event = Some(events.entry(name.to_owned()).or_default());
        } else if let (Some(keys), Some(key)) = (&mut event, quoted(line, "| ")) {
            keys.insert(key.to_owned());
        }
    }
    events
}

/// Adds the keys of `value` and, with dots, of the objects within; names of message types are a star.
fn collect(prefix: &str, value: &Value, keys: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let is_type = prefix == "messages." && key.chars().all(|c| c.is_ascii_uppercase() || "_v46cert".contains(c));
        let path = format!("{prefix}{}", if is_type { "*" } else { key });
        collect(&format!("{path}."), value, keys);
        if !is_type {
            keys.insert(path);
        }
    }
}

/// The events and keys of `lines`.
fn printed(lines: &str, events: &mut Keys) {
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // The description of `hash` has the keys of `seeding`.
        let event = value["event"].as_str().unwrap_or("seeding").to_owned();
        let keys = events.entry(event).or_default();
        collect("", &value, keys);
        keys.remove("event");
    }
}

#[test]
fn every_event_and_key_is_documented() {
    let place = Place::new();
    let original = place.file("original", 200_000);
    let mut seen = Keys::new();

    let mut seeder = place.seed(&original, &["--json", "--stats"]);
    let first: Value = serde_json::from_str(&seeder.line()).unwrap();
    let ended = place.get(first["link"].as_str().unwrap(), "copy", &["--json", "--stats", "--seed-for", "1s"]);
    assert_eq!((ended.code, ended.stderr.as_str().lines().count()), (Some(0), 1), "{ended:?}");
    printed(&ended.stdout, &mut seen);
    seeder.line_with("\"peer_closed\"");
    seeder.line_with("\"progress\"");
    seeder.signal("INT");
    printed(&seeder.wait().stdout, &mut seen);

    let place = Place::new();
    let mut link = String::new();
    let mut seeder = partial(&place, &place.file("changing", 200_000), &mut link);
    seeder.line_with("content_changed");
    seeder.signal("INT");
    printed(&seeder.wait().stdout, &mut seen);

    printed(&place.run(["demo", "--leechers", "2", "--size", "100KiB", "--json"]).stdout, &mut seen);
    printed(&place.run(["hash", "changing", "--json"]).stdout, &mut seen);

    let documented = documented();
    let names = |events: &Keys| events.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&seen), names(&documented), "the events seen here and those in docs/JSON.md");
    for (event, keys) in seen {
        let undocumented: Vec<_> = keys.difference(&documented[&event]).collect();
        assert!(undocumented.is_empty(), "docs/JSON.md lacks keys of {event}: {undocumented:?}");
        let gone: Vec<_> = documented[&event].difference(&keys).collect();
        assert!(gone.is_empty(), "docs/JSON.md has keys of {event} that are not printed: {gone:?}");
    }
}

#[test]
fn a_closed_peer_has_a_reason_for_programs_and_one_for_people() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 10_000), &["--json"]);
    let first: Value = serde_json::from_str(&seeder.line()).unwrap();
    assert_eq!(place.get(first["link"].as_str().unwrap(), "copy", &[]).code, Some(0));
    let closed: Value = serde_json::from_str(&seeder.line_with("peer_closed")).unwrap();
    assert_eq!((&closed["reason"], &closed["detail"]), (&"by_peer".into(), &"closed by the peer".into()));
    assert_eq!(closed["swarm_id"], first["swarm_id"]);
}

#[test]
fn what_cannot_begin_prints_nothing() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 10_000), &[]);
    let link = seeder.line();
    place.file("other", 10_000);
    let nobody = format!("ppsp://nobody.invalid:1/{}", link.rsplit_once('/').unwrap().1);
    for (link, output, code) in [(&link, "other", 2), (&nobody, "copy", 3)] {
        let ended = place.get(link, output, &["--json", "--stats"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
        assert!(ended.stderr.lines().all(|line| line.starts_with("ppspp: ")), "{ended:?}");
    }
}

#[test]
fn the_stats_add_up() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 300_000), &["--json", "--stats"]);
    let first: Value = serde_json::from_str(&seeder.line()).unwrap();
    let ended = place.get(first["link"].as_str().unwrap(), "copy", &["--json", "--stats"]);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stats = &lines[lines.len() - 2];
    assert_eq!(stats["event"], "stats", "{ended:?}");
    let number = |value: &Value| value.as_u64().unwrap();
    let messages = stats["messages"].as_object().unwrap();
    let received: u64 = messages.values().map(|both| number(&both["received_bytes"])).sum();
    assert_eq!(received + 4 * number(&stats["datagrams_received"]), number(&stats["bytes_received"]));
    assert!(number(&messages["DATA"]["received"]) >= 293 && number(&messages["REQUEST"]["sent"]) > 0);
    assert!((0.0..0.5).contains(&stats["overhead"].as_f64().unwrap()), "{stats}");

    // For people the same is a table.
    let ended = place.get(first["link"].as_str().unwrap(), "again", &["--stats"]);
    for line in ["message ", "DATA ", "datagrams ", "overhead ", "repeats ", "window ", "round trip ", "queuing delay "]
    {
        assert!(ended.stderr.lines().any(|other| other.starts_with(line)), "{line}: {ended:?}");
    }
    assert_eq!(ended.stdout, "again\n");
}
