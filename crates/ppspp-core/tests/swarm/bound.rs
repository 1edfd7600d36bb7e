//! How near a swarm comes to the least time that its links allow.

use std::time::Duration;

use crate::crowd::{Crowd, TEN_MBIT};

/// Ten leechers of one seeder: nobody can be done before the seeder has sent everything once.
#[test]
fn ten_leechers_come_near_the_fluid_bound() {
    let len: u64 = 4 << 20;
    let mut crowd = Crowd::new(len as usize, 1, 10);
    crowd.connect();
    let last = crowd.run(Duration::from_secs(60)).into_iter().max().unwrap();
    // Of 1,114 bytes on the wire for a chunk with its hash, 1,024 are content.
    let bound = Duration::from_micros(len * 1_000_000 / TEN_MBIT * 1114 / 1024);
    let sent = crowd.net.hosts[crowd.seeders[0]].stats().content_bytes_sent;
    println!("{last:?}, at least {bound:?}; seeder {sent} bytes; {} duplicates of 10,000", crowd.duplicates());
    assert!(last * 2 < bound * 3, "{last:?}, at least {bound:?}");
    assert!(sent * 2 < len * 3, "the seeder sent {sent} bytes");
    assert!(crowd.duplicates() < 200, "{} duplicates of 10,000", crowd.duplicates());
}
