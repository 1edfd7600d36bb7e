//! The command: exit codes, sentences, files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ppspp-sim")).args(args).output().unwrap()
}

/// The exit code and the one sentence of a command that fails.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

const SMALL: [&str; 6] = ["run", "staggered", "--peers", "2", "--size", "100000"];

#[test]
fn a_run_prints_its_table() {
    let output = run(&SMALL);
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).unwrap();
    for row in ["staggered, seed 1", "2 of 2 leechers", "median", "trace hash", "events per second", "memory"] {
        assert!(table.contains(row), "{row} is missing in {table}");
    }
}

#[test]
fn json_holds_the_same() {
    let output = run(&[&SMALL[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["completion"]["complete"], 2);
    assert_eq!(report["seed"], 1);
    assert_eq!(report["results"].as_array().unwrap().len(), 3);
    assert!(report["cost"]["events_per_second"].as_u64().unwrap() > 0);
}

#[test]
fn files_are_written_where_asked() {
    let place = std::env::temp_dir().join(format!("ppspp-sim-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let path = |name: &str| place.join(name).to_str().unwrap().to_owned();
    let (trace, pcap, plot) = (path("t.txt"), path("c.pcapng"), path("p.svg"));
    let output = run(&[&SMALL[..], &["--trace", &trace, "--pcap", &pcap, "--plot", &plot]].concat());
    assert_eq!(output.status.code(), Some(0));
    assert!(std::fs::read_to_string(&trace).unwrap().contains(" send 1 "));
    assert_eq!(std::fs::read(&pcap).unwrap()[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    std::fs::remove_dir_all(&place).unwrap();
}

#[test]
fn bad_input_gets_a_sentence_and_two() {
    let unknown = refusal(&["run", "flood"]);
    assert_eq!(unknown.0, Some(2));
    assert_eq!(unknown.1, "ppspp-sim: there is no scenario \"flood\"; `ppspp-sim list` names them\n");
    let unwritable = refusal(&[&SMALL[..], &["--trace", "/nowhere/at/all"]].concat());
    assert_eq!(unwritable.0, Some(2));
    assert!(unwritable.1.starts_with("ppspp-sim: /nowhere/at/all cannot be written: "), "{}", unwritable.1);
    for args in [
        &["run", "staggered", "--peers", "0"][..],
        &["run", "staggered", "--size", "0"],
        &["run", "staggered", "--seed", "x"],
        &["run", "staggered", "--within", "0"],
        &["run"],
        &["fuzz", "--seeds", "5..5"],
        &["fuzz", "--jobs", "0"],
        &["replay"],
        &["dance"],
        &[],
    ] {
        assert_eq!(refusal(args).0, Some(2), "{args:?}");
    }
    let long = refusal(&["run", "staggered", "--size", "18446744073709551615"]);
    assert_eq!(long.0, Some(2));
    assert!(long.1.contains("18446744073709551615 bytes are too many"), "{}", long.1);
}

#[test]
fn a_file_that_takes_no_more_gets_a_sentence_and_two() {
    if cfg!(target_os = "linux") {
        for option in ["--trace", "--pcap", "--plot"] {
            let full = refusal(&[&SMALL[..], &[option, "/dev/full"]].concat());
            assert_eq!(full.0, Some(2), "{option}: {}", full.1);
            assert!(full.1.contains("cannot be written: No space left on device"), "{option}: {}", full.1);
        }
    }
}

/// The last line of standard error is the command that repeats the failure; it does.
#[test]
fn a_broken_rule_gets_one_and_the_command_that_repeats_it() {
    let args = ["run", "flash-crowd", "--seed", "3", "--peers", "2", "--size", "4000000", "--within", "1"];
    let broken = refusal(&args);
    assert_eq!(broken.0, Some(1), "{}", broken.1);
    let begins = "ppspp-sim: seed 3, at 1.000000s, host 1: the goal is reached in time: 2 hosts are not complete; ";
    assert!(broken.1.starts_with(begins), "{}", broken.1);
    let (_, repeat) = broken.1.trim_end().split_once("; repeat with: ppspp-sim ").unwrap();
    assert_eq!(repeat, args.join(" "));
    assert_eq!(refusal(&repeat.split(' ').collect::<Vec<_>>()), broken);
}

#[test]
fn a_broken_expectation_has_its_report() {
    // One byte is there as soon as a slow peer is.
    let output = run(&["run", "slow-peer", "--peers", "1", "--size", "1", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["completion"]["complete"], 2);
    assert!(String::from_utf8(output.stderr).unwrap().contains(": a slow peer holds nobody up: "));
}

/// The summary of `fuzz` without the time it took.
fn summary(args: &[&str]) -> (String, String) {
    let output = run(&[&["fuzz"], args].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap();
    let (runs, rest) = line.split_once(" in ").unwrap();
    (runs.to_owned(), rest.split_once(", ").unwrap().1.to_owned())
}

#[test]
fn fuzz_has_the_same_histories_whatever_the_number_of_threads() {
    let one = summary(&["--seeds", "2..6"]);
    assert_eq!(one.0, "4 runs from seed 2 on");
    assert_eq!(one, summary(&["--seeds", "2..6", "--jobs", "3"]));
    assert_ne!(one.1, summary(&["--seeds", "3..6"]).1);
}

#[test]
fn help_and_list_are_no_failures() {
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    let list = run(&["list"]);
    assert_eq!(list.status.code(), Some(0));
    assert_eq!(String::from_utf8(list.stdout).unwrap().lines().count(), 15);
}
