//! The only place where the core and the drivers meet: one loop, events in, actions out. Decides nothing.
//!
//! Each turn takes one event, gives it to the core, and carries out all outputs in their order before the next.
//! Drivers and the bus send over bounded channels; a task of theirs that has ended ends the process, since a daemon
//! without hands or ears must not seem to be alive. The watchdog of systemd is fed by this loop and by nothing else.

mod alarm;
mod ears;
mod last_words;
mod notify;
mod packets;
mod people;
pub mod release;
mod restart;
mod spare;
mod start;
mod stopping;
mod timer;

pub use start::{Options, check, exit_code, run};
pub(crate) use start::{key_warnings, load_keys};

use crate::core::event::Event;
use crate::core::{Core, Input, Instant, Output, Persistent};
use crate::dbus::BusCommand;
use crate::ids::{LinkId, RequestId};
use crate::link::{LinkEvent, Links};
use crate::process;
use crate::resource::{Guard, Hands, HandsEvent};
use crate::state::State;
use crate::tenure::Keeper;
use crate::wire::brief::Taken;
use crate::wire::codec::SenderFacts;
use crate::wire::keys::Keys;
use crate::wire::status::{Policy, Refusal, Status};
use alarm::Alarm;
use anyhow::Context as _;
use ears::Ears;
use packets::{Own, Reception};
use people::People;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Most packets that are handled before the loop looks at its other sources and its deadlines again.
const PACKETS_PER_TURN: usize = 64;

/// Pause between two looks at what has no event of its own: the journal's backlog, counters for the bus.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What is due may wait this long for a turn that comes anyway.
const HOUSEKEEPING_SLACK: Duration = Duration::from_millis(500);

/// Longest wait for systemd's word on why the daemon shall stop, in which no heartbeat is sent.
const RESTART_PATIENCE: Duration = Duration::from_millis(300);

/// Pause between two attempts to write what journald has no room for.
const JOURNAL_PAUSE: Duration = Duration::from_millis(20);

/// How much longer a stop under way may take, told again and again while it goes on.
const STOP_EXTENSION: Duration = Duration::from_secs(30);

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Again,
    Finished,
}

/// The daemon: the core and everything around it.
struct Node {
    core: Core,
    config: crate::config::Config,
    keys: Keys,
    state: Arc<State>,
    generation_stored: crate::ids::Generation,
    links: Links,
    link_events: mpsc::Receiver<LinkEvent>,
    hands: Hands,
    hands_events: mpsc::Receiver<HandsEvent>,
    guard: Guard,
    commands: mpsc::Receiver<BusCommand>,
    reception: Reception,
    ears: Ears,
    people: People,
    waiting: BTreeMap<RequestId, oneshot::Sender<Result<(), Refusal>>>,
    last_request: RequestId,
    storing: Option<JoinHandle<bool>>,
    /// The newest state did not get to the disk: tried again once a second.
    unstored: Option<Persistent>,
    /// Answers that must not be given before what they rest on is stored.
    held_back: Vec<(RequestId, Result<(), Refusal>)>,
    alarm: Alarm,
    tenure: Keeper,
    /// How often systemd's watchdog is fed at least.
    watchdog: Option<Duration>,
    fed: Instant,
    kept_house: Instant,
    /// When journald is offered again what it had no room for.
    journal_due: Option<Instant>,
    stopping: bool,
}

impl Node {
    /// Runs until the core has left the cluster.
    async fn run_loop(mut self, mut stop: mpsc::Receiver<()>) -> anyhow::Result<()> {
        self.begin().await;
        loop {
            self.keep_up();
            let due = self.next_due();
            let turn = tokio::select! {
                biased;
                Some(()) = stop.recv(), if !self.stopping => self.handle_stop().await,
                event = self.link_events.recv() => {
                    let event = event.ok_or_else(|| anyhow::anyhow!("the links have ended; restarting is the remedy"))?;
                    self.handle_link_events(event)
                }
                event = self.hands_events.recv() => {
                    let event = event.ok_or_else(|| anyhow::anyhow!("the drivers have ended; restarting is the remedy"))?;
                    self.handle_hands_event(event)
                }
                Some(command) = self.commands.recv() => self.handle_command(command),
                stored = finished(&mut self.storing) => { self.on_stored(stored); Turn::Again }
                rung = self.alarm.wait_until(due) => {
                    rung.context("the alarm of the loop has failed")?;
                    self.turn(Input::Tick)
                }
            };
            if turn == Turn::Finished {
                return Ok(());
            }
        }
    }

