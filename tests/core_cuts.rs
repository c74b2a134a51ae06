//! Cuts of single directions, and restarts amid them: real cores pass each other messages, and no group has two owners.
//!
//! Each script is the shortest known way to one fault of the past.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod core_support;

use core_support::{Cluster, DEADTIME, DRIVER, KEEPALIVE, MESSAGE, group, node};
use ha_node::core::event::Event;
use ha_node::core::{Policy, Request, Scope};
use ha_node::wire::status::Refusal;

/// Five nodes of which `z` was first and leads; group `g` runs on `m` and may run on `n`.
fn five_led_by_z() -> Cluster {
    let nodes = ["a", "m", "n", "o", "z"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["m", "n"])]);
    cluster.start(&["z"]);
    cluster.run(300);
    cluster.start(&["a", "m", "n", "o"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.leader("a").as_deref(), Some("z"));
    assert_eq!(cluster.owners("g"), ["m"]);
    cluster
}

fn move_to_n(cluster: &mut Cluster) {
    let request = Request::Move {
        group: group("g"),
        node: node("n"),
    };
    cluster.ask("m", 1, request);
    cluster.run(2 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["n"]);
}

#[test]
fn a_leader_that_was_cut_off_does_not_place_a_group_by_what_it_knew_before() {
    let mut cluster = five_led_by_z();
    cluster.part("z", &["a", "n", "o"]);
    cluster.cut("z", "m");
    cluster.run(4 * DEADTIME);
    move_to_n(&mut cluster);
    cluster.kill(&["m"]);
    cluster.part("m", &["a"]);
    cluster.mend("z", "m");
    cluster.run(50);
    cluster.start(&["m"]);
    cluster.run(6 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["n"]);
}

#[test]
fn a_leader_that_gets_other_votes_after_a_lapse_does_not_go_on_with_its_old_term() {
    let mut cluster = five_led_by_z();
    cluster.part("z", &["a", "m", "n", "o"]);
    cluster.run(2 * DEADTIME + DEADTIME / 2);
    move_to_n(&mut cluster);
    cluster.kill(&["m", "o"]);
    for restarted in ["m", "o"] {
        cluster.part(restarted, &["a"]);
        cluster.join(restarted, &["z"]);
    }
    cluster.part("m", &["n"]);
    cluster.run(KEEPALIVE);
    cluster.start(&["m", "o"]);
    cluster.run(5 * DEADTIME);
}

/// `m` is the only one that reaches all: it leads from then on, and learns from `z`, whose lease has ended, that `g` is free.
#[test]
fn of_four_nodes_the_one_that_reaches_all_leads_once_the_leader_reaches_only_it() {
    let nodes = ["a", "m", "n", "z"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["z", "a"])]);
    cluster.start(&["z"]);
    cluster.run(300);
    cluster.start(&["a", "m", "n"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.leader("a").as_deref(), Some("z"));
    assert_eq!(cluster.owners("g"), ["z"]);
    cluster.part("z", &["a", "n"]);
    cluster.run(60 * DEADTIME);
    for member in nodes {
        assert_eq!(cluster.leader(member).as_deref(), Some("m"), "{member}");
    }
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.kill(&["z"]);
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
}

#[test]
fn the_second_of_two_clearings_reaches_the_node_that_failed() {
    let nodes = ["a", "b", "c"];
    let groups: [(&str, &[&str]); 2] = [("g", &["a", "b"]), ("k", &["b", "a"])];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &groups);
    cluster.start(&nodes);
    cluster.run(4 * DEADTIME);
    for (owner, failed) in [("a", "g"), ("b", "g"), ("b", "k")] {
        cluster.fail(owner, failed);
        cluster.run(DEADTIME / 2);
    }
    assert!(cluster.owners("g").is_empty(), "it failed everywhere");
    assert_eq!(cluster.failures("b", "k")["b"], 1);
    cluster.ask("c", 1, Request::Clear(group("g")));
    cluster.ask("c", 2, Request::Clear(group("k")));
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.reply(1), Some(&Ok(())));
    assert_eq!(cluster.reply(2), Some(&Ok(())));
    for (seen_by, name) in [("a", "g"), ("b", "g"), ("a", "k"), ("b", "k")] {
        let failures = cluster.failures(seen_by, name);
        assert!(failures.is_empty(), "{seen_by} of {name}: {failures:?}");
    }
    assert_eq!(cluster.owners("g"), ["a"]);
}

#[test]
fn under_ignore_an_owner_that_is_not_heard_gives_way_to_the_one_that_took_over() {
    for offset in [0, 1, 17, 30, 50, 63, 80, 99] {
        let mut cluster = Cluster::new(Policy::Ignore, &["a", "b"], &[("g", &["a", "b"])]);
        cluster.start(&["a"]);
        cluster.run(offset);
        cluster.start(&["b"]);
        cluster.run(4 * DEADTIME);
        assert_eq!(cluster.owners("g"), ["a"]);
        cluster.two_owners_allowed = true;
        cluster.cut("a", "b");
        cluster.run_until(2 * DEADTIME, |c| c.owners("g").len() == 2);
        // The takeover is done when the driver has started the group.
        cluster.run(DRIVER);
        let both = cluster.run_until(5 * DEADTIME, |c| c.owners("g").len() == 1);
        assert!(both <= 2 * KEEPALIVE + MESSAGE + DRIVER, "for {both} ms");
        cluster.two_owners_allowed = false;
        for _ in 0..10 * DEADTIME {
            cluster.run(1);
            assert_eq!(cluster.owners("g"), ["b"]);
        }
    }
}

