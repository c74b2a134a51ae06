//! How long a heartbeat and a stored state can get, and how short a heartbeat is at rest.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod wire_support;

use ha_node::config::GROUPS_MAX;
use ha_node::core::Persistent;
use ha_node::ids::{ClusterName, Generation, GroupName, NodeName, PlanVersion, Sequence};
use ha_node::node::Options;
use ha_node::state::State;
use ha_node::wire::PACKET_SENT_MAX;
use ha_node::wire::brief::Exchange;
use ha_node::wire::codec::{SenderFacts, encode};
use ha_node::wire::keys::Keys;
use ha_node::wire::size::packet_length_max;
use ha_node::wire::status::{
    Assignment, Fitness, GroupReport, GroupState, Heard, Phase, Plan, Profile, Report, Status,
};
use proptest::collection::btree_set;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const FACTS: SenderFacts<'static> = SenderFacts {
    timestamp_unix_secs: 1_700_000_000,
    loadavg: "0.00 0.00 0.00 1/100 1",
    ttl: 3,
};

fn keys() -> Keys {
    Keys::parse("auth 1\n1 sha256 0123456789abcdef0123456789abcdef\n").unwrap()
}

fn nodes(count: usize) -> Vec<NodeName> {
    (0..count)
        .map(|i| NodeName::new(&format!("server-{i:05}")).unwrap())
        .collect()
}

fn groups(count: usize) -> Vec<GroupName> {
    (0..count)
        .map(|i| GroupName::new(&format!("group-{i:06}")).unwrap())
        .collect()
}

/// The first node, heard by all, with all groups in the same state.
fn status(nodes: &[NodeName], groups: &[GroupName], of_each: GroupReport) -> Status {
    let heard = Heard {
        generation: Generation(1_700_000_000),
        sequence: Sequence(1000),
        promise: true,
    };
    Status {
        cluster: ClusterName::new("example").unwrap(),
        node: nodes[0].clone(),
        generation: Generation(1_700_000_000),
        sequence: Sequence(1000),
        phase: Phase::Active,
        deadtime: Duration::from_secs(2),
        heard: nodes.iter().map(|node| (node.clone(), heard)).collect(),
        asks: BTreeSet::new(),
        term: None,
        floor: None,
        electable: true,
        reach: 1,
        led: true,
        returning: false,
        voting: true,
        report: Report {
            version: PlanVersion(3),
            groups: groups.iter().map(|g| (g.clone(), of_each)).collect(),
            ..Report::default()
        },
        plan: None,
        request: None,
        config_hash: 1,
        profile: Profile {
            members: nodes.iter().map(|node| (node.clone(), false)).collect(),
            ..Profile::default()
        },
    }
}

/// All stops of the first start have failed on every node: the same agent is missing everywhere, or systemd was away.
fn all_blocked(nodes: &[NodeName], groups: &[GroupName]) -> Status {
    let blocked = GroupReport {
        state: GroupState::Blocked,
        failures: 1,
        fitness: Fitness::Unfit,
        pinned: false,
    };
    let mut status = status(nodes, groups, blocked);
    status.report.blocked = all_claims(nodes, groups);
    status
}

fn all_claims(nodes: &[NodeName], groups: &[GroupName]) -> BTreeSet<(GroupName, NodeName)> {
    groups
        .iter()
        .flat_map(|group| nodes.iter().map(move |node| (group.clone(), node.clone())))
        .collect()
}

#[test]
fn all_groups_blocked_on_all_nodes_fit_where_the_start_accepts_them() {
    let cluster = ClusterName::new("example").unwrap();
    let sizes = [
        (3, 100),
        (3, GROUPS_MAX),
        (5, GROUPS_MAX),
        (8, 256),
        (16, 128),
        (32, 80),
        (32, 200),
        (32, 480),
        (2, 700),
    ];
    for (n, g) in sizes {
        let (nodes, groups) = (nodes(n), groups(g));
        let bound = packet_length_max(&cluster, &nodes, &groups).unwrap();
        let length = encode(&all_blocked(&nodes, &groups), &keys(), &FACTS).len();
        println!("{n} nodes, {g} groups: at most {bound}, all blocked {length}");
        assert!(bound <= PACKET_SENT_MAX, "{n} nodes, {g} groups: {bound}");
        assert!(length <= bound, "{n} nodes, {g} groups: {length} > {bound}");
    }
}

