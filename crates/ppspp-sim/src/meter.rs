//! Memory that endpoints hold, measured call by call.

use std::fmt;

/// Measures what a call leaves behind: calls what it is given, once, and says by how many bytes the heap in use grew.
///
/// The simulator has no allocator of its own; a program that counts its allocations lends it one. See
/// [`Scenario::measure_memory`](crate::Scenario::measure_memory).
pub type Meter = fn(&mut dyn FnMut()) -> i64;

/// Bytes that one endpoint holds.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    meter: Option<Meter>,
    bytes: i64,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.bytes()).finish()
    }
}

impl Account {
    pub(crate) const fn new(meter: Option<Meter>) -> Self {
        Self { meter, bytes: 0 }
    }

    /// Does something on this account.
    pub(crate) fn of<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let Some(meter) = self.meter else { return act() };
        let (mut act, mut result) = (Some(act), None);
        self.bytes += meter(&mut || result = act.take().map(|act| act()));
        result.unwrap_or_else(|| unreachable!("a meter calls what it is given"))
    }

    /// What it came to, if there is a meter.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.meter.map(|_| u64::try_from(self.bytes).unwrap_or(0))
    }
}
