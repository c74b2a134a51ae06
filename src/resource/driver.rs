//! The real driver of a group: addresses by `address`, units by `unit`, mounts by `mount`, programs by `agent`.

use crate::config::model::{Group, Resource, ResourceKind};
use crate::config::vip::AddressSet;
use crate::resource::address::Addresses;
use crate::resource::agent::{Agent, Agents};
use crate::resource::check::Checks;
use crate::resource::mount::Mount;
use crate::resource::ocf::Ocf;
use crate::resource::presence::Herald;
use crate::resource::runner::{Driver, Presence, Purpose};
use crate::resource::script::Script;
use crate::resource::unit::Units;
use crate::resource::warm::{self, Warm};
use std::sync::Arc;

/// Drives the resources of one group.
#[derive(Debug)]
pub(crate) struct GroupDriver {
    pub(crate) group: Arc<Group>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) units: Arc<Units>,
    pub(super) agents: Agents,
    pub(crate) checks: Checks,
    pub(super) warm: Warm,
    pub(super) herald: Herald,
}

/// What a resource is, in the terms of the one who works on it.
pub(crate) enum Target<'a> {
    /// Addresses that come and go together.
    Addresses(&'a AddressSet),
    /// A unit, by its name.
    Unit(&'a str),
    /// A file system.
    Mount(Mount),
    /// A script or an OCF agent.
    Agent(Agent<'a>),
}

/// What a resource is.
pub(crate) fn target(resource: &Resource) -> Target<'_> {
    match &resource.kind {
        ResourceKind::Address(set) => Target::Addresses(set),
        ResourceKind::Unit { name, standby: _ } => Target::Unit(name),
        ResourceKind::Mount {
            directory: _,
            unit,
            device,
            fstype,
            options,
        } => Target::Mount(Mount {
            unit: unit.clone(),
            device: device.clone(),
            fstype: fstype.clone(),
            options: options.clone(),
            timeout: resource.start_timeout,
        }),
        ResourceKind::Script {
            path,
            arguments,
            monitor_interval,
        } => Target::Agent(Agent::Script(Script {
            path,
            arguments,
            monitor_interval: *monitor_interval,
        })),
        ResourceKind::Ocf {
            provider,
            agent,
            parameters,
            monitor_interval,
            start_timeout,
            stop_timeout,
        } => Target::Agent(Agent::Ocf(Ocf {
            provider,
            agent,
            parameters,
            monitor_interval: *monitor_interval,
            start_timeout: *start_timeout,
            stop_timeout: *stop_timeout,
        })),
    }
}

impl Driver for GroupDriver {
    async fn start(&self, resource: &Resource) -> Result<(), String> {
        let id = &resource.id;
        let result = match target(resource) {
            Target::Addresses(set) => self.addresses.acquire(set, &self.group.name, id).await,
            Target::Unit(name) if warm::unit(&self.group, resource).is_some() => {
                self.units.start_anywhere(name).await
            }
            Target::Unit(name) => self.units.start(name).await,
            Target::Mount(mount) => self.units.mount(&mount).await,
            Target::Agent(agent) => self.agents.start(resource, agent).await,
        };
        if result.is_ok() {
            self.checks.begin(resource);
        }
        result
    }

    async fn stop(&self, resource: &Resource, purpose: Purpose) -> Result<(), String> {
        self.checks.end(resource);
        if purpose == Purpose::Leave && warm::unit(&self.group, resource).is_some() {
            return Ok(());
        }
        match target(resource) {
            Target::Addresses(set) => self.addresses.release(set, &self.group.name, &resource.id),
            Target::Unit(name) => self.units.stop(name).await,
            Target::Mount(mount) => self.units.stop(&mount.unit).await,
            Target::Agent(agent) => self.agents.stop(resource, agent).await,
        }
    }

    async fn kill(&self, resource: &Resource) {
        if warm::unit(&self.group, resource).is_some() {
            return;
        }
        match target(resource) {
            Target::Addresses(_) => {}
            Target::Unit(name) => self.units.kill(name).await,
            // Nothing of a mount can be killed; what keeps it busy is, and its own unit then stops.
            Target::Mount(mount) => self.units.down(&mount.unit).await,
            Target::Agent(_) => self.agents.kill(resource).await,
        }
    }

    async fn fault(&self, resource: &Resource) -> Option<String> {
        let ended = match target(resource) {
            Target::Addresses(_) => self.addresses.fault(&self.group.name, &resource.id),
            Target::Unit(name) => self.units.fault(name).await,
            Target::Mount(mount) => self.units.fault(&mount.unit).await,
            Target::Agent(_) => self.agents.fault(resource),
        };
        ended.or_else(|| self.checks.fault(resource))
    }

    fn appeared(&self, resource: &Resource) -> bool {
        match target(resource) {
            Target::Unit(_) if warm::unit(&self.group, resource).is_some() => false,
            Target::Unit(name) => self.units.is_up(name),
            Target::Mount(mount) => self.units.is_up(&mount.unit),
            // Addresses are kept away by their own driver; programs are asked only while they run.
            Target::Addresses(_) | Target::Agent(_) => false,
        }
    }

    fn has_recovered(&self, resource: &Resource) -> bool {
        match target(resource) {
            Target::Addresses(_) => self.addresses.has_recovered(&self.group.name, &resource.id),
            Target::Unit(name) => self.units.has_recovered(name),
            Target::Mount(mount) => self.units.has_recovered(&mount.unit),
            // Why these fail is known to nobody.
            Target::Agent(_) => false,
        }
    }

    async fn idle(&self) {
        self.warm.keep().await;
    }

    fn is_hidden(&self) -> bool {
        self.herald.is_hidden()
    }

    async fn show_presence(&self, presence: Presence) {
        self.herald.show(presence).await;
    }

    fn overdue(&self, resource: &Resource) -> String {
        match target(resource) {
            Target::Addresses(_) => "the kernel did not answer".to_owned(),
            Target::Unit(name) => self.units.overdue(name),
            Target::Mount(mount) => self.units.overdue(&mount.unit),
            Target::Agent(_) => self.agents.overdue(resource),
        }
    }
}
