//! Whom a node follows, and which votes make a leader.

use crate::stage::{DEADTIME, KEEPALIVE, PUPPET, RELIABLE, Stage, node, term};
use ha_node::core::Input;
use ha_node::ids::Generation;
use ha_node::wire::status::Phase;

/// `m` has begun a term, since it is the first by name.
fn candidate() -> Stage {
    let s = Stage::ready(&["n", "o"], &["m"]);
    assert!(s.said.term.as_ref().is_some_and(|t| t.leader == node("m")));
    assert_eq!(s.said.plan, None, "nobody has elected it");
    s
}

#[test]
fn one_vote_of_three_elects_together_with_the_own() {
    let mut s = candidate();
    s.obey(&["n"]);
    assert!(s.said.plan.is_some());
}

#[test]
fn who_does_not_vote_elects_nobody() {
    let mut s = candidate();
    s.words("n").voting = false;
    s.obey(&["n"]);
    assert_eq!(s.said.plan, None);
}

#[test]
fn a_vote_for_a_term_of_the_same_number_is_none() {
    let mut s = candidate();
    let number = s.said.term.as_ref().unwrap().number;
    s.words("n").term = term(number, "o", PUPPET);
    s.hear("n");
    assert_eq!(s.said.plan, None);
}

#[test]
fn a_node_that_has_left_is_not_there() {
    let mut s = Stage::ready(&["n", "o"], &["m"]);
    s.beat(DEADTIME + KEEPALIVE, &["n"]);
    assert!(s.said.electable);
    s.words("n").phase = Phase::Gone;
    s.hear("n");
    s.pass(KEEPALIVE);
    assert!(!s.said.electable);
}

#[test]
fn votes_count_for_less_than_deadtime_by_the_drift() {
    for (late, elected) in [(RELIABLE - 1, true), (RELIABLE, false)] {
        let mut s = candidate();
        s.pass(KEEPALIVE);
        s.obey(&["n"]);
        let sent = s.said_at;
        s.hear("n");
        let old = s.term();
        while s.now + KEEPALIVE < sent + late {
            s.pass(KEEPALIVE);
        }
        s.now = sent + late;
        s.handle(Input::Tick);
        assert_eq!(s.term() == old, elected, "{late}");
    }
}

#[test]
fn a_leader_whose_votes_lapsed_for_a_moment_does_not_go_on_with_its_term() {
    let mut s = candidate();
    s.obey(&["n"]);
    s.hear("n");
    let (old, sent) = (s.term(), s.said_at);
    while s.now + KEEPALIVE < sent + RELIABLE {
        s.pass(KEEPALIVE);
    }
    assert_eq!(s.term(), old);
    s.now = sent + RELIABLE;
    s.hear("n");
    assert_ne!(s.term(), old);
}

#[test]
fn a_term_of_an_earlier_life_of_its_leader_is_not_followed() {
    let mut s = Stage::ready(&["b", "n"], &["m"]);
    s.words("b").generation = Generation(PUPPET + 1);
    s.words("b").term = term(3, "b", PUPPET);
    s.beat(2 * KEEPALIVE, &["b", "n"]);
    assert_eq!(s.term(), None);
    s.words("b").term = term(4, "b", PUPPET + 1);
    s.hear("b");
    assert_eq!(s.term(), term(4, "b", PUPPET + 1));
}

#[test]
fn a_term_that_its_leader_does_not_lead_itself_is_not_followed() {
    let mut s = Stage::ready(&["b", "n"], &["m"]);
    s.words("n").term = term(3, "o", PUPPET);
    s.beat(2 * KEEPALIVE, &["b", "n"]);
    assert_eq!(s.term(), None);
}

#[test]
fn who_has_followed_a_later_term_does_not_follow_an_earlier_one() {
    let mut s = Stage::ready(&["b", "n"], &["m"]);
    s.words("b").term = term(5, "b", PUPPET);
    s.beat(2 * KEEPALIVE, &["b", "n"]);
    assert_eq!(s.term(), term(5, "b", PUPPET));
    // It stands still, and knows no leader any more.
    s.now += DEADTIME;
    s.handle(Input::Tick);
    assert_eq!(s.term(), None);
    s.words("n").term = term(3, "n", PUPPET);
    s.hear("n");
    s.beat(KEEPALIVE, &["n"]);
    assert_ne!(s.term(), term(3, "n", PUPPET));
}

#[test]
fn a_leader_that_is_heard_is_not_left_for_another() {
    let mut s = Stage::ready(&["b", "n"], &["m"]);
    s.words("b").term = term(5, "b", PUPPET);
    s.beat(2 * KEEPALIVE, &["b", "n"]);
    s.words("n").term = term(6, "n", PUPPET);
    s.beat(2 * KEEPALIVE, &["b", "n"]);
    assert_eq!(s.term(), term(5, "b", PUPPET));
}
