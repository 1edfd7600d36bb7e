//! How much may be in flight, and when it may leave: delay-based congestion control (RFC 7574 §8.15 and RFC 6817), the
//! round trip estimator behind its timeout, and a pacer.
//!
//! A channel owns one [`Controller`], one [`RttEstimator`] and one [`Pacer`]. The controller says how many bytes may be
//! outstanding, the estimator when silence means congestion, the pacer spreads the window over the round trip. None of
//! them reads a clock or tracks packets: the channel tells them what was acknowledged, lost or timed out.
//!
//! Delay samples come from the peer and are not believed: too high ones slow only what goes to that peer and count for
//! no more than the round trip; too low or constant ones hide a queue, and then losses govern the window as they govern
//! TCP's.

mod delay;
mod ledbat;
mod ledbat_pp;
mod pacer;
mod rtt;
mod share;
mod window;

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use thiserror::Error;

pub use delay::DelaySample;
use ledbat::Ledbat;
use ledbat_pp::LedbatPlusPlus;
pub use pacer::Pacer;
pub use rtt::{DEFAULT_RTT, INITIAL_CTO, INITIAL_CTO_AFTER_REPEATS, MAX_CTO, MIN_CTO, MIN_RTT_MINUTES, RttEstimator};
pub(crate) use share::{LinkShare, Sending, deal};

use crate::time::{Instant, micros};

/// Largest TARGET that RFC 6817 §2.5 allows.
pub const MAX_TARGET: Duration = Duration::from_millis(100);
/// TARGET that LEDBAT++ recommends.
pub const LEDBAT_PLUS_PLUS_TARGET: Duration = Duration::from_millis(60);
/// Smallest TARGET accepted; below it, clock resolution and batching drown the signal.
pub const MIN_TARGET: Duration = Duration::from_millis(1);
/// Smallest segment size accepted, in bytes; smaller ones spend more on headers than on content.
pub const MIN_MSS: u32 = 64;
/// Largest segment size accepted, in bytes: no UDP payload is longer.
pub const MAX_MSS: u32 = 65_535;
/// `MIN_CWND` of RFC 6817 §2.5, in segments.
pub const MIN_WINDOW_SEGMENTS: u32 = 2;
/// Largest [`ControllerConfig::max_window`], in bytes: 1 TiB keeps the window arithmetic within 128 bits.
pub const MAX_WINDOW_LIMIT: u64 = 1 << 40;
/// Most minutes of base delay history; longer ones would only delay adapting to a longer route.
pub const MAX_BASE_HISTORY: u32 = 60;
/// Largest [`ControllerConfig::allowed_increase`], in segments: the window never outgrows what was in use by more.
pub const MAX_ALLOWED_INCREASE: u32 = 8;
/// Largest decrease gain, in thousandths: ten times as fast as it grows.
pub const MAX_DECREASE_GAIN: u32 = 10_000;

/// Default for [`ControllerConfig::mss`]: a UDP payload that passes paths with the IPv6 minimum MTU of 1280.
const DEFAULT_MSS: u32 = 1232;
/// Default for [`ControllerConfig::max_window`]: 5 Gbit/s over 100 ms.
const DEFAULT_MAX_WINDOW: u64 = 64 << 20;

/// Decides how many bytes a channel may have in flight.
///
/// Every callback carries the time, so that an algorithm may act on it (LEDBAT++ slows down periodically). A `now`
/// before that of an earlier call counts as that earlier one (R25).
pub trait Controller: fmt::Debug + Send {
    /// An acknowledgement arrived that covers bytes still outstanding.
    ///
    /// One call per ACK message, or one per datagram for all its ACK messages together.
    fn on_ack(&mut self, now: Instant, ack: &AckEvent);

    /// Bytes were found lost while others were acknowledged.
    ///
    /// Halves the window at most once per round trip: data sent before the latest reduction says nothing new.
    fn on_loss(&mut self, now: Instant, loss: &LossEvent);

