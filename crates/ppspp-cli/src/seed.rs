//! `ppspp seed`: shares a file until told to stop.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use indicatif::DecimalBytes;
use ppspp_core::CloseReason;
use ppspp_mio::link::{HostPort, Link};
use ppspp_mio::{Node, ShareError, ShareSource, Transfer, TransferEvent, TransferProgress};

use crate::addresses::reachable;
use crate::args::SeedArgs;
use crate::console::{Bar, Console, peers, rate};
use crate::content::{self, Prepared, file_failure};
use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::hash::Description;
use crate::node::{self, GRACE, TURN};
use crate::output::{Output, complain};
use crate::report::Report;
use crate::signals::Interrupt;

/// How often figures are shown.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shares the file until Ctrl-C.
pub(crate) fn run(args: &SeedArgs, logging: bool) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let console = Console::new(&args.output, logging);
    let cache = content::cache(&args.cache);
    let prepared = content::prepare(&args.path, &args.metadata, cache.as_ref(), console, &interrupt)?;
    let node = node::start(args.socket.listen, console)?;
    let link = link(args, &node, &prepared)?;
    let about = Description::new(&prepared, &link);
    let Prepared { tree, metadata, length, .. } = prepared;
    let shared = node.share(ShareSource { path: args.path.clone(), tree, metadata });
    let transfer = shared.map_err(|error| match error {
        ShareError::File(error) => file_failure(error),
        error => Stop::Failure(Exit::Failed, error.into()),
    })?;

    let (listen, path) = (node.local_address(), args.path.display());
    let mut out = Output::stdout();
    if args.output.json {
        out.object(&Report::Seeding { path: path.to_string(), listen, content: &about })?;
    } else {
        out.line(&link)?;
    }
    console.say(format_args!("sharing {path} ({}) on {listen}; Ctrl-C ends", DecimalBytes(length)));
    let mut seeder = Seeder { args, console, out, status: console.status("seeding"), changed: Changed::default() };
    let outcome = seeder.watch(&transfer, &interrupt);
    drop(seeder);
    transfer.stop();
    node.shutdown(GRACE);
    outcome
}

/// The link under which the file is found.
fn link(args: &SeedArgs, node: &Node, prepared: &Prepared) -> Outcome<Link> {
    let host = match &args.advertise {
        Some(host) => host.clone(),
        None => HostPort::try_from(reachable(node.local_address())).or_exit(Exit::Usage)?,
    };
    Ok(Link { hosts: vec![host], metadata: prepared.metadata.clone(), name: prepared.name.clone() })
}

struct Seeder<'a> {
    args: &'a SeedArgs,
    console: Console,
    out: Output,
    status: Bar,
    changed: Changed,
}

impl Seeder<'_> {
    /// Tells what happens until something ends it.
    fn watch(&mut self, transfer: &Transfer, interrupt: &Interrupt) -> Outcome<Exit> {
        let mut shown = Instant::now();
        let mut before = transfer.progress();
        while !interrupt.is_set() {
            match transfer.events().recv_timeout(TURN) {
                Ok(event) => self.on_event(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Stop::new(Exit::Failed, "the node has stopped; start again"));
                }
            }
            if shown.elapsed() >= INTERVAL {
                let progress = transfer.progress();
                self.show(&before, &progress, shown.elapsed())?;
                (before, shown) = (progress, Instant::now());
            }
        }
        self.tell_changes();
        Ok(Exit::Interrupted)
    }

    fn on_event(&mut self, event: TransferEvent) -> Outcome {
        let report = match event {
            TransferEvent::PeerConnected { address } => Report::PeerConnected { address },
            TransferEvent::PeerClosed { address, reason } => {
                if matches!(reason, CloseReason::Misbehaved(_)) {
                    let console = self.console;
                    self.status.aside(|| console.warn(format_args!("peer {address} {reason}")));
                }
                Report::PeerClosed { address, reason: reason.to_string() }
            }
            TransferEvent::ContentChanged { offset, len } => {
                self.changed.add(offset, len);
                Report::ContentChanged { offset, len }
            }
            TransferEvent::Failed(error) => return Err(error).or_exit(Exit::Failed),
            _ => return Ok(()),
        };
        if self.args.output.json { self.out.object(&report) } else { Ok(()) }
    }

    fn show(&mut self, before: &TransferProgress, now: &TransferProgress, time: Duration) -> Outcome {
        self.tell_changes();
        let sent = DecimalBytes(now.bytes_up);
        let speed = rate(now.bytes_up.saturating_sub(before.bytes_up), time);
        self.status.remark(format_args!(": {}, {sent} sent, {speed}", peers(now.peers)));
        if self.args.output.json && before != now {
            self.out.object(&Report::Progress {
                bytes: now.bytes_stored,
                content_length: now.content_length,
                bytes_down: now.bytes_down,
                bytes_up: now.bytes_up,
                peers: now.peers,
            })?;
        }
        Ok(())
    }

    /// Errors are told even if asked to be quiet: peers will not get the file whole.
    fn tell_changes(&mut self) {
        let path = self.args.path.display();
        let Some(what) = self.changed.take() else { return };
        self.status.aside(|| {
            complain(format_args!(
                "{path} changed on disk: {what} no longer match and are not served, the rest is; restore the file or \
                 share it anew"
            ));
        });
    }
}

/// Changed parts of the file, until they are told.
#[derive(Default)]
struct Changed {
    first: Option<(u64, u64)>,
    more: u64,
}

impl Changed {
    fn add(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        match &mut self.first {
            Some((_, known)) if *known == offset => *known = end,
            Some((start, known)) if *start <= offset && end <= *known => {}
            Some(_) => self.more = self.more.saturating_add(len),
            None => self.first = Some((offset, end)),
        }
    }

    fn take(&mut self) -> Option<String> {
        let Self { first, more } = std::mem::take(self);
        let (start, end) = first?;
        let others = if more > 0 { format!(" and {more} others") } else { String::new() };
        Some(format!("bytes {start} to {}{others}", end.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_together() {
        let mut changed = Changed::default();
        assert_eq!(changed.take(), None);
        changed.add(16384, 16384);
        changed.add(32768, 16384);
        changed.add(16384, 16384);
        assert_eq!(changed.take().unwrap(), "bytes 16384 to 49151");
        changed.add(0, 10);
        changed.add(100, 10);
        changed.add(200, 5);
        assert_eq!(changed.take().unwrap(), "bytes 0 to 9 and 15 others");
        assert_eq!(changed.take(), None);
    }
}
