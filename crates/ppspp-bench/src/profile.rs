//! Where the instructions of a chunk go, counted by valgrind's callgrind while the `in_memory` example moves a content.
//!
//! Counts repeat exactly on one machine, whatever else it does. System calls are none: the core has none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::args::ProfileArgs;
use crate::report;

/// The example's functions in which each side works.
const SIDES: [(&str, &str); 2] = [("seeder", "seeder_turn"), ("leecher", "leecher_turn")];

/// What a function does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Work {
    /// System calls, and all that the kernel does for them.
    Kernel,
    Hashing,
    Copying,
    Allocation,
    Bookkeeping,
}

impl Work {
    /// Judged by the function's name, in the words of libraries that do the work.
    pub(crate) fn of(function: &str) -> Self {
        const HASHING: [&str; 7] =
            ["sha1", "sha2", "Sha1", "Sha2", "compress", "digest", "ppspp_core::integrity::hash"];
        const COPYING: [&str; 4] = ["memcpy", "memmove", "memset", "memcmp"];
        const ALLOCATION: [&str; 6] = ["malloc", "calloc", "realloc", "free", "alloc::alloc", "rust_dealloc"];
        let names = |words: &[&str]| words.iter().any(|word| function.contains(word));
        if names(&HASHING) {
            Self::Hashing
        } else if names(&COPYING) {
            Self::Copying
        } else if names(&ALLOCATION) {
            Self::Allocation
        } else {
            Self::Bookkeeping
        }
    }
}

/// Measures and prints.
pub(crate) fn run(args: &ProfileArgs) -> Result<()> {
    let example = match &args.example {
        Some(path) => path.clone(),
        None => {
            std::env::current_exe().context("cannot find this program")?.with_file_name("examples").join("in_memory")
        }
    };
    ensure!(
        example.is_file(),
        "{} is missing: `cargo build --release -p ppspp-core --example in_memory` makes it",
        example.display()
    );
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    for (side, function) in SIDES {
        let counted = count(args, &example, dir.path(), function)?;
        print(side, args, &counted)?;
    }
    Ok(())
}

/// Instructions by function while `within` runs, and the chunks moved.
#[derive(Debug)]
struct Counted {
    chunks: u64,
    functions: Vec<(u64, String)>,
}

fn count(args: &ProfileArgs, example: &Path, dir: &Path, within: &str) -> Result<Counted> {
    let counts: PathBuf = dir.join(within);
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--collect-atstart=no"]);
    valgrind.arg(format!("--toggle-collect=in_memory::{within}*"));
    valgrind.arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.arg(example).args([args.size.to_string(), args.chunk_size.to_string()]);
    let text = output(&mut valgrind)?;
    let chunks = text.split_ascii_whitespace().zip(text.split_ascii_whitespace().skip(1));
    let chunks = chunks.filter(|(_, word)| *word == "chunks").find_map(|(number, _)| number.parse().ok());
    let mut annotate = Command::new("callgrind_annotate");
    annotate.args(["--threshold=100", "--auto=no", "--inclusive=no"]).arg(&counts);
    let functions = parse(&output(&mut annotate)?);
    ensure!(
        !functions.is_empty(),
        "callgrind counted nothing in {within}: is the example built without debug symbols?"
    );
    Ok(Counted { chunks: chunks.context("the example did not say how many chunks it moved")?, functions })
}

/// What `command` prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot start {name}: is it installed?"))?;
    if !output.status.success() {
        bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lines `instructions (share) file:function [object]` of `callgrind_annotate`.
fn parse(text: &str) -> Vec<(u64, String)> {
    text.lines()
        .filter_map(|line| {
            let (count, rest) = line.trim_start().split_once([' ', '('])?;
            let count = count.replace(',', "").parse().ok()?;
            let (_, place) = rest.split_once(')')?;
            let place = place.trim().rsplit_once(" [").map_or(place.trim(), |(place, _)| place);
            // `file:function`; the first colon that is not doubled parts them.
            let colon = place.match_indices(':').map(|(at, _)| at).find(|&at| {
                let doubled = |at: Option<usize>| at.and_then(|at| place.as_bytes().get(at)) == Some(&b':');
                !doubled(at.checked_sub(1)) && !doubled(Some(at + 1))
            })?;
            Some((count, place[colon + 1..].to_owned()))
        })
        .filter(|(_, function)| !function.contains("PROGRAM TOTALS"))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
fn print(side: &str, args: &ProfileArgs, counted: &Counted) -> Result<()> {
    let each = |count: u64| count as f64 / counted.chunks as f64;
    let mut by_work: BTreeMap<Work, u64> = BTreeMap::new();
    for (count, function) in &counted.functions {
        *by_work.entry(Work::of(function)).or_default() += count;
    }
    let total: u64 = by_work.values().sum();
    report::line(&format!(
        "{side}: {:.0} instructions per chunk of {} ({} chunks)",
        each(total),
        args.chunk_size,
        counted.chunks
    ))?;
    for (work, count) in by_work {
        report::line(&format!("  {:<12} {:>8.1}", format!("{work:?}").to_lowercase(), each(count)))?;
    }
    for (count, function) in counted.functions.iter().take(args.top) {
        report::line(&format!(
            "    {:>8.1}  {:<11} {function}",
            each(*count),
            format!("{:?}", Work::of(function)).to_lowercase()
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_callgrind_annotate_are_understood() {
        let text = "\
Profile data file '/tmp/x' (creator: callgrind-3.19.0)
--------------------------------------------------------------------------------
Ir
--------------------------------------------------------------------------------
2,000 (100.0%)  PROGRAM TOTALS

--------------------------------------------------------------------------------
Ir              file:function
--------------------------------------------------------------------------------
1,234 (61.70%)  /x/sha2/src/lib.rs:sha2::sha256::compress256 [/t/in_memory]
  600 (30.00%)  ./string/memcpy.S:__memcpy_avx_unaligned_erms [/usr/lib/libc.so.6]
  166 ( 8.30%)  ???:<ppspp_core::endpoint::Endpoint>::poll_transmit [/t/in_memory]
";
        let functions = parse(text);
        assert_eq!(functions.len(), 3);
        assert_eq!(functions[0], (1234, "sha2::sha256::compress256".to_owned()));
        assert_eq!(functions[2], (166, "<ppspp_core::endpoint::Endpoint>::poll_transmit".to_owned()));
        let works: Vec<Work> = functions.iter().map(|(_, function)| Work::of(function)).collect();
        assert_eq!(works, [Work::Hashing, Work::Copying, Work::Bookkeeping]);
        assert_eq!(Work::of("__libc_malloc"), Work::Allocation);
    }
}
