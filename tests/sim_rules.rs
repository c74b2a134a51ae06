//! Each safety rule of the design, broken alone: two nodes own the group at once, which they do not with all rules whole.
//!
//! Every test is a short script of faults that needs the rule. Most have five nodes, since the last promise that an
//! owner had from a node always lapses before that node can take part in condemning it: only where another promise
//! bridges the gap does a wrong one keep the owner running.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

use ha_node::core::{BrokenRule, Core, Policy, Request};
use ha_node::ids::GroupName;
use ha_node::sim::clock::Nanos;
use ha_node::sim::network::Cut;
use ha_node::sim::{Failure, Scenario, Sim, TraceMode};

/// The first node to boot, which leads.
const LEADER: usize = 0;

/// The node that the group prefers.
const OWNER: usize = 1;

/// The node whose word is doubtful.
const DOUBTFUL: usize = 2;

/// A node that loses its contact to the owner late.
const LATE: usize = 3;

/// The last node by name.
const LAST: usize = 4;

const MILLISECOND: Nanos = 1_000_000;

/// Each script runs with this many different sets of delays.
const SEEDS: u64 = 10;

/// When a cluster has booted and runs its group; deadtime is 2 s, keepalive 250 ms.
const READY: Nanos = 10_000;

type Script = fn(&mut Sim<Core>) -> Result<(), Failure>;

fn group() -> GroupName {
    GroupName::new("g0").unwrap()
}

/// Nodes that hold the group.
fn holders(sim: &Sim<Core>) -> Vec<usize> {
    let holds = |node: &usize| sim.nodes[*node].hands.holds(&group());
    (0..sim.nodes.len()).filter(holds).collect()
}

/// Cuts after which the leader is better connected than any node that it does not lead: the owner reaches only `LATE` and
/// `LAST`, who reach nobody else but the leader.
fn loosen(sim: &mut Sim<Core>) {
    part(sim, 1, &[OWNER], &[LEADER]);
    part(sim, 2, &[OWNER], &[DOUBTFUL]);
    part(sim, 5, &[LATE], &[DOUBTFUL, LAST]);
    part(sim, 6, &[LAST], &[DOUBTFUL]);
}

/// Runs up to a true time in milliseconds.
fn until(sim: &mut Sim<Core>, time: Nanos) -> Result<(), Failure> {
    sim.run_until(time * MILLISECOND)
}

fn mask(nodes: &[usize]) -> u64 {
    nodes.iter().fold(0, |set, node| set | 1 << node)
}

/// From now on `to` hears nothing of `from`.
fn cut(sim: &mut Sim<Core>, id: u64, from: &[usize], to: &[usize]) {
    let (from, to) = (mask(from), mask(to));
    sim.network.cut(
        sim.now,
        Cut {
            id,
            link: None,
            from,
            to,
        },
    );
}

/// From now on neither hears the other.
fn part(sim: &mut Sim<Core>, id: u64, some: &[usize], others: &[usize]) {
    cut(sim, id, some, others);
    cut(sim, id, others, some);
}

fn move_to(sim: &mut Sim<Core>, node: usize) -> Result<(), Failure> {
    let node = sim.scenario.nodes[node].clone();
    let group = group();
    sim.request(LEADER, Request::Move { group, node }).map(drop)
}

fn mend(sim: &mut Sim<Core>, id: u64) {
    sim.network.mend(sim.now, id);
}

/// A cluster whose group prefers these nodes, and which has settled with all rules whole; from then on all its nodes
/// break one.
fn settled(seed: u64, nodes: usize, able: [usize; 3], broken: Option<BrokenRule>) -> Sim<Core> {
    let mut scenario = Scenario::calm(seed, nodes, Policy::Majority);
    let names = able.map(|node| scenario.nodes[node].clone());
    scenario.add_group(0, names.to_vec(), true);
    scenario.boots = (0..)
        .take(nodes)
        .map(|place| place * 100 * MILLISECOND)
        .collect();
    let mut sim = Sim::new(scenario, TraceMode::Keep);
    until(&mut sim, READY).unwrap();
    assert_eq!(holders(&sim), [able[0]], "the script begins with one owner");
    sim.scenario.broken = broken;
    if let Some(rule) = broken {
        let daemons = sim.nodes.iter_mut().filter_map(|node| node.daemon.as_mut());
        daemons.for_each(|daemon| daemon.mind.break_rule(rule));
    }
    sim
}

/// Whatever the delays, the script must lead to two owners with the rule broken, and to one with all rules whole.
fn rule_is_needed(rule: BrokenRule, nodes: usize, script: Script, last_owner: usize) {
    rule_is_needed_where([OWNER, LEADER, DOUBTFUL], rule, nodes, script, last_owner);
}

/// The same for a group that prefers other nodes.
fn rule_is_needed_where(
    able: [usize; 3],
    rule: BrokenRule,
    nodes: usize,
    script: Script,
    last_owner: usize,
) {
    for seed in 0..SEEDS {
        let mut broken = settled(seed, nodes, able, Some(rule));
        let failure = script(&mut broken).err();
        let invariant = failure.as_ref().map(|failure| failure.invariant);
        let lines = lines_of(&broken);
        assert_eq!(invariant, Some("one-owner"), "{failure:?}\n{lines}");

        let mut whole = settled(seed, nodes, able, None);
        let failure = script(&mut whole).err();
        let lines = lines_of(&whole);
        assert_eq!(failure, None, "with all rules whole\n{lines}");
        assert_eq!(holders(&whole), [last_owner], "\n{lines}");
    }
}

