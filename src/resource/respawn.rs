//! Programs that live and die with the daemon: a transient service each, which systemd restarts.
//!
//! The rules are Heartbeat's, in systemd's terms: any end is followed by a new start after a second, but exit code
//! 100 ends it, and so does the eleventh end in a row that comes within half a minute of its start. They are stopped
//! by `ha-node --release`, which the daemon's unit runs after every end of the daemon, and by the next start.

use crate::config::model::Respawn;
use crate::dbus::systemd1::{ActiveState, Property, UnitState, error_word};
use crate::resource::bus::{Job, Link};
use crate::resource::transient::{CODE_EXITED, escape};
use crate::resource::unit::{Units, explain_refusal};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use zbus::Variant;

/// How the names of their units begin.
const PREFIX: &str = "ha-respawn-";
/// The exit code that ends respawning.
const LAST_EXIT: i32 = 100;
/// Pause before a new start.
const PAUSE: Duration = Duration::from_secs(1);
/// So many starts within so long a time are too many.
const STARTS_MAX: u32 = 11;
const STARTS_WINDOW: Duration = Duration::from_secs(330);
/// What a program gets between SIGTERM and SIGKILL, and how long the release waits for all of them.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_ALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The name of the unit of the entry at this position.
pub(super) fn unit(position: usize, program: &Respawn) -> String {
    format!("{PREFIX}{position}-{}.service", escape(name(program)))
}

/// What the program is called in messages and in the journal.
fn name(program: &Respawn) -> &str {
    let path = program.command.first().map_or("", String::as_str);
    let file = path.rsplit('/').next().unwrap_or(path);
    // The name of a unit is limited to 255 bytes, of which an escaped one may take four.
    file.get(..50).unwrap_or(file)
}

/// How a start went.
enum Start {
    Done,
    Failed(String),
    /// One of an earlier life is there.
    Exists,
    Lost,
}

impl Units {
    /// Starts a program anew, whatever is left of an earlier life, and tells when it is not respawned any more.
    pub(super) async fn keep_respawned(self: Arc<Self>, position: usize, program: Respawn) {
        let unit = unit(position, &program);
        let mut lost = None;
        let mut has_cleared = false;
        loop {
            let link = self.connected(lost).await;
            let start =
                Arc::clone(&self).start_respawned(link.clone(), unit.clone(), program.clone());
            match tokio::spawn(start).await.unwrap_or(Start::Lost) {
                Start::Done => break,
                Start::Exists if has_cleared => {
                    tracing::error!(
                        "{unit} has a file of its own: remove it; {:?} is not started",
                        program.command
                    );
                    return;
                }
                Start::Exists => {
                    has_cleared = true;
                    if let Err(reason) = self.stop(&unit).await {
                        tracing::error!("{reason}; {:?} is not started", program.command);
                        return;
                    }
                }
                Start::Lost => lost = Some(link.epoch),
                Start::Failed(reason) => {
                    tracing::error!("{reason}; {:?} is not started", program.command);
                    return;
                }
            }
        }
        tracing::info!("Starting child client {:?} as {unit}", name(&program));
        self.watch_respawned(&unit, &program).await;
    }

    async fn start_respawned(self: Arc<Self>, link: Link, unit: String, program: Respawn) -> Start {
        let job = Job::expect(&self);
        let properties = properties(&program);
        let manager = &link.manager;
        match manager
            .start_transient_unit(&unit, "replace", &properties, &[])
            .await
        {
            // Whether the program runs is not judged here: systemd tries again where it does not.
            Ok(path) => match job.ended(path.as_str()).await {
                Some(_) => Start::Done,
                None => Start::Lost,
            },
            Err(zbus::Error::MethodError(error, ..))
                if error_word(&error) == Some("UnitExists") =>
            {
                Start::Exists
            }
            Err(error) if link.is_lost(&error) => Start::Lost,
            Err(error) => Start::Failed(explain_refusal(&unit, &error)),
        }
    }

