//! `ppspp decode`: a capture, message by message.

mod capture;
mod channels;
mod input;
mod packet;
mod print;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::net::SocketAddr;
use std::path::Path;

use ppspp_core::wire::{Format, MessageType, Messages, split_channel};

use crate::args::DecodeArgs;
use crate::exit::{Exit, OrExit as _, Outcome, Stop};
use crate::hex::{Hex, unhex};
use crate::output::{Output, say};
use crate::signals::Interrupt;
use capture::{Capture, CaptureError, Packet};
use channels::{Assumed, Channels, Direction, segment_end};
use input::Input;
use packet::{Skipped, Udp};
use print::Line;

/// Longest line that is read as hexadecimal digits, in bytes: the longest datagram, written generously.
const MAX_LINE: u64 = 1 << 20;

/// Decodes what the arguments name.
pub(crate) fn run(args: &DecodeArgs) -> Outcome<Exit> {
    let assumed = Assumed {
        function: args.metadata.hash,
        addressing: args.metadata.addressing,
        chunk_size: args.metadata.chunk_size,
    };
    let interrupt = Interrupt::install()?;
    let mut decoder = Decoder::new(Output::stdout(&interrupt)?, interrupt.clone(), assumed, args.port);
    let path = Path::new(&args.input);
    if args.input == "-" || path.exists() {
        let (shown, input) = match args.input.as_str() {
            "-" => ("standard input".to_owned(), Input::stdin(&interrupt)),
            _ => (path.display().to_string(), open(path, &interrupt)),
        };
        let input = input.map_err(|error| Stop::new(Exit::Usage, format!("cannot read {shown}: {error}")))?;
        let at_hand = input.at_hand();
        let outcome = decoder.stream(&shown, input, at_hand);
        // A signal ends the input where it is.
        if !interrupt.is_set() {
            outcome?;
        }
    } else {
        let datagram = unhex(&args.input).ok_or_else(|| {
            let input = &args.input;
            Stop::new(Exit::Usage, format!("{input:?} is neither a file nor a datagram in hexadecimal digits"))
        })?;
        decoder.bare(&datagram)?;
    }
    decoder.finish()
}

fn open(path: &Path, interrupt: &Interrupt) -> io::Result<Input> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Input::of(File::open(path)?, interrupt)
}

/// What was left out, for the closing remark.
#[derive(Default)]
struct LeftOut {
    other_udp: u64,
    not_udp: u64,
    fragments: u64,
    unknown_link: u64,
}

struct Decoder<W: io::Write> {
    out: Output<W>,
    interrupt: Interrupt,
    channels: Channels,
    assumed: Assumed,
    port: Option<u16>,
    datagrams: u64,
    invalid: u64,
    first_invalid: Option<String>,
    left_out: LeftOut,
}

impl<W: io::Write> Decoder<W> {
    fn new(out: Output<W>, interrupt: Interrupt, assumed: Assumed, port: Option<u16>) -> Self {
        Self {
            out,
            interrupt,
            channels: Channels::new(assumed),
            assumed,
            port,
            datagrams: 0,
            invalid: 0,
            first_invalid: None,
            left_out: LeftOut::default(),
        }
    }

    /// Decodes a capture, or lines of hexadecimal digits, up to a signal. What is decoded is printed before more is
    /// waited for, as it is unless it is `at_hand`.
    fn stream(&mut self, name: &str, mut from: impl Read, at_hand: impl Fn() -> bool) -> Outcome {
        let mut start = Vec::new();
        from.by_ref().take(4).read_to_end(&mut start).map_err(CaptureError::from).or_exit(Exit::Usage)?;
        let mut whole = start.as_slice().chain(from);
        if !Capture::<&[u8]>::recognises(&start) {
            return self.lines(name, io::BufReader::new(whole), at_hand);
        }
        let mut capture = Capture::open(&mut whole).map_err(|error| unusable(name, &error))?;
        while !self.interrupt.is_set() {
            match capture.next_packet() {
                Ok(Some(packet)) => self.packet(&packet)?,
                Ok(None) => break,
                Err(error) => {
                    self.out.flush()?;
                    return Err(Stop::new(Exit::Failed, format!("{name}: {error}")));
                }
            }
            if !at_hand() {
                self.out.flush()?;
            }
        }
        Ok(())
    }

