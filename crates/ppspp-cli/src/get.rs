//! `ppspp get`: fetches the content of a link.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use indicatif::DecimalBytes;
use ppspp_mio::file::FileProblem;
use ppspp_mio::link::Link;
use ppspp_mio::store::StoreOpenError;
use ppspp_mio::{
    FetchError, FetchRequest, Node, StreamRequest, Transfer, TransferError, TransferEvent, TransferProgress,
};

use crate::args::{FetchOrder, GetArgs};
use crate::changed::Changed;
use crate::console::{Bar, Console, peers, rate, swarm};
use crate::content::{file_failure, hash_failure, temporary};
use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::given::{Peer, Search};
use crate::hex::Hex;
use crate::meter::{Meter, Rates};
use crate::node::{self, GRACE, TURN};
use crate::output::Output;
use crate::patience::{Patience, Verdict, Visits};
use crate::pipe::Pipe;
use crate::report::{self, Progress, Report, Summary};
use crate::signals::Interrupt;
use crate::stats::{Sampler, Stats};

/// The output that means standard output.
const STDOUT: &str = "-";

/// How often figures are printed with `--json`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reasons for which peers went that are told when a fetch fails: more would not help.
const REASONS: usize = 3;

/// Fetches the content, and shares it afterwards if asked to.
pub(crate) fn run(args: &GetArgs, logging: bool) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let to_stdout = args.output.as_deref() == Some(Path::new(STDOUT));
    let mut console = Console::new(&args.messages, logging);
    let mut out = Output::stdout(&interrupt)?;
    if to_stdout {
        check_stdout(args)?;
        out = Output::stderr(&interrupt)?;
        if args.messages.json {
            console = Console::silent();
        }
    }
    let started = Instant::now();
    let output = output(args);
    let node = node::start(node::config(args.socket.listen, &args.exchange), console)?;
    // Peers are looked up afterwards: what is complete needs none.
    let (metadata, peers) = (args.link.metadata.clone(), Vec::new());
    let (transfer, pipe) = if to_stdout {
        let spool = tempfile::tempfile().map_err(temporary)?;
        let request = StreamRequest { metadata, peers, spool, ahead: StreamRequest::AHEAD };
        let (transfer, stream) = node.stream(request).map_err(refused)?;
        (transfer, Some(Pipe::start(stream)?))
    } else {
        let request = FetchRequest { metadata, peers, output: output.clone(), force: args.force };
        let checking = console.bar("verifying");
        let show = |done, total| checking.show(done, total);
        let transfer = node.fetch_watched(request, &show, interrupt.flag()).map_err(refused)?;
        drop(checking);
        if args.order != FetchOrder::default() {
            transfer.set_order(args.order.into());
        }
        (transfer, None)
    };
    if let Some(warning) = transfer.warning() {
        console.warn(warning);
    }
    let search = look_for_peers(args, &node, transfer.progress().complete, console, &interrupt)?;
    let mut getter = Getter {
        args,
        console,
        out,
        bar: console.transfer("fetching"),
        swarm_id: Hex(args.link.metadata.root.as_slice()).to_string(),
        path: output.display().to_string(),
        search,
        transfer,
        pipe,
        piped: false,
        started,
        completed: None,
        answered: false,
        reasons: Vec::new(),
        changed: Changed::default(),
        meter: Meter::default(),
        sampler: Sampler::default(),
    };
    let outcome = getter.begin(&node).and_then(|()| getter.fetch(&interrupt)).and_then(|()| getter.seed(&interrupt));
    getter.end(node, outcome)
}

/// Refuses what makes no sense while standard output carries the content.
fn check_stdout(args: &GetArgs) -> Outcome {
    let sentence = if args.keep_seeding || args.seed_for.is_some() {
        "content on standard output is shared while it is read; --keep-seeding and --seed-for need a file"
    } else if args.order == FetchOrder::Rarest {
        "content on standard output comes in order; --order rarest needs a file"
    } else if io::stdout().is_terminal() {
        "standard output is a terminal; pipe the content into a program or name a file with --output"
    } else {
        return Ok(());
    };
    Err(Stop::new(Exit::Usage, sentence))
}