    /// The first turn: a node that cannot hear anybody yet knows that from the start.
    async fn begin(&mut self) {
        let words = ears::first_words(&mut self.link_events, self.config.links.len()).await;
        let (states, packets): (Vec<_>, Vec<_>) = words
            .into_iter()
            .partition(|event| matches!(event, LinkEvent::State { .. }));
        for event in states {
            if let LinkEvent::State {
                link,
                up,
                able,
                reason,
            } = event
            {
                self.note_link(link, up, &reason);
                self.ears.note(link, able, &reason);
            }
        }
        if self.ears.hear() {
            self.turn(Input::Tick);
        } else {
            self.on_ears(false);
        }
        for event in packets {
            self.handle_link_event(event);
        }
    }

    /// A daemon that is only restarted leaves its groups running for the next one.
    async fn handle_stop(&mut self) -> Turn {
        self.stopping = true;
        self.people.notifier.stopping();
        let patience = RESTART_PATIENCE.min(self.config.settings.deadtime / 4);
        let asked = tokio::time::timeout(patience, restart::is_under_way());
        let restarts = asked.await.unwrap_or(false);
        self.hands.leave();
        self.turn(if restarts {
            Input::Restart
        } else {
            Input::Shutdown
        })
    }

    /// One turn of the core, with everything that it asks for.
    fn turn(&mut self, input: Input) -> Turn {
        let outputs = self.core.handle(process::boottime_now(), input);
        self.guard.set(self.core.lease());
        // Before anything is taken.
        self.tenure
            .note_held(self.core.holdings(), &self.config.groups);
        self.tenure
            .note_failures(self.core.failures(), &self.config.groups);
        if self.config.settings.standalone() {
            self.tenure.note_unlimited();
        }
        let mut turn = Turn::Again;
        for output in outputs {
            if let Output::Exit = output {
                turn = Turn::Finished;
            }
            self.carry_out(output);
        }
        if self.people.would_notice(&self.core) {
            self.show();
        }
        turn
    }

