//! What a unit costs: resident memory and processor time, read from outside.

use crate::machine::Machine;
use crate::{cgroup, clock};
use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// A unit's cost so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// When it was read.
    pub at: Duration,
    /// Resident memory of all its processes, in KiB.
    pub resident_kib: u64,
    /// Processor time of all its processes since the unit's start.
    pub cpu: Duration,
}

impl Usage {
    /// Share of one core used between two readings, in percent.
    pub fn percent_since(&self, earlier: &Self) -> f64 {
        let wall = self.at.saturating_sub(earlier.at).as_secs_f64();
        let cpu = self.cpu.saturating_sub(earlier.cpu).as_secs_f64();
        if wall > 0.0 { 100.0 * cpu / wall } else { 0.0 }
    }
}

/// Reads what a unit has cost.
///
/// # Errors
/// It does not run.
pub fn usage(machine: &Machine, unit: &str) -> Result<Usage> {
    let group = machine.unit_cgroup(unit);
    let stat = fs::read_to_string(group.join("cpu.stat"))
        .with_context(|| format!("{unit} does not run on {}", machine.name()))?;
    let usec = number_after(&stat, "usage_usec").context("no usage_usec in cpu.stat")?;
    let resident_kib = cgroup::processes(&group)
        .into_iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| number_after(&status, "VmRSS:"))
        .sum();
    Ok(Usage {
        at: clock::now(),
        resident_kib,
        cpu: Duration::from_micros(usec),
    })
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
