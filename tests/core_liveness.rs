//! Cuts that stay: whoever is left with a majority in contact must go on without those that only half of the cluster,
//! or nobody, can talk to. (Design, invariant 3: if some member can run a group and the network is quiet, it runs.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod core_support;

use core_support::{Cluster, DEADTIME, group, node};
use ha_node::core::{Policy, Request};

/// Far more than any bound that the simulator sets.
const LONG: u64 = 60 * DEADTIME;

fn settled(policy: Policy, nodes: &[&str], first: &str, groups: &[(&str, &[&str])]) -> Cluster {
    let mut cluster = Cluster::new(policy, nodes, groups);
    cluster.tweak = Box::new(|_, settings| {
        settings
            .groups
            .values_mut()
            .for_each(|group| group.auto_failback = true)
    });
    cluster.start(&[first]);
    cluster.run(300);
    let rest: Vec<&str> = nodes.iter().copied().filter(|n| *n != first).collect();
    cluster.start(&rest);
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.leader(nodes[0]).as_deref(), Some(first));
    cluster
}

/// S1. A firewall on `c` drops what comes in on port 694: `c` hears nobody, all hear `c`. Its lease ends, it stops `g`.
#[test]
fn s1_the_group_of_a_node_that_hears_nobody_goes_to_the_others() {
    let mut cluster = settled(
        Policy::Majority,
        &["a", "b", "c"],
        "a",
        &[("g", &["c", "a", "b"])],
    );
    assert_eq!(cluster.owners("g"), ["c"]);
    cluster.deafen("c");
    cluster.run(LONG);
    assert_eq!(
        cluster.owners("g").len(),
        1,
        "down for {} deadtimes: a says {}",
        LONG / DEADTIME,
        cluster.reason("a", "g")
    );
}

/// S2. The same firewall on a node that runs nothing, `e`; later the leader dies. Three healthy nodes of five are in full
/// contact.
#[test]
fn s2_a_deaf_node_that_runs_nothing_does_not_hold_up_the_failover_of_others() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut cluster = settled(Policy::Majority, &nodes, "a", &[("g", &["a", "b", "c"])]);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.deafen("e");
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["a"]);
    cluster.kill(&["a"]);
    cluster.run(LONG);
    assert_eq!(
        cluster.owners("g"),
        ["b"],
        "leader {:?}, b says {}",
        cluster.leader("b"),
        cluster.reason("b", "g")
    );
}

/// S2b. The leader itself becomes deaf; then the owner of a group, another node, dies.
#[test]
fn s2b_a_deaf_former_leader_does_not_hold_up_the_failover_of_others() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut cluster = settled(Policy::Majority, &nodes, "a", &[("g", &["b", "c", "d"])]);
    assert_eq!(cluster.owners("g"), ["b"]);
    cluster.deafen("a");
    cluster.run(10 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
    cluster.kill(&["b"]);
    cluster.run(LONG);
    assert_eq!(
        cluster.owners("g"),
        ["c"],
        "leader {:?}, c says {}",
        cluster.leader("c"),
        cluster.reason("c", "g")
    );
}

/// S3. One pair of three nodes cannot talk to each other from the beginning (a wrong address in one `ucast`, a firewall
/// rule): the third hears both and is heard by both.
fn one_pair_cannot_talk(policy: Policy) {
    let nodes = ["a", "b", "c"];
    let mut cluster = Cluster::new(policy, &nodes, &[("g", &["b", "a"])]);
    cluster.part("a", &["c"]);
    cluster.start(&nodes);
    cluster.run(LONG);
    assert_eq!(
        cluster.owners("g"),
        ["b"],
        "leaders {:?} {:?} {:?}, b says {}, c says {}",
        cluster.leader("a"),
        cluster.leader("b"),
        cluster.leader("c"),
        cluster.reason("b", "g"),
        cluster.reason("c", "g")
    );
}

#[test]
fn s3_one_pair_that_cannot_talk_does_not_keep_a_cluster_from_starting() {
    one_pair_cannot_talk(Policy::Majority);
}

#[test]
fn s3i_the_same_under_ignore() {
    one_pair_cannot_talk(Policy::Ignore);
}

