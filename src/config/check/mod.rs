//! What the values mean together: the merged layers to the checked [`Config`].
//!
//! Each file judges one subject and reports all that it finds there; the result is used only if none did.

mod addresses;
mod groups;
mod links;
mod nodes;
mod timing;

pub use groups::GROUPS_MAX;

use crate::config::digest;
use crate::config::interfaces::{InterfaceUse, Purpose};
use crate::config::model::{Config, Respawn};
use crate::config::place::Origin;
use crate::config::problem::{ConfigErrors, Problems, Wrong};
use crate::config::raw::{PolicyChoice, Raw};
use crate::config::{Loaded, Place};
use crate::core::{NodeSettings, Policy, Settings};
use crate::ids::{ClusterName, NodeName};
use std::collections::BTreeMap;

/// The cluster's name where neither a file nor the host gives one, as in Heartbeat.
const CLUSTER_DEFAULT: &str = "linux-ha";

/// Most programs that live and die with the daemon.
const RESPAWN_MAX: usize = 32;

/// From this number of votes on, `auto` asks for a majority.
const MAJORITY_VOTES_MIN: usize = 3;

/// Checks everything.
pub(crate) fn config(
    raw: &Raw,
    host: &str,
    standalone: bool,
    mut problems: Problems,
) -> Result<Loaded, ConfigErrors> {
    let problems = &mut problems;
    let Some(host) = nodes::host_name(host, problems) else {
        return Err(finish_with_error(problems));
    };
    let nodes = nodes::check(raw, &host, problems);
    let timing = timing::check(&raw.timing, problems);
    let links = links::check(raw, &nodes, &host, problems);
    let groups = groups::check(raw, &nodes, &host, timing.keepalive, problems);
    let keyfile = keyfile(raw, problems);
    if raw.respawn.len() > RESPAWN_MAX {
        let found = format!("{} entries of [[respawn]]", raw.respawn.len());
        let wrong = Wrong::new(found).expected(format!("at most {RESPAWN_MAX}"));
        problems.add_maybe_at(None, wrong);
    }
    problems.finish_phase()?;
    let mut settings = Settings {
        cluster: cluster_name(raw, &host, standalone, problems)?,
        local: host,
        policy: policy(raw, &nodes, problems),
        nodes,
        groups: groups.settings,
        keepalive: timing.keepalive,
        warntime: timing.warntime,
        deadtime: timing.deadtime,
        initdead: timing.initdead,
        config_hash: 0,
    };
    settings.config_hash = digest::digest(&settings, &groups.resources);
    Ok(Loaded {
        config: Config {
            settings,
            standalone,
            keyfile,
            links,
            groups: groups.resources,
            respawn: raw
                .respawn
                .iter()
                .map(|raw| Respawn {
                    user: raw.user.clone(),
                    command: raw.command.clone(),
                })
                .collect(),
        },
        warnings: std::mem::take(&mut problems.warnings),
        interfaces: interface_uses(raw, problems),
    })
}

/// For a problem after which nothing else can be judged.
fn finish_with_error(problems: &mut Problems) -> ConfigErrors {
    match problems.finish_phase() {
        Err(errors) => errors,
        Ok(()) => ConfigErrors::one(
            Place::File("configuration".to_owned()),
            Wrong::new("cannot be used"),
        ),
    }
}

fn cluster_name(
    raw: &Raw,
    host: &NodeName,
    standalone: bool,
    problems: &mut Problems,
) -> Result<ClusterName, ConfigErrors> {
    if let Some(name) = &raw.cluster.name {
        return Ok(name.value.clone());
    }
    let name = if standalone {
        host.as_str()
    } else {
        CLUSTER_DEFAULT
    };
    ClusterName::new(name).map_err(|_| finish_with_error(problems))
}

fn keyfile(raw: &Raw, problems: &mut Problems) -> Option<std::path::PathBuf> {
    let keyfile = raw.auth.keyfile.as_ref();
    if let (None, Some(link)) = (keyfile, raw.link.first()) {
        let wrong = Wrong::new("there are links, but no keys to sign what is sent on them")
            .expected("[auth] with keyfile = \"/etc/ha-node/authkeys\"")
            .hint("`hactl keygen` makes a key file; copy it to every node");
        problems.add(link.at, wrong);
    }
    keyfile.map(|found| found.value.clone())
}

fn policy(raw: &Raw, nodes: &BTreeMap<NodeName, NodeSettings>, problems: &mut Problems) -> Policy {
    let found = raw.quorum.policy.as_ref();
    match found.map_or(PolicyChoice::Auto, |found| found.value) {
        PolicyChoice::Ignore => Policy::Ignore,
        PolicyChoice::Auto if nodes.len() < MAJORITY_VOTES_MIN => Policy::Ignore,
        PolicyChoice::Auto => Policy::Majority,
        PolicyChoice::Majority => {
            if nodes.len() == 2 {
                problems.warn(
                    found.map(|found| found.at),
                    "policy \"majority\" with two votes: when one node fails, the other stops all groups; \
                     add a third node, which can be a witness",
                );
            }
            Policy::Majority
        }
    }
}

fn interface_uses(raw: &Raw, problems: &Problems) -> Vec<InterfaceUse> {
    let of_links = raw
        .link
        .iter()
        .flat_map(|link| [&link.interface, &link.bcast])
        .map(|found| (found, Purpose::Link));
    let of_groups = raw
        .group
        .iter()
        .flat_map(|group| group.resources.iter().map(|resource| &resource.interface))
        .map(|found| (found, Purpose::Address));
    of_links
        .chain(of_groups)
        .filter_map(|(found, purpose)| Some((found.as_ref()?, purpose)))
        .map(|(found, purpose)| InterfaceUse {
            name: found.value.clone(),
            place: problems.place(found.at),
            purpose,
        })
        .collect()
}

/// Tells of a second thing that may be there only once, and names the place of the first.
fn duplicate(problems: &mut Problems, what: &str, at: Origin, first: Origin) {
    let wrong = Wrong::new(format!("{what} is here a second time"))
        .hint(format!("the first one is at {}", problems.place(first)));
    problems.add(at, wrong);
}
