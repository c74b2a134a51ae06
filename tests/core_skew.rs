//! Nodes whose configurations differ, as they do while a person changes them one after the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod core_support;

use core_support::{Cluster, DEADTIME, KEEPALIVE, group, node};
use ha_node::core::event::Event;
use ha_node::core::{NodeSettings, Policy, Settings};
use std::collections::BTreeMap;
use std::time::Duration;

/// K1. deadtime is brought down from ten times as much; `c` has the new value already. `a` is restarted with it and
/// forgets that it had promised for longer; just then `b`, which still has the old value, is cut off.
#[test]
fn k1_a_shorter_deadtime_does_not_shorten_promises_that_were_given() {
    let long = Duration::from_millis(10 * DEADTIME);
    let old = move |settings: &mut ha_node::core::Settings| {
        settings.deadtime = long;
        settings.initdead = long;
    };
    let failback = |settings: &mut ha_node::core::Settings| {
        settings
            .groups
            .values_mut()
            .for_each(|group| group.auto_failback = true)
    };
    let mut cluster = Cluster::new(
        Policy::Majority,
        &["a", "b", "c"],
        &[("g", &["b", "a", "c"])],
    );
    cluster.tweak = Box::new(move |name, settings| {
        failback(settings);
        if name != "c" {
            old(settings);
        }
    });
    cluster.start(&["a", "b", "c"]);
    cluster.run(60 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
    // The new value is rolled out on `a`.
    cluster.tweak = Box::new(move |name, settings| {
        failback(settings);
        if name == "b" {
            old(settings);
        }
    });
    cluster.kill(&["a"]);
    cluster.part("b", &["a", "c"]);
    cluster.start(&["a"]);
    cluster.run(30 * DEADTIME);
    assert_eq!(cluster.owners("g").len(), 1);
}

/// K2. Only the leader still has the longer deadtime. It counts votes for as long as that, while the voters leave it after
/// theirs: two leaders at a time.
#[test]
fn k2_a_leader_does_not_count_votes_for_longer_than_the_voters_are_bound() {
    let nodes = ["a", "c", "d", "m", "z"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["m", "c", "a"])]);
    cluster.tweak = Box::new(|name, settings| {
        if name == "z" {
            settings.deadtime = Duration::from_millis(10 * DEADTIME);
            settings.initdead = Duration::from_millis(10 * DEADTIME);
        }
    });
    cluster.start(&["z"]);
    cluster.run(11 * DEADTIME);
    cluster.start(&["a", "c", "d", "m"]);
    cluster.run(30 * DEADTIME);
    assert_eq!(cluster.leader("a").as_deref(), Some("z"));
    // The leader is cut off from two voters, which elect another one together with a third.
    cluster.part("z", &["a", "d", "m"]);
    let mut both = 0;
    for _ in 0..20 * DEADTIME {
        cluster.run(1);
        let leads = |name: &str| cluster.leader(name).as_deref() == Some(name);
        let leaders = nodes.iter().filter(|name| leads(name)).count();
        if leaders > 1 {
            both += 1;
        }
    }
    assert_eq!(both, 0, "two elected leaders for {both} ms");
}

/// K2b. What two leaders can do: the old one places a group that was down on a node that only it and another hear.
#[test]
fn k2b_two_leaders_at_a_time_do_not_start_a_group_twice() {
    let nodes = ["a", "c", "d", "m", "z"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["c", "a"])]);
    cluster.tweak = Box::new(|name, settings| {
        if name == "z" {
            settings.deadtime = Duration::from_millis(10 * DEADTIME);
            settings.initdead = Duration::from_millis(10 * DEADTIME);
        }
    });
    cluster.start(&["z"]);
    cluster.run(11 * DEADTIME);
    cluster.start(&["a", "c", "d", "m"]);
    cluster.run(30 * DEADTIME);
    assert_eq!(cluster.leader("a").as_deref(), Some("z"));
    // Nobody may run it for now.
    cluster.ask(
        "c",
        1,
        ha_node::core::Request::Standby(ha_node::core::Scope::All),
    );
    cluster.run(DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.fail("a", "g");
    cluster.run(DEADTIME);
    assert!(cluster.owners("g").is_empty(), "{:?}", cluster.owners("g"));
    // `z` hears `c` and nobody else any more; `c` does not hear `a`; `d` and `m` hear all but `z`.
    cluster.part("z", &["a", "d", "m"]);
    cluster.part("c", &["a"]);
    cluster.run(2 * DEADTIME + DEADTIME / 2);
    // A person clears the failure at `a`, and ends the standby of `c`: each leader has a place for the group.
    cluster.ask("a", 2, ha_node::core::Request::Clear(group("g")));
    cluster.ask("c", 3, ha_node::core::Request::Online);
    cluster.run(20 * DEADTIME);
    assert!(cluster.owners("g").len() < 2);
}

