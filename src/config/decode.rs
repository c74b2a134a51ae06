//! One TOML text, or one environment variable in the shape of one, to what it says: [`Raw`].
//!
//! Judges each value by itself; what values mean together is the business of `check`. Goes on after every
//! error, so that one run finds all of them.

use crate::config::failure::RawFailure;
use crate::config::health;
use crate::config::kinds::{self, KINDS};
use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::{
    Raw, RawAuth, RawCluster, RawGroup, RawLink, RawNode, RawQuorum, RawResource, RawTiming,
    UcastEntry,
};
use crate::config::reader::{Reader, about, origin};
use crate::config::schema::{
    AUTH, CLUSTER, GROUP, LINK, NODE, QUORUM, RESOURCE, RESPAWN, ROOT, Section, TIMING,
};
use crate::config::value::{self, describe};
use crate::config::vip;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Shortest time between heartbeats.
pub(crate) const KEEPALIVE_MIN: Duration = Duration::from_millis(5);

/// Longest of all timings and time-outs.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(3600);

/// Longest time that an emergency stop may take: for so long a group is nowhere when its node is lost.
pub(crate) const STOP_MARGIN_MAX: Duration = Duration::from_secs(600);

/// Shortest time that a resource may be given to start or stop.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Reads a whole file.
pub(crate) fn document(text: &str, source: u32, problems: &mut Problems) -> Raw {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = origin(source, &error.span().unwrap_or_default());
        let message = error.message().trim_end_matches(['.', '\n']);
        problems.add(at, Wrong::new(format!("not valid TOML: {message}")));
    }
    if !errors.is_empty() {
        // What a damaged text means is guesswork: its other errors are told once it can be read.
        return Raw::default();
    }
    root(table.get_ref(), source, problems)
}

/// Reads the tables of one layer.
pub(crate) fn root(table: &DeTable<'_>, source: u32, problems: &mut Problems) -> Raw {
    let at = Origin { source, offset: 0 };
    let file = Reader::new(&ROOT, table, at, problems);
    Raw {
        cluster: section(&file, "cluster", &CLUSTER, problems, cluster),
        timing: section(&file, "timing", &TIMING, problems, timing),
        auth: section(&file, "auth", &AUTH, problems, auth),
        quorum: section(&file, "quorum", &QUORUM, problems, quorum),
        node: entries(&file, "node", &NODE, problems, node),
        link: entries(&file, "link", &LINK, problems, link),
        group: entries(&file, "group", &GROUP, problems, group),
        respawn: entries(&file, "respawn", &RESPAWN, problems, kinds::respawn),
    }
}

fn section<T: Default>(
    file: &Reader<'_, '_>,
    key: &str,
    section: &'static Section,
    problems: &mut Problems,
    read: impl FnOnce(&Reader<'_, '_>, &mut Problems) -> T,
) -> T {
    let Some((value, at)) = file.get(key) else {
        return T::default();
    };
    if let DeValue::Table(table) = value {
        let reader = Reader::new(section, table, at, problems);
        return read(&reader, problems);
    }
    let expected = format!("a table that begins with {}", section.title);
    problems.add(
        at,
        about(key, Wrong::new(describe(value)).expected(expected)),
    );
    T::default()
}