    /// Decodes lines of hexadecimal digits, a datagram each.
    fn lines(&mut self, name: &str, mut from: impl BufRead, at_hand: impl Fn() -> bool) -> Outcome {
        let (mut line, mut number) = (Vec::new(), 0_u64);
        while !self.interrupt.is_set() {
            line.clear();
            let read = from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            if read.map_err(CaptureError::from).or_exit(Exit::Usage)? == 0 {
                break;
            }
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let whole = line.len() as u64 != MAX_LINE;
            match str::from_utf8(&line).ok().filter(|_| whole).and_then(unhex) {
                Some(datagram) => self.bare(&datagram)?,
                None if self.datagrams == 0 => break,
                None => {
                    self.out.flush()?;
                    let sentence = format!("{name}: line {number} is no datagram in hexadecimal digits");
                    return Err(Stop::new(Exit::Failed, sentence));
                }
            }
            if !at_hand() {
                self.out.flush()?;
            }
        }
        if self.datagrams == 0 { Err(unusable(name, &CaptureError::NotACapture)) } else { Ok(()) }
    }

    fn packet(&mut self, packet: &Packet) -> Outcome {
        let Udp { source, destination, payload, cut } = match packet::udp(packet.link, &packet.data) {
            Ok(udp) => udp,
            Err(reason) => {
                let count = match reason {
                    Skipped::NotUdp => &mut self.left_out.not_udp,
                    Skipped::Fragment => &mut self.left_out.fragments,
                    Skipped::UnknownLink => &mut self.left_out.unknown_link,
                };
                *count += 1;
                return Ok(());
            }
        };
        let way = Direction { source, destination };
        let ours = match self.port {
            Some(port) => source.port() == port || destination.port() == port,
            None => self.channels.is_ppspp(way, payload),
        };
        if !ours {
            self.left_out.other_udp += 1;
            return Ok(());
        }
        let (seconds, micros) = (packet.time.as_secs(), packet.time.subsec_micros());
        let title = format!("#{} {seconds}.{micros:06} {source} > {destination}", packet.number);
        self.datagram(&title, way, payload, cut)
    }

    /// Decodes a datagram that came from nowhere.
    fn bare(&mut self, payload: &[u8]) -> Outcome {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let title = format!("#{}", self.datagrams + 1);
        self.datagram(&title, Direction { source: nowhere, destination: nowhere }, payload, false)
    }

    /// Prints a datagram, or several that segmentation offload merged into one packet.
    fn datagram(&mut self, title: &str, way: Direction, payload: &[u8], cut: bool) -> Outcome {
        let mut rest = payload;
        let mut merged = 0;
        loop {
            self.datagrams += 1;
            merged += 1;
            let part = if merged == 1 { String::new() } else { format!(" (part {merged} of the packet)") };
            let Some((channel, body)) = split_channel(rest) else {
                self.out.queue(format_args!("{title}{part} {} bytes", rest.len()))?;
                return self.invalid(title, &format_args!("{} bytes are too few for a channel id", rest.len()), "");
            };
            let (format, told) = self.channels.format(way, channel, body);
            let end = segment_end(channel, body, &format);
            let (body, next) = body.split_at(end.unwrap_or(body.len()));
            self.out.queue(format_args!("{title}{part} channel {channel}, {} bytes", body.len() + 4))?;
            self.messages(title, body, &format, told, cut && next.is_empty())?;
            if next.is_empty() {
                return Ok(());
            }
            rest = next;
        }
    }

