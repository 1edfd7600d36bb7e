//! `get -o -`: the content on standard output while it arrives.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Place, Running, finish, partial};

/// The command that streams `link`.
fn stream(place: &Place, link: &str, more: &[&str]) -> Command {
    let mut command = place.ppspp();
    command.args(["get", link, "-o", "-", "--listen", "127.0.0.1:0"]).args(more);
    command
}

/// Runs `command` to its end; its exit code, standard output and standard error.
fn output(command: &mut Command) -> (Option<i32>, Vec<u8>, String) {
    let output = command.output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn standard_output_is_the_content_and_nothing_else() {
    let place = Place::new();
    let original = place.file("original", 5_000_001);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let (code, stdout, stderr) = output(&mut stream(&place, &link, &[]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout == fs::read(&original).unwrap());
    assert!(stderr.starts_with("fetched 5.00 MB in ") && stderr.lines().count() == 1, "{stderr}");
    // Nothing is left behind, and without a length in the link it is the same.
    let files = fs::read_dir(place.path(".")).unwrap().count();
    let (code, stdout, stderr) = output(&mut stream(&place, &link.replace("cl=5000001&", ""), &["--quiet"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout == fs::read(&original).unwrap());
    assert_eq!(fs::read_dir(place.path(".")).unwrap().count(), files);
}

#[test]
fn events_go_to_standard_error() {
    let place = Place::new();
    let original = place.file("original", 300_000);
    let mut seeder = place.seed(&original, &[]);
    let (code, stdout, stderr) = output(&mut stream(&place, &seeder.line(), &["--json", "--stats"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout == fs::read(&original).unwrap());
    let events: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (events.first().unwrap(), events.last().unwrap());
    assert_eq!((&first["event"], &first["path"]), (&"fetching".into(), &"-".into()));
    assert_eq!((&last["event"], &last["complete"], &last["path"]), (&"summary".into(), &true.into(), &"-".into()));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let place = Place::new();
    let original = place.file("original", 40 << 20);
    let mut seeder = place.seed(&original, &[]);
    let mut getter = stream(&place, &seeder.line(), &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = getter.stdout.take().unwrap();
    let mut start = vec![0; 1 << 20];
    stdout.read_exact(&mut start).unwrap();
    assert!(start == fs::read(&original).unwrap()[..start.len()]);
    drop(stdout);
    let ended = getter.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

/// A pause of the reader is no fault of the peers, and holds the download back.
#[test]
fn a_reader_that_pauses_is_waited_for() {
    const WINDOW: u64 = 16 << 20;
    let place = Place::new();
    let original = place.file("original", 24 << 20);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let mut command = stream(&place, &link, &["--timeout", "1s", "--json"]);
    let mut getter = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = getter.stdout.take().unwrap();
    let mut read = vec![0; 1];
    stdout.read_exact(&mut read).unwrap();
    // Another fetch takes longer than the patience.
    assert_eq!(place.get(&link, "other", &["--seed-for", "2s"]).code, Some(0));
    stdout.read_to_end(&mut read).unwrap();
    assert!(read == fs::read(&original).unwrap());
    let ended = getter.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let events = String::from_utf8(ended.stderr).unwrap();
    let mut events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let paused = events.find(|event| event["event"] == "progress").unwrap();
    // What a pipe and a copy hold, and the rest of a group, come on top.
    assert!(paused["bytes"].as_u64().unwrap() <= WINDOW + (256 << 10), "{paused}");
}

#[test]
fn a_stream_that_breaks_off_says_so() {
    let place = Place::new();
    let mut link = String::new();
    let _seeder = partial(&place, &place.file("original", 200_000), &mut link);
    let ended = finish(&mut stream(&place, &link, &["--timeout", "1s"]));
    ended.refused(1, "no new data for 1 s with 1 peer");
    assert!(ended.stderr.trim_end().ends_with("; 0 B were written to standard output"), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

#[test]
fn what_makes_no_sense_with_standard_output_is_refused() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 3_000_000), &[]);
    let link = seeder.line();
    let shared = "content on standard output is shared while it is read; --keep-seeding and --seed-for need a file";
    let ordered = "content on standard output comes in order; --order rarest needs a file";
    for (more, says) in
        [(&["--keep-seeding"][..], shared), (&["--seed-for", "5s"], shared), (&["--order", "rarest"], ordered)]
    {
        finish(&mut stream(&place, &link, more)).refused(2, says);
    }
    let ended = finish(stream(&place, &link, &[]).env("TMPDIR", place.path("missing")));
    ended.refused(1, &format!("cannot make temporary files in {}: ", place.path("missing").display()));
    // A limit on the size of files stands in for a disk without room.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$@\" > /dev/null";
    let ended = finish(
        place
            .command(Path::new("/bin/sh"))
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_ppspp"), "get", &link, "-o", "-"])
            .args(["--listen", "127.0.0.1:0"]),
    );
    ended.refused(1, "cannot write the spool: ");
}

#[test]
fn a_watcher_that_does_not_read_hinders_nobody() {
    let place = Place::new();
    let original = place.file("original", 2_000_000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    let mut first = Running::start(&mut stream(&place, &link, &["--quiet"]));
    let second = output(&mut stream(&place, &link, &["--quiet"]));
    assert!(second.1 == fs::read(&original).unwrap(), "{}", second.2);
    first.stop_reading();
    assert_eq!(first.wait().code, Some(0));
}
