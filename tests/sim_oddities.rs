//! The simulator's harder checks, seen to notice: the real core with one thing that is not as it should be.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

use ha_node::core::view::View;
use ha_node::core::{
    BrokenRule, Core, Input, Instant, Lease, Output, Persistent, Policy, Request, Settings,
};
use ha_node::ids::{GroupName, RequestId};
use ha_node::sim::lasting::Lasting;
use ha_node::sim::network::Cut;
use ha_node::sim::node::PauseKind;
use ha_node::sim::trouble::TroubleKind;
use ha_node::sim::{Demands, Failure, Mind, Scenario, Sim, TraceMode, run_with};

const SECOND: u64 = 1_000_000_000;

/// An order's number that no core gives.
const ODD_ORDER: RequestId = RequestId(1_000_000);

fn broken_invariant<M: Mind>(scenario: &Scenario) -> &'static str {
    run_with::<M>(scenario, TraceMode::Quiet)
        .map_or_else(|(failure, _)| failure.invariant, |_| "none")
}

fn with_a_cut_that_stays(nodes: usize, lasting: Lasting) -> Scenario {
    let mut scenario = demanding(nodes, Policy::Majority);
    scenario.extras.lasting = Some(lasting);
    scenario
}

fn demanding(nodes: usize, policy: Policy) -> Scenario {
    let mut scenario = Scenario::calm(1, nodes, policy).demanding(Demands::ALL);
    scenario.fault_time = 60 * SECOND;
    scenario
}

/// A core with one thing that is not as it should be.
struct Odd<O: Oddity>(Core, O);

/// What it does otherwise.
trait Oddity: Default {
    fn before(&mut self, _core: &mut Core, _now: Instant, _input: &Input) -> Vec<Output> {
        Vec::new()
    }
    fn after(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        outputs
    }
}

impl<O: Oddity> Mind for Odd<O> {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self(Core::new(settings, persistent, now), O::default())
    }
    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let mut outputs = self.1.before(&mut self.0, now, &input);
        outputs.extend(self.0.handle(now, input));
        self.1.after(outputs)
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

fn group() -> GroupName {
    GroupName::new("g0").unwrap()
}

/// Beats and otherwise does nothing.
#[derive(Default)]
struct Idle;

impl Oddity for Idle {
    fn after(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        outputs.retain(|it| matches!(it, Output::Send(_)));
        outputs
    }
}

#[test]
fn a_majority_that_runs_nothing_while_a_cut_stays_is_noticed() {
    let scenario = with_a_cut_that_stays(3, Lasting::Pair(0, 1));
    assert_eq!(broken_invariant::<Odd<Idle>>(&scenario), "liveness-cut");
}

/// Moves the group from one node to the next, again and again.
#[derive(Default)]
struct Wanderlust(u64);

impl Oddity for Wanderlust {
    fn before(&mut self, core: &mut Core, now: Instant, _input: &Input) -> Vec<Output> {
        self.0 += 1;
        if !self.0.is_multiple_of(200) {
            return Vec::new();
        }
        let view = core.view(now);
        let names: Vec<_> = view.nodes.keys().cloned().collect();
        let place = usize::try_from(self.0 / 200).unwrap() % names.len();
        let (group, node) = (group(), names[place].clone());
        let id = RequestId(ODD_ORDER.0 + self.0);
        let request = Request::Move { group, node };
        core.handle(now, Input::Request { id, request })
    }
    fn after(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        outputs.retain(|it| !matches!(it, Output::Reply { id, .. } if *id >= ODD_ORDER));
        outputs
    }
}

#[test]
fn a_group_that_wanders_about_while_a_cut_stays_is_noticed() {
    let scenario = with_a_cut_that_stays(3, Lasting::Pair(0, 1));
    let invariant = broken_invariant::<Odd<Wanderlust>>(&scenario);
    assert_eq!(invariant, "stability-cut");
}

/// Starts the group when it learns that no link of its own can be used.
#[derive(Default)]
struct Eager;

impl Oddity for Eager {
    fn before(&mut self, _core: &mut Core, _now: Instant, input: &Input) -> Vec<Output> {
        if !matches!(input, Input::Links { usable: false }) {
            return Vec::new();
        }
        let (group, order) = (group(), ODD_ORDER);
        vec![Output::StartGroup { group, order }]
    }
}

#[test]
fn a_start_without_a_link_of_ones_own_is_noticed() {
    let mut sim = Sim::<Odd<Eager>>::new(demanding(2, Policy::Ignore), TraceMode::Quiet);
    sim.run_until(10 * SECOND).unwrap();
    let idle = (0..2).find(|node| !sim.nodes[*node].hands.holds(&group()));
    let failure = sim.set_own_links(idle.unwrap(), false).unwrap_err();
    assert_eq!(failure.invariant, "own-links");
}