    /// Nothing was acknowledged for [`RttEstimator::cto`]: the window falls to one segment (RFC 6817 §2.4.2).
    fn on_congestion_timeout(&mut self, now: Instant);

    /// The path's segment size changed to `mss` bytes, clamped to [`MIN_MSS`]..=[`MAX_MSS`]; the window stays, in bytes.
    fn set_mss(&mut self, mss: u32);

    /// Bytes that may be outstanding: at least one segment, at most [`ControllerConfig::max_window`].
    fn window(&self) -> u64;

    /// Whether the window doubles per round trip; the [`Pacer`] then paces less tightly.
    fn in_slow_start(&self) -> bool;

    /// The latest estimate of the time that data spends in queues, if a delay was ever sampled; for statistics.
    fn queuing_delay(&self) -> Option<Duration>;

    /// The lowest delay sample remembered, on the same unsynchronised clocks as the samples; for statistics.
    fn base_delay(&self) -> Option<DelaySample>;
}

/// What an acknowledgement told the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckEvent {
    /// Bytes that this acknowledgement newly covers; at most `in_flight_before`.
    pub bytes_acked: u64,
    /// Bytes outstanding before this acknowledgement.
    pub in_flight_before: u64,
    /// The one-way delay that the peer measured, if it is to be used.
    pub delay: Option<DelaySample>,
    /// The smoothed round trip, this acknowledgement included: [`RttEstimator::srtt_or_default`].
    pub srtt: Duration,
    /// The smallest recent round trip: [`RttEstimator::min_rtt`], or `srtt` without one. For algorithms whose gain
    /// depends on the path's length; LEDBAT ignores it.
    pub min_rtt: Duration,
    /// Whether the sender lately sent less than the window allowed, for want of requests or data; the window then does
    /// not grow. Waiting for the pacer is no such want.
    pub app_limited: bool,
    /// When the newest of the data it covers was sent.
    pub newest_acked_sent_at: Instant,
}

/// Data that was found lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossEvent {
    /// Bytes lost.
    pub bytes_lost: u64,
    /// When the newest of the lost data was sent.
    pub newest_lost_sent_at: Instant,
}

/// Which [`Controller`] to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// RFC 6817, optionally with a slow start.
    Ledbat,
    /// LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus): retreats faster and slows down regularly to measure the base delay.
    #[default]
    LedbatPlusPlus,
}

/// What a [`Controller`] is built from. Gains are in thousandths.
///
/// [`validate`](Self::validate) names the first value out of bounds; [`build`](Self::build) clamps, so that no
/// configuration can break a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Segment size: the most content a datagram to this peer carries, in bytes; [`MIN_MSS`]..=[`MAX_MSS`].
    pub mss: u32,
    /// TARGET: the queuing delay aimed at; [`MIN_TARGET`]..=[`MAX_TARGET`]. Equal for flows that are to share fairly.
    pub target: Duration,
    /// GAIN while below the target, in thousandths; 1..=1000 (RFC 6817 §2.5). LEDBAT++ divides it by up to 16 on short
    /// paths.
    pub increase_gain: u32,
    /// GAIN while above the target, LEDBAT++'s C, in thousandths; `increase_gain`..=[`MAX_DECREASE_GAIN`].
    pub decrease_gain: u32,
    /// `INIT_CWND` in segments; at least [`MIN_WINDOW_SEGMENTS`], at most what RFC 5681 §3.1 grants TCP for this `mss`.
    pub init_window_segments: u32,
    /// `ALLOWED_INCREASE` in segments; 1..=[`MAX_ALLOWED_INCREASE`].
    pub allowed_increase: u32,
    /// `BASE_HISTORY` in minutes; 1..=[`MAX_BASE_HISTORY`].
    pub base_history: u32,
    /// Whether the window doubles per round trip at first and after a congestion timeout; LEDBAT++ then stops doubling
    /// at the first sign of a queue.
    pub slow_start: bool,
    /// Most bytes in flight; two segments..=[`MAX_WINDOW_LIMIT`].
    pub max_window: u64,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self::ledbat_plus_plus()
    }
}

