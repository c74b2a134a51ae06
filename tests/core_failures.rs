//! Resources that fail by themselves, and what real cores do about it: restart here, move, stay down, forget.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

mod core_support;

use core_support::{Cluster, DEADTIME, DRIVER, KEEPALIVE, group, node};
use ha_node::core::event::Event;
use ha_node::core::{FailurePolicy, Policy, Reaction, Request, Scope};
use ha_node::wire::status::{Refusal, last_words};
use std::time::Duration;

/// How long a failure counts here, in milliseconds.
const WINDOW: u64 = 64 * DEADTIME;

/// After the first failed start, a node may be tried again after this.
const PAUSE: u64 = WINDOW / 64;

fn restart(limit: u32) -> FailurePolicy {
    FailurePolicy {
        reaction: Reaction::Restart { limit },
        window: Duration::from_millis(WINDOW),
    }
}

/// Three nodes, of which `a` and then `b` may run the group.
fn started(policy: FailurePolicy) -> Cluster {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "b"])]);
    cluster.set_policy("g", policy);
    cluster.start(&nodes);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster
}

fn fail(cluster: &mut Cluster, owner: &str) {
    cluster.fail(owner, "g");
    cluster.run(10 * DRIVER + 2 * KEEPALIVE);
}

fn expired(cluster: &Cluster) -> usize {
    let said = cluster.said.iter();
    said.filter(|(_, _, event)| matches!(event, Event::FailuresExpired { .. }))
        .count()
}

#[test]
fn it_is_restarted_up_to_the_limit_then_moves_and_is_soon_tried_again_where_nobody_else_is_left() {
    let mut cluster = started(restart(2));
    for count in 1..=2 {
        fail(&mut cluster, "a");
        assert_eq!(cluster.owners("g"), ["a"]);
        assert_eq!(cluster.restarts["a"], count);
        assert_eq!(cluster.failures("c", "g")["a"], count);
    }
    fail(&mut cluster, "a");
    assert_eq!(cluster.owners("g"), ["b"]);
    for _ in 0..3 {
        fail(&mut cluster, "b");
    }
    assert_eq!(cluster.owners("g"), ["a"], "its pause is over");
    fail(&mut cluster, "a");
    assert!(cluster.owners("g").is_empty(), "it failed everywhere");
    cluster.run(PAUSE);
    assert_eq!(cluster.owners("g"), ["b"], "its pause is over");
    fail(&mut cluster, "b");
    assert!(cluster.owners("g").is_empty(), "the second pause is longer");
    cluster.ask("c", 1, Request::Clear(group("g")));
    cluster.run(DEADTIME / 2);
    assert_eq!(cluster.owners("g"), ["a"]);
    assert!(cluster.failures("c", "g").is_empty());
}

#[test]
fn failures_that_are_far_apart_never_move_it() {
    let mut cluster = started(restart(1));
    for count in 1..5 {
        fail(&mut cluster, "a");
        assert_eq!(cluster.restarts["a"], count);
        cluster.run(WINDOW);
        assert_eq!(cluster.owners("g"), ["a"]);
        assert!(cluster.failures("c", "g").is_empty(), "they expire");
    }
}

#[test]
fn a_restart_that_fails_moves_it() {
    let mut cluster = started(restart(5));
    cluster.starts_fail.insert((node("a"), group("g")));
    fail(&mut cluster, "a");
    assert_eq!(cluster.restarts["a"], 1);
    assert_eq!(cluster.owners("g"), ["b"]);
}

#[test]
fn what_is_ignored_neither_restarts_nor_moves() {
    let mut cluster = started(FailurePolicy {
        reaction: Reaction::Ignore,
        window: Duration::from_millis(WINDOW),
    });
    for _ in 0..5 {
        fail(&mut cluster, "a");
    }
    assert_eq!(cluster.owners("g"), ["a"]);
    assert!(cluster.restarts.is_empty());
    assert_eq!(cluster.failures("c", "g")["a"], 5);
}

