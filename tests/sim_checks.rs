//! The simulator's own checks, seen to notice: cores that are wrong on purpose, each in one way.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

use ha_node::core::view::View;
use ha_node::core::{
    BrokenRule, Core, GroupOutcome, Input, Instant, Lease, Output, Persistent, Policy, Settings,
    Urgency,
};
use ha_node::ids::{GroupName, RequestId};
use ha_node::sim::{Mind, Scenario, TraceMode, run_with};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

/// A core that runs all groups wherever it is, whatever it hears.
struct Reckless {
    core: Core,
    settings: Settings,
    orders: u64,
    stopped: BTreeSet<GroupName>,
    begun: bool,
    lease: Lease,
    retries: bool,
}

impl Reckless {
    fn order(&mut self) -> RequestId {
        self.orders += 1;
        RequestId(self.orders)
    }

    fn act(&mut self, input: Input) -> Vec<Output> {
        let groups: Vec<GroupName> = self.settings.groups.keys().cloned().collect();
        if !std::mem::replace(&mut self.begun, true) {
            let stop = |group| Output::StopGroup {
                group,
                order: self.order(),
                urgency: Urgency::LeaseLost,
            };
            return groups.into_iter().map(stop).collect();
        }
        match input {
            Input::Group {
                group,
                outcome: GroupOutcome::Stopped,
                ..
            } => {
                self.stopped.insert(group.clone());
                vec![Output::StartGroup {
                    group,
                    order: self.order(),
                }]
            }
            Input::Group {
                group,
                outcome: GroupOutcome::StartFailed { .. },
                ..
            } if self.retries => {
                vec![Output::StartGroup {
                    group,
                    order: self.order(),
                }]
            }
            Input::Group { .. }
            | Input::Tick
            | Input::Message { .. }
            | Input::Brief { .. }
            | Input::Shutdown
            | Input::Restart
            | Input::Links { .. } => Vec::new(),
            Input::Request { id, .. } => vec![Output::Reply { id, result: Ok(()) }],
        }
    }
}

impl Mind for Reckless {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self {
            core: Core::new(settings.clone(), persistent, now),
            settings,
            orders: 0,
            stopped: BTreeSet::new(),
            begun: false,
            lease: Lease::Unlimited,
            retries: true,
        }
    }
    fn handle(&mut self, _now: Instant, input: Input) -> Vec<Output> {
        self.act(input)
    }
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
    fn lease(&self) -> Lease {
        self.lease
    }
    fn view(&self, now: Instant) -> View {
        self.core.view(now)
    }
    fn break_rule(&mut self, _rule: BrokenRule) {
        self.lease = Lease::None;
    }
}

fn broken_invariant<M: Mind>(scenario: &Scenario) -> &'static str {
    run_with::<M>(scenario, TraceMode::Quiet)
        .map_or_else(|(failure, _)| failure.invariant, |_| "none")
}

fn lasting(nodes: usize, policy: Policy) -> Scenario {
    let mut scenario = Scenario::calm(1, nodes, policy);
    scenario.fault_time = 60_000_000_000;
    scenario
}

/// All but the first node may not run the group, so that one owner is all there can be.
fn one_owner_only(scenario: &mut Scenario) {
    scenario.add_group(0, scenario.nodes[..1].to_vec(), false);
}

#[test]
fn two_owners_under_majority_are_noticed_at_once() {
    assert_eq!(
        broken_invariant::<Reckless>(&lasting(3, Policy::Majority)),
        "one-owner"
    );
}

#[test]
fn two_owners_in_contact_are_noticed_without_a_majority_too() {
    assert_eq!(
        broken_invariant::<Reckless>(&lasting(2, Policy::Ignore)),
        "one-owner-in-contact"
    );
}

#[test]
fn a_group_on_a_node_that_must_not_run_it_is_noticed() {
    let mut scenario = lasting(2, Policy::Majority);
    one_owner_only(&mut scenario);
    scenario.boots[0] = 1_000_000_000;
    assert_eq!(broken_invariant::<Reckless>(&scenario), "placement");
}

#[test]
fn a_group_that_is_up_without_a_lease_is_noticed() {
    let mut scenario = lasting(1, Policy::Majority);
    scenario.broken = Some(BrokenRule::LeaseIgnored);
    assert_eq!(broken_invariant::<Reckless>(&scenario), "lease");
}

#[test]
fn a_failed_start_that_is_tried_again_is_noticed() {
    let mut scenario = lasting(1, Policy::Majority);
    scenario.start_fails = 1000;
    assert_eq!(broken_invariant::<Reckless>(&scenario), "no-retry");
}

/// A core that beats and otherwise does nothing.
struct Idle(Core);

impl Mind for Idle {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self(Core::new(settings, persistent, now))
    }
    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let keeps = |output: &Output| matches!(output, Output::Send(_));
        self.0
            .handle(now, input)
            .into_iter()
            .filter(keeps)
            .collect()
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }
    fn lease(&self) -> Lease {
        self.0.lease()
    }
    fn view(&self, now: Instant) -> View {
        self.0.view(now)
    }
    fn break_rule(&mut self, _rule: BrokenRule) {}
}

