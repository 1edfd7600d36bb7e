//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ppspp_core::integrity::HashFunction;

const MIB: u64 = 1024 * 1024;

/// Measures `ppspp seed` and `ppspp get` against a bare loop over loopback.
#[derive(Parser, Debug)]
#[command(version, about)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Mode {
    /// The bare loop and the product on one file: rates, their ratio, processor time and peak memory of each side.
    Compare(CompareArgs),
    /// Peak memory of either side of a large transfer.
    Memory(MemoryArgs),
    /// One and four seeders, one and four leechers: rates and their ratios, processor time, the seeder's re-hashing.
    Swarm(SwarmArgs),
    /// From the start of a fetching process to the first verified 64 KiB in its file.
    Start(StartArgs),
    /// Idle channels in the core alone: memory of each, the time of a poll, the share of keep-alives.
    Idle(IdleArgs),
    /// Instructions for each chunk by kind of work, counted by valgrind in the `in_memory` example of the core.
    Profile(ProfileArgs),
    /// Nanoseconds for each chunk by kind of work, sampled by perf in both processes of a transfer.
    Split(SplitArgs),
    /// The sending half of the bare loop.
    #[command(hide = true)]
    BareSeed(BareSeedArgs),
    /// The receiving half of the bare loop.
    #[command(hide = true)]
    BareGet(BareGetArgs),
}

#[derive(Parser, Debug)]
pub(crate) struct Common {
    /// Where the content and the download go, in a directory of their own that is removed at the end; needs twice the
    /// size. On a disk the product also syncs what it stored, the bare loop does not [default for compare: /dev/shm
    /// where there is one; else the directory for temporary files].
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// The ppspp command to measure [default: the one beside this program].
    #[arg(long)]
    pub(crate) ppspp: Option<PathBuf>,
    /// Seconds after which a transfer counts as stuck.
    #[arg(long, default_value_t = 300)]
    pub(crate) patience: u64,
}

#[derive(Parser, Debug)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Content in MiB.
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: u64,
    /// Chunk sizes in bytes, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1024,8192")]
    pub(crate) chunk_size: Vec<u32>,
    /// Transfers of each kind, alternating after one that does not count; medians are reported.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Hash function: sha1, sha224, sha256, sha384 or sha512.
    #[arg(long, default_value = "sha256")]
    pub(crate) hash: HashFunction,
    /// Measure only the product.
    #[arg(long, conflicts_with = "skip_product")]
    pub(crate) skip_bare: bool,
    /// Measure only the bare loop.
    #[arg(long)]
    pub(crate) skip_product: bool,
}

#[derive(Parser, Debug)]
pub(crate) struct MemoryArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Content in MiB.
    #[arg(long, default_value_t = 4096)]
    pub(crate) size: u64,
    /// Chunk size in bytes.
    #[arg(long, default_value_t = 1024)]
    pub(crate) chunk_size: u32,
    /// Hash functions, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "sha256,sha512")]
    pub(crate) hash: Vec<HashFunction>,
}

#[derive(Parser, Debug)]
pub(crate) struct SwarmArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Content in MiB; there is room for five times as much.
    #[arg(long, default_value_t = 256)]
    pub(crate) size: u64,
    /// Chunk size in bytes.
    #[arg(long, default_value_t = 1024)]
    pub(crate) chunk_size: u32,
    /// Hash function: sha1, sha224, sha256, sha384 or sha512.
    #[arg(long, default_value = "sha256")]
    pub(crate) hash: HashFunction,
    /// Transfers of each kind, alternating after one that does not count; medians are reported.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
}

#[derive(Parser, Debug)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Content in MiB.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: u64,
    /// Chunk size in bytes.
    #[arg(long, default_value_t = 1024)]
    pub(crate) chunk_size: u32,
    /// Starts, after one that does not count.
    #[arg(long, default_value_t = 11)]
    pub(crate) rounds: usize,
}

#[derive(Parser, Debug)]
pub(crate) struct IdleArgs {
    /// Channels of the endpoint.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) channels: usize,
}

#[derive(Parser, Debug)]
pub(crate) struct ProfileArgs {
    /// The example, built with `cargo build --release -p ppspp-core --example in_memory` [default: the one beside this
    /// program].
    #[arg(long)]
    pub(crate) example: Option<PathBuf>,
    /// Content in MiB; valgrind takes about a second for each.
    #[arg(long, default_value_t = 16)]
    pub(crate) size: u64,
    /// Chunk size in bytes.
    #[arg(long, default_value_t = 1024)]
    pub(crate) chunk_size: u32,
    /// Functions to list for each side, the most expensive first.
    #[arg(long, default_value_t = 12)]
    pub(crate) top: usize,
}

#[derive(Parser, Debug)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Content in MiB.
    #[arg(long, default_value_t = 512)]
    pub(crate) size: u64,
    /// Chunk size in bytes.
    #[arg(long, default_value_t = 1024)]
    pub(crate) chunk_size: u32,
    /// Transfers; of those the least and the median are reported.
    #[arg(long, default_value_t = 9)]
    pub(crate) rounds: usize,
}

#[derive(Parser, Debug)]
pub(crate) struct BareSeedArgs {
    /// The file to send.
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) format: BareFormat,
    /// Hash what is sent, as a seeder does.
    #[arg(long)]
    pub(crate) rehash: bool,
}

#[derive(Parser, Debug)]
pub(crate) struct BareGetArgs {
    /// Where the sender listens.
    pub(crate) peer: SocketAddr,
    /// The file to write.
    #[arg(short)]
    pub(crate) output: PathBuf,
    /// Content in bytes.
    #[arg(long)]
    pub(crate) len: u64,
    #[command(flatten)]
    pub(crate) format: BareFormat,
}

#[derive(Parser, Clone, Copy, Debug)]
pub(crate) struct BareFormat {
    #[arg(long)]
    pub(crate) chunk_size: u32,
    #[arg(long)]
    pub(crate) hash: HashFunction,
}

/// `size` MiB in bytes.
pub(crate) fn mebibytes(size: u64) -> u64 {
    size.saturating_mul(MIB)
}
