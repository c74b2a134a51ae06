//! A cluster of real cores with a network whose every direction can be cut, and a clock that a test moves by hand.
//!
//! It owns the messages in flight, the drivers' answers, what is stored and the record of who runs what. Unless a test
//! allows it, two owners of a group fail the test at that instant. Each node's settings and clock can differ from the
//! others'. All times are milliseconds.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "shared by test programs, each of which uses some of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use ha_node::core::event::Event;
use ha_node::core::{
    Core, FailurePolicy, GroupOutcome, GroupSettings, Inheritance, Input, Instant, NodeSettings,
    Output, Persistent, Policy, Reaction, Request, Settings,
};
use ha_node::ids::{ClusterName, Generation, GroupName, LinkId, NodeName, RequestId};
use ha_node::wire::status::{Refusal, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const DEADTIME: u64 = 1000;
pub const KEEPALIVE: u64 = 100;
pub const MESSAGE: u64 = 2;
pub const DRIVER: u64 = 20;
pub const NANOS: u64 = 1_000_000;

/// Changes what a node's configuration says.
type Tweak = dyn Fn(&str, &mut Settings);

#[derive(Default)]
struct Node {
    core: Option<Core>,
    generation: u64,
    running: BTreeSet<GroupName>,
    inbox: Vec<(u64, Box<Status>)>,
    driver: Vec<(u64, GroupName, RequestId, GroupOutcome)>,
    last_said: Option<Box<Status>>,
}

pub struct Cluster {
    pub now: u64,
    policy: Policy,
    nodes: BTreeMap<NodeName, Node>,
    groups: BTreeMap<GroupName, GroupSettings>,
    cuts: BTreeSet<(NodeName, NodeName)>,
    pub starts_fail: BTreeSet<(NodeName, GroupName)>,
    /// Where starts are refused for want of a lease.
    pub starts_refused: BTreeSet<(NodeName, GroupName)>,
    pub stops_fail: BTreeSet<(NodeName, GroupName)>,
    /// How long a stop takes where it is not DRIVER.
    pub stop_time: BTreeMap<NodeName, u64>,
    pub two_owners_allowed: bool,
    /// Milliseconds in which some group had two owners.
    pub doubles: u64,
    pub first_double: Option<String>,
    replies: BTreeMap<RequestId, Result<(), Refusal>>,
    /// How often a resource was started anew, by node.
    pub restarts: BTreeMap<String, u32>,
    /// The events: when, on which node, what.
    pub said: Vec<(u64, String, Event)>,
    /// Changes what a node's configuration says, from its next start on.
    pub tweak: Box<Tweak>,
    stored: BTreeMap<NodeName, Persistent>,
    withheld: BTreeSet<(NodeName, NodeName)>,
    /// What the network still has.
    pub late: Vec<(NodeName, NodeName, Box<Status>)>,
    /// How far a node's clock is behind.
    behind: BTreeMap<NodeName, u64>,
}

const MOVES: FailurePolicy = FailurePolicy {
    reaction: Reaction::Restart { limit: 0 },
    window: Duration::from_secs(3600),
};

impl Cluster {
    pub fn new(policy: Policy, nodes: &[&str], groups: &[(&str, &[&str])]) -> Self {
        let groups = groups
            .iter()
            .map(|(name, nodes)| (group(name), listed(nodes)));
        Self {
            now: DEADTIME,
            policy,
            nodes: nodes.iter().map(|n| (node(n), Node::default())).collect(),
            groups: groups.collect(),
            cuts: BTreeSet::new(),
            starts_fail: BTreeSet::new(),
            starts_refused: BTreeSet::new(),
            stops_fail: BTreeSet::new(),
            restarts: BTreeMap::new(),
            stop_time: BTreeMap::new(),
            two_owners_allowed: false,
            doubles: 0,
            first_double: None,
            replies: BTreeMap::new(),
            said: Vec::new(),
            tweak: Box::new(|_, _| {}),
            stored: BTreeMap::new(),
            withheld: BTreeSet::new(),
            late: Vec::new(),
            behind: BTreeMap::new(),
        }
    }

    pub fn settings(&self, local: &NodeName) -> Settings {
        let nodes = self.nodes.keys();
        let mut settings = Settings {
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
        };
        (self.tweak)(local.as_str(), &mut settings);
        settings
    }

    pub fn start(&mut self, names: &[&str]) {
        for name in names {
            self.start_heir(name, Inheritance::default());
        }
    }

    /// Begins a new life that goes on with what an earlier one has left.
    pub fn start_heir(&mut self, name: &str, inheritance: Inheritance) {
        let name = node(name);
        let generation = self.nodes[&name].generation + 1;
        let persistent = match self.stored.get(&name) {
            Some(stored) => Persistent {
                generation: Generation(generation.max(stored.generation.0 + 1)),
                ..stored.clone()
            },
            None => Persistent::first(Generation(generation)),
        };
        let generation = persistent.generation.0;
        self.stored.insert(name.clone(), persistent.clone());
        let now = self.clock(&name);
        let running = std::mem::take(&mut self.nodes.get_mut(&name).unwrap().running);
        let core = Core::heir(self.settings(&name), persistent, inheritance, now);
        let fresh = Node {
            core: Some(core),
            generation,
            running,
            ..Node::default()
        };
        self.nodes.insert(name.clone(), fresh);
        self.feed(&name, Input::Tick);
    }

    fn clock(&self, name: &NodeName) -> Instant {
        let behind = self.behind.get(name).copied().unwrap_or(0);
        Instant::from_nanos((self.now - behind) * NANOS)
    }

    /// What a node's clock shows.
    pub fn clock_of(&self, name: &str) -> Instant {
        self.clock(&node(name))
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

    /// The daemon dies, and what it ran goes on. Answers what its core held.
    pub fn daemon_dies(
        &mut self,
        name: &str,
    ) -> (
        ha_node::core::Lease,
        BTreeMap<GroupName, ha_node::core::Holding>,
        Option<Box<Status>>,
    ) {
        let node = self.nodes.get_mut(&node(name)).unwrap();
        let core = node.core.take().expect("it is up");
        node.driver.clear();
        node.inbox.clear();
        (core.tenure(), core.holdings(), node.last_said.clone())
    }

    /// What is left of a group on a machine without a daemon is stopped.
    pub fn release(&mut self, name: &str, released: &str) {
        self.nodes
            .get_mut(&node(name))
            .unwrap()
            .running
            .remove(&group(released));
    }

    /// Somebody speaks for a node.
    pub fn say(&mut self, name: &str, status: &Status) {
        self.send(&node(name), status);
    }

    pub fn cut(&mut self, from: &str, to: &str) {
        self.cuts.insert((node(from), node(to)));
    }
    pub fn mend(&mut self, from: &str, to: &str) {
        self.cuts.remove(&(node(from), node(to)));
    }
    pub fn part(&mut self, name: &str, others: &[&str]) {
        for other in others {
            self.cut(name, other);
            self.cut(other, name);
        }
    }
    pub fn join(&mut self, name: &str, others: &[&str]) {
        for other in others {
            self.mend(name, other);
            self.mend(other, name);
        }
    }
    /// From now on a node hears nobody, while all hear it.
    pub fn deafen(&mut self, name: &str) {
        let others: Vec<NodeName> = self
            .nodes
            .keys()
            .filter(|n| n.as_str() != name)
            .cloned()
            .collect();
        for other in others {
            self.cuts.insert((other, node(name)));
        }
    }

    pub fn ask(&mut self, name: &str, id: u64, request: Request) {
        let id = RequestId(id);
        self.feed(&node(name), Input::Request { id, request });
    }
    pub fn reply(&self, id: u64) -> Option<&Result<(), Refusal>> {
        self.replies.get(&RequestId(id))
    }

    /// Whether any link of a node's own can be used.
    pub fn links(&mut self, name: &str, usable: bool) {
        self.feed(&node(name), Input::Links { usable });
    }

    /// What the drivers find by themselves.
    fn found(&mut self, name: &str, in_group: &str, outcome: GroupOutcome) {
        let input = Input::Group {
            group: group(in_group),
            order: None,
            outcome,
        };
        self.feed(&node(name), input);
    }

    /// Somebody starts a resource of a group on a node where it is stopped.
    pub fn appear(&mut self, name: &str, in_group: &str) {
        let resource = String::from("r");
        self.found(name, in_group, GroupOutcome::Appeared { resource });
    }

    /// What kept a resource from running there is over.
    pub fn recover(&mut self, name: &str, in_group: &str) {
        let resource = String::from("r");
        self.found(name, in_group, GroupOutcome::Recovered { resource });
    }

    /// How often a group failed on the nodes together, as a node knows it.
    pub fn failures(&self, seen_by: &str, name: &str) -> BTreeMap<String, u32> {
        let view = self.core(seen_by).view(self.clock_of(seen_by));
        let counts = view.groups[&group(name)].failures.iter();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(node, count)| (node.to_string(), *count))
            .collect()
    }

    /// A machine stands still while the others go on; what is sent to it waits.
    pub fn freeze(&mut self, frozen: &str, milliseconds: u64) {
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for _ in 0..milliseconds {
            self.now += 1;
            for name in names.iter().filter(|name| name.as_str() != frozen) {
                self.step(name);
            }
        }
    }

    /// A resource of a group ends by itself on a node.
    pub fn fail(&mut self, name: &str, failed: &str) {
        let outcome = GroupOutcome::Failed {
            resource: "r".into(),
            reason: "it ended".into(),
        };
        self.found(name, failed, outcome);
    }

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

    pub fn run_until(&mut self, limit: u64, wanted: impl Fn(&Self) -> bool) -> u64 {
        let start = self.now;
        while !wanted(self) {
            assert!(self.now < start + limit, "it did not come about in time");
            self.run(1);
        }
        self.now - start
    }

    fn step(&mut self, name: &NodeName) {
        let now = self.now;
        let clock = self.clock(name);
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
            if self.is_up(name.as_str()) {
                self.feed(name, input);
            }
        }
        for (_, status) in messages {
            let link = LinkId(0);
            if self.is_up(name.as_str()) {
                self.feed(name, Input::Message { link, status });
            }
        }
        if !self.is_up(name.as_str()) {
            return;
        }
        let due = self.core(name.as_str()).next_deadline();
        if due.is_some_and(|at| at <= clock) {
            self.feed(name, Input::Tick);
        }
    }

    /// A machine stands still; packets to it are lost. `clock_too`: its clock does not count that time, as in a paused
    /// virtual machine.
    pub fn pause_machine(&mut self, frozen: &str, milliseconds: u64, clock_too: bool) {
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        let frozen = node(frozen);
        for _ in 0..milliseconds {
            self.now += 1;
            if clock_too {
                *self.behind.entry(frozen.clone()).or_default() += 1;
            }
            for name in names.iter().filter(|name| **name != frozen) {
                self.step(name);
            }
            self.nodes.get_mut(&frozen).unwrap().inbox.clear();
            for answer in &mut self.nodes.get_mut(&frozen).unwrap().driver {
                answer.0 += 1;
            }
        }
    }

    pub fn set_policy(&mut self, name: &str, policy: FailurePolicy) {
        let settings = self.groups.get_mut(&group(name)).unwrap();
        settings.policies = BTreeMap::from([(String::from("r"), policy)]);
    }

    fn feed(&mut self, name: &NodeName, input: Input) {
        let clock = self.clock(name);
        let node = self.nodes.get_mut(name).unwrap();
        let core = node.core.as_mut().expect("the node is up");
        let outputs = core.handle(clock, input);
        let exits = outputs.iter().any(|output| matches!(output, Output::Exit));
        for output in outputs {
            self.carry_out(name, output);
        }
        if exits {
            let node = self.nodes.get_mut(name).unwrap();
            node.core = None;
            node.inbox.clear();
            node.driver.clear();
        }
    }

    /// A person stops the daemon.
    pub fn shut_down(&mut self, name: &str) {
        self.feed(&node(name), Input::Shutdown);
    }

    pub fn is_up(&self, name: &str) -> bool {
        self.nodes[&node(name)].core.is_some()
    }

    fn carry_out(&mut self, name: &NodeName, output: Output) {
        let done = self.now + DRIVER;
        let stopped = self.now + self.stop_time.get(name).copied().unwrap_or(DRIVER);
        let failure = |set: &BTreeSet<(NodeName, GroupName)>, group: &GroupName| {
            let fails = set.contains(&(name.clone(), group.clone()));
            fails.then(|| (String::from("r"), String::from("it fails")))
        };
        let (starts_fail, stops_fail) = (&self.starts_fail, &self.stops_fail);
        let node = self.nodes.get_mut(name).unwrap();
        match output {
            Output::Send(status) => {
                node.last_said = Some(status.clone());
                self.send(name, &status);
            }
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
                // One that is under way is not made longer by another order.
                let earlier = node
                    .driver
                    .iter()
                    .find(|answer| answer.1 == group && matches!(answer.3, GroupOutcome::Stopped))
                    .map(|answer| answer.0);
                node.driver.retain(|answer| answer.1 != group);
                let outcome = match failure(stops_fail, &group) {
                    Some((resource, reason)) => GroupOutcome::StopFailed { resource, reason },
                    None => GroupOutcome::Stopped,
                };
                node.driver.push((
                    earlier.unwrap_or(stopped).min(stopped),
                    group,
                    order,
                    outcome,
                ));
            }
            Output::Reply { id, result } => {
                self.replies.insert(id, result);
            }
            Output::Event(event) => self.said.push((self.now, name.to_string(), event)),
            Output::Persist(persistent) => {
                node.generation = persistent.generation.0;
                self.stored.insert(name.clone(), persistent);
            }
            Output::Announce(_) | Output::Exit => {}
        }
    }

    /// What the first sends to the second is under way for very long from now on.
    pub fn withhold(&mut self, from: &str, to: &str) {
        self.withheld.insert((node(from), node(to)));
    }

    /// Of what is under way from one node to another, the first message that is wanted arrives now.
    pub fn deliver(&mut self, from: &str, to: &str, wanted: impl Fn(&Status) -> bool) {
        let (from, to) = (node(from), node(to));
        let place = self
            .late
            .iter()
            .position(|(f, t, status)| *f == from && *t == to && wanted(status))
            .expect("such a message is under way");
        let (_, _, status) = self.late.remove(place);
        self.feed(
            &to,
            Input::Message {
                link: LinkId(0),
                status,
            },
        );
    }

    fn send(&mut self, from: &NodeName, status: &Status) {
        let arrival = self.now + MESSAGE;
        let late = self.withheld.iter().filter(|(f, _)| f == from);
        self.late
            .extend(late.map(|(_, to)| (from.clone(), to.clone(), Box::new(status.clone()))));
        for (name, node) in &mut self.nodes {
            if self.withheld.contains(&(from.clone(), name.clone())) {
                continue;
            }
            if name != from && !self.cuts.contains(&(from.clone(), name.clone())) {
                node.inbox.push((arrival, Box::new(status.clone())));
            }
        }
    }

    fn check_owners(&mut self) {
        let mut double = None;
        for name in self.groups.keys() {
            let owners = self.owners(name.as_str());
            if owners.len() > 1 {
                double = Some(format!("at {} ms {name} runs on {owners:?}", self.now));
            }
        }
        if let Some(text) = double {
            self.doubles += 1;
            if !self.two_owners_allowed {
                panic!("{text}\n{}", self.story(60));
            }
            self.first_double.get_or_insert(text);
        }
    }

    /// The last events.
    pub fn story(&self, lines: usize) -> String {
        let from = self.said.len().saturating_sub(lines);
        let lines: Vec<String> = self.said[from..]
            .iter()
            .map(|(at, who, event)| format!("{at:>7} {who}: {event:?}"))
            .collect();
        lines.join("\n")
    }

    pub fn owners(&self, name: &str) -> Vec<&str> {
        let nodes = self.nodes.iter();
        nodes
            .filter(|(_, node)| node.running.contains(&group(name)))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub fn leader(&self, name: &str) -> Option<String> {
        let view = self.core(name).view(self.clock_of(name));
        let term = view.term.filter(|_| view.has_leader);
        term.map(|term| term.leader.to_string())
    }

    /// Why a group is where it is, as a node says.
    pub fn reason(&self, seen_by: &str, name: &str) -> String {
        let view = self.core(seen_by).view(self.clock_of(seen_by));
        let of_group = &view.groups[&group(name)];
        format!("{:?}: {}", of_group.state, of_group.reason)
    }

    pub fn term(&self, name: &str) -> u64 {
        let view = self.core(name).view(self.clock_of(name));
        view.term.map_or(0, |term| term.number)
    }

    pub fn core(&self, name: &str) -> &Core {
        let core = &self.nodes[&node(name)].core;
        core.as_ref().expect("the node is up")
    }
}

pub fn listed(nodes: &[&str]) -> GroupSettings {
    GroupSettings {
        nodes: nodes.iter().map(|n| node(n)).collect(),
        auto_failback: false,
        stop_margin: None,
        policies: BTreeMap::from([(String::from("r"), MOVES)]),
    }
}

pub fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}