/// The first by name hears only one of the others, and must not keep it from following whom all of them hear.
#[test]
fn of_four_nodes_three_find_a_leader_without_the_first_one_that_only_one_of_them_hears() {
    let nodes = ["a", "b", "c", "d"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["c", "d"])]);
    cluster.start(&["a"]);
    cluster.run(300);
    cluster.start(&["b", "c", "d"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.leader("d").as_deref(), Some("a"));
    assert_eq!(cluster.owners("g"), ["c"]);
    cluster.part("a", &["c", "d"]);
    cluster.run(5 * DEADTIME);
    let leader = cluster.leader("d");
    assert!(leader.as_deref().is_some_and(|l| l != "a"), "{leader:?}");
    for member in ["b", "c"] {
        assert_eq!(cluster.leader(member), leader, "{member}");
    }
    cluster.join("a", &["c", "d"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.leader("a"), cluster.leader("d"));
}

/// Two who would lead do not hear each other, and each is heard by the same others.
#[test]
fn leaders_that_do_not_hear_each_other_do_not_outbid_each_other_at_the_speed_of_messages() {
    let nodes = ["a", "b", "x", "y"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["x", "y"])]);
    cluster.start(&["b"]);
    cluster.run(300);
    cluster.start(&["x", "y"]);
    cluster.run(4 * DEADTIME);
    cluster.start(&["a"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.leader("a").as_deref(), Some("b"));
    cluster.part("a", &["b"]);
    cluster.run(3 * DEADTIME);
    cluster.kill(&["x"]);
    cluster.cut("b", "x");
    cluster.start(&["x"]);
    cluster.run(KEEPALIVE);
    cluster.mend("b", "x");
    let before = cluster.term("y");
    cluster.run(20 * DEADTIME);
    let terms = cluster.term("y") - before;
    assert!(terms <= 25, "{terms} terms in 20 deadtimes");
    let leader = cluster.leader("y");
    assert!(
        leader.is_some() && leader == cluster.leader("x"),
        "{leader:?}"
    );
}

/// One cable of three is cut: whom the leader does not hear is not dead as long as somebody else hears it.
#[test]
fn under_ignore_an_owner_that_only_the_leader_does_not_hear_is_not_replaced() {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Ignore, &nodes, &[("g", &["c", "b", "a"])]);
    cluster.start(&nodes);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["c"]);
    cluster.part("a", &["c"]);
    cluster.run(20 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["c"]);
    cluster.kill(&["c"]);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
}

/// A stop has failed; that it is tried again when the lease ends does not make the group free for others.
#[test]
fn a_failed_stop_is_not_forgotten_while_it_is_tried_again() {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "b", "c"])]);
    cluster.start(&nodes);
    cluster.run(4 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.stops_fail.insert((node("a"), group("g")));
    cluster.fail("a", "g");
    cluster.run(DEADTIME);
    // The others hear that it tries again, and then nothing more.
    cluster.cut("b", "a");
    cluster.cut("c", "a");
    cluster.run_until(3 * DEADTIME, |c| c.leader("a").is_none());
    cluster.run(DRIVER / 2);
    cluster.part("a", &["b", "c"]);
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"], "it may still run there");
    cluster.kill(&["a"]);
    cluster.ask("b", 1, Request::Clear(group("g")));
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
}

#[test]
fn a_standby_that_nobody_can_take_over_from_is_undone() {
    for policy in [Policy::Majority, Policy::Ignore] {
        let nodes = ["a", "b", "c"];
        let mut cluster = Cluster::new(policy, &nodes, &[("g", &["a", "b"])]);
        cluster.start(&nodes);
        cluster.run(4 * DEADTIME);
        assert_eq!(cluster.owners("g"), ["a"]);
        cluster.starts_fail.insert((node("b"), group("g")));
        cluster.ask("a", 1, Request::Standby(Scope::All));
        cluster.run(4 * DEADTIME);
        let refusal = Refusal::NowhereToGo(group("g"));
        assert_eq!(cluster.reply(1), Some(&Err(refusal)));
        assert_eq!(cluster.owners("g"), ["a"], "it went back");
    }
}

/// A third node is neither heard by all nor dead: the group keeps running where it is until it is certain.
#[test]
fn a_node_in_standby_keeps_its_group_until_another_can_certainly_take_it() {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "b", "c"])]);
    cluster.start(&nodes);
    cluster.run(4 * DEADTIME);
    cluster.kill(&["c"]);
    cluster.run(DEADTIME / 2);
    cluster.ask("a", 1, Request::Standby(Scope::All));
    cluster.run(DEADTIME / 4);
    assert_eq!(cluster.owners("g"), ["a"], "c may still be alive");
    cluster.run(3 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
    assert_eq!(cluster.reply(1), Some(&Ok(())));
}

/// `a` is admitted last, and nothing changes after that. Then `c` does not hear it, and declares it dead; the leader `b` hears
/// both. By the plan under which it died `a` does not live again.
#[test]
fn the_plan_under_which_a_node_died_does_not_readmit_it() {
    let mut cluster = Cluster::new(Policy::Majority, &["a", "b", "c"], &[("g", &["b"])]);
    for name in ["b", "c", "a"] {
        cluster.start(&[name]);
        cluster.run(10 * DEADTIME);
    }
    assert_eq!(cluster.leader("c").as_deref(), Some("b"));
    let before = cluster.said.len();
    cluster.part("a", &["c"]);
    cluster.run(4 * DEADTIME);
    let deaths =
        |event: &Event| matches!(event, Event::PeerDead { .. } | Event::PeerGivenUp { .. });
    let by_c = cluster.said[before..].iter().filter(|it| it.1 == "c");
    assert_eq!(
        by_c.filter(|it| deaths(&it.2)).count(),
        1,
        "{}",
        cluster.story(30)
    );
}