/// What happened last.
fn lines_of(sim: &Sim<Core>) -> String {
    sim.trace.lines().collect::<Vec<_>>().join("\n")
}

/// The doubtful node declares the owner dead, tells the leader, hears it again: if it acknowledges it now, the owner
/// stays up although the leader has that report, and soon another one.
fn acknowledged_when_dead(sim: &mut Sim<Core>) -> Result<(), Failure> {
    // The second line of defence: an acknowledgement by a node that declares the owner dead is noticed by the owner.
    if sim.scenario.broken.is_some() {
        let daemons = sim.nodes.iter_mut().filter_map(|node| node.daemon.as_mut());
        daemons.for_each(|daemon| daemon.mind.break_rule(BrokenRule::PauseUnnoticed));
    }
    loosen(sim);
    until(sim, READY + 2600)?;
    mend(sim, 2);
    until(sim, READY + 3000)?;
    part(sim, 3, &[OWNER], &[LATE]);
    until(sim, READY + 8000)
}

#[test]
fn a_dead_peer_must_not_be_acknowledged() {
    rule_is_needed(
        BrokenRule::DeathIsNoPromise,
        5,
        acknowledged_when_dead,
        LEADER,
    );
}

/// The doubtful node declares the owner dead, tells the leader, and forgets it in a crash: if it acknowledges the
/// owner at once, the owner stays up although the leader has the report of the earlier life.
fn forgotten_in_a_crash(sim: &mut Sim<Core>) -> Result<(), Failure> {
    crash_of_the_doubtful_node(sim, false)
}

/// The same, and the next life knows what this one has said.
fn remembered_over_a_crash(sim: &mut Sim<Core>) -> Result<(), Failure> {
    crash_of_the_doubtful_node(sim, true)
}

fn crash_of_the_doubtful_node(sim: &mut Sim<Core>, noted: bool) -> Result<(), Failure> {
    loosen(sim);
    until(sim, READY + 3000)?;
    part(sim, 3, &[OWNER], &[LATE]);
    until(sim, READY + 4500)?;
    cut(sim, 4, &[DOUBTFUL], &[LEADER]);
    sim.daemon_dies(DOUBTFUL, false);
    if !noted {
        sim.nodes[DOUBTFUL].memory = None;
    }
    sim.start_daemon_at(DOUBTFUL, sim.now + MILLISECOND);
    mend(sim, 2);
    until(sim, READY + 8000)
}

#[test]
fn a_node_that_has_just_started_must_not_vote() {
    rule_is_needed(BrokenRule::VotesAtOnce, 5, forgotten_in_a_crash, LEADER);
}

#[test]
fn a_node_that_knows_what_its_earlier_life_has_said_may_vote_at_once() {
    for seed in 0..SEEDS {
        let mut sim = settled(seed, 5, [OWNER, LEADER, DOUBTFUL], None);
        let failure = remembered_over_a_crash(&mut sim).err();
        assert_eq!(failure, None, "\n{}", lines_of(&sim));
        assert_eq!(holders(&sim), [LEADER], "\n{}", lines_of(&sim));
    }
}

/// The last node starts the group by the plan of a leader that most nodes then leave. Two of them hear the last one, but
/// not their new leader, which is the best connected of all: if it counts what that one said to the old leader, that the
/// group is stopped, it starts it again.
fn words_to_an_earlier_leader(sim: &mut Sim<Core>) -> Result<(), Failure> {
    move_to(sim, LEADER)?;
    until(sim, READY + 3000)?;
    move_to(sim, LAST)?;
    while !holders(sim).is_empty() {
        sim.step()?;
    }
    part(sim, 1, &[LEADER], &[OWNER, DOUBTFUL, LATE, 5, 6]);
    part(sim, 2, &[LAST], &[OWNER, 5, 6]);
    part(sim, 3, &[DOUBTFUL, LATE], &[5, 6]);
    until(sim, READY + 20_000)
}

#[test]
fn a_leader_must_count_reports_of_its_own_term_only() {
    rule_is_needed_where(
        [LAST, LEADER, DOUBTFUL],
        BrokenRule::ReportsOfAnyTerm,
        7,
        words_to_an_earlier_leader,
        DOUBTFUL,
    );
}

/// A person moves the group.
fn a_move(sim: &mut Sim<Core>) -> Result<(), Failure> {
    move_to(sim, DOUBTFUL)?;
    until(sim, READY + 3000)
}

#[test]
fn a_move_must_take_two_steps() {
    rule_is_needed(BrokenRule::OneStepMoves, 3, a_move, DOUBTFUL);
}

/// The owner is alone.
fn an_isolated_owner(sim: &mut Sim<Core>) -> Result<(), Failure> {
    part(sim, 1, &[OWNER], &[LEADER, DOUBTFUL]);
    until(sim, READY + 4000)
}

#[test]
fn a_node_must_stop_when_its_lease_ends() {
    rule_is_needed(BrokenRule::LeaseIgnored, 3, an_isolated_owner, LEADER);
}
