//! More than two: several files of one seeder, leechers that serve each other.

use serde_json::Value;

use crate::support::{Place, Running, finish, same};

#[test]
fn one_seeder_shares_several_files() {
    let place = Place::new();
    let files: Vec<_> =
        [("one", 100_000), ("two", 1), ("three", 50_000)].map(|(name, len)| place.file(name, len)).into();
    let mut command = place.ppspp();
    let mut seeder = Running::start(command.arg("seed").args(&files).args(["--listen", "127.0.0.1:0"]));
    let links: Vec<_> = files.iter().map(|_| seeder.line()).collect();
    let host = |link: &str| link.split('/').nth(2).unwrap().to_owned();
    for (link, file) in links.iter().zip(&files) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(link.ends_with(&format!("&fn={name}")), "{link} is not that of {name}");
        assert_eq!(host(link), host(&links[0]), "one port");
        let copy = format!("copy of {name}");
        let ended = place.get(link, &copy, &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        same(file, &place.path(&copy));
    }
    seeder.signal("INT");
    let ended = seeder.wait();
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(130), 3));
    assert!(ended.stderr.starts_with("sharing 3 files (150.00 kB) on 127.0.0.1:"), "{ended:?}");
}

#[test]
fn events_of_several_files_are_told_apart() {
    let place = Place::new();
    let files = [place.file("one", 1000), place.file("three", 2000)];
    let mut command = place.ppspp();
    let mut seeder = Running::start(command.arg("seed").args(&files).args(["--listen", "127.0.0.1:0", "--json"]));
    let seeding: Vec<Value> = files.iter().map(|_| serde_json::from_str(&seeder.line()).unwrap()).collect();
    for (file, event) in files.iter().zip(&seeding) {
        assert_eq!(event["path"].as_str(), file.to_str());
        let ended = place.get(event["link"].as_str().unwrap(), "copy", &["--force"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let closed: Value = serde_json::from_str(&seeder.line_with("peer_closed")).unwrap();
        assert_eq!(closed["swarm_id"], event["swarm_id"]);
    }
}

#[test]
fn every_order_ends_with_the_same_file() {
    let place = Place::new();
    let original = place.file("original", 2_000_000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    for order in ["in-order", "rarest", "auto"] {
        let ended = place.get(&link, order, &["--order", order]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        same(&original, &place.path(order));
    }
}

/// Leechers that know the seeder alone find each other, unless they are told not to.
#[test]
fn peers_are_learned_from_peers() {
    for (flags, met) in [(&[][..], true), (&["--no-pex"], false)] {
        let place = Place::new();
        // Slow enough that they look for others, and at least one keep-alive's worth of turns long.
        let mut seeder = place.seed(&place.file("original", 1_000_000), &["--upload-limit", "300kB"]);
        let link = seeder.line();
        let fetch = |output: &str| {
            let mut command = place.ppspp();
            command.args(["get", &link, "-o", output, "--listen", "127.0.0.1:0", "--json", "--seed-for", "1s"]);
            Running::start(command.args(flags))
        };
        let mut first = fetch("first");
        let begin: Value = serde_json::from_str(&first.line()).unwrap();
        let second = fetch("second");
        let address = begin["listen"].as_str().unwrap();
        let (first, second) = (first.wait(), second.wait());
        assert_eq!((first.code, second.code), (Some(0), Some(0)), "{first:?} {second:?}");
        let connected: Vec<_> = second.stdout.lines().filter(|line| line.contains("peer_connected")).collect();
        let found = connected.iter().any(|line| line.contains(address));
        assert_eq!((found, connected.len()), (met, if met { 2 } else { 1 }), "{second:?}");
    }
}

/// More peers than one wants are no error.
#[test]
fn as_many_peers_as_are_wanted() {
    let place = Place::new();
    let original = place.file("original", 300_000);
    let mut seeders: Vec<_> = (0..3).map(|_| place.seed(&original, &[])).collect();
    let links: Vec<_> = seeders.iter_mut().map(Running::line).collect();
    let address = |link: &String| link.split('/').nth(2).unwrap().to_owned();
    let peers = links.iter().map(address).collect::<Vec<_>>().join(",");
    let ended = place.get(&links[0], "copy", &["--peer", &peers, "--max-peers", "1", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.lines().filter(|line| line.contains("peer_connected")).count(), 1, "{ended:?}");
    same(&original, &place.path("copy"));
}

#[test]
fn limits_hold_a_transfer_back_but_do_not_break_it() {
    let place = Place::new();
    let original = place.file("original", 400_000);
    let mut seeder = place.seed(&original, &["--upload-limit", "1MB/s"]);
    let ended = place.get(&seeder.line(), "copy", &["--download-limit", "1MB", "--upload-limit", "100kB"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    same(&original, &place.path("copy"));
}

/// The seeder leaves once a copy is among the leechers, and they finish by themselves.
#[test]
fn leechers_complete_after_the_seeder_was_killed() {
    const SIZE: usize = 64 << 20;
    let place = Place::new();
    let original = place.file("original", SIZE);
    let seeder_file = original.to_str().unwrap();
    // Slow enough that the leechers get much of it from each other.
    let arguments = ["seed", seeder_file, "--listen", "127.0.0.1:0", "--json", "--upload-limit", "32MiB/s"];
    let mut seeder = Running::start(place.ppspp().args(arguments));
    let seeding: Value = serde_json::from_str(&seeder.line()).unwrap();
    let link = seeding["link"].as_str().unwrap();
    let mut leechers: Vec<(Running, String)> = Vec::new();
    let mut known = Vec::new();
    for number in 0..5 {
        let output = format!("copy-{number}");
        let mut command = place.ppspp();
        command.args(["get", link, "-o", &output, "--listen", "127.0.0.1:0", "--json", "--keep-seeding"]);
        if !known.is_empty() {
            command.args(["--peer", &known.join(",")]);
        }
        let mut leecher = Running::start(&mut command);
        let fetching: Value = serde_json::from_str(&leecher.line()).unwrap();
        known.push(fetching["listen"].as_str().unwrap().to_owned());
        leechers.push((leecher, output));
    }
    leechers[0].0.line_with("\"complete\"");
    seeder.signal("KILL");
    assert_eq!(seeder.wait().code, None);
    for (leecher, _) in &mut leechers[1..] {
        leecher.line_with("\"complete\"");
    }
    let mut served = 0;
    for (leecher, output) in leechers {
        leecher.signal("INT");
        let ended = leecher.wait();
        let summary = ended.summary();
        assert_eq!((ended.code, &summary["complete"]), (Some(0), &true.into()), "{ended:?}");
        assert_eq!(summary["bytes_fetched"], SIZE);
        served += summary["bytes_sent"].as_u64().unwrap();
        same(&original, &place.path(&output));
    }
    assert!(served > 0, "they served each other");
    // Whoever comes now is served by nobody.
    let ended = finish(place.ppspp().args(["get", link, "-o", "late", "--listen", "127.0.0.1:0", "--timeout", "1s"]));
    assert_eq!(ended.code, Some(3), "{ended:?}");
}
