//! systemd units: started and stopped by jobs, watched by signals, on a bus connection of their own.
//!
//! A job's end is the signal `JobRemoved`, not the reply to the call. A bus that is away makes nothing
//! fail: states are unknown until it is back, orders wait within their time-out, and everything is read
//! anew after each reconnection. The connection itself is `bus`'s.

use crate::dbus::systemd1::{ActiveState, JobResult, UnitState, error_word};
use crate::resource::bus::{Call, Job, Link, Table};
use crate::resource::guard::{Guard, NEVER_ASKED, NO_LEASE, NO_ROOM};
use crate::resource::starts::{Permit, Starts};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long a question about a unit may take before nothing is known; the bus's own limit is far longer.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before a question that nobody answered is asked again, and before a stop that somebody cancelled.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// First pause before a call is made again for which the message bus had no room; it doubles up to [`ASK_AGAIN`].
pub(super) const ROOM_PAUSE: Duration = Duration::from_millis(50);

/// So often the state of a unit is asked for after a job; then nobody knows it.
const READS_MAX: usize = 10;

/// All units that groups consist of.
#[derive(Debug)]
pub struct Units {
    pub(super) guard: Guard,
    pub(super) changes: watch::Sender<()>,
    pub(super) link: watch::Sender<Option<Link>>,
    table: Mutex<Table>,
    pub(super) starts: Starts,
    /// A group cannot do without systemd.
    needed: bool,
}

/// The two kinds of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// While the lease holds.
    Start,
    /// What may run on several nodes at once.
    StartAnywhere,
    Stop,
}

/// How an attempt at a job ended.
#[derive(Debug)]
enum Attempt {
    /// The job ended so.
    Ended(JobResult),
    /// systemd refused it.
    Refused(zbus::Error),
    /// The lease ran out before it was asked for.
    NoLease,
    /// A stop was ordered before it was asked for.
    Revoked,
    /// systemd did not answer in time, but the connection lives.
    NoAnswer,
    /// The connection was lost; nobody knows.
    Lost,
}

impl Units {
    /// Units by name, none of them known yet. `changes` is told whenever [`Self::fault`] may answer anew.
    pub fn new(names: Vec<String>, guard: Guard, changes: watch::Sender<()>) -> Self {
        Self {
            guard,
            changes,
            link: watch::channel(None).0,
            starts: Starts::default(),
            needed: !names.is_empty(),
            table: Mutex::new(Table::new(names)),
        }
    }

    /// Follows one more unit.
    pub(super) fn add(&self, name: String) {
        self.table().add(name);
    }

    /// Whether a group has any unit at all; without, no connection is needed.
    pub fn any(&self) -> bool {
        self.needed
    }

    /// Starts a unit, however long it takes; one that is active is adopted.
    ///
    /// # Errors
    /// Words for people.
    pub async fn start(self: &Arc<Self>, name: &str) -> Result<(), String> {
        self.start_by(name, Verb::Start).await
    }

    /// The same for a unit that may run on several nodes at once: no lease is needed.
    ///
    /// # Errors
    /// Words for people.
    pub(super) async fn start_anywhere(self: &Arc<Self>, name: &str) -> Result<(), String> {
        self.start_by(name, Verb::StartAnywhere).await
    }

    async fn start_by(self: &Arc<Self>, name: &str, verb: Verb) -> Result<(), String> {
        let mut lost = None;
        let mut pause = ROOM_PAUSE;
        self.table().note_call(name, |call| *call = Call::default());
        loop {
            let link = self.connected_for_start(name, lost).await;
            if lost.is_some()
                && let Some(state) = self.read(&link, name).await
                && !state.has_job
            {
                if state.active.is_up() {
                    return Ok(());
                }
                if state.active == ActiveState::Failed {
                    return Err(self.explain_failure(&link, name, &state).await);
                }
            }
            let asked_before = self.table().call(name).asked;
            self.table().note_call(name, |call| call.asked = true);
            match self.attempt(&link, name, verb).await {
                Attempt::Ended(result) => return self.judge_start(&link, name, &result).await,
                Attempt::Refused(error) if is_no_room(&error) => {
                    self.table().note_call(name, |call| {
                        (call.asked, call.no_room) = (asked_before, true);
                    });
                    wait_for_room(&mut pause).await;
                }
                Attempt::Refused(error) => return Err(explain_refusal(name, &error)),
                // To ask for the same job again is harmless.
                Attempt::NoAnswer => sleep(ASK_AGAIN).await,
                Attempt::NoLease => {
                    return Err(NO_LEASE.to_owned());
                }
                Attempt::Revoked => return Err(revoked(name)),
                Attempt::Lost => lost = Some(link.epoch),
            }
        }
    }

