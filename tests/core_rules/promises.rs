//! What a promise is worth, who gives one, and what becomes of a node that stood still.

use crate::stage::{CERTAIN, DEADTIME, KEEPALIVE, RELIABLE, Stage, at, node, run_here};
use ha_node::core::event::Event;
use ha_node::core::{Input, Lease};
use ha_node::ids::Generation;
use ha_node::wire::status::{Heard, Phase};
use std::time::Duration;

const TWO: [&str; 2] = ["n", "o"];

#[test]
fn a_promise_is_relied_on_for_less_than_deadtime_by_the_drift() {
    let mut s = Stage::ready(&TWO, &["m"]);
    s.pass(KEEPALIVE);
    s.hear("n");
    assert_eq!(s.core.lease(), Lease::Until(at(s.said_at + RELIABLE)));
}

#[test]
fn of_two_deadtimes_the_shorter_one_is_relied_on() {
    for (theirs, relied_on) in [(500, 495), (2000, RELIABLE)] {
        let mut s = Stage::new(&TWO, &["m"]);
        s.words("n").deadtime = Duration::from_millis(theirs);
        s.beat(4 * KEEPALIVE, &["n"]);
        s.pass(KEEPALIVE);
        let sent = s.said_at;
        s.hear("n");
        assert_eq!(
            s.core.lease(),
            Lease::Until(at(sent + relied_on)),
            "{theirs}"
        );
    }
}

#[test]
fn last_words_promise_nothing() {
    let mut s = Stage::new(&TWO, &["m"]);
    s.silent.insert(node("n"));
    s.beat(4 * KEEPALIVE, &["n"]);
    assert_eq!(s.core.lease(), Lease::None);
    s.silent.clear();
    s.words("n").phase = Phase::Gone;
    s.hear("n");
    assert_eq!(s.core.lease(), Lease::None);
}

#[test]
fn a_message_that_does_not_name_this_life_is_answered_without_a_promise() {
    let mut s = Stage::ready(&TWO, &["m"]);
    assert!(s.said.heard[&node("n")].promise);
    let words = s.words("n");
    words.generation = words.generation.next();
    words.heard.clear();
    s.hear_as_it_is("n");
    s.pass(KEEPALIVE);
    let generation = s.words("n").generation;
    assert_eq!(s.said.heard[&node("n")].generation, generation);
    assert!(!s.said.heard[&node("n")].promise);
}

#[test]
fn a_peer_that_is_dead_to_us_gets_no_promise() {
    let mut s = Stage::ready(&TWO, &["m"]);
    s.beat(DEADTIME + 2 * KEEPALIVE, &["o"]);
    assert!(s.said.report.dead.contains_key(&node("n")));
    s.hear("n");
    s.pass(KEEPALIVE);
    assert!(!s.said.heard[&node("n")].promise);
}

/// Whether the core's vote and its promises count at that time after `start`, and a little before.
fn silence_ends(s: &mut Stage, start: u64) {
    while s.now + KEEPALIVE < start + CERTAIN {
        s.beat(KEEPALIVE, &TWO);
    }
    s.pass(start + CERTAIN - 1 - s.now);
    s.hear("n");
    assert!(!s.said.voting);
    assert!(s.said.heard.values().all(|heard| !heard.promise));
    s.pass(1);
    assert!(s.said.voting);
}

#[test]
fn a_new_life_neither_votes_nor_promises_for_a_deadtime_and_the_drift() {
    let mut s = Stage::new(&TWO, &["m"]);
    let start = s.now;
    silence_ends(&mut s, start);
}

#[test]
fn a_node_that_learns_of_a_later_life_of_its_own_begins_a_silent_one() {
    let mut s = Stage::ready(&TWO, &["m"]);
    assert!(s.said.voting);
    let echo = Heard {
        generation: Generation(20),
        ..s.said.heard[&node("n")]
    };
    s.words("n").heard.insert(node("m"), echo);
    s.hear_as_it_is("n");
    assert_eq!(s.core.generation(), Generation(21));
    let start = s.now;
    silence_ends(&mut s, start);
}

#[test]
fn a_node_stood_still_if_it_said_nothing_for_deadtime_less_the_drift() {
    let stood_still = |event: &Event| matches!(event, Event::StoodStill { .. });
    for (late, expected) in [(RELIABLE - 1, false), (RELIABLE, true)] {
        let mut s = Stage::ready(&TWO, &["m"]);
        s.now = s.said_at + late;
        s.handle(Input::Tick);
        assert_eq!(s.told(stood_still), expected, "{late}");
    }
}

#[test]
fn that_is_looked_at_when_a_driver_answers_too() {
    let mut s = Stage::ready(&TWO, &["m"]);
    s.now = s.said_at + RELIABLE;
    s.answer(
        ha_node::ids::RequestId(99),
        ha_node::core::GroupOutcome::Started,
    );
    assert!(s.told(|event| matches!(event, Event::StoodStill { .. })));
}

#[test]
fn after_a_short_pause_a_peer_has_a_moment_to_be_heard() {
    let mut s = Stage::ready(&TWO, &["m"]);
    let last = s.now;
    s.beat(7 * KEEPALIVE, &["o"]);
    s.now = last + DEADTIME + 1;
    s.handle(Input::Tick);
    assert!(
        !s.said.report.dead.contains_key(&node("n")),
        "it may wait in the queue"
    );
    s.pass(KEEPALIVE);
    assert!(s.said.report.dead.contains_key(&node("n")));
}

#[test]
fn a_lease_that_was_over_before_a_promise_came_is_over() {
    let mut s = Stage::ready(&["b", "n"], &["m"]);
    s.led(1, run_here());
    s.beat(2 * KEEPALIVE, &["b", "n"]);
    s.answer_start();
    s.beat(2 * KEEPALIVE, &["b", "n"]);
    s.did.clear();
    let Lease::Until(end) = s.core.lease() else {
        panic!("it has no lease");
    };
    while at(s.now + KEEPALIVE) < end {
        s.pass(KEEPALIVE);
    }
    assert!(!s.stopped());
    while at(s.now) < end {
        s.now += 1;
    }
    s.hear("n");
    assert!(s.stopped(), "others may have started it meanwhile");
}
