//! Brief heartbeats: a receiver that loses any packets knows the same as if each had been whole, one question later.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod wire_support;

use ha_node::ids::{Generation, NodeName, Sequence};
use ha_node::wire::brief::{Exchange, Taken};
use ha_node::wire::codec::{Received, SenderFacts, decode};
use ha_node::wire::keys::Keys;
use ha_node::wire::status::{Heard, Phase, Profile, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::parse("auth 1\n1 crc\n").unwrap());

const FACTS: SenderFacts<'static> = SenderFacts {
    timestamp_unix_secs: 1,
    loadavg: "",
    ttl: 3,
};

/// One direction: alpha says, beta hears.
#[derive(Default)]
struct Way {
    alpha: Exchange,
    beta: Exchange,
}

impl Way {
    fn say(&mut self, status: &Status) -> Vec<u8> {
        self.alpha.encode(status, &KEYS, &FACTS)
    }

    fn hear(&mut self, packet: &[u8]) -> Taken {
        self.beta.take(read(packet))
    }

    /// Beta says that it lacks what alpha's newest message stands for.
    fn ask(&mut self, newest: &Status) {
        let mut question = wire_support::example();
        question.asks = [newest.node.clone()].into();
        question.heard = [(newest.node.clone(), heard(newest))].into();
        question.node = beta();
        let packet = Exchange::default().encode(&question, &KEYS, &FACTS);
        self.alpha.take(read(&packet));
    }
}

fn read(packet: &[u8]) -> ha_node::wire::codec::Heartbeat {
    match decode(packet, &KEYS) {
        Ok(Received::Heartbeat(heartbeat)) => heartbeat,
        other => panic!("{other:?}"),
    }
}

fn heard(status: &Status) -> Heard {
    Heard {
        generation: status.generation,
        sequence: status.sequence,
        promise: true,
    }
}

fn beta() -> NodeName {
    NodeName::new("beta").unwrap()
}

fn example() -> Status {
    Status {
        asks: [].into(),
        returning: false,
        ..wire_support::example()
    }
}

fn next(status: &mut Status) -> &Status {
    status.sequence = status.sequence.next();
    status
}

fn whole(status: &Status) -> Taken {
    Taken::Whole(Box::new(status.clone()))
}

fn is_brief(packet: &[u8]) -> bool {
    read(packet).brief
}

#[test]
fn a_new_state_is_said_twice_and_then_its_digest_until_it_changes() {
    let (mut way, mut status) = (Way::default(), example());
    let mut said = Vec::new();
    for _ in 0..4 {
        let packet = way.say(next(&mut status));
        assert_eq!(way.hear(&packet), whole(&status));
        said.push(is_brief(&packet));
    }
    assert_eq!(said, [false, false, true, true]);
    // What is in the head is said in any case.
    status.report.version.0 += 1;
    let packet = way.say(next(&mut status));
    assert!(is_brief(&packet));
    assert_eq!(way.hear(&packet), whole(&status));
    status.report.groups.clear();
    let packet = way.say(next(&mut status));
    assert!(!is_brief(&packet));
    assert_eq!(way.hear(&packet), whole(&status));
}

#[test]
fn now_and_then_the_whole_state_is_said_unasked() {
    let (mut way, mut status) = (Way::default(), example());
    let said = (0..600).map(|_| is_brief(&way.say(next(&mut status))));
    let whole = said.filter(|brief| !brief).count();
    assert_eq!(whole, 4, "two at first, and then one after two hundred");
}

#[test]
fn who_is_new_or_leaves_or_returns_says_and_hears_the_whole_state() {
    let (mut way, mut status) = (Way::default(), example());
    for _ in 0..3 {
        way.say(next(&mut status));
    }
    let mut changes: Vec<(&str, Status)> = Vec::new();
    let newest = heard(&status);
    let mut more = status.clone();
    more.heard.insert(NodeName::new("gamma").unwrap(), newest);
    changes.push(("somebody new", more.clone()));
    for heard in more.heard.values_mut() {
        heard.generation = heard.generation.next();
    }
    changes.push(("somebody restarted", more.clone()));
    more.generation = more.generation.next();
    changes.push(("another life", more.clone()));
    more.returning = true;
    changes.push(("a restart", more.clone()));
    more.phase = Phase::Gone;
    changes.push(("the last words", more));
    for (what, changed) in changes {
        status = changed;
        assert!(!is_brief(&way.say(next(&mut status))), "{what}");
    }
}

#[test]
fn what_was_lost_is_asked_for_and_answered_once() {
    let (mut way, mut status) = (Way::default(), example());
    way.say(next(&mut status));
    way.say(next(&mut status));
    let packet = way.say(next(&mut status));
    assert!(matches!(way.hear(&packet), Taken::Brief(_)));
    let newest = status.clone();
    way.ask(&newest);
    let packet = way.say(next(&mut status));
    assert!(!is_brief(&packet), "on demand");
    // The same question from another link, or from another node that missed the same.
    way.ask(&newest);
    assert!(is_brief(&way.say(next(&mut status))), "answered already");
    way.ask(&status.clone());
    let packet = way.say(next(&mut status));
    assert_eq!(way.hear(&packet), whole(&status));
}

