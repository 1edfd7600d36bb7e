use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// Asked of the kernel in these tests, in bytes.
const BUFFER: usize = 1 << 20;
/// How long a datagram may take over the loopback before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

fn open(address: &str) -> Socket {
    Socket::open(Listen::Address(address.parse().unwrap()), BUFFER).unwrap()
}

fn to(destination: SocketAddr) -> Outgoing {
    Outgoing { destination, source: None, segment: None, may_fragment: false }
}

/// Receives until `count` datagrams are there.
fn receive(socket: &mut Socket, count: usize) -> Vec<(DatagramMeta, Vec<u8>)> {
    let mut got = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while got.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} datagrams arrived", got.len());
        let received = socket.receive(Socket::RECEIVER, |meta, bytes, segment| {
            let segment = segment.map_or(bytes.len(), NonZeroUsize::get).max(1);
            got.extend(bytes.chunks(segment).map(|datagram| (meta, datagram.to_vec())));
        });
        if received.datagrams == 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(got.len(), count);
    got
}

fn exchange(a: &str, b: &str, b_as_seen_by_a: Option<&str>) {
    let (mut a, mut b) = (open(a), open(b));
    let target = match b_as_seen_by_a {
        Some(ip) => SocketAddr::new(ip.parse().unwrap(), b.local_address().port()),
        None => b.local_address(),
    };
    // Ten full segments and a short one, sent as one batch.
    let data: Vec<u8> = (0..10_500_u32).map(|i| i.to_le_bytes()[0]).collect();
    let batch = Outgoing { segment: NonZeroUsize::new(1000), ..to(target) };
    assert_eq!(a.send(&batch, &data), Sent::All);
    let got = receive(&mut b, 11);
    for (index, (meta, bytes)) in got.iter().enumerate() {
        assert_eq!(bytes, &data[index * 1000..(index * 1000 + 1000).min(10_500)]);
        assert_eq!(meta.remote.port(), a.local_address().port());
        assert_eq!(meta.remote.is_ipv4(), target.is_ipv4());
    }
    // And back to where it came from.
    assert_eq!(b.send(&to(got[0].0.remote), b"answer"), Sent::All);
    let answer = receive(&mut a, 1);
    assert_eq!(answer[0].1, b"answer");
    assert_eq!(answer[0].0.remote, target);
}

#[test]
fn batches_cross_the_loopback_over_ipv4() {
    exchange("127.0.0.1:0", "127.0.0.1:0", None);
}

#[test]
fn batches_cross_the_loopback_over_ipv6() {
    exchange("[::1]:0", "[::1]:0", None);
}

#[test]
fn a_dual_stack_socket_talks_to_ipv4_peers_by_their_ipv4_addresses() {
    exchange("127.0.0.1:0", "[::]:0", Some("127.0.0.1"));
    exchange("[::]:0", "[::]:0", Some("127.0.0.1"));
    exchange("[::]:0", "[::]:0", Some("::1"));
}

#[test]
fn a_batch_leaves_datagram_by_datagram_where_segmentation_is_refused() {
    let (mut a, mut b) = (open("127.0.0.1:0"), open("127.0.0.1:0"));
    // More segments than any kernel takes in one call, so that it refuses the batch as a whole.
    let data = vec![7; 1300];
    let batch = Outgoing { segment: NonZeroUsize::new(10), ..to(b.local_address()) };
    let could_segment = a.batch_limit().datagrams.get() > 1;
    assert_eq!(a.send(&batch, &data), Sent::All);
    assert_eq!(receive(&mut b, 130).len(), 130);
    assert_eq!(a.stats().segmentation_refused, u64::from(could_segment));
    assert_eq!(a.stats().send_errors, 0);
}

/// A path may be narrow, or lead nowhere.
#[test]
#[cfg(target_os = "linux")]
fn segmentation_is_given_up_when_two_hosts_in_a_row_have_it_refused() {
    let (mut a, mut one, mut other) = (open("127.0.0.1:0"), open("127.0.0.1:0"), open("127.0.0.2:0"));
    let limit = a.batch_limit();
    assert!(limit.datagrams.get() > 1);
    let mut send = |socket: &mut Socket, count: usize| {
        let batch = Outgoing { segment: NonZeroUsize::new(10), ..to(socket.local_address()) };
        assert_eq!(a.send(&batch, &vec![7; 10 * count]), Sent::All);
        assert_eq!(receive(socket, count).len(), count);
        (a.batch_limit(), a.stats().segmentation_refused)
    };
    for tries in 1..=3 {
        assert_eq!(send(&mut one, 130), (limit, tries));
    }
    assert_eq!(send(&mut one, 3), (limit, 3));
    assert_eq!(send(&mut other, 130), (limit, 4), "a batch left whole in between");
    let (limit, refused) = send(&mut one, 130);
    assert_eq!((limit.datagrams.get(), refused), (1, 5));
    assert_eq!(send(&mut one, 3), (limit, 5), "it is not tried again");
}

