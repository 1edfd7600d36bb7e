//! What is recorded of a run: a hash of its history always, a trace and a capture if asked for.

use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddrV4;

use crate::id::HostId;
use crate::pcap::Capture;
use crate::time::SimTime;

/// Octets of each payload that enter the hash: the channel, and the first messages with their hashes and times.
const HASHED: usize = 64;

/// What a line of the trace is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    Sent,
    Delivered,
    Dropped,
    Note,
}

impl Mark {
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "send",
            Self::Delivered => "recv",
            Self::Dropped => "drop",
            Self::Note => "note",
        }
    }
}

/// Where the recordings go.
#[derive(Default)]
pub struct Recording {
    /// One line per event.
    pub trace: Option<Box<dyn Write + Send>>,
    /// Every datagram as its sender sent it, in pcapng.
    pub pcap: Option<Box<dyn Write + Send>>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("trace", &self.trace.is_some()).field("pcap", &self.pcap.is_some()).finish()
    }
}

/// Records a run.
pub(crate) struct Tape {
    hash: u64,
    trace: Option<BufWriter<Box<dyn Write + Send>>>,
    capture: Option<Capture<Box<dyn Write + Send>>>,
    /// The first error in writing; it ends the recording, not the run.
    error: Option<io::Error>,
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Tape {
    /// # Errors
    /// If the capture's header cannot be written.
    pub(crate) fn new(recording: Recording) -> io::Result<Self> {
        Ok(Self {
            hash: 0x5051_5350_5050,
            trace: recording.trace.map(BufWriter::new),
            capture: recording.pcap.map(Capture::new).transpose()?,
            error: None,
        })
    }

    /// Records what became of a packet.
    pub(crate) fn packet(
        &mut self,
        now: SimTime,
        mark: Mark,
        host: HostId,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        payload: &[u8],
    ) {
        self.mix(now.as_nanos());
        self.mix(mark as u64 | u64::from(host.0) << 8 | (payload.len() as u64) << 40);
        if mark == Mark::Sent {
            self.mix(u64::from(u32::from(*destination.ip())) << 16 | u64::from(destination.port()));
            for word in payload[..payload.len().min(HASHED)].chunks(8) {
                let mut octets = [0; 8];
                octets[..word.len()].copy_from_slice(word);
                self.mix(u64::from_le_bytes(octets));
            }
            if let Some(capture) = &mut self.capture
                && let Err(error) = capture.datagram(now, source, destination, payload)
            {
                self.capture = None;
                self.error = Some(error);
            }
        }
        if self.trace.is_some() {
            let len = payload.len();
            self.line(now, mark, host, format_args!("{source} > {destination} {len}"));
        }
    }

    /// Records something that is no packet.
    pub(crate) fn note(&mut self, now: SimTime, host: HostId, what: fmt::Arguments<'_>) {
        let mut hashing = Hashing(self);
        // Writing into a hash cannot fail.
        let _ = hashing.write_fmt(what);
        self.mix(now.as_nanos() ^ u64::from(host.0) << 48);
        if self.trace.is_some() {
            self.line(now, Mark::Note, host, what);
        }
    }

    fn line(&mut self, now: SimTime, mark: Mark, host: HostId, what: fmt::Arguments<'_>) {
        let Some(trace) = &mut self.trace else { return };
        if let Err(error) = writeln!(trace, "{now} {} {} {what}", mark.name(), host.0) {
            self.trace = None;
            self.error = Some(error);
        }
    }

    const fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// The hash of the history so far.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Writes out what is still buffered; the first error that occurred in writing, if any.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(trace) = &mut self.trace {
            trace.flush()?;
        }
        if let Some(capture) = &mut self.capture {
            capture.flush()?;
        }
        self.error.take().map_or(Ok(()), Err)
    }
}

struct Hashing<'a>(&'a mut Tape);

impl fmt::Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|octet| self.0.mix(u64::from(octet)));
        Ok(())
    }
}
