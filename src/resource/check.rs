//! Health checks: while a resource runs here it is asked again and again, and too many bad answers in a row
//! are a fault of it.
//!
//! Owns when is asked and what the answers amount to; what is asked is the business of the files below. One
//! task for each check, which is ended by the stop, whatever it waits for. What it costs is bounded: attempts
//! of one check follow each other, each has a time-out and reads a bounded answer.

mod count;
mod exec;
mod http;
mod https;
mod response;
mod tcp;
mod unit;

use crate::config::health::{HealthCheck, Probe};
use crate::config::model::{Group, Resource};
use crate::resource::HandsEvent;
use crate::resource::transient::{Program, unit_name};
use crate::resource::unit::Units;
use count::{Change, Count};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// A check that fails and recovers all the time is told of no more often than this.
const NOTE_PAUSE: Duration = Duration::from_secs(60);

/// A check that cannot ask for one and the same reason is told of no more often than this.
const UNASKED_PAUSE: Duration = Duration::from_secs(3600);

/// Until it can, it tries again more and more seldom, but at least so often: each attempt is lines of systemd's.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What one attempt found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// As it should be.
    Good,
    /// Not as it should be: what was expected and what came, for people.
    Bad(String),
    /// Nobody could ask: this speaks neither for nor against the resource.
    Unknown,
    /// The same, for a reason that people must mend.
    Unasked(String),
}

/// The checks of one group's resources and of the group itself.
#[derive(Debug)]
pub(crate) struct Checks {
    group: Arc<Group>,
    units: Arc<Units>,
    changes: watch::Sender<()>,
    events: mpsc::Sender<HandsEvent>,
    running: Mutex<BTreeMap<String, Running>>,
}

/// The checks of one resource that runs. Dropping it ends them.
#[derive(Debug)]
struct Running {
    _tasks: JoinSet<()>,
    faults: Vec<Fault>,
}

/// Why a check has failed; none while it has not.
type Fault = Arc<Mutex<Option<String>>>;

/// One check and those who are told of it.
struct Watcher {
    check: HealthCheck,
    /// Its number among the checks of the resource, from 1.
    number: usize,
    /// How it is called: a check of the group is told from one of its last resource.
    name: String,
    group: Arc<Group>,
    resource: String,
    units: Arc<Units>,
    fault: Fault,
    changes: watch::Sender<()>,
    events: mpsc::Sender<HandsEvent>,
    noted: Option<Noted>,
    /// When it was last told that it cannot ask, and why not.
    unasked: Option<(Instant, String)>,
}

/// The last note that a check begins to fail.
#[derive(Debug, Clone, Copy)]
struct Noted {
    at: Instant,
    /// Its recovery was not told yet.
    open: bool,
}

impl Checks {
    /// None of them runs yet. `changes` is told whenever [`Self::fault`] may answer anew.
    pub(crate) fn new(
        group: Arc<Group>,
        units: Arc<Units>,
        changes: watch::Sender<()>,
        events: mpsc::Sender<HandsEvent>,
    ) -> Self {
        Self {
            group,
            units,
            changes,
            events,
            running: Mutex::default(),
        }
    }

    /// Begins the checks of a resource that has started, anew if they ran already. Those of the group begin
    /// with its last resource.
    pub(crate) fn begin(&self, resource: &Resource) {
        let own = resource.checks.iter().map(|check| (check, ""));
        let is_last = self.group.resources.last().map(|last| &last.id) == Some(&resource.id);
        let of_group = self.group.checks.iter().filter(|_| is_last);
        let mut tasks = JoinSet::new();
        let mut faults = Vec::new();
        let of_group = of_group.map(|check| (check, "the group's check "));
        for (number, (check, owner)) in (1..).zip(own.chain(of_group)) {
            let fault = Fault::default();
            faults.push(Arc::clone(&fault));
            let watcher = Watcher {
                check: check.clone(),
                number,
                name: format!("{owner}{}", check.probe),
                group: Arc::clone(&self.group),
                resource: resource.id.clone(),
                units: Arc::clone(&self.units),
                fault,
                changes: self.changes.clone(),
                events: self.events.clone(),
                noted: None,
                unasked: None,
            };
            tasks.spawn(watcher.run());
        }
        if faults.is_empty() {
            return;
        }
        let running = Running {
            _tasks: tasks,
            faults,
        };
        self.running().insert(resource.id.clone(), running);
    }

    /// Ends them, before the resource is stopped; an attempt under way is abandoned.
    pub(crate) fn end(&self, resource: &Resource) {
        self.running().remove(&resource.id);
    }

    /// Why a resource that runs is not healthy, if so.
    pub(crate) fn fault(&self, resource: &Resource) -> Option<String> {
        let running = self.running();
        let faults = &running.get(&resource.id)?.faults;
        faults.iter().find_map(|fault| lock(fault).clone())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        lock(&self.running)
    }
}

