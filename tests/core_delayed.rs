//! Words that are under way for long: a leader counts none that was said before it was elected, or by a life that is over.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ha_node::core::{
    Core, GroupSettings, Input, Instant, NodeSettings, Output, Persistent, Policy, Settings,
};
use ha_node::ids::{ClusterName, Generation, GroupName, LinkId, NodeName, Sequence, Term};
use ha_node::wire::status::{
    Assignment, DeadReport, GroupReport, GroupState, Heard, Phase, Report, Status,
};
use std::collections::BTreeMap;
use std::time::Duration;

const DEADTIME: u64 = 1000;
const KEEPALIVE: u64 = 100;
const NANOS: u64 = 1_000_000;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn settings() -> Settings {
    let nodes = ["a", "n", "p", "v", "w"].map(|name| {
        let witness = ["a", "p"].contains(&name);
        (node(name), NodeSettings { witness })
    });
    let of_group = GroupSettings {
        nodes: vec![node("n"), node("v")],
        auto_failback: false,
        stop_margin: None,
        policies: BTreeMap::new(),
    };
    Settings {
        cluster: ClusterName::new("test").unwrap(),
        local: node("a"),
        nodes: nodes.into(),
        groups: [(group(), of_group)].into(),
        policy: Policy::Majority,
        keepalive: Duration::from_millis(KEEPALIVE),
        warntime: Duration::from_millis(DEADTIME / 2),
        deadtime: Duration::from_millis(DEADTIME),
        initdead: Duration::from_millis(2 * DEADTIME),
        config_hash: 0,
    }
}

/// The core of `a`, with all others' words made by hand; `w` was never heard and is dead to all.
struct Script {
    core: Core,
    now: u64,
    said: Box<Status>,
    sequences: BTreeMap<&'static str, u64>,
}

impl Script {
    fn new() -> Self {
        let start = Instant::from_nanos(DEADTIME * NANOS);
        let mut core = Core::new(settings(), Persistent::first(Generation(7)), start);
        let outputs = core.handle(start, Input::Tick);
        let said = outputs.into_iter().find_map(|output| {
            let Output::Send(status) = output else {
                return None;
            };
            Some(status)
        });
        let mut script = Self {
            core,
            now: DEADTIME,
            said: said.unwrap(),
            sequences: BTreeMap::new(),
        };
        script.run_with(DEADTIME + DEADTIME / 2, &["n", "p", "v"], |_| {});
        assert_eq!(script.said.term, Some(script.term()), "a has begun a term");
        script
    }

    fn handle(&mut self, input: Input) {
        for output in self
            .core
            .handle(Instant::from_nanos(self.now * NANOS), input)
        {
            if let Output::Send(status) = output {
                self.said = status;
            }
        }
    }

