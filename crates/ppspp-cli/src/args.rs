//! The command line. Every flag has an environment variable as its twin.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ppspp_core::chunk::{ChunkAddressing, ChunkSize, UnknownName};
use ppspp_core::integrity::HashFunction;
use ppspp_core::{ByteRate, Order, Rates};
use ppspp_mio::link::{HostPort, Link};

use crate::exit::HELP as EXIT_CODES;
use crate::given::Peer;
use crate::units;

/// Share files and fetch them, verified, peer to peer: PPSPP, RFC 7574
#[derive(Parser, Debug)]
#[command(name = "ppspp", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Log to standard error: once for what happens, twice for details, thrice for every datagram. `RUST_LOG` overrides it
    #[arg(
        short,
        long,
        global = true,
        action = clap::ArgAction::Count,
        env = "PPSPP_VERBOSE",
        value_parser = StringValueParser::new().map(|text| verbosity(&text))
    )]
    pub(crate) verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Seed(SeedArgs),
    Get(GetArgs),
    Hash(HashArgs),
    Demo(DemoArgs),
    Decode(DecodeArgs),
}

/// Share files until Ctrl-C; the first lines on standard output are their links, one for each file in order
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct SeedArgs {
    /// The files to share; they must not change meanwhile, what does is not served
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    /// Where peers find this machine, for the links; default: an address of this machine
    #[arg(long, value_name = "HOST:PORT", env = "PPSPP_ADVERTISE")]
    pub(crate) advertise: Option<HostPort>,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Fetch the content of a link into a file and print the file's path
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct GetArgs {
    /// The link that `ppspp seed` printed, ppsp://HOST:PORT/ID?…
    // Boxed: a link is much larger than everything else here.
    #[arg(value_parser = |text: &str| text.parse::<Link>().map(Box::new))]
    pub(crate) link: Box<Link>,
    /// The file to write; default: the name the link suggests, else the swarm id. Until it is complete and verified its
    /// name ends in .part, and a repeated command goes on with it. With - the verified content goes to standard output
    /// as it arrives, for a player; it passes through a temporary file (see TMPDIR) and is kept nowhere
    #[arg(short, long, value_name = "PATH", env = "PPSPP_OUTPUT")]
    pub(crate) output: Option<PathBuf>,
    /// Another peer to ask, besides those in the link; may be repeated. A link-local IPv6 address needs the interface,
    /// as in `[fe80::1%eth0]:6778`
    #[arg(long = "peer", value_name = "ADDR:PORT", env = "PPSPP_PEER", value_delimiter = ',')]
    pub(crate) peers: Vec<Peer>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    /// Replace an existing file of other content; without it such a file is left alone and the command fails
    #[arg(long, env = "PPSPP_FORCE", value_parser = FalseyValueParser::new())]
    pub(crate) force: bool,
    /// Share the file after it is complete, until Ctrl-C
    #[arg(long, env = "PPSPP_KEEP_SEEDING", value_parser = FalseyValueParser::new(), conflicts_with = "seed_for")]
    pub(crate) keep_seeding: bool,
    /// Share the file for this long after it is complete, such as 90s or 5m; default: not at all
    #[arg(long, value_name = "DURATION", env = "PPSPP_SEED_FOR", value_parser = units::duration)]
    pub(crate) seed_for: Option<Duration>,
    /// The longest time without a new verified byte, beside what a few chunks take under a download limit; after it the
    /// command fails and the partial file stays. A first answer is awaited for this long as well, but for no more than
    /// 30s
    #[arg(
        long,
        value_name = "DURATION",
        env = "PPSPP_TIMEOUT",
        default_value = "60s",
        value_parser = units::positive_duration
    )]
    pub(crate) timeout: Duration,
    /// What to fetch first. Whatever the order, the file is complete and verified in the end
    #[arg(long, value_name = "ORDER", env = "PPSPP_ORDER", value_enum, default_value_t)]
    pub(crate) order: FetchOrder,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
    #[command(flatten)]
    pub(crate) messages: OutputArgs,
}

/// What is fetched first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum FetchOrder {
    /// From the first byte to the last
    InOrder,
    /// What the fewest peers have
    Rarest,
    /// The rarest first among leechers, in order from seeders alone
    #[default]
    Auto,
}

