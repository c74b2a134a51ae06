//! How long it takes until a state is known whose first messages are lost: a question and its answer more than if each
//! heartbeat were whole.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use ha_node::core::{
    Core, GroupOutcome, GroupSettings, Input, Instant, NodeSettings, Output, Persistent, Policy,
    Settings,
};
use ha_node::ids::{ClusterName, Generation, GroupName, LinkId, NodeName, RequestId};
use ha_node::wire::brief::{Exchange, Taken};
use ha_node::wire::codec::{Heartbeat, Received, SenderFacts, decode};
use ha_node::wire::keys::Keys;
use ha_node::wire::status::{GroupState, Status};
use std::sync::LazyLock;
use std::time::Duration;

/// All in milliseconds.
const KEEPALIVE: u64 = 100;
const DEADTIME: u64 = 1000;
const MESSAGE: u64 = 3;

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::parse("auth 1\n1 crc\n").unwrap());

const FACTS: SenderFacts<'static> = SenderFacts {
    timestamp_unix_secs: 1,
    loadavg: "",
    ttl: 3,
};

struct Machine {
    core: Core,
    exchange: Exchange,
    /// Packets, each with the time of its arrival.
    inbox: Vec<(u64, Vec<u8>)>,
    /// What its peer was last known to say.
    known: Option<Box<Status>>,
}

/// Two nodes, one group, which runs on the first.
struct Pair {
    now: u64,
    machines: [Machine; 2],
    /// How many more whole heartbeats of the first one are lost.
    lose: u32,
}

fn group() -> GroupName {
    GroupName::new("web").unwrap()
}

fn machine(local: usize) -> Machine {
    let names = ["alpha", "beta"].map(|name| NodeName::new(name).unwrap());
    let of_group = GroupSettings {
        nodes: names[..1].to_vec(),
        auto_failback: false,
        stop_margin: None,
        policies: [].into(),
    };
    let settings = Settings {
        cluster: ClusterName::new("test").unwrap(),
        local: names[local].clone(),
        nodes: names.map(|name| (name, NodeSettings::default())).into(),
        groups: [(group(), of_group)].into(),
        policy: Policy::Majority,
        keepalive: Duration::from_millis(KEEPALIVE),
        warntime: Duration::from_millis(DEADTIME / 2),
        deadtime: Duration::from_millis(DEADTIME),
        initdead: Duration::from_millis(2 * DEADTIME),
        config_hash: 0,
    };
    let persistent = Persistent::first(Generation(7));
    Machine {
        core: Core::new(settings, persistent, Instant::from_nanos(0)),
        exchange: Exchange::default(),
        inbox: Vec::new(),
        known: None,
    }
}

fn read(packet: &[u8]) -> Heartbeat {
    match decode(packet, &KEYS) {
        Ok(Received::Heartbeat(heartbeat)) => heartbeat,
        other => panic!("{other:?}"),
    }
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            now: 0,
            machines: [machine(0), machine(1)],
            lose: 0,
        };
        (0..2).for_each(|at| pair.handle(at, Input::Tick));
        while pair.seen() != GroupState::Started {
            assert!(pair.now < 20 * DEADTIME, "it starts");
            pair.step();
        }
        (0..10 * KEEPALIVE).for_each(|_| pair.step());
        pair
    }

    /// What beta knows of the group on alpha.
    fn seen(&self) -> GroupState {
        let known = self.machines[1].known.as_ref();
        let group = known.and_then(|status| status.report.groups.get(&group()).copied());
        group.unwrap_or_default().state
    }

    fn handle(&mut self, at: usize, input: Input) {
        let now = Instant::from_nanos(self.now * 1_000_000);
        for output in self.machines[at].core.handle(now, input) {
            if let Output::Send(status) = output {
                self.send(at, &status);
            } else if let Output::StartGroup { group, order } = output {
                self.answer(at, group, order, GroupOutcome::Started);
            } else if let Output::StopGroup { group, order, .. } = output {
                self.answer(at, group, order, GroupOutcome::Stopped);
            }
        }
    }

    fn answer(&mut self, at: usize, group: GroupName, order: RequestId, outcome: GroupOutcome) {
        let order = Some(order);
        self.handle(
            at,
            Input::Group {
                group,
                order,
                outcome,
            },
        );
    }

    fn send(&mut self, at: usize, status: &Status) {
        let packet = self.machines[at].exchange.encode(status, &KEYS, &FACTS);
        if at == 0 && self.lose > 0 && !read(&packet).brief {
            self.lose -= 1;
            return;
        }
        let arrival = self.now + MESSAGE;
        self.machines[1 - at].inbox.push((arrival, packet));
    }

    /// A millisecond.
    fn step(&mut self) {
        self.now += 1;
        for at in 0..2 {
            let now = self.now;
            let arrived: Vec<_> = (self.machines[at].inbox)
                .extract_if(.., |(when, _)| *when <= now)
                .collect();
            for (_, packet) in arrived {
                let taken = self.machines[at].exchange.take(read(&packet));
                let link = LinkId(0);
                let input = match taken {
                    Taken::Whole(status) => {
                        self.machines[at].known = Some(status.clone());
                        Input::Message { link, status }
                    }
                    Taken::Brief(status) => Input::Brief { link, status },
                };
                self.handle(at, input);
            }
            let due = self.machines[at].core.next_deadline();
            if due.is_some_and(|due| due.as_nanos() <= now * 1_000_000) {
                self.handle(at, Input::Tick);
            }
        }
    }
}

#[test]
fn a_lost_state_is_known_one_question_later() {
    for lost in 0..6_u32 {
        let mut pair = Pair::new();
        pair.lose = lost;
        let start = pair.now;
        // The restart that this leads to takes longer than all that is looked at.
        let outcome = GroupOutcome::Failed {
            resource: "r".into(),
            reason: "it ended".into(),
        };
        let (group, order) = (group(), None);
        pair.handle(
            0,
            Input::Group {
                group,
                order,
                outcome,
            },
        );
        while pair.seen() != GroupState::Starting {
            assert!(pair.now < start + DEADTIME, "{lost} lost");
            pair.step();
        }
        let took = pair.now - start;
        let if_all_were_whole = u64::from(lost) * KEEPALIVE + MESSAGE;
        // The first two are sent unasked; whatever is lost beyond them was the answer to a question.
        let question = u64::from(lost.saturating_sub(1)) * 2 * MESSAGE + 1;
        println!("{lost} lost: {took} ms");
        assert!(
            took <= if_all_were_whole + question,
            "{lost} lost: {took} ms, and {if_all_were_whole} ms if each heartbeat were whole"
        );
    }
}
