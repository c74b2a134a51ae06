//! One group: started left to right, stopped right to left, rolled back when a start fails.
//!
//! Orders are latest-wins: a newer order ends the one under way, whose outcome is then never sent. Each
//! order works from any state, so that nothing need be remembered of one that was cut short. What a start
//! or stop consists of is the driver's. Between orders the group is watched: what fails while it runs, and what others
//! start while it does not.

use crate::config::model::{Group, Resource, ResourceKind};
use crate::core::io::{GroupOutcome, Urgency};
use crate::ids::RequestId;
use crate::resource::emergency::{self, Emergency};
use crate::resource::guard::{is_refusal, was_never_asked};
use crate::resource::{HandsEvent, ResourceState, warm};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Least time between two tellings that others have started a resource, so that a fight over a unit costs little.
const APPEARANCE_PAUSE: Duration = Duration::from_secs(10);

/// The same for the failures of one that the group does without: it may come and go all the time.
const LENIENCE_PAUSE: Duration = Duration::from_secs(60);

/// What the runner needs of those who do the work. Words in errors are for people.
pub trait Driver: Send + Sync + 'static {
    /// Starts a resource; one that runs is adopted. Dropping the future gives up waiting, and what it
    /// began is ended by the next stop.
    fn start(&self, resource: &Resource) -> impl Future<Output = Result<(), String>> + Send;
    /// Stops a resource from any state; nothing there is success. Dropping gives up waiting.
    fn stop(
        &self,
        resource: &Resource,
        purpose: Purpose,
    ) -> impl Future<Output = Result<(), String>> + Send;
    /// Ends by force whatever runs of a resource, and what is still done to stop it; a stop is under way or follows.
    /// Returns once nothing of it runs, which the kernel may prevent for ever.
    fn kill(&self, resource: &Resource) -> impl Future<Output = ()> + Send;
    /// Why a started resource does not run any more; none while it runs, or while nobody knows.
    fn fault(&self, resource: &Resource) -> impl Future<Output = Option<String>> + Send;
    /// Whether a resource runs that was not started, as far as is known.
    fn appeared(&self, resource: &Resource) -> bool;
    /// Whether what a resource failed for is seen to be over, such as an interface without carrier; answered once.
    fn has_recovered(&self, resource: &Resource) -> bool;
    /// Keeps what runs without the group, too, as it should be while the group does not run here; never returns.
    fn idle(&self) -> impl Future<Output = ()> + Send;
    /// Whether others on this machine have ended what shows them that the group is here.
    fn is_hidden(&self) -> bool;
    /// Lets others on this machine know whether the group is here.
    fn show_presence(&self, presence: Presence) -> impl Future<Output = ()> + Send;
    /// What a start or stop that took too long was waiting for.
    fn overdue(&self, resource: &Resource) -> String;
}

/// Why a resource is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The group is to run here no more.
    Leave,
    /// It is started again at once.
    Restart,
}

/// Whether a group is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It runs.
    Here,
    /// It is about to be stopped, once those who depend on it have ended.
    Leaving,
    /// It must be stopped at once, whoever depends on it.
    Gone,
}

/// What is asked of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// To run.
    Start,
    /// To stop and start again what runs from this position on.
    Restart(usize),
    /// Not to run.
    Stop(Urgency),
}

/// The newest order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Repeated in the outcome.
    pub id: RequestId,
    /// What is asked.
    pub goal: Goal,
    /// When it must have been done, by force if need be.
    pub emergency: Option<Emergency>,
}

/// What the last order has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Everything was started.
    Running,
    /// Everything was stopped.
    Down,
    /// No order yet, or one that failed.
    Unclear,
}

/// What was told of a resource last; forgotten once that is not so any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It has ended.
    Ended,
    /// It did not start, and the group goes on without it.
    NotStarted,
    /// Others have started it.
    Appeared,
}

/// What was found between two orders.
enum Finding {
    /// A resource of the running group has failed.
    Failure(Failure),
    /// It runs again, without us.
    Recovery(usize),
    /// A resource of the stopped group runs.
    Appearance(usize),
    /// It does not any more.
    Disappearance(usize),
    /// What kept a resource from running here is over.
    Remedy(usize),
    /// Others have ended what shows that the group is here.
    Hidden,
}