/// Where the content goes: as asked, else as the link suggests, else named by the swarm.
fn output(args: &GetArgs) -> PathBuf {
    let Link { metadata, name, .. } = &*args.link;
    args.output.clone().unwrap_or_else(|| match name {
        Some(name) => name.as_str().into(),
        None => Hex(metadata.root.as_slice()).to_string().into(),
    })
}

/// Looks for the peers that were given, until one can be asked. A file that is complete already does without, and asks
/// none unless it is shared.
fn look_for_peers(
    args: &GetArgs,
    node: &Node,
    complete: bool,
    console: Console,
    interrupt: &Interrupt,
) -> Outcome<Option<Search>> {
    if complete && !args.keep_seeding && args.seed_for.is_none() {
        return Ok(None);
    }
    let hosts = args.link.hosts.iter().cloned().map(Peer::Host);
    let given: Vec<_> = hosts.chain(args.peers.iter().cloned()).collect();
    if given.is_empty() && !complete {
        return Err(Stop::new(Exit::Usage, "the link names no peers; add one with --peer ADDR:PORT"));
    }
    let search = Search::start(given, node.local_address(), console);
    if complete {
        return Ok(search.ok());
    }
    let mut search = search?;
    search.wait(interrupt)?;
    Ok(Some(search))
}

fn refused(error: FetchError) -> Stop {
    match error {
        FetchError::File(error) | FetchError::Open(StoreOpenError::File(error)) => file_failure(error),
        FetchError::Open(StoreOpenError::Hash(error)) => hash_failure(error),
        error => Stop::Failure(Exit::Usage, error.into()),
    }
}

/// What there is to say of a transfer beside how far it is.
fn figures(now: &TransferProgress, rates: Rates) -> String {
    let (who, second) = (swarm(now.peers, now.seeders), Duration::from_secs(1));
    let (down, up) = (rate(rates.down, second), rate(rates.up, second));
    format!(", {who}, {down} down, {up} up, {} twice", now.stats.duplicate_chunks)
}

/// Whether nothing is left to be fetched: what remains is to make the file durable and give it its name.
fn is_all_stored(now: &TransferProgress) -> bool {
    now.content_length == Some(now.bytes_stored)
}

/// What the next run can go on with. What an earlier one stored stays, whether it was read back yet or not.
fn kept(now: &TransferProgress) -> String {
    let bytes = now.bytes_stored.saturating_add(now.bytes_to_check);
    format!("{} are kept, run the same command again to go on", DecimalBytes(bytes))
}

struct Getter<'a> {
    args: &'a GetArgs,
    console: Console,
    out: Output,
    bar: Bar,
    swarm_id: String,
    path: String,
    /// The peers that were given, if any is to be asked.
    search: Option<Search>,
    transfer: Transfer,
    /// Where the content goes if not into a file.
    pipe: Option<Pipe>,
    /// Whether all of it went there.
    piped: bool,
    started: Instant,
    completed: Option<Duration>,
    /// Whether a peer was there, be it for a moment.
    answered: bool,
    /// Why peers went, the latest first; each once.
    reasons: Vec<String>,
    /// What changed of the finished file.
    changed: Changed,
    meter: Meter,
    sampler: Sampler,
}

