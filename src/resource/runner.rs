//! One group: started left to right, stopped right to left, rolled back when a start fails.
//!
//! Orders are latest-wins: a newer order ends the one under way, whose outcome is then never sent. Each
//! order works from any state, so that nothing need be remembered of one that was cut short. What a start
//! or stop consists of is the driver's.

use crate::config::model::{Group, Resource, ResourceKind};
use crate::core::io::{GroupOutcome, Urgency};
use crate::ids::RequestId;
use crate::resource::{HandsEvent, ResourceState};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// What the runner needs of those who do the work. Words in errors are for people.
pub trait Driver: Send + Sync + 'static {
    /// Starts a resource; one that runs is adopted. Dropping the future gives up waiting, and what it
    /// began is ended by the next stop.
    fn start(&self, resource: &Resource) -> impl Future<Output = Result<(), String>> + Send;
    /// Stops a resource from any state; nothing there is success. Dropping gives up waiting.
    fn stop(&self, resource: &Resource) -> impl Future<Output = Result<(), String>> + Send;
    /// Why a started resource does not run any more; none while it runs, or while nobody knows.
    fn fault(&self, resource: &Resource) -> impl Future<Output = Option<String>> + Send;
    /// What a start or stop that took too long was waiting for.
    fn overdue(&self, resource: &Resource) -> String;
}

/// What is asked of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// To run.
    Start,
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
        driver,
        events,
        states,
    };
    // Everything was started, and no failure was told since.
    let mut running = false;
    loop {
        tokio::select! {
            biased;
            newer = orders.changed() => {
                if newer.is_err() {
                    return;
                }
                match runner.obey(&mut orders).await {
                    Some(started) => running = started,
                    None => return,
                }
            }
            failed = runner.failure(&mut changes), if running => {
                running = false;
                runner.on_failure(failed).await;
            }
        }
    }
}

struct Runner<D> {
    group: Arc<Group>,
    driver: D,
    events: mpsc::Sender<HandsEvent>,
    states: Vec<ResourceState>,
}

/// A resource, by its position, and what the driver said of it.
type Failure = (usize, String);

impl<D: Driver> Runner<D> {
    /// Carries out the newest order, whatever becomes of older ones, and tells its outcome.
    /// Answers whether the group runs; none when there will be no more orders.
    async fn obey(&mut self, orders: &mut watch::Receiver<Option<Order>>) -> Option<bool> {
        loop {
            let order = (*orders.borrow_and_update())?;
            tokio::select! {
                biased;
                newer = orders.changed() => newer.ok()?,
                outcome = self.execute(order.goal) => {
                    let running = outcome == GroupOutcome::Started;
                    self.tell(Some(order.id), outcome).await;
                    return Some(running);
                }
            }
        }
    }

    async fn execute(&mut self, goal: Goal) -> GroupOutcome {
        match goal {
            Goal::Start => self.start().await,
            Goal::Stop(urgency) => {
                let order = stop_order(&self.group.resources, urgency);
                match self.stop(order).await {
                    None => GroupOutcome::Stopped,
                    Some(failure) => self.stop_failed(failure),
                }
            }
        }
    }

    async fn start(&mut self) -> GroupOutcome {
        let group = Arc::clone(&self.group);
        for (position, resource) in group.resources.iter().enumerate() {
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
                Err(reason) => return self.roll_back((position, reason)).await,
            }
        }
        GroupOutcome::Started
    }

    /// Stops what was started, and the resource that failed too: it may have got half way.
    async fn roll_back(&mut self, (failed, reason): Failure) -> GroupOutcome {
        self.show(failed, ResourceState::Failed).await;
        let order = (0..=failed).rev().collect();
        match self.stop(order).await {
            None => {
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

    /// Stops resources in this order. Goes on after a failure, so that as little as possible is left, and
    /// answers with the first.
    async fn stop(&mut self, order: Vec<usize>) -> Option<Failure> {
        let group = Arc::clone(&self.group);
        let mut first = None;
        for position in order {
            let Some(resource) = group.resources.get(position) else {
                continue;
            };
            if !matches!(resource.kind, ResourceKind::Address { .. }) {
                self.show(position, ResourceState::Stopping).await;
            }
            let result = match timeout(resource.stop_timeout, self.driver.stop(resource)).await {
                Ok(result) => result,
                Err(_) => Err(self.too_long("stop", resource, resource.stop_timeout)),
            };
            match result {
                Ok(()) => self.show(position, ResourceState::Stopped).await,
                Err(reason) => {
                    self.show(position, ResourceState::Blocked).await;
                    first = first.or(Some((position, reason)));
                }
            }
        }
        first
    }

    /// Waits until a resource of the running group has failed.
    async fn failure(&self, changes: &mut watch::Receiver<()>) -> Failure {
        loop {
            changes.mark_unchanged();
            for (position, resource) in self.group.resources.iter().enumerate() {
                if let Some(reason) = self.driver.fault(resource).await {
                    return (position, reason);
                }
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn on_failure(&mut self, (position, reason): Failure) {
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

/// Positions in the order in which they are stopped: right to left, but addresses first where the lease
/// is lost, since another node may take them at any moment.
fn stop_order(resources: &[Resource], urgency: Urgency) -> Vec<usize> {
    let reverse = (0..resources.len()).rev();
    match urgency {
        Urgency::Orderly => reverse.collect(),
        Urgency::LeaseLost => {
            let is_address = |position: &usize| {
                resources
                    .get(*position)
                    .is_some_and(|resource| matches!(resource.kind, ResourceKind::Address { .. }))
            };
            let (addresses, others): (Vec<_>, Vec<_>) = reverse.partition(is_address);
            [addresses, others].concat()
        }
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