/// Runs a group until the sender of orders is dropped. `changes` says when a fault may have appeared.
pub async fn run<D: Driver>(
    group: Arc<Group>,
    driver: D,
    mut orders: watch::Receiver<Option<Order>>,
    mut changes: watch::Receiver<()>,
    events: mpsc::Sender<HandsEvent>,
) {
    let states = vec![ResourceState::Stopped; group.resources.len()];
    let mut runner = Runner {
        group,
        driver: Arc::new(driver),
        events,
        states,
        told: BTreeMap::new(),
        told_at: BTreeMap::new(),
        is_clean: false,
    };
    let mut rest = Rest::Unclear;
    loop {
        tokio::select! {
            biased;
            newer = orders.changed() => {
                if newer.is_err() {
                    return;
                }
                match runner.obey(&mut orders).await {
                    Some(left) => rest = left,
                    None => return,
                }
            }
            finding = runner.look(rest, &mut changes) => runner.on_finding(finding).await,
            () = runner.driver.idle(), if rest == Rest::Down => {}
        }
    }
}

struct Runner<D> {
    group: Arc<Group>,
    driver: Arc<D>,
    events: mpsc::Sender<HandsEvent>,
    states: Vec<ResourceState>,
    told: BTreeMap<usize, Told>,
    /// When something was told of a resource last.
    told_at: BTreeMap<usize, Instant>,
    /// Everything was stopped, and no start has begun since: what an earlier daemon has left is not known to be.
    is_clean: bool,
}

/// A resource, by its position, and what the driver said of it.
type Failure = (usize, String);

impl<D: Driver> Runner<D> {
    /// Carries out the newest order, whatever becomes of older ones, and tells its outcome.
    /// Answers what that has left; none when there will be no more orders.
    async fn obey(&mut self, orders: &mut watch::Receiver<Option<Order>>) -> Option<Rest> {
        loop {
            let order = (*orders.borrow_and_update())?;
            tokio::select! {
                biased;
                newer = orders.changed() => newer.ok()?,
                outcome = self.execute(order) => {
                    let rest = match outcome {
                        GroupOutcome::Started => Rest::Running,
                        GroupOutcome::Stopped
                        | GroupOutcome::StartFailed { .. }
                        | GroupOutcome::StartRefused => Rest::Down,
                        GroupOutcome::StopFailed { .. }
                        | GroupOutcome::Failed { .. }
                        | GroupOutcome::Appeared { .. }
                        | GroupOutcome::Recovered { .. } => Rest::Unclear,
                    };
                    // A failure that was told while the order was on its way may have found nobody who listened; one
                    // that is ignored need not be told twice.
                    let group = Arc::clone(&self.group);
                    let running = rest == Rest::Running;
                    self.told
                        .retain(|position, _| running && is_ignored(&group, *position));
                    self.is_clean = rest == Rest::Down;
                    self.tell(Some(order.id), outcome).await;
                    return Some(rest);
                }
            }
        }
    }

    async fn execute(&mut self, order: Order) -> GroupOutcome {
        match order.goal {
            Goal::Start => {
                let was_clean = std::mem::replace(&mut self.is_clean, false);
                self.start(0, was_clean).await
            }
            Goal::Restart(first) => {
                let order = (first..self.group.resources.len()).rev().collect();
                let Some(failure) = self.stop(order, Purpose::Restart).await else {
                    return self.start(first, true).await;
                };
                // It is blocked: nobody else may run the rest, and here it is of no use.
                self.driver.show_presence(Presence::Gone).await;
                self.stop((0..first).rev().collect(), Purpose::Leave).await;
                self.stop_failed(failure)
            }
            Goal::Stop(urgency) => {
                let (first, rest) = stop_order(&self.group.resources, urgency);
                let hurried = self.stop(first, Purpose::Leave).await;
                // Clients of a group that has failed wait already.
                let presence = match urgency {
                    Urgency::Orderly if self.has_failed() => Presence::Gone,
                    Urgency::Orderly => Presence::Leaving,
                    Urgency::LeaseLost => Presence::Gone,
                };
                self.driver.show_presence(presence).await;
                let failure = match order.emergency {
                    Some(emergency) => self.stop_by_force(rest, emergency).await,
                    None => self.stop(rest, Purpose::Leave).await,
                };
                match hurried.or(failure) {
                    None => GroupOutcome::Stopped,
                    Some(failure) => self.stop_failed(failure),
                }
            }
        }
    }

