//! How long a heartbeat can get, so that a configuration that no datagram could carry is refused at the start.

use super::auth::{Key, Method};
use super::body::Encoded;
use super::codec::{SenderFacts, message};
use super::netstring;
use super::status::{
    Answer, Assignment, DeadReport, Fitness, ForwardedRequest, GroupReport, GroupState, Heard,
    Phase, Plan, Policy, Profile, Refusal, Report, Status, Wish,
};
use crate::ids::{
    ClusterName, Generation, GroupName, NAME_LENGTH_MAX, NodeName, PlanVersion, RequestId,
    Sequence, Term,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// An upper bound of a packet's length in bytes, whatever happens in a cluster of these nodes and groups.
///
/// All numbers are taken at their largest, every group as failed, and blocked on every node; names that need not be of this
/// configuration, in what others say and people ask for, at their longest. A configuration for which this is above [`PACKET_SENT_MAX`](super::PACKET_SENT_MAX) has too many groups, or too long names. `None` without nodes.
pub fn packet_length_max(
    cluster: &ClusterName,
    nodes: &[NodeName],
    groups: &[GroupName],
) -> Option<usize> {
    let node = nodes.iter().max_by_key(|node| node.as_str().len())?;
    let any_node = NodeName::new(&"n".repeat(NAME_LENGTH_MAX)).ok()?;
    let any_group = GroupName::new(&"g".repeat(NAME_LENGTH_MAX)).ok()?;
    let term = |number| Term {
        number,
        leader: any_node.clone(),
        generation: Generation(u64::MAX),
    };
    let largest = Status {
        cluster: cluster.clone(),
        node: node.clone(),
        generation: Generation(u64::MAX),
        sequence: Sequence(u64::MAX),
        phase: Phase::Active,
        deadtime: Duration::MAX,
        heard: nodes
            .iter()
            .cloned()
            .map(|node| (node, LARGEST_HEARD))
            .collect(),
        asks: nodes.iter().cloned().collect(),
        term: Some(term(u64::MAX)),
        floor: Some(term(u64::MAX - 1)),
        electable: true,
        reach: u32::MAX,
        led: true,
        returning: true,
        voting: true,
        report: largest_report(nodes, groups),
        plan: Some(largest_plan(node, nodes, groups, (&any_group, &any_node))),
        request: Some(ForwardedRequest {
            id: RequestId(u64::MAX),
            wish: Wish::Move {
                group: any_group,
                node: any_node,
            },
        }),
        config_hash: u64::MAX,
        profile: Profile {
            policy: Policy::Majority,
            keepalive: Duration::MAX,
            members: nodes.iter().cloned().map(|node| (node, true)).collect(),
            groups: u64::MAX,
            stop_margin: Duration::MAX,
        },
    };
    let mut message = message(&largest, Encoded::of(&largest), &LARGEST_FACTS);
    let key = Key::new(super::auth::KEY_NUMBER_MAX, Method::Sha512, b"");
    message.sign(&key);
    Some(netstring::seal(&message, Some(&key)).len())
}

const LARGEST_FACTS: SenderFacts<'static> = SenderFacts {
    timestamp_unix_secs: u64::MAX,
    loadavg: "longer than any line that Linux has, and than what is sent of one",
    ttl: u32::MAX,
};

const LARGEST_HEARD: Heard = Heard {
    generation: Generation(u64::MAX),
    sequence: Sequence(u64::MAX),
    promise: true,
};

const LARGEST_DEAD: DeadReport = DeadReport {
    generation: Generation(u64::MAX),
    heard_again: true,
};

const LARGEST_GROUP: GroupReport = GroupReport {
    state: GroupState::Blocked,
    failures: u32::MAX,
    fitness: Fitness::Unfit,
    pinned: true,
};

