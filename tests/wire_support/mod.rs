//! Arbitrary statuses within the limits of the wire.

#![allow(dead_code, reason = "each test program uses a part of it")]

use ha_node::ids::{
    ClusterName, Generation, GroupName, NodeName, PlanVersion, RequestId, Sequence, Term,
};
use ha_node::wire::status::{
    Answer, Assignment, DeadReport, Fitness, ForwardedRequest, GroupReport, GroupState, Heard,
    Phase, Plan, Policy, Profile, Refusal, Report, Status, Wish,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Names short and long, with every character that a name may have.
const NAME: &str = "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,6}|[a-z][a-z0-9.-]{98}";

fn node() -> impl Strategy<Value = NodeName> {
    NAME.prop_map(|name| NodeName::new(&name).unwrap())
}

fn group() -> impl Strategy<Value = GroupName> {
    NAME.prop_map(|name| GroupName::new(&name).unwrap())
}

/// Small numbers as often as any.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..20_u64, any::<u64>(), Just(u64::MAX)]
}

fn generation() -> impl Strategy<Value = Generation> {
    number().prop_map(Generation)
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Init),
        Just(Phase::Up),
        Just(Phase::Active),
        Just(Phase::Gone)
    ]
}

fn heard() -> impl Strategy<Value = Heard> {
    (generation(), number(), any::<bool>()).prop_map(|(generation, sequence, promise)| Heard {
        generation,
        sequence: Sequence(sequence),
        promise,
    })
}

/// The term that is followed, and the latest one: the same if nothing else is said.
fn terms() -> impl Strategy<Value = (Option<Term>, Option<Term>)> {
    (option::of(term()), option::of(term())).prop_map(|(followed, latest)| {
        let floor = latest.or_else(|| followed.clone());
        (followed, floor)
    })
}

fn term() -> impl Strategy<Value = Term> {
    (number(), node(), generation()).prop_map(|(number, leader, generation)| Term {
        number,
        leader,
        generation,
    })
}

fn group_report() -> impl Strategy<Value = GroupReport> {
    let state = prop_oneof![
        Just(GroupState::Stopped),
        Just(GroupState::Starting),
        Just(GroupState::Started),
        Just(GroupState::Stopping),
        Just(GroupState::Blocked),
    ];
    let failures = prop_oneof![Just(0), any::<u32>()];
    let fitness = prop_oneof![
        Just(Fitness::Fit),
        Just(Fitness::Doubtful),
        Just(Fitness::Unfit),
    ];
    let all = (state, failures, fitness, any::<bool>());
    all.prop_map(|(state, failures, fitness, pinned)| GroupReport {
        state,
        failures,
        fitness,
        pinned,
    })
}

fn dead_report() -> impl Strategy<Value = DeadReport> {
    (generation(), any::<bool>()).prop_map(|(generation, heard_again)| DeadReport {
        generation,
        heard_again,
    })
}

fn report() -> impl Strategy<Value = Report> {
    (
        number().prop_map(PlanVersion),
        btree_map(group(), group_report(), 0..6),
        btree_map(node(), dead_report(), 0..4),
        any::<bool>(),
        any::<bool>(),
        btree_set((group(), node()), 0..4),
        btree_set((group(), node()), 0..4),
        btree_map(node(), (generation(), number().prop_map(Sequence)), 0..4),
    )
        .prop_map(
            |(version, groups, dead, standby, leaving, blocked, cleared, lives)| Report {
                version,
                groups,
                dead,
                standby,
                leaving,
                blocked,
                cleared,
                lives,
            },
        )
}

