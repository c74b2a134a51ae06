//! The only place where the core and the drivers meet: one loop, events in, actions out. Decides nothing.
//!
//! Each turn takes one event, gives it to the core, and carries out all outputs in their order before the next.
//! Drivers and the bus send over bounded channels; a task of theirs that has ended ends the process, since a daemon
//! without hands or ears must not seem to be alive. The watchdog of systemd is fed by this loop and by nothing else.

mod packets;
mod people;
pub mod release;
mod start;

pub(crate) use start::load_keys;
pub use start::{Options, check, exit_code, run};

use crate::core::event::Event;
use crate::core::{Core, Input, Instant, Output, Persistent};
use crate::dbus::BusCommand;
use crate::ids::{LinkId, RequestId};
use crate::link::{LinkEvent, Links};
use crate::process;
use crate::resource::{Guard, Hands, HandsEvent};
use crate::state::State;
use crate::wire::codec::SenderFacts;
use crate::wire::keys::Keys;
use crate::wire::status::{Refusal, Status};
use packets::Reception;
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
    people: People,
    waiting: BTreeMap<RequestId, oneshot::Sender<Result<(), Refusal>>>,
    last_request: RequestId,
    storing: Option<JoinHandle<()>>,
    /// Answers that must not be given before what they rest on is stored.
    held_back: Vec<(RequestId, Result<(), Refusal>)>,
    watchdog: Option<Duration>,
    fed: Instant,
}

impl Node {
    /// Runs until the core has left the cluster.
    async fn run_loop(mut self, mut stop: mpsc::Receiver<()>) -> anyhow::Result<()> {
        let mut stopping = false;
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.turn(Input::Tick);
        loop {
            self.feed_watchdog();
            let pause = self.pause();
            let turn = tokio::select! {
                biased;
                Some(()) = stop.recv(), if !stopping => {
                    stopping = true;
                    self.people.stopping();
                    self.turn(Input::Shutdown)
                }
                event = self.link_events.recv() => {
                    let event = event.ok_or_else(|| anyhow::anyhow!("the links have ended; restarting is the remedy"))?;
                    self.handle_link_events(event)
                }
                event = self.hands_events.recv() => {
                    let event = event.ok_or_else(|| anyhow::anyhow!("the drivers have ended; restarting is the remedy"))?;
                    self.handle_hands_event(event)
                }
                Some(command) = self.commands.recv() => self.handle_command(command),
                () = finished(&mut self.storing) => { self.on_stored(); Turn::Again }
                () = tokio::time::sleep(pause) => self.turn(Input::Tick),
                _ = housekeeping.tick() => { self.keep_house(); Turn::Again }
            };
            if turn == Turn::Finished {
                return Ok(());
            }
        }
    }

    /// One turn of the core, with everything that it asks for.
    fn turn(&mut self, input: Input) -> Turn {
        let outputs = self.core.handle(process::boottime_now(), input);
        self.guard.set(self.core.lease());
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
        let packet = crate::wire::codec::encode(status, &self.keys, &facts);
        self.links.send(&packet);
    }

    /// A new generation is on disk before anything is said under it; the rest may take its time, since a slow disk
    /// must not hold up heartbeats.
    fn store(&mut self, persistent: Persistent) {
        let state = Arc::clone(&self.state);
        if persistent.generation != self.generation_stored {
            self.generation_stored = persistent.generation;
            store_now(&state, &persistent);
            return;
        }
        let before = self.storing.take();
        self.storing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let done = tokio::task::spawn_blocking(move || store_now(&state, &persistent)).await;
            if let Err(error) = done {
                tracing::error!(
                    "storing the state was broken off ({error}); it is stored again at the next change"
                );
            }
        }));
    }

    fn on_stored(&mut self) {
        self.storing = None;
        for (id, result) in std::mem::take(&mut self.held_back) {
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
                match self
                    .reception
                    .open(link, from, &bytes, &self.keys, &self.config)
                {
                    Some(status) => self.turn(Input::Message { link, status }),
                    None => Turn::Again,
                }
            }
            LinkEvent::State { link, up, reason } => {
                self.note_link(link, up, &reason);
                Turn::Again
            }
        }
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

    /// Time to the next deadline of the core, or of the watchdog if that is nearer.
    fn pause(&self) -> Duration {
        let now = process::boottime_now();
        let core = self.core.next_deadline().map(|at| at.since(now));
        let watchdog = self.watchdog.map(|every| (self.fed + every).since(now));
        core.into_iter()
            .chain(watchdog)
            .min()
            .unwrap_or(HOUSEKEEPING)
    }

    fn feed_watchdog(&mut self) {
        let now = process::boottime_now();
        if self
            .watchdog
            .is_some_and(|every| now.since(self.fed) >= every)
        {
            self.fed = now;
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }

    fn keep_house(&mut self) {
        self.people.keep_house();
        self.reception.tell_rejected();
        self.show();
    }
}

fn store_now(state: &State, persistent: &Persistent) {
    if let Err(error) = state.store(persistent) {
        tracing::error!("{error}; a restart of ha-node will not know of the newest change");
    }
}

/// Ends when the task has; never without one.
async fn finished(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => {
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
}
