//! Whether the daemon is asked to stop only to be started again: `systemctl restart`, as a package's upgrade does it.

use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, fdo::PropertiesProxy};

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Asks systemd for the job of this daemon's unit. Whoever cannot be asked says no.
pub(super) async fn is_under_way() -> bool {
    match job_type().await {
        Ok(word) => word.as_deref() == Some("restart"),
        Err(error) => {
            tracing::debug!("systemd does not tell why this daemon shall stop: {error}");
            false
        }
    }
}

async fn job_type() -> zbus::Result<Option<String>> {
    let connection = zbus::connection::Builder::system().build().await?;
    let reply = connection
        .call_method(
            Some(SYSTEMD),
            "/org/freedesktop/systemd1",
            Some("org.freedesktop.systemd1.Manager"),
            "GetUnitByPID",
            &(std::process::id(),),
        )
        .await?;
    let unit: OwnedObjectPath = reply.body().deserialize()?;
    let interface = InterfaceName::from_static_str("org.freedesktop.systemd1.Unit")?;
    let job = properties(&connection, unit)
        .await?
        .get(interface, "Job")
        .await?;
    let (id, job) = <(u32, OwnedObjectPath)>::try_from(job)?;
    if id == 0 {
        return Ok(None);
    }
    let interface = InterfaceName::from_static_str("org.freedesktop.systemd1.Job")?;
    let word = properties(&connection, job)
        .await?
        .get(interface, "JobType")
        .await?;
    Ok(Some(String::try_from(word)?))
}

async fn properties(
    connection: &Connection,
    path: OwnedObjectPath,
) -> zbus::Result<PropertiesProxy<'static>> {
    PropertiesProxy::builder(connection)
        .destination(SYSTEMD)
        .path(path)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
}
