//! Congestion control on a virtual bottleneck. `examples/congestion.rs` runs the long scenarios.

use std::time::Duration;

use ppspp_core::congestion::{Algorithm, ControllerConfig, DelaySample};

mod network;
mod reno;

use network::{MSS, Network};

const RTT: Duration = Duration::from_millis(50);
const BUFFER: Duration = Duration::from_millis(400);
const MINUTE: Duration = Duration::from_secs(60);
const BOTH: [ControllerConfig; 2] = [ControllerConfig::ledbat(), ControllerConfig::ledbat_plus_plus()];

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One channel over 10 Mbit/s and 50 ms.
fn alone(config: ControllerConfig) -> Network {
    let mut network = Network::new(10, BUFFER);
    network.add_ppspp(config, RTT, Duration::ZERO);
    network
}

#[test]
fn ledbat_fills_the_link_and_holds_the_queue_at_its_target() {
    let mut network = alone(ControllerConfig::ledbat());
    let measured = &network.settle_and_run(2 * MINUTE)[0];
    let used = measured.utilisation(network.link(), 2 * MINUTE);
    assert!(used >= 980, "{used} ‰");
    let mean = measured.mean_queue();
    assert!(mean >= millis(90) && mean <= millis(110), "{mean:?}");
    assert_eq!((measured.dropped, measured.timeouts), (0, 0));
}

#[test]
fn ledbat_plus_plus_fills_the_link_but_for_its_slowdowns() {
    let mut network = alone(ControllerConfig::ledbat_plus_plus());
    let measured = &network.settle_and_run(2 * MINUTE)[0];
    let used = measured.utilisation(network.link(), 2 * MINUTE);
    assert!((900..=970).contains(&used), "{used} ‰");
    let most = measured.queue_percentile(95);
    assert!(most <= millis(66) && most >= millis(30), "{most:?}");
    assert_eq!((measured.dropped, measured.timeouts), (0, 0));
}

#[test]
fn a_tcp_connection_keeps_its_rate() {
    for config in BOTH {
        let mut network = alone(config);
        network.add_reno(RTT, MINUTE / 2);
        let measured = network.settle_and_run(2 * MINUTE);
        // Alone it fills the link: its buffer exceeds the round trip.
        let tcp = measured[1].utilisation(network.link(), 2 * MINUTE);
        assert!(tcp >= 950, "{:?}: {tcp} ‰", config.algorithm);
        assert!(measured[0].packets > 0, "the channel lives on");
    }
}

#[test]
fn eight_channels_leave_a_tcp_connection_nine_tenths() {
    let mut network = Network::new(10, millis(300));
    for channel in 0..8 {
        network.add_ppspp(ControllerConfig::ledbat_plus_plus(), RTT, Duration::from_secs(channel));
    }
    network.add_reno(RTT, MINUTE / 2);
    let measured = network.settle_and_run(2 * MINUTE);
    let tcp = measured[8].utilisation(network.link(), 2 * MINUTE);
    assert!(tcp >= 900, "{tcp} ‰");
}

#[test]
fn ledbat_plus_plus_shares_with_latecomers() {
    let soon = [(10, 50, 30), (10, 50, 12), (10, 40, 15), (30, 20, 20), (50, 5, 20)].map(|pair| (pair, 2 * MINUTE));
    // Large windows take longer to become equal.
    let late = [(20, 100, 15), (50, 100, 1), (100, 100, 1), (100, 100, 35)].map(|pair| (pair, 5 * MINUTE));
    for ((megabits, rtt, later), span) in soon.into_iter().chain(late) {
        let mut network = Network::new(megabits, BUFFER);
        for start in [0, later] {
            network.add_ppspp(ControllerConfig::ledbat_plus_plus(), millis(rtt), Duration::from_secs(start));
        }
        let measured = network.settle_and_run(span);
        let (least, most) = (measured[0].bytes.min(measured[1].bytes), measured[0].bytes.max(measured[1].bytes));
        assert!(most * 10 <= least * 13, "{megabits} Mbit/s, {later} s later: {most} and {least} bytes");
    }
}

#[test]
fn after_a_pause_the_link_is_soon_full_again() {
    let mut network = alone(ControllerConfig::ledbat_plus_plus());
    network.run(MINUTE);
    let base = network.flows[0].controller.base_delay();
    network.flows[0].offer(Some(0));
    network.run(MINUTE);
    network.flows[0].offer(None);
    let measured = &network.run(MINUTE)[0];
    assert_eq!(network.flows[0].controller.base_delay(), base);
    assert!(measured.utilisation(network.link(), MINUTE) >= 850);
    assert!(measured.queue_percentile(95) <= millis(66));
}

#[test]
fn any_clock_offset_gives_the_same_transfer() {
    for config in BOTH {
        let plain = alone(config).run(MINUTE);
        for clock_offset in [20_000_u64.wrapping_neg(), 1 << 63, u64::MAX / 3] {
            let mut network = alone(config);
            network.flows[0].clock_offset = clock_offset;
            assert_eq!(network.run(MINUTE), plain, "{clock_offset}");
        }
    }
}

