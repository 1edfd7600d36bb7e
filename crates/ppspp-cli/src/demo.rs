//! `ppspp demo`: one seeder and some leechers in this process, over real sockets of the loopback.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::TryRecvError;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::DecimalBytes;
use ppspp_core::CloseReason;
use ppspp_mio::{FetchRequest, Node, NodeConfig, ShareSource, Transfer, TransferEvent, TransferProgress};
use tempfile::TempDir;

use crate::args::DemoArgs;
use crate::console::{Console, peers, rate};
use crate::content::{self, Prepared, temporary};
use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::node::{self, GRACE};
use crate::output::Output;
use crate::patience::{Patience, Verdict};
use crate::report::{self, Report};
use crate::signals::Interrupt;
use crate::units::as_f64;

/// Any free port of the loopback.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How often the leechers are looked at: often enough for times that mean something.
const TURN: Duration = Duration::from_millis(5);

/// The longest time without new data before the demo fails; nothing is far away here.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes made or compared at a time.
const BUFFER: usize = 1 << 20;

/// Shares the file with leechers and compares what they get.
pub(crate) fn run(args: &DemoArgs, logging: bool) -> Outcome<Exit> {
    let interrupt = Interrupt::install()?;
    let console = Console::new(&args.output, logging);
    let dir = tempfile::tempdir().map_err(temporary)?;
    let path = match &args.path {
        Some(path) => path.clone(),
        None => make(&dir, args.size, console, &interrupt)?,
    };
    let Prepared { tree, metadata, length, .. } = content::prepare(&path, &args.metadata, None, console, &interrupt)?;
    console.say(format_args!("{} from one seeder to {} over UDP", DecimalBytes(length), peers(args.leechers.into())));

    let seeder = node::start(NodeConfig::listening_on(LOOPBACK), console)?;
    let source = ShareSource { path: path.clone(), tree, metadata: metadata.clone() };
    let shared = seeder.share(source).or_exit(Exit::Failed)?;
    let started = Instant::now();
    let mut leechers = Vec::new();
    for number in 1..=usize::from(args.leechers) {
        let request = FetchRequest {
            metadata: metadata.clone(),
            peers: vec![seeder.local_address()],
            output: dir.path().join(format!("copy-{number}")),
            force: false,
        };
        leechers.push(Leecher::start(number, seeder.local_address(), request, console)?);
    }
    watch(&mut leechers, length, console, &interrupt)?;
    let time = started.elapsed();
    for leecher in &leechers {
        leecher.compare(&path)?;
    }
    print(args, &leechers, length, time, &interrupt)?;
    for Leecher { node, transfer, .. } in leechers {
        transfer.stop();
        node.shutdown(GRACE);
    }
    shared.stop();
    seeder.shutdown(GRACE);
    Ok(Exit::done_unless(&interrupt))
}

/// One peer that fetches the file.
struct Leecher {
    number: usize,
    seeder: SocketAddr,
    output: PathBuf,
    node: Node,
    transfer: Transfer,
    started: Instant,
    /// How long it took, and how the transfer stood then.
    done: Option<(Duration, TransferProgress)>,
}

impl Leecher {
    fn start(number: usize, seeder: SocketAddr, request: FetchRequest, console: Console) -> Outcome<Self> {
        let (output, started) = (request.output.clone(), Instant::now());
        let node = node::start(NodeConfig::listening_on(LOOPBACK), console)?;
        let transfer = node.fetch(request).or_exit(Exit::Failed)?;
        Ok(Self { number, seeder, output, node, transfer, started, done: None })
    }

    /// Handles what happened since the last look.
    fn look(&mut self) -> Outcome {
        loop {
            match self.transfer.events().try_recv() {
                Ok(TransferEvent::Complete { .. }) => {
                    self.done = Some((self.started.elapsed(), self.transfer.progress()));
                }
                Ok(TransferEvent::Failed(error)) => return Err(error).or_exit(Exit::Failed),
                Ok(TransferEvent::PeerClosed { address, reason })
                    if address == self.seeder && self.done.is_none() && reason != CloseReason::Replaced =>
                {
                    let number = self.number;
                    return Err(Stop::new(Exit::Failed, format!("leecher {number} lost the seeder: {reason}")));
                }
                Ok(_) => {}
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    return Err(Stop::new(Exit::Failed, format!("leecher {} has stopped", self.number)));
                }
            }
        }
    }

    /// Compares the copy with the original, byte by byte.
    fn compare(&self, original: &Path) -> Outcome {
        let same = equal(original, &self.output).map_err(|error| Stop::system("cannot compare a copy", &error))?;
        if same {
            return Ok(());
        }
        Err(Stop::new(Exit::Failed, format!("the copy of leecher {} differs from the original", self.number)))
    }
}

