//! Whether a unit is fit to be started and stopped by the cluster: asked of systemd, judged, and told.
//!
//! `hactl check` and the daemon ask the same questions, and say the same. Nothing here touches a unit, and nothing
//! waits for it: a unit that cannot be asked is no finding. The judgement itself is pure (`finding`).

pub mod facts;
pub mod finding;

use crate::config::model::{Config, Group, Resource, ResourceKind, Standby};
use crate::dbus::systemd1::{
    MOUNT_INTERFACE, ManagerProxy, SERVICE, SERVICE_INTERFACE, SWAP_INTERFACE, UNIT,
};
use crate::ids::GroupName;
use crate::resource::unit::Units;
use crate::resource::{Hands, HandsEvent};
use facts::{FileState, KindFacts, Limit, Load, Properties, Scope, UnitFacts};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use zbus::Connection;
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;

/// So many triggers of a unit are looked at; a service has one or two.
const TRIGGERS_MAX: usize = 8;
/// A question whose connection was lost is asked so often, then the unit is passed over.
const ATTEMPTS_MAX: usize = 3;
/// So many findings are told at a start; `hactl check` knows the others.
const NOTES_MAX: usize = 64;

/// A unit that the cluster starts and stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// Its group.
    pub group: GroupName,
    /// The resource's identifier.
    pub resource: String,
    /// Its name, as configured.
    pub unit: String,
    /// When the cluster gives up a stop.
    pub stop_timeout: Duration,
    /// What it does where its group does not run.
    pub standby: Standby,
    /// The stop margin of its group, where that is the default one and there are others who wait for it.
    pub default_margin: Option<Duration>,
}

/// All of them that may run on this node, in the order of the configuration.
pub fn managed(config: &Config) -> Vec<Managed> {
    let of_group = |group: &Group| {
        let resources = group.resources.iter();
        let settings = config.settings.groups.get(&group.name);
        let is_default = settings.is_none_or(|it| it.stop_margin.is_none());
        let margin = (is_default && !config.settings.standalone()).then_some(group.stop_margin);
        let units = resources.filter_map(|it| managed_unit(&group.name, it, margin));
        units.collect::<Vec<_>>()
    };
    let groups = config.groups.iter().filter(|group| group.here);
    groups.flat_map(of_group).collect()
}

fn managed_unit(
    group: &GroupName,
    resource: &Resource,
    default_margin: Option<Duration>,
) -> Option<Managed> {
    match &resource.kind {
        ResourceKind::Unit { name, standby } => Some(Managed {
            group: group.clone(),
            resource: resource.id.clone(),
            unit: name.clone(),
            stop_timeout: resource.stop_timeout,
            standby: *standby,
            default_margin,
        }),
        ResourceKind::Address { .. }
        | ResourceKind::Mount { .. }
        | ResourceKind::Script { .. }
        | ResourceKind::Ocf { .. } => None,
    }
}

/// What is wrong with one of these units, each with its remedy.
///
/// # Errors
/// systemd does not answer.
pub async fn inspect(
    connection: &Connection,
    unit: &Managed,
    all: &[Managed],
) -> zbus::Result<Vec<String>> {
    let asked = Asked::new(connection).await?;
    let name = &unit.unit;
    let facts = asked.unit(name).await?;
    let kind = asked.kind(&facts.id).await?;
    let ours: BTreeSet<&str> = all.iter().map(|it| it.unit.as_str()).collect();
    let foreign = (facts.triggered_by.iter()).filter(|by| !ours.contains(by.as_str()));
    let mut triggers = Vec::new();
    for by in foreign.take(TRIGGERS_MAX) {
        triggers.push(asked.unit(by).await?);
    }
    let mut found = finding::judge(&facts, &kind, &triggers, unit.stop_timeout);
    if let Some(margin) = unit.default_margin
        && facts.load == Load::Loaded
    {
        found.extend(finding::cut_short(
            &kind,
            asked.default_limit().await,
            margin,
        ));
    }
    // What runs everywhere may as well be started by others.
    found.retain(|it| unit.standby == Standby::Stopped || !it.is_about_others());
    let group = unit.group.as_str();
    Ok(found
        .iter()
        .map(|it| it.text(name, &facts.id, group))
        .collect())
}