impl ControllerConfig {
    /// What RFC 6817 §2.5 recommends, with a slow start.
    pub const fn ledbat() -> Self {
        Self {
            algorithm: Algorithm::Ledbat,
            mss: DEFAULT_MSS,
            target: MAX_TARGET,
            increase_gain: 1000,
            decrease_gain: 1000,
            init_window_segments: MIN_WINDOW_SEGMENTS,
            allowed_increase: 1,
            base_history: 10,
            slow_start: true,
            max_window: DEFAULT_MAX_WINDOW,
        }
    }

    /// What the draft of LEDBAT++ recommends.
    pub const fn ledbat_plus_plus() -> Self {
        Self { algorithm: Algorithm::LedbatPlusPlus, target: LEDBAT_PLUS_PLUS_TARGET, ..Self::ledbat() }
    }
}

/// A [`ControllerConfig`] value out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ControllerConfigError {
    /// A number outside its range.
    #[error("congestion control {name} is {value}; choose {min} to {max}")]
    OutOfRange {
        /// Which field.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
}

impl ControllerConfig {
    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// [`ControllerConfigError::OutOfRange`] for the first field outside its bounds; times are in microseconds.
    pub fn validate(&self) -> Result<(), ControllerConfigError> {
        let legal = self.clamped();
        let (min_window, max_segments) = (legal.min_window(), max_init_segments(legal.mss));
        let fields = [
            ("mss in bytes", self.mss.into(), MIN_MSS.into(), MAX_MSS.into()),
            ("target in microseconds", micros(self.target), micros(MIN_TARGET), micros(MAX_TARGET)),
            ("increase_gain in thousandths", self.increase_gain.into(), 1, 1000),
            (
                "decrease_gain in thousandths",
                self.decrease_gain.into(),
                legal.increase_gain.into(),
                MAX_DECREASE_GAIN.into(),
            ),
            ("init_window_segments", self.init_window_segments.into(), MIN_WINDOW_SEGMENTS.into(), max_segments.into()),
            ("allowed_increase in segments", self.allowed_increase.into(), 1, MAX_ALLOWED_INCREASE.into()),
            ("base_history in minutes", self.base_history.into(), 1, MAX_BASE_HISTORY.into()),
            ("max_window in bytes", self.max_window, min_window, MAX_WINDOW_LIMIT),
        ];
        for (name, value, min, max) in fields {
            if !(min..=max).contains(&value) {
                return Err(ControllerConfigError::OutOfRange { name, value, min, max });
            }
        }
        Ok(())
    }

    /// A controller for one channel that starts at `now`; values out of bounds count as the nearest bound.
    pub fn build(&self, now: Instant) -> Box<dyn Controller> {
        match self.algorithm {
            Algorithm::Ledbat => Box::new(Ledbat::new(&self.clamped(), now)),
            Algorithm::LedbatPlusPlus => Box::new(LedbatPlusPlus::new(&self.clamped(), now)),
        }
    }

    fn clamped(&self) -> Self {
        let mss = self.mss.clamp(MIN_MSS, MAX_MSS);
        let increase_gain = self.increase_gain.clamp(1, 1000);
        let legal = Self {
            algorithm: self.algorithm,
            mss,
            target: self.target.clamp(MIN_TARGET, MAX_TARGET),
            increase_gain,
            decrease_gain: self.decrease_gain.clamp(increase_gain, MAX_DECREASE_GAIN),
            init_window_segments: self.init_window_segments.clamp(MIN_WINDOW_SEGMENTS, max_init_segments(mss)),
            allowed_increase: self.allowed_increase.clamp(1, MAX_ALLOWED_INCREASE),
            base_history: self.base_history.clamp(1, MAX_BASE_HISTORY),
            slow_start: self.slow_start,
            max_window: self.max_window,
        };
        Self { max_window: self.max_window.clamp(legal.min_window(), MAX_WINDOW_LIMIT), ..legal }
    }