    /// Stops a unit from any state, however long it takes; one that is not loaded is stopped. After that no start of ours
    /// that was ordered before can take effect any more.
    ///
    /// # Errors
    /// Words for people; the unit may still run.
    pub async fn stop(self: &Arc<Self>, name: &str) -> Result<(), String> {
        self.starts.revoke(name);
        // Not after the start: systemd may be about to answer both.
        while self.starts.is_open(name) {
            self.stop_now(name).await?;
            self.starts.answered(name).await;
        }
        self.stop_now(name).await
    }

    /// Waits until no start of a unit that was ordered before can take effect any more, or has.
    pub(super) async fn settle(&self, name: &str) {
        self.starts.revoke(name);
        self.starts.answered(name).await;
    }

    async fn stop_now(self: &Arc<Self>, name: &str) -> Result<(), String> {
        let mut lost = None;
        let mut pause = ROOM_PAUSE;
        self.table().note_call(name, |call| {
            (call.asked, call.no_room) = (true, false);
        });
        loop {
            let link = self.connected(lost).await;
            match self.attempt(&link, name, Verb::Stop).await {
                Attempt::Ended(JobResult::Canceled) if !self.is_down(&link, name).await => {
                    // Somebody started it meanwhile; the time-out of the stop ends this.
                    sleep(ASK_AGAIN).await;
                }
                Attempt::Ended(result) => return self.judge_stop(&link, name, &result).await,
                Attempt::Refused(error) if is_unknown_unit(&error) => return Ok(()),
                // What the bus did is no failure of the unit: the time-out of the stop ends this.
                Attempt::Refused(error) if is_no_room(&error) => {
                    self.table().note_call(name, |call| call.no_room = true);
                    wait_for_room(&mut pause).await;
                }
                Attempt::Refused(error) => return Err(explain_refusal(name, &error)),
                Attempt::NoAnswer => sleep(ASK_AGAIN).await,
                Attempt::NoLease | Attempt::Revoked | Attempt::Lost => lost = Some(link.epoch),
            }
        }
    }

    /// One of these units that a start of `name` would start, too; none while nobody knows.
    pub(super) async fn needs_any(&self, name: &str, wanted: &BTreeSet<String>) -> Option<String> {
        let link = self.link.borrow().clone()?;
        let asked = link.needs_any(name, wanted);
        timeout(QUESTION_TIMEOUT, asked).await.ok().flatten()
    }

    /// Whether a unit runs or is on its way, as far as is known.
    pub(super) fn is_up(&self, name: &str) -> bool {
        let table = self.table();
        table.state(name).is_some_and(|state| state.active.is_up())
    }

    /// Why a started unit does not run any more; none while it does or nobody knows.
    pub async fn fault(&self, name: &str) -> Option<String> {
        let known = self.table().state(name).map(UnitState::has_ended);
        if known == Some(false) {
            return None;
        }
        // Signals tell of a moment that has passed: ask what is now. Without a connection the next one tells.
        let link = self.link.borrow().clone()?;
        let Some(state) = self.read(&link, name).await else {
            self.ask_again();
            return None;
        };
        if !state.has_ended() {
            return None;
        }
        Some(self.explain_failure(&link, name, &state).await)
    }

    /// Lets everybody ask for faults anew after a while: no signal may come of what nobody knows.
    fn ask_again(&self) {
        let changes = self.changes.clone();
        tokio::spawn(async move {
            sleep(ASK_AGAIN).await;
            changes.send_replace(());
        });
    }

    /// The state of any unit as of now; none if nobody knows.
    pub(super) async fn active_state(&self, name: &str) -> Option<ActiveState> {
        let link = self.connected(None).await;
        let (_, state) = timeout(QUESTION_TIMEOUT, link.unit_state(name))
            .await
            .ok()??;
        Some(state.active)
    }

    /// What a unit does, from the table where it is known there; none while nobody knows.
    pub(super) async fn known_state(&self, name: &str) -> Option<UnitState> {
        let known = self.table().state(name).cloned();
        if known.is_some() {
            return known;
        }
        let link = self.link.borrow().clone()?;
        self.read(&link, name).await
    }

