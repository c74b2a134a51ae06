//! How fast and how well a machine starts and stops groups.

use crate::sim::clock::Nanos;
use crate::sim::scenario::Scenario;

/// How well the hands do their work.
#[derive(Debug, Clone, Copy)]
pub struct Skill {
    pub(super) start_max: Nanos,
    pub(super) stop_max: Nanos,
    pub(super) emergency_max: Nanos,
    pub(super) start_fails: u64,
    pub(super) stop_fails: u64,
    pub(super) hangs: u64,
    pub(super) emergency_hangs: u64,
}

impl Skill {
    /// As the scenario has it.
    pub fn of(scenario: &Scenario) -> Self {
        Self {
            start_max: scenario.start_max,
            stop_max: scenario.stop_max,
            emergency_max: scenario.emergency_stop_max(),
            start_fails: scenario.start_fails,
            stop_fails: scenario.stop_fails,
            hangs: scenario.hangs,
            emergency_hangs: if scenario.watchdog { scenario.hangs } else { 0 },
        }
    }

    /// The same, but nothing fails.
    #[must_use]
    pub fn perfect(self) -> Self {
        Self {
            start_fails: 0,
            stop_fails: 0,
            hangs: 0,
            emergency_hangs: 0,
            ..self
        }
    }
}
