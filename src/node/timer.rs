//! The timer of systemd that ends the time in which a daemon can come back.
//!
//! systemd counts on a clock that stands still while the machine is suspended, and the tenure does not; so the timer also
//! rings when a suspend ends, which to systemd is a clock that was set. Whoever is started by it judges anew.

use crate::core::Instant;
use crate::dbus::systemd1::{ManagerProxy, Property};
use crate::process;
use std::time::Duration;
use zbus::Variant;
use zbus::proxy::CacheProperties;

/// A timer starts the service of its name, which runs the release.
const TIMER: &str = "ha-node-release.timer";

/// Longest wait for systemd to set it: without one, everything is released at once.
const PATIENCE: Duration = Duration::from_millis(500);

/// Pause between two attempts to set it.
const PAUSE: Duration = Duration::from_millis(10);

/// How exactly systemd keeps the time; by default it may be a minute late.
const ACCURACY_USEC: u64 = 1000;

/// Sets it, in place of one that was set for an earlier death.
///
/// # Errors
/// systemd refuses or does not answer.
pub(super) async fn set(at: Instant) -> anyhow::Result<()> {
    let patience = PATIENCE.min(at.since(process::boottime_now()));
    tokio::time::timeout(patience, replace(at))
        .await
        .unwrap_or_else(|_| anyhow::bail!("systemd does not answer"))
}

/// Whether this process was started by it, and not by a person or by the end of the daemon (systemd.exec(5)).
pub(super) fn has_rung() -> bool {
    std::env::var("TRIGGER_UNIT").is_ok_and(|unit| unit == TIMER)
}

async fn replace(at: Instant) -> anyhow::Result<()> {
    let connection = zbus::connection::Builder::system().build().await?;
    let manager = ManagerProxy::builder(&connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let _ = manager.stop_unit(TIMER, "replace").await;
    loop {
        // As late as possible: systemd counts from the moment at which it takes this in.
        let properties = properties(at.since(process::boottime_now()));
        let set = manager.start_transient_unit(TIMER, "replace", &properties, &[]);
        match set.await {
            // The earlier one is still on its way out.
            Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".UnitExists") => {
                tokio::time::sleep(PAUSE).await;
            }
            result => return Ok(result.map(drop)?),
        }
    }
}

fn properties(time: Duration) -> [Property; 5] {
    let usec = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    [
        (
            "Description",
            Variant::from("End of the time in which ha-node can come back"),
        ),
        (
            "TimersMonotonic",
            Variant::from(vec![("OnActiveSec", usec)]),
        ),
        ("OnClockChange", Variant::from(true)),
        ("AccuracyUSec", Variant::from(ACCURACY_USEC)),
        ("RemainAfterElapse", Variant::from(false)),
    ]
}
