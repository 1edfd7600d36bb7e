//! Files from one process to another, over real sockets of the loopback.

use std::fs;
use std::path::Path;

use crate::support::{Ended, Place, Running, finish, partial, same};

#[test]
fn files_of_every_size_arrive() {
    let place = Place::new();
    for (size, options) in [
        (1, &[][..]),
        (1023, &["--hash", "sha1"]),
        (1024, &["--hash", "sha224", "--addressing", "bin32"]),
        (1025, &["--hash", "sha384", "--addressing", "byte64"]),
        (7162, &["--hash", "sha512", "--addressing", "bin64"]),
        (300 * 1024, &["--addressing", "chunk64", "--chunk-size", "8KiB"]),
        (300 * 1024 + 1, &["--chunk-size", "512"]),
    ] {
        let original = place.file("original", size);
        let mut seeder = place.seed(&original, options);
        let copy = format!("copy-{size}");
        let ended = place.get(&seeder.line(), &copy, &[]);
        assert_eq!((ended.code, ended.stdout.trim_end()), (Some(0), copy.as_str()), "{size} {ended:?}");
        same(&original, &place.path(&copy));
    }
}

#[test]
fn a_large_file_arrives_at_two_peers_at_once() {
    let place = Place::new();
    let original = place.file("original", 64 << 20);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let fetch = |output: &str| {
        Running::start(place.ppspp().args(["get", &link, "-o", output, "--listen", "127.0.0.1:0", "--json"]))
    };
    let (one, other) = (fetch("one"), fetch("other"));
    for (leecher, output) in [(one, "one"), (other, "other")] {
        let ended = leecher.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let summary = ended.summary();
        assert_eq!(summary["event"], "summary");
        assert_eq!(summary["complete"], true);
        assert_eq!(summary["bytes_fetched"], 64 << 20);
        assert_eq!(summary["bytes_already_there"], 0);
        assert_eq!(summary["path"], output);
        assert!(summary["seconds"].as_f64().unwrap() > 0.0);
        same(&original, &place.path(output));
    }
}

#[test]
fn nothing_but_the_link_is_on_the_seeders_standard_output() {
    let place = Place::new();
    let original = place.file("a name.bin", 5000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    assert!(link.starts_with("ppsp://127.0.0.1:") && link.ends_with("?cl=5000&fn=a%20name.bin"), "{link}");
    // Without -o the link's hint is the name, in the current directory.
    let elsewhere = place.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let ended = finish(place.ppspp().current_dir(&elsewhere).args(["get", &link, "--listen", "127.0.0.1:0"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "a name.bin\n"), "{ended:?}");
    assert!(ended.stderr.starts_with("fetched 5.00 kB in "), "{ended:?}");
    same(&original, &elsewhere.join("a name.bin"));
    // And without a hint the swarm id.
    let bare = link.split("&fn=").next().unwrap();
    let ended = finish(place.ppspp().args(["get", bare, "--listen", "127.0.0.1:0", "--quiet"]));
    let id = bare.rsplit('/').next().unwrap().split('?').next().unwrap();
    assert_eq!((ended.code, ended.stdout.trim_end(), ended.stderr.as_str()), (Some(0), id, ""), "{ended:?}");

    seeder.signal("INT");
    let ended = seeder.wait();
    assert_eq!((ended.code, ended.stdout), (Some(130), format!("{link}\n")));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn json_is_one_object_per_line() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 20_000), &["--json"]);
    let first: serde_json::Value = serde_json::from_str(&seeder.line()).unwrap();
    assert_eq!((&first["event"], &first["content_length"]), (&"seeding".into(), &20_000.into()));
    let link = first["link"].as_str().unwrap();
    assert!(link.contains(first["swarm_id"].as_str().unwrap()));
    let ended = place.get(link, "copy", &["--json"]);
    let kinds: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((kinds.first().unwrap().as_str(), kinds.last().unwrap().as_str()), ("fetching", "summary"));
    for kind in ["peer_connected", "size_known", "complete"] {
        assert!(kinds.iter().any(|other| other == kind), "{kind} {kinds:?}");
    }
    assert!(seeder.line_with("peer_connected").contains("127.0.0.1:"));
    assert!(seeder.line_with("peer_closed").contains("by_peer"));
    seeder.signal("TERM");
    let ended = seeder.wait();
    assert_eq!(ended.code, Some(130));
    for line in ended.stdout.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap().is_object());
    }
}

