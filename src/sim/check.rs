//! The invariants, checked from outside the core over the whole cluster.
//!
//! 1. `one-owner`: under `majority` no group is held by two machines at any instant. A machine that stood still
//!    past its lease does not count until it has had one turn and the time of an emergency stop.
//! 2. `one-owner-in-contact`: under `ignore` no two nodes in clean and steady contact both hold a group.
//! 3. `lease`: no group is up without a lease. 4. `no-retry`: a failed start is not tried again in the same life
//!    without a clearing. 5. `replay`: what was received before, or is foreign, changes nothing.
//! 6. `event`: no event that says that something is wrong which the scenario did not cause.

use crate::core::Policy;
use crate::core::event::Event;
use crate::core::view::View;
use crate::ids::GroupName;
use crate::sim::Mind;
use crate::sim::clock::{Nanos, nanos};
use crate::sim::faults::FaultKind;
use crate::sim::hands::HandState;
use crate::sim::network::{Contact, Network};
use crate::sim::node::Node;
use crate::sim::scenario::Scenario;
use crate::sim::trouble::TroubleKind;
use std::collections::BTreeSet;
use std::fmt;

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its short name.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
    /// True time of the run.
    pub at: Nanos,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invariant \"{}\" broken at {:.6} s: {}",
            self.invariant,
            self.at as f64 / 1e9,
            self.text
        )
    }
}

