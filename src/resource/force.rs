//! Units ended by force: by systemd, which knows all processes of a unit by its cgroup.
//!
//! A unit is stopped as well, or its own rules would start it again; and struck again until it is down, since a stop that
//! was under way goes on with further commands of the unit, which take their time, too.

use crate::resource::bus::Link;
use crate::resource::unit::Units;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The signal that no process can ignore.
pub(super) const SIGKILL: i32 = 9;

/// Pause between two strikes.
const PAUSE: Duration = Duration::from_millis(10);

impl Units {
    /// Ends a unit by force. Returns once it is down and no start of ours can bring it up any more.
    pub(super) async fn kill(self: &Arc<Self>, name: &str) {
        self.starts.revoke(name);
        loop {
            let link = self.connected(None).await;
            // A task of its own: a call that is dropped half-written would spoil the connection.
            let task = Arc::clone(self).end_by_force(link, name.to_owned());
            if tokio::spawn(task).await.unwrap_or(false) && !self.starts.is_open(name) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Kills what runs of a unit now, once; there may be none of that name.
    pub(super) async fn strike(self: &Arc<Self>, name: &str) {
        let link = self.link.borrow().clone();
        if let Some(link) = link {
            let name = name.to_owned();
            let task = async move { strike(&link, &name).await };
            let _ = tokio::spawn(task).await;
        }
    }

    /// Waits until a unit is down, as far as is known.
    pub(super) async fn down(&self, name: &str) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let is_down = |state: &crate::dbus::systemd1::UnitState| state.active.is_down();
            if self.table().state(name).is_some_and(is_down) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Answers whether it is down already.
    async fn end_by_force(self: Arc<Self>, link: Link, name: String) -> bool {
        if self.is_down(&link, &name).await {
            return true;
        }
        if let Err(error) = link.manager.stop_unit(&name, "replace").await {
            tracing::debug!(%error, unit = name, "not stopped before it is killed");
        }
        strike(&link, &name).await;
        false
    }
}

async fn strike(link: &Link, name: &str) {
    match link.manager.kill_unit(name, "all", SIGKILL).await {
        Ok(()) => tracing::debug!(unit = name, "killed"),
        // Nothing runs of it, or it is of a kind that has no processes.
        Err(error) => tracing::debug!(%error, unit = name, "not killed"),
    }
}