#[test]
fn a_fast_clock_starves_no_one() {
    // RFC 6817 appendix A.2: ten minutes at 500 ppm look like a queue of 300 ms.
    for config in BOTH {
        let mut network = alone(config);
        network.flows[0].drift_ppm = 500;
        network.run(10 * MINUTE);
        let used = network.run(2 * MINUTE)[0].utilisation(network.link(), 2 * MINUTE);
        assert!(used >= 900, "{:?}: {used} ‰", config.algorithm);
    }
}

#[test]
fn a_slow_clock_hides_no_queue_from_ledbat_plus_plus() {
    let mut network = alone(ControllerConfig::ledbat_plus_plus());
    network.flows[0].drift_ppm = -500;
    network.run(10 * MINUTE);
    let measured = &network.run(2 * MINUTE)[0];
    let (mean, most) = (measured.mean_queue(), measured.queue_percentile(95));
    assert!(mean <= millis(60) && most <= millis(72), "{mean:?}, {most:?}");
}

#[test]
fn ledbat_plus_plus_remembers_the_base_that_ledbat_forgets() {
    for config in BOTH {
        let mut network = alone(config);
        network.run(12 * MINUTE);
        let mean = network.run(MINUTE)[0].mean_queue();
        // RFC 6817 forgets the empty queue after BASE_HISTORY minutes and builds on its own.
        let plus_plus = config.algorithm == Algorithm::LedbatPlusPlus;
        assert_eq!(mean <= millis(60), plus_plus, "{:?}: {mean:?}", config.algorithm);
    }
}

#[test]
fn forged_delays_are_worth_no_more_than_round_trips_and_losses() {
    for config in BOTH {
        // Constant: the queue is hidden, and losses govern.
        let mut network = alone(config);
        network.flows[0].forged = Some(DelaySample::from_micros(7));
        let liar = &network.run(5 * MINUTE)[0];
        let (dropped, passed) = (liar.dropped, liar.packets);
        assert!(dropped > 0 && dropped * 100 < passed, "{:?}: {dropped} of {passed}", config.algorithm);
        network.add_reno(RTT, Duration::ZERO);
        let tcp = network.settle_and_run(2 * MINUTE)[1].utilisation(network.link(), 2 * MINUTE);
        assert!(tcp >= 300, "{:?} is no worse than another TCP: {tcp} ‰", config.algorithm);
        // Absurdly high: only the liar waits, and not for ever.
        let mut network = alone(config);
        network.run(MINUTE);
        network.flows[0].forged = Some(DelaySample::from_micros(1 << 62));
        let measured = &network.run(MINUTE)[0];
        assert!(measured.utilisation(network.link(), MINUTE) >= 500);
    }
}

#[test]
fn a_buffer_shorter_than_the_target_is_governed_by_loss() {
    for config in BOTH {
        let mut network = Network::new(10, millis(40));
        network.add_ppspp(config, RTT, Duration::ZERO);
        let measured = &network.settle_and_run(2 * MINUTE)[0];
        let used = measured.utilisation(network.link(), 2 * MINUTE);
        assert!(used >= 850, "{:?}: {used} ‰", config.algorithm);
        assert!(measured.dropped > 0 && measured.dropped * 100 < measured.packets);
        assert_eq!(measured.timeouts, 0);
    }
}

#[test]
fn a_loopback_path_is_not_limited() {
    for config in BOTH {
        let mut network = Network::new(3200, millis(10));
        network.add_ppspp(config, Duration::from_micros(100), Duration::ZERO);
        let span = Duration::from_secs(1);
        network.run(span);
        let used = network.run(span)[0].utilisation(network.link(), span);
        assert!(used >= 900, "{:?}: {used} ‰ of 400 MB/s", config.algorithm);
    }
}

#[test]
fn an_outage_ends_in_one_segment_and_is_recovered_from() {
    for config in BOTH {
        let mut network = alone(config);
        network.run(Duration::from_secs(20));
        network.link().down = true;
        let timeouts = network.run(Duration::from_secs(10))[0].timeouts;
        assert_eq!(network.flows[0].controller.window(), MSS);
        assert!((3..=6).contains(&timeouts), "{timeouts} timeouts");
        network.link().down = false;
        let span = Duration::from_secs(10);
        network.run(span);
        let used = network.run(span)[0].utilisation(network.link(), span);
        assert!(used >= 850, "{:?}: {used} ‰", config.algorithm);
    }
}

#[test]
fn an_application_that_offers_little_gets_no_window_to_flood_with() {
    for config in BOTH {
        let mut network = Network::new(100, BUFFER);
        network.add_ppspp(config, RTT, Duration::ZERO);
        network.run(MINUTE);
        let before = network.flows[0].controller.window();
        network.flows[0].offer(Some(2));
        let measured = network.run(Duration::from_secs(10));
        let packets = measured[0].packets;
        // A slowdown that was due may fall into this time.
        assert!((1900..=2010).contains(&packets), "{packets}");
        let window = network.flows[0].controller.window();
        assert!(window < before / 10 && window >= 10 * MSS, "{window} of {before}");
    }
}