/// A connection on which systemd is asked.
struct Asked<'a> {
    connection: &'a Connection,
    manager: ManagerProxy<'static>,
}

impl<'a> Asked<'a> {
    async fn new(connection: &'a Connection) -> zbus::Result<Self> {
        let manager = ManagerProxy::builder(connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        Ok(Self {
            connection,
            manager,
        })
    }

    /// What the stop of a unit is limited to that says nothing of it.
    async fn default_limit(&self) -> Limit {
        let usec = self.manager.default_timeout_stop_usec().await;
        usec.map_or(Limit::Unknown, Limit::from_usec)
    }

    async fn unit(&self, name: &str) -> zbus::Result<UnitFacts> {
        let properties = self.properties(name, UNIT).await?;
        let facts = UnitFacts::from_properties(name, &properties);
        let FileState::Enabled(scope) = facts.file else {
            return Ok(facts);
        };
        let is_runtime = scope == Scope::Runtime;
        let links = self.manager.get_unit_file_links(&facts.id, is_runtime);
        Ok(match links.await {
            Ok(mut links) => {
                links.retain(|link| !hides(link));
                facts.with_links(&links)
            }
            // Not known to old versions of systemd.
            Err(zbus::Error::MethodError(..)) => facts,
            Err(error) => return Err(error),
        })
    }

    async fn kind(&self, id: &str) -> zbus::Result<KindFacts> {
        let suffix = id.rsplit_once('.').map(|(_, suffix)| suffix);
        Ok(match suffix {
            Some("service") => KindFacts::service(&self.properties(id, SERVICE_INTERFACE).await?),
            Some("mount") => {
                KindFacts::file_system("Mount", &self.properties(id, MOUNT_INTERFACE).await?)
            }
            Some("swap") => {
                KindFacts::file_system("Swap", &self.properties(id, SWAP_INTERFACE).await?)
            }
            Some(_) | None => KindFacts::Plain,
        })
    }

    async fn properties(&self, name: &str, interface: &'static str) -> zbus::Result<Properties> {
        let path = self.manager.load_unit(name).await?;
        let proxy = PropertiesProxy::builder(self.connection)
            .destination(SERVICE)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let interface = InterfaceName::from_static_str(interface)?;
        Ok(proxy.get_all(interface).await?)
    }
}

/// Whether a link is there to hide another one of its name, which systemd takes for enabled all the same.
fn hides(link: &str) -> bool {
    // No wait for a disk: systemd has just looked at the link.
    std::fs::read_link(link).is_ok_and(|to| to == Path::new("/dev/null"))
}

impl Hands {
    /// Notes what is wrong with the units that may run here, once, in the background.
    pub fn inspect_units(&mut self, config: &Config, events: mpsc::Sender<HandsEvent>) {
        let all = managed(config);
        if !all.is_empty() {
            let task = Arc::clone(&self.units).note_findings(all, events);
            self.tasks.push(tokio::spawn(task));
        }
    }
}

impl Units {
    async fn note_findings(self: Arc<Self>, all: Vec<Managed>, events: mpsc::Sender<HandsEvent>) {
        let mut left = NOTES_MAX;
        for unit in &all {
            for text in self.inspect_soon(unit, &all).await {
                if left == 0 {
                    tracing::warn!("more is wrong with units than is told here: see `hactl check`");
                    return;
                }
                left -= 1;
                let note = HandsEvent::Note {
                    group: unit.group.clone(),
                    resource: unit.resource.clone(),
                    text,
                };
                if events.send(note).await.is_err() {
                    return;
                }
            }
        }
    }

    /// What is wrong with a unit, as soon as there is a connection; nothing where systemd does not say.
    async fn inspect_soon(&self, unit: &Managed, all: &[Managed]) -> Vec<String> {
        let mut lost = None;
        for _ in 0..ATTEMPTS_MAX {
            let link = self.connected(lost).await;
            match inspect(&link.connection, unit, all).await {
                Ok(found) => return found,
                Err(error) if link.is_lost(&error) => lost = Some(link.epoch),
                Err(error) => {
                    tracing::debug!(%error, unit = unit.unit, "not inspected, passing it over");
                    return Vec::new();
                }
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