    fn min_window(&self) -> u64 {
        u64::from(self.mss) * u64::from(MIN_WINDOW_SEGMENTS)
    }
}

/// The initial window that RFC 5681 §3.1 allows TCP, which bounds ours (RFC 6817 §2.5).
const fn max_init_segments(mss: u32) -> u32 {
    match mss {
        0..=1095 => 4,
        1096..=2190 => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    fn refused(config: ControllerConfig) -> (&'static str, u64, u64) {
        match config.validate() {
            Err(ControllerConfigError::OutOfRange { name, min, max, .. }) => (name, min, max),
            Ok(()) => panic!("{config:?} passed"),
        }
    }

    #[test]
    fn the_default_is_ledbat_plus_plus() {
        let config = ControllerConfig::default();
        assert_eq!((config, config.algorithm), (ControllerConfig::ledbat_plus_plus(), Algorithm::default()));
        assert_eq!((config.validate(), config.target), (Ok(()), Duration::from_millis(60)));
    }

    #[test]
    fn ledbat_is_what_rfc_6817_recommends() {
        let config = ControllerConfig::ledbat();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.target, Duration::from_millis(100));
        assert_eq!((config.increase_gain, config.allowed_increase, config.base_history), (1000, 1, 10));
        assert_eq!(config.build(Instant::ZERO).window(), 2 * u64::from(config.mss));
    }

    #[test]
    fn each_value_out_of_bounds_is_named() {
        let legal = ControllerConfig::default();
        assert_eq!(refused(ControllerConfig { mss: 63, ..legal }).0, "mss in bytes");
        assert_eq!(refused(ControllerConfig { mss: 65_536, ..legal }).0, "mss in bytes");
        let target = Duration::from_micros(100_001);
        assert_eq!(refused(ControllerConfig { target, ..legal }), ("target in microseconds", 1_000, 100_000));
        assert_eq!(
            refused(ControllerConfig { increase_gain: 1001, ..legal }),
            ("increase_gain in thousandths", 1, 1000)
        );
        assert_eq!(refused(ControllerConfig { decrease_gain: 999, ..legal }).1, 1000);
        assert_eq!(refused(ControllerConfig { allowed_increase: 0, ..legal }).1, 1);
        assert_eq!(refused(ControllerConfig { base_history: 0, ..legal }).1, 1);
        assert_eq!(refused(ControllerConfig { max_window: 2463, ..legal }).1, 2464);
        let error = ControllerConfig { base_history: 61, ..legal }.validate().unwrap_err();
        assert_eq!(error.to_string(), "congestion control base_history in minutes is 61; choose 1 to 60");
    }

    #[test]
    fn the_initial_window_is_bounded_by_tcps() {
        for (mss, most) in [(1095, 4), (1096, 3), (2190, 3), (2191, 2)] {
            let legal = ControllerConfig { mss, init_window_segments: most, ..ControllerConfig::default() };
            assert_eq!(legal.validate(), Ok(()));
            let greedy = ControllerConfig { init_window_segments: most + 1, ..legal };
            assert_eq!(refused(greedy), ("init_window_segments", 2, most.into()));
            assert_eq!(greedy.build(Instant::ZERO).window(), u64::from(mss) * u64::from(most));
        }
    }

    #[test]
    fn whatever_is_built_is_legal() {
        for number in [0, 1, u32::MAX] {
            for (target, max_window) in [(Duration::ZERO, 0), (Duration::MAX, u64::MAX)] {
                let config = ControllerConfig {
                    mss: number,
                    target,
                    increase_gain: number,
                    decrease_gain: number,
                    init_window_segments: number,
                    allowed_increase: number,
                    base_history: number,
                    max_window,
                    ..ControllerConfig::default()
                };
                assert!(config.validate().is_err());
                assert_eq!(config.clamped().validate(), Ok(()), "{config:?}");
            }
        }
    }
}
