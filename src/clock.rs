//! The only reader of the clock.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Two clocks: one people set, one that only moves forward.
pub trait Clock {
    /// Wall time, µs since the Unix epoch.
    fn wall_us(&self) -> i64;
    /// Monotonic time, µs since some fixed instant.
    fn monotonic_us(&self) -> i64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_us(&self) -> i64 {
        wall_us()
    }

    #[allow(clippy::disallowed_methods)] // The one place that reads it.
    fn monotonic_us(&self) -> i64 {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_micros() as i64
    }
}

/// The machine's wall clock, µs since the Unix epoch; 0 if it is set before 1970.
#[allow(clippy::disallowed_methods)] // The one place that reads it.
pub fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Tells a clock that was set from one that ran: the wall clock must move as the monotonic one does.
#[derive(Debug, Clone, Copy)]
pub struct StepGuard {
    offset_us: i64,
    step_us_max: i64,
}

impl StepGuard {
    /// Starts from how the two clocks stand now.
    pub fn new(clock: &impl Clock, step_us_max: i64) -> StepGuard {
        StepGuard { offset_us: clock.wall_us() - clock.monotonic_us(), step_us_max }
    }

    /// By how much the wall clock was set since, if by more than `MAX_CLOCK_STEP`, µs.
    pub fn step_us(&self, clock: &impl Clock) -> Option<i64> {
        let step_us = clock.wall_us() - clock.monotonic_us() - self.offset_us;
        (step_us.abs() > self.step_us_max).then_some(step_us)
    }
}