/// Waits until all are complete.
fn watch(leechers: &mut [Leecher], length: u64, console: Console, interrupt: &Interrupt) -> Outcome {
    let total = length.saturating_mul(leechers.len() as u64);
    let (bar, started) = (console.bar("fetching"), Instant::now());
    let mut patience = Patience::new(TIMEOUT);
    let mut finishing = 0_u64;
    while leechers.iter().any(|leecher| leecher.done.is_none()) {
        if interrupt.is_set() {
            return Err(Stop::new(Exit::Interrupted, "interrupted"));
        }
        thread::sleep(TURN);
        let (mut stored, mut connected) = (0, false);
        for leecher in leechers.iter_mut() {
            leecher.look()?;
            let progress = leecher.transfer.progress();
            stored += progress.bytes_stored;
            connected |= progress.peers > 0;
        }
        bar.show(stored, total);
        // Once all is stored only the disk is waited for.
        finishing += u64::from(stored == total);
        match patience.judge(started.elapsed(), connected, (stored, finishing)) {
            Verdict::Wait => {}
            Verdict::NoAnswer(time) | Verdict::Stalled(time) => {
                let seconds = time.as_secs();
                return Err(Stop::new(Exit::Failed, format!("nothing moved for {seconds} s over the loopback")));
            }
        }
    }
    Ok(())
}

fn print(args: &DemoArgs, leechers: &[Leecher], length: u64, time: Duration, interrupt: &Interrupt) -> Outcome {
    let mut out = Output::stdout(interrupt)?;
    if !args.output.json {
        out.queue("leecher       bytes   seconds        MB/s  overhead  peers  chunks twice     bytes sent")?;
    }
    for Leecher { number, done, .. } in leechers {
        let Some((time, progress)) = done else { continue };
        let seconds = time.as_secs_f64();
        let overhead = as_f64(progress.traffic.received.bytes) / as_f64(length) - 1.0;
        let (peers, twice, sent) = (progress.peers, progress.stats.duplicate_chunks, progress.bytes_up);
        if args.output.json {
            out.object(&Report::Leecher(report::Leecher {
                number: *number,
                bytes: length,
                bytes_up: sent,
                seconds,
                overhead,
                peers,
                duplicate_chunks: twice,
            }))?;
        } else {
            let speed = as_f64(length) / seconds / 1e6;
            let percent = overhead * 100.0;
            out.queue(format_args!(
                "{number:>7} {length:>11} {seconds:>9.2} {speed:>11.1} {percent:>8.2}% {peers:>6} {twice:>13} {sent:>14}"
            ))?;
        }
    }
    let (count, seconds) = (leechers.len(), time.as_secs_f64());
    if args.output.json {
        return out.object(&Report::DemoDone { leechers: count, content_length: length, seconds });
    }
    let speed = rate(length.saturating_mul(count as u64), time);
    out.line(format_args!("{} in {seconds:.2} s, {speed} together, every copy equal", peers(count)))
}

/// Makes a file of pseudo-random bytes, the same at every run.
fn make(dir: &TempDir, size: u64, console: Console, interrupt: &Interrupt) -> Outcome<PathBuf> {
    let path = dir.path().join("original");
    let bar = console.bar("making a file");
    let mut file = BufWriter::with_capacity(BUFFER, File::create(&path).map_err(unmade)?);
    let mut state = 0_u64;
    let mut made = 0;
    while made < size {
        if made % (1 << 20) == 0 {
            if interrupt.is_set() {
                return Err(Stop::new(Exit::Interrupted, "interrupted"));
            }
            bar.show(made, size);
        }
        let word = split_mix(&mut state).to_le_bytes();
        let len = (size - made).min(8);
        let part = word.get(..usize::try_from(len).unwrap_or(8)).unwrap_or(&word);
        file.write_all(part).map_err(unmade)?;
        made += len;
    }
    file.flush().map_err(unmade)?;
    Ok(path)
}

#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
fn unmade(error: io::Error) -> Stop {
    Stop::system("cannot make a file for the demo", &error)
}

/// `SplitMix64`: fast, and random enough that no file system can compress it.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Whether two files hold the same bytes.
fn equal(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let read = one.read(&mut ours)?;
        let (Some(ours), Some(theirs)) = (ours.get(..read), theirs.get_mut(..read)) else { return Ok(false) };
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(theirs)?;
        if ours != theirs {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let mut bytes = vec![7; BUFFER * 2 + 5];
        std::fs::write(&one, &bytes).unwrap();
        std::fs::write(&other, &bytes).unwrap();
        assert!(equal(&one, &other).unwrap());
        for at in [0, BUFFER, BUFFER * 2 + 4] {
            bytes[at] ^= 1;
            std::fs::write(&other, &bytes).unwrap();
            assert!(!equal(&one, &other).unwrap());
            bytes[at] ^= 1;
        }
        std::fs::write(&other, &bytes[1..]).unwrap();
        assert!(!equal(&one, &other).unwrap());
    }

    #[test]
    fn the_mixer_is_the_published_one() {
        let mut state = 1_234_567;
        let words: Vec<_> = (0..3).map(|_| split_mix(&mut state)).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
