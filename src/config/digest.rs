//! A digest of the part of the configuration that must be the same on all nodes.
//!
//! Left out: links (each node may have its own interface names and addresses), the key file's path, and the
//! interfaces and labels of virtual addresses. The order of files, keys and sections makes no difference.

use crate::config::model::{Group, Resource, ResourceKind};
use crate::core::{Policy, Settings};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// First eight bytes of SHA-256 over all values in a fixed order, each with its length before it.
pub(crate) fn digest(settings: &Settings, groups: &[Group]) -> u64 {
    let mut hasher = Hasher(Sha256::new());
    hasher.text("ha-node configuration 1");
    hasher.text(settings.cluster.as_str());
    for time in [
        settings.keepalive,
        settings.warntime,
        settings.deadtime,
        settings.initdead,
    ] {
        hasher.duration(time);
    }
    hasher.text(match settings.policy {
        Policy::Majority => "majority",
        Policy::Ignore => "ignore",
    });
    hasher.count(settings.nodes.len());
    for (name, node) in &settings.nodes {
        hasher.text(name.as_str());
        hasher.flag(node.witness);
    }
    hasher.count(settings.groups.len());
    for (name, group) in &settings.groups {
        hasher.text(name.as_str());
        hasher.flag(group.auto_failback);
        hasher.count(group.nodes.len());
        for node in &group.nodes {
            hasher.text(node.as_str());
        }
        let resources = groups.iter().filter(|group| group.name == *name);
        for resource in resources.flat_map(|group| &group.resources) {
            hasher.resource(resource);
        }
    }
    hasher.finish()
}

struct Hasher(Sha256);

impl Hasher {
    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.update([u8::from(flag)]);
    }

    fn duration(&mut self, duration: Duration) {
        self.0.update(duration.as_nanos().to_be_bytes());
    }

    fn resource(&mut self, resource: &Resource) {
        self.text(resource.kind.as_str());
        self.text(&resource.id);
        match &resource.kind {
            ResourceKind::Address(set) => self.text(&set.common()),
            ResourceKind::Unit { name } => self.text(name),
        }
        self.duration(resource.start_timeout);
        self.duration(resource.stop_timeout);
    }

    fn finish(self) -> u64 {
        let digest = self.0.finalize();
        let first: [u8; 8] = std::array::from_fn(|index| digest.get(index).copied().unwrap_or(0));
        u64::from_be_bytes(first)
    }
}