#[test]
fn a_group_that_runs_nowhere_is_noticed() {
    assert_eq!(
        broken_invariant::<Idle>(&lasting(2, Policy::Majority)),
        "liveness"
    );
}

/// A core that says the same thing for each packet, also for one that it has received before.
struct Chatty(Core);

impl Mind for Chatty {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self(Core::new(settings, persistent, now))
    }
    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let event = match &input {
            Input::Message { status, .. } | Input::Brief { status, .. } => {
                Some(ha_node::core::event::Event::PeerStatus {
                    peer: status.node.clone(),
                    phase: status.phase,
                })
            }
            Input::Tick
            | Input::Group { .. }
            | Input::Request { .. }
            | Input::Shutdown
            | Input::Restart
            | Input::Links { .. } => None,
        };
        self.0
            .handle(now, input)
            .into_iter()
            .chain(event.map(Output::Event))
            .collect()
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }
    fn lease(&self) -> Lease {
        self.0.lease()
    }
    fn view(&self, now: Instant) -> View {
        self.0.view(now)
    }
    fn break_rule(&mut self, _rule: BrokenRule) {}
}

#[test]
fn a_replayed_packet_that_has_an_effect_is_noticed() {
    let mut scenario = lasting(2, Policy::Majority);
    scenario.replays = 500;
    assert_eq!(broken_invariant::<Chatty>(&scenario), "replay");
}

/// A core that never sleeps and never does anything either.
struct Restless(Core);

impl Mind for Restless {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self(Core::new(settings, persistent, now))
    }
    fn handle(&mut self, _now: Instant, _input: Input) -> Vec<Output> {
        Vec::new()
    }
    fn next_deadline(&self) -> Option<Instant> {
        Some(Instant::from_nanos(0))
    }
    fn lease(&self) -> Lease {
        Lease::None
    }
    fn view(&self, now: Instant) -> View {
        self.0.view(now)
    }
    fn break_rule(&mut self, _rule: BrokenRule) {}
}

#[test]
fn a_core_that_wakes_up_for_nothing_is_noticed() {
    assert_eq!(
        broken_invariant::<Restless>(&lasting(1, Policy::Majority)),
        "progress"
    );
}

#[test]
fn calm_clusters_boot_and_settle_within_their_bounds() {
    for nodes in [1, 2, 3, 5] {
        for policy in [Policy::Majority, Policy::Ignore] {
            let mut scenario = lasting(nodes, policy);
            scenario.keepalive = Duration::from_millis(100);
            if let Err((failure, lines)) = run_with::<Core>(&scenario, TraceMode::Keep) {
                panic!("{nodes} nodes, {policy:?}: {failure}\n{}", lines.join("\n"));
            }
        }
    }
}

thread_local! {
    /// Brief heartbeats that could not be completed, and questions that were asked.
    static LACKING: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// The real core, watched.
struct Watched(Core);

impl Mind for Watched {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self(Core::new(settings, persistent, now))
    }
    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let lacks = u32::from(matches!(input, Input::Brief { .. }));
        let outputs = self.0.handle(now, input);
        let asks =
            |output: &&Output| matches!(output, Output::Send(status) if !status.asks.is_empty());
        let asked = u32::try_from(outputs.iter().filter(asks).count()).unwrap_or(u32::MAX);
        LACKING.with(|it| it.set((it.get().0 + lacks, it.get().1 + asked)));
        outputs
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }
    fn lease(&self) -> Lease {
        self.0.lease()
    }
    fn view(&self, now: Instant) -> View {
        self.0.view(now)
    }
    fn break_rule(&mut self, rule: BrokenRule) {
        self.0.break_rule(rule);
    }
}

#[test]
fn states_that_were_lost_are_asked_for() {
    for seed in 0..20 {
        let scenario = Scenario::new(seed, 3, Policy::Majority);
        assert_eq!(broken_invariant::<Watched>(&scenario), "none");
    }
    let (lacking, asked) = LACKING.get();
    assert!(lacking > 100 && asked > 100, "{lacking}, {asked}");
}

/// A core that takes a brief heartbeat for a whole one: whoever sent it runs nothing, and plans nothing.
struct Hasty(Core);

impl Mind for Hasty {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self(Core::new(settings, persistent, now))
    }
    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        if let Input::Brief { link, status } = input {
            return self.0.handle(now, Input::Message { link, status });
        }
        self.0.handle(now, input)
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }
    fn lease(&self) -> Lease {
        self.0.lease()
    }
    fn view(&self, now: Instant) -> View {
        self.0.view(now)
    }
    fn break_rule(&mut self, rule: BrokenRule) {
        self.0.break_rule(rule);
    }
}

#[test]
fn a_state_that_is_made_up_is_noticed() {
    let mut found = (0..200).map(|seed| {
        let scenario = Scenario::new(seed, 3, Policy::Majority);
        broken_invariant::<Hasty>(&scenario)
    });
    assert!(found.any(|broken| broken != "none"));
}