    /// Starts what stands from `first` on. `is_clean`: nothing of that runs yet.
    async fn start(&mut self, first: usize, is_clean: bool) -> GroupOutcome {
        let group = Arc::clone(&self.group);
        for (position, resource) in group.resources.iter().enumerate().skip(first) {
            // An address takes microseconds: a burst of them shall not be slowed down by telling of it.
            if !matches!(resource.kind, ResourceKind::Address { .. }) {
                self.show(position, ResourceState::Starting).await;
            }
            let result = match timeout(resource.start_timeout, self.driver.start(resource)).await {
                Ok(result) => result,
                Err(_) => Err(self.too_long("start", resource, resource.start_timeout)),
            };
            match result {
                Ok(()) => self.show(position, ResourceState::Started).await,
                Err(reason) if is_ignored(&group, position) && !is_refusal(&reason) => {
                    self.told.insert(position, Told::NotStarted);
                    self.tell_failure((position, reason)).await;
                }
                Err(reason) => return self.roll_back((position, reason), is_clean).await,
            }
        }
        self.driver.show_presence(Presence::Here).await;
        GroupOutcome::Started
    }

    /// Stops what was started, and the resource that failed too: it may have got half way. What stands behind it may
    /// run from before, unless all was clean.
    async fn roll_back(&mut self, (failed, reason): Failure, is_clean: bool) -> GroupOutcome {
        self.show(failed, ResourceState::Failed).await;
        self.driver.show_presence(Presence::Gone).await;
        let end = match is_clean {
            // A stop could fail for want of the same thing, and would then block what runs nowhere.
            true if was_never_asked(&reason) => failed,
            true => failed + 1,
            false => self.group.resources.len(),
        };
        let order = (0..end).rev().collect();
        match self.stop(order, Purpose::Leave).await {
            None => {
                if is_refusal(&reason) {
                    return GroupOutcome::StartRefused;
                }
                self.show(failed, ResourceState::Failed).await;
                GroupOutcome::StartFailed {
                    resource: self.name(failed),
                    reason,
                }
            }
            Some((position, why)) => {
                let why = format!("{why} (while undoing a start that failed: {reason})");
                self.stop_failed((position, why))
            }
        }
    }

    /// Stops resources in this order, and kills what still runs when the time for that has come: all at once, since
    /// there is no time left for an order.
    async fn stop_by_force(&mut self, order: Vec<usize>, emergency: Emergency) -> Option<Failure> {
        let (group, driver) = (Arc::clone(&self.group), Arc::clone(&self.driver));
        let events = self.events.clone();
        let doomed: Vec<usize> = order.clone();
        let force = async move {
            emergency::sleep_until(emergency.force).await;
            let doomed = doomed.iter().filter_map(|it| group.resources.get(*it));
            join_all(doomed.map(|resource| force(&*driver, &group, resource, emergency, &events)))
                .await;
            // Whether all is down is the stop's to say.
            std::future::pending().await
        };
        tokio::select! {
            biased;
            failure = self.stop_within(order, Purpose::Leave, Some(emergency)) => failure,
            never = force => never,
        }
    }

    /// Stops resources in this order. Goes on after a failure, so that as little as possible is left, and
    /// answers with the first.
    async fn stop(&mut self, order: Vec<usize>, purpose: Purpose) -> Option<Failure> {
        self.stop_within(order, purpose, None).await
    }

