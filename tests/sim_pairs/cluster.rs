//! A small cluster of real cores in virtual time that can be copied as a whole: machines, network, drivers, people.
//!
//! It runs from event to event, on milliseconds that are counted from its making. There is one group. Whoever starts it
//! runs it from the order on; who stops it does so until the stop is done. Two nodes that run it at one instant are noted
//! as the cluster's failure, unless one of them stands still with its machine or has not had the time to notice that.

use crate::fault::{Hand, Slot};
use ha_node::core::event::Event;
use ha_node::core::{
    BrokenRule, Core, FailurePolicy, GroupOutcome, GroupSettings, Inheritance, Input, Instant,
    NodeSettings, Output, Persistent, Policy, Reaction, Request, Settings, Urgency,
};
use ha_node::ids::{ClusterName, Generation, GroupName, LinkId, NodeName, RequestId};
use ha_node::wire::status::Status;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Time between two heartbeats.
pub const KEEPALIVE: u64 = 100;

/// Silence after which a node counts as dead.
pub const DEADTIME: u64 = 3 * KEEPALIVE;

/// Time that a message is under way.
pub const MESSAGE: u64 = 2;

/// Time that a driver needs where nothing else is said, and for every emergency stop.
pub const DRIVER: u64 = 20;

/// A daemon that ended is started again by systemd after this.
pub const RESPAWN: u64 = 50;

/// How long two may run the group after a machine that stood still with its clocks goes on, if it hears the others.
const NOTICED: u64 = 2 * KEEPALIVE + DRIVER;

/// The same if something else keeps it from hearing them: the rest of its lease and the stop.
pub const UNNOTICED: u64 = DEADTIME + DRIVER + MESSAGE;

pub const NANOS: u64 = 1_000_000;

/// What is the same for all copies of a cluster.
#[derive(Debug)]
pub struct Shape {
    pub names: Vec<NodeName>,
    pub group: GroupName,
    /// Who may run the group, preferred first.
    pub listed: Vec<usize>,
    /// Time that a start, and a stop in good order, take.
    pub driver: u64,
}

/// Why a daemon is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The machine has no power, or nobody has started the daemon.
    Off,
    /// systemd starts it again at this time.
    Respawn(u64),
}

/// What a driver is about to answer.
#[derive(Debug, Clone)]
pub struct Job {
    /// None while it hangs.
    pub ends: Option<u64>,
    pub order: RequestId,
    pub outcome: GroupOutcome,
}

/// A machine that stands still.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    pub since: u64,
    /// Its clocks stand still with it, and packets are lost instead of waiting.
    pub clock_too: bool,
}

/// One machine.
#[derive(Debug, Clone)]
pub struct Node {
    pub core: Option<Core>,
    pub stored: Persistent,
    pub absence: Absence,
    pub heritage: Option<(Inheritance, u64)>,
    /// The newest heartbeat since the machine's boot.
    pub said: Option<Box<Status>>,
    /// Whether the group runs here, as a whole or in part.
    pub runs: bool,
    /// Its stop has failed, and nobody has stopped it since.
    pub stuck: bool,
    pub job: Option<Job>,
    pub pause: Option<Pause>,
    pub behind: u64,
    pub queue: Vec<Arc<Status>>,
    pub due: u64,
    /// Its own deadtime is twice that of the others.
    pub doubled: bool,
    /// What its driver does wrong with a start, and with a stop.
    pub hands: [Option<(Hand, Slot)>; 2],
    /// When it last went on after standing still, and whether its clocks had stood still, too.
    pub resumed: Option<(u64, bool)>,
    /// To be told as soon as it is up.
    pub errands: Vec<Request>,
    /// It is to start again once it has left.
    pub returns: bool,
}

#[derive(Debug, Clone)]
pub struct Flight {
    pub at: u64,
    pub to: usize,
    pub status: Arc<Status>,
}

/// What a situation does later by itself.
#[derive(Debug, Clone, Copy)]
pub enum Later {
    Boot(usize),
}

/// The whole.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub now: u64,
    pub shape: Arc<Shape>,
    pub nodes: Vec<Node>,
    pub flights: Vec<Flight>,
    /// For each sender and receiver, the faults that cut this direction, as bits.
    pub cuts: Vec<Vec<u8>>,
    /// Directions of which the next message is held back, by which fault.
    pub holds: Vec<(usize, usize, Slot)>,
    pub held: Vec<(usize, usize, Slot, Arc<Status>)>,
    pub agenda: Vec<(u64, Later)>,
    /// Faults that have met something, as bits.
    pub effects: u8,
    /// Counts orders to drivers, and changes of leaders.
    pub changes: u64,
    /// Whether anything has failed that a person could clear.
    pub something_failed: bool,
    /// Whether what happens besides a pause can keep a machine from noticing it.
    pub more_than_a_pause: bool,
    pub failure: Option<String>,
    /// A safety rule that no core keeps.
    pub broken: Option<BrokenRule>,
    pub trace: bool,
    pub requests: u64,
}

