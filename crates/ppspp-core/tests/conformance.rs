//! Keeps docs/CONFORMANCE.md true: the files and tests it names exist, and every ruling has a row.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What stands between backticks in the tables.
fn citations(document: &str) -> Vec<&str> {
    document
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|cited| cited.contains(".rs"))
        .collect()
}

/// What is wrong with a citation, if anything.
fn fault(cited: &str) -> Option<String> {
    let (file, test) = cited.split_once("::").map_or((cited, None), |(file, test)| (file, Some(test)));
    let Ok(source) = fs::read_to_string(root().join(file)) else { return Some(format!("{file} does not exist")) };
    let test = test?;
    let place = source.find(&format!("fn {test}("));
    let is_test = place.is_some_and(|place| {
        let head = &source[..place];
        head.rfind("#[test]").is_some_and(|mark| !head[mark..].contains("fn "))
    });
    // Properties are tests by macro.
    let is_property = place.is_some() && source.contains("proptest!");
    (!is_test && !is_property).then(|| format!("{file} has no test {test}"))
}

#[test]
fn every_file_and_test_that_is_named_exists() {
    let document = fs::read_to_string(root().join("docs/CONFORMANCE.md")).unwrap();
    let cited = citations(&document);
    assert!(cited.len() > 100, "only {} citations were found", cited.len());
    let faults: Vec<String> = cited.into_iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_ruling_has_a_row() {
    let document = fs::read_to_string(root().join("docs/CONFORMANCE.md")).unwrap();
    for ruling in 1..=26 {
        assert!(document.contains(&format!("\n| R{ruling} | ")), "R{ruling} has no row");
    }
}

#[test]
fn a_false_citation_is_found() {
    assert!(fault("crates/ppspp-core/tests/conformance.rs::no_such_test").is_some());
    assert!(fault("crates/ppspp-core/src/nothing.rs").is_some());
    assert!(fault("crates/ppspp-core/tests/conformance.rs::every_ruling_has_a_row").is_none());
}
