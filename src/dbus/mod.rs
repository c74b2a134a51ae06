//! `org.linuxha.Cluster` on the system bus: what the cluster is, what happens to it, and how to steer it.
//!
//! Owns the bus connection, the objects, the check of callers and the last events. Leaves all decisions to
//! `node`, which publishes a [`Snapshot`] each turn and answers [`BusCommand`]s. A bus that is absent, slow
//! or restarting never holds up the caller of a function here: every queue is bounded, nothing waits.

pub mod access;
pub mod error;
pub mod events;
pub mod interfaces;
pub mod model;
pub mod path;
mod serve;
pub mod snapshot;
pub mod systemd1;

pub use snapshot::{ClockOffset, LinkSnapshot, ResourceSnapshot, Snapshot};

use crate::core::Request;
use crate::journal::Record;
use crate::wire::status::Refusal;
use events::EventLog;
use model::Model;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

/// The well-known name.
pub const BUS_NAME: &str = "org.linuxha.Cluster";

/// How many callers polkit may be asked about at once, each of whom may be typing a password; more are refused as busy,
/// which keeps neither root nor the group from anything.
const QUESTIONS_MAX: usize = 16;

/// How many calls may wait for the cluster; more are refused as busy.
const CALLS_MAX: usize = 64;

/// What a client wants.
#[derive(Debug)]
pub enum BusCommand {
    /// A person's request; the caller was checked.
    Request {
        /// What is asked for.
        request: Request,
        /// Answered when it is done; the caller may be gone by then.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
}

/// The service. Dropping it ends the service.
#[derive(Debug)]
pub struct Bus {
    snapshots: watch::Sender<Snapshot>,
    shared: Arc<Shared>,
}

impl Bus {
    /// Starts serving on the current runtime; a bus that is absent is waited for.
    pub fn start(initial: Snapshot, commands: mpsc::Sender<BusCommand>) -> Self {
        Self::start_at(None, initial, commands)
    }

    /// The same on the bus at this D-Bus address, or on the system bus.
    pub fn start_at(
        address: Option<String>,
        initial: Snapshot,
        commands: mpsc::Sender<BusCommand>,
    ) -> Self {
        let shared = Arc::new(Shared::new(Model::of(&initial), commands));
        let (snapshots, receiver) = watch::channel(initial);
        tokio::spawn(serve::run(Arc::clone(&shared), receiver, address));
        Self { snapshots, shared }
    }

    /// Waits until the name is ours for the first time.
    pub async fn served(&self) {
        self.shared.first_served.notified().await;
    }

    /// Shows the state of this turn; one that nobody has seen yet is replaced.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshots.send_if_modified(|current| {
            let differs = *current != snapshot;
            *current = snapshot;
            differs
        });
    }

    /// Tells the clients of an event, after the snapshot that is published in the same turn.
    pub fn event(&self, record: &Record) {
        lock(&self.shared.events).push(record.clone());
        self.shared.event_added.notify_one();
    }
}

/// What the objects of all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    model: Mutex<Arc<Model>>,
    events: Mutex<EventLog>,
    event_added: Notify,
    commands: mpsc::Sender<BusCommand>,
    /// Bounds the requests under way of those who may ask.
    calls: Semaphore,
    /// Bounds the questions to polkit about those who may perhaps.
    questions: Semaphore,
    first_served: Notify,
}

impl Shared {
    pub(crate) fn new(model: Model, commands: mpsc::Sender<BusCommand>) -> Self {
        Self {
            model: Mutex::new(Arc::new(model)),
            events: Mutex::default(),
            event_added: Notify::new(),
            commands,
            calls: Semaphore::new(CALLS_MAX),
            questions: Semaphore::new(QUESTIONS_MAX),
            first_served: Notify::new(),
        }
    }

    fn model(&self) -> Arc<Model> {
        Arc::clone(&lock(&self.model))
    }

    fn update(&self, model: Model) {
        *lock(&self.model) = Arc::new(model);
    }

    fn kept_events(&self) -> Vec<Arc<Record>> {
        lock(&self.events).kept()
    }

    fn next_event(&self) -> Option<Arc<Record>> {
        lock(&self.events).next_waiting()
    }

    fn dropped_events(&self) -> u64 {
        lock(&self.events).take_dropped()
    }
}

/// A panic elsewhere cannot leave these values half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
