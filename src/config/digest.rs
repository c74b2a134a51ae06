//! A digest of the part of the configuration that must be the same on all nodes.
//!
//! Left out: links (each node may have its own interface names and addresses), the key file's path, and the
//! interfaces and labels of virtual addresses. The order of files, keys and sections makes no difference.

use crate::config::health::{HealthCheck, Page, Probe, Trust};
use crate::config::model::{Group, Resource, ResourceKind, Standby};
use crate::core::settings::Reaction;
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
        if let Some(margin) = group.stop_margin {
            hasher.text("stop margin");
            hasher.duration(margin);
        }
        for resource in resources.flat_map(|group| &group.resources) {
            hasher.resource(resource);
        }
        let checks = groups.iter().filter(|group| group.name == *name);
        for check in checks.flat_map(|group| &group.checks) {
            hasher.check("group check", check);
        }
    }
    hasher.finish()
}

impl Group {
    /// A number for all that this node was told of the group, its own interfaces included.
    pub fn digest(&self) -> u64 {
        let mut hasher = Hasher(Sha256::new());
        hasher.text(&format!("{self:?}"));
        hasher.finish()
    }
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

    fn optional(&mut self, text: Option<&str>) {
        self.flag(text.is_some());
        self.text(text.unwrap_or_default());
    }

    fn resource(&mut self, resource: &Resource) {
        self.text(resource.kind.as_str());
        self.text(&resource.id);
        match &resource.kind {
            ResourceKind::Address(set) => self.text(&set.common()),
            ResourceKind::Unit { name, standby } => {
                self.text(name);
                self.flag(*standby == Standby::Started);
            }
            ResourceKind::Mount {
                directory,
                unit: _,
                device,
                fstype,
                options,
            } => {
                self.text(directory);
                self.text(device);
                self.optional(fstype.as_deref());
                self.optional(options.as_deref());
            }
            ResourceKind::Script {
                path,
                arguments,
                monitor_interval,
            } => {
                self.text(path);
                self.count(arguments.len());
                arguments.iter().for_each(|argument| self.text(argument));
                self.duration(monitor_interval.unwrap_or_default());
            }
            ResourceKind::Ocf {
                provider,
                agent,
                parameters,
                monitor_interval,
                start_timeout,
                stop_timeout,
            } => {
                self.flag(start_timeout.is_some());
                self.flag(stop_timeout.is_some());
                self.text(&format!("{provider}:{agent}"));
                self.count(parameters.len());
                for (name, value) in parameters {
                    self.text(name);
                    self.text(value);
                }
                self.duration(*monitor_interval);
            }
        }
        self.duration(resource.start_timeout);
        self.duration(resource.stop_timeout);
        match resource.policy.reaction {
            Reaction::Ignore => self.text("ignore"),
            Reaction::Restart { limit } => self.count(limit as usize),
        }
        self.duration(resource.policy.window);
        for check in &resource.checks {
            self.check("check", check);
        }
    }

    /// The word before it keeps the digest of groups without checks what it was.
    fn check(&mut self, word: &str, check: &HealthCheck) {
        self.text(word);
        self.text(&check.probe.to_string());
        match &check.probe {
            Probe::Http(http) => self.page(&http.page),
            Probe::Https(https) => {
                self.page(&https.page);
                match &https.trust {
                    Trust::System => self.text("system"),
                    Trust::Any => self.text("any"),
                    Trust::Ca(path) => self.text(path),
                }
            }
            Probe::Exec { command, user } => {
                self.count(command.len());
                command.iter().for_each(|word| self.text(word));
                self.text(user.as_deref().unwrap_or_default());
            }
            Probe::Tcp { .. } | Probe::Unit { .. } => {}
        }
        for time in [check.interval, check.timeout, check.start_grace] {
            self.duration(time);
        }
        self.count(check.failures as usize);
        self.count(check.successes as usize);
    }

    fn page(&mut self, page: &Page) {
        self.count(page.status.len());
        for code in &page.status {
            self.count(usize::from(*code));
        }
        self.text(page.text.as_deref().unwrap_or_default());
    }

    fn finish(self) -> u64 {
        let digest = self.0.finalize();
        let first: [u8; 8] = std::array::from_fn(|index| digest.get(index).copied().unwrap_or(0));
        u64::from_be_bytes(first)
    }
}
