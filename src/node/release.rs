//! `ha-node --release`: gives up everything that this node may hold, without the daemon.
//!
//! The unit runs it after the daemon has ended, however that was: a dead daemon must not leave a machine that goes on
//! answering for the cluster. After an orderly stop there is nothing left to do, and it does nothing.

use crate::core::{GroupOutcome, Lease, Urgency};
use crate::ids::RequestId;
use crate::node::Options;
use crate::resource::{Guard, Hands, HandsEvent};
use crate::state::{Lock, LockError};
use anyhow::Context as _;
use std::collections::BTreeSet;
use tokio::sync::mpsc;

/// Stops every group of the configuration on this machine: addresses first, and at once.
///
/// # Errors
/// The configuration cannot be read, or a group did not stop; the rest was stopped all the same.
pub fn release(options: &Options) -> anyhow::Result<()> {
    let config = options.load()?;
    // A state directory that is out of order must not keep a dead daemon's groups running.
    let lock = Lock::take(&options.state);
    if let Err(held @ LockError::Held(_)) = lock {
        anyhow::bail!("{held}; use `systemctl stop ha-node` to hand its groups over");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make the event loop")?;
    runtime.block_on(stop_all(&config))
}

async fn stop_all(config: &crate::config::Config) -> anyhow::Result<()> {
    let (sender, mut events) = mpsc::channel(1024);
    let guard = Guard::default();
    guard.set(Lease::None);
    let mut hands = Hands::start(&config.groups, sender, guard).await?;
    let mut waiting = BTreeSet::new();
    for group in &config.groups {
        hands.stop_group(&group.name, RequestId(1), Urgency::LeaseLost);
        waiting.insert(group.name.clone());
    }
    let mut failures = Vec::new();
    while !waiting.is_empty() {
        let event = events
            .recv()
            .await
            .context("the drivers have ended before all groups were stopped")?;
        let HandsEvent::Group { group, outcome, .. } = event else {
            continue;
        };
        match outcome {
            GroupOutcome::Stopped => {
                waiting.remove(&group);
            }
            GroupOutcome::StopFailed { resource, reason } => {
                waiting.remove(&group);
                failures.push(format!("group {group}: {resource} did not stop: {reason}"));
            }
            GroupOutcome::Started
            | GroupOutcome::StartFailed { .. }
            | GroupOutcome::Failed { .. } => {}
        }
    }
    // A message bus that is away must not keep a machine without such programs from its end.
    if (hands.needs_systemd() || !config.respawn.is_empty())
        && let Err(reason) = hands.stop_respawned().await
    {
        failures.push(reason);
    }
    match failures.as_slice() {
        [] => Ok(()),
        several => anyhow::bail!(
            "{}; stop it by hand before another node takes over",
            several.join("; ")
        ),
    }
}