#[test]
fn a_complete_file_is_verified_and_needs_no_peer() {
    let place = Place::new();
    let original = place.file("original", 100_000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    drop(seeder);
    fs::copy(&original, place.path("copy")).unwrap();
    let ended = place.get(&link, "copy", &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary = ended.summary();
    assert_eq!((&summary["bytes_fetched"], &summary["bytes_already_there"]), (&0.into(), &100_000.into()));
    let events =
        ["fetching", "size_known", "complete", "summary"].map(|event| ended.stdout.find(&format!("\"{event}\"")));
    assert!(events.is_sorted() && events[0].is_some(), "{ended:?}");
    // Nor a name service, nor a link that names peers.
    let (hosts, _) = link.split_once("//").unwrap().1.split_once('/').unwrap();
    for link in ["", "nobody.invalid:1", "[::1]:9"].map(|other| link.replace(hosts, other)) {
        let ended = place.get(&link, "copy", &["--quiet"]);
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "copy\n", ""), "{ended:?}");
        let ended = place.get(&link, "copy", &["--quiet", "--seed-for", "1s"]);
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "copy\n", ""), "{ended:?}");
        assert_ne!(place.get(&link, "other", &["--quiet"]).code, Some(0));
        assert!(!place.path("other.part").exists() && !place.path("other.ppspp").exists());
    }
}

#[test]
fn a_finished_leecher_can_be_the_next_ones_seeder() {
    let place = Place::new();
    let original = place.file("original", 200_000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let arguments = ["get", &link, "-o", "first", "--listen", "127.0.0.1:0", "--keep-seeding", "--json"];
    let mut first = Running::start(place.ppspp().args(arguments));
    let begin: serde_json::Value = serde_json::from_str(&first.line()).unwrap();
    let address = begin["listen"].as_str().unwrap();
    first.line_with("\"complete\"");
    seeder.signal("INT");
    assert_eq!(seeder.wait().code, Some(130));

    let (_, rest) = link.split_once("//").unwrap();
    let lonely = format!("ppsp:///{}", rest.split_once('/').unwrap().1);
    let ended = place.get(&lonely, "second", &["--peer", address]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    same(&original, &place.path("second"));

    first.signal("INT");
    let ended = first.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.summary()["bytes_sent"].as_u64().unwrap() / 1000, 200);
}

/// Whoever passes signals on may send one twice, as `timeout` does.
#[test]
fn a_signal_that_comes_twice_is_one() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("original", 8_000_000), &["--upload-limit", "1MB"]);
    let link = seeder.line();
    let mut getter = Running::start(place.ppspp().args(["get", &link, "-o", "copy", "--listen", "127.0.0.1:0"]));
    getter.wait_for_bytes(&place.path("copy.part"));
    for _ in 0..2 {
        getter.signal("TERM");
    }
    let ended = getter.wait();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("interrupted; ") && ended.stderr.contains(" are kept"), "{ended:?}");
}

/// Who has everything and is asked for nothing sleeps.
#[cfg(target_os = "linux")]
#[test]
fn who_shares_a_finished_copy_rests() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("original", 200_000), &[]);
    let link = seeder.line();
    let arguments = ["get", &link, "-o", "copy", "--listen", "127.0.0.1:0", "--keep-seeding", "--json"];
    let mut leecher = Running::start(place.ppspp().args(arguments));
    leecher.line_with("\"complete\"");
    let before = [&seeder, &leecher].map(Running::processor_time);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let after = [&seeder, &leecher].map(Running::processor_time);
    for (name, (before, after)) in ["seeder", "leecher"].into_iter().zip(before.into_iter().zip(after)) {
        assert!(after - before <= 10, "the {name} took {} hundredths of a second for nothing", after - before);
    }
}

#[test]
fn seeding_for_a_while_ends_by_itself() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 10), &[]);
    let ended = place.get(&seeder.line(), "copy", &["--seed-for", "1s", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.summary()["complete"], true);
}

