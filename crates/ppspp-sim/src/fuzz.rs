//! Runs drawn from a seed: topology, parameters, limits and faults first, then everything is healed and everyone who
//! fetches must complete within a bound.

use std::time::Duration;

use ppspp_core::EndpointConfig;
use ppspp_core::chunk::{ChunkAddressing, ChunkSize};
use ppspp_core::integrity::HashFunction;

use crate::adversary::{Liar, Lie};
use crate::content::ContentSpec;
use crate::disk::DiskSpec;
use crate::id::{ContentId, HostId};
use crate::link::{LinkSpec, Loss};
use crate::nat::{NatKind, NatSpec};
use crate::rng::Stream;
use crate::scenario::{Peer, Scenario};
use crate::time::Clock;

/// When the last fault is over, after the beginning.
const HEALED: Duration = Duration::from_secs(40);
/// How long everyone may take from then on. A peer that fell silent is given up after three minutes (RFC 7574 §3.12).
const LIVENESS: Duration = Duration::from_secs(900);
const MBIT: u64 = 1_000_000;

/// Draws a run.
pub fn draw(seed: u64) -> Scenario {
    let mut scenario = Scenario::new("fuzz", seed);
    scenario.repeated_by(format!("ppspp-sim replay --seed {seed} --trace"));
    let mut rng = scenario.stream("fuzz");
    let spec = content(&mut rng);
    let content = scenario.content_of(spec);
    let seeders: Vec<HostId> =
        (0..rng.between(1, 2)).map(|_| add(&mut scenario, Peer::seeder(content), &mut rng)).collect();
    let leechers: Vec<HostId> =
        (0..rng.between(1, 7)).map(|_| leecher(&mut scenario, content, &seeders, &mut rng)).collect();
    for &host in &leechers {
        let others: Vec<HostId> = (0..rng.below(4)).filter_map(|_| rng.pick(&leechers).copied()).collect();
        scenario.introduce(host, others.into_iter().filter(|&other| other != host));
    }
    liars(&mut scenario, content, &seeders, &leechers, &mut rng);
    for _ in 0..rng.below(14) {
        fault(&mut scenario, &seeders, &leechers, spec.length, &mut rng);
    }
    heal(&mut scenario, &seeders, &leechers);
    scenario.until_complete(&leechers, HEALED + LIVENESS);
    scenario
}

fn content(rng: &mut Stream) -> ContentSpec {
    let length = match rng.below(6) {
        0 => rng.between(1, 3000),
        1 => rng.between(1, 40) * 16_384,
        2 => rng.between(1, 3) << 19,
        _ => rng.between(1, 1 << 20),
    };
    let sizes = [1024, 1024, 1024, 512, 2000, 8192];
    let functions = [HashFunction::Sha256, HashFunction::Sha256, HashFunction::Sha1, HashFunction::Sha384];
    let addressings = [
        ChunkAddressing::Chunk32,
        ChunkAddressing::Chunk32,
        ChunkAddressing::Bin32,
        ChunkAddressing::Byte64,
        ChunkAddressing::Bin64,
        ChunkAddressing::Chunk64,
    ];
    let chunk_size = ChunkSize::new(rng.pick(&sizes).copied().unwrap_or(1024)).unwrap_or(ChunkSize::DEFAULT);
    let function = rng.pick(&functions).copied().unwrap_or(HashFunction::Sha256);
    let addressing = rng.pick(&addressings).copied().unwrap_or(ChunkAddressing::Chunk32);
    // A last chunk of two hashes is refused where the length is not known (R1); a whole one is longer.
    let forgeable = length % u64::from(chunk_size.bytes()) == 2 * function.len() as u64;
    let length_known = rng.chance(0.8) || forgeable;
    ContentSpec { length, chunk_size, function, addressing, length_known }
}

fn link(rng: &mut Stream) -> LinkSpec {
    if rng.chance(0.3) {
        return rng.pick(&LinkSpec::PRESETS).and_then(|name| LinkSpec::preset(name)).unwrap_or_else(LinkSpec::lan);
    }
    let rate = rng.between(1, 40) * MBIT / 2;
    let mut link = LinkSpec::symmetric(rate, Duration::from_millis(rng.between(0, 80)));
    let (loss, reorder, duplicate) = (rng.unit() * 0.04, rng.unit() * 0.02, rng.unit() * 0.02);
    if rng.chance(0.5) {
        link = link.with(|pipe| {
            (pipe.loss, pipe.reorder, pipe.duplicate) = (Loss::Uniform(loss), reorder, duplicate);
            pipe.jitter = Duration::from_millis(5);
        });
    }
    if rng.chance(0.05) {
        link.down.corrupt = 0.002;
    }
    link
}

fn disk(rng: &mut Stream) -> DiskSpec {
    if rng.chance(0.5) {
        return DiskSpec { sync_after: Duration::from_secs(rng.below(6)), ..DiskSpec::default() };
    }
    DiskSpec {
        latency: Duration::from_millis(rng.below(40)),
        bandwidth: rng.chance(0.5).then(|| rng.between(1, 50) * 1_000_000),
        sync_after: Duration::from_secs(rng.below(6)),
        ..DiskSpec::default()
    }
}