impl Watcher {
    async fn run(mut self) {
        let begin = Instant::now();
        let mut count = Count::new(self.check.failures, self.check.successes);
        let mut unasked = 0;
        let mut ticks = interval(self.check.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let reason = match self.attempt().await {
                Finding::Good => None,
                Finding::Bad(reason) => Some(reason),
                Finding::Unknown => continue,
                Finding::Unasked(reason) => {
                    self.on_unasked(&reason).await;
                    unasked += 1;
                    sleep(self.check.interval.saturating_mul(unasked).min(RETRY_MAX)).await;
                    continue;
                }
            };
            unasked = 0;
            let in_grace = begin.elapsed() < self.check.start_grace;
            let change = count.record(reason.is_none(), in_grace);
            self.on_change(change, &reason.unwrap_or_default()).await;
        }
    }

    async fn attempt(&self) -> Finding {
        let limit = self.check.timeout;
        match &self.check.probe {
            Probe::Http(page) => within(limit, http::ask(page)).await,
            Probe::Https(page) => {
                let program = self.program(&[], None);
                https::ask(page, program, &self.units).await
            }
            Probe::Tcp { address } => within(limit, tcp::connect(*address)).await,
            Probe::Unit { name } => unit::ask(name, &self.units).await,
            Probe::Exec { command, user } => {
                let program = self.program(command, user.as_ref());
                exec::ask(&program, &self.units).await
            }
        }
    }

    fn program(&self, command: &[String], user: Option<&String>) -> Program {
        let verb = format!("check-{}", self.number);
        Program {
            unit: unit_name(self.group.name.as_str(), &self.resource, &verb),
            description: format!("health check of {} in {}", self.resource, self.group.name),
            argv: command.to_vec(),
            environment: BTreeMap::new(),
            user: user.cloned(),
            identifier: self.resource.clone(),
            timeout: self.check.timeout,
        }
    }

    async fn on_change(&mut self, change: Change, reason: &str) {
        match change {
            Change::None => {}
            Change::Failing => self.note(reason).await,
            Change::Recovered => self.on_recovery(),
            Change::Failed => self.set_fault(Some(self.explain(reason))),
            Change::Good => {
                self.set_fault(None);
                self.tell_recovery();
            }
        }
    }

    fn explain(&self, reason: &str) -> String {
        match self.check.failures {
            0 | 1 => format!("{}: {reason}", self.name),
            times => format!("{}: {times} times in a row, last: {reason}", self.name),
        }
    }

    fn set_fault(&self, fault: Option<String>) {
        *lock(&self.fault) = fault;
        self.changes.send_replace(());
    }

    /// Says that it begins to fail: one line, however long it goes on.
    async fn note(&mut self, reason: &str) {
        let now = Instant::now();
        if self
            .noted
            .is_some_and(|noted| now.duration_since(noted.at) < NOTE_PAUSE)
        {
            return;
        }
        self.noted = Some(Noted {
            at: now,
            open: true,
        });
        let text = format!(
            "{}: {reason}; {} such answers in a row are a failure",
            self.name, self.check.failures
        );
        self.tell(text).await;
    }

    /// Says that it watches over nothing: that would not be seen otherwise.
    async fn on_unasked(&mut self, reason: &str) {
        let is_told = self.unasked.as_ref().is_some_and(|(at, last)| {
            let pause = if last == reason {
                UNASKED_PAUSE
            } else {
                NOTE_PAUSE
            };
            at.elapsed() < pause
        });
        if !is_told {
            self.unasked = Some((Instant::now(), reason.to_owned()));
            let text = format!(
                "{}: cannot be asked, so it says nothing of the resource: {reason}",
                self.name
            );
            self.tell(text).await;
        }
    }

    async fn tell(&self, text: String) {
        let note = HandsEvent::Note {
            group: self.group.name.clone(),
            resource: self.resource.clone(),
            text,
        };
        if self.events.send(note).await.is_err() {
            tracing::debug!("nobody listens to the checks any more");
        }
    }

    fn on_recovery(&mut self) {
        if let Some(noted) = self.noted.as_mut().filter(|noted| noted.open) {
            noted.open = false;
            self.tell_recovery();
        }
    }

    fn tell_recovery(&self) {
        let (group, resource, name) = (&self.group.name, &self.resource, &self.name);
        tracing::info!("{group}: {resource}: {name}: good again");
    }
}

/// Whether there is an answer in time that is no error.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, String>>) -> Finding {
    match timeout(limit, answer).await {
        Ok(Ok(_)) => Finding::Good,
        Ok(Err(reason)) => Finding::Bad(reason),
        Err(_) => Finding::Bad(format!("no answer within {limit:?}")),
    }
}

/// Whether any check runs programs, which systemd does.
pub(super) fn runs_programs(groups: &[Group]) -> bool {
    all(groups).any(|check| matches!(check.probe, Probe::Exec { .. } | Probe::Https(_)))
}

/// The units that checks ask for, beside those that are resources.
pub(super) fn unit_names(groups: &[Group]) -> impl Iterator<Item = String> {
    all(groups).filter_map(|check| match &check.probe {
        Probe::Unit { name } => Some(name.clone()),
        Probe::Http(_) | Probe::Https(_) | Probe::Tcp { .. } | Probe::Exec { .. } => None,
    })
}

fn all(groups: &[Group]) -> impl Iterator<Item = &HealthCheck> {
    groups.iter().flat_map(|group| {
        let of_resources = group.resources.iter().flat_map(|resource| &resource.checks);
        of_resources.chain(&group.checks)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
