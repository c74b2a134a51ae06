//! Heartbeats whose state is not known here: a sign of life for a while, an echo, a question, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ha_node::core::event::Event;
use ha_node::core::{
    Core, Input, Instant, Lease, NodeSettings, Output, Persistent, Policy, Settings,
};
use ha_node::ids::{ClusterName, Generation, LinkId, NodeName, PlanVersion, Sequence, Term};
use ha_node::wire::status::{Heard, Phase, Report, Status};
use std::time::Duration;

const DEADTIME: u64 = 1000;
const KEEPALIVE: u64 = 100;
const NANOS: u64 = 1_000_000;

/// Alpha, with beta's words made by hand; two nodes, so that beta's promise is all that a lease needs.
struct Alpha {
    core: Core,
    now: u64,
    /// The newest words of alpha.
    said: Box<Status>,
    /// How many those were.
    count: usize,
    events: Vec<Event>,
    beta: Status,
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn settings() -> Settings {
    let nodes = ["alpha", "beta"].map(|name| (node(name), NodeSettings::default()));
    Settings {
        cluster: ClusterName::new("test").unwrap(),
        local: node("alpha"),
        nodes: nodes.into(),
        groups: [].into(),
        policy: Policy::Majority,
        keepalive: Duration::from_millis(KEEPALIVE),
        warntime: Duration::from_millis(DEADTIME / 2),
        deadtime: Duration::from_millis(DEADTIME),
        initdead: Duration::from_millis(2 * DEADTIME),
        config_hash: 0,
    }
}

fn first_words(said: &Status) -> Status {
    Status {
        node: node("beta"),
        generation: Generation(5),
        sequence: Sequence(0),
        phase: Phase::Up,
        voting: true,
        heard: [].into(),
        ..said.clone()
    }
}

impl Alpha {
    /// Both have heard each other for a while.
    fn in_contact() -> Self {
        let persistent = Persistent::first(Generation(7));
        let now = DEADTIME;
        let mut core = Core::new(settings(), persistent, Instant::from_nanos(now * NANOS));
        let outputs = core.handle(Instant::from_nanos(now * NANOS), Input::Tick);
        let mut outputs = outputs.into_iter();
        let sent = outputs.find(|output| matches!(output, Output::Send(_)));
        let Some(Output::Send(said)) = sent else {
            panic!("it says nothing");
        };
        let beta = first_words(&said);
        let mut alpha = Self {
            core,
            now,
            said,
            count: 1,
            events: Vec::new(),
            beta,
        };
        for _ in 0..2 * DEADTIME / KEEPALIVE {
            alpha.run(KEEPALIVE);
            alpha.whole();
        }
        alpha
    }

    fn handle(&mut self, input: Input) {
        let now = Instant::from_nanos(self.now * NANOS);
        for output in self.core.handle(now, input) {
            if let Output::Send(status) = output {
                self.said = status;
                self.count += 1;
            } else if let Output::Event(event) = output {
                self.events.push(event);
            }
        }
    }

    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now += 1;
            let now = Instant::from_nanos(self.now * NANOS);
            if self.core.next_deadline().is_some_and(|due| due <= now) {
                self.handle(Input::Tick);
            }
        }
    }

    /// Beta's next words, which echo alpha's newest with a promise.
    fn next(&mut self) -> Box<Status> {
        let echo = Heard {
            generation: self.said.generation,
            sequence: self.said.sequence,
            promise: true,
        };
        self.beta.sequence = self.beta.sequence.next();
        self.beta.heard = [(node("alpha"), echo)].into();
        Box::new(self.beta.clone())
    }

    fn whole(&mut self) {
        let (link, status) = (LinkId(0), self.next());
        self.handle(Input::Message { link, status });
    }

    fn brief(&mut self) {
        let (link, status) = (LinkId(0), self.next());
        self.handle(Input::Brief { link, status });
    }

    /// Says it at least each keepalive, as alpha does.
    fn brief_for(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / KEEPALIVE {
            self.run(KEEPALIVE);
            self.brief();
        }
    }

    fn died(&self) -> bool {
        self.said.report.dead.contains_key(&node("beta"))
    }

    fn promises(&self) -> bool {
        self.said
            .heard
            .get(&node("beta"))
            .is_some_and(|heard| heard.promise)
    }

    fn asks(&self) -> bool {
        self.said.asks.contains(&node("beta"))
    }
}