    /// What a job that takes too long is waiting for.
    pub fn overdue(&self, name: &str) -> String {
        let table = self.table();
        let call = table.call(name);
        let asked = if call.asked {
            String::new()
        } else {
            format!("; {NEVER_ASKED}")
        };
        if self.link.borrow().is_none() {
            let reason = table.bus_error().unwrap_or("no connection yet");
            return format!(
                "systemd is not to be reached on the system bus ({reason}); is dbus running?{asked}"
            );
        }
        if call.no_room {
            return format!("{NO_ROOM}{asked}");
        }
        match table.state(name) {
            Some(state) => format!("{name} is {state}; `systemctl status {name}` says more"),
            None => format!("nothing is known of {name}; `systemctl status {name}` says more"),
        }
    }

    /// Whether a start failed for want of a connection to systemd, and there is one now; answered once.
    pub(super) fn has_recovered(&self, name: &str) -> bool {
        let wants = self.link.borrow().is_some() && self.table().call(name).wants_bus;
        if wants {
            self.table().note_call(name, |call| call.wants_bus = false);
        }
        wants
    }

    /// Waits for a connection; a start that ends before there is one has failed for want of it.
    pub(super) async fn connected_for_start(&self, name: &str, lost: Option<u64>) -> Link {
        self.table().note_call(name, |call| call.wants_bus = true);
        let link = self.connected(lost).await;
        self.table().note_call(name, |call| call.wants_bus = false);
        link
    }