    fn messages(&mut self, title: &str, body: &[u8], format: &Format, told: bool, cut: bool) -> Outcome {
        if body.is_empty() {
            return self.out.queue("    keep-alive");
        }
        for message in Messages::new(body, format) {
            match message {
                Ok(message) => self.out.queue(format_args!("    {}", Line(&message)))?,
                Err(_) if cut => return self.out.queue("    the capture holds no more of it"),
                Err(error) => {
                    let rest = body.get(error.offset()..).unwrap_or_default();
                    if !rest.is_empty() {
                        self.out.queue(format_args!("    undecoded {}", Shortened(rest)))?;
                    }
                    let Assumed { function, addressing, chunk_size } = self.assumed;
                    let hint = format!(
                        " (no handshake of this channel was seen; assumed {addressing}, {function} and chunks of \
                         {chunk_size} bytes)"
                    );
                    let told = told || error.message() == Some(MessageType::Handshake);
                    return self.invalid(title, &error, if told { "" } else { &hint });
                }
            }
        }
        Ok(())
    }

    fn invalid(&mut self, title: &str, reason: &dyn fmt::Display, hint: &str) -> Outcome {
        self.invalid += 1;
        if self.first_invalid.is_none() {
            self.first_invalid = Some(format!("{title}: {reason}{hint}"));
        }
        self.out.queue(format_args!("    INVALID {reason}{hint}"))
    }

    /// The verdict on everything decoded.
    fn finish(mut self) -> Outcome<Exit> {
        self.out.flush()?;
        let LeftOut { other_udp, not_udp, fragments, unknown_link } = self.left_out;
        for (count, what) in [
            (other_udp, "UDP packets that are not PPSPP were left out; --port takes all those of a port"),
            (not_udp, "packets that are not UDP were left out"),
            (fragments, "fragments of UDP packets were left out; capture on the loopback or with a larger MTU"),
            (unknown_link, "packets of a link layer that is not understood were left out"),
        ] {
            if count > 0 {
                say(format_args!("{count} {what}"));
            }
        }
        let (invalid, datagrams) = (self.invalid, self.datagrams);
        if self.interrupt.is_set() {
            let sentence = format!("interrupted after {datagrams} datagrams, {invalid} of them invalid");
            return Err(Stop::new(Exit::Interrupted, sentence));
        }
        match self.first_invalid {
            Some(first) => {
                Err(Stop::new(Exit::Failed, format!("{invalid} of {datagrams} datagrams are invalid, first {first}")))
            }
            None => Ok(Exit::Done),
        }
    }
}

fn unusable(name: &str, error: &CaptureError) -> Stop {
    Stop::new(Exit::Usage, format!("cannot decode {name}: {error}"))
}

