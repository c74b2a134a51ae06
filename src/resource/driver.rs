//! The real driver of a group: addresses by `address`, units by `unit`.

use crate::config::model::{Resource, ResourceKind};
use crate::config::vip::AddressSet;
use crate::ids::GroupName;
use crate::resource::address::Addresses;
use crate::resource::runner::Driver;
use crate::resource::unit::Units;
use std::sync::Arc;

/// Drives the resources of one group.
#[derive(Debug)]
pub(crate) struct GroupDriver {
    pub(crate) group: GroupName,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) units: Arc<Units>,
}

/// What a resource is, in the terms of the one who works on it.
pub(crate) enum Target<'a> {
    /// Addresses that come and go together.
    Addresses(&'a AddressSet),
    /// A unit, by its name.
    Unit(&'a str),
}

/// What a resource of this kind is.
pub(crate) fn target(kind: &ResourceKind) -> Target<'_> {
    match kind {
        ResourceKind::Address(set) => Target::Addresses(set),
        ResourceKind::Unit { name } => Target::Unit(name),
    }
}

impl Driver for GroupDriver {
    async fn start(&self, resource: &Resource) -> Result<(), String> {
        let id = &resource.id;
        match target(&resource.kind) {
            Target::Addresses(set) => self.addresses.acquire(set, &self.group, id).await,
            Target::Unit(name) => self.units.start(name).await,
        }
    }

    async fn stop(&self, resource: &Resource) -> Result<(), String> {
        match target(&resource.kind) {
            Target::Addresses(set) => self.addresses.release(set, &self.group, &resource.id),
            Target::Unit(name) => self.units.stop(name).await,
        }
    }

    async fn fault(&self, resource: &Resource) -> Option<String> {
        match target(&resource.kind) {
            Target::Addresses(_) => self.addresses.fault(&self.group, &resource.id),
            Target::Unit(name) => self.units.fault(name).await,
        }
    }

    fn overdue(&self, resource: &Resource) -> String {
        match target(&resource.kind) {
            Target::Addresses(_) => "the kernel did not answer".to_owned(),
            Target::Unit(name) => self.units.overdue(name),
        }
    }
}