fn entries<T>(
    file: &Reader<'_, '_>,
    key: &str,
    section: &'static Section,
    problems: &mut Problems,
    mut read: impl FnMut(&Reader<'_, '_>, &mut Problems) -> Option<T>,
) -> Vec<T> {
    let Some((value, at)) = file.get(key) else {
        return Vec::new();
    };
    let expected = format!("tables that begin with {} each", section.title);
    let Some(list) = value.as_array() else {
        let wrong = Wrong::new(describe(value)).expected(expected);
        let wrong = if value.is_table() {
            wrong.hint(format!("write {}, not [{key}]", section.title))
        } else {
            wrong
        };
        problems.add(at, about(key, wrong));
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in list.iter() {
        let at = origin(at.source, &entry.span());
        let DeValue::Table(table) = entry.get_ref() else {
            let wrong = Wrong::new(describe(entry.get_ref())).expected(expected.clone());
            problems.add(at, about(key, wrong));
            continue;
        };
        let reader = Reader::new(section, table, at, problems);
        all.extend(read(&reader, problems));
    }
    all
}

fn cluster(table: &Reader<'_, '_>, problems: &mut Problems) -> RawCluster {
    RawCluster {
        name: table.read("name", problems, value::name),
        auto_failback: table.read("auto_failback", problems, value::auto_failback),
    }
}

fn timing(table: &Reader<'_, '_>, problems: &mut Problems) -> RawTiming {
    let mut read = |key: &str| {
        table.read(key, problems, |v| {
            value::duration(v, KEEPALIVE_MIN..=TIME_MAX)
        })
    };
    RawTiming {
        keepalive: read("keepalive"),
        warntime: read("warntime"),
        deadtime: read("deadtime"),
        initdead: read("initdead"),
    }
}

fn auth(table: &Reader<'_, '_>, problems: &mut Problems) -> RawAuth {
    RawAuth {
        keyfile: table.read("keyfile", problems, value::path),
    }
}

fn quorum(table: &Reader<'_, '_>, problems: &mut Problems) -> RawQuorum {
    RawQuorum {
        policy: table.read("policy", problems, value::policy),
    }
}

fn node(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawNode> {
    let role = table.read("role", problems, value::role);
    Some(RawNode {
        name: table.require("name", problems, value::node_name)?,
        witness: role.is_some_and(|role| role.value),
    })
}

fn link(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawLink> {
    exactly_one(table, &["ucast", "bcast", "mcast"], problems)?;
    let link = RawLink {
        at: table.at,
        ucast: ucast(table, problems),
        bcast: table.read("bcast", problems, value::interface),
        mcast: table.read("mcast", problems, value::multicast_group),
        interface: table.read("interface", problems, value::interface),
        port: table.read("port", problems, |v| value::integer(v, 1..=65_535)),
        ttl: table.read("ttl", problems, |v| value::integer(v, 0..=255)),
        direct: table.read("direct", problems, value::boolean),
    };
    let is_mcast = table.get("mcast").is_some();
    if let Some((_, at)) = table.get("ttl").filter(|_| !is_mcast) {
        problems.add(
            at,
            Wrong::new("ttl is only for an mcast link").hint("remove it"),
        );
    }
    if let (Some(_), Some((_, at))) = (table.get("bcast"), table.get("interface")) {
        let wrong =
            Wrong::new("interface on a bcast link").hint("bcast names the interface itself");
        problems.add(at, wrong);
    }
    if is_mcast && table.get("interface").is_none() {
        let wrong = Wrong::new("an mcast link has no interface").expected("interface = \"eth1\"");
        problems.add(table.at, wrong);
    }
    Some(link)
}

pub(crate) fn exactly_one(
    table: &Reader<'_, '_>,
    keys: &[&str],
    problems: &mut Problems,
) -> Option<()> {
    let set: Vec<&str> = keys
        .iter()
        .copied()
        .filter(|key| table.get(key).is_some())
        .collect();
    if set.len() == 1 {
        return Some(());
    }
    let found = if set.is_empty() {
        format!("{} has none of {}", table.section.title, keys.join(", "))
    } else {
        format!("{} has {}", table.section.title, set.join(" and "))
    };
    problems.add(
        table.at,
        Wrong::new(found).expected(format!("exactly one of {}", keys.join(", "))),
    );
    None
}

fn ucast(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<Found<Vec<UcastEntry>>> {
    let (value, at) = table.get("ucast")?;
    let Some(map) = value.as_table() else {
        let expected =
            "each node with its address, as { alpha = \"10.0.0.1\", beta = \"10.0.0.2\" }";
        let wrong = Wrong::new(describe(value)).expected(expected);
        problems.add(at, about("ucast", wrong));
        return None;
    };
    let mut all = Vec::new();
    for (key, entry) in map {
        let key_at = origin(at.source, &key.span());
        let entry_at = origin(at.source, &entry.span());
        let node = value::node_name(&DeValue::String(key.get_ref().clone()));
        let address = value::host_address(entry.get_ref());
        if let Err(wrong) = &node {
            problems.add(key_at, about("ucast", wrong.clone()));
        }
        if let Err(wrong) = &address {
            problems.add(
                entry_at,
                about(&format!("ucast.{}", key.get_ref()), wrong.clone()),
            );
        }
        if let (Ok(node), Ok(address)) = (node, address) {
            let node = Found {
                value: node,
                at: key_at,
            };
            let address = Found {
                value: address,
                at: entry_at,
            };
            all.push(UcastEntry { node, address });
        }
    }
    Some(Found { value: all, at })
}

fn group(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawGroup> {
    let nodes = table.list("nodes", problems).map(|list| Found {
        value: node_names(&list.value, problems),
        at: list.at,
    });
    let auto_failback = table.read("auto_failback", problems, value::auto_failback);
    let stop_margin = table.read("stop_margin", problems, |v| {
        value::duration(v, KEEPALIVE_MIN..=STOP_MARGIN_MAX)
    });
    let resources = resources(table, problems);
    let checks = health::checks(table, problems);
    Some(RawGroup {
        name: table.require("name", problems, value::name)?,
        nodes,
        auto_failback,
        stop_margin,
        resources,
        checks,
    })
}

fn node_names(
    list: &[(&DeValue<'_>, Origin)],
    problems: &mut Problems,
) -> Vec<Found<crate::ids::NodeName>> {
    let mut names = Vec::new();
    for (entry, at) in list {
        match value::node_name(entry) {
            Ok(value) => names.push(Found { value, at: *at }),
            Err(wrong) => problems.add(*at, about("nodes", wrong)),
        }
    }
    names
}

fn resources(table: &Reader<'_, '_>, problems: &mut Problems) -> Vec<RawResource> {
    let Some(list) = table.list("resources", problems) else {
        if table.get("resources").is_none() {
            let wrong = Wrong::new("[[group]] has no key \"resources\"")
                .expected("resources = [{ vip = … }, { unit = … }]");
            problems.add(table.at, wrong);
        }
        return Vec::new();
    };
    if list.value.is_empty() {
        let wrong = Wrong::new("an empty list").expected("at least one resource");
        problems.add(list.at, about("resources", wrong));
    }
    let mut all = Vec::new();
    for (entry, at) in list.value {
        let Some(map) = entry.as_table() else {
            let expected = "a table, as { unit = \"nginx.service\" }";
            let wrong = Wrong::new(describe(entry)).expected(expected);
            problems.add(at, about("resources", wrong));
            continue;
        };
        let reader = Reader::new(&RESOURCE, map, at, problems);
        all.extend(resource(&reader, problems));
    }
    all
}

fn resource(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawResource> {
    exactly_one(table, &KINDS, problems)?;
    if table.get("vip").is_some() && table.get("interface").is_none() {
        let wrong = Wrong::new("a vip has no interface").expected("interface = \"eth0\"");
        problems.add(table.at, wrong);
    }
    kinds::misplaced_keys(table, problems);
    let timeout = |v: &DeValue<'_>| value::duration(v, TIMEOUT_MIN..=TIME_MAX);
    Some(RawResource {
        at: table.at,
        vip: vip::one_or_many(table, "vip", problems, vip::addresses),
        interface: table.read("interface", problems, value::interface),
        label: table.read("label", problems, vip::label),
        source: table.read("source", problems, value::boolean),
        route: vip::routes(table, problems),
        on_conflict: table.read("on_conflict", problems, vip::on_conflict),
        unit: table.read("unit", problems, value::unit),
        kind: kinds::kind(table, problems),
        id: table.read("id", problems, value::resource_id),
        start_timeout: table.read("start_timeout", problems, timeout),
        stop_timeout: table.read("stop_timeout", problems, timeout),
        failure: RawFailure::read(table, problems),
        standby: table.read("standby", problems, value::standby),
        checks: health::checks(table, problems),
    })
}