/// Bounds down to what one transfer at a time needs.
fn limits(config: &mut EndpointConfig, rng: &mut Stream) {
    if rng.chance(0.5) {
        return;
    }
    let limits = &mut config.limits;
    limits.unconfirmed_bytes = rng.between(64, 2048) << 10;
    limits.open_groups = rng.between(2, 64) as usize;
    limits.outstanding_requests = rng.between(16, 1024) as u32;
    limits.queued_requests = rng.between(8, 256) as usize;
    limits.cached_groups = rng.between(1, 64) as usize;
    // Drawn with the bound before, so that seeds stand for what they stood for.
    limits.remembered_groups = limits.cached_groups / 2;
    limits.pending_reads = rng.between(1, 8) as usize;
    limits.pending_chunks = rng.between(8, 128) as usize;
    limits.in_flight = rng.between(32, 4096) as usize;
}

fn add(scenario: &mut Scenario, peer: Peer, rng: &mut Stream) -> HostId {
    let clock = Clock { epoch_micros: rng.below(1 << 50), drift_ppm: rng.below(401) as i32 - 200 };
    let peer = peer.on(link(rng)).disk(disk(rng)).clock(clock).config(|config| limits(config, rng));
    scenario.add(peer)
}

fn leecher(scenario: &mut Scenario, content: ContentId, seeders: &[HostId], rng: &mut Stream) -> HostId {
    let joins = Duration::from_millis(if rng.chance(0.5) { 0 } else { rng.below(20_000) });
    let peer = Peer::leecher(content).knows(seeders.iter().copied()).joins(joins);
    if rng.chance(0.85) {
        return add(scenario, peer, rng);
    }
    let kinds = [NatKind::FullCone, NatKind::Restricted, NatKind::PortRestricted, NatKind::Symmetric];
    let mut nat = NatSpec::new(rng.pick(&kinds).copied().unwrap_or(NatKind::FullCone));
    nat.timeout = Duration::from_secs(rng.between(30, 120));
    let link = scenario.nat(link(rng), nat);
    scenario.add(peer.behind(link).config(|config| limits(config, rng)))
}

fn liars(scenario: &mut Scenario, content: ContentId, seeders: &[HostId], leechers: &[HostId], rng: &mut Stream) {
    let Some(content) = scenario.lookup(content).filter(|_| rng.chance(0.25)) else { return };
    for _ in 0..rng.between(1, 2) {
        let lie = rng.pick(&Lie::ALL).copied().unwrap_or(Lie::HaveOnly);
        let knows: Vec<HostId> = seeders.iter().chain(leechers).copied().collect();
        let liar = scenario.add_node(Liar::new(lie, content.clone()), LinkSpec::cable(), &knows);
        if let Some(&leecher) = rng.pick(leechers) {
            scenario.introduce(leecher, [liar]);
        }
    }
}

/// Lets one thing go wrong, and come right again before all is healed.
fn fault(scenario: &mut Scenario, seeders: &[HostId], leechers: &[HostId], length: u64, rng: &mut Stream) {
    let hosts: Vec<HostId> = seeders.iter().chain(leechers).copied().collect();
    let at = Duration::from_millis(rng.below(25_000));
    let over = at + Duration::from_millis(rng.between(50, 12_000));
    let (Some(&host), Some(&leecher)) = (rng.pick(&hosts), rng.pick(leechers)) else { return };
    match rng.below(9) {
        0 => {
            scenario.at(at).crash(host);
            scenario.at(over).join(host);
        }
        1 => {
            scenario.at(at).crash_and_lose(leecher);
            scenario.at(over).join(leecher);
        }
        2 => {
            scenario.at(at).pause(host);
            scenario.at(over).resume(host);
        }
        3 | 4 => {
            let some: Vec<HostId> = hosts.iter().copied().filter(|_| rng.chance(0.5)).collect();
            if rng.chance(0.7) {
                scenario.at(at).partition(&some, &hosts);
            } else {
                scenario.at(at).partition_one_way(&some, &hosts);
            }
            scenario.at(over).heal();
        }
        5 => {
            scenario.at(at).change_link(host, link(rng));
        }
        6 => {
            scenario.at(at).rot(leecher, rng.below(length));
        }
        7 => {
            scenario.at(at).leave(host);
            scenario.at(over).join(host);
        }
        _ => {
            let full = DiskSpec { capacity: rng.below(length), ..DiskSpec::default() };
            scenario.at(at).change_disk(leecher, full);
        }
    }
}

/// From here on nothing goes wrong.
fn heal(scenario: &mut Scenario, seeders: &[HostId], leechers: &[HostId]) {
    scenario.at(HEALED).heal();
    let clean = LinkSpec::symmetric(10 * MBIT, Duration::from_millis(10));
    for &host in seeders.iter().chain(leechers) {
        let mut healed = scenario.at(HEALED);
        healed.change_link(host, clean.clone()).change_disk(host, DiskSpec::default()).resume(host).join(host);
    }
}