fn assignment() -> impl Strategy<Value = Assignment> {
    prop_oneof![
        node().prop_map(Assignment::Keep),
        Just(Assignment::Nobody),
        (node(), any::<bool>()).prop_map(|(node, pinned)| Assignment::Run { node, pinned }),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        group().prop_map(Refusal::NoSuchGroup),
        node().prop_map(Refusal::NoSuchNode),
        (group(), node()).prop_map(|(group, node)| Refusal::NotAllowedThere { group, node }),
        node().prop_map(Refusal::NodeNotActive),
        node().prop_map(Refusal::NodeInStandby),
        (group(), node()).prop_map(|(group, node)| Refusal::FailedThere { group, node }),
        (group(), node()).prop_map(|(group, node)| Refusal::Blocked { group, node }),
        Just(Refusal::NoLeader),
        group().prop_map(Refusal::NowhereToGo),
        (group(), node()).prop_map(|(group, node)| Refusal::StartFailed { group, node }),
        (group(), node()).prop_map(|(group, node)| Refusal::Overtaken { group, node }),
        Just(Refusal::TimedOut),
        Just(Refusal::ShuttingDown),
        Just(Refusal::Busy),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    (generation(), number(), option::of(refusal())).prop_map(|(generation, id, refusal)| Answer {
        generation,
        id: RequestId(id),
        refusal,
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        number().prop_map(PlanVersion),
        btree_map(node(), number().prop_map(PlanVersion), 0..6),
        btree_map(group(), assignment(), 0..6),
        btree_map(node(), answer(), 0..4),
        btree_set(node(), 0..4),
    )
        .prop_map(|(version, members, groups, answers, expelled)| Plan {
            version,
            members,
            groups,
            expelled,
            answers,
        })
}

fn profile() -> impl Strategy<Value = Profile> {
    let policy = prop_oneof![Just(Policy::Majority), Just(Policy::Ignore)];
    let members = btree_map(node(), any::<bool>(), 0..6);
    (policy, number(), members, number(), number()).prop_map(
        |(policy, keepalive, members, groups, margin)| Profile {
            policy,
            keepalive: Duration::from_millis(keepalive),
            members,
            groups,
            stop_margin: Duration::from_millis(margin),
        },
    )
}

fn request() -> impl Strategy<Value = ForwardedRequest> {
    (number(), group(), node()).prop_map(|(id, group, node)| ForwardedRequest {
        id: RequestId(id),
        wish: Wish::Move { group, node },
    })
}

/// Any status; its deadtime is of whole milliseconds, which is all that the wire carries.
pub(crate) fn status() -> impl Strategy<Value = Status> {
    let sender = (NAME, node(), generation(), number(), phase(), number());
    let said = (
        (btree_map(node(), heard(), 0..6), btree_set(node(), 0..3)),
        terms(),
        (any::<(bool, bool, bool, bool)>(), any::<u32>(), profile()),
        report(),
        option::of(plan()),
        option::of(request()),
        number(),
    );
    (sender, said).prop_map(|(sender, said)| {
        let (cluster, node, generation, sequence, phase, deadtime) = sender;
        let (
            (heard, asks),
            (term, floor),
            ((electable, returning, voting, led), reach, profile),
            report,
            plan,
            request,
            config_hash,
        ) = said;
        Status {
            cluster: ClusterName::new(&cluster).unwrap(),
            node,
            generation,
            sequence: Sequence(sequence),
            phase,
            deadtime: Duration::from_millis(deadtime),
            heard,
            asks,
            term,
            floor,
            electable,
            reach,
            led,
            returning,
            voting,
            report,
            plan,
            request,
            config_hash,
            profile,
        }
    })
}

/// Any status that a node of a cluster with these names can make: what it says of others' words and of what people ask for
/// may have any name.
pub(crate) fn status_in(
    nodes: Vec<NodeName>,
    groups: Vec<GroupName>,
) -> impl Strategy<Value = Status> {
    let owner = prop::sample::select(nodes.clone());
    let owner = (owner, any::<bool>()).prop_map(|(node, pinned)| Assignment::Run { node, pinned });
    let of_nodes = (
        vec(option::of(heard()), nodes.len()),
        vec(option::of(dead_report()), nodes.len()),
        vec(number().prop_map(PlanVersion), nodes.len()),
        vec(option::of(answer()), nodes.len()),
        vec(any::<bool>(), nodes.len()),
    );
    let mask = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    let of_groups = (
        vec(option::of(group_report()), groups.len()),
        vec(option::of(owner), groups.len()),
        vec(mask, groups.len()),
    );
    let sender = prop::sample::select(nodes.clone());
    (status(), sender, of_nodes, of_groups).prop_map(
        move |(status, sender, of_nodes, of_groups)| {
            let (heard, dead, members, answers, asks) = of_nodes;
            let (reports, assignments, masks) = of_groups;
            let blocked = groups.iter().zip(masks).flat_map(|(group, mask)| {
                let named = nodes.iter().enumerate();
                let named = named.filter(move |(at, _)| mask >> at & 1 == 1);
                named.map(|(_, node)| (group.clone(), node.clone()))
            });
            let report = Report {
                groups: listed(&groups, reports),
                dead: listed(&nodes, dead),
                blocked: blocked.collect(),
                cleared: [].into(),
                lives: [].into(),
                ..status.report
            };
            let plan = status.plan.map(|plan| Plan {
                members: nodes.iter().cloned().zip(members).collect(),
                groups: listed(&groups, assignments),
                answers: listed(&nodes, answers),
                expelled: nodes.iter().cloned().collect(),
                ..plan
            });
            let asks = nodes.iter().zip(asks).filter(|(_, asks)| *asks);
            Status {
                node: sender,
                heard: listed(&nodes, heard),
                asks: asks.map(|(node, _)| node.clone()).collect(),
                report,
                plan,
                profile: Profile {
                    members: nodes.iter().cloned().map(|node| (node, true)).collect(),
                    ..status.profile
                },
                ..status
            }
        },
    )
}

fn listed<K: Ord + Clone, V>(names: &[K], values: Vec<Option<V>>) -> BTreeMap<K, V> {
    let pairs = names.iter().cloned().zip(values);
    pairs
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// A leader's status in a cluster of two, with something in every list.
pub(crate) fn example() -> Status {
    let node = |name: &str| NodeName::new(name).unwrap();
    let web = GroupName::new("web").unwrap();
    let (alpha, beta) = (node("alpha"), node("beta"));
    let generation = Generation(0x6b02_5b66);
    let heard = Heard {
        generation,
        sequence: Sequence(31),
        promise: true,
    };
    let refusal = Some(Refusal::FailedThere {
        group: web.clone(),
        node: alpha.clone(),
    });
    Status {
        cluster: ClusterName::new("example").unwrap(),
        node: alpha.clone(),
        generation,
        sequence: Sequence(30),
        phase: Phase::Active,
        deadtime: Duration::from_secs(2),
        heard: BTreeMap::from([(beta.clone(), heard)]),
        asks: BTreeSet::from([beta.clone()]),
        term: Some(Term {
            number: 3,
            leader: alpha.clone(),
            generation,
        }),
        floor: Some(Term {
            number: 4,
            leader: beta.clone(),
            generation,
        }),
        electable: true,
        reach: 1,
        led: true,
        returning: true,
        voting: true,
        report: Report {
            version: PlanVersion(2),
            groups: BTreeMap::from([(
                web.clone(),
                GroupReport {
                    state: GroupState::Stopped,
                    failures: 1,
                    fitness: Fitness::Unfit,
                    pinned: false,
                },
            )]),
            dead: BTreeMap::from([(
                node("gamma"),
                DeadReport {
                    generation,
                    heard_again: true,
                },
            )]),
            standby: false,
            leaving: false,
            blocked: BTreeSet::from([(GroupName::new("mail").unwrap(), beta.clone())]),
            cleared: BTreeSet::from([(GroupName::new("wiki").unwrap(), beta.clone())]),
            lives: BTreeMap::from([(beta.clone(), (generation, Sequence(31)))]),
        },
        plan: Some(Plan {
            version: PlanVersion(2),
            members: BTreeMap::from([
                (alpha.clone(), PlanVersion(1)),
                (beta.clone(), PlanVersion(1)),
            ]),
            expelled: BTreeSet::from([node("gamma")]),
            groups: BTreeMap::from([(
                web.clone(),
                Assignment::Run {
                    node: beta.clone(),
                    pinned: true,
                },
            )]),
            answers: BTreeMap::from([(
                beta.clone(),
                Answer {
                    generation,
                    id: RequestId(1),
                    refusal,
                },
            )]),
        }),
        request: Some(ForwardedRequest {
            id: RequestId(4),
            wish: Wish::Move {
                group: web,
                node: beta,
            },
        }),
        config_hash: 0x00c0_ffee,
        profile: Profile {
            policy: Policy::Majority,
            keepalive: Duration::from_millis(250),
            members: BTreeMap::from([(alpha, false), (node("beta"), false), (node("gamma"), true)]),
            groups: 0x0bad_cafe,
            stop_margin: Duration::from_millis(5000),
        },
    }
}