impl From<FetchOrder> for Order {
    fn from(order: FetchOrder) -> Self {
        match order {
            FetchOrder::InOrder => Self::InOrder,
            FetchOrder::Rarest => Self::RarestFirst,
            FetchOrder::Auto => Self::Auto,
        }
    }
}

/// Print the swarm id and the metadata that a file would be shared with
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct HashArgs {
    /// The file
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Share a file with peers in this process, over real sockets of the loopback, and compare what arrives
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DemoArgs {
    /// The file to share; default: one of pseudo-random bytes, made for the demo and removed after it
    pub(crate) path: Option<PathBuf>,
    /// How many peers fetch it
    #[arg(
        long,
        value_name = "N",
        env = "PPSPP_LEECHERS",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub(crate) leechers: u16,
    /// Size of the file that is made if none is given
    #[arg(
        long,
        value_name = "SIZE",
        env = "PPSPP_SIZE",
        default_value = "64MiB",
        value_parser = units::positive_size,
        conflicts_with = "path"
    )]
    pub(crate) size: u64,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Print every PPSPP datagram of a capture, message by message; fail if any is invalid
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DecodeArgs {
    /// A capture (pcap or pcapng), or lines of hexadecimal digits, a datagram each; - for standard input, decoded as it
    /// arrives; or one datagram in hexadecimal digits
    #[arg(value_name = "FILE.pcap | - | HEX")]
    pub(crate) input: String,
    /// Take every UDP datagram from or to this port for PPSPP; default: those of conversations that look like it
    #[arg(long, value_name = "PORT", env = "PPSPP_PORT")]
    pub(crate) port: Option<u16>,
    /// What to assume of a channel whose handshake was not captured, or leaves it out
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
}

/// The socket.
#[derive(Args, Debug)]
pub(crate) struct SocketArgs {
    /// The address and UDP port to listen on; port 0 means any. Default: `[::]:6778`, IPv4 included, or another port if
    /// that one is taken
    #[arg(long, value_name = "ADDR:PORT", env = "PPSPP_LISTEN", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
}

/// How content is exchanged with peers.
#[derive(Args, Debug)]
pub(crate) struct ExchangeArgs {
    /// Sum up at the end what was sent and received: messages by kind, overhead, repeats, windows and delays
    #[arg(long, env = "PPSPP_STATS", value_parser = FalseyValueParser::new())]
    pub(crate) stats: bool,
    /// The most to send, in bytes per second of UDP payload, such as 500kB or 2MiB; default: as much as others leave
    #[arg(long, value_name = "RATE", env = "PPSPP_UPLOAD_LIMIT", value_parser = units::rate)]
    pub(crate) upload_limit: Option<ByteRate>,
    /// The most to receive, likewise
    #[arg(long, value_name = "RATE", env = "PPSPP_DOWNLOAD_LIMIT", value_parser = units::rate)]
    pub(crate) download_limit: Option<ByteRate>,
    /// The most peers to exchange one content with, those who come by themselves included; a quarter of the places is
    /// kept for peers that this side chooses. Default: 10000, and no more are looked for than 32
    #[arg(long, value_name = "N", env = "PPSPP_MAX_PEERS", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) max_peers: Option<u16>,
    /// Neither ask peers for other peers nor tell them of any. Without it that is done within one private network or one
    /// machine
    #[arg(long, env = "PPSPP_NO_PEX", value_parser = FalseyValueParser::new())]
    pub(crate) no_pex: bool,
}

impl ExchangeArgs {
    /// The limits on rates.
    pub(crate) fn rates(&self) -> Rates {
        Rates { up: self.upload_limit, down: self.download_limit }
    }
}

/// How a content is cut, hashed and addressed.
#[derive(Args, Debug)]
pub(crate) struct MetadataArgs {
    /// Bytes per chunk, 512 to 61440, such as 8KiB. Larger chunks cost less work per byte; above about 1400 bytes their
    /// datagrams are sent in fragments on most networks
    #[arg(long, value_name = "N", env = "PPSPP_CHUNK_SIZE", default_value = "1024", value_parser = chunk_size)]
    pub(crate) chunk_size: ChunkSize,
    /// Hash function of the tree
    #[arg(
        long,
        value_name = "NAME",
        env = "PPSPP_HASH",
        default_value_t,
        value_parser = named::<HashFunction>(HashFunction::ALL.map(HashFunction::name))
    )]
    pub(crate) hash: HashFunction,
    /// How messages name chunks; the 32-bit methods save a few bytes, the others hold larger content
    #[arg(
        long,
        value_name = "NAME",
        env = "PPSPP_ADDRESSING",
        default_value_t,
        value_parser = named::<ChunkAddressing>(ChunkAddressing::ALL.map(ChunkAddressing::name))
    )]
    pub(crate) addressing: ChunkAddressing,
}

