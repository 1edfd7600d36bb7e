//! `ppspp seed`: shares files until told to stop.

use std::path::Path;
use std::sync::mpsc::TryRecvError;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::DecimalBytes;
use ppspp_core::CloseReason;
use ppspp_mio::link::{HostPort, Link};
use ppspp_mio::{Node, ShareError, ShareSource, Transfer, TransferEvent, TransferProgress};

use crate::addresses;
use crate::args::SeedArgs;
use crate::changed::Changed;
use crate::console::{Bar, Console, counted, rate, swarm};
use crate::content::{self, Prepared, file_failure};
use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::hash::Description;
use crate::meter::Meter;
use crate::node::{self, GRACE, TURN};
use crate::output::Output;
use crate::report::{self, Progress, Report};
use crate::signals::Interrupt;
use crate::stats::{Sampler, Stats};

/// How often figures are shown.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shares the files until Ctrl-C.
pub(crate) fn run(args: &SeedArgs, logging: bool) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let console = Console::new(&args.output, logging);
    let prepared = prepare(args, console, &interrupt)?;
    let node = node::start(node::config(args.socket.listen, &args.exchange), console)?;
    let (hosts, mut shares) = (hosts(args, &node, console)?, Vec::new());
    for (path, prepared) in prepared {
        shares.push(Share::start(&hosts, &node, path, prepared)?);
    }
    let mut out = Output::stdout(&interrupt)?;
    announce(args, &node, &shares, console, &mut out)?;
    let started = Instant::now();
    let mut seeder = Seeder { args, console, out, status: console.status("seeding"), shares, started };
    let outcome = seeder.watch(&interrupt);
    seeder.end(node, outcome)
}

/// Hashes all files. All are looked at before any is hashed, and all are hashed before any is served: whoever gets a
/// link can use it.
fn prepare<'a>(args: &'a SeedArgs, console: Console, interrupt: &Interrupt) -> Outcome<Vec<(&'a Path, Prepared)>> {
    for path in &args.paths {
        content::check(path, &args.metadata)?;
    }
    let cache = content::cache(&args.cache);
    let mut ready: Vec<(&Path, Prepared)> = Vec::new();
    for path in &args.paths {
        let prepared = content::prepare(path, &args.metadata, cache.as_ref(), console, interrupt)?;
        if let Some((same, _)) = ready.iter().find(|(_, other)| other.metadata == prepared.metadata) {
            let (path, same) = (path.display(), same.display());
            return Err(Stop::new(Exit::Usage, format!("{path} has the same content as {same}; share one of them")));
        }
        ready.push((path, prepared));
    }
    Ok(ready)
}

/// Prints the links, each as a line, and says what is shared.
fn announce(args: &SeedArgs, node: &Node, shares: &[Share<'_>], console: Console, out: &mut Output) -> Outcome {
    let listen = node.local_address();
    for share in shares {
        let (path, content) = (share.path.display().to_string(), &share.about);
        if args.output.json {
            out.object(&Report::Seeding { path, listen, content })?;
        } else {
            out.line(&content.link)?;
        }
    }
    let bytes = DecimalBytes(shares.iter().map(|share| share.about.content_length).sum());
    match shares {
        [share] => console.say(format_args!("sharing {} ({bytes}) on {listen}; Ctrl-C ends", share.path.display())),
        _ => console.say(format_args!("sharing {} files ({bytes}) on {listen}; Ctrl-C ends", shares.len())),
    }
    Ok(())
}

/// Where the links say that this machine is found.
fn hosts(args: &SeedArgs, node: &Node, console: Console) -> Outcome<Vec<HostPort>> {
    if let Some(host) = &args.advertise {
        return Ok(vec![host.clone()]);
    }
    let listen = node.local_address();
    let host = addresses::for_links(listen).or_exit(Exit::Usage)?;
    if host.is_none() {
        let (ip, port) = (listen.ip(), listen.port());
        console.warn(format_args!(
            "a link cannot say by which interface others reach {ip}, so it names no host: name one with --advertise \
             HOST:PORT, or fetch with --peer '[{ip}%INTERFACE]:{port}'"
        ));
    }
    Ok(host.into_iter().collect())
}

/// One file being shared.
struct Share<'a> {
    path: &'a Path,
    about: Description,
    transfer: Transfer,
    changed: Changed,
    meter: Meter,
    sampler: Sampler,
    reported: TransferProgress,
}