fn largest_report(nodes: &[NodeName], groups: &[GroupName]) -> Report {
    let everywhere: BTreeSet<_> = groups
        .iter()
        .cloned()
        .flat_map(|group| nodes.iter().map(move |node| (group.clone(), node.clone())))
        .collect();
    Report {
        version: PlanVersion(u64::MAX),
        groups: groups
            .iter()
            .cloned()
            .map(|group| (group, LARGEST_GROUP))
            .collect(),
        dead: nodes
            .iter()
            .cloned()
            .map(|node| (node, LARGEST_DEAD))
            .collect(),
        standby: true,
        leaving: true,
        blocked: everywhere.clone(),
        cleared: everywhere,
        lives: nodes
            .iter()
            .cloned()
            .map(|node| (node, (Generation(u64::MAX), Sequence(u64::MAX))))
            .collect(),
    }
}

fn largest_plan(
    node: &NodeName,
    nodes: &[NodeName],
    groups: &[GroupName],
    asked_for: (&GroupName, &NodeName),
) -> Plan {
    let refusal = Refusal::NotAllowedThere {
        group: asked_for.0.clone(),
        node: asked_for.1.clone(),
    };
    let answer = Answer {
        generation: Generation(u64::MAX),
        id: RequestId(u64::MAX),
        refusal: Some(refusal),
    };
    let run = Assignment::Run {
        node: node.clone(),
        pinned: true,
    };
    Plan {
        version: PlanVersion(u64::MAX),
        members: nodes
            .iter()
            .cloned()
            .map(|node| (node, PlanVersion(u64::MAX)))
            .collect(),
        groups: groups
            .iter()
            .cloned()
            .map(|group| (group, run.clone()))
            .collect(),
        expelled: nodes.iter().cloned().collect(),
        answers: nodes
            .iter()
            .cloned()
            .map(|node| (node, answer.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{NODES_MAX, PACKET_SENT_MAX};

    fn length(nodes: usize, groups: usize) -> usize {
        let name = |index| format!("name-{index:07}");
        let nodes: Vec<_> = (0..nodes)
            .map(|i| NodeName::new(&name(i)).unwrap())
            .collect();
        let groups: Vec<_> = (0..groups)
            .map(|i| GroupName::new(&name(i)).unwrap())
            .collect();
        packet_length_max(&ClusterName::new("example").unwrap(), &nodes, &groups).unwrap()
    }

    #[test]
    fn what_people_configure_fits_into_a_datagram() {
        assert!(length(2, 20) < 4500, "{}", length(2, 20));
        assert!(length(2, 700) < PACKET_SENT_MAX, "{}", length(2, 700));
        assert!(
            length(NODES_MAX, 480) < PACKET_SENT_MAX,
            "{}",
            length(NODES_MAX, 480)
        );
        assert!(length(2, 1500) > PACKET_SENT_MAX);
        let cluster = ClusterName::new("example").unwrap();
        assert_eq!(packet_length_max(&cluster, &[], &[]), None);
        assert!(LARGEST_FACTS.loadavg.len() >= super::super::codec::LOADAVG_LENGTH_MAX);
    }

    #[test]
    fn no_answer_is_longer_than_the_largest() {
        let group = GroupName::new("g").unwrap();
        let node = NodeName::new("n").unwrap();
        let nodes = [node.clone()];
        let plan = largest_plan(&node, &nodes, &[], (&group, &node));
        let answer = plan.answers.values().next().unwrap();
        let largest = answer.refusal.clone().unwrap();
        let length = |refusal: &Refusal| super::super::refusal::refusal_text(refusal).len();
        for refusal in [
            Refusal::NoSuchGroup(group.clone()),
            Refusal::NoSuchNode(node.clone()),
            Refusal::NodeInStandby(node.clone()),
            Refusal::NodeNotActive(node.clone()),
            Refusal::FailedThere {
                group: group.clone(),
                node: node.clone(),
            },
            Refusal::Blocked {
                group: group.clone(),
                node: node.clone(),
            },
            Refusal::StartFailed {
                group: group.clone(),
                node: node.clone(),
            },
            Refusal::Overtaken {
                group: group.clone(),
                node,
            },
            Refusal::NowhereToGo(group),
            Refusal::NoLeader,
            Refusal::TimedOut,
            Refusal::NotStored,
            Refusal::ShuttingDown,
            Refusal::Busy,
        ] {
            assert!(length(&refusal) <= length(&largest), "{refusal}");
        }
    }
}
