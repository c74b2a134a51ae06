//! Daemons that are restarted while no vote can be spared. The next life knows what the one before it has said, and goes on
//! from there: nothing is stopped. Where that is not certain, it keeps silent for as long as promises may last.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod core_support;

use core_support::{Cluster, DEADTIME, KEEPALIVE, node};
use ha_node::core::event::Event;
use ha_node::core::{Inheritance, Policy, Settings};
use ha_node::ids::Generation;
use ha_node::wire::status::{DeadReport, Status};
use std::time::Duration;

/// How long a daemon is away.
const AWAY: u64 = 50;

/// Ends the daemons of these nodes, and starts them anew after a moment; `change` is made to what each had said last.
fn restart_with(cluster: &mut Cluster, names: &[&str], change: impl Fn(&mut Status)) {
    let died: Vec<_> = (names.iter())
        .map(|name| (*name, cluster.daemon_dies(name)))
        .collect();
    cluster.run(AWAY);
    for (name, (until, groups, words)) in died {
        let words = words.map(|mut words| {
            change(&mut words);
            words
        });
        let inheritance = Inheritance {
            until,
            groups,
            words,
            ..Inheritance::default()
        };
        cluster.start_heir(name, inheritance);
    }
}

fn restart(cluster: &mut Cluster, names: &[&str]) {
    restart_with(cluster, names, |_| {});
}

/// A cluster by the default times, or by those of most scripts.
fn cluster(nodes: &[&str], able: &[&str], default_times: bool) -> Cluster {
    let mut cluster = Cluster::new(Policy::Majority, nodes, &[("g", able)]);
    if default_times {
        cluster.tweak = Box::new(|_, settings: &mut Settings| {
            settings.keepalive = Duration::from_millis(250);
            settings.deadtime = Duration::from_secs(2);
            settings.initdead = Duration::from_secs(10);
        });
    }
    cluster.start(nodes);
    cluster.run(20_000);
    assert_eq!(cluster.owners("g"), [able[0]]);
    cluster
}

/// Milliseconds in which nobody runs the group.
fn down(cluster: &mut Cluster, milliseconds: u64) -> u64 {
    let mut down = 0;
    for _ in 0..milliseconds {
        cluster.run(1);
        down += u64::from(cluster.owners("g").is_empty());
    }
    down
}

/// `a` is away for repair, `b` runs the group, and the daemon of `c`, or `b`, is restarted.
#[test]
fn a_restart_disturbs_nothing_while_another_node_is_away() {
    for (default_times, restarted) in [(false, "b"), (false, "c"), (true, "b"), (true, "c")] {
        let mut cluster = cluster(&["a", "b", "c"], &["b", "c"], default_times);
        cluster.kill(&["a"]);
        cluster.run(60_000);
        assert_eq!(cluster.owners("g"), ["b"]);
        let before = cluster.said.len();
        restart(&mut cluster, &[restarted]);
        assert_eq!(down(&mut cluster, 40_000), 0, "{}", cluster.story(20));
        let stops = |event: &Event| matches!(event, Event::GroupStopping { .. });
        let stopped = cluster.said[before..].iter().any(|it| stops(&it.2));
        assert!(!stopped, "{}", cluster.story(20));
    }
}

/// Both nodes that promise something to the owner are restarted at once.
#[test]
fn a_restart_of_two_at_once_disturbs_nothing() {
    let mut cluster = cluster(&["a", "b", "c"], &["a", "b"], false);
    restart(&mut cluster, &["b", "c"]);
    assert_eq!(
        down(&mut cluster, 20 * DEADTIME),
        0,
        "{}",
        cluster.story(20)
    );
}

/// Who was dead stays so: the group need not wait for a node that has been away for long.
#[test]
fn a_restarted_daemon_knows_who_is_dead() {
    let mut cluster = cluster(&["a", "b", "c", "d"], &["b", "c"], true);
    cluster.kill(&["a"]);
    cluster.run(20_000);
    restart(&mut cluster, &["b"]);
    cluster.run(3000);
    cluster.fail("b", "g");
    assert!(down(&mut cluster, 20_000) < 500, "{}", cluster.story(30));
    assert_eq!(cluster.owners("g"), ["c"]);
}

