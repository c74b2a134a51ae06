//! What differs between two moments, and only that, is sent.

use super::*;
use crate::core::Instant;
use crate::core::view::NodeState;
use crate::dbus::snapshot::ResourceSnapshot;
use crate::ids::{ClusterName, Generation, Term};
use std::time::Duration;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn web() -> GroupName {
    GroupName::new("web").unwrap()
}

fn node_view(links: BTreeMap<LinkId, bool>) -> NodeView {
    NodeView {
        state: NodeState::Active,
        generation: Some(Generation(4)),
        standby: false,
        config_hash: Some(0xbeef),
        differs: [].into(),
        last_heard: Some(Instant::from_nanos(2_000_000_000)),
        links,
        witness: false,
    }
}

/// Two nodes, one group, one link.
pub(crate) fn example() -> Snapshot {
    let (alpha, beta) = (node("alpha"), node("db-2"));
    let group = GroupView {
        state: GroupCondition::Started,
        owner: Some(alpha.clone()),
        since: Instant::from_nanos(1_000_000_000),
        reason: "preferred".to_owned(),
        preferred: vec![alpha.clone(), beta.clone()],
        local: GroupState::Started,
        failures: BTreeMap::from([(beta.clone(), 2)]),
    };
    Snapshot {
        view: View {
            local_node: alpha.clone(),
            generation: Generation(5),
            phase: Phase::Active,
            term: Some(Term {
                number: 3,
                leader: alpha.clone(),
                generation: Generation(5),
            }),
            has_leader: true,
            quorate: true,
            protection: Protection::Majority,
            nodes: BTreeMap::from([
                (alpha, node_view(BTreeMap::new())),
                (beta.clone(), node_view(BTreeMap::from([(LinkId(0), true)]))),
            ]),
            groups: BTreeMap::from([(web(), group)]),
        },
        cluster: ClusterName::new("prod").unwrap(),
        version: "1.2.3".to_owned(),
        clock: ClockOffset::new(Instant::from_nanos(0), Duration::from_secs(1000)),
        deafness: None,
        links: vec![LinkSnapshot {
            kind: "ucast",
            interface: Some("eth1".to_owned()),
            label: "eth1".to_owned(),
            peers: BTreeMap::from([(beta, true)]),
            sent: 10,
            received: 9,
            rejected: 1,
        }],
        resources: BTreeMap::from([(
            web(),
            vec![ResourceSnapshot {
                id: "vip:10.0.0.1".to_owned(),
                kind: "vip",
                state: "started",
            }],
        )]),
    }
}

#[test]
fn nothing_differs_from_itself() {
    let model = Model::of(&example());
    assert_eq!(model.changes_since(&model.clone()), []);
}

#[test]
fn one_signal_for_each_object_with_only_what_differs() {
    let before = Model::of(&example());
    let mut snapshot = example();
    snapshot.view.quorate = false;
    let group = snapshot.view.groups.get_mut(&web()).unwrap();
    group.state = GroupCondition::Stopping;
    group.local = GroupState::Stopping;
    let text = |text: &str| Value::Text(text.to_owned());
    let cluster = Change {
        path: "/org/linuxha/Cluster".to_owned(),
        interface: CLUSTER,
        changed: vec![
            ("State", text("no-quorum")),
            ("Quorate", Value::Flag(false)),
        ],
    };
    let group = Change {
        path: "/org/linuxha/Cluster/group/web".to_owned(),
        interface: GROUP,
        changed: vec![
            ("State", text("stopping")),
            ("LocalState", text("stopping")),
        ],
    };
    assert_eq!(
        Model::of(&snapshot).changes_since(&before),
        [cluster, group]
    );
}

#[test]
fn counters_can_be_held_back_and_then_tell_their_newest_value() {
    let before = Model::of(&example());
    let mut snapshot = example();
    snapshot.links[0].sent = 99;
    let beta = snapshot.view.nodes.get_mut(&node("db-2")).unwrap();
    beta.last_heard = Some(Instant::from_nanos(3_000_000_000));
    let after = Model::of(&snapshot);
    let held = after.clone().with_counters_of(&before);
    assert_eq!(held.changes_since(&before), []);
    let changed: Vec<_> = (after.changes_since(&held).into_iter())
        .flat_map(|it| it.changed)
        .collect();
    assert_eq!(
        changed,
        [
            ("Sent", Value::Number(99)),
            ("LastHeard", Value::Number(1_003_000_000))
        ]
    );
}

#[test]
fn objects_that_only_one_side_has_are_no_property_changes() {
    let mut smaller = Model::of(&example());
    smaller.groups.clear();
    assert_eq!(Model::of(&example()).changes_since(&smaller), []);
}

#[test]
fn the_state_names_the_gravest_trouble() {
    let state = |change: fn(&mut View)| {
        let mut snapshot = example();
        change(&mut snapshot.view);
        Model::of(&snapshot).cluster.state
    };
    assert_eq!(state(|_| {}), "stable");
    assert_eq!(state(|view| view.phase = Phase::Init), "starting");
    assert_eq!(state(|view| view.phase = Phase::Up), "starting");
    assert_eq!(
        state(|view| (view.quorate, view.has_leader) = (false, false)),
        "no-quorum"
    );
    assert_eq!(state(|view| view.has_leader = false), "no-leader");
    let starting = |view: &mut View| {
        view.groups
            .values_mut()
            .for_each(|it| it.state = GroupCondition::Starting);
    };
    assert_eq!(state(starting), "transition");
}

#[test]
fn a_leader_without_contact_is_none() {
    let mut snapshot = example();
    snapshot.view.has_leader = false;
    assert_eq!(Model::of(&snapshot).cluster.leader, "");
}
