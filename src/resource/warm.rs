//! Units with `standby = "started"`, while their group does not run here: started, and started again where they end.
//!
//! A unit that does not stay up is told of and left alone, after as many starts as its policy allows; the start of its
//! group here starts it in any case, and judges it.

use crate::config::model::{Group, Resource, ResourceKind, Standby};
use crate::resource::unit::Units;
use crate::resource::{HandsEvent, ResourceState};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Pause between a start that failed and the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// The warm units of one group on this node.
#[derive(Debug)]
pub(super) struct Warm {
    group: Arc<Group>,
    units: Arc<Units>,
    events: mpsc::Sender<HandsEvent>,
    /// Units that must not run before their group does.
    cold: BTreeSet<String>,
    starts: Mutex<BTreeMap<String, Starts>>,
    /// The daemon is about to end.
    leaving: Arc<AtomicBool>,
}

/// What was tried with one unit.
#[derive(Debug, Default)]
struct Starts {
    times: VecDeque<Instant>,
    /// It was told that there will be no more for a while.
    is_given_up: bool,
}

impl Starts {
    /// Counts a start, if there may be one. The first one in a window is no repair.
    fn take(&mut self, limit: usize, window: Duration, now: Instant) -> bool {
        self.times.retain(|start| now < *start + window);
        if self.times.len() > limit {
            return false;
        }
        self.times.push_back(now);
        self.is_given_up = false;
        true
    }

    /// When a unit that was given up may be started again; never in the past, which would be waited for in vain.
    fn next_chance(&self, window: Duration, now: Instant) -> Option<Instant> {
        let oldest = self.times.front().filter(|_| self.is_given_up)?;
        Some(*oldest + window).filter(|at| *at > now)
    }
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
        cold: BTreeSet<String>,
        leaving: Arc<AtomicBool>,
    ) -> Self {
        Self {
            leaving,
            cold,
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
                if let Some(name) = unit(&self.group, resource)
                    && !self.leaving.load(Ordering::Acquire)
                {
                    self.look_after(resource, name).await;
                }
            }
            let again = self.next_chance();
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
    }

    /// When a unit that was given up may be started again.
    fn next_chance(&self) -> Option<Instant> {
        let all = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let chance = |resource: &Resource| {
            let starts = all.get(&resource.id)?;
            starts.next_chance(resource.policy.window, now)
        };
        self.group.resources.iter().filter_map(chance).min()
    }

    async fn look_after(&self, resource: &Resource, name: &str) {
        while let Some(fault) = self.units.fault(name).await {
            if let Some(cold) = self.units.needs_any(name, &self.cold).await {
                let text = format!(
                    "is not kept running in standby: it would start {cold}, which may run with its group only"
                );
                return self.give_up(resource, text).await;
            }
            if !self.take_start(resource) {
                let text = format!("does not stay up in standby, leaving it alone: {fault}");
                return self.give_up(resource, text).await;
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

    fn take_start(&self, resource: &Resource) -> bool {
        let limit = resource.policy.restarts() as usize;
        let mut all = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let starts = all.entry(resource.id.clone()).or_default();
        starts.take(limit, resource.policy.window, Instant::now())
    }

    /// Tells it once.
    async fn give_up(&self, resource: &Resource, text: String) {
        let was_told = {
            let mut all = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            let starts = all.entry(resource.id.clone()).or_default();
            std::mem::replace(&mut starts.is_given_up, true)
        };
        if !was_told {
            self.note(resource, text).await;
            self.show(resource, ResourceState::Failed).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_unit_that_was_given_up_has_a_chance_once_the_window_is_over_and_is_not_waited_for_after() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut starts = Starts::default();
        assert!(starts.take(1, WINDOW, at(0)) && starts.take(1, WINDOW, at(10)));
        assert!(!starts.take(1, WINDOW, at(20)));
        starts.is_given_up = true;
        assert_eq!(starts.next_chance(WINDOW, at(20)), Some(at(60)));
        assert_eq!(starts.next_chance(WINDOW, at(60)), None);
        assert_eq!(starts.next_chance(WINDOW, at(1000)), None);
        assert!(starts.take(1, WINDOW, at(60)));
        assert_eq!(starts.next_chance(WINDOW, at(61)), None, "not given up");
    }
}