/// A fourth node is added: on one node after the other, the new one last.
#[test]
fn a_node_can_be_added_without_a_stop() {
    for order in [["a", "b", "c"], ["b", "c", "a"], ["c", "b", "a"]] {
        let nodes = ["a", "b", "c", "d"];
        let mut cluster = Cluster::new(Policy::Majority, &nodes, &[("g", &["a", "b"])]);
        cluster.tweak = Box::new(|_, settings| {
            settings.nodes.remove(&node("d"));
        });
        cluster.start(&["a", "b", "c"]);
        cluster.run(5 * DEADTIME);
        cluster.tweak = Box::new(|_, _| {});
        for name in order {
            restart(&mut cluster, &[name]);
            assert_eq!(down(&mut cluster, 10 * DEADTIME), 0, "{order:?}");
        }
        cluster.start(&["d"]);
        assert_eq!(down(&mut cluster, 10 * DEADTIME), 0, "{order:?}");
        assert_eq!(cluster.owners("g"), ["a"]);
    }
}

/// What `c` says in its first heartbeats, after this was done to what it had said last.
fn first_words(change: impl Fn(&mut Status)) -> Box<Status> {
    let mut cluster = cluster(&["a", "b", "c"], &["b", "c"], false);
    cluster.kill(&["a"]);
    cluster.run(10 * DEADTIME);
    restart_with(&mut cluster, &["c"], change);
    cluster.run(1);
    let (_, _, words) = cluster.daemon_dies("c");
    words.unwrap()
}

#[test]
fn it_votes_at_once_and_knows_whom_it_had_declared_dead_and_followed() {
    let words = first_words(|_| {});
    assert!(words.voting);
    let dead = DeadReport {
        generation: Generation(1),
        heard_again: false,
    };
    assert_eq!(words.report.dead.get(&node("a")), Some(&dead));
    assert!(words.floor.is_some(), "it follows no earlier term");
}

#[test]
fn words_that_are_not_the_last_of_the_earlier_life_or_do_not_bind_it_count_for_nothing() {
    type Change = fn(&mut Status);
    let changes: [(&str, Change); 6] = [
        ("of an older life", |words| words.generation = Generation(0)),
        ("of a later life", |words| words.generation = Generation(2)),
        ("of another node", |words| words.node = node("b")),
        ("of one that kept silent", |words| words.voting = false),
        ("bound for longer", |words| {
            words.deadtime = Duration::from_millis(2 * DEADTIME);
        }),
        ("of another cluster", |words| {
            words.profile.members.insert(node("x"), false);
            words.profile.members.insert(node("y"), false);
        }),
    ];
    for (what, change) in changes {
        let words = first_words(change);
        assert!(!words.voting, "{what}");
        assert!(words.report.dead.is_empty(), "{what}");
    }
}

/// `c` does not hear `a` and has declared it dead, which the leader `b` does not think. Whom the earlier life had declared
/// dead is not readmitted by the plan that it had followed then.
#[test]
fn who_was_dead_is_readmitted_by_a_later_plan_only() {
    for heals in [false, true] {
        let mut cluster = Cluster::new(Policy::Majority, &["a", "b", "c"], &[("g", &["b", "c"])]);
        cluster.start(&["b"]);
        cluster.run(300);
        cluster.start(&["a", "c"]);
        cluster.run(10 * DEADTIME);
        assert_eq!(cluster.leader("c").as_deref(), Some("b"));
        cluster.part("a", &["c"]);
        cluster.run(2 * DEADTIME);
        if heals {
            cluster.join("a", &["c"]);
        }
        restart(&mut cluster, &["c"]);
        cluster.run(if heals { 20 * DEADTIME } else { 5 * KEEPALIVE });
        assert_eq!(cluster.leader("c").as_deref(), Some("b"));
        let (_, _, words) = cluster.daemon_dies("c");
        let dead = words.unwrap().report.dead.contains_key(&node("a"));
        assert_eq!(dead, !heals);
    }
}
