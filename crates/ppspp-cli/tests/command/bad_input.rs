//! What cannot be done: one clear sentence and an exit code each.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use crate::support::{Place, Running, finish, same};

const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn files_that_cannot_be_shared() {
    let place = Place::new();
    place.file("empty", 0);
    for command in ["seed", "hash", "demo"] {
        for (path, says) in [
            ("missing", "cannot open missing: there is no such file; check the path"),
            ("missing/file", "cannot open missing/file: there is no such file; check the path"),
            (".", "cannot open .: it is a directory; name a file"),
            ("empty", "cannot open empty: it is empty; there is nothing to share"),
            ("/dev/null", "cannot open /dev/null: it is not a regular file; name one"),
        ] {
            place.run([command, path]).refused(2, says);
        }
    }
}

/// Nothing is served, and no link printed, unless every file can be.
#[test]
fn one_bad_file_among_several() {
    let place = Place::new();
    place.file("good", 1000);
    place.file("empty", 0);
    fs::copy(place.path("good"), place.path("twin")).unwrap();
    for (bad, says) in [
        ("missing", "cannot open missing: there is no such file; check the path"),
        ("empty", "cannot open empty: it is empty; there is nothing to share"),
        (".", "cannot open .: it is a directory; name a file"),
        ("twin", "twin has the same content as good; share one of them"),
        ("good", "good has the same content as good; share one of them"),
    ] {
        let ended = place.run(["seed", "good", bad, "--listen", "127.0.0.1:0"]);
        ended.refused(2, says);
        assert_eq!(ended.stdout, "");
    }
    let large = fs::File::create(place.path("large")).unwrap();
    large.set_len((512 << 31) + 1).unwrap();
    place
        .run(["seed", "good", "large", "--addressing", "bin32", "--chunk-size", "512"])
        .refused(2, "cannot share large: 2147483649 chunks are more than bin32");
}