impl Cluster {
    /// All machines off.
    pub fn new(shape: Shape) -> Self {
        let size = shape.names.len();
        let node = Node {
            core: None,
            stored: blank(),
            absence: Absence::Off,
            heritage: None,
            said: None,
            runs: false,
            stuck: false,
            job: None,
            pause: None,
            behind: 0,
            queue: Vec::new(),
            due: u64::MAX,
            doubled: false,
            hands: [None, None],
            resumed: None,
            errands: Vec::new(),
            returns: false,
        };
        Self {
            now: 10 * DEADTIME,
            shape: Arc::new(shape),
            nodes: vec![node; size],
            flights: Vec::new(),
            cuts: vec![vec![0; size]; size],
            holds: Vec::new(),
            held: Vec::new(),
            agenda: Vec::new(),
            effects: 0,
            changes: 0,
            something_failed: false,
            more_than_a_pause: false,
            failure: None,
            broken: None,
            trace: false,
            requests: 0,
        }
    }

    pub fn settings(&self, local: usize) -> Settings {
        let shape = &self.shape;
        let factor = if self.nodes[local].doubled { 2 } else { 1 };
        let policy = FailurePolicy {
            reaction: Reaction::Restart { limit: 0 },
            window: Duration::from_secs(3600),
        };
        let group = GroupSettings {
            nodes: shape
                .listed
                .iter()
                .map(|n| shape.names[*n].clone())
                .collect(),
            auto_failback: false,
            stop_margin: None,
            policies: BTreeMap::from([(String::from("r"), policy)]),
        };
        let nodes = shape.names.iter();
        Settings {
            cluster: ClusterName::new("test").unwrap(),
            local: shape.names[local].clone(),
            nodes: nodes
                .map(|n| (n.clone(), NodeSettings::default()))
                .collect(),
            groups: BTreeMap::from([(shape.group.clone(), group)]),
            policy: Policy::Majority,
            keepalive: Duration::from_millis(KEEPALIVE),
            warntime: Duration::from_millis(2 * KEEPALIVE),
            deadtime: Duration::from_millis(factor * DEADTIME),
            initdead: Duration::from_millis(factor * 2 * DEADTIME),
            config_hash: factor,
        }
    }

    /// From now on all cores break a rule.
    pub fn break_rule(&mut self, rule: BrokenRule) {
        self.broken = Some(rule);
        let cores = self.nodes.iter_mut().filter_map(|node| node.core.as_mut());
        cores.for_each(|core| core.break_rule(rule));
    }