#[test]
fn an_explicit_port_that_is_taken_is_an_error() {
    let first = open("127.0.0.1:0");
    let again = Socket::open(Listen::Address(first.local_address()), BUFFER).unwrap_err();
    assert!(matches!(again, BindError::PortInUse(address) if address == first.local_address()), "{again}");
    assert!(again.to_string().contains("in use"));
    // Nor can another program that shares ports have it.
    let sharing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    sharing.set_reuse_address(true).unwrap();
    assert_eq!(sharing.bind(&first.local_address().into()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn the_default_port_gives_way_to_another() {
    // Whoever has the default port when this test runs, the second socket finds it taken.
    let _first = Socket::open(Listen::Default, BUFFER).unwrap();
    let second = Socket::open(Listen::Default, BUFFER).unwrap();
    assert_eq!(second.taken(), Some(DEFAULT_PORT));
    assert_ne!(second.local_address().port(), DEFAULT_PORT);
    assert!(second.reaches("192.0.2.1:1".parse().unwrap()));
}

#[test]
fn addresses_of_other_machines_are_refused() {
    let error = Socket::open(Listen::Address("192.0.2.1:0".parse().unwrap()), BUFFER).unwrap_err();
    assert!(matches!(error, BindError::NotOurs(_)), "{error}");
}

#[test]
fn granted_buffers_are_reported() {
    let socket = Socket::open(Listen::Address("127.0.0.1:0".parse().unwrap()), 64 * 1024).unwrap();
    let (receive, send) = socket.buffers();
    assert!(receive >= 64 * 1024 && send >= 64 * 1024, "{receive} {send}");
}

#[test]
fn a_closed_port_at_the_other_end_disturbs_nothing() {
    let (mut a, mut b) = (open("127.0.0.1:0"), open("127.0.0.1:0"));
    let closed = open("127.0.0.1:0").local_address();
    for _ in 0..10 {
        assert_eq!(a.send(&to(closed), b"anyone?"), Sent::All);
        assert_eq!(b.send(&to(a.local_address()), b"still here"), Sent::All);
        assert_eq!(receive(&mut a, 1)[0].1, b"still here");
    }
}

#[test]
fn what_cannot_leave_is_dropped_and_counted() {
    let mut socket = open("127.0.0.1:0");
    let ipv6: SocketAddr = "[::1]:9".parse().unwrap();
    assert!(!socket.reaches(ipv6));
    assert_eq!(socket.send(&to(ipv6), b"no way"), Sent::All);
    assert_eq!(socket.stats().send_errors, 1);
    // Longer than any datagram.
    let local = socket.local_address();
    assert_eq!(socket.send(&to(local), &vec![0; 70_000]), Sent::All);
    assert_eq!(socket.stats().send_errors, 2);
}

#[test]
fn an_empty_datagram_is_no_datagram_to_the_core() {
    let mut socket = open("127.0.0.1:0");
    let other = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    other.send_to(b"", socket.local_address()).unwrap();
    other.send_to(b"x", socket.local_address()).unwrap();
    assert_eq!(receive(&mut socket, 1)[0].1, b"x");
}

#[test]
fn a_destination_that_is_none_does_not_end_segmentation() {
    for nowhere in ["127.0.0.1:0", "[::1]:0"] {
        let mut socket = open(nowhere);
        let limit = socket.batch_limit();
        let nowhere: SocketAddr = nowhere.parse().unwrap();
        assert_eq!(socket.send(&to(nowhere), b"anyone?"), Sent::All);
        let batch = Outgoing { segment: NonZeroUsize::new(1000), ..to(nowhere) };
        assert_eq!(socket.send(&batch, &[0; 2500]), Sent::All);
        assert_eq!(socket.stats().send_errors, 4, "{nowhere}");
        assert_eq!(socket.batch_limit(), limit, "{nowhere}");
    }
}

/// Whether this machine lets us make a network of our own.
fn can_make_networks() -> bool {
    let script = "ip link set lo mtu 1500 up";
    Command::new("unshare").args(["-r", "-n", "sh", "-c", script]).status().is_ok_and(|status| status.success())
}

#[test]
fn datagrams_above_the_path_mtu_arrive() {
    // R3
    if !can_make_networks() {
        eprintln!("not run: this machine has no unshare(1), no ip(8), or forbids network namespaces");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let script = "ip link set lo mtu 1500 up && exec \"$0\" --ignored --exact socket::tests::inside_a_small_mtu";
    let output = Command::new("unshare").args(["-r", "-n", "sh", "-c", script]).arg(this).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by datagrams_above_the_path_mtu_arrive in a network of its own"]
fn inside_a_small_mtu() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = (open(address), open(address));
        let data: Vec<u8> = (0..60_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let large = Outgoing { may_fragment: true, ..to(b.local_address()) };
        for len in [1473, 8230, 60_000] {
            assert_eq!(a.send(&large, &data[..len]), Sent::All);
            assert_eq!(receive(&mut b, 1)[0].1, data[..len], "{len} bytes over {address}");
        }
        // A batch whose segments do not fit leaves one by one.
        let batch = Outgoing { segment: NonZeroUsize::new(1600), ..to(b.local_address()) };
        assert_eq!(a.send(&batch, &data[..4000]), Sent::All);
        assert_eq!(receive(&mut b, 3).len(), 3);
        assert_eq!(a.stats().send_errors, 0);
    }
    // What this guards against: a socket as quinn-udp sets it up does not send such a datagram at all.
    let strict = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    let state = UdpSocketState::new((&strict).into()).unwrap();
    let contents = [0; 8230];
    let destination = strict.local_addr().unwrap();
    let transmit =
        quinn_udp::Transmit { destination, ecn: None, contents: &contents, segment_size: None, src_ip: None };
    assert_eq!(
        state.try_send((&strict).into(), &transmit).is_err(),
        cfg!(any(target_os = "linux", target_os = "android"))
    );
}
