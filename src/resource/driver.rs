//! The real driver of a group: addresses by `address`, units by `unit`.

use crate::config::model::{Resource, ResourceKind};
use crate::ids::GroupName;
use crate::resource::address::{Addresses, VirtualAddress};
use crate::resource::check::Checks;
use crate::resource::runner::Driver;
use crate::resource::unit::Units;
use std::sync::Arc;

/// Drives the resources of one group.
#[derive(Debug)]
pub(crate) struct GroupDriver {
    pub(crate) group: GroupName,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) units: Arc<Units>,
    pub(crate) checks: Checks,
}

/// What a resource is, in the terms of the one who works on it.
pub(crate) enum Target<'a> {
    /// An address.
    Address(VirtualAddress),
    /// A unit, by its name.
    Unit(&'a str),
}

/// What a resource of this kind is.
pub(crate) fn target(kind: &ResourceKind) -> Target<'_> {
    match kind {
        ResourceKind::Address {
            address,
            prefix,
            interface,
        } => Target::Address(VirtualAddress {
            address: *address,
            prefix: *prefix,
            interface: interface.clone(),
        }),
        ResourceKind::Unit { name } => Target::Unit(name),
    }
}

impl Driver for GroupDriver {
    async fn start(&self, resource: &Resource) -> Result<(), String> {
        let result = match target(&resource.kind) {
            Target::Address(address) => self.addresses.acquire(&address, &self.group, &resource.id),
            Target::Unit(name) => self.units.start(name).await,
        };
        if result.is_ok() {
            self.checks.begin(resource);
        }
        result
    }

    async fn stop(&self, resource: &Resource) -> Result<(), String> {
        self.checks.end(resource);
        match target(&resource.kind) {
            Target::Address(address) => self.addresses.release(&address),
            Target::Unit(name) => self.units.stop(name).await,
        }
    }

    async fn fault(&self, resource: &Resource) -> Option<String> {
        let ended = match target(&resource.kind) {
            Target::Address(address) => self.addresses.fault(&address),
            Target::Unit(name) => self.units.fault(name).await,
        };
        ended.or_else(|| self.checks.fault(resource))
    }

    fn overdue(&self, resource: &Resource) -> String {
        match target(&resource.kind) {
            Target::Address(_) => "the kernel did not answer".to_owned(),
            Target::Unit(name) => self.units.overdue(name),
        }
    }
}
