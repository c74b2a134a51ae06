//! `vip` resources: no address twice, not too many, and options that fit the addresses.

use super::duplicate;
use crate::config::place::Origin;
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::RawResource;
use crate::config::vip::{ADDRESSES_MAX, AddressSet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Most addresses of all groups together: a node that takes over everything takes all of them in one go.
const ADDRESSES_TOTAL_MAX: usize = 4096;

/// Checks the addresses of one resource against those seen before, and its options.
pub(crate) fn once_only(
    raw: &RawResource,
    node_addresses: &BTreeMap<IpAddr, Origin>,
    taken: &mut BTreeMap<IpAddr, Origin>,
    problems: &mut Problems,
) {
    let Some(vip) = &raw.vip else {
        return;
    };
    let count = vip.value.iter().map(|entry| entry.value.count()).sum();
    let before = taken.len();
    if !few_enough(count, vip.at, before, problems) {
        return;
    }
    for entry in &vip.value {
        // Of two ranges that overlap, one place is told once.
        let mut told = BTreeSet::new();
        for address in entry.value.addresses().iter().map(|one| one.address) {
            if let Some(link) = node_addresses.get(&address) {
                let wrong = Wrong::new(format!("vip {address} is a node's own address on a link"))
                    .expected("an address that no machine has by itself")
                    .hint(format!("the link is at {}", problems.place(*link)));
                problems.add(entry.at, wrong);
            }
            match taken.get(&address) {
                Some(first) if told.insert(*first) => {
                    duplicate(problems, &format!("vip {address}"), entry.at, *first);
                }
                Some(_) => {}
                None => drop(taken.insert(address, entry.at)),
            }
        }
    }
    label(raw, problems);
    routes(raw, problems);
}

fn few_enough(count: usize, at: Origin, before: usize, problems: &mut Problems) -> bool {
    if count > ADDRESSES_MAX {
        let wrong = Wrong::new(format!("vip: {count} addresses"))
            .expected(format!("at most {ADDRESSES_MAX}"))
            .hint("use several resources");
        problems.add(at, wrong);
        return false;
    }
    if before + count > ADDRESSES_TOTAL_MAX {
        let wrong = Wrong::new(format!("vip: {} addresses with this one", before + count))
            .expected(format!(
                "at most {ADDRESSES_TOTAL_MAX} in all groups together"
            ));
        problems.add(at, wrong);
        return false;
    }
    true
}

fn label(raw: &RawResource, problems: &mut Problems) {
    let (Some(label), Some(interface)) = (&raw.label, &raw.interface) else {
        return;
    };
    let name = interface.value.as_str();
    let rest = label.value.strip_prefix(name);
    if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
        let wrong = Wrong::new(format!("label: {:?}", label.value))
            .expected(format!("{name:?}, or {name:?} followed by ':' and a word"));
        problems.add(label.at, wrong);
    }
    if !has_family(raw, true) {
        let wrong = Wrong::new("label: IPv6 addresses have none").hint("remove it");
        problems.add(label.at, wrong);
    }
}

/// A route needs an address of its own family to go with.
fn routes(raw: &RawResource, problems: &mut Problems) {
    for route in raw.route.iter().flat_map(|route| &route.value) {
        let four = route.value.destination.is_ipv4();
        if !has_family(raw, four) {
            let family = if four { "IPv4" } else { "IPv6" };
            let found = format!("route: \"{}\" without an {family} address", route.value);
            let wrong = Wrong::new(found).hint("put it where the address is that it belongs to");
            problems.add(route.at, wrong);
        }
    }
}

fn has_family(raw: &RawResource, four: bool) -> bool {
    let mut entries = raw.vip.iter().flat_map(|vip| &vip.value);
    entries.any(|entry| entry.value.first.is_ipv4() == four)
}

/// The resource as the program uses it.
pub(crate) fn set(raw: &RawResource) -> Option<AddressSet> {
    let entries = &raw.vip.as_ref()?.value;
    let addresses = entries
        .iter()
        .flat_map(|entry| entry.value.addresses())
        .take(ADDRESSES_MAX)
        .collect();
    let mut set = AddressSet::new(addresses, &raw.interface.as_ref()?.value);
    set.label = raw.label.as_ref().map(|label| label.value.clone());
    set.source = raw.source.as_ref().is_some_and(|source| source.value);
    let routes = raw.route.iter().flat_map(|route| &route.value);
    set.routes = routes.map(|route| route.value).collect();
    if let Some(policy) = &raw.on_conflict {
        set.on_conflict = policy.value;
    }
    Some(set)
}
