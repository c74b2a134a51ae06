//! What thousands of seeds have found once, as short scripts.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

use ha_node::core::{Core, GroupOutcome, Input, Instant, Output, Persistent, Policy};
use ha_node::ids::{Generation, GroupName, RequestId};
use ha_node::sim::clock::Nanos;
use ha_node::sim::network::Cut;
use ha_node::sim::{Failure, Scenario, Sim, TraceMode};
use std::collections::VecDeque;

const SECOND: Nanos = 1_000_000_000;

fn until(sim: &mut Sim<Core>, seconds: Nanos) {
    let result: Result<(), Failure> = sim.run_until(seconds * SECOND);
    if let Err(failure) = result {
        let lines: Vec<&str> = sim.trace.lines().collect();
        panic!("{failure}\n{}", lines.join("\n"));
    }
}

/// Nodes that hold the group.
fn holders(sim: &Sim<Core>) -> Vec<usize> {
    let group = GroupName::new("g0").unwrap();
    let holds = |node: &usize| sim.nodes[*node].hands.holds(&group);
    (0..sim.nodes.len()).filter(holds).collect()
}

/// One node leaves in good order, then another one restarts, is cut off from the third for a while, and leads when it
/// is back: it must believe the third that the first has left, or nothing would ever start again.
#[test]
fn a_node_that_has_left_holds_up_no_leader_that_came_later() {
    let mut sim = Sim::<Core>::new(Scenario::calm(1, 3, Policy::Majority), TraceMode::Keep);
    until(&mut sim, 10);
    sim.nodes[2].stays_down = true;
    sim.shut_down(2).unwrap();
    until(&mut sim, 15);
    assert!(sim.nodes[2].daemon.is_none(), "it has left");
    sim.daemon_dies(0, false);
    sim.start_daemon_at(0, 16 * SECOND);
    until(&mut sim, 17);
    for (from, to) in [(0b01, 0b10), (0b10, 0b01)] {
        let cut = Cut {
            id: 1,
            link: None,
            from,
            to,
        };
        sim.network.cut(sim.now, cut);
    }
    until(&mut sim, 30);
    assert_eq!(holders(&sim), Vec::<usize>::new(), "neither has a majority");
    sim.network.mend(sim.now, 1);
    until(&mut sim, 50);
    assert_eq!(holders(&sim), [0]);
}

/// Gives a core that is alone `first`, then its ticks up to `end`, with a driver that stops at once; up to a start.
fn run_alone(core: &mut Core, now: &mut Instant, first: Input, end: Instant) -> Option<Input> {
    let mut inputs = VecDeque::from([first]);
    while *now < end {
        let input = inputs.pop_front().unwrap_or_else(|| {
            *now = core.next_deadline().unwrap().max(*now);
            Input::Tick
        });
        for output in core.handle(*now, input) {
            match output {
                Output::StartGroup { group, order } => return Some(failed(group, order)),
                Output::RestartGroup { group, order, .. }
                | Output::StopGroup { group, order, .. } => inputs.push_back(Input::Group {
                    group,
                    order: Some(order),
                    outcome: GroupOutcome::Stopped,
                }),
                Output::Send(_)
                | Output::Announce(_)
                | Output::Event(_)
                | Output::Persist(_)
                | Output::Reply { .. }
                | Output::Exit => {}
            }
        }
    }
    None
}

fn failed(group: GroupName, order: RequestId) -> Input {
    Input::Group {
        group,
        order: Some(order),
        outcome: GroupOutcome::StartFailed {
            resource: String::from("unit"),
            reason: String::from("simulated"),
        },
    }
}

/// The driver says that a start has failed in the very turn in which the node finds that it stood still: the group
/// must not be started there again.
#[test]
fn a_failed_start_counts_though_the_lease_has_lapsed() {
    let scenario = Scenario::calm(1, 2, Policy::Ignore);
    let persistent = Persistent::first(Generation(1));
    let mut now = Instant::from_nanos(0);
    let mut core = Core::new(scenario.settings(&scenario.nodes[0]), persistent, now);
    let end = now + 10 * scenario.deadtime;
    let failure = run_alone(&mut core, &mut now, Input::Tick, end).unwrap();
    now = now + scenario.deadtime;
    // Less than the first pause after a failed start.
    let end = now + 4 * scenario.deadtime;
    assert!(run_alone(&mut core, &mut now, failure, end).is_none());
}
