//! A disk that takes longer to make a finished file durable than peers may be silent.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Place, Running, finish, same};

/// Seconds that each `fdatasync` takes.
const SLOW: &str = "3";

/// A library that slows down whoever it is loaded into.
fn slow_sync(place: &Place) -> PathBuf {
    let (source, library) = (place.path("slow.c"), place.path("slow.so"));
    let text = "#include <stdlib.h>\n#include <unistd.h>\n\
                int fdatasync(int file) { sleep(atoi(getenv(\"SLOW_SYNC\"))); return fsync(file); }\n";
    fs::write(&source, text).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(built.success(), "a C compiler links every Rust program");
    library
}

fn get(place: &Place, link: &str) -> Command {
    let mut command = place.ppspp();
    command.args(["get", link, "-o", "copy", "--listen", "127.0.0.1:0", "--json", "--timeout", "1s"]);
    command.env("LD_PRELOAD", slow_sync(place)).env("SLOW_SYNC", SLOW);
    command
}

#[test]
fn waiting_for_the_disk_is_no_silence() {
    let place = Place::new();
    let original = place.file("original", 300_000);
    let mut seeder = place.seed(&original, &[]);
    let ended = finish(&mut get(&place, &seeder.line()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.summary()["complete"] == true && ended.summary()["seconds"].as_f64().unwrap() > 2.0, "{ended:?}");
    same(&original, &place.path("copy"));
}

/// What is complete in the end was not interrupted.
#[test]
fn a_signal_while_the_disk_is_waited_for_comes_too_late() {
    let place = Place::new();
    let original = place.file("original", 300_000);
    let mut seeder = place.seed(&original, &[]);
    let mut getter = Running::start(&mut get(&place, &seeder.line()));
    getter.line_with("\"bytes\":300000");
    getter.signal("INT");
    let ended = getter.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (summary, complete) = (ended.summary(), ended.stdout.matches("\"event\":\"complete\"").count());
    assert_eq!((complete, &summary["complete"], &summary["error"]), (1, &true.into(), &serde_json::Value::Null));
    same(&original, &place.path("copy"));
}
