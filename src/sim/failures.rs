//! Resources that fail by themselves: on one machine or on all at once, once or again and again; and the invariant that
//! nobody starts them forever.

use crate::core::{GroupOutcome, Input, Reaction};
use crate::ids::{GroupName, RequestId};
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::{Nanos, nanos};
use crate::sim::cluster::Sim;
use crate::sim::hands::HandState;
use crate::sim::happening::Happening;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Starts that may fail in a row, each after a longer pause: the first, and the core's trials.
const DEFEATS_MAX: u32 = 1 + crate::core::TRIALS_MAX;

/// So many windows after a bar's end without a trial, a node has all of its trials again.
const FORGIVEN_AFTER: u32 = 10;

/// What one life of a daemon has tried in vain.
#[derive(Debug, Default)]
pub struct Attempts {
    defeats: BTreeMap<GroupName, Defeat>,
    restarts: BTreeMap<GroupName, VecDeque<Nanos>>,
    /// The newest order of each group: an answer to an earlier one comes too late to count.
    orders: BTreeMap<GroupName, RequestId>,
}

#[derive(Debug, Clone, Copy)]
struct Defeat {
    last: Nanos,
    in_a_row: u32,
}

impl Attempts {
    fn is_newest(&self, group: &GroupName, order: Option<RequestId>) -> bool {
        order.is_none() || self.orders.get(group).copied() == order
    }

    /// A start has failed.
    pub fn note_defeat(&mut self, group: &GroupName, now: Nanos) {
        let fresh = Defeat {
            last: now,
            in_a_row: 0,
        };
        let defeat = self.defeats.entry(group.clone()).or_insert(fresh);
        defeat.last = now;
        defeat.in_a_row += 1;
    }

    /// A start has succeeded.
    pub fn note_success(&mut self, group: &GroupName) {
        self.defeats.remove(group);
    }

    /// Whether a start breaks a rule; `cleared`: up to when a person's word may have travelled.
    fn judge_start(
        &mut self,
        group: &GroupName,
        window: Duration,
        now: Nanos,
        cleared: Nanos,
    ) -> Result<(), String> {
        let pause_of = |it: &Defeat| crate::core::pause(window, it.in_a_row.saturating_sub(1));
        // Clocks may drift by more than the leases allow for.
        let counts = |it: &&Defeat| {
            let forgiven = nanos(pause_of(it) + FORGIVEN_AFTER * window) / 10 * 9;
            it.last > cleared && now < it.last + forgiven
        };
        let Some(defeat) = self.defeats.get(group).filter(counts) else {
            self.defeats.remove(group);
            return Ok(());
        };
        let pause = pause_of(defeat);
        if now < defeat.last + nanos(pause) / 10 * 9 {
            return Err(format!("starts {group} again after a failed start"));
        }
        if defeat.in_a_row >= DEFEATS_MAX {
            return Err(format!(
                "starts {group} again after {DEFEATS_MAX} failed starts"
            ));
        }
        Ok(())
    }

    fn judge_restart(
        &mut self,
        group: &GroupName,
        (limit, window): (u32, Nanos),
        now: Nanos,
        cleared: Nanos,
    ) -> Result<(), String> {
        let restarts = self.restarts.entry(group.clone()).or_default();
        restarts.retain(|at| *at > cleared && now < *at + window);
        restarts.push_back(now);
        if restarts.len() > limit as usize {
            return Err(format!("restarts {group} more than {limit} times"));
        }
        Ok(())
    }
}

impl<M: Mind> Sim<M> {
    /// Whether an order to start or restart a group is allowed after what was tried before.
    pub(super) fn judge_attempt(
        &mut self,
        node: usize,
        group: &GroupName,
        restart: bool,
    ) -> Result<(), Failure> {
        // Of a group that a rollout has taken out of the configuration nobody knows the policy any more.
        if !self.scenario.groups.contains_key(group) {
            return Ok(());
        }
        let (now, cleared) = (self.now, self.cleared_until.get(group).copied());
        let cleared = cleared.unwrap_or(0);
        let policy = self.policy(group);
        // Clocks may drift by more than the leases allow for.
        let window = nanos(policy.window) / 10 * 9;
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        let name = machine.name.clone();
        let Some(daemon) = machine.daemon.as_mut() else {
            return Ok(());
        };
        let verdict = match (restart, policy.reaction) {
            (false, _) => (daemon.attempts).judge_start(group, policy.window, now, cleared),
            (true, Reaction::Restart { limit }) => {
                (daemon.attempts).judge_restart(group, (limit, window), now, cleared)
            }
            (true, Reaction::Ignore) => {
                Err(format!("restarts {group}, whose failures are ignored"))
            }
        };
        verdict.or_else(|text| self.fail("no-retry", format!("{name} {text}")))
    }

