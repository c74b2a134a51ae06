//! What a start needs at its moment, each alone.

use crate::stage::{CERTAIN, DEADTIME, KEEPALIVE, Stage, at, group, node, run_here};
use ha_node::core::{Holding, Inheritance, Input, Lease, Request, Scope};
use ha_node::ids::RequestId;
use std::collections::BTreeMap;

const FOUR: [&str; 4] = ["b", "n", "o", "p"];

/// In a cluster of five `b` leads, and these promise nothing for longer than a promise lasts.
fn without_promises_of(silent: &[&str]) -> Stage {
    let mut s = Stage::ready(&FOUR, &["m", "n"]);
    s.led(1, None);
    s.silent = silent.iter().map(|name| node(name)).collect();
    s.beat(2 * DEADTIME, &FOUR);
    s.did.clear();
    s
}

#[test]
fn it_starts_by_plan_promise_and_lease() {
    let mut s = without_promises_of(&[]);
    s.led(2, run_here());
    assert!(s.started().is_some());
}

#[test]
fn without_the_leaders_promise_nothing_is_started() {
    let mut s = without_promises_of(&["b"]);
    assert!(
        s.core.lease().holds(at(s.now)),
        "the others' promises are enough for that"
    );
    s.led(2, run_here());
    assert_eq!(s.started(), None);
    s.silent.clear();
    s.hear("b");
    assert!(s.started().is_some());
}

#[test]
fn without_a_lease_nothing_is_started() {
    let mut s = without_promises_of(&["n", "o", "p"]);
    assert_eq!(s.core.lease(), Lease::None);
    s.led(2, run_here());
    assert_eq!(s.started(), None);
    s.silent.clear();
    s.hear("n");
    assert!(s.started().is_some());
}

#[test]
fn in_the_silence_after_a_start_nothing_is_started() {
    let mut s = Stage::new(&FOUR, &["m", "n"]);
    let start = s.now;
    s.beat(2 * KEEPALIVE, &FOUR);
    s.answer_stop();
    s.led(1, run_here());
    while s.now + KEEPALIVE < start + CERTAIN {
        s.beat(KEEPALIVE, &FOUR);
        assert_eq!(s.started(), None);
    }
    s.beat(KEEPALIVE, &FOUR);
    assert!(s.started().is_some());
}

#[test]
fn by_the_plan_of_a_leader_that_gave_up_nothing_is_started() {
    let mut s = without_promises_of(&[]);
    let (id, request) = (RequestId(1), Request::Standby(Scope::All));
    s.handle(Input::Request { id, request });
    s.led(2, run_here());
    s.words("b").term = None;
    s.words("b").plan = None;
    s.hear("b");
    let (id, request) = (RequestId(2), Request::Online);
    s.handle(Input::Request { id, request });
    assert_eq!(s.started(), None);
}

#[test]
fn in_standby_nothing_is_started() {
    let mut s = without_promises_of(&[]);
    let (id, request) = (RequestId(1), Request::Standby(Scope::All));
    s.handle(Input::Request { id, request });
    s.led(2, run_here());
    assert_eq!(s.started(), None);
}

#[test]
fn what_an_earlier_life_has_left_goes_on_only_within_its_lease() {
    for (late, goes_on) in [(KEEPALIVE, true), (3 * KEEPALIVE, false)] {
        let holding = Holding {
            up: true,
            pinned: false,
        };
        let inheritance = Inheritance {
            until: Lease::Until(at(10 * DEADTIME + 2 * KEEPALIVE)),
            groups: BTreeMap::from([(group(), holding)]),
            ..Inheritance::default()
        };
        let s = Stage::heir(&FOUR, &["m", "n"], inheritance, late);
        assert_eq!(s.started().is_some(), goes_on, "{late}");
        assert_eq!(s.stopped(), !goes_on, "{late}");
    }
}