/// Says more than a datagram can carry.
#[derive(Default)]
struct Verbose;

impl Oddity for Verbose {
    fn after(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        for output in &mut outputs {
            if let Output::Send(status) = output {
                let claim = |number: u32| {
                    let group = GroupName::new(&format!("group-{number}")).unwrap();
                    (group, status.node.clone())
                };
                status.report.blocked = (0..20_000).map(claim).collect();
            }
        }
        outputs
    }
}

#[test]
fn a_heartbeat_that_no_datagram_can_carry_is_noticed() {
    let scenario = demanding(2, Policy::Ignore);
    assert_eq!(broken_invariant::<Odd<Verbose>>(&scenario), "size");
}

/// Never stops what it has started.
#[derive(Default)]
struct Stubborn(bool);

impl Oddity for Stubborn {
    fn after(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        self.0 |= outputs
            .iter()
            .any(|it| matches!(it, Output::StartGroup { .. }));
        if self.0 {
            outputs.retain(|it| !matches!(it, Output::StopGroup { .. }));
        }
        outputs
    }
}

#[test]
fn an_owner_that_goes_on_after_a_pause_that_no_clock_shows_is_noticed() {
    let mut scenario = demanding(3, Policy::Majority);
    scenario.extras.troubles.push(TroubleKind::Freeze);
    let (deadtime, keepalive) = (2 * SECOND, SECOND / 4);
    let mut sim = Sim::<Odd<Stubborn>>::new(scenario, TraceMode::Quiet);
    sim.run_until(5 * deadtime).unwrap();
    let owner = (0..3).find(|node| sim.nodes[*node].hands.holds(&group()));
    // It does not even learn from the others that its clock stood still.
    let daemon = sim.nodes[owner.unwrap()].daemon.as_mut().unwrap();
    daemon.mind.0.break_rule(BrokenRule::PauseUnnoticed);
    sim.pause(owner.unwrap(), PauseKind::Frozen, 5 * deadtime);
    sim.run_until(10 * deadtime).unwrap();
    let holders = sim.nodes.iter().filter(|it| it.hands.holds(&group()));
    assert_eq!(holders.count(), 2, "another one has taken over meanwhile");
    let failure = sim.run_until(20 * deadtime).unwrap_err();
    assert_eq!(failure.invariant, "one-owner");
    let late = failure.at - 10 * deadtime;
    let bound = 2 * keepalive..3 * keepalive + 10_000_000;
    assert!(bound.contains(&late), "{late}");
}

/// Starts the group when it has lived for a while, whoever runs it, and never stops it again.
#[derive(Default)]
struct Greedy(u32);

impl Oddity for Greedy {
    fn before(&mut self, core: &mut Core, now: Instant, _input: &Input) -> Vec<Output> {
        self.0 += 1;
        let may = core.view(now).local_node.as_str() != "n02";
        let (group, order) = (group(), ODD_ORDER);
        let start = Output::StartGroup { group, order };
        (may && self.0 == 30).then_some(start).into_iter().collect()
    }
    fn after(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        outputs.retain(|it| match it {
            Output::StartGroup { order, .. } => *order == ODD_ORDER,
            Output::StopGroup { .. } => self.0 < 30,
            Output::RestartGroup { .. }
            | Output::Send(_)
            | Output::Announce(_)
            | Output::Event(_)
            | Output::Persist(_)
            | Output::Reply { .. }
            | Output::Exit => true,
        });
        outputs
    }
}

/// Two nodes own the group and hear each other all the time, and one of them a third one that does not hear it.
fn two_owners_and_a_deaf_node(demands: Demands) -> Result<(), Failure> {
    let mut scenario = demanding(3, Policy::Ignore).demanding(demands);
    let able = scenario.nodes[..2].to_vec();
    scenario.add_group(0, able, false);
    scenario.boots = vec![0; 3];
    let mut sim = Sim::<Odd<Greedy>>::new(scenario, TraceMode::Quiet);
    let (id, link, from, to) = (1, None, 0b001, 0b100);
    sim.network.cut(0, Cut { id, link, from, to });
    sim.run_until(60 * SECOND)
}

#[test]
fn two_owners_in_contact_are_noticed_whatever_a_third_node_hears() {
    let failure = two_owners_and_a_deaf_node(Demands::ALL).unwrap_err();
    assert_eq!(failure.invariant, "one-owner-in-contact");
}