/// Even the superuser's tests need a file that cannot be read: they run the command as nobody.
#[test]
fn files_that_may_not_be_read_or_written() {
    const NOBODY: u32 = 65_534;
    let place = Place::new();
    let program = place.path("ppspp");
    fs::copy(env!("CARGO_BIN_EXE_ppspp"), &program).unwrap();
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let secret = place.file("secret", 10);
    allow(&secret, 0o000);
    allow(&place.path("."), 0o555);
    let superuser = fs::read(&secret).is_ok();
    let command = || {
        let mut command = place.command(&program);
        if superuser {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    finish(command().args(["seed", "secret"])).refused(2, "cannot open secret: permission denied;");
    let link = format!("ppsp://127.0.0.1:9/{ID}");
    let ended = finish(command().args(["get", &link, "-o", "copy", "--listen", "127.0.0.1:0"]));
    ended.refused(2, "cannot create copy");
    assert!(ended.stderr.contains("permission denied; change its permissions or choose another path"), "{ended:?}");
    allow(&place.path("."), 0o755);
}

#[test]
fn content_that_the_options_cannot_hold() {
    let place = Place::new();
    let large = fs::File::create(place.path("large")).unwrap();
    large.set_len((512 << 31) + 1).unwrap();
    let ended = place.run(["hash", "large", "--addressing", "bin32", "--chunk-size", "512"]);
    ended.refused(2, "cannot share large: 2147483649 chunks are more than bin32 addressing can name; use chunk64");
}

#[test]
fn links_that_cannot_be_used() {
    let place = Place::new();
    for (link, says) in [
        ("http://example.org/".to_owned(), "the link does not start with ppsp://"),
        (format!("ppsp://127.0.0.1:9/{}", &ID[2..]), "the link's swarm id has 31 bytes, sha256 makes 32"),
        (format!("ppsp://127.0.0.1:9/x{}", &ID[1..]), "the link's swarm id is not made of pairs of hexadecimal digits"),
        ("ppsp://127.0.0.1:9".to_owned(), "the link has no swarm id"),
        (format!("ppsp://127.0.0.1/{ID}"), "the link's host is unusable: \"127.0.0.1\" is not of the form HOST:PORT"),
        (format!("ppsp://127.0.0.1:9/{ID}?cs=7"), "the link's cs=7 is unusable: chunk size 7 is outside 512..=61440"),
        (format!("ppsp://127.0.0.1:9/{ID}?cs=4294967295"), "the link's cs=4294967295 is unusable: chunk size"),
        (format!("ppsp://127.0.0.1:9/{ID}?hf=9"), "the link's hf=9 is unusable: it must be 0 (sha1)"),
        (format!("ppsp://127.0.0.1:9/{ID}?ca=9"), "the link's ca=9 is unusable: it must be 0 (bin32)"),
        (format!("ppsp://127.0.0.1:9/{ID}?cp=0"), "the link's cp=0 is unusable: content without integrity"),
        (format!("ppsp://127.0.0.1:9/{ID}?cp=3"), "the link's cp=3 is unusable: live content is not supported yet"),
        (format!("ppsp:///{ID}"), "the link names no peers; add one with --peer ADDR:PORT"),
    ] {
        place.run(["get", &link]).refused(2, says);
    }
}

#[test]
fn flags_that_cannot_be_used() {
    let place = Place::new();
    place.file("f", 10);
    let link = format!("ppsp://127.0.0.1:9/{ID}");
    let cases: [(&[&str], &str); 16] = [
        (&["seed"], "the following required arguments were not provided: <PATH>...; see ppspp --help"),
        (&["seed", "f", "--nonsense"], "unexpected argument '--nonsense' found; see ppspp --help"),
        (&["share", "f"], "unrecognized subcommand 'share'; see ppspp --help"),
        (
            &["seed", "f", "--chunk-size", "100"],
            "\"100\" cannot be used for --chunk-size <N>: chunk size 100 is outside",
        ),
        (&["seed", "f", "--chunk-size", "1 mile"], "\"1 mile\" cannot be used for --chunk-size <N>: a size is a whole"),
        (&["seed", "f", "--hash", "md5"], "invalid value 'md5' for '--hash <NAME>' [possible values: sha1, sha224,"),
        (&["seed", "f", "--listen", "6778"], "\"6778\" cannot be used for --listen <ADDR:PORT>: an address and a port"),
        (
            &["seed", "f", "--advertise", "0.0.0.0:5"],
            "\"0.0.0.0:5\" cannot be used for --advertise <HOST:PORT>: 0.0.0.0",
        ),
        (&["get", &link, "--timeout", "90"], "\"90\" cannot be used for --timeout <DURATION>: a duration is a whole"),
        (
            &["get", &link, "--peer", "localhost"],
            "\"localhost\" cannot be used for --peer <ADDR:PORT>: \"localhost\" is",
        ),
        (
            &["get", &link, "--upload-limit", "fast"],
            "\"fast\" cannot be used for --upload-limit <RATE>: a rate is a whole number of bytes per second, such as",
        ),
        (
            &["get", &link, "--order", "random"],
            "invalid value 'random' for '--order <ORDER>' [possible values: in-order,",
        ),
        (&["get", &link, "--max-peers", "0"], "\"0\" cannot be used for --max-peers <N>: 0 is not in 1..=10000"),
        (&["seed", "f", "--max-peers", "many"], "\"many\" cannot be used for --max-peers <N>: invalid digit"),
        (&["seed", "f", "--download-limit", "0"], "\"0\" cannot be used for --download-limit <RATE>: it must be more"),
        (&["get", &link, "--keep-seeding", "--seed-for", "5s"], "the argument '--keep-seeding' cannot be used with"),
    ];
    for (arguments, says) in cases {
        place.run(arguments).refused(2, says);
    }
    let ended = finish(place.ppspp().args(["seed", "f"]).env("PPSPP_CHUNK_SIZE", "1"));
    ended.refused(2, "\"1\" cannot be used for --chunk-size <N>: chunk size 1 is outside 512..=61440");
}

#[test]
fn help_documents_the_exit_codes() {
    let place = Place::new();
    for arguments in [&["--help"][..], &["get", "--help"], &["decode", "-h"]] {
        let ended = place.run(arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(
            ended.stdout.contains("Exit codes:\n    0  done, or nobody reads standard output any more\n    1  "),
            "{}",
            ended.stdout
        );
    }
    assert!(place.run(["--version"]).stdout.starts_with("ppspp "));
    assert_eq!(place.run([""; 0]).code, Some(2));
}

#[test]
fn ports_and_addresses_that_cannot_be_had() {
    let place = Place::new();
    let path = place.file("f", 10);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    finish(place.ppspp().args(["seed", path.to_str().unwrap(), "--listen", &listen])).refused(
        2,
        &format!("port {port} of 127.0.0.1 is in use; choose another port or stop the program that has it"),
    );
    let link = format!("ppsp://127.0.0.1:9/{ID}");
    place.run(["get", &link, "--listen", &listen]).refused(2, &format!("port {port} of 127.0.0.1 is in use"));
    place
        .run(["seed", "f", "--listen", "192.0.2.77:0"])
        .refused(2, "192.0.2.77:0 is not an address of this machine; listen on one of its addresses or on [::]");
    let link = format!("ppsp://[::1]:9/{ID}");
    place.run(["get", &link, "--listen", "127.0.0.1:0"]).refused(2, "[::1]:9 cannot be reached from 127.0.0.1:");
}

#[test]
fn a_peer_that_is_not_there() {
    let place = Place::new();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = place.get(&format!("ppsp://{gone}/{ID}?cl=5"), "copy", &["--timeout", "1s", "--json"]);
    ended.refused(3, &format!("no peer answered within 1 s (asked {gone})"));
    assert_eq!(ended.summary()["complete"], false);
    assert!(!place.path("copy").exists());
    let ended = place.get(&format!("ppsp://no-such-host.invalid:5/{ID}?cl=5"), "copy", &["--quiet"]);
    ended.refused(3, "no peer has an address; check the link and the name service");
}

/// An address of one network says nothing without the interface that leads there.
#[test]
fn peers_on_the_same_network() {
    let place = Place::new();
    let get = |link: &str, more: &[&str]| {
        finish(place.ppspp().args(["get", link, "-o", "copy", "--listen", "[::1]:0", "--timeout", "1s"]).args(more))
    };
    let nobody = format!("ppsp:///{ID}?cl=5");
    get(&nobody, &["--peer", "[fe80::1%1]:9"]).refused(3, "no peer answered within 1 s (asked [fe80::1%1]:9)");
    let ended = get(&nobody, &["--peer", "[fe80::1]:9"]);
    assert_eq!(ended.code, Some(2));
    let says = "ppspp: [fe80::1]:9 is no peer: fe80::1 does not say which network it is in; add the interface, as in \
                --peer '[fe80::1%eth0]:9'\n";
    assert!(ended.stderr.starts_with(says), "{ended:?}");
    let says = "the link's host is unusable: \"[fe80::1%4]:9\" has a zone, which means nothing on other machines";
    get(&format!("ppsp://[fe80::1%4]:9/{ID}"), &[]).refused(2, says);
}

/// Resolvers read such names as numbers, here 0.0.0.0 and 224.0.0.1.
#[test]
fn names_that_lead_to_no_host() {
    let place = Place::new();
    let original = place.file("f", 10_000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line().replace("ppsp://", "ppsp://0x0:6778,0xe0000001:6778,");
    let ended = place.get(&link, "copy", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for says in [
        "ppspp: 0x0:6778 is no peer: 0.0.0.0 is not the address of one host\n",
        "ppspp: 0xe0000001:6778 is no peer: 224.0.0.1 is not the address of one host\n",
    ] {
        assert!(ended.stderr.contains(says), "{ended:?}");
    }
    same(&original, &place.path("copy"));
    let says = "no peer has an address that can be used; check the link and the name service";
    place.get(&format!("ppsp://0x0:5/{ID}?cl=5"), "other", &["--quiet"]).refused(2, says);
}

#[test]
fn a_peer_that_shares_something_else() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 10_000), &[]);
    let link = seeder.line();
    let (hosts, rest) = link.split_once("//").unwrap().1.split_once('/').unwrap();
    let (id, _) = rest.split_once('?').unwrap();
    for wrong in [
        format!("ppsp://{hosts}/{ID}?cl=10000"),
        format!("ppsp://{hosts}/{id}?cl=10000&cs=2048"),
        format!("ppsp://{hosts}/{id}?cl=10000&ca=3"),
        format!("ppsp://{hosts}/{}?cl=10000&hf=0", &id[..40]),
    ] {
        let ended = place.get(&wrong, "copy", &["--timeout", "1s"]);
        ended.refused(3, &format!("no peer answered within 1 s (asked {hosts}"));
        assert!(ended.stderr.contains("check that the seeder runs and shares this very link"), "{ended:?}");
    }
    // The seeder serves on.
    assert_eq!(place.get(&link, "copy", &[]).code, Some(0));
}

#[test]
fn a_link_with_the_wrong_length() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 10_000), &[]);
    let link = seeder.line().replace("cl=10000", "cl=20000");
    let ended = place.get(&link, "copy", &["--timeout", "1s"]);
    assert!(matches!(ended.code, Some(1 | 3)), "{ended:?}");
    assert!(!place.path("copy").exists());
}

