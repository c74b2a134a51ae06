//! Calls that may start something: which of them systemd has not answered yet, and which were revoked by a stop.
//!
//! A call outlives the order that it was made for, since one that is dropped half-written would spoil the connection. So a
//! stop revokes what was not sent yet, and is not over before what was sent is answered: an answer that comes late, while
//! systemd reads its units anew, must not be the start of a unit that was called stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// All calls, by unit.
#[derive(Debug, Default)]
pub(super) struct Starts(Arc<Calls>);

#[derive(Debug, Default)]
struct Calls {
    units: Mutex<BTreeMap<String, Entry>>,
    answers: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Entry {
    /// How often a stop was asked for.
    revoked: u64,
    /// Calls without an answer, those that were not sent yet included.
    open: usize,
}

/// One call that is about to be made, or was made and has no answer; dropped with the answer.
#[derive(Debug)]
pub(super) struct Permit {
    calls: Arc<Calls>,
    unit: String,
    revoked: u64,
}

impl Starts {
    /// A call for this unit is to be made, by the order that is the newest now.
    pub(super) fn begin(&self, unit: &str) -> Permit {
        let mut units = self.0.units();
        let entry = units.entry(unit.to_owned()).or_default();
        entry.open += 1;
        Permit {
            calls: Arc::clone(&self.0),
            unit: unit.to_owned(),
            revoked: entry.revoked,
        }
    }

    /// The unit is to be stopped: calls that were not made yet must not be.
    pub(super) fn revoke(&self, unit: &str) {
        let mut units = self.0.units();
        let entry = units.entry(unit.to_owned()).or_default();
        entry.revoked = entry.revoked.wrapping_add(1);
    }

    /// Whether a call has no answer yet.
    pub(super) fn is_open(&self, unit: &str) -> bool {
        self.0.units().get(unit).is_some_and(|it| it.open > 0)
    }

    /// Waits until all calls are answered, which takes no longer than the bus waits for a reply.
    pub(super) async fn answered(&self, unit: &str) {
        let mut answers = self.0.answers.subscribe();
        while self.is_open(unit) {
            if answers.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Permit {
    /// Whether no stop was asked for since.
    pub(super) fn holds(&self) -> bool {
        let units = self.calls.units();
        units
            .get(&self.unit)
            .is_some_and(|it| it.revoked == self.revoked)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(entry) = self.calls.units().get_mut(&self.unit) {
            entry.open = entry.open.saturating_sub(1);
        }
        self.calls.answers.send_replace(());
    }
}

impl Calls {
    fn units(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
