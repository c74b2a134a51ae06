//! Units with `standby = "started"`, while their group does not run here: started, and started again where they end.
//!
//! A unit that does not stay up is told of and left alone, after as many starts as its policy allows; the start of its
//! group here starts it in any case, and judges it.

use crate::config::model::{Group, Resource, ResourceKind, Standby};
use crate::resource::unit::Units;
use crate::resource::{HandsEvent, ResourceState};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Pause between a start that failed and the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// The warm units of one group on this node.
#[derive(Debug)]
pub(super) struct Warm {
    group: Arc<Group>,
    units: Arc<Units>,
    events: mpsc::Sender<HandsEvent>,
    starts: Mutex<BTreeMap<String, VecDeque<Instant>>>,
}

/// The unit of a resource that runs on this node even without its group.
pub(super) fn unit<'a>(group: &Group, resource: &'a Resource) -> Option<&'a str> {
    match &resource.kind {
        ResourceKind::Unit {
            name,
            standby: Standby::Started,
        } if group.here => Some(name),
        ResourceKind::Unit { .. }
        | ResourceKind::Address(_)
        | ResourceKind::Mount { .. }
        | ResourceKind::Script { .. }
        | ResourceKind::Ocf { .. } => None,
    }
}

impl Warm {
    pub(super) fn new(
        group: Arc<Group>,
        units: Arc<Units>,
        events: mpsc::Sender<HandsEvent>,
    ) -> Self {
        Self {
            group,
            units,
            events,
            starts: Mutex::default(),
        }
    }

    /// Keeps them running; never returns.
    pub(super) async fn keep(&self) {
        let mut changes = self.units.changes.subscribe();
        loop {
            changes.mark_unchanged();
            for resource in &self.group.resources {
                if let Some(name) = unit(&self.group, resource) {
                    self.look_after(resource, name).await;
                }
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn look_after(&self, resource: &Resource, name: &str) {
        while let Some(fault) = self.units.fault(name).await {
            match self.count(resource) {
                Allowance::Start => {}
                Allowance::LastWord => {
                    let text = format!("does not stay up in standby, leaving it alone: {fault}");
                    self.note(resource, text).await;
                    return self.show(resource, ResourceState::Failed).await;
                }
                Allowance::None => return,
            }
            let start = self.units.start_anywhere(name);
            let result = timeout(resource.start_timeout, start).await;
            match result.unwrap_or_else(|_| Err(self.units.overdue(name))) {
                Ok(()) => return self.show(resource, ResourceState::Started).await,
                Err(reason) => {
                    let text = format!("did not start in standby: {reason}");
                    self.note(resource, text).await;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Counts a start. The first one in a window is no repair.
    fn count(&self, resource: &Resource) -> Allowance {
        let limit = resource.policy.restarts() as usize;
        let mut all = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let starts = all.entry(resource.id.clone()).or_default();
        let now = Instant::now();
        starts.retain(|start| now < *start + resource.policy.window);
        match starts.len().checked_sub(limit + 1) {
            None => {
                starts.push_back(now);
                Allowance::Start
            }
            Some(0) => {
                starts.push_back(now);
                Allowance::LastWord
            }
            Some(_) => Allowance::None,
        }
    }

    async fn note(&self, resource: &Resource, text: String) {
        self.tell(HandsEvent::Note {
            group: self.group.name.clone(),
            resource: resource.id.clone(),
            text,
        })
        .await;
    }

    async fn show(&self, resource: &Resource, state: ResourceState) {
        self.tell(HandsEvent::Resource {
            group: self.group.name.clone(),
            resource: resource.id.clone(),
            state,
        })
        .await;
    }

    async fn tell(&self, event: HandsEvent) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("nobody listens to the drivers any more");
        }
    }
}

/// What may be done about a unit that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowance {
    Start,
    /// No more starts, which people are to know.
    LastWord,
    None,
}
