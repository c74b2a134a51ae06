//! `hactl check`: the configuration is loaded as the daemon would, and compared with this machine.
//!
//! Errors are what the daemon would refuse; all else is a warning, since units and interfaces may come later.

mod pages;

use crate::config::Config;
use crate::config::model::ResourceKind;
use crate::ctl::error::CtlError;
use crate::ctl::print;
use crate::resource::inspect;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer of systemd about a unit.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

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
    warnings.extend(missing_programs(&config, |path| Path::new(path).exists()));
    warnings.extend(pages::warnings(&config));
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
    let keys = crate::node::load_keys(&config).map_err(|error| format!("{error:#}"))?;
    let warnings = warnings.into_iter().chain(crate::node::key_warnings(&keys));
    Ok(Checked {
        config,
        warnings: warnings.collect(),
    })
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

/// Scripts and agents that are not there; one that lies on a mount of its group is not seen by a check.
fn missing_programs(config: &Config, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let resources = resources(config).filter_map(ResourceKind::program);
    let respawned = config
        .respawn
        .iter()
        .filter_map(|it| it.command.first().cloned());
    let used: BTreeSet<String> = resources.chain(respawned).collect();
    (used.into_iter().filter(|path| !exists(path)))
        .map(|path| format!("there is no program \"{path}\" on this machine now"))
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
    let units = inspect::managed(config);
    if units.is_empty() {
        return Vec::new();
    }
    let connection = match connect().await {
        Ok(connection) => connection,
        Err(error) => return vec![format!("units are not checked, no system bus: {error}")],
    };
    let mut warnings = Vec::new();
    for unit in &units {
        match inspect::inspect(&connection, unit, &units).await {
            Ok(found) => warnings.extend(found),
            Err(error) => warnings.push(format!("\"{}\" is not checked: {error}", unit.unit)),
        }
    }
    warnings
}

async fn connect() -> zbus::Result<zbus::Connection> {
    let builder = zbus::connection::Builder::system();
    builder.method_timeout(REPLY_TIMEOUT).build().await
}

#[cfg(test)]
mod tests;
