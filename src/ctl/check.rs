//! `hactl check`: the configuration is loaded as the daemon would, and compared with this machine.
//!
//! Errors are what the daemon would refuse; all else is a warning, since units and interfaces may come later.

use crate::config::Config;
use crate::config::model::ResourceKind;
use crate::ctl::error::CtlError;
use crate::ctl::print;
use std::collections::BTreeSet;
use std::path::Path;
use zbus::Connection;

/// Where the kernel lists the interfaces.
const INTERFACES: &str = "/sys/class/net";

/// A configuration that the daemon would run with.
struct Checked {
    config: Config,
    warnings: Vec<String>,
}

/// Checks a configuration file, by default the installed one.
pub(crate) async fn run(file: Option<&Path>) -> Result<(), CtlError> {
    let Checked {
        config,
        mut warnings,
    } = load(file).map_err(CtlError::Failed)?;
    warnings.extend(missing_interfaces(&config, |name| {
        Path::new(INTERFACES).join(name).exists()
    }));
    warnings.extend(unit_warnings(&config).await);
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    print(&summary(&config, warnings.len()))
}

/// The configuration as the daemon would load it on this host, and its keys.
fn load(file: Option<&Path>) -> Result<Checked, String> {
    let options = crate::node::Options {
        config: file.map(Path::to_owned),
        state: crate::state::DIRECTORY.into(),
    };
    let (config, warnings) = options.read().map_err(|error| format!("{error:#}"))?;
    crate::node::load_keys(&config).map_err(|error| format!("{error:#}"))?;
    Ok(Checked { config, warnings })
}

fn summary(config: &Config, warnings: usize) -> String {
    let settings = &config.settings;
    let end = match warnings {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        more => format!("{more} warnings"),
    };
    format!(
        "cluster \"{}\" with {} nodes, {} links, {} groups: the configuration is valid, {end}\n",
        settings.cluster,
        settings.nodes.len(),
        config.links.len(),
        config.groups.len()
    )
}

fn missing_interfaces(config: &Config, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let links = config.links.iter().filter_map(|link| link.interface());
    let addresses = resources(config).filter_map(|kind| match kind {
        ResourceKind::Address(set) => Some(set.interface.as_str()),
        ResourceKind::Unit { .. } => None,
    });
    let used: BTreeSet<&str> = links.chain(addresses).collect();
    (used.into_iter().filter(|name| !exists(name)))
        .map(|name| {
            format!("there is no interface \"{name}\" on this machine now; it is waited for")
        })
        .collect()
}

fn resources(config: &Config) -> impl Iterator<Item = &ResourceKind> {
    config
        .groups
        .iter()
        .flat_map(|group| &group.resources)
        .map(|resource| &resource.kind)
}

async fn unit_warnings(config: &Config) -> Vec<String> {
    let units: BTreeSet<&str> = resources(config)
        .filter_map(|kind| match kind {
            ResourceKind::Unit { name } => Some(name.as_str()),
            ResourceKind::Address { .. } => None,
        })
        .collect();
    if units.is_empty() {
        return Vec::new();
    }
    let connection = match zbus::connection::Builder::system().build().await {
        Ok(connection) => connection,
        Err(error) => return vec![format!("units are not checked, no system bus: {error}")],
    };
    let mut warnings = Vec::new();
    for unit in units {
        warnings.extend(unit_warning(unit, unit_file_state(&connection, unit).await));
    }
    warnings
}

async fn unit_file_state(connection: &Connection, unit: &str) -> zbus::Result<String> {
    let reply = connection
        .call_method(
            Some("org.freedesktop.systemd1"),
            "/org/freedesktop/systemd1",
            Some("org.freedesktop.systemd1.Manager"),
            "GetUnitFileState",
            &(unit,),
        )
        .await?;
    reply.body().deserialize()
}

/// What is wrong with a unit that the cluster shall start and stop.
fn unit_warning(unit: &str, state: zbus::Result<String>) -> Option<String> {
    match state.as_deref() {
        Ok("enabled" | "enabled-runtime") => Some(format!(
            "\"{unit}\" is also started at boot, on every node: systemctl disable {unit}"
        )),
        Ok("masked" | "masked-runtime") => Some(format!(
            "\"{unit}\" is masked, so it cannot be started: systemctl unmask {unit}"
        )),
        Ok(_) => None,
        Err(zbus::Error::MethodError(name, _, _))
            if name.as_str() == "org.freedesktop.DBus.Error.FileNotFound"
                || name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
        {
            Some(format!("there is no unit \"{unit}\" on this machine"))
        }
        Err(error) => Some(format!("\"{unit}\" is not checked: {error}")),
    }
}

#[cfg(test)]
mod tests;
