//! How fast a swarm can be at best.

use std::time::Duration;

/// Share of the wire that content can have: 1,024 bytes of 1,114, headers, hashes and acknowledgements taken off.
pub(crate) const NET_SHARE: f64 = 1024.0 / 1114.0;

/// Least possible time to bring `bytes` from one seeder to every leecher in the fluid model, in which bits flow without
/// headers and without delay: `max(F/u_s, F/d_min, N·F/(u_s + Σu_i))`.
///
/// Rates are in bits per second; `leechers` gives each one's up and down.
pub fn fluid_bound(bytes: u64, seeder_up: u64, leechers: &[(u64, u64)]) -> Duration {
    let bits = u128::from(bytes) * 8;
    let nanos = |bits: u128, rate: u128| bits * 1_000_000_000 / rate.max(1);
    let slowest = leechers.iter().map(|(_, down)| *down).min().unwrap_or(u64::MAX);
    let up = u128::from(seeder_up) + leechers.iter().map(|(up, _)| u128::from(*up)).sum::<u128>();
    let least = nanos(bits, u128::from(seeder_up))
        .max(nanos(bits, u128::from(slowest)))
        .max(nanos(bits * leechers.len() as u128, up));
    Duration::from_nanos(u64::try_from(least).unwrap_or(u64::MAX))
}

/// `time` over `bound`.
pub(crate) fn ratio(time: Duration, bound: Duration) -> f64 {
    time.as_secs_f64() / bound.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_of_three_bounds_counts() {
        let mbit = 1_000_000;
        let secs = |bound: Duration| bound.as_secs_f64();
        // The seeder's link.
        assert!((secs(fluid_bound(1_000_000, mbit, &[(mbit, mbit); 3])) - 8.0).abs() < 1e-6);
        // The slowest download.
        assert!((secs(fluid_bound(1_000_000, 8 * mbit, &[(mbit, mbit), (mbit, 4 * mbit)])) - 8.0).abs() < 1e-6);
        // All uploads together.
        assert!((secs(fluid_bound(1_000_000, mbit, &[(0, 8 * mbit); 4])) - 32.0).abs() < 1e-6);
    }
}