/// The cache of hash trees.
#[derive(Args, Debug)]
pub(crate) struct CacheArgs {
    /// Where hash trees are kept, so that an unchanged file is not hashed again; default: the user's cache directory
    #[arg(long, value_name = "DIR", env = "PPSPP_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// What is printed, and how.
#[derive(Args, Debug, Default)]
pub(crate) struct OutputArgs {
    /// Print nothing to standard error but errors
    #[arg(short, long, env = "PPSPP_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Print one JSON object per line to standard output
    #[arg(long, env = "PPSPP_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

/// How often the flag was given, or what its twin says: how often, or a word as the twins of other flags take it.
fn verbosity(text: &str) -> u8 {
    let off = ["", "n", "no", "f", "false", "off"].contains(&text.to_ascii_lowercase().as_str());
    text.parse().map_or(u8::from(!off), |times: u64| u8::try_from(times).unwrap_or(u8::MAX))
}

fn chunk_size(text: &str) -> Result<ChunkSize, String> {
    let bytes = units::size(text).map_err(|error| error.to_string())?;
    ChunkSize::new(u32::try_from(bytes).unwrap_or(u32::MAX)).map_err(|error| error.to_string())
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are needed, such as 0.0.0.0:6778 or [::1]:0".to_owned())
}

/// Reads one of `names`, and shows them in the help.
fn named<T>(names: [&'static str; 5]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err = UnknownName> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_twin_and_a_help_text() {
        let mut flags = 0;
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some_and(|name| name != "help")) {
                let twin = format!("PPSPP_{}", flag.get_long().unwrap().to_uppercase().replace('-', "_"));
                assert_eq!(flag.get_env().and_then(|name| name.to_str()), Some(twin.as_str()));
                assert!(flag.get_help().is_some(), "{twin}");
                flags += 1;
            }
            assert!(command.get_after_help().unwrap().to_string().contains("130  interrupted"));
        }
        assert!(flags > 20, "{flags}");
    }

    #[test]
    fn verbosity_is_a_number_or_a_word() {
        for (text, times) in [
            ("", 0),
            ("0", 0),
            ("false", 0),
            ("No", 0),
            ("OFF", 0),
            ("true", 1),
            ("on", 1),
            ("2", 2),
            ("1000", u8::MAX),
        ] {
            assert_eq!(verbosity(text), times, "{text}");
        }
        let parsed = |words: &str| Cli::try_parse_from(words.split(' ')).unwrap().verbose;
        assert_eq!([parsed("ppspp demo"), parsed("ppspp -v demo -vv"), parsed("ppspp demo -vvv")], [0, 2, 3]);
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' ')).map(|cli| cli.command);
        let Ok(Command::Seed(seed)) = parse("ppspp seed file") else { panic!() };
        assert_eq!((seed.metadata.chunk_size.bytes(), seed.socket.listen), (1024, None));
        assert_eq!((seed.metadata.hash, seed.metadata.addressing), (HashFunction::Sha256, ChunkAddressing::Chunk32));
        let link = format!("ppsp:///{}", "00".repeat(32));
        let Ok(Command::Get(get)) = parse(&format!("ppspp get {link} --peer a:1,b:2 --peer [::1]:3")) else { panic!() };
        assert_eq!((get.timeout, get.peers.len(), get.force), (Duration::from_secs(60), 3, false));
        assert_eq!(Order::from(get.order), Order::Auto);
        let Ok(Command::Demo(demo)) = parse("ppspp demo") else { panic!() };
        assert_eq!((demo.leechers, demo.size), (3, 64 << 20));
        assert!(parse(&format!("ppspp get {link} --keep-seeding --seed-for 5s")).is_err());
        assert!(parse("ppspp demo file --size 5MB").is_err());
    }
}