    async fn watch_respawned(&self, unit: &str, program: &Respawn) {
        let mut changes = self.changes.subscribe();
        loop {
            let link = self.connected(None).await;
            let may_have_ended = (self.table().state(unit)).is_none_or(UnitState::has_ended);
            let state = match may_have_ended {
                true => self.read(&link, unit).await,
                false => None,
            };
            match state {
                Some(state) if state.has_ended() => {
                    return self.tell_end(&link, unit, program, &state.active).await;
                }
                Some(_) | None => {}
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn tell_end(&self, link: &Link, unit: &str, program: &Respawn, state: &ActiveState) {
        let name = name(program);
        let (result, code, status) = link.service_end(unit).await.unwrap_or_default();
        // systemd keeps the result of the last end where it refuses another start.
        let restarts = link.service_restarts(unit).await.unwrap_or(0);
        if (code, status) == (CODE_EXITED, LAST_EXIT) {
            tracing::info!(
                "Client {name:?} has ended with exit code {LAST_EXIT}: it is not started again"
            );
        } else if result == "start-limit-hit"
            || (*state == ActiveState::Failed && restarts + 1 >= STARTS_MAX)
        {
            tracing::error!(
                "Client {name:?} \"respawning too fast\": it is not started again before ha-node is; \
                 `journalctl -t {name}` may say why it ended"
            );
        } else {
            tracing::warn!("Client {name:?} was stopped by somebody: it is not started again");
        }
        let _ = link.manager.reset_failed_unit(unit).await;
        let _ = link.manager.unref_unit(unit).await;
    }

    /// Stops the programs of every earlier life, also such as are not in the configuration any more.
    ///
    /// # Errors
    /// Words for people; one may still run.
    pub(super) async fn stop_respawned(self: &Arc<Self>) -> Result<(), String> {
        let all = async {
            let link = self.connected(None).await;
            let pattern = format!("{PREFIX}*.service");
            let listed = link.manager.list_units_by_patterns(&[], &[&pattern]).await;
            let listed = listed.map_err(|error| format!("systemd lists no units: {error}"))?;
            let stops: Vec<_> = listed
                .into_iter()
                .map(|(name, ..)| {
                    let units = Arc::clone(self);
                    tokio::spawn(async move { units.stop(&name).await })
                })
                .collect();
            let mut result = Ok(());
            for stop in stops {
                if let Ok(Err(reason)) = stop.await {
                    result = Err(reason);
                }
            }
            result
        };
        timeout(STOP_ALL_TIMEOUT, all).await.unwrap_or_else(|_| {
            Err(format!(
                "respawned programs did not end within {STOP_ALL_TIMEOUT:?}"
            ))
        })
    }
}

fn properties(program: &Respawn) -> Vec<Property> {
    let usec = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let path = program.command.first().cloned().unwrap_or_default();
    // Without the flag systemd would replace $NAME in arguments.
    let flags = vec!["no-env-expand".to_owned()];
    let command = vec![(path, program.command.clone(), flags)];
    let last = || Variant::from((vec![LAST_EXIT], Vec::<i32>::new()));
    vec![
        (
            "Description",
            format!("Respawned by ha-node: {}", name(program)).into(),
        ),
        ("Type", "exec".into()),
        ("ExecStartEx", Variant::from(command)),
        ("User", program.user.clone().into()),
        ("SyslogIdentifier", name(program).to_owned().into()),
        ("Restart", "always".into()),
        ("RestartUSec", usec(PAUSE).into()),
        ("RestartPreventExitStatus", last()),
        ("SuccessExitStatus", last()),
        // At shutdown they end after the daemon, as always.
        ("DefaultDependencies", false.into()),
        ("StartLimitIntervalUSec", usec(STARTS_WINDOW).into()),
        ("StartLimitBurst", STARTS_MAX.into()),
        ("TimeoutStopUSec", usec(STOP_TIMEOUT).into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("AddRef", true.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_after_place_and_program() {
        let program = |path: &str| Respawn {
            user: "root".to_owned(),
            command: vec![path.to_owned()],
        };
        assert_eq!(unit(0, &program("/usr/bin/x")), "ha-respawn-0-x.service");
        assert!(unit(31, &program(&"/-".repeat(3000))).len() < 256);
        assert!(unit(31, &program(&format!("/{}", "-".repeat(3000)))).len() < 256);
    }
}