    async fn stop_within(
        &mut self,
        order: Vec<usize>,
        purpose: Purpose,
        emergency: Option<Emergency>,
    ) -> Option<Failure> {
        let group = Arc::clone(&self.group);
        let mut first = None;
        for position in order {
            let Some(resource) = group.resources.get(position) else {
                continue;
            };
            // One that has failed is of no use in standby either, as it is.
            let purpose = match self.told.get(&position) {
                Some(Told::Ended) => Purpose::Restart,
                Some(Told::NotStarted | Told::Appeared) | None => purpose,
            };
            let stays = purpose == Purpose::Leave && warm::unit(&group, resource).is_some();
            if !stays && !matches!(resource.kind, ResourceKind::Address { .. }) {
                self.show(position, ResourceState::Stopping).await;
            }
            let usual = resource.stop_timeout;
            let limit = emergency.map_or(usual, |it| it.patience(usual));
            let result = match timeout(limit, self.driver.stop(resource, purpose)).await {
                Ok(result) => result,
                Err(_) if limit < usual => Err(self.held(resource)),
                Err(_) => Err(self.too_long("stop", resource, limit)),
            };
            match result {
                Ok(()) if stays => {}
                Ok(()) => self.show(position, ResourceState::Stopped).await,
                Err(reason) => {
                    self.show(position, ResourceState::Blocked).await;
                    first = first.or(Some((position, reason)));
                }
            }
        }
        first
    }

    /// Waits until there is something to tell of what the last order has left.
    async fn look(&self, rest: Rest, changes: &mut watch::Receiver<()>) -> Finding {
        loop {
            changes.mark_unchanged();
            let finding = match rest {
                Rest::Running => self.look_at_running().await,
                Rest::Down if self.group.here => self.look_at_stopped(),
                Rest::Down => None,
                Rest::Unclear => None,
            };
            if let Some(finding) = finding {
                return finding;
            }
            let pauses = [APPEARANCE_PAUSE, LENIENCE_PAUSE];
            let ends = self
                .told_at
                .values()
                .flat_map(|at| pauses.map(|it| *at + it));
            let later = ends.filter(|at| *at > Instant::now()).min();
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = sleep_until(later.unwrap_or_else(Instant::now)), if later.is_some() => {}
            }
        }
    }

    async fn look_at_running(&self) -> Option<Finding> {
        for (position, resource) in self.group.resources.iter().enumerate() {
            let fault = self.driver.fault(resource).await;
            match (fault, self.told.get(&position)) {
                (Some(reason), None) => {
                    let pause = is_ignored(&self.group, position).then_some(LENIENCE_PAUSE);
                    if !self.was_told_within(position, pause) {
                        return Some(Finding::Failure((position, reason)));
                    }
                }
                (None, Some(Told::Ended | Told::Appeared)) => {
                    return Some(Finding::Recovery(position));
                }
                // That nobody knows of a fault is no sign of life.
                (_, Some(Told::NotStarted)) if self.driver.appeared(resource) => {
                    return Some(Finding::Recovery(position));
                }
                (None, None) | (_, Some(_)) => {}
            }
        }
        self.driver.is_hidden().then_some(Finding::Hidden)
    }

    fn look_at_stopped(&self) -> Option<Finding> {
        let look = |(position, resource): (usize, &Resource)| match (
            self.driver.appeared(resource),
            self.told.contains_key(&position),
        ) {
            (true, false) if !self.was_told_within(position, Some(APPEARANCE_PAUSE)) => {
                Some(Finding::Appearance(position))
            }
            (false, true) => Some(Finding::Disappearance(position)),
            (true, _) | (false, false) => None,
        };
        let mut all = self.group.resources.iter().enumerate();
        all.clone().find_map(look).or_else(|| {
            let remedied = all.find(|(_, resource)| self.driver.has_recovered(resource));
            remedied.map(|(position, _)| Finding::Remedy(position))
        })
    }

    fn was_told_within(&self, position: usize, pause: Option<Duration>) -> bool {
        let last = self.told_at.get(&position);
        pause.is_some_and(|pause| last.is_some_and(|at| at.elapsed() < pause))
    }

    /// Whether a resource that the group needs has ended.
    fn has_failed(&self) -> bool {
        let ended = self.told.iter().filter(|(_, told)| **told == Told::Ended);
        ended
            .map(|(position, _)| *position)
            .any(|position| !is_ignored(&self.group, position))
    }

    async fn on_finding(&mut self, finding: Finding) {
        match finding {
            Finding::Failure(failure) => self.on_failure(failure).await,
            Finding::Recovery(position) => {
                self.told.remove(&position);
                self.show(position, ResourceState::Started).await;
            }
            Finding::Appearance(position) => {
                self.told.insert(position, Told::Appeared);
                self.told_at.insert(position, Instant::now());
                self.show(position, ResourceState::Started).await;
                let resource = self.name(position);
                self.tell(None, GroupOutcome::Appeared { resource }).await;
            }
            Finding::Disappearance(position) => {
                self.told.remove(&position);
                self.show(position, ResourceState::Stopped).await;
            }
            Finding::Remedy(position) => {
                self.show(position, ResourceState::Stopped).await;
                let resource = self.name(position);
                self.tell(None, GroupOutcome::Recovered { resource }).await;
            }
            Finding::Hidden => self.driver.show_presence(Presence::Here).await,
        }
    }

    async fn on_failure(&mut self, failure: Failure) {
        self.told.insert(failure.0, Told::Ended);
        self.tell_failure(failure).await;
    }

    async fn tell_failure(&mut self, (position, reason): Failure) {
        self.told_at.insert(position, Instant::now());
        self.show(position, ResourceState::Failed).await;
        let resource = self.name(position);
        self.tell(None, GroupOutcome::Failed { resource, reason })
            .await;
    }

    fn stop_failed(&self, (position, reason): Failure) -> GroupOutcome {
        GroupOutcome::StopFailed {
            resource: self.name(position),
            reason,
        }
    }

    fn too_long(&self, what: &str, resource: &Resource, limit: Duration) -> String {
        let waiting = self.driver.overdue(resource);
        format!("the {what} took longer than {limit:?}: {waiting}")
    }

    /// What has outlived force.
    fn held(&self, resource: &Resource) -> String {
        let waiting = self.driver.overdue(resource);
        format!(
            "it was killed and is still there: {waiting}. A process in state D or a mount that hangs is held by the kernel: \
             only a reset of this node ends that"
        )
    }

    fn name(&self, position: usize) -> String {
        self.group
            .resources
            .get(position)
            .map_or_else(String::new, |resource| resource.id.clone())
    }

    async fn show(&mut self, position: usize, state: ResourceState) {
        let resource = self.name(position);
        let Some(shown) = self
            .states
            .get_mut(position)
            .filter(|shown| **shown != state)
        else {
            return;
        };
        // Room first: an order that is cut short here must not leave a state that was never shown.
        let Ok(room) = self.events.reserve().await else {
            return;
        };
        *shown = state;
        room.send(HandsEvent::Resource {
            group: self.group.name.clone(),
            resource,
            state,
        });
    }

    async fn tell(&self, order: Option<RequestId>, outcome: GroupOutcome) {
        let group = self.group.name.clone();
        let event = HandsEvent::Group {
            group,
            order,
            outcome,
        };
        if self.events.send(event).await.is_err() {
            tracing::debug!("nobody listens to the drivers any more");
        }
    }
}