/// S3b. The pair loses its cable while all is well, and weeks later the node between them is restarted by a reboot.
#[test]
fn s3b_one_pair_that_cannot_talk_and_a_reboot_of_the_third_node_do_not_stop_everything() {
    let nodes = ["a", "b", "c"];
    let groups: [(&str, &[&str]); 2] = [("g", &["b", "a"]), ("k", &["a", "b"])];
    let mut cluster = settled(Policy::Majority, &nodes, "a", &groups);
    cluster.part("a", &["c"]);
    cluster.run(10 * DEADTIME);
    assert_eq!(
        (cluster.owners("g"), cluster.owners("k")),
        (vec!["b"], vec!["a"])
    );
    cluster.kill(&["b"]);
    cluster.run(3 * DEADTIME);
    cluster.start(&["b"]);
    cluster.run(LONG);
    assert_eq!(
        (cluster.owners("g").len(), cluster.owners("k").len()),
        (1, 1),
        "leaders {:?} {:?} {:?}, a says {} / {}",
        cluster.leader("a"),
        cluster.leader("b"),
        cluster.leader("c"),
        cluster.reason("a", "g"),
        cluster.reason("a", "k")
    );
}

/// S3c. The same in a cluster of five: one pair of ten. Nothing is down but that pair's cable.
#[test]
fn s3c_one_pair_of_ten_does_not_keep_a_cluster_of_five_from_starting() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["b", "c"])]);
    cluster.part("a", &["e"]);
    cluster.start(&nodes);
    cluster.run(LONG);
    assert_eq!(
        cluster.owners("g"),
        ["b"],
        "leaders {:?} {:?} {:?}, a says {}",
        cluster.leader("a"),
        cluster.leader("b"),
        cluster.leader("e"),
        cluster.reason("a", "g")
    );
}

/// S6. A stop failed on `a`, which then burned. A person clears that while `c` is down for repair. `c` comes back with what
/// it has on disk.
#[test]
fn s6_a_node_that_was_down_when_a_person_cleared_a_group_does_not_block_it_again() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut cluster = settled(Policy::Majority, &nodes, "a", &[("g", &["a", "b", "d"])]);
    cluster.stops_fail.insert((node("a"), group("g")));
    cluster.fail("a", "g");
    cluster.run(DEADTIME);
    cluster.kill(&["c"]);
    cluster.kill(&["a"]);
    cluster.run(5 * DEADTIME);
    assert!(cluster.owners("b").is_empty());
    cluster.ask("b", 1, Request::Clear(group("g")));
    cluster.run(5 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"]);
    cluster.start(&["c"]);
    cluster.run(10 * DEADTIME);
    cluster.kill(&["b"]);
    cluster.run(LONG);
    let leader = cluster.leader("d").unwrap();
    assert_eq!(
        cluster.owners("g"),
        ["d"],
        "leader {leader} says {}",
        cluster.reason(&leader, "g")
    );
}

/// S7. One direction is dead from the start: `a` gets genuine packets of `b`, which never name it. People must be told that
/// it is a direction, not a machine.
#[test]
fn s7_a_peer_that_is_heard_but_never_hears_us_is_told_as_such() {
    use ha_node::core::event::Event;
    let mut cluster = Cluster::new(Policy::Majority, &["a", "b", "c"], &[("g", &["a", "b"])]);
    cluster.cut("a", "b");
    cluster.start(&["a", "b", "c"]);
    cluster.run(10 * DEADTIME);
    let told = cluster.said.iter().any(|(_, who, event)| {
        who == "a" && matches!(event, Event::NotHeardBy { peer } if peer.as_str() == "b")
    });
    assert!(told, "{}", cluster.story(30));
}

/// `a` hears everybody, and of all others only `b` hears `a`. The four others are a majority in full contact: what `b` alone may
/// run is run, since `a` does not count those as its own that do not hear it.
#[test]
fn who_hears_all_and_is_heard_by_one_leads_nobody() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["b"]), ("h", &["e"])]);
    for other in ["c", "d", "e"] {
        cluster.cut("a", other);
    }
    cluster.start(&nodes);
    cluster.run(20 * DEADTIME);
    assert_eq!(cluster.owners("g"), ["b"], "{}", cluster.reason("b", "g"));
    assert_eq!(cluster.owners("h"), ["e"], "{}", cluster.reason("e", "h"));
    assert_ne!(cluster.leader("b").as_deref(), Some("a"));
}
