//! One core, `m`, among puppets: what the others say, and when, is up to the test. All times are milliseconds.

use ha_node::core::event::Event;
use ha_node::core::{
    Core, GroupSettings, Inheritance, Input, Instant, NodeSettings, Output, Persistent, Policy,
    Settings,
};
use ha_node::ids::{
    ClusterName, Generation, GroupName, LinkId, NodeName, PlanVersion, RequestId, Sequence, Term,
};
use ha_node::wire::status::{
    Assignment, DeadReport, GroupReport, Heard, Phase, Plan, Report, Status,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const DEADTIME: u64 = 1000;
pub const KEEPALIVE: u64 = 100;

/// How long what another clock has measured may be relied on.
pub const RELIABLE: u64 = DEADTIME - DEADTIME / 100;

/// How long to wait until it has passed by every clock.
pub const CERTAIN: u64 = DEADTIME + DEADTIME / 100;

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

/// That point of the core's clock.
pub fn at(milliseconds: u64) -> Instant {
    Instant::from_nanos(milliseconds * 1_000_000)
}

pub fn term(number: u64, leader: &str, generation: u64) -> Option<Term> {
    let (leader, generation) = (node(leader), Generation(generation));
    Some(Term {
        number,
        leader,
        generation,
    })
}

/// The life that puppets are in at first.
pub const PUPPET: u64 = 5;

pub struct Stage {
    pub core: Core,
    pub now: u64,
    /// The newest words of the core, and when it said them.
    pub said: Box<Status>,
    pub said_at: u64,
    /// What else the core wanted since the test last looked.
    pub did: Vec<Output>,
    puppets: BTreeMap<NodeName, Status>,
    /// Who echoes without a promise.
    pub silent: BTreeSet<NodeName>,
}

impl Stage {
    /// `m` and the others; `listed` may run the group, preferred first. Nothing was said yet.
    pub fn new(others: &[&str], listed: &[&str]) -> Self {
        Self::heir(others, listed, Inheritance::default(), 0)
    }

    /// The same for a core that goes on with what an earlier life has left, and gets its first turn late.
    pub fn heir(others: &[&str], listed: &[&str], inheritance: Inheritance, late: u64) -> Self {
        let settings = settings(others, listed);
        let persistent = Persistent::first(Generation(7));
        let now = 10 * DEADTIME;
        let mut core = Core::heir(settings, persistent, inheritance, at(now));
        let now = now + late;
        let mut outputs = core.handle(at(now), Input::Tick);
        let sends = |output: &Output| matches!(output, Output::Send(_));
        let place = outputs.iter().position(sends).unwrap();
        let Output::Send(said) = outputs.remove(place) else {
            panic!("it does not speak");
        };
        let puppet = |name: &&str| {
            let puppet = Status {
                node: node(name),
                generation: Generation(PUPPET),
                sequence: Sequence(0),
                phase: Phase::Up,
                voting: true,
                electable: true,
                // All hear all, so that the first by name is the first choice.
                reach: others.len() as u32,
                heard: BTreeMap::new(),
                report: Report {
                    groups: BTreeMap::from([(group(), GroupReport::default())]),
                    ..Report::default()
                },
                ..Status::clone(&said)
            };
            (node(name), puppet)
        };
        Self {
            puppets: others.iter().map(puppet).collect(),
            core,
            now,
            said,
            said_at: now,
            did: outputs,
            silent: BTreeSet::new(),
        }
    }

    /// All have been in contact for two deadtimes, and what an earlier life may have left is stopped.
    pub fn ready(others: &[&str], listed: &[&str]) -> Self {
        let mut stage = Self::new(others, listed);
        stage.beat(2 * DEADTIME, others);
        stage.answer_stop();
        stage.beat(KEEPALIVE, others);
        stage.did.clear();
        stage
    }

    /// What a puppet says from now on.
    pub fn words(&mut self, name: &str) -> &mut Status {
        self.puppets.get_mut(&node(name)).unwrap()
    }

    /// A puppet speaks now, and echoes the newest words of the core.
    pub fn hear(&mut self, name: &str) {
        let name = node(name);
        let echo = Heard {
            generation: self.said.generation,
            sequence: self.said.sequence,
            promise: !self.silent.contains(&name),
        };
        let puppet = self.puppets.get_mut(&name).unwrap();
        puppet.heard.insert(node("m"), echo);
        self.hear_as_it_is(name.as_str());
    }

    /// The same with whatever the test has made it echo.
    pub fn hear_as_it_is(&mut self, name: &str) {
        let puppet = self.words(name);
        puppet.sequence = puppet.sequence.next();
        let status = Box::new(puppet.clone());
        self.handle(Input::Message {
            link: LinkId(0),
            status,
        });
    }

    pub fn handle(&mut self, input: Input) {
        for output in self.core.handle(at(self.now), input) {
            match output {
                Output::Send(status) => {
                    self.said = status;
                    self.said_at = self.now;
                }
                other => self.did.push(other),
            }
        }
    }

    /// Time passes, with all turns that the core wants.
    pub fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now += 1;
            if self
                .core
                .next_deadline()
                .is_some_and(|due| due <= at(self.now))
            {
                self.handle(Input::Tick);
            }
        }
    }

    /// Time passes while these speak each keepalive.
    pub fn beat(&mut self, milliseconds: u64, names: &[&str]) {
        for _ in 0..milliseconds / KEEPALIVE {
            self.pass(KEEPALIVE);
            names.iter().for_each(|name| self.hear(name));
        }
    }

    /// These follow the core as their leader, and its plan.
    pub fn obey(&mut self, names: &[&str]) {
        for name in names {
            let (term, plan) = (self.said.term.clone(), self.said.plan.clone());
            let words = self.words(name);
            words.term = term;
            words.report.version = plan.map(|p| p.version).unwrap_or_default();
            self.hear(name);
        }
    }

    /// The same each keepalive for a while.
    pub fn reign(&mut self, milliseconds: u64, names: &[&str]) {
        for _ in 0..milliseconds / KEEPALIVE {
            self.pass(KEEPALIVE);
            self.obey(names);
        }
    }

    /// `b` leads in term 1, and its plan says this of the group.
    pub fn led(&mut self, version: u64, assignment: Option<Assignment>) {
        let members = self.puppets.keys().cloned().chain([node("m")]);
        let plan = Plan {
            version: PlanVersion(version),
            members: members.map(|name| (name, PlanVersion(1))).collect(),
            groups: assignment.map(|a| (group(), a)).into_iter().collect(),
            expelled: BTreeSet::new(),
            answers: BTreeMap::new(),
        };
        let words = self.words("b");
        words.term = term(1, "b", PUPPET);
        words.plan = Some(plan);
        self.hear("b");
    }

    /// The driver has stopped what the core wants stopped.
    pub fn answer_stop(&mut self) {
        let order = self.did.iter().rev().find_map(|output| match output {
            Output::StopGroup { order, .. } => Some(*order),
            _ => None,
        });
        self.answer(order.unwrap(), ha_node::core::GroupOutcome::Stopped);
    }

    /// The driver has started what the core wants started.
    pub fn answer_start(&mut self) {
        let order = self.started().unwrap();
        self.answer(order, ha_node::core::GroupOutcome::Started);
    }

    pub fn answer(&mut self, order: RequestId, outcome: ha_node::core::GroupOutcome) {
        let (group, order) = (group(), Some(order));
        self.handle(Input::Group {
            group,
            order,
            outcome,
        });
    }

    /// The order to start the group, if one was given since the test last looked.
    pub fn started(&self) -> Option<RequestId> {
        self.did.iter().rev().find_map(|output| match output {
            Output::StartGroup { order, .. } => Some(*order),
            _ => None,
        })
    }

    /// Whether it was told to stop.
    pub fn stopped(&self) -> bool {
        let stops = |output: &Output| matches!(output, Output::StopGroup { .. });
        self.did.iter().any(stops)
    }

    pub fn told(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        let is = |output: &Output| matches!(output, Output::Event(event) if wanted(event));
        self.did.iter().any(is)
    }

    /// The term that the core follows.
    pub fn term(&self) -> Option<Term> {
        self.core.view(at(self.now)).term
    }

    /// Who shall run the group by the core's own plan.
    pub fn planned(&self) -> Option<&Assignment> {
        self.said.plan.as_ref()?.groups.get(&group())
    }

    /// The version that admitted a member to the core's own plan.
    pub fn admission(&self, name: &str) -> Option<PlanVersion> {
        self.said.plan.as_ref()?.members.get(&node(name)).copied()
    }
}

/// What a node reports of one that is dead to it.
pub fn dead() -> DeadReport {
    DeadReport {
        generation: Generation(PUPPET),
        heard_again: false,
    }
}

pub fn run_here() -> Option<Assignment> {
    let (node, pinned) = (node("m"), false);
    Some(Assignment::Run { node, pinned })
}

fn settings(others: &[&str], listed: &[&str]) -> Settings {
    let nodes = others.iter().chain(&["m"]);
    let of_group = GroupSettings {
        nodes: listed.iter().map(|n| node(n)).collect(),
        auto_failback: false,
        stop_margin: None,
        policies: BTreeMap::new(),
    };
    Settings {
        cluster: ClusterName::new("test").unwrap(),
        local: node("m"),
        nodes: nodes.map(|n| (node(n), NodeSettings::default())).collect(),
        groups: BTreeMap::from([(group(), of_group)]),
        policy: Policy::Majority,
        keepalive: Duration::from_millis(KEEPALIVE),
        warntime: Duration::from_millis(DEADTIME / 2),
        deadtime: Duration::from_millis(DEADTIME),
        initdead: Duration::from_millis(2 * DEADTIME),
        config_hash: 0,
    }
}
