//! Links as people have them.

use std::time::Duration;

use super::{LinkSpec, Loss, PipeSpec};

const MBIT: u64 = 1_000_000;

impl LinkSpec {
    /// The names of the presets.
    pub const PRESETS: [&'static str; 6] = ["dsl", "cable", "fibre", "mobile", "lan", "satellite"];

    /// The preset called `name`.
    pub fn preset(name: &str) -> Option<Self> {
        Some(match name {
            "dsl" => Self::dsl(),
            "cable" => Self::cable(),
            "fibre" => Self::fibre(),
            "mobile" => Self::mobile(),
            "lan" => Self::lan(),
            "satellite" => Self::satellite(),
            _ => return None,
        })
    }

    /// ADSL: 16 Mbit/s down, 1 Mbit/s up behind a buffer of a second.
    pub fn dsl() -> Self {
        Self {
            up: PipeSpec::new(MBIT, Duration::from_millis(12)).queue_of(Duration::from_secs(1)),
            down: PipeSpec::new(16 * MBIT, Duration::from_millis(12)),
        }
    }

    /// Cable: 100 Mbit/s down, 10 Mbit/s up, half a second of buffer.
    pub fn cable() -> Self {
        Self {
            up: PipeSpec::new(10 * MBIT, Duration::from_millis(8)).queue_of(Duration::from_millis(500)),
            down: PipeSpec::new(100 * MBIT, Duration::from_millis(8)),
        }
    }

    /// Fibre: 100 Mbit/s both ways, near, little buffer.
    pub fn fibre() -> Self {
        Self::symmetric(100 * MBIT, Duration::from_millis(3)).with(|pipe| {
            *pipe = pipe.clone().queue_of(Duration::from_millis(50));
        })
    }

    /// Mobile: 20 Mbit/s down, 5 Mbit/s up, jitter, bursts of loss.
    pub fn mobile() -> Self {
        let pipe = |rate| PipeSpec {
            jitter: Duration::from_millis(15),
            ..PipeSpec::new(rate, Duration::from_millis(30))
                .queue_of(Duration::from_millis(500))
                .losing(Loss::gilbert_elliott(0.002, 0.2, 0.3))
        };
        Self { up: pipe(5 * MBIT), down: pipe(20 * MBIT) }
    }

    /// A switch: 1 Gbit/s, a tenth of a millisecond.
    pub fn lan() -> Self {
        Self::symmetric(1000 * MBIT, Duration::from_micros(50)).with(|pipe| {
            *pipe = pipe.clone().queue_of(Duration::from_millis(4));
        })
    }

    /// A geostationary satellite: 20 Mbit/s down, 3 Mbit/s up, half a second round trip.
    pub fn satellite() -> Self {
        Self {
            up: PipeSpec::new(3 * MBIT, Duration::from_millis(125)),
            down: PipeSpec::new(20 * MBIT, Duration::from_millis(125)),
        }
    }
}