/// A peer that came, gave what fits, and went did answer.
#[test]
fn a_link_with_nearly_the_right_length() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 1 << 20), &[]);
    let link = seeder.line().replace("cl=1048576", "cl=1048575");
    let ended = place.get(&link, "copy", &["--timeout", "1s"]);
    ended.refused(1, "no new data for 1 s with 0 peers");
    assert!(ended.stderr.contains("misbehaved: a chunk has the wrong length"), "{ended:?}");
}

#[test]
fn a_cache_directory_that_is_a_file() {
    let place = Place::new();
    let file = place.file("f", 1000);
    let mut command = place.ppspp();
    let ended = finish(command.args(["hash", "f", "--cache-dir"]).arg(&file));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("f: it is not a directory; name one"), "{ended:?}");
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    let link = format!("ppsp://127.0.0.1:9/{ID}?cl=10");
    let refused = |output: &str, says: &str| place.get(&link, output, &[]).refused(2, says);
    refused("missing/copy", "cannot create missing/copy");
    refused(".", "cannot create .: it is a directory; name a file");
    refused(&"x".repeat(300), "cannot ");
    refused("/proc/copy", "cannot create /proc/copy");
}

#[test]
fn existing_files_are_replaced_only_by_force() {
    let place = Place::new();
    let original = place.file("original", 50_000);
    let mut seeder = place.seed(&original, &[]);
    let link = seeder.line();
    for other in [&b"precious"[..], &fs::read(&original).unwrap()[..49_999]] {
        fs::write(place.path("copy"), other).unwrap();
        place.get(&link, "copy", &[]).refused(2, "cannot create copy: it exists and is not this content; use --force");
        assert!(fs::read(place.path("copy")).unwrap() == other);
    }
    let ended = place.get(&link, "copy", &["--force"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(fs::read(place.path("copy")).unwrap() == fs::read(&original).unwrap());
}

#[test]
fn an_output_that_another_process_fetches_into() {
    let place = Place::new();
    let link = format!("ppsp://127.0.0.1:9/{ID}?cl=10");
    let mut first = Running::start(place.ppspp().args([
        "get",
        &link,
        "-o",
        "copy",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--timeout",
        "60s",
    ]));
    first.line();
    let ended = place.get(&link, "copy", &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("another process is fetching into it; wait for that one"), "{ended:?}");
    first.signal("INT");
    first.wait().refused(130, "interrupted; 0 B are kept");
}

/// A limit on the size of files stands in for a disk without room; both fail the same write.
#[test]
fn a_disk_that_takes_no_more() {
    let place = Place::new();
    let mut seeder = place.seed(&place.file("f", 3_000_000), &[]);
    let link = seeder.line();
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$@\"";
    let ended =
        finish(place.command(Path::new("/bin/sh")).args(["-c", script, "sh", env!("CARGO_BIN_EXE_ppspp")]).args([
            "get",
            &link,
            "-o",
            "copy",
            "--listen",
            "127.0.0.1:0",
        ]));
    ended.refused(1, "cannot write copy.part: ");
    assert!(!place.path("copy").exists());
    // With room again, the same command succeeds.
    assert_eq!(place.get(&link, "copy", &[]).code, Some(0));
}

/// The limit is raised as far as it may be; where that does not do, it is named.
#[test]
fn many_open_files() {
    let place = Place::new();
    let demo = |limit: &str| {
        let script = format!("{limit}; exec \"$@\"");
        let mut command = place.command(Path::new("/bin/sh"));
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_ppspp"), "demo", "--size", "10kB", "--leechers", "8"]);
        finish(command.arg("--quiet"))
    };
    let ended = demo("ulimit -S -n 40");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Whatever cannot be opened first: a socket, a file, or the means to wait.
    for limit in 30..=45 {
        let ended = demo(&format!("ulimit -n {limit}"));
        ended.refused(1, "");
        assert!(ended.stderr.contains(" cannot "), "{ended:?}");
        assert!(ended.stderr.contains(": too many files are open; use fewer at a time"), "{ended:?}");
        assert!(!ended.stderr.contains("os error"), "{ended:?}");
    }
}

#[test]
fn captures_that_are_none() {
    let place = Place::new();
    let text = place.path("text");
    fs::write(&text, "no capture").unwrap();
    let says = "cannot decode text: it is no capture file: neither pcap nor pcapng";
    place.run(["decode", "text"]).refused(2, says);
    place.run(["decode", "nothing"]).refused(2, "\"nothing\" is neither a file nor a datagram in hexadecimal digits");
    place.run(["decode", "."]).refused(2, "cannot read .: ");
    let ended = finish(place.ppspp().args(["decode", "-"]).stdin(fs::File::open(&text).unwrap()));
    ended.refused(2, "cannot decode standard input: it is no capture file");
    place
        .run(["decode", "00000000ff"])
        .refused(1, "1 of 1 datagrams are invalid, first #1: message type 255 is unknown");
    let ended = place.run(["decode", "00000000 0a"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "#1 channel 00000000, 5 bytes\n    CHOKE\n"));
}