    /// Waits for a connection, another than the one that was lost.
    pub(super) async fn connected(&self, lost: Option<u64>) -> Link {
        let mut links = self.link.subscribe();
        loop {
            let current = links.borrow_and_update().clone();
            if let Some(link) = current.filter(|link| Some(link.epoch) != lost) {
                return link;
            }
            if links.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Queues a job and waits for its end. The work is a task of its own, since a call that is dropped
    /// half-written would spoil the connection.
    async fn attempt(self: &Arc<Self>, link: &Link, name: &str, verb: Verb) -> Attempt {
        let permit = match verb {
            Verb::Start | Verb::StartAnywhere => Some(self.starts.begin(name)),
            Verb::Stop => None,
        };
        let task = Arc::clone(self).job(link.clone(), name.to_owned(), verb, permit);
        tokio::spawn(task).await.unwrap_or(Attempt::Lost)
    }

    async fn job(
        self: Arc<Self>,
        link: Link,
        name: String,
        verb: Verb,
        permit: Option<Permit>,
    ) -> Attempt {
        let job = Job::expect(&self);
        let reply = match verb {
            Verb::Start | Verb::StartAnywhere => {
                // Moves by people or by the cluster are not the fault of the unit: systemd's limit on
                // starts is for its own restarts.
                if let Err(error) = link.manager.reset_failed_unit(&name).await {
                    tracing::debug!(%error, unit = name, "not reset before the start, starting anyway");
                }
                if permit.as_ref().is_some_and(|permit| !permit.holds()) {
                    return Attempt::Revoked;
                }
                if verb == Verb::Start && !self.guard.holds() {
                    return Attempt::NoLease;
                }
                link.manager.start_unit(&name, "replace").await
            }
            Verb::Stop => link.manager.stop_unit(&name, "replace").await,
        };
        drop(permit);
        match reply {
            Ok(path) => match job.ended(path.as_str()).await {
                Some(result) => Attempt::Ended(result),
                None => Attempt::Lost,
            },
            Err(error) if link.is_lost(&error) => Attempt::Lost,
            Err(zbus::Error::InputOutput(error)) if error.kind() == ErrorKind::TimedOut => {
                Attempt::NoAnswer
            }
            Err(error) => Attempt::Refused(error),
        }
    }

    pub(super) async fn judge_start(
        &self,
        link: &Link,
        name: &str,
        result: &JobResult,
    ) -> Result<(), String> {
        // systemd sends the change of state before the end of the job, so that the table is as new.
        let known = self.table().state(name).cloned();
        let state = match known.filter(|state| state.active == ActiveState::Active) {
            Some(state) => Some(state),
            None => self.read_at_last(link, name).await,
        };
        let state = state.ok_or_else(|| format!("systemd does not tell the state of {name}"))?;
        match result {
            JobResult::Done | JobResult::Skipped if state.active.is_up() => Ok(()),
            JobResult::Done | JobResult::Skipped if state.active == ActiveState::Inactive => {
                Err(format!(
                    "{name} was started but is {state}: a condition of the unit was not met, or it ends \
                     by itself and lacks RemainAfterExit=yes"
                ))
            }
            JobResult::Done | JobResult::Skipped | JobResult::Failed => {
                Err(self.explain_failure(link, name, &state).await)
            }
            JobResult::Canceled => Err(format!(
                "the start of {name} was cancelled by another job; the unit is {state}"
            )),
            JobResult::Timeout => Err(format!(
                "the start job of {name} ran into its own time-out (JobTimeoutSec=)"
            )),
            JobResult::Dependency => Err(format!(
                "a unit that {name} requires did not start: `systemctl list-dependencies {name}`"
            )),
            JobResult::Other(word) => Err(format!(
                "the start of {name} ended with {word:?}: `systemctl status {name}` says more"
            )),
        }
    }

    async fn judge_stop(&self, link: &Link, name: &str, result: &JobResult) -> Result<(), String> {
        let is_down = |state: &UnitState| state.active.is_down();
        if self.table().state(name).is_some_and(is_down) {
            return Ok(());
        }
        match self.read_at_last(link, name).await {
            Some(state) if is_down(&state) => Ok(()),
            Some(state) => Err(format!(
                "the stop job of {name} ended with {:?}, and the unit is {state}",
                result.as_str()
            )),
            None => Err(format!("systemd does not tell the state of {name}")),
        }
    }

    pub(super) async fn is_down(&self, link: &Link, name: &str) -> bool {
        let state = self.read(link, name).await;
        state.is_some_and(|state| state.active.is_down())
    }

    /// Asks for the state of a unit and stores it.
    pub(super) async fn read(&self, link: &Link, name: &str) -> Option<UnitState> {
        let before = self.table().version(name);
        let (path, state) = timeout(QUESTION_TIMEOUT, link.unit_state(name))
            .await
            .ok()??;
        self.table().store(name, path, before, state.clone());
        Some(state)
    }

    /// The same, asked several times: the end of a job must not be taken for a failure since the bus is crowded.
    async fn read_at_last(&self, link: &Link, name: &str) -> Option<UnitState> {
        let mut pause = ROOM_PAUSE;
        for _ in 1..READS_MAX {
            let state = self.read(link, name).await;
            if state.is_some() || link.connection.is_closed() {
                return state;
            }
            wait_for_room(&mut pause).await;
        }
        self.read(link, name).await
    }

    async fn explain_failure(&self, link: &Link, name: &str, state: &UnitState) -> String {
        let result = timeout(QUESTION_TIMEOUT, link.service_result(name)).await;
        let result = match result {
            Ok(Some(result)) => format!(", result {result:?}"),
            Ok(None) | Err(_) => String::new(),
        };
        format!("{name} is {state}{result}: `journalctl -u {name}` says more")
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said to nobody: the order that asked for it was replaced.
pub(super) fn revoked(name: &str) -> String {
    format!("the start of {name} was replaced by a stop")
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of the many errors of the library these mean that"
)]
/// Whether the message bus had no room for a call: systemd has not got it.
pub(super) fn is_no_room(error: &zbus::Error) -> bool {
    const NAME: &str = "org.freedesktop.DBus.Error.LimitsExceeded";
    match error {
        zbus::Error::MethodError(name, ..) => name.as_str() == NAME,
        zbus::Error::FDO(error) => matches!(**error, zbus::fdo::Error::LimitsExceeded(_)),
        _ => false,
    }
}

pub(super) async fn wait_for_room(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(ASK_AGAIN);
}

pub(super) fn is_unknown_unit(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if error_word(name) == Some("NoSuchUnit"))
}

/// systemd's words for a refusal, and what to do about it.
pub(super) fn explain_refusal(name: &str, error: &zbus::Error) -> String {
    let zbus::Error::MethodError(error_name, words, _) = error else {
        return format!("systemd refused the job for {name}: {error}");
    };
    let words = words.as_deref().unwrap_or("no reason given");
    let remedy = match error_word(error_name) {
        Some("NoSuchUnit") => "install it, or correct its name in the configuration".to_owned(),
        Some("UnitMasked") => format!("`systemctl unmask {name}` allows it again"),
        _ => format!("`systemctl status {name}` says more"),
    };
    format!("{words} ({remedy})")
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
