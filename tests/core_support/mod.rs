//! A cluster of real cores with a network whose every direction can be cut, and a clock that a test moves by hand.
//!
//! It owns the messages in flight, the drivers' answers and the record of who runs what. Unless a test allows it, two
//! owners of a group fail the test at that instant. All times are milliseconds.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "shared by test programs, each of which uses some of it"
)]

use ha_node::core::event::Event;
use ha_node::core::{
    Core, FailurePolicy, GroupOutcome, GroupSettings, Input, Instant, NodeSettings, Output,
    Persistent, Policy, Reaction, Request, Settings,
};
use ha_node::ids::{ClusterName, Generation, GroupName, LinkId, NodeName, RequestId};
use ha_node::wire::status::{Refusal, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Silence after which a node counts as dead.
pub const DEADTIME: u64 = 1000;

/// Time between two heartbeats.
pub const KEEPALIVE: u64 = 100;

/// Time that a message is under way.
pub const MESSAGE: u64 = 2;

/// Time that a driver needs to start or to stop a group.
pub const DRIVER: u64 = 20;

const NANOS: u64 = 1_000_000;

/// One machine: its core, if it is up, and what reaches it.
#[derive(Default)]
struct Node {
    core: Option<Core>,
    generation: u64,
    running: BTreeSet<GroupName>,
    /// Messages, each with the time of its arrival.
    inbox: Vec<(u64, Box<Status>)>,
    /// Answers of the driver, each with its time.
    driver: Vec<(u64, GroupName, RequestId, GroupOutcome)>,
}

/// The cluster under test.
pub struct Cluster {
    now: u64,
    policy: Policy,
    nodes: BTreeMap<NodeName, Node>,
    groups: BTreeMap<GroupName, GroupSettings>,
    cuts: BTreeSet<(NodeName, NodeName)>,
    /// Where starts fail.
    pub starts_fail: BTreeSet<(NodeName, GroupName)>,
    /// Where starts are refused for want of a lease.
    pub starts_refused: BTreeSet<(NodeName, GroupName)>,
    /// Where stops fail; what should have been stopped still runs.
    pub stops_fail: BTreeSet<(NodeName, GroupName)>,
    /// Whether two owners are what the test is about.
    pub two_owners_allowed: bool,
    replies: BTreeMap<RequestId, Result<(), Refusal>>,
    /// How often a resource was started anew, by node.
    pub restarts: BTreeMap<String, u32>,
    /// Words of the events, and who said them.
    pub said: Vec<(String, Event)>,
}

/// A failure moves the group at once.
const MOVES: FailurePolicy = FailurePolicy {
    reaction: Reaction::Restart { limit: 0 },
    window: Duration::from_secs(3600),
};

impl Cluster {
    /// Nodes and groups by name, all nodes down; of each group the nodes that may run it, preferred first.
    pub fn new(policy: Policy, nodes: &[&str], groups: &[(&str, &[&str])]) -> Self {
        let groups = groups.iter().map(|(name, nodes)| {
            let nodes = nodes.iter().map(|n| node(n)).collect();
            let settings = GroupSettings {
                nodes,
                auto_failback: false,
                policies: BTreeMap::from([(String::from("r"), MOVES)]),
            };
            (group(name), settings)
        });
        Self {
            now: DEADTIME,
            policy,
            nodes: nodes.iter().map(|n| (node(n), Node::default())).collect(),
            groups: groups.collect(),
            cuts: BTreeSet::new(),
            starts_fail: BTreeSet::new(),
            starts_refused: BTreeSet::new(),
            stops_fail: BTreeSet::new(),
            two_owners_allowed: false,
            replies: BTreeMap::new(),
            restarts: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    fn settings(&self, local: &NodeName) -> Settings {
        let nodes = self.nodes.keys();
        Settings {
            cluster: ClusterName::new("test").unwrap(),
            local: local.clone(),
            nodes: nodes
                .map(|n| (n.clone(), NodeSettings::default()))
                .collect(),
            groups: self.groups.clone(),
            policy: self.policy,
            keepalive: Duration::from_millis(KEEPALIVE),
            warntime: Duration::from_millis(DEADTIME / 2),
            deadtime: Duration::from_millis(DEADTIME),
            initdead: Duration::from_millis(2 * DEADTIME),
            config_hash: 0,
        }
    }

    /// Begins a new life of each of these nodes.
    pub fn start(&mut self, names: &[&str]) {
        for name in names.iter().map(|n| node(n)) {
            let generation = self.nodes[&name].generation + 1;
            let persistent = Persistent {
                generation: Generation(generation),
                standby: false,
                blocked: std::collections::BTreeSet::new(),
            };
            let now = Instant::from_nanos(self.now * NANOS);
            let core = Core::new(self.settings(&name), persistent, now);
            let fresh = Node {
                core: Some(core),
                generation,
                ..Node::default()
            };
            self.nodes.insert(name.clone(), fresh);
            self.feed(&name, Input::Tick);
        }
    }

    /// Switches these nodes off: all that they ran is gone.
    pub fn kill(&mut self, names: &[&str]) {
        for name in names {
            let node = self.nodes.get_mut(&node(name)).unwrap();
            *node = Node {
                generation: node.generation,
                ..Node::default()
            };
        }
    }

    /// Loses all that the first node sends to the second from now on.
    pub fn cut(&mut self, from: &str, to: &str) {
        self.cuts.insert((node(from), node(to)));
    }

    /// Repairs one direction.
    pub fn mend(&mut self, from: &str, to: &str) {
        self.cuts.remove(&(node(from), node(to)));
    }

    /// Cuts both directions between a node and each of the others.
    pub fn part(&mut self, name: &str, others: &[&str]) {
        for other in others {
            self.cut(name, other);
            self.cut(other, name);
        }
    }

    /// Repairs both directions between a node and each of the others.
    pub fn join(&mut self, name: &str, others: &[&str]) {
        for other in others {
            self.mend(name, other);
            self.mend(other, name);
        }
    }

    /// A person asks a node for something.
    pub fn ask(&mut self, name: &str, id: u64, request: Request) {
        let id = RequestId(id);
        self.feed(&node(name), Input::Request { id, request });
    }

    /// What the person was told, if anything yet.
    pub fn reply(&self, id: u64) -> Option<&Result<(), Refusal>> {
        self.replies.get(&RequestId(id))
    }

    /// A resource of a group ends by itself on a node.
    pub fn fail(&mut self, name: &str, failed: &str) {
        let outcome = GroupOutcome::Failed {
            resource: "r".into(),
            reason: "it ended".into(),
        };
        let input = Input::Group {
            group: group(failed),
            order: None,
            outcome,
        };
        self.feed(&node(name), input);
    }

    /// Lets time pass.
    pub fn run(&mut self, milliseconds: u64) {
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for _ in 0..milliseconds {
            self.now += 1;
            for name in &names {
                self.step(name);
            }
            self.check_owners();
        }
    }

    /// Lets time pass up to the first instant that is as wanted; how long that took, or a failure after `limit`.
    pub fn run_until(&mut self, limit: u64, wanted: impl Fn(&Self) -> bool) -> u64 {
        let start = self.now;
        while !wanted(self) {
            assert!(self.now < start + limit, "it did not come about in time");
            self.run(1);
        }
        self.now - start
    }

    /// All that is due on one node at this instant: its driver, its messages, its deadline.
    fn step(&mut self, name: &NodeName) {
        let now = self.now;
        let node = self.nodes.get_mut(name).unwrap();
        if node.core.is_none() {
            node.inbox.clear();
            return;
        }
        let answers: Vec<_> = node.driver.extract_if(.., |a| a.0 <= now).collect();
        let messages: Vec<_> = node.inbox.extract_if(.., |m| m.0 <= now).collect();
        for (_, group, order, outcome) in answers {
            if matches!(
                outcome,
                GroupOutcome::Stopped
                    | GroupOutcome::StartFailed { .. }
                    | GroupOutcome::StartRefused
            ) {
                self.nodes.get_mut(name).unwrap().running.remove(&group);
            }
            let order = Some(order);
            let input = Input::Group {
                group,
                order,
                outcome,
            };
            self.feed(name, input);
        }
        for (_, status) in messages {
            let link = LinkId(0);
            self.feed(name, Input::Message { link, status });
        }
        let due = self.core(name.as_str()).next_deadline();
        if due.is_some_and(|at| at.as_nanos() <= now * NANOS) {
            self.feed(name, Input::Tick);
        }
    }

    /// A machine stands still while the others go on.
    pub fn freeze(&mut self, frozen: &str, milliseconds: u64) {
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for _ in 0..milliseconds {
            self.now += 1;
            for name in names.iter().filter(|name| name.as_str() != frozen) {
                self.step(name);
            }
        }
    }

    /// What failures of a group lead to, before any node is started.
    pub fn set_policy(&mut self, name: &str, policy: FailurePolicy) {
        let settings = self.groups.get_mut(&group(name)).unwrap();
        settings.policies = BTreeMap::from([(String::from("r"), policy)]);
    }

    /// Somebody starts a resource of a group on a node where it is stopped.
    pub fn appear(&mut self, name: &str, in_group: &str) {
        let outcome = GroupOutcome::Appeared {
            resource: String::from("r"),
        };
        let input = Input::Group {
            group: group(in_group),
            order: None,
            outcome,
        };
        self.feed(&node(name), input);
    }

    /// Gives a node's core one input and carries out what it wants done.
    fn feed(&mut self, name: &NodeName, input: Input) {
        let node = self.nodes.get_mut(name).unwrap();
        let core = node.core.as_mut().expect("the node is up");
        let outputs = core.handle(Instant::from_nanos(self.now * NANOS), input);
        for output in outputs {
            self.carry_out(name, output);
        }
    }

    fn carry_out(&mut self, name: &NodeName, output: Output) {
        let done = self.now + DRIVER;
        let failure = |set: &BTreeSet<(NodeName, GroupName)>, group: &GroupName| {
            let fails = set.contains(&(name.clone(), group.clone()));
            fails.then(|| (String::from("r"), String::from("it fails")))
        };
        let (starts_fail, stops_fail) = (&self.starts_fail, &self.stops_fail);
        let node = self.nodes.get_mut(name).unwrap();
        match output {
            Output::Send(status) => self.send(name, &status),
            Output::StartGroup { group, order } => {
                node.running.insert(group.clone());
                node.driver.retain(|answer| answer.1 != group);
                let outcome = match failure(starts_fail, &group) {
                    Some((resource, reason)) => GroupOutcome::StartFailed { resource, reason },
                    None if self.starts_refused.contains(&(name.clone(), group.clone())) => {
                        GroupOutcome::StartRefused
                    }
                    None => GroupOutcome::Started,
                };
                node.driver.push((done, group, order, outcome));
            }
            Output::RestartGroup { group, order, .. } => {
                let outcome = match failure(starts_fail, &group) {
                    Some((resource, reason)) => GroupOutcome::StartFailed { resource, reason },
                    None => GroupOutcome::Started,
                };
                *self.restarts.entry(name.to_string()).or_default() += 1;
                node.driver.push((done, group, order, outcome));
            }
            Output::StopGroup { group, order, .. } => {
                node.driver.retain(|answer| answer.1 != group);
                let outcome = match failure(stops_fail, &group) {
                    Some((resource, reason)) => GroupOutcome::StopFailed { resource, reason },
                    None => GroupOutcome::Stopped,
                };
                node.driver.push((done, group, order, outcome));
            }
            Output::Reply { id, result } => {
                self.replies.insert(id, result);
            }
            Output::Event(event) => self.said.push((name.to_string(), event)),
            Output::Announce(_) | Output::Persist(_) | Output::Exit => {}
        }
    }

    fn send(&mut self, from: &NodeName, status: &Status) {
        let arrival = self.now + MESSAGE;
        for (name, node) in &mut self.nodes {
            if name != from && !self.cuts.contains(&(from.clone(), name.clone())) {
                node.inbox.push((arrival, Box::new(status.clone())));
            }
        }
    }

    fn check_owners(&self) {
        for name in self.groups.keys() {
            let owners = self.owners(name.as_str());
            let fine = owners.len() < 2 || self.two_owners_allowed;
            assert!(fine, "at {} ms {name} runs on {owners:?}", self.now);
        }
    }

    /// Where a group runs now, in part or as a whole.
    pub fn owners(&self, name: &str) -> Vec<&str> {
        let nodes = self.nodes.iter();
        nodes
            .filter(|(_, node)| node.running.contains(&group(name)))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Whom a node takes for the leader.
    pub fn leader(&self, name: &str) -> Option<String> {
        let view = self.core(name).view(Instant::from_nanos(self.now * NANOS));
        let term = view.term.filter(|_| view.has_leader);
        term.map(|term| term.leader.to_string())
    }

    /// How often a group failed on the nodes together, as a node knows it.
    pub fn failures(&self, seen_by: &str, name: &str) -> BTreeMap<String, u32> {
        let view = self
            .core(seen_by)
            .view(Instant::from_nanos(self.now * NANOS));
        let counts = view.groups[&group(name)].failures.iter();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(node, count)| (node.to_string(), *count))
            .collect()
    }

    /// The number of the term that a node follows; 0 for none.
    pub fn term(&self, name: &str) -> u64 {
        let view = self.core(name).view(Instant::from_nanos(self.now * NANOS));
        view.term.map_or(0, |term| term.number)
    }

    fn core(&self, name: &str) -> &Core {
        let core = &self.nodes[&node(name)].core;
        core.as_ref().expect("the node is up")
    }
}

/// A group's name.
pub fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

/// A node's name.
pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}
