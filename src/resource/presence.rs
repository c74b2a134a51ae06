//! `ha-group-NAME.target`: active on a node while it runs group NAME, for people's own units to bind to.
//!
//! systemd makes no transient targets, so that each has a file in its directory of run-time units. Nothing of a group
//! depends on its target: whatever becomes of it is told, and the group goes on.

use crate::config::model::Group;
use crate::ids::GroupName;
use crate::resource::runner::Presence;
use crate::resource::unit::Units;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Where systemd looks for units that are gone after a reboot (systemd.unit(5)).
const DIRECTORY: &str = "/run/systemd/system";

/// How long a group waits until what is bound to its target has stopped; as systemd gives a unit by default.
const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// The same for all targets once their groups are released: the peers wait to be told.
const WITHDRAWAL_PATIENCE: Duration = Duration::from_millis(500);

/// The target's name.
fn unit(group: &GroupName) -> String {
    format!("ha-group-{group}.target")
}

/// Writes the targets' files. A machine without systemd has no place for them.
pub(super) fn publish(groups: &[Group]) {
    let directory = Path::new(DIRECTORY);
    if !directory.is_dir() {
        return;
    }
    for group in groups {
        let path = directory.join(unit(&group.name));
        if let Err(error) = write(&path, &text(&group.name)) {
            tracing::warn!(
                "cannot write {}: {error}; units that are bound to it are not started here",
                path.display()
            );
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    fs::write(path, text)
}

/// At shutdown what is bound to the target stops before the daemon, which then stops the group.
fn text(group: &GroupName) -> String {
    format!(
        "# Written by ha-node at its start.\n\
         [Unit]\n\
         Description=Group {group} of the cluster runs on this node\n\
         After=ha-node.service\n"
    )
}

/// Who starts and stops the target of one group.
#[derive(Debug)]
pub(super) struct Herald {
    units: Arc<Units>,
    target: String,
    /// The newest word that is on its way; it waits for a message bus that is away.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Herald {
    pub(super) fn new(group: &GroupName, units: Arc<Units>) -> Self {
        Self {
            units,
            target: unit(group),
            task: Mutex::new(None),
        }
    }

    /// Starts or stops the target. What it wants is not waited for; what is bound to it may end first where there is time.
    pub(super) async fn show(&self, presence: Presence) {
        let (units, target) = (Arc::clone(&self.units), self.target.clone());
        let (sender, done) = oneshot::channel();
        let task = tokio::spawn(async move {
            let result = match presence {
                Presence::Here => units.start_anywhere(&target).await,
                Presence::Leaving | Presence::Gone => units.stop(&target).await,
            };
            if let Err(reason) = result {
                tracing::warn!("{target} is not as it should be: {reason}");
            }
            // Nobody need wait for it.
            let _ = sender.send(());
        });
        let before = self.task().replace(task);
        if let Some(before) = before {
            before.abort();
        }
        let reachable = self.units.link.borrow().is_some();
        if presence == Presence::Leaving && reachable && timeout(STOP_PATIENCE, done).await.is_err()
        {
            let target = &self.target;
            tracing::warn!(
                "what is bound to {target} did not stop within {STOP_PATIENCE:?}, going on without"
            );
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Units {
    /// Stops the targets of groups that are gone, if systemd can be reached at once.
    pub(super) async fn withdraw_presence<'a>(
        self: &Arc<Self>,
        groups: impl Iterator<Item = &'a GroupName>,
    ) {
        let all = async {
            for group in groups {
                if let Err(reason) = self.stop(&unit(group)).await {
                    tracing::warn!("{} is still active: {reason}", unit(group));
                }
            }
        };
        if timeout(WITHDRAWAL_PATIENCE, all).await.is_err() {
            tracing::warn!(
                "the targets of the groups are not all stopped: systemd does not answer"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_anew_only_when_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let group = GroupName::new("web").unwrap();
        let path = directory.path().join(unit(&group));
        write(&path, &text(&group)).unwrap();
        let read = || fs::read_to_string(&path).unwrap();
        assert!(read().contains("\nDescription=Group web of"), "{}", read());
        let modified = || fs::metadata(&path).unwrap().modified().unwrap();
        let before = modified();
        write(&path, &text(&group)).unwrap();
        assert_eq!(modified(), before);
        fs::write(&path, "").unwrap();
        write(&path, &text(&group)).unwrap();
        assert_eq!(read(), text(&group));
    }
}