    fn policy(&self, group: &GroupName) -> crate::core::FailurePolicy {
        let settings = self.scenario.groups.get(group);
        settings.map(|it| it.policy("unit")).unwrap_or_default()
    }

    /// An order was given.
    pub(super) fn note_order(&mut self, node: usize, group: &GroupName, order: RequestId) {
        let daemon = self.nodes.get_mut(node).and_then(|it| it.daemon.as_mut());
        if let Some(daemon) = daemon {
            daemon.attempts.orders.insert(group.clone(), order);
        }
    }

    /// What a start has led to; one that went well may not last.
    pub(super) fn note_start(
        &mut self,
        node: usize,
        group: &GroupName,
        order: Option<RequestId>,
        outcome: &GroupOutcome,
    ) {
        let now = self.now;
        let daemon = self.nodes.get_mut(node).and_then(|it| it.daemon.as_mut());
        let Some(daemon) = daemon else {
            return;
        };
        match outcome {
            GroupOutcome::Started | GroupOutcome::Recovered { .. } => {
                daemon.attempts.note_success(group);
            }
            GroupOutcome::StartFailed { .. } if daemon.attempts.is_newest(group, order) => {
                daemon.attempts.note_defeat(group, now);
            }
            GroupOutcome::StartFailed { .. }
            | GroupOutcome::StartRefused
            | GroupOutcome::Stopped
            | GroupOutcome::StopFailed { .. }
            | GroupOutcome::Failed { .. }
            | GroupOutcome::Appeared { .. } => {}
        }
        let flaps = self.watch.allows_faults() && self.scenario.flaps > 0;
        if flaps
            && *outcome == GroupOutcome::Started
            && self.fault_random.chance(self.scenario.flaps)
        {
            let soon = self.fault_random.below(2 * nanos(self.scenario.keepalive));
            let group = group.clone();
            let flap = Happening::Flap { node, group };
            self.queue.push(now + 1 + soon, flap);
        }
    }

    /// A resource of a running group ends on one machine.
    pub(super) fn fail_resource(&mut self, node: usize) -> Result<(), Failure> {
        match self.running(node) {
            Some(group) => self.fail_group(node, group),
            None => Ok(()),
        }
    }

    /// Resources of every running group end at the same moment.
    pub(super) fn fail_everywhere(&mut self) -> Result<(), Failure> {
        for node in 0..self.nodes.len() {
            self.fail_resource(node)?;
        }
        Ok(())
    }

    pub(super) fn on_flap(&mut self, node: usize, group: GroupName) -> Result<(), Failure> {
        let machine = self.nodes.get(node).filter(|it| it.is_awake());
        let running = machine.is_some_and(|it| it.hands.state(&group) == HandState::Running);
        if running && self.watch.allows_faults() {
            self.fail_group(node, group)?;
        }
        Ok(())
    }

    /// Somebody starts a resource of a group that is stopped there. Being no order of the core, it does not count as held.
    pub(super) fn appear(&mut self, node: usize) -> Result<(), Failure> {
        let Some(machine) = self.nodes.get(node).filter(|it| it.is_awake()) else {
            return Ok(());
        };
        let mut stopped = (machine.hands.states())
            .filter(|(_, state)| *state == HandState::Stopped)
            .map(|(group, _)| group.clone());
        let Some(group) = stopped.next() else {
            return Ok(());
        };
        drop(stopped);
        self.note_node(node, format_args!("a resource of {group} appears"));
        let outcome = GroupOutcome::Appeared {
            resource: String::from("unit"),
        };
        self.tell(node, group, outcome)
    }

    fn running(&self, node: usize) -> Option<GroupName> {
        let machine = self.nodes.get(node).filter(|it| it.is_awake())?;
        let mut running = (machine.hands.states()).filter(|(_, it)| *it == HandState::Running);
        running.next().map(|(group, _)| group.clone())
    }

    fn fail_group(&mut self, node: usize, group: GroupName) -> Result<(), Failure> {
        self.note_node(node, format_args!("a resource of {group} ends"));
        let outcome = GroupOutcome::Failed {
            resource: String::from("unit"),
            reason: String::from("simulated"),
        };
        self.tell(node, group, outcome)
    }

    fn tell(
        &mut self,
        node: usize,
        group: GroupName,
        outcome: GroupOutcome,
    ) -> Result<(), Failure> {
        let order = None;
        self.turn(
            node,
            Input::Group {
                group,
                order,
                outcome,
            },
        )
    }
}
