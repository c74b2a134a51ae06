//! A machine that stands still together with its clocks, as a paused virtual machine does: nothing tells it afterwards but
//! what it hears.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod core_support;

use core_support::{Cluster, DEADTIME, DRIVER, KEEPALIVE, MESSAGE, node};
use ha_node::core::Policy;
use ha_node::core::event::Event;

fn paused(policy: Policy, clock_too: bool) -> Cluster {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(policy, &nodes, &[("g", &["c", "b"])]);
    cluster.start(&nodes);
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["c"]);
    cluster.two_owners_allowed = true;
    cluster.pause_machine("c", 5 * DEADTIME, clock_too);
    assert_eq!(
        cluster.owners("g").len(),
        2,
        "the other has taken over, the machine that stands still cannot know"
    );
    cluster.doubles = 0;
    cluster
}

/// Milliseconds for which both run the group after the pause has ended.
fn overlap(policy: Policy, clock_too: bool, stop_time: u64, cut_after: bool) -> u64 {
    let mut cluster = paused(policy, clock_too);
    cluster.stop_time.insert(node("c"), stop_time);
    if cut_after {
        cluster.part("c", &["a", "b"]);
    }
    cluster.run(20 * DEADTIME);
    cluster.doubles
}

#[test]
fn who_hears_the_others_again_releases_at_their_first_words() {
    for policy in [Policy::Majority, Policy::Ignore] {
        for clock_too in [false, true] {
            let time = overlap(policy, clock_too, DRIVER, false);
            assert!(
                time <= KEEPALIVE + 2 * MESSAGE + DRIVER,
                "{policy:?}, clock stood still too: {clock_too}: both for {time} ms"
            );
        }
    }
}

/// Nothing reaches the machine any more that could tell it: what remains is the lease by its own clock.
#[test]
fn who_is_cut_off_after_the_pause_releases_when_its_lease_ends_by_its_own_clock() {
    let time = overlap(Policy::Majority, true, DRIVER, true);
    assert!(time <= DEADTIME + DRIVER, "both for {time} ms");
    let time = overlap(Policy::Majority, false, DRIVER, true);
    assert!(
        time <= DRIVER,
        "a clock that goes on shows it at once: {time} ms"
    );
}

#[test]
fn people_are_told_that_the_clock_stood_still() {
    let mut cluster = paused(Policy::Majority, true);
    cluster.run(2 * KEEPALIVE);
    let told = |event: &Event| matches!(event, Event::ClockStoodStill { .. });
    let tellers = (cluster.said.iter()).filter(|(_, who, event)| who == "c" && told(event));
    assert_eq!(tellers.count(), 1);
    cluster.two_owners_allowed = false;
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g").len(), 1);
}

/// It is given the group just when it stops to stand: it wakes up with the plan, and with promises that are long past.
#[test]
fn nothing_is_started_after_a_pause_by_a_promise_from_before() {
    for at in (0..3 * KEEPALIVE).step_by(3) {
        let nodes = ["a", "b", "c"];
        let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["c", "b"])]);
        cluster
            .starts_fail
            .insert((node("c"), core_support::group("g")));
        cluster.start(&nodes);
        cluster.run(5 * DEADTIME);
        assert_eq!(cluster.owners("g"), ["b"]);
        cluster.starts_fail.clear();
        let group = core_support::group("g");
        cluster.ask("a", 1, ha_node::core::Request::Clear(group.clone()));
        cluster.run(2 * KEEPALIVE);
        let target = node("c");
        let request = ha_node::core::Request::Move {
            group,
            node: target,
        };
        cluster.ask("b", 2, request);
        cluster.run(at);
        cluster.two_owners_allowed = true;
        cluster.pause_machine("c", 5 * DEADTIME, true);
        cluster.doubles = 0;
        cluster.run(20 * DEADTIME);
        let time = cluster.doubles;
        assert!(
            time <= 2 * KEEPALIVE + DRIVER,
            "paused after {at} ms: both for {time} ms"
        );
        assert_eq!(cluster.owners("g").len(), 1);
    }
}