#[test]
fn advertised_and_wildcard_addresses_are_in_the_link() {
    let place = Place::new();
    let original = place.file("f", 3000);
    let mut seeder = place.seed(&original, &["--advertise", "seeds.example.org:7000"]);
    assert!(seeder.line().starts_with("ppsp://seeds.example.org:7000/"));
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut command = place.ppspp();
        let mut seeder = Running::start(command.arg("seed").arg(&original).args(["--listen", wildcard]));
        let copy = format!("copy{}", wildcard.len());
        let ended = finish(place.ppspp().args(["get", &seeder.line(), "-o", &copy, "--listen", wildcard]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        same(&original, &place.path(&copy));
    }
}

#[test]
fn flags_have_environment_twins() {
    let place = Place::new();
    let path = place.file("f", 3000);
    let ended = finish(
        place
            .ppspp()
            .arg("hash")
            .arg(&path)
            .env("PPSPP_HASH", "sha1")
            .env("PPSPP_CHUNK_SIZE", "2KiB")
            .env("PPSPP_JSON", "1"),
    );
    assert_eq!((ended.summary()["hash"].as_str(), ended.summary()["chunk_size"].as_u64()), (Some("sha1"), Some(2048)));
    // The flag wins.
    let ended = finish(place.ppspp().args(["hash", "--hash", "sha512", "f"]).env("PPSPP_HASH", "sha1"));
    assert!(ended.stdout.contains("hash        sha512\n"), "{ended:?}");
}

#[test]
fn logging_has_an_environment_twin() {
    let place = Place::new();
    let logs = |words: &str| {
        let ended =
            finish(place.ppspp().args(["demo", "--size", "1kB", "--leechers", "1"]).env("PPSPP_VERBOSE", words));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stderr.contains("INFO")
    };
    assert_eq!(["", "0", "false"].map(logs), [false; 3]);
    assert_eq!(["1", "true", "yes"].map(logs), [true; 3]);
}

#[test]
fn hash_prints_what_seed_shares() {
    let place = Place::new();
    let path = place.file("f", 7162);
    let mut seeder = place.seed(&path, &["--hash", "sha1"]);
    let link = seeder.line();
    let ended = place.run(["hash", "f", "--hash", "sha1"]);
    let id = link.rsplit('/').next().unwrap().split('?').next().unwrap();
    assert!(ended.stdout.starts_with(&format!("swarm id    {id}\nlength      7162 bytes\nhash        sha1\n")));
    let (_, metadata) = link.split_once("//").unwrap().1.split_once('/').unwrap();
    assert_eq!(ended.stdout.lines().last().unwrap(), format!("link        ppsp:///{metadata}"));
}

#[test]
fn the_demo_moves_bytes_and_compares_them() {
    let place = Place::new();
    let ended = place.run(["demo", "--leechers", "2", "--size", "300KiB"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{ended:?}");
    assert!(lines[0].starts_with("leecher ") && lines[1].contains("307200") && lines[2].contains("307200"));
    assert!(lines[3].starts_with("2 peers in ") && lines[3].ends_with("every copy equal"));

    let path = place.file("mine", 5000);
    let ended = place.run(["demo", path.to_str().unwrap(), "--leechers", "1", "--json", "--quiet"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.summary()["event"], "demo_done");
    assert_eq!(ended.summary()["content_length"], 5000);
}

#[test]
fn a_killed_leecher_goes_on_where_it_was() {
    let place = Place::new();
    let original = place.file("original", 128 << 20);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let arguments = ["get", &link, "-o", "copy", "--listen", "127.0.0.1:0", "--json"];
    let mut getter = Running::start(place.ppspp().args(arguments));
    getter.wait_for_bytes(&place.path("copy.part"));
    getter.signal("KILL");
    assert_eq!(getter.wait().code, None);
    assert!(!place.path("copy").exists());
    let ended = place.get(&link, "copy", &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary = ended.summary();
    let (fetched, there) = (&summary["bytes_fetched"], &summary["bytes_already_there"]);
    assert_eq!(fetched.as_u64().unwrap() + there.as_u64().unwrap(), 128 << 20);
    same(&original, &place.path("copy"));
}

#[test]
fn a_leecher_that_was_stopped_goes_on() {
    let place = Place::new();
    let original = place.file("original", 8_000_000);
    let mut seeder = place.seed(&original, &["--upload-limit", "4MB/s"]);
    let link = seeder.line();
    let arguments = ["get", &link, "-o", "copy", "--listen", "127.0.0.1:0", "--timeout", "2s", "--quiet"];
    let mut getter = Running::start(place.ppspp().args(arguments));
    getter.wait_for_bytes(&place.path("copy.part"));
    getter.signal("STOP");
    // Longer than its patience.
    std::thread::sleep(std::time::Duration::from_secs(4));
    getter.signal("CONT");
    let ended = getter.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    same(&original, &place.path("copy"));
}

/// Each chunk takes longer than the leecher is patient.
#[test]
fn a_low_limit_is_no_silence() {
    let place = Place::new();
    let original = place.file("original", 3 * 61_440);
    let mut seeder = place.seed(&original, &["--chunk-size", "61440"]);
    let more = ["--timeout", "1s", "--download-limit", "40kB", "--quiet"];
    let ended = place.get(&seeder.line(), "copy", &more);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    same(&original, &place.path("copy"));
}

#[test]
fn an_interrupted_leecher_keeps_all_it_has() {
    let place = Place::new();
    let original = place.file("original", 128 << 20);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let arguments = ["get", &link, "-o", "copy", "--listen", "127.0.0.1:0", "--json"];
    let mut getter = Running::start(place.ppspp().args(arguments));
    getter.wait_for_bytes(&place.path("copy.part"));
    getter.signal("INT");
    let ended = getter.wait();
    ended.refused(130, "interrupted; ");
    let summary = ended.summary();
    assert_eq!((&summary["event"], &summary["complete"]), (&"summary".into(), &false.into()));
    let kept = summary["bytes_fetched"].as_u64().unwrap();
    assert!(kept > 0);
    let ended = place.get(&link, "copy", &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.summary()["bytes_already_there"].as_u64().unwrap() >= kept, "{kept} {ended:?}");
    same(&original, &place.path("copy"));
}

#[test]
fn a_killed_seeder_can_come_back() {
    let place = Place::new();
    let original = place.file("original", 128 << 20);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let address = link.split_once("//").unwrap().1.split('/').next().unwrap().to_owned();
    let arguments = ["get", &link, "-o", "copy", "--listen", "127.0.0.1:0", "--json"];
    let mut getter = Running::start(place.ppspp().args(arguments));
    getter.wait_for_bytes(&place.path("copy.part"));
    seeder.signal("KILL");
    assert_eq!(seeder.wait().code, None);
    let mut seeder = Running::start(place.ppspp().arg("seed").arg(&original).args(["--listen", &address]));
    assert_eq!(seeder.line(), link);
    let ended = getter.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    same(&original, &place.path("copy"));
}

#[test]
fn changed_content_is_told_and_not_served() {
    let place = Place::new();
    let original = place.file("original", 200_000);
    let mut link = String::new();
    let mut seeder = partial(&place, &original, &mut link);
    let told = seeder.line_with("content_changed");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["offset"], &told["len"]), (&0.into(), &16_384.into()));
    seeder.signal("INT");
    let ended = seeder.wait();
    assert_eq!(ended.code, Some(130));
    let says = "changed on disk: bytes 0 to 16383 no longer match and are not served, the rest is";
    assert!(ended.stderr.contains(says), "{ended:?}");
}

/// Of a file that changes at its start while it is shared the rest arrives, and is kept for the next time.
#[test]
fn the_intact_rest_of_a_changed_file_is_kept() {
    let place = Place::new();
    let original = place.file("original", 3_000_000);
    let good = fs::read(&original).unwrap();
    let mut seeder = place.seed(&original, &["--quiet"]);
    let link = seeder.line();
    overwrite(&original, |bytes| bytes[..100_000].fill(b'g'));
    let ended = place.get(&link, "copy", &["--timeout", "10s", "--json"]);
    ended.refused(1, "no new data for 10 s with 1 peer");
    let missing = 7 * 16_384;
    let summary = ended.summary();
    assert_eq!((&summary["complete"], &summary["bytes_fetched"]), (&false.into(), &(good.len() - missing).into()));
    assert!(!place.path("copy").exists());
    let part = fs::read(place.path("copy.part")).unwrap();
    assert!(part[missing..] == good[missing..], "the rest is there");
    drop(seeder);
    fs::write(&original, &good).unwrap();
    let mut seeder = place.seed(&original, &[]);
    let ended = place.get(&seeder.line(), "copy", &["--json"]);
    assert_eq!((ended.code, &ended.summary()["bytes_fetched"]), (Some(0), &missing.into()), "{ended:?}");
    same(&original, &place.path("copy"));
}

/// Whoever fetched a file and shares it learns that it is no longer what was fetched.
#[test]
fn content_that_changed_after_it_was_fetched_is_told() {
    let place = Place::new();
    let original = place.file("original", 200_000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let arguments = ["get", &link, "-o", "copy", "--listen", "127.0.0.1:0", "--keep-seeding", "--json", "--quiet"];
    let mut sharer = Running::start(place.ppspp().args(arguments));
    let begin: serde_json::Value = serde_json::from_str(&sharer.line()).unwrap();
    sharer.line_with("\"complete\"");
    drop(seeder);
    overwrite(&place.path("copy"), |bytes| bytes[100_000] ^= 1);
    let address = begin["listen"].as_str().unwrap();
    let mut next = place.ppspp();
    next.args(["get", &link, "-o", "next", "--listen", "127.0.0.1:0", "--peer", address, "--no-pex", "--quiet"]);
    let next = Running::start(&mut next);
    sharer.line_with("content_changed");
    next.signal("INT");
    next.wait();
    sharer.signal("INT");
    let ended = sharer.wait();
    let says = "ppspp: copy changed on disk: bytes 98304 to 114687 no longer match and are not served, the rest is; ";
    assert!(ended.stderr.starts_with(says), "{ended:?}");
}

#[test]
fn a_stalled_fetch_goes_on_later() {
    let place = Place::new();
    let original = place.file("original", 200_000);
    let good = fs::read(&original).unwrap();
    let mut link = String::new();
    drop(partial(&place, &original, &mut link));
    fs::write(&original, &good).unwrap();
    let mut seeder = place.seed(&original, &[]);
    let ended = place.get(&seeder.line(), "copy", &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.summary()["bytes_fetched"], 16_384);
    same(&original, &place.path("copy"));
}

/// Damages the files of an unfinished fetch, which a later one must not trust; what that one says.
fn damaged(damage: impl Fn(&Path)) -> Ended {
    let place = Place::new();
    let original = place.file("original", 200_000);
    let good = fs::read(&original).unwrap();
    let mut link = String::new();
    drop(partial(&place, &original, &mut link));
    fs::write(&original, &good).unwrap();
    damage(place.path("copy").parent().unwrap());
    let mut seeder = place.seed(&original, &[]);
    let ended = place.get(&seeder.line(), "copy", &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    same(&original, &place.path("copy"));
    ended
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_corrupted_partial_file_costs_only_what_is_corrupted() {
    let ended = damaged(|dir| overwrite(&dir.join("copy.part"), |bytes| bytes[100_000] ^= 1));
    assert_eq!(ended.summary()["bytes_fetched"], 2 * 16_384);
}

#[test]
fn a_corrupted_sidecar_yields_no_wrong_byte() {
    damaged(|dir| {
        overwrite(&dir.join("copy.ppspp"), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
        });
    });
    damaged(|dir| overwrite(&dir.join("copy.ppspp"), |bytes| bytes.truncate(bytes.len() / 2)));
    let ended = damaged(|dir| overwrite(&dir.join("copy.ppspp"), |bytes| bytes[..64].fill(0)));
    assert_eq!(ended.summary()["bytes_fetched"], 200_000);
    assert!(ended.stderr.starts_with("ppspp: copy.ppspp is damaged, so what was fetched earlier cannot be used"));
}

#[test]
fn a_partial_file_of_another_swarm_is_left_alone() {
    let place = Place::new();
    let original = place.file("original", 200_000);
    let mut link = String::new();
    drop(partial(&place, &original, &mut link));
    let other = place.file("other", 5000);
    let mut seeder = place.seed(&other, &[]);
    let (theirs, kept) = (seeder.line(), fs::read(place.path("copy.part")).unwrap());
    let id = link.rsplit('/').next().unwrap().split('?').next().unwrap();
    let says = format!("cannot open copy.ppspp: it belongs to an unfinished download of swarm {id}; finish that one,");
    place.get(&theirs, "copy", &[]).refused(2, &says);
    assert!(fs::read(place.path("copy.part")).unwrap() == kept);
    let ended = place.get(&theirs, "copy", &["--force"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    same(&other, &place.path("copy"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 10), &[]);
    let link = seeder.line();
    let mut getter = Running::start(place.ppspp().args([
        "get",
        &link,
        "-o",
        "copy",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--quiet",
        "--keep-seeding",
    ]));
    getter.line();
    getter.stop_reading();
    let ended = getter.wait();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
}

#[test]
fn logs_go_to_standard_error() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 10), &["-v"]);
    let link = seeder.line();
    seeder.signal("INT");
    let ended = seeder.wait();
    assert_eq!(ended.stdout, format!("{link}\n"));
    assert!(ended.stderr.contains("INFO") && !ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
    let ended = finish(place.ppspp().args(["hash", "f"]).env("RUST_LOG", "=,=nonsense=["));
    ended.refused(2, "RUST_LOG cannot be used: ");
}