#[test]
fn a_node_where_it_failed_is_the_last_resort_once_that_is_past() {
    let mut cluster = started(restart(0));
    fail(&mut cluster, "a");
    assert_eq!(cluster.owners("g"), ["b"]);
    cluster.run(WINDOW);
    assert_eq!(expired(&cluster), 1);
    assert_eq!(cluster.owners("g"), ["b"], "that is no reason to move back");
    cluster.kill(&["b"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.start(&["b"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"], "failback is off");
}

#[test]
fn what_starts_nowhere_is_tried_a_few_times_with_growing_pauses_and_no_more() {
    let mut cluster = started(restart(0));
    for owner in ["a", "b"] {
        cluster.starts_fail.insert((node(owner), group("g")));
    }
    fail(&mut cluster, "a");
    assert!(cluster.owners("g").is_empty());
    cluster.said.clear();
    cluster.run(10 * WINDOW);
    let starts = |owner: &str| {
        let said = cluster.said.iter();
        said.filter(|(_, node, event)| {
            node == owner && matches!(event, Event::GroupStarting { .. })
        })
        .count()
    };
    assert_eq!((starts("a"), starts("b")), (7, 7));
    cluster.starts_fail.clear();
    cluster.ask("b", 1, Request::Clear(group("g")));
    cluster.run(2 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"], "it was cleared there first");
}

#[test]
fn what_somebody_starts_on_another_node_is_stopped_there() {
    let mut cluster = started(restart(3));
    cluster.said.clear();
    cluster.appear("b", "g");
    cluster.run(DEADTIME);
    let stops = (cluster.said.iter())
        .filter(|(_, node, event)| node == "b" && matches!(event, Event::GroupStopped { .. }));
    assert_eq!(stops.count(), 1);
    assert_eq!(cluster.owners("g"), ["a"]);
    assert!(cluster.failures("c", "g").is_empty());
}

#[test]
fn what_somebody_starts_and_cannot_be_stopped_blocks_the_group_there() {
    let mut cluster = started(restart(3));
    cluster.stops_fail.insert((node("b"), group("g")));
    cluster.appear("b", "g");
    cluster.run(DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"], "the owner goes on");
    cluster.kill(&["a"]);
    cluster.run(5 * DEADTIME);
    assert!(cluster.owners("g").is_empty(), "it may still run on b");
}

#[test]
fn a_move_whose_stop_fails_is_answered_at_once() {
    let mut cluster = started(restart(3));
    cluster.stops_fail.insert((node("a"), group("g")));
    let (name, target) = (group("g"), node("b"));
    let request = Request::Move {
        group: name.clone(),
        node: target,
    };
    cluster.ask("c", 1, request);
    cluster.run(DEADTIME);
    let blocked = Refusal::Blocked {
        group: name,
        node: node("a"),
    };
    assert_eq!(cluster.reply(1), Some(&Err(blocked)));
}

#[test]
fn alone_a_bar_ends_too() {
    let mut cluster = Cluster::new(Policy::Majority, &["a"], &[("g", &["a"])]);
    cluster.set_policy("g", restart(0));
    cluster.start(&["a"]);
    cluster.run(4 * DEADTIME);
    fail(&mut cluster, "a");
    assert!(cluster.owners("g").is_empty());
    cluster.run(PAUSE);
    assert_eq!(cluster.owners("g"), ["a"]);
}

#[test]
fn a_bar_ends_with_its_cause() {
    let mut cluster = started(restart(0));
    fail(&mut cluster, "a");
    assert_eq!(cluster.owners("g"), ["b"]);
    cluster.kill(&["b"]);
    cluster.run(100);
    cluster.recover("a", "g");
    cluster.run(DEADTIME + 2 * KEEPALIVE + DRIVER);
    assert_eq!(cluster.owners("g"), ["a"], "as soon as b is dead");
}

#[test]
fn without_a_usable_link_of_its_own_a_node_starts_nothing() {
    for policy in [Policy::Ignore, Policy::Majority] {
        let nodes = ["a", "b", "c"];
        let mut cluster = Cluster::new(policy, &nodes, &[("g", &["a", "b"])]);
        cluster.part("b", &["a", "c"]);
        cluster.start(&nodes);
        cluster.links("b", false);
        cluster.run(20 * DEADTIME);
        assert_eq!(cluster.owners("g"), ["a"]);
        cluster.links("b", true);
        cluster.join("b", &["a", "c"]);
        cluster.run(4 * DEADTIME);
        assert_eq!(cluster.owners("g"), ["a"]);
        cluster.links("a", false);
        cluster.part("a", &["b", "c"]);
        cluster.two_owners_allowed = policy == Policy::Ignore;
        cluster.run(4 * DEADTIME);
        assert!(cluster.owners("g").contains(&"b"), "the others go on");
    }
}

/// Who has no usable link hears nobody, and that is nobody's death.
#[test]
fn without_a_usable_link_of_its_own_a_node_declares_nobody_dead() {
    for policy in [Policy::Ignore, Policy::Majority] {
        let nodes = ["a", "b", "c"];
        let mut cluster = Cluster::new(policy, &nodes, &[("g", &["a", "b"])]);
        cluster.start(&nodes);
        cluster.run(10 * DEADTIME);
        cluster.links("c", false);
        cluster.part("c", &["a", "b"]);
        cluster.run(10 * DEADTIME);
        let deaths = cluster.said.iter().filter(|(_, who, event)| {
            who == "c" && matches!(event, Event::PeerDead { .. } | Event::PeerGivenUp { .. })
        });
        assert_eq!(deaths.count(), 0, "{}", cluster.story(20));
    }
}

/// Three nodes may run the group; it has failed on `b` some time ago and runs on `a` again.
fn with_doubtful_b() -> Cluster {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &nodes)]);
    cluster.set_policy("g", restart(0));
    cluster.start(&nodes);
    cluster.run(4 * DEADTIME);
    cluster.ask("a", 90, to("b"));
    cluster.run(2 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
    fail(&mut cluster, "b");
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.run(WINDOW);
    cluster
}

#[test]
fn a_node_where_it_failed_comes_after_all_others() {
    let mut cluster = with_doubtful_b();
    cluster.kill(&["a"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["c"]);
    for scope in [Scope::All, Scope::Local] {
        let mut cluster = with_doubtful_b();
        cluster.ask("a", 1, Request::Standby(scope));
        cluster.run(2 * DEADTIME);
        assert_eq!(cluster.reply(1), Some(&Ok(())));
        assert_eq!(cluster.owners("g"), ["c"]);
    }
}

#[test]
fn a_standby_is_refused_where_only_a_doubtful_node_could_take_over() {
    let mut cluster = with_doubtful_b();
    cluster.kill(&["c"]);
    cluster.run(4 * DEADTIME);
    cluster.ask("a", 1, Request::Standby(Scope::All));
    cluster.run(2 * DEADTIME);
    let nowhere = Refusal::NowhereToGo(group("g"));
    assert_eq!(cluster.reply(1), Some(&Err(nowhere)));
    assert_eq!(cluster.owners("g"), ["a"]);
}

#[test]
fn a_person_may_move_it_to_a_doubtful_node_and_learns_how_that_went() {
    let mut cluster = with_doubtful_b();
    cluster.ask("c", 1, to("b"));
    cluster.run(2 * DEADTIME);
    assert_eq!(cluster.reply(1), Some(&Ok(())));
    assert_eq!(cluster.owners("g"), ["b"], "it stays where a person put it");

    let mut cluster = with_doubtful_b();
    cluster.starts_fail.insert((node("b"), group("g")));
    cluster.ask("c", 1, to("b"));
    cluster.run(2 * DEADTIME);
    let failed = Refusal::StartFailed {
        group: group("g"),
        node: node("b"),
    };
    assert_eq!(cluster.reply(1), Some(&Err(failed)));
    assert_eq!(cluster.owners("g"), ["a"]);
}

#[test]
fn what_could_not_start_for_want_of_a_lease_has_not_failed() {
    let mut cluster = Cluster::new(Policy::Majority, &["a", "b", "c"], &[("g", &["a"])]);
    cluster.set_policy("g", restart(3));
    cluster.starts_refused.insert((node("a"), group("g")));
    cluster.start(&["a", "b", "c"]);
    let starts = |cluster: &Cluster| {
        let said = cluster.said.iter();
        said.filter(|(_, _, event)| matches!(event, Event::GroupStarting { .. }))
            .count()
    };
    cluster.run_until(5 * DEADTIME, |cluster| starts(cluster) == 1);
    cluster.freeze("a", 3 * DEADTIME);
    cluster.starts_refused.clear();
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    assert!(cluster.failures("b", "g").is_empty());
}

/// `a` was there first and leads; `v` is the first choice for `g`.
fn led_by_a() -> Cluster {
    let nodes = ["a", "b", "v"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["v", "a", "b"])]);
    cluster.start(&["a"]);
    cluster.run(300);
    cluster.start(&["b", "v"]);
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.leader("b").as_deref(), Some("a"));
    cluster
}

fn to(name: &str) -> Request {
    Request::Move {
        group: group("g"),
        node: node(name),
    }
}

/// `v` cannot stop `g`, and all hear it. Then `b` hears no more of `v`, and a person clears `g` on `b`. `v` says to `a` all
/// the same that it is blocked, and dies: nobody has repaired it.
#[test]
fn a_clearing_where_its_node_is_not_heard_does_not_void_what_others_hear_of_it_later() {
    let mut cluster = led_by_a();
    cluster.ask("a", 1, to("v"));
    cluster.run(10 * DEADTIME);
    cluster.stops_fail.insert((node("v"), group("g")));
    cluster.ask("a", 2, to("b"));
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["v"]);
    cluster.part("v", &["b"]);
    cluster.run(DEADTIME + KEEPALIVE);
    cluster.ask("b", 3, Request::Clear(group("g")));
    cluster.run(4 * KEEPALIVE);
    let _ = cluster.daemon_dies("v");
    cluster.run(60 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["v"], "nobody has repaired it");
}

/// `v` could once not stop `g`, and that was cleared. Then its daemon dies and its release cannot stop `g`: only `b` hears
/// it. The leader `a` has seen the clearing, which is older than what `b` has heard.
#[test]
fn an_earlier_clearing_does_not_void_what_another_node_has_heard_later() {
    for leader_hears in [false, true] {
        let mut cluster = led_by_a();
        cluster.ask("a", 1, to("v"));
        cluster.run(10 * DEADTIME);
        assert_eq!(cluster.owners("g"), ["v"]);
        cluster.stops_fail.insert((node("v"), group("g")));
        cluster.ask("a", 2, to("b"));
        cluster.run(10 * DEADTIME);
        cluster.stops_fail.clear();
        cluster.ask("a", 3, Request::Clear(group("g")));
        cluster.run(10 * DEADTIME);
        cluster.ask("a", 4, to("v"));
        cluster.run(10 * DEADTIME);
        assert_eq!(cluster.owners("g"), ["v"]);

        let (_, _, newest) = cluster.daemon_dies("v");
        let words = last_words(*newest.unwrap(), &[group("g")].into());
        cluster.cut("v", if leader_hears { "b" } else { "a" });
        cluster.say("v", &words);
        cluster.run(60 * DEADTIME);
        assert_eq!(
            cluster.owners("g"),
            ["v"],
            "the leader heard: {leader_hears}"
        );
        cluster.release("v", "g");
        cluster.ask("a", 5, Request::Clear(group("g")));
        cluster.run(10 * DEADTIME);
        assert_eq!(cluster.owners("g").len(), 1, "cleared by a person");
    }
}

/// `b` is away when `a` cannot stop `g`, and `c` hears it. Then the power goes, and `a` and `b` come back without `c`: `g` runs
/// on `a`. What `c` remembers is of an earlier life of `a`, and holds up nothing when `a` has died.
#[test]
fn what_is_remembered_of_an_earlier_life_is_void_for_who_has_heard_a_later_one() {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "b"])]);
    cluster.start(&nodes);
    cluster.run(5 * DEADTIME);
    cluster.kill(&["b"]);
    cluster.run(5 * DEADTIME);
    cluster.stops_fail.insert((node("a"), group("g")));
    cluster.fail("a", "g");
    cluster.run(5 * DEADTIME);
    cluster.kill(&["a", "c"]);
    cluster.stops_fail.clear();
    cluster.start(&["a", "b"]);
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.kill(&["a"]);
    cluster.start(&["c"]);
    cluster.run(60 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"], "{}", cluster.reason("b", "g"));
}