#[test]
fn what_is_lacking_is_asked_for_at_once_and_until_it_is_there() {
    let mut alpha = Alpha::in_contact();
    assert!(!alpha.asks());
    alpha.run(10);
    let before = alpha.count;
    alpha.brief();
    assert!(alpha.count == before + 1 && alpha.asks(), "at once");
    alpha.brief();
    assert_eq!(alpha.count, before + 1, "once");
    alpha.run(KEEPALIVE / 2);
    alpha.brief();
    assert_eq!(alpha.count, before + 2, "again, since no answer came");
    alpha.run(KEEPALIVE);
    assert!(alpha.asks(), "in the next, too");
    alpha.whole();
    alpha.run(KEEPALIVE);
    assert!(!alpha.asks(), "it is there");
}

#[test]
fn it_is_a_sign_of_life_and_an_echo_for_one_deadtime() {
    let mut alpha = Alpha::in_contact();
    alpha.brief_for(DEADTIME - KEEPALIVE);
    alpha.run(KEEPALIVE);
    assert!(alpha.promises() && !alpha.died(), "it lives");
    alpha.brief_for(DEADTIME);
    assert!(!alpha.promises(), "its state does not get here");
    alpha.run(KEEPALIVE);
    assert!(alpha.died(), "and nothing puts that off any more");
    assert!(
        alpha
            .events
            .iter()
            .any(|e| matches!(e, Event::PeerDead { .. }))
    );
}

#[test]
fn it_promises_nothing() {
    let mut alpha = Alpha::in_contact();
    let Lease::Until(end) = alpha.core.lease() else {
        panic!("no lease: {:?}", alpha.core.lease());
    };
    alpha.brief_for(DEADTIME / 2);
    assert_eq!(alpha.core.lease(), Lease::Until(end), "not renewed");
    alpha.brief_for(DEADTIME);
    assert_eq!(alpha.core.lease(), Lease::None);
}

#[test]
fn nothing_that_it_says_counts_and_what_was_said_before_gets_old() {
    let mut alpha = Alpha::in_contact();
    alpha.beta.term = Some(Term {
        number: 987_654,
        leader: node("beta"),
        generation: alpha.beta.generation,
    });
    alpha.beta.report = Report {
        version: PlanVersion(1),
        leaving: true,
        ..Report::default()
    };
    alpha.beta.phase = Phase::Gone;
    let followed = alpha.said.term.clone();
    alpha.brief();
    alpha.run(KEEPALIVE);
    assert_eq!(alpha.said.term, followed);
    assert!(!alpha.died(), "it has not left");
    let shown = alpha.core.view(Instant::from_nanos(alpha.now * NANOS));
    assert!(!format!("{shown:?}").contains("987654"));
    alpha.brief_for(DEADTIME);
    assert!(!alpha.said.electable, "a majority is not in contact");
}

#[test]
fn of_another_life_it_is_no_sign_of_life_at_all() {
    let mut alpha = Alpha::in_contact();
    alpha.beta.generation = alpha.beta.generation.next();
    alpha.beta.sequence = Sequence(0);
    alpha.brief_for(DEADTIME / 2);
    assert!(!alpha.promises() && alpha.asks());
    alpha.brief_for(DEADTIME / 2 + KEEPALIVE);
    assert!(alpha.died(), "the former life");
}

#[test]
fn it_comes_too_late_like_any_other() {
    let mut alpha = Alpha::in_contact();
    let old = alpha.next();
    alpha.whole();
    alpha.run(10);
    let before = alpha.count;
    let (link, status) = (LinkId(0), old);
    alpha.handle(Input::Brief { link, status });
    assert_eq!(alpha.count, before);
    alpha.run(KEEPALIVE);
    assert!(!alpha.asks());
}

#[test]
fn who_asks_is_answered_at_once_but_not_endlessly() {
    let mut alpha = Alpha::in_contact();
    alpha.run(KEEPALIVE / 2);
    alpha.beta.asks = [node("alpha")].into();
    let before = alpha.count;
    alpha.whole();
    assert_eq!(alpha.count, before + 1, "at once");
    alpha.run(KEEPALIVE / 8);
    alpha.whole();
    alpha.brief();
    let asked = alpha.count - usize::from(alpha.asks());
    assert_eq!(asked, before + 1, "not again so soon");
    alpha.run(KEEPALIVE / 4);
    let before = alpha.count;
    alpha.whole();
    assert!(alpha.count > before, "again");
}