/// A configuration of one node with as many groups as there may be.
fn read_config(name_length: usize) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ha-node.toml");
    let groups = (0..GROUPS_MAX).map(|at| {
        let name = format!("g{at:0>width$}", width = name_length - 1);
        format!("[[group]]\nname = \"{name}\"\nresources = [{{ unit = \"u{at}.service\" }}]\n")
    });
    std::fs::write(&path, groups.collect::<String>()).unwrap();
    let options = Options {
        config: Some(path),
        state: directory.path().to_owned(),
    };
    let read = options.read().map(|_| ());
    read.map_err(|error| error.to_string())
}

#[test]
fn names_that_no_datagram_could_hold_are_refused_at_the_start() {
    assert_eq!(read_config(20), Ok(()));
    let refused = read_config(99).unwrap_err();
    let says = "bytes long, and a datagram holds 65507: use fewer groups, or shorter names";
    assert!(refused.contains(says), "{refused}");
}

#[test]
fn a_state_that_was_stored_is_read_again_however_much_is_blocked() {
    for n in [2, 3, 5, 32] {
        let directory = tempfile::tempdir().unwrap();
        let (state, first, _) = State::open(directory.path(), 1_700_000_000).unwrap();
        let stored = Persistent {
            standby: true,
            blocked: all_claims(&nodes(n), &groups(GROUPS_MAX)),
            ..first
        };
        state.store(&stored).unwrap();
        let (_, next, warnings) = State::open(directory.path(), 1_700_000_000).unwrap();
        assert!(warnings.is_empty(), "{n} nodes: {warnings:?}");
        assert!(next.standby && next.blocked == stored.blocked, "{n} nodes");
        assert_eq!(next.generation, stored.generation.next());
    }
}

/// 14,376 bytes were said each keepalive when every heartbeat was whole.
#[test]
fn a_heartbeat_at_rest_does_not_grow_with_the_groups() {
    let (nodes, groups) = (nodes(2), groups(500));
    let running = GroupReport {
        state: GroupState::Started,
        ..GroupReport::default()
    };
    let mut status = status(&nodes, &groups, running);
    let run = Assignment::Run {
        node: nodes[0].clone(),
        pinned: false,
    };
    status.plan = Some(Plan {
        version: PlanVersion(3),
        members: nodes.iter().map(|n| (n.clone(), PlanVersion(1))).collect(),
        groups: groups.iter().map(|g| (g.clone(), run.clone())).collect(),
        expelled: [].into(),
        answers: [].into(),
    });
    let mut exchange = Exchange::default();
    let mut lengths = Vec::new();
    for _ in 0..1000 {
        status.sequence = status.sequence.next();
        lengths.push(exchange.encode(&status, &keys(), &FACTS).len());
    }
    let mean = lengths.iter().sum::<usize>() / lengths.len();
    let (whole, brief) = (lengths.iter().max().unwrap(), lengths.iter().min().unwrap());
    println!("whole {whole}, brief {brief}, {mean} on average");
    assert!(*brief < 700 && mean < 1400, "{brief}, {mean}");
}

/// A cluster's names, and anything that one of its nodes can say.
fn cluster_and_status() -> impl Strategy<Value = (Vec<NodeName>, Vec<GroupName>, Status)> {
    let name = "[a-z][a-z0-9._-]{0,20}|[a-z][a-z0-9._-]{98}";
    let names = (btree_set(name, 1..=32), btree_set(name, 0..30));
    names.prop_flat_map(|(nodes, groups)| {
        let nodes: Vec<_> = nodes.iter().map(|n| NodeName::new(n).unwrap()).collect();
        let groups: Vec<_> = groups.iter().map(|g| GroupName::new(g).unwrap()).collect();
        let status = wire_support::status_in(nodes.clone(), groups.clone());
        (Just(nodes), Just(groups), status)
    })
}

proptest! {
    #[test]
    fn no_heartbeat_is_longer_than_foretold((nodes, groups, status) in cluster_and_status()) {
        let foretold = packet_length_max(&status.cluster, &nodes, &groups).unwrap();
        let keys = Keys::parse("auth 15\n15 sha512 secret\n").unwrap();
        let facts = SenderFacts {
            timestamp_unix_secs: u64::MAX,
            loadavg: &"1".repeat(100),
            ttl: 33,
        };
        let whole = encode(&status, &keys, &facts).len();
        prop_assert!(whole <= foretold, "{whole} > {foretold}");
    }
}