/// Looks at the whole cluster for groups with two owners.
///
/// # Errors
/// [`Failure`] names the group and its holders.
pub fn ownership<M: Mind>(
    now: Nanos,
    scenario: &Scenario,
    network: &Network,
    nodes: &[Node<M>],
) -> Result<(), Failure> {
    for group in scenario.all_groups() {
        let holders: Vec<usize> = std::iter::zip(0.., nodes)
            .filter(|(_, node)| node.hands.holds(group) && !node.is_excused(now))
            .filter(|(_, node)| !node.is_taken_unknowingly(group))
            .map(|(index, _)| index)
            .collect();
        if holders.len() < 2 {
            continue;
        }
        let failure = |invariant| Failure {
            invariant,
            text: describe(group, &holders, nodes),
            at: now,
        };
        match scenario.policy {
            Policy::Majority if !scenario.drift_beyond => return Err(failure("one-owner")),
            Policy::Majority => {}
            Policy::Ignore => {
                for (place, a) in holders.iter().enumerate() {
                    for b in holders.iter().skip(place + 1) {
                        if must_have_agreed(now, scenario, network, nodes, group, *a, *b) {
                            return Err(failure("one-owner-in-contact"));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn describe<M>(group: &GroupName, holders: &[usize], nodes: &[Node<M>]) -> String {
    let list: Vec<String> = holders
        .iter()
        .filter_map(|holder| nodes.get(*holder))
        .map(|node| format!("{} ({:?})", node.name, node.hands.state(group)))
        .collect();
    format!("group {group} is held by {}", list.join(" and "))
}

/// Whether two nodes have been in one undisturbed partition for so long that only one may hold the group.
fn must_have_agreed<M: Mind>(
    now: Nanos,
    scenario: &Scenario,
    network: &Network,
    nodes: &[Node<M>],
    group: &GroupName,
    a: usize,
    b: usize,
) -> bool {
    let hash = |node: &Node<M>| {
        let daemon = node.daemon.as_ref()?;
        Some(daemon.settings.config_hash)
    };
    let revisions: BTreeSet<u64> = nodes.iter().filter_map(hash).collect();
    if revisions.len() > 1 {
        return false;
    }
    for own in [a, b] {
        let Some(node) = nodes.get(own) else {
            return false;
        };
        let cannot_help = match node.hands.state(group) {
            HandState::Stuck => true,
            HandState::Stopping => scenario.hangs > 0,
            HandState::Stopped | HandState::Starting | HandState::Running | HandState::Leftover => {
                false
            }
        };
        if !node.is_awake() || cannot_help {
            return false;
        }
    }
    if scenario.demands.components && network.contact(a, b).0 == Contact::Clean {
        let since = at_rest_since(network, nodes, a);
        let patience = 4 * nanos(scenario.deadtime) + nanos(scenario.initdead);
        if since.is_some_and(|it| now > it + patience + 2 * agreement_time(scenario, group)) {
            return true;
        }
    }
    let (mut joined, mut lost) = (0, 0);
    for (other, node) in nodes.iter().enumerate() {
        let (from_a, a_since) = network.contact(a, other);
        let (from_b, b_since) = network.contact(b, other);
        let own = other == a || other == b;
        if from_a == Contact::Murky || from_b == Contact::Murky || (!own && from_a != from_b) {
            return false;
        }
        let gone = !own && (from_a == Contact::Cut || !node.is_awake());
        let last = if gone { &mut lost } else { &mut joined };
        *last = node.disturbed.max(a_since).max(b_since).max(*last);
    }
    // A node that is gone may be the leader of one of them until it counts as dead.
    let tight = agreement_time(scenario, group);
    network.contact(a, b).0 == Contact::Clean
        && now > joined + tight
        && now > lost + nanos(scenario.deadtime) + tight
}

/// Since when nothing has changed among all nodes that one can reach over others; none while links lose packets.
fn at_rest_since<M: Mind>(network: &Network, nodes: &[Node<M>], first: usize) -> Option<Nanos> {
    let (mut inside, mut rest) = (vec![first], (0..nodes.len()).collect::<Vec<_>>());
    rest.retain(|it| *it != first);
    let mut since = 0;
    while let Some(place) = rest.iter().position(|other| {
        let reached = |one: &usize| network.contact(*one, *other).0 != Contact::Cut;
        inside.iter().any(reached)
    }) {
        inside.push(rest.swap_remove(place));
    }
    for one in &inside {
        since = since.max(nodes.get(*one)?.disturbed);
        for other in 0..nodes.len() {
            since = since.max(network.contact(*one, other).1);
        }
    }
    (!network.is_stormy()).then_some(since)
}

/// Two nodes that are joined agree within two heartbeats on who runs what, and the other one stops.
fn agreement_time(scenario: &Scenario, group: &GroupName) -> Nanos {
    let beat = nanos(scenario.keepalive) + scenario.delay_max() + scenario.lateness;
    let emergency = scenario.emergency_stop_max_for(group) + scenario.lateness;
    2 * beat + scenario.stop_max.max(emergency)
}

/// Groups must not be up on a node without a lease, once it has had its turn.
///
/// # Errors
/// [`Failure`] names the group.
pub fn lease<M: Mind>(now: Nanos, node: &Node<M>) -> Result<(), Failure> {
    if node.lease_holds(now) {
        return Ok(());
    }
    match node
        .hands
        .states()
        .find(|(group, _)| node.hands.is_up(group))
    {
        Some((group, state)) => Err(Failure {
            invariant: "lease",
            text: format!(
                "group {group} is {state:?} on {} without a lease",
                node.name
            ),
            at: now,
        }),
        None => Ok(()),
    }
}

/// A view without what any packet may change: when a peer was last heard.
pub fn without_counters(mut view: View) -> View {
    for node in view.nodes.values_mut() {
        node.last_heard = None;
    }
    view
}

/// Whether an event says that something is wrong for which the scenario gave no cause.
///
/// `steady`: everything had settled. `stood_still`: some machine stood still before.
pub fn is_unexpected(event: &Event, scenario: &Scenario, steady: bool, stood_still: bool) -> bool {
    let failures = scenario.start_fails + scenario.hangs + scenario.flaps > 0
        || scenario.faults.contains(&FaultKind::ResourceFailure)
        || scenario.faults.contains(&FaultKind::FailEverywhere)
        || scenario.has(&[TroubleKind::Drivers]);
    match event {
        Event::ConfigDiffers { .. } => steady || !scenario.has(&[TroubleKind::Rollout]),
        Event::GenerationStale { .. } => steady || !scenario.has(&TroubleKind::OLD_STATES),
        Event::DoubleOwner { .. } => {
            let excused = scenario.drift_beyond || stood_still;
            steady || (scenario.policy == Policy::Majority && !excused)
        }
        Event::SharedDataNotProtected => scenario.policy == Policy::Majority,
        Event::StoodStill { .. } => steady || !stood_still,
        Event::ClockStoodStill { .. } => {
            !scenario.drift_beyond && !scenario.has(&[TroubleKind::Freeze])
        }
        // A recorded packet that nobody had received shows for a while that its link works and its sender lives.
        Event::LinkDead { .. } | Event::PeerReturnedAfterPartition { .. } => {
            steady && scenario.replays == 0
        }
        Event::GroupFailed { .. }
        | Event::ResourceRestarting { .. }
        | Event::ResourceFailureIgnored { .. }
        | Event::GroupGivenUp { .. }
        | Event::FailuresExpired { .. } => !steady && !failures,
        Event::ResourceAppeared { .. } => {
            let may = scenario.faults.contains(&FaultKind::ResourceAppears)
                || scenario.has(&[TroubleKind::Drivers]);
            steady || !may
        }
        Event::GroupBlocked { .. } => {
            let may = scenario.stop_fails + scenario.hangs > 0
                || scenario.has(&[TroubleKind::Drivers, TroubleKind::ReleaseFails]);
            steady || !may
        }
        Event::LateHeartbeat { .. }
        | Event::PeerDead { .. }
        | Event::PeerGivenUp { .. }
        | Event::NotHeardBy { .. }
        | Event::QuorumLost
        | Event::LeaseLost
        | Event::GroupHasNoNode { .. } => steady,
        Event::Starting { .. }
        | Event::LocalStatus { .. }
        | Event::ResourceNoted { .. }
        | Event::LinkUp { .. }
        | Event::PeerStatus { .. }
        | Event::PeerRestarted { .. }
        | Event::PeerLeft { .. }
        | Event::Leader { .. }
        | Event::QuorumGained
        // Where a person asks, a node takes what one that is down had; unasked, the start itself is noticed.
        | Event::TakingOver { .. }
        | Event::PeerReturning { .. }
        | Event::RestartStarted
        | Event::GroupAdopted { .. }
        | Event::GroupStarting { .. }
        | Event::GroupStarted { .. }
        | Event::GroupStopping { .. }
        | Event::GroupStopped { .. }
        | Event::GroupPlanned { .. }
        | Event::StandbyEntered { .. }
        | Event::StandbyLeft { .. }
        | Event::MoveRequested { .. }
        | Event::ShutdownStarted
        | Event::ShutdownComplete => false,
    }
}