#[test]
fn a_question_to_another_life_or_node_is_not_answered() {
    let (mut way, mut status) = (Way::default(), example());
    for _ in 0..3 {
        way.say(next(&mut status));
    }
    for wrong in [
        Status {
            node: NodeName::new("gamma").unwrap(),
            ..status.clone()
        },
        Status {
            generation: status.generation.next(),
            ..status.clone()
        },
    ] {
        way.ask(&wrong);
        assert!(is_brief(&way.say(next(&mut status))));
    }
}

#[test]
fn the_state_of_another_life_completes_nothing() {
    let (mut way, mut status) = (Way::default(), example());
    let first = way.say(next(&mut status));
    way.hear(&first);
    for generation in [status.generation.0 - 1, status.generation.0 + 1] {
        let mut other = Way::default();
        let mut later = Status {
            generation: Generation(generation),
            ..status.clone()
        };
        other.say(next(&mut later));
        other.say(next(&mut later));
        let brief = other.say(next(&mut later));
        assert!(is_brief(&brief));
        assert!(matches!(way.hear(&brief), Taken::Brief(_)), "{generation}");
    }
}

#[test]
fn an_old_recording_does_not_replace_a_newer_state() {
    let (mut way, mut status) = (Way::default(), example());
    let old = way.say(next(&mut status));
    let mut earlier = Status {
        generation: Generation(1),
        ..status.clone()
    };
    earlier.report.blocked.clear();
    let of_an_earlier_life = Exchange::default().encode(&earlier, &KEYS, &FACTS);
    status.report.groups.clear();
    for _ in 0..2 {
        let packet = way.say(next(&mut status));
        way.hear(&packet);
    }
    way.hear(&old);
    way.hear(&of_an_earlier_life);
    let packet = way.say(next(&mut status));
    assert!(is_brief(&packet));
    assert_eq!(way.hear(&packet), whole(&status));
}

#[test]
fn a_brief_heartbeat_says_nothing_of_what_it_leaves_out() {
    let (mut way, mut status) = (Way::default(), example());
    way.say(next(&mut status));
    way.say(next(&mut status));
    let packet = way.say(next(&mut status));
    let mut head = status.clone();
    head.report.groups.clear();
    head.report.blocked.clear();
    head.report.cleared.clear();
    head.report.lives.clear();
    head.plan = None;
    head.profile = Profile::default();
    assert_eq!(way.hear(&packet), Taken::Brief(Box::new(head)));
}

/// What happens to one heartbeat.
#[derive(Debug, Clone)]
struct Step {
    /// Index of the state that it says.
    state: usize,
    /// The packet does not arrive.
    lost: bool,
    /// The question does not arrive.
    unasked: bool,
    /// The receiver begins a life.
    forgets: bool,
    /// An earlier packet arrives as well.
    again: Option<prop::sample::Index>,
}

fn step() -> impl Strategy<Value = Step> {
    let rarely = || prop::bool::weighted(0.1);
    let again = prop::option::weighted(0.2, any::<prop::sample::Index>());
    let all = (
        0..3_usize,
        prop::bool::weighted(0.4),
        rarely(),
        rarely(),
        again,
    );
    all.prop_map(|(state, lost, unasked, forgets, again)| Step {
        state,
        lost,
        unasked,
        forgets,
        again,
    })
}

proptest! {
    /// Whatever arrives is either exactly what was said, or nothing but a question; and a question is answered.
    #[test]
    fn completing_gives_what_was_said_whatever_is_lost(
        states in vec(wire_support::status(), 3),
        steps in vec(step(), 1..60),
    ) {
        let mut way = Way::default();
        let mut archive: Vec<(Status, Vec<u8>)> = Vec::new();
        let mut answered = false;
        for (at, step) in (1..).zip(steps) {
            let mut status = Status {
                node: example().node,
                generation: Generation(7),
                sequence: Sequence(at),
                ..states[step.state].clone()
            };
            status.heard.insert(beta(), heard(&status));
            let packet = way.say(&status);
            archive.push((status.clone(), packet.clone()));
            if step.forgets {
                way.beta = Exchange::default();
            }
            if let Some(again) = step.again {
                let (said, packet) = again.get(&archive);
                if let Taken::Whole(read) = way.hear(packet) {
                    prop_assert_eq!(&*read, said);
                }
            }
            if std::mem::take(&mut answered) {
                prop_assert!(!is_brief(&packet), "asked, and not answered");
            }
            if step.lost {
                continue;
            }
            match way.hear(&packet) {
                Taken::Whole(read) => prop_assert_eq!(*read, status),
                Taken::Brief(_) if step.unasked => {}
                Taken::Brief(_) => {
                    way.ask(&status);
                    answered = true;
                }
            }
        }
    }
}
