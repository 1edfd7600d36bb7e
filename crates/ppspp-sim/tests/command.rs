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
fn fuzz_counts_its_runs() {
    let output = run(&["fuzz", "--seeds", "2..4", "--jobs", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("2 runs from seed 2 on in "), "{text}");
}

#[test]
fn help_and_list_are_no_failures() {
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    let list = run(&["list"]);
    assert_eq!(list.status.code(), Some(0));
    assert_eq!(String::from_utf8(list.stdout).unwrap().lines().count(), 15);
}