/// Bytes in hexadecimal, not too many of them.
struct Shortened<'a>(&'a [u8]);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        let shown = self.0.get(..SHOWN).unwrap_or(self.0);
        write!(f, "{}", Hex(shown))?;
        if self.0.len() > SHOWN { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ppspp_core::chunk::{ChunkAddressing, ChunkSize};
    use ppspp_core::integrity::HashFunction;
    use ppspp_core::wire::Message;

    use super::*;
    use capture::tests::classic_file;
    use packet::tests::ipv4_packet;

    fn assumed(function: HashFunction, addressing: ChunkAddressing) -> Assumed {
        Assumed { function, addressing, chunk_size: ChunkSize::DEFAULT }
    }

    fn defaults() -> Assumed {
        assumed(HashFunction::default(), ChunkAddressing::default())
    }

    /// What decoding prints, and what it ends with.
    fn decode(file: &[u8], assumed: Assumed, port: Option<u16>) -> (String, Outcome<Exit>) {
        let mut text = Vec::new();
        let mut decoder = Decoder::new(Output::new(&mut text), Interrupt::default(), assumed, port);
        let outcome = decoder.stream("capture", file, || true).and_then(|()| decoder.finish());
        (String::from_utf8(text).unwrap(), outcome)
    }

    fn reason(outcome: Outcome<Exit>) -> (Exit, String) {
        match outcome {
            Err(Stop::Failure(exit, error)) => (exit, error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn vector(name: &str) -> Vec<u8> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ppspp-core/tests/vectors").join(name);
        std::fs::read(path).unwrap()
    }

    fn count(text: &str, what: &str) -> usize {
        text.lines().filter(|line| line.trim_start().starts_with(what)).count()
    }

    #[test]
    fn captures_of_other_implementations_decode() {
        for (name, datagrams, data) in [
            ("libswift-1-byte.pcap", 19, 1),
            ("libswift-7162.pcap", 34, 7),
            ("libswift-keepalive.pcap", 59, 1),
            ("peregrine-7162.pcap", 23, 7),
        ] {
            let (text, outcome) = decode(&vector(name), defaults(), None);
            assert_eq!(outcome.unwrap(), Exit::Done, "{name}");
            assert_eq!((count(&text, "#"), count(&text, "DATA ")), (datagrams, data), "{name}");
        }
        let (text, _) = decode(&vector("libswift-7162.pcap"), defaults(), None);
        assert!(text.contains("swarm id c90350cd8c4ca0e87e9e9ba088acc6fa7af560de, integrity merkle, hash sha1"));
        assert!(text.contains("DATA chunk 6, 1018 bytes"));
        assert_eq!(count(&text, "HANDSHAKE closes the channel"), 1);
    }

    #[test]
    fn what_handshakes_leave_out_is_assumed() {
        let live = vector("libswift-live-ecdsa.pcap");
        let (text, outcome) = decode(&live, assumed(HashFunction::Sha1, ChunkAddressing::Chunk32), None);
        assert_eq!(outcome.unwrap(), Exit::Done);
        assert_eq!(count(&text, "SIGNED_INTEGRITY"), 10);
        let (exit, reason) = reason(decode(&live, defaults(), None).1);
        assert_eq!(exit, Exit::Failed);
        assert!(reason.contains("of 729 datagrams are invalid, first #4 "), "{reason}");
    }

    #[test]
    fn broken_handshakes_are_named_and_the_rest_is_decoded() {
        let bins = assumed(HashFunction::Sha256, ChunkAddressing::Bin32);
        let (text, outcome) = decode(&vector("slugalisk-live-umt.pcap"), bins, None);
        let says = "HANDSHAKE: option 7 (Live Discard Window) follows option 9 (Chunk Size): options must ascend";
        assert_eq!(count(&text, "INVALID"), 4);
        assert_eq!(text.matches(says).count(), 4);
        assert!(reason(outcome).1.ends_with(says));
        assert_eq!(count(&text, "SIGNED_INTEGRITY"), 783);
    }

    /// A capture of bare IP packets.
    fn bare_ip(packets: &[Vec<u8>]) -> Vec<u8> {
        classic_file(101, &packets.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn datagram(channel: u32, messages: &[Message<'_>]) -> Vec<u8> {
        let format = Format::new(ChunkAddressing::Chunk32, ChunkSize::DEFAULT, 32, 0);
        let mut datagram = channel.to_be_bytes().to_vec();
        for message in messages {
            message.encode(&format, &mut datagram).unwrap();
        }
        datagram
    }

    fn data(chunk: u64, payload: &[u8]) -> Message<'_> {
        Message::Data { chunk: ppspp_core::chunk::ChunkIndex::new(chunk), timestamp: 9, payload }
    }

    #[test]
    fn merged_datagrams_are_taken_apart() {
        let full = [7; 1024];
        let merged = [
            datagram(0xabcd_ef01, &[data(0, &full)]),
            datagram(0xabcd_ef01, &[data(1, &full)]),
            datagram(0xabcd_ef01, &[data(2, &full[..9])]),
        ]
        .concat();
        let choke = datagram(0xabcd_ef01, &[Message::Choke, Message::Unchoke]);
        let file = bare_ip(&[ipv4_packet(1, 2, &merged), ipv4_packet(1, 2, &choke.repeat(3))]);
        let (text, outcome) = decode(&file, defaults(), None);
        assert_eq!(outcome.unwrap(), Exit::Done);
        assert_eq!((count(&text, "#1"), count(&text, "#2")), (3, 3), "{text}");
        assert_eq!((count(&text, "DATA"), count(&text, "CHOKE"), count(&text, "UNCHOKE")), (3, 3, 3));
        assert!(text.contains("(part 3 of the packet) channel abcdef01, 30 bytes"), "{text}");
    }

    #[test]
    fn other_traffic_is_left_out_unless_its_port_is_asked_for() {
        let name_query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
        let file = bare_ip(&[
            ipv4_packet(5000, 53, name_query),
            ipv4_packet(5001, 6778, &datagram(5, &[Message::Choke])),
            ipv4_packet(6778, 5001, &[0, 0, 0]),
            ipv4_packet(6778, 5001, &datagram(6, &[])),
        ]);
        let (text, outcome) = decode(&file, defaults(), None);
        assert_eq!(count(&text, "#"), 3, "{text}");
        assert_eq!(count(&text, "keep-alive"), 1);
        let says = "1 of 3 datagrams are invalid, first #3 2.250000 127.0.0.1:6778 > 127.0.0.1:5001: \
                    3 bytes are too few for a channel id";
        assert_eq!(reason(outcome), (Exit::Failed, says.to_owned()));
        let (text, outcome) = decode(&file, defaults(), Some(53));
        assert_eq!(count(&text, "#"), 1);
        assert_eq!(reason(outcome).0, Exit::Failed);
    }

    #[test]
    fn datagrams_cut_by_the_capture_are_not_invalid() {
        let mut packet =
            ipv4_packet(1, 2, &datagram(5, &[Message::Choke, Message::Have(ppspp_core::chunk::ChunkRange::new(0, 4))]));
        packet.truncate(packet.len() - 2);
        let (text, outcome) =
            decode(&bare_ip(&[ipv4_packet(1, 2, &datagram(5, &[Message::Choke])), packet]), defaults(), None);
        assert_eq!(outcome.unwrap(), Exit::Done);
        assert_eq!(count(&text, "the capture holds no more of it"), 1);
    }

    #[test]
    fn hexadecimal_lines_are_datagrams() {
        let (text, outcome) = decode(b"00 00 00 01 0a\n\n00:00:00:02\n", defaults(), None);
        assert_eq!(outcome.unwrap(), Exit::Done);
        assert_eq!(text, "#1 channel 00000001, 5 bytes\n    CHOKE\n#2 channel 00000002, 4 bytes\n    keep-alive\n");
    }

    /// However many there are: none is dropped or cut.
    #[test]
    fn every_hexadecimal_line_is_decoded() {
        let line = "00 00 00 01 0a\n";
        let lines = (5 << 20) / line.len();
        let (text, outcome) = decode(line.repeat(lines).as_bytes(), defaults(), None);
        assert_eq!(outcome.unwrap(), Exit::Done);
        assert_eq!(count(&text, "CHOKE"), lines);
        let longest = format!("00000001{}", "0a".repeat(65_503));
        let (text, outcome) = decode(format!("{longest}\n{longest}").as_bytes(), defaults(), None);
        assert_eq!(outcome.unwrap(), Exit::Done);
        assert_eq!(count(&text, "CHOKE"), 2 * 65_503);
        let endless = "0".repeat(2 << 20);
        for (rest, number) in [("hello", 3), ("00 00 0", 3), ("\nzz\n00 00 00 01 0a", 4), (endless.as_str(), 3)] {
            let (text, outcome) = decode(format!("{line}{line}{rest}").as_bytes(), defaults(), None);
            let says = format!("capture: line {number} is no datagram in hexadecimal digits");
            assert_eq!((count(&text, "CHOKE"), reason(outcome)), (2, (Exit::Failed, says)));
        }
    }

    #[test]
    fn other_files_are_refused() {
        for file in [&b""[..], b"hello", b"zz\n", &[0xff; 100]] {
            let says = "cannot decode capture: it is no capture file: neither pcap nor pcapng";
            assert_eq!(reason(decode(file, defaults(), None).1), (Exit::Usage, says.to_owned()));
        }
        let cut = &vector("libswift-7162.pcap")[..200];
        let says = "capture: the capture ends in the middle of packet 2";
        assert_eq!(reason(decode(cut, defaults(), None).1), (Exit::Failed, says.to_owned()));
    }
}