    fn show(&mut self) {
        let shown = self
            .people
            .snapshot(&self.core, &self.config, &self.links, &self.reception);
        self.people.show(shown);
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(status) => self.send(&status),
            Output::StartGroup { group, order } => self.hands.start_group(&group, order),
            Output::RestartGroup {
                group,
                order,
                resource,
            } => self.hands.restart_group(&group, order, &resource),
            Output::StopGroup {
                group,
                order,
                urgency,
            } => self.hands.stop_group(&group, order, urgency),
            Output::Announce(group) => self.hands.announce(&group),
            Output::Event(event) => self.people.tell(&event),
            Output::Persist(persistent) => self.store(persistent),
            Output::Reply { id, result } if self.storing.is_some() => {
                self.held_back.push((id, result))
            }
            Output::Reply { id, result } => self.reply(id, result),
            Output::Exit => {}
        }
    }

    fn send(&mut self, status: &Status) {
        let loadavg = self.people.loadavg();
        let ttl = u32::try_from(self.config.settings.nodes.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let facts = SenderFacts {
            timestamp_unix_secs: process::unix_now_secs(),
            loadavg: &loadavg,
            ttl,
        };
        let packet = self.reception.seal(status, &self.keys, &facts);
        // What it promises must not be forgotten, and its promises count from others'. Under `ignore` nothing is promised,
        // and how long the rest of the cluster waits for this node counts from what was sent.
        let promises = status.profile.policy == Policy::Majority;
        if promises {
            self.tenure.note_heartbeat(self.core.tenure(), status);
        }
        self.links.send(&packet);
        if !promises {
            self.tenure.note_heartbeat(self.core.tenure(), status);
        }
    }

    /// A new generation is on disk before anything is said under it; the rest may take its time, since a slow disk
    /// must not hold up heartbeats.
    fn store(&mut self, persistent: Persistent) {
        let state = Arc::clone(&self.state);
        if persistent.generation != self.generation_stored {
            self.generation_stored = persistent.generation;
            if !store_now(&state, &persistent) {
                self.unstored = Some(persistent);
            }
            return;
        }
        self.unstored = Some(persistent.clone());
        let before = self.storing.take();
        self.storing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let done = tokio::task::spawn_blocking(move || store_now(&state, &persistent)).await;
            done.unwrap_or_else(|error| {
                tracing::error!("storing the state was broken off ({error}), trying again");
                false
            })
        }));
    }

    fn on_stored(&mut self, stored: bool) {
        self.storing = None;
        if stored {
            self.unstored = None;
        }
        for (id, result) in std::mem::take(&mut self.held_back) {
            let result = result.and(if stored {
                Ok(())
            } else {
                Err(Refusal::NotStored)
            });
            self.reply(id, result);
        }
    }

    fn reply(&mut self, id: RequestId, result: Result<(), Refusal>) {
        if let Some(reply) = self.waiting.remove(&id) {
            // The caller may have gone; what it asked for is done all the same.
            let _ = reply.send(result);
        }
    }

    /// Takes all packets that wait, up to a bound, so that a deadline is judged by everything that was said in time.
    fn handle_link_events(&mut self, first: LinkEvent) -> Turn {
        let mut event = Some(first);
        for _ in 0..PACKETS_PER_TURN {
            let Some(next) = event.take().or_else(|| self.link_events.try_recv().ok()) else {
                break;
            };
            if self.handle_link_event(next) == Turn::Finished {
                return Turn::Finished;
            }
        }
        // Packets that are rejected give the core no turn: a flood of them must not hold up its deadlines.
        let due = self.core.next_deadline();
        if due.is_some_and(|at| at <= process::boottime_now()) {
            return self.turn(Input::Tick);
        }
        Turn::Again
    }

    fn handle_link_event(&mut self, event: LinkEvent) -> Turn {
        match event {
            LinkEvent::Received {
                link, from, bytes, ..
            } => {
                let own = Own {
                    config: &self.config,
                    generation: self.core.generation(),
                };
                match self.reception.open(link, from, &bytes, &self.keys, own) {
                    Some(Taken::Whole(status)) => self.turn(Input::Message { link, status }),
                    Some(Taken::Brief(status)) => self.turn(Input::Brief { link, status }),
                    None => Turn::Again,
                }
            }
            LinkEvent::State {
                link,
                up,
                able,
                reason,
            } => {
                self.note_link(link, up, &reason);
                match self.ears.note(link, able, &reason) {
                    Some(usable) => self.on_ears(usable),
                    None => {
                        self.people.note_deafness(self.ears.deafness());
                        Turn::Again
                    }
                }
            }
        }
    }

    /// Whether any link of this node's own can be used has changed.
    fn on_ears(&mut self, usable: bool) -> Turn {
        let deafness = self.ears.deafness();
        match &deafness {
            Some(reason) => tracing::warn!(
                "no usable link of its own: {reason}; until one is, nothing is started here, and nobody is taken for dead"
            ),
            None => tracing::info!("a link of this node can be used"),
        }
        self.people.note_deafness(deafness);
        self.turn(Input::Links { usable })
    }

    fn note_link(&self, link: LinkId, up: bool, reason: &str) {
        let label = self.people.link_label(link);
        if up {
            tracing::info!("link {label} is ready: {reason}");
        } else {
            tracing::warn!("link {label} is not usable: {reason}; waiting for it");
        }
    }

    fn handle_hands_event(&mut self, event: HandsEvent) -> Turn {
        match event {
            HandsEvent::Group {
                group,
                order,
                outcome,
            } => self.turn(Input::Group {
                group,
                order,
                outcome,
            }),
            HandsEvent::Resource {
                group,
                resource,
                state,
            } => {
                self.people.note_resource(&group, resource, state);
                self.show();
                Turn::Again
            }
            HandsEvent::Note {
                group,
                resource,
                text,
            } => {
                // An event waits for a journal that is busy; a diagnostic would be lost.
                self.people.tell(&Event::ResourceNoted {
                    group,
                    resource,
                    text,
                });
                Turn::Again
            }
        }
    }

    fn handle_command(&mut self, command: BusCommand) -> Turn {
        match command {
            BusCommand::Request { request, reply } => {
                self.last_request = RequestId(self.last_request.0.saturating_add(1));
                let id = self.last_request;
                self.waiting.insert(id, reply);
                self.turn(Input::Request { id, request })
            }
        }
    }

    /// When the loop must go round at the latest: at the core's deadline, else for what can wait for it a while.
    fn next_due(&self) -> Instant {
        let house = self.kept_house + HOUSEKEEPING + HOUSEKEEPING_SLACK;
        let watchdog = self.watchdog.map(|every| self.fed + 2 * every);
        self.core
            .next_deadline()
            .into_iter()
            .chain(watchdog)
            .chain(self.journal_due)
            .fold(house, Instant::min)
    }

    /// What is due by the clock alone, done in passing.
    fn keep_up(&mut self) {
        let now = process::boottime_now();
        if self
            .watchdog
            .is_some_and(|every| now.since(self.fed) >= every)
        {
            self.fed = now;
            self.people.notifier.watchdog();
        }
        let waits = self.people.drain_journal();
        self.journal_due = waits.then(|| now + JOURNAL_PAUSE);
        if now.since(self.kept_house) >= HOUSEKEEPING {
            self.kept_house = now;
            self.keep_house();
        }
    }

    fn keep_house(&mut self) {
        if self.stopping {
            self.people.notifier.extend_timeout(STOP_EXTENSION);
        }
        if self.storing.is_none()
            && let Some(persistent) = self.unstored.take()
        {
            self.store(persistent);
        }
        self.people.keep_house();
        self.reception.tell_rejected();
        self.show();
    }
}

/// Whether it is on disk now.
fn store_now(state: &State, persistent: &Persistent) -> bool {
    match state.store(persistent) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("{error}; a restart of ha-node will not know of the newest change");
            false
        }
    }
}

/// Ends when the task has, with its answer; never without one.
async fn finished(task: &mut Option<JoinHandle<bool>>) -> bool {
    match task {
        Some(task) => task.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}
