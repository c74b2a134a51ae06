//! A whole run: faults, healing, steadiness, requests.

use crate::core::Core;
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::{Nanos, nanos};
use crate::sim::cluster::Sim;
use crate::sim::scenario::Scenario;
use crate::sim::trace::TraceMode;

/// What a run without failure shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Happenings simulated.
    pub steps: u64,
    /// True time simulated.
    pub time: Nanos,
    /// From the end of the faults until everything was as it should be.
    pub settled_after: Nanos,
    /// The bound for that.
    pub settle_bound: Nanos,
    /// Of the trace; meaningless in [`TraceMode::Quiet`].
    pub digest: u64,
}

/// Runs a scenario with the real core.
///
/// # Errors
/// The first invariant that did not hold, with the last lines of the trace.
pub fn run(scenario: &Scenario, mode: TraceMode) -> Result<Report, (Failure, Vec<String>)> {
    run_with::<Core>(scenario, mode)
}

/// Runs a scenario with some core.
///
/// # Errors
/// The first invariant that did not hold, with the last lines of the trace.
pub fn run_with<M: Mind>(
    scenario: &Scenario,
    mode: TraceMode,
) -> Result<Report, (Failure, Vec<String>)> {
    let mut sim = Sim::<M>::new(scenario.clone(), mode);
    let result = phases(&mut sim);
    result.map_err(|failure| (failure, sim.trace.lines().map(String::from).collect()))
}

fn phases<M: Mind>(sim: &mut Sim<M>) -> Result<Report, Failure> {
    sim.begin_faults();
    sim.begin_troubles();
    sim.run_until(sim.scenario.fault_time)?;
    if let Some(lasting) = sim.scenario.extras.lasting {
        sim.live_with(lasting)?;
    }
    let (healed, settle_bound) = (sim.now, sim.scenario.settle_time());
    sim.heal()?;
    sim.run_until(sim.now + sim.scenario.grieving_time())?;
    sim.people_tidy_up()?;
    sim.settle(settle_bound, "liveness")?;
    let settled_after = sim.now - healed;
    // A group that is back may still go home once.
    sim.run_until((sim.now + sim.scenario.move_time()).min(healed + settle_bound))?;
    sim.stay(3 * nanos(sim.scenario.deadtime))?;
    sim.ask_something()?;
    Ok(Report {
        steps: sim.steps,
        time: sim.now,
        settled_after,
        settle_bound,
        digest: sim.trace.digest(),
    })
}