impl<'a> Share<'a> {
    fn start(hosts: &[HostPort], node: &Node, path: &'a Path, prepared: Prepared) -> Outcome<Self> {
        let (hosts, metadata, name) = (hosts.to_vec(), prepared.metadata.clone(), prepared.name.clone());
        let link = Link { hosts, metadata, name };
        let about = Description::new(&prepared, &link);
        let Prepared { tree, metadata, .. } = prepared;
        let transfer = match node.share(ShareSource { path: path.to_owned(), tree, metadata }) {
            Ok(transfer) => transfer,
            Err(ShareError::File(error)) => return Err(file_failure(error)),
            Err(error) => return Err(error).context(format!("cannot share {}", path.display())).or_exit(Exit::Failed),
        };
        let reported = transfer.progress();
        let (changed, meter, sampler) = (Changed::default(), Meter::default(), Sampler::default());
        Ok(Self { path, about, transfer, changed, meter, sampler, reported })
    }

    /// What there is to say of `event`, for programs; `None` for nothing.
    fn on_event(&mut self, event: TransferEvent, warn: impl Fn(String)) -> Outcome<Option<Report<'_>>> {
        let swarm_id = &self.about.swarm_id;
        Ok(Some(match event {
            TransferEvent::PeerConnected { address } => Report::PeerConnected { swarm_id, address },
            TransferEvent::PeerClosed { address, reason } => {
                if matches!(reason, CloseReason::Misbehaved(_)) {
                    warn(format!("peer {address} {reason}"));
                }
                let (detail, reason) = (reason.to_string(), report::word(&reason));
                Report::PeerClosed { swarm_id, address, reason, detail }
            }
            TransferEvent::ContentChanged { offset, len } => {
                self.changed.add(offset, len);
                Report::ContentChanged { swarm_id, offset, len }
            }
            TransferEvent::Failed(error) => return Err(error).or_exit(Exit::Failed),
            _ => return Ok(None),
        }))
    }

    /// Says what changed.
    fn tell_changes(&mut self, status: &Bar) {
        self.changed.tell(self.path.display(), status);
    }
}

struct Seeder<'a> {
    args: &'a SeedArgs,
    console: Console,
    out: Output,
    status: Bar,
    shares: Vec<Share<'a>>,
    started: Instant,
}

impl Seeder<'_> {
    /// Tells what happens until something ends it.
    fn watch(&mut self, interrupt: &Interrupt) -> Outcome {
        let mut shown = Instant::now();
        while !interrupt.is_set() {
            self.tell_events()?;
            if shown.elapsed() >= INTERVAL {
                self.show()?;
                shown = Instant::now();
            }
            thread::sleep(TURN);
        }
        self.tell_events()
    }

    fn tell_events(&mut self) -> Outcome {
        let Self { args, console, out, status, shares, started } = self;
        let warn = |sentence| status.aside(|| console.warn(sentence));
        for share in shares {
            if args.exchange.stats {
                share.sampler.look(&share.transfer, started.elapsed());
            }
            loop {
                let event = match share.transfer.events().try_recv() {
                    Ok(event) => event,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        return Err(Stop::new(Exit::Failed, "the node has stopped; start again"));
                    }
                };
                if let Some(report) = share.on_event(event, warn)?
                    && args.output.json
                {
                    out.object(&report)?;
                }
            }
        }
        Ok(())
    }

    fn show(&mut self) -> Outcome {
        let Self { args, out, status, shares, started, .. } = self;
        let (mut peers, mut seeders, mut sent, mut speed) = (0, 0, 0, 0);
        let time = started.elapsed();
        for share in &mut *shares {
            share.tell_changes(status);
            let now = share.transfer.progress();
            let rates = share.meter.rates(time, now.bytes_down, now.bytes_up);
            peers += now.peers;
            seeders += now.seeders;
            sent += now.bytes_up;
            speed += rates.up;
            if now != share.reported {
                if args.output.json {
                    out.object(&Report::Progress(Progress::new(&share.about.swarm_id, &now, rates)))?;
                }
                share.reported = now;
            }
        }
        let files = if shares.len() == 1 { String::new() } else { format!(" {}", counted(shares.len(), "file")) };
        let (who, sent, speed) = (swarm(peers, seeders), DecimalBytes(sent), rate(speed, Duration::from_secs(1)));
        status.remark(format_args!("{files}: {who}, {sent} sent, {speed}"));
        Ok(())
    }

    /// Says goodbye to the peers and sums up.
    fn end(self, node: Node, outcome: Outcome) -> Outcome<Exit> {
        let Self { args, console, mut out, status, mut shares, .. } = self;
        for share in &mut shares {
            share.tell_changes(&status);
            share.transfer.stop();
        }
        drop(status);
        node.shutdown(GRACE);
        if args.exchange.stats && !matches!(outcome, Err(Stop::Unread)) {
            for share in &shares {
                let progress = share.transfer.progress();
                let stats = Stats::new(&share.about.swarm_id, &progress, &share.sampler);
                if args.output.json {
                    out.object(&Report::Stats(&stats))?;
                } else {
                    console.say(format_args!("{}\n{stats}", share.path.display()));
                }
            }
        }
        outcome.map(|()| Exit::Interrupted)
    }
}