    /// Lets time pass in which these nodes say something each keepalive.
    fn run_with(&mut self, milliseconds: u64, who: &[&'static str], words: impl Fn(&mut Status)) {
        for at in 0..milliseconds {
            self.now += 1;
            let now = Instant::from_nanos(self.now * NANOS);
            if self.core.next_deadline().is_some_and(|due| due <= now) {
                self.handle(Input::Tick);
            }
            if at % KEEPALIVE == 0 {
                for name in who {
                    let status = self.word(name, &words);
                    self.deliver(status);
                }
            }
        }
    }

    /// What a node says now, echoing the newest words of `a`.
    fn word(&mut self, name: &'static str, change: impl Fn(&mut Status)) -> Box<Status> {
        let sequence = self.sequences.entry(name).or_default();
        *sequence += 1;
        let echo = Heard {
            generation: self.said.generation,
            sequence: self.said.sequence,
            promise: true,
        };
        let dead = DeadReport {
            generation: Generation(0),
            heard_again: false,
        };
        let mut status = Status {
            node: node(name),
            generation: Generation(5),
            sequence: Sequence(*sequence),
            phase: Phase::Active,
            voting: true,
            electable: true,
            reach: 0,
            led: false,
            heard: [(node("a"), echo)].into(),
            term: None,
            floor: None,
            report: Report {
                dead: [(node("w"), dead)].into(),
                groups: [(group(), GroupReport::default())].into(),
                ..Report::default()
            },
            plan: None,
            ..(*self.said).clone()
        };
        change(&mut status);
        Box::new(status)
    }

    fn deliver(&mut self, status: Box<Status>) {
        let link = LinkId(0);
        self.handle(Input::Message { link, status });
    }

    /// The first term of `a`, or its present one.
    fn term(&self) -> Term {
        self.said.term.clone().unwrap()
    }

    /// Where the plan has the group to be started.
    fn placed(&self) -> Option<NodeName> {
        match self.said.plan.as_ref()?.groups.get(&group())? {
            Assignment::Run { node, .. } => Some(node.clone()),
            Assignment::Keep(_) | Assignment::Nobody => None,
        }
    }

    /// The group's plan, as nodes follow it that have heard it.
    fn follows(&self) -> impl Fn(&mut Status) + use<> {
        let (term, plan) = (self.term(), self.said.plan.clone());
        move |status| {
            status.term = Some(term.clone());
            status.led = true;
            status.report.version = plan.as_ref().map(|plan| plan.version).unwrap_or_default();
        }
    }

    /// `n` and `p` elect `a`, which is out of contact with `v` by then.
    fn elected_without_v(&mut self) {
        self.run_with(DEADTIME + KEEPALIVE, &["n", "p"], |_| {});
        for _ in 0..4 {
            let follows = self.follows();
            self.run_with(KEEPALIVE, &["n", "p"], follows);
        }
        assert!(self.said.plan.is_some(), "a is elected");
        assert_eq!(self.placed(), None, "nothing is known of v");
    }
}

#[test]
fn a_word_that_was_under_way_when_a_leader_was_elected_does_not_count() {
    let mut script = Script::new();
    let follows = script.follows();
    let held = script.word("v", follows);
    script.elected_without_v();
    script.deliver(held);
    for _ in 0..10 {
        let follows = script.follows();
        script.run_with(KEEPALIVE, &["n", "p"], follows);
        assert_eq!(
            script.placed(),
            None,
            "v may have followed another leader since"
        );
    }
    for _ in 0..3 {
        let follows = script.follows();
        script.run_with(KEEPALIVE, &["n", "p", "v"], follows);
    }
    assert_eq!(script.placed(), Some(node("n")), "v has answered since");
}

/// `v` has left in good order. Its last words free its groups, as long as nobody in contact has heard a later life.
#[test]
fn last_words_hold_for_that_life_only_and_while_nobody_has_heard_a_later_one() {
    for heard_again in [false, true] {
        let mut script = Script::new();
        script.elected_without_v();
        let last = script.word("v", |status| status.phase = Phase::Gone);
        script.deliver(last);
        for _ in 0..5 {
            let follows = script.follows();
            script.run_with(KEEPALIVE, &["n", "p"], |status| {
                follows(status);
                if heard_again && status.node == node("p") {
                    let later = Heard {
                        generation: Generation(6),
                        sequence: Sequence(1),
                        promise: true,
                    };
                    status.heard.insert(node("v"), later);
                }
            });
        }
        let expected = (!heard_again).then(|| node("n"));
        assert_eq!(
            script.placed(),
            expected,
            "a later life was heard: {heard_again}"
        );
    }
}

/// `v` says that it runs nothing, and restarts. What its earlier life said is still on its way.
#[test]
fn words_of_a_life_that_is_over_do_not_count() {
    let mut script = Script::new();
    script.elected_without_v();
    let follows = script.follows();
    let held = script.word("v", follows);
    let follows = script.follows();
    let later = script.word("v", |status| {
        follows(status);
        status.generation = Generation(6);
        let runs = GroupReport {
            state: GroupState::Started,
            ..GroupReport::default()
        };
        status.report.groups.insert(group(), runs);
    });
    script.deliver(later);
    script.deliver(held);
    for _ in 0..5 {
        let follows = script.follows();
        script.run_with(KEEPALIVE, &["n", "p"], follows);
        assert_eq!(script.placed().filter(|owner| *owner != node("v")), None);
    }
}