    pub fn say(&self, who: usize, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>6} {}: {what}", self.now, self.shape.names[who]);
        }
    }

    pub fn clock(&self, node: usize) -> Instant {
        Instant::from_nanos((self.now - self.nodes[node].behind) * NANOS)
    }

    // Time.

    /// Lets time pass up to `end`, or to the first failure.
    pub fn run_to(&mut self, end: u64) {
        while self.failure.is_none() {
            let next = self.next_event();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
            self.run_instant();
            self.check_owners();
        }
    }

    fn next_event(&self) -> u64 {
        let nodes = self.nodes.iter().filter(|n| n.pause.is_none());
        let own = nodes.map(|n| match (&n.core, n.absence) {
            (Some(_), _) => {
                let job = n.job.as_ref().and_then(|j| j.ends).unwrap_or(u64::MAX);
                n.due.min(job)
            }
            (None, Absence::Respawn(at)) => n
                .heritage
                .as_ref()
                .map_or(at, |(_, release)| at.min(*release)),
            (None, Absence::Off) => u64::MAX,
        });
        let flights = self.flights.iter().map(|f| f.at);
        let agenda = self.agenda.iter().map(|(at, _)| *at);
        own.chain(flights).chain(agenda).min().unwrap_or(u64::MAX)
    }

    fn run_instant(&mut self) {
        let now = self.now;
        if let Some(place) = self.agenda.iter().position(|(at, _)| *at <= now) {
            let (_, Later::Boot(node)) = self.agenda.remove(place);
            self.boot(node);
        }
        for node in 0..self.nodes.len() {
            self.wake(node);
        }
        while let Some(place) = self.flights.iter().position(|f| f.at <= now) {
            let flight = self.flights.remove(place);
            self.arrive(flight.to, flight.status);
        }
        for node in 0..self.nodes.len() {
            let due = self.nodes[node].due <= now;
            if due && self.is_awake(node) {
                self.feed(node, Input::Tick);
            }
        }
    }

    /// What is due on one node besides messages and its core's deadline.
    fn wake(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.pause.is_some() {
            return;
        }
        if node.core.is_none() {
            if let Some((_, release)) = node.heritage
                && release <= now
            {
                node.heritage = None;
                node.runs = false;
            }
            if let Absence::Respawn(at) = node.absence
                && at <= now
            {
                self.begin_life(index);
            }
        } else if node
            .job
            .as_ref()
            .is_some_and(|j| j.ends.is_some_and(|at| at <= now))
            && let Some(job) = node.job.take()
        {
            self.answer(index, job);
        }
    }

    fn arrive(&mut self, to: usize, status: Arc<Status>) {
        let node = &mut self.nodes[to];
        match node.pause {
            Some(pause) if pause.clock_too => {}
            Some(_) => node.queue.push(status),
            None if node.core.is_some() => self.hear(to, &status),
            None => {}
        }
    }

    pub fn hear(&mut self, to: usize, status: &Arc<Status>) {
        let status = Box::new(Status::clone(status));
        self.feed(
            to,
            Input::Message {
                link: LinkId(0),
                status,
            },
        );
    }

    /// Whether its daemon is there and gets its turns.
    pub fn is_awake(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.core.is_some() && node.pause.is_none()
    }

    /// Whether its daemon is there, awake, and means to stay.
    pub fn is_up(&self, node: usize) -> bool {
        self.is_awake(node) && !self.nodes[node].returns
    }

    // People.

    /// Asks a node for something now, or as soon as it is up.
    pub fn request(&mut self, node: usize, request: Request) {
        if self.is_awake(node) {
            self.ask(node, request);
        } else {
            self.nodes[node].errands.push(request);
        }
    }

    pub fn ask(&mut self, node: usize, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.say(node, format_args!("is asked for {request:?}"));
        self.feed(node, Input::Request { id, request });
    }

    // The core.

    pub fn feed(&mut self, index: usize, input: Input) {
        for output in self.turn(index, input) {
            self.carry_out(index, output);
        }
        let node = &mut self.nodes[index];
        let deadline = node.core.as_ref().and_then(Core::next_deadline);
        node.due = deadline.map_or(u64::MAX, |at| at.as_nanos().div_ceil(NANOS) + node.behind);
    }

    /// The same where the daemon's end is somebody else's business.
    pub fn feed_and_forget(&mut self, index: usize, input: Input) {
        for output in self.turn(index, input) {
            if !matches!(output, Output::Exit) {
                self.carry_out(index, output);
            }
        }
    }

    fn turn(&mut self, index: usize, input: Input) -> Vec<Output> {
        let clock = self.clock(index);
        let core = self.nodes[index].core.as_mut();
        core.map(|core| core.handle(clock, input))
            .unwrap_or_default()
    }

    pub fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Send(status) => {
                self.nodes[index].said = Some(status.clone());
                self.send(index, status);
            }
            Output::StartGroup { order, .. } | Output::RestartGroup { order, .. } => {
                self.say(index, format_args!("STARTS"));
                self.take_order(index, order, false, false);
            }
            Output::StopGroup { order, urgency, .. } => {
                self.say(index, format_args!("STOPS ({urgency:?})"));
                self.take_order(index, order, true, urgency == Urgency::LeaseLost);
            }
            Output::Event(event) => {
                self.say(index, format_args!("{event:?}"));
                if matches!(event, Event::Leader { .. }) {
                    self.changes += 1;
                }
            }
            Output::Reply { result, .. } => self.say(index, format_args!("replies {result:?}")),
            Output::Persist(persistent) => self.nodes[index].stored = persistent,
            Output::Announce(_) => {}
            Output::Exit => self.end_life(index),
        }
    }

    // What is looked at.

    /// Who runs the group, and could know that it must not.
    fn owners(&self) -> impl Iterator<Item = usize> {
        let all = self.nodes.iter().enumerate();
        let counted = all.filter(|(_, n)| n.runs && !self.is_excused(n));
        counted.map(|(index, _)| index)
    }

    /// Whether it cannot have noticed yet that it was replaced.
    fn is_excused(&self, node: &Node) -> bool {
        let bound = |clock_too: bool| match (clock_too, self.more_than_a_pause) {
            (false, _) => DRIVER + 1,
            (true, false) => NOTICED,
            (true, true) => UNNOTICED,
        };
        let fresh = |(at, clock_too): (u64, bool)| self.now < at + bound(clock_too);
        node.pause.is_some() || node.resumed.is_some_and(fresh)
    }

    /// Who runs the group, machines that stand still aside.
    pub fn runners(&self) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, n)| n.runs && n.pause.is_none())
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether its driver has nothing to do.
    pub fn is_idle(&self, node: usize) -> bool {
        self.nodes[node].job.is_none()
    }

    fn check_owners(&mut self) {
        if self.owners().nth(1).is_some() {
            let names: Vec<_> = self
                .owners()
                .map(|n| self.shape.names[n].to_string())
                .collect();
            self.failure = Some(format!("two owners: {}", names.join(" and ")));
        }
    }

    /// A number that is equal for clusters in which the same follows from the same.
    pub fn fingerprint(&self) -> u64 {
        struct Text(DefaultHasher);
        impl std::fmt::Write for Text {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        let mut text = Text(DefaultHasher::new());
        let network = (&self.flights, &self.cuts, &self.holds, &self.held);
        let rest = (&self.agenda, self.something_failed, self.more_than_a_pause);
        write!(text, "{} {:?} {network:?} {rest:?}", self.now, self.nodes).unwrap();
        text.0.finish()
    }

    /// What a node shows.
    pub fn view(&self, node: usize) -> Option<ha_node::core::view::View> {
        let core = self.nodes[node].core.as_ref()?;
        Some(core.view(self.clock(node)))
    }
}

/// A disk on which nothing is stored yet.
pub fn blank() -> Persistent {
    Persistent::first(Generation(0))
}