impl Getter<'_> {
    /// Prints what `report` makes of the swarm's id, if programs want to know.
    fn report<'a>(&'a mut self, report: impl FnOnce(&'a str) -> Report<'a>) -> Outcome {
        if self.args.messages.json { self.out.object(&report(&self.swarm_id)) } else { Ok(()) }
    }

    fn begin(&mut self, node: &Node) -> Outcome {
        self.ask();
        if !self.args.messages.json {
            return Ok(());
        }
        let Self { swarm_id, path, search, .. } = self;
        let peers = search.as_ref().map_or(&[][..], Search::found);
        self.out.object(&Report::Fetching { swarm_id, path, listen: node.local_address(), peers })
    }

    /// Waits until the content is complete, and read by whoever reads it.
    fn fetch(&mut self, interrupt: &Interrupt) -> Outcome {
        let (limit, chunk_size) = (self.args.exchange.download_limit, self.args.link.metadata.chunk_size);
        let mut patience = Patience::new(self.args.timeout).under(limit, chunk_size);
        let (mut reported, mut visits) = (Instant::now(), Visits::default());
        let (mut before, mut held_up) = (TransferProgress::default(), 0_u64);
        while !self.is_done()? {
            if interrupt.is_set() {
                return Err(Stop::new(Exit::Interrupted, format!("interrupted; {}", self.kept())));
            }
            self.turn()?;
            let now = self.transfer.progress();
            let rates = self.look(&now);
            self.show(&now, rates);
            if reported.elapsed() >= INTERVAL {
                self.report_progress(&before, &now, rates)?;
                (before, reported) = (now.clone(), Instant::now());
            }
            if visits.are_due(self.started.elapsed(), now.peers > 0) {
                self.found().iter().for_each(|peer| self.transfer.add_peer(*peer));
            }
            // The time that a slow reader takes, or a slow disk in the end, is not held against the network.
            let by_reader = self.pipe.as_ref().is_some_and(Pipe::is_held_up);
            // Nor is that of name servers, while nobody answers who was found without.
            let by_names = !self.answered && self.search.as_ref().is_some_and(Search::is_under_way);
            held_up += u64::from(by_reader || by_names || is_all_stored(&now));
            let mark = (now.bytes_down, now.bytes_stored, now.bytes_to_check, held_up);
            match patience.judge(self.started.elapsed(), self.answered || now.peers > 0, mark) {
                Verdict::Wait => {}
                Verdict::NoAnswer(time) => return Err(self.no_answer(time)),
                Verdict::Stalled(time) => return Err(self.stalled(time, &now)),
            }
        }
        Ok(())
    }

    /// Whether everything is fetched, and written if it is to be written.
    fn is_done(&mut self) -> Outcome<bool> {
        let complete = self.completed.is_some();
        let Some(pipe) = self.pipe.as_ref().filter(|_| !self.piped) else { return Ok(complete) };
        // With all of it here only the reader is waited for.
        match pipe.wait(if complete { TURN } else { Duration::ZERO }) {
            None => {}
            Some(Ok(())) => self.piped = true,
            Some(Err(stop)) => {
                // Why the stream broke off is told by the transfer, if by anyone.
                self.drain()?;
                return Err(stop);
            }
        }
        Ok(complete && self.piped)
    }

    /// Handles what happens within a moment.
    fn turn(&mut self) -> Outcome {
        self.ask();
        let only_piping = self.pipe.is_some() && self.completed.is_some();
        match self.transfer.events().recv_timeout(if only_piping { Duration::ZERO } else { TURN }) {
            Ok(event) => self.on_event(event)?,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Stop::new(Exit::Failed, "the node has stopped; start again"));
            }
        }
        self.drain()
    }

    /// Asks the peers that were given and are found by now.
    fn ask(&mut self) {
        let Self { search, bar, transfer, .. } = self;
        let found = search.as_mut().map_or(&[][..], |search| search.take(bar));
        for peer in found {
            transfer.add_peer(*peer);
        }
    }

    fn found(&self) -> &[SocketAddr] {
        self.search.as_ref().map_or(&[], Search::found)
    }

    /// Handles what has happened.
    fn drain(&mut self) -> Outcome {
        while let Ok(event) = self.transfer.events().try_recv() {
            self.on_event(event)?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: TransferEvent) -> Outcome {
        match event {
            TransferEvent::PeerConnected { address } => {
                self.answered = true;
                self.report(|swarm_id| Report::PeerConnected { swarm_id, address })
            }
            TransferEvent::PeerClosed { address, reason } => {
                let (detail, reason) = (reason.to_string(), report::word(&reason));
                let told = format!("{address}: {detail}");
                self.reasons.retain(|other| *other != told);
                // More would not help.
                self.reasons.truncate(REASONS - 1);
                self.reasons.insert(0, told);
                self.report(|swarm_id| Report::PeerClosed { swarm_id, address, reason, detail })
            }
            TransferEvent::SizeKnown(content_length) => {
                self.report(|swarm_id| Report::SizeKnown { swarm_id, content_length })
            }
            TransferEvent::ContentChanged { offset, len } => {
                // Before it is complete what changed is fetched again.
                if self.completed.is_some() && self.pipe.is_none() {
                    self.changed.add(offset, len);
                }
                self.report(|swarm_id| Report::ContentChanged { swarm_id, offset, len })
            }
            TransferEvent::Complete { path } => self.complete(path),
            TransferEvent::Failed(TransferError::File(error))
                if self.pipe.is_some() && error.problem == FileProblem::Full =>
            {
                Err(Stop::new(Exit::Failed, "the disk for temporary files is full; name one with more room in TMPDIR"))
            }
            TransferEvent::Failed(error) => Err(error).or_exit(Exit::Failed),
            TransferEvent::Closed => Err(Stop::new(Exit::Failed, "the transfer has ended; start again")),
            _ => Ok(()),
        }
    }

    fn complete(&mut self, path: Option<PathBuf>) -> Outcome {
        let time = *self.completed.insert(self.started.elapsed());
        if let Some(path) = path {
            self.path = path.display().to_string();
        }
        let TransferProgress { bytes_fetched, bytes_stored, .. } = self.transfer.progress();
        let there = match bytes_stored.saturating_sub(bytes_fetched) {
            0 => String::new(),
            there => format!(", {} were there already", DecimalBytes(there)),
        };
        let (fetched, seconds, speed) = (DecimalBytes(bytes_fetched), time.as_secs_f64(), rate(bytes_fetched, time));
        let console = self.console;
        let prints_path = !self.args.messages.json && self.pipe.is_none();
        let mut printed = Ok(());
        self.bar.aside(|| {
            console.say(format_args!("fetched {fetched} in {seconds:.1} s ({speed}){there}; all verified"));
            if prints_path {
                printed = self.out.line(&self.path);
            }
        });
        printed?;
        if self.args.exchange.stats {
            self.sampler.look_again(&self.transfer);
        }
        if self.args.messages.json {
            self.out.object(&Report::Complete { swarm_id: &self.swarm_id, path: &self.path })
        } else {
            Ok(())
        }
    }

    /// Takes the rates, and samples if a summary was asked for.
    fn look(&mut self, now: &TransferProgress) -> Rates {
        let time = self.started.elapsed();
        if self.args.exchange.stats {
            self.sampler.look(&self.transfer, time);
        }
        self.meter.rates(time, now.bytes_down, now.bytes_up)
    }

    fn show(&self, now: &TransferProgress, rates: Rates) {
        let Some(total) = now.content_length else { return };
        if now.bytes_to_check > 0 {
            self.bar.restart(now.bytes_stored);
            self.bar.remark(format_args!(", {} to verify", DecimalBytes(now.bytes_to_check)));
        } else {
            self.bar.remark(figures(now, rates));
        }
        self.bar.show(now.bytes_stored, total);
    }

    fn report_progress(&mut self, before: &TransferProgress, now: &TransferProgress, rates: Rates) -> Outcome {
        if before == now {
            return Ok(());
        }
        self.report(|swarm_id| Report::Progress(Progress::new(swarm_id, now, rates)))
    }

    fn no_answer(&self, time: Duration) -> Stop {
        let asked = self.found().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let seconds = time.as_secs();
        Stop::new(
            Exit::NoPeer,
            format!(
                "no peer answered within {seconds} s (asked {asked}){}; check that the seeder runs and shares this very \
                 link",
                self.why()
            ),
        )
    }

    fn stalled(&self, time: Duration, now: &TransferProgress) -> Stop {
        let (seconds, peers) = (time.as_secs(), peers(now.peers));
        let kept = self.kept();
        Stop::new(Exit::Failed, format!("no new data for {seconds} s with {peers}{}; {kept}", self.why()))
    }

    /// The last reasons for which peers went.
    fn why(&self) -> String {
        if self.reasons.is_empty() { String::new() } else { format!(" ({})", self.reasons.join("; ")) }
    }

    fn kept(&self) -> String {
        if let Some(pipe) = &self.pipe {
            return format!("{} were written to standard output", DecimalBytes(pipe.written()));
        }
        kept(&self.transfer.progress())
    }

    /// Shares the finished file for as long as asked.
    fn seed(&mut self, interrupt: &Interrupt) -> Outcome {
        let until = match (self.args.keep_seeding, self.args.seed_for) {
            (true, _) => None,
            (false, Some(time)) => Some(time),
            (false, None) => return Ok(()),
        };
        self.bar = self.console.status("seeding");
        let since = Instant::now();
        let (mut shown, mut before) = (Instant::now(), self.transfer.progress());
        while !interrupt.is_set() && until.is_none_or(|time| since.elapsed() < time) {
            self.turn()?;
            if shown.elapsed() >= INTERVAL {
                self.changed.tell(&self.path, &self.bar);
                let now = self.transfer.progress();
                let rates = self.look(&now);
                let (who, speed) = (swarm(now.peers, now.seeders), rate(rates.up, Duration::from_secs(1)));
                self.bar.remark(format_args!(": {who}, {} sent, {speed}", DecimalBytes(now.bytes_up)));
                self.report_progress(&before, &now, rates)?;
                (before, shown) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// What came of it once everything is closed: a file that was being finished got its name meanwhile.
    fn judge(&mut self, outcome: Outcome) -> Outcome {
        if !matches!(outcome, Err(Stop::Failure(..))) || self.completed.is_some() || self.pipe.is_some() {
            return outcome;
        }
        while let Ok(event) = self.transfer.events().try_recv() {
            if matches!(event, TransferEvent::SizeKnown(_) | TransferEvent::Complete { .. }) {
                self.on_event(event)?;
            }
        }
        if self.completed.is_none() && self.transfer.progress().complete {
            // With many goodbyes before it the event found no room.
            self.complete(None)?;
        }
        if self.completed.is_some() { Ok(()) } else { outcome }
    }

    /// Says goodbye to the peers, saves what is there, and sums up.
    fn end(mut self, node: Node, outcome: Outcome) -> Outcome<Exit> {
        let gave_up = self.started.elapsed();
        self.changed.tell(&self.path, &self.bar);
        self.transfer.stop();
        node.shutdown(GRACE);
        let outcome = self.judge(outcome);
        let time = self.completed.unwrap_or(gave_up);
        let progress = self.transfer.progress();
        let error = match &outcome {
            Err(Stop::Failure(_, error)) => Some(format!("{error:#}")),
            Err(Stop::Unread) | Ok(()) => None,
        };
        let unread = matches!(outcome, Err(Stop::Unread));
        if self.args.exchange.stats && !unread {
            let stats = Stats::new(&self.swarm_id, &progress, &self.sampler);
            if self.args.messages.json {
                self.out.object(&Report::Stats(&stats))?;
            } else {
                self.bar.aside(|| self.console.say(&stats));
            }
        }
        let summary = Summary {
            swarm_id: &self.swarm_id,
            complete: self.completed.is_some(),
            path: &self.path,
            bytes_fetched: progress.bytes_fetched,
            bytes_already_there: progress.bytes_stored.saturating_sub(progress.bytes_fetched),
            bytes_sent: progress.bytes_up,
            seconds: time.as_secs_f64(),
            error,
        };
        if self.args.messages.json && !unread {
            self.out.object(&Report::Summary(summary))?;
        }
        outcome.map(|()| Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_to_be_verified_is_kept_as_well() {
        let mut now = TransferProgress::default();
        (now.bytes_stored, now.bytes_to_check) = (1_000_000, 99_000_000);
        assert_eq!(kept(&now), "100.00 MB are kept, run the same command again to go on");
    }

    /// What does not fit is cut off.
    #[test]
    fn the_figures_of_a_swarm_fit_into_eighty_columns() {
        let mut now = TransferProgress::default();
        (now.peers, now.seeders) = (12, 2);
        now.stats.duplicate_chunks = 34;
        let rates = Rates { down: 22_590_000, up: 12_340_000 };
        let line = format!("100%, 59s left{}", figures(&now, rates));
        assert_eq!(line, "100%, 59s left, 2 seeders, 10 leechers, 22.59 MB/s down, 12.34 MB/s up, 34 twice");
        assert!(line.len() <= 80, "{} columns", line.len());
    }
}
