//! `ppspp hash`: the swarm id and metadata of a file.

use ppspp_mio::link::Link;
use serde::Serialize;

use crate::args::HashArgs;
use crate::console::Console;
use crate::content::{self, Prepared};
use crate::exit::{Exit, Outcome};
use crate::hex::Hex;
use crate::output::Output;
use crate::signals::Interrupt;

/// A content's metadata, for programs.
#[derive(Serialize)]
pub(crate) struct Description {
    pub(crate) swarm_id: String,
    pub(crate) content_length: u64,
    hash: &'static str,
    addressing: &'static str,
    chunk_size: u32,
    chunks: u64,
    pub(crate) link: String,
}

impl Description {
    /// Describes `prepared`, to be found at the hosts of `link`.
    pub(crate) fn new(prepared: &Prepared, link: &Link) -> Self {
        let metadata = &prepared.metadata;
        let chunk_size = metadata.chunk_size.bytes();
        Self {
            swarm_id: Hex(metadata.root.as_slice()).to_string(),
            content_length: prepared.length,
            hash: metadata.function.name(),
            addressing: metadata.addressing.name(),
            chunk_size,
            chunks: prepared.length.div_ceil(chunk_size.into()),
            link: link.to_string(),
        }
    }
}

/// Hashes the file and prints what identifies it.
pub(crate) fn run(args: &HashArgs, logging: bool) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let console = Console::new(&args.output, logging);
    let cache = content::cache(&args.cache);
    let prepared = content::prepare(&args.path, &args.metadata, cache.as_ref(), console, &interrupt)?;
    let link = Link { hosts: Vec::new(), metadata: prepared.metadata.clone(), name: prepared.name.clone() };
    let about = Description::new(&prepared, &link);
    let mut out = Output::stdout(&interrupt)?;
    if args.output.json {
        out.object(&about)?;
    } else {
        out.queue(format_args!("swarm id    {}", about.swarm_id))?;
        out.queue(format_args!("length      {} bytes", about.content_length))?;
        out.queue(format_args!("hash        {}", about.hash))?;
        out.queue(format_args!("addressing  {}", about.addressing))?;
        out.queue(format_args!("chunk size  {} bytes", about.chunk_size))?;
        out.queue(format_args!("chunks      {}", about.chunks))?;
        out.line(format_args!("link        {}", about.link))?;
    }
    Ok(Exit::done_unless(&interrupt))
}