/// K3. A cluster of three becomes one of five. Two nodes do not know of that yet when a cut separates them.
#[test]
fn k3_two_of_three_and_three_of_five_are_not_both_a_majority() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "c"])]);
    cluster.tweak = Box::new(|_, settings| {
        settings
            .nodes
            .retain(|name, _| ["a", "b", "c"].contains(&name.as_str()));
    });
    cluster.start(&["a", "b", "c"]);
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.tweak = Box::new(|_, _| {});
    cluster.kill(&["c"]);
    cluster.start(&["c", "d", "e"]);
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.part("a", &["c", "d", "e"]);
    cluster.part("b", &["c", "d", "e"]);
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g").len(), 1);
}

/// K5. A group is new, and its preferred node does not know it yet.
#[test]
fn k5_a_group_is_not_given_to_a_node_that_does_not_know_it() {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["b", "a"])]);
    cluster.tweak = Box::new(|name, settings| {
        if name == "b" {
            settings.groups = BTreeMap::new();
        }
    });
    cluster.start(&nodes);
    cluster.run(60 * DEADTIME);
    assert_eq!(
        cluster.owners("g"),
        ["a"],
        "a says {}",
        cluster.reason("a", "g")
    );
}

/// K7. The same for deadtime under `ignore`: `a` counts on its own ten seconds while `b` takes over after one. `a` stands
/// still for three.
#[test]
fn k7_under_ignore_a_node_that_stood_still_minds_the_deadtime_of_its_peers() {
    let mut cluster = Cluster::new(Policy::Ignore, &["a", "b"], &[("g", &["a", "b"])]);
    cluster.tweak = Box::new(|name, settings| {
        if name == "a" {
            settings.deadtime = Duration::from_millis(10 * DEADTIME);
            settings.initdead = Duration::from_millis(10 * DEADTIME);
        }
    });
    cluster.start(&["a", "b"]);
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.two_owners_allowed = true;
    cluster.pause_machine("a", 3 * DEADTIME, false);
    // Its first turn, and what an emergency stop takes.
    cluster.run(KEEPALIVE);
    assert_eq!(cluster.owners("g").len(), 1);
}

/// The file of `e` gives `d` another role, so that it counts with nobody. The four others are a majority: they run the
/// group of a node that dies, and start from cold, as if `e` were not there.
#[test]
fn a_node_that_counts_with_nobody_holds_up_nobody() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "b"])]);
    cluster.tweak = Box::new(|name, settings| {
        if name == "e" {
            let witness = NodeSettings { witness: true };
            settings.nodes.insert(node("d"), witness);
        }
    });
    cluster.start(&nodes);
    cluster.run(60 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"], "{}", cluster.reason("b", "g"));
    cluster.kill(&["a"]);
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"], "{}", cluster.reason("b", "g"));
}

/// People give `g` a longer stop margin, and begin with its owner: whoever takes over waits for as long as that one takes.
#[test]
fn the_stop_margin_of_the_owner_is_waited_for_where_the_others_do_not_know_it_yet() {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "b"])]);
    cluster.tweak = Box::new(|name, settings| {
        if name == "a" {
            let groups = settings.groups.values_mut();
            groups.for_each(|group| group.stop_margin = Some(Duration::from_secs(5)));
        }
    });
    cluster.start(&nodes);
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.stop_time.insert(node("a"), 4900);
    cluster.part("a", &["b", "c"]);
    cluster.run(5000 + 5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
}

/// `b` is the first that gets much shorter times. What `a` runs goes on, under both policies: `a` says that it lives as often
/// as `b` must hear it.
#[test]
fn much_shorter_times_can_be_rolled_out_without_a_stop() {
    let clusters: [(Policy, &[&str]); 2] = [
        (Policy::Majority, &["a", "b", "c"]),
        (Policy::Ignore, &["a", "b"]),
    ];
    for (policy, nodes) in clusters {
        let mut cluster = Cluster::new(policy, nodes, &[("g", &["a", "b"])]);
        let times = |settings: &mut Settings, keepalive, deadtime| {
            settings.keepalive = Duration::from_millis(keepalive);
            settings.deadtime = Duration::from_millis(deadtime);
            settings.initdead = Duration::from_secs(10);
        };
        cluster.tweak = Box::new(move |_, settings| times(settings, 250, 2000));
        cluster.start(nodes);
        cluster.run(20_000);
        cluster.tweak = Box::new(move |_, settings| times(settings, 50, 200));
        cluster.shut_down("b");
        cluster.run(1000);
        cluster.start(&["b"]);
        let before = cluster.said.len();
        cluster.run(20_000);
        assert_eq!(cluster.owners("g"), ["a"]);
        let stops = |event: &Event| matches!(event, Event::GroupStopping { .. });
        let stopped = cluster.said[before..].iter().any(|it| stops(&it.2));
        assert!(!stopped, "{policy:?}: {}", cluster.story(20));
    }
}
