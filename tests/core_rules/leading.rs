//! What a leader makes of what it is told: who is dead for certain, who is a member, where a group may be started.

use crate::stage::{DEADTIME, KEEPALIVE, PUPPET, Stage, dead, group, node, run_here, term};
use ha_node::wire::status::{Assignment, GroupReport, GroupState};

const TWO: [&str; 2] = ["n", "o"];

fn state(state: GroupState) -> GroupReport {
    GroupReport {
        state,
        ..GroupReport::default()
    }
}

/// `m` leads `n` and `o`, and `o` runs the group.
fn leading() -> Stage {
    let mut s = Stage::ready(&TWO, &["o", "m"]);
    // Nobody is better connected than the leader, whatever becomes of its contacts.
    for name in TWO {
        s.words(name).reach = 0;
    }
    let started = state(GroupState::Started);
    s.words("o").report.groups.insert(group(), started);
    s.reign(3 * KEEPALIVE, &TWO);
    let (owner, pinned) = (node("o"), false);
    assert_eq!(
        s.planned(),
        Some(&Assignment::Run {
            node: owner,
            pinned
        })
    );
    s
}

/// `o` dies, and `n` says so.
fn bereaved() -> Stage {
    let mut s = leading();
    s.reign(DEADTIME, &["n"]);
    s.words("n").report.dead.insert(node("o"), dead());
    s
}

#[test]
fn a_group_of_a_node_that_a_majority_calls_dead_is_taken_over_after_the_stop_margin() {
    let mut s = bereaved();
    s.obey(&["n"]);
    let condemned = s.now;
    assert_ne!(s.planned(), run_here().as_ref());
    while s.planned() != run_here().as_ref() {
        s.pass(1);
        assert!(s.now < condemned + DEADTIME);
    }
    assert_eq!(s.now - condemned, KEEPALIVE);
}

/// The plan names `o` for the group, and `o` knows it. Then `o` may not run it any more and says that it is stopped: it may
/// start it still, until it has seen a plan that does not name it.
#[test]
fn who_is_named_by_the_present_plan_may_start_it_at_any_moment() {
    let mut s = leading();
    let stopped = state(GroupState::Stopped);
    let words = s.words("o");
    words.report.groups.insert(group(), stopped);
    words.report.standby = true;
    s.hear("o");
    assert_ne!(s.planned(), run_here().as_ref(), "o has not seen that yet");
    s.obey(&["o"]);
    s.pass(KEEPALIVE);
    assert_eq!(s.planned(), run_here().as_ref());
}

#[test]
fn one_vote_for_a_death_is_not_enough() {
    let mut s = leading();
    s.reign(3 * DEADTIME, &["n"]);
    assert_ne!(s.planned(), run_here().as_ref());
    assert_eq!(s.started(), None);
}

/// `o` is dead for certain, and is heard again.
fn returned() -> Stage {
    let mut s = bereaved();
    s.reign(4 * KEEPALIVE, &["n"]);
    assert_eq!(s.admission("o"), None);
    let stopped = state(GroupState::Stopped);
    s.words("o").report.groups.insert(group(), stopped);
    s.words("o").term = s.said.term.clone();
    s
}

#[test]
fn a_node_is_readmitted_only_once_it_follows_the_present_plan() {
    let mut s = returned();
    s.hear("o");
    s.beat(2 * KEEPALIVE, &["o"]);
    assert_eq!(
        s.admission("o"),
        None,
        "it may not know yet what it must not run"
    );
    s.obey(&["o"]);
    assert!(s.admission("o").is_some());
}

#[test]
fn a_death_that_was_reported_before_the_readmission_is_past() {
    let mut s = returned();
    s.obey(&["o", "o"]);
    let admitted = s.admission("o");
    assert!(admitted.is_some());
    // `o` falls silent again; `n` has not followed the plan that readmitted it.
    s.beat(2 * DEADTIME, &["n"]);
    assert_eq!(s.admission("o"), admitted);
    s.reign(3 * KEEPALIVE, &["n"]);
    assert_eq!(s.admission("o"), None);
}

#[test]
fn a_new_life_of_a_member_is_admitted_anew() {
    let mut s = leading();
    let before = s.admission("o");
    let words = s.words("o");
    words.generation = words.generation.next();
    words
        .report
        .groups
        .insert(group(), state(GroupState::Stopped));
    s.reign(2 * KEEPALIVE, &TWO);
    assert!(s.admission("o") > before);
}

#[test]
fn a_report_under_another_term_does_not_count() {
    let mut s = Stage::ready(&TWO, &["m", "o"]);
    // `n` elects it; `o` says that it runs nothing, under no term or another one.
    s.reign(3 * KEEPALIVE, &["n"]);
    s.beat(3 * KEEPALIVE, &["o", "n"]);
    assert!(s.said.plan.is_some());
    assert_eq!(s.planned(), None);
    s.obey(&["o"]);
    assert_eq!(s.planned(), run_here().as_ref());
}

/// Two leaders may begin terms of the same number. `o` follows the plan of the other one, and says that it runs nothing.
#[test]
fn a_report_under_a_term_of_the_same_number_does_not_count() {
    let mut s = Stage::ready(&TWO, &["m", "o"]);
    s.reign(3 * KEEPALIVE, &["n"]);
    for _ in 0..3 {
        s.pass(KEEPALIVE);
        s.obey(&["n"]);
        let (number, version) = (
            s.said.term.as_ref().unwrap().number,
            s.said.plan.as_ref().unwrap().version,
        );
        let words = s.words("o");
        words.term = term(number, "n", PUPPET);
        words.report.version = version;
        s.hear("o");
    }
    assert_eq!(s.planned(), None);
    s.obey(&["o"]);
    assert_eq!(s.planned(), run_here().as_ref());
}

#[test]
fn what_a_node_out_of_contact_said_before_the_election_does_not_count() {
    let others = ["n", "o", "p", "q"];
    let mut s = Stage::new(&others, &["m", "o"]);
    s.beat(KEEPALIVE, &others);
    s.answer_stop();
    s.beat(DEADTIME, &others);
    for name in others {
        s.words(name).reach = 0;
    }
    s.obey(&["o"]);
    let term = s.said.term.clone();
    assert!(
        term.is_some(),
        "it begins a term as soon as its vote counts"
    );
    // `o` is not heard any more; the others elect `m` only now.
    s.beat(DEADTIME + 2 * KEEPALIVE, &["n", "p", "q"]);
    assert_eq!(s.said.term, term);
    s.reign(3 * KEEPALIVE, &["n", "p", "q"]);
    assert!(s.said.plan.is_some(), "it is elected");
    assert_eq!(
        s.planned(),
        None,
        "o may have followed another leader since"
    );
}

#[test]
fn a_group_is_not_moved_before_it_is_certain_that_it_can_run_there() {
    let mut s = leading();
    s.words("o").report.standby = true;
    // `n` is not accounted for: it may run the group.
    s.words("n")
        .report
        .groups
        .insert(group(), state(GroupState::Stopping));
    s.reign(3 * KEEPALIVE, &TWO);
    assert_eq!(s.planned(), Some(&Assignment::Keep(node("o"))));
    let stopped = state(GroupState::Stopped);
    s.words("n").report.groups.insert(group(), stopped);
    s.reign(KEEPALIVE, &TWO);
    assert_eq!(s.planned(), Some(&Assignment::Nobody));
}