/// Kills one resource, and tells if that does not help in time.
async fn force<D: Driver>(
    driver: &D,
    group: &Group,
    resource: &Resource,
    emergency: Emergency,
    events: &mpsc::Sender<HandsEvent>,
) {
    let killed = driver.kill(resource);
    tokio::pin!(killed);
    tokio::select! {
        biased;
        () = &mut killed => return,
        () = emergency::sleep_until(emergency.end) => {}
    }
    let waiting = driver.overdue(resource);
    let note = HandsEvent::Note {
        group: group.name.clone(),
        resource: resource.id.clone(),
        text: format!(
            "it was killed and is still there at the end of its stop margin, when others may start it: {waiting}"
        ),
    };
    // Who does not listen learns it from the outcome.
    let _ = events.try_send(note);
    killed.await;
}

/// Positions in the order in which they are stopped, right to left: those that come first whoever depends on them, and
/// the rest. Where the lease is lost another node may take the addresses at any moment.
fn stop_order(resources: &[Resource], urgency: Urgency) -> (Vec<usize>, Vec<usize>) {
    let is_hurried = |position: &usize| {
        let resource = resources.get(*position);
        let is_address = |it: &Resource| matches!(it.kind, ResourceKind::Address { .. });
        urgency == Urgency::LeaseLost && resource.is_some_and(is_address)
    };
    (0..resources.len()).rev().partition(is_hurried)
}

/// Whether the group does without a resource that has failed.
fn is_ignored(group: &Group, position: usize) -> bool {
    let resource = group.resources.get(position);
    resource.is_some_and(|it| it.policy.is_lenient())
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
