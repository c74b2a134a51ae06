//! What is held, and what becomes of it: the state behind `address`, all of it synchronous.
//!
//! A resource's addresses come and go together; each has its own schedule, and is put back by itself. What
//! people should know collects as notes until the task that listens takes them.

use crate::config::vip::{AddressSet, AddressWithPrefix, same_network};
use crate::ids::GroupName;
use crate::resource::HandsEvent;
use crate::resource::announce::{Announcer, Schedule, own_macs};
use crate::resource::carrier::{Carrier, Change, DEBOUNCE};
use crate::resource::frame::{Mac, show_mac};
use crate::resource::netlink::{
    HowToAdd, InterfaceAddress, LinkState, Netlink, Notice, interface_index,
};
use crate::resource::recovery::{Question, Recoveries};
use crate::resource::route;
use crate::resource::sentry::{Claim, Sentry};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// So many times within [`RESTORE_WINDOW`] an address is put back; then somebody else insists, and it failed.
/// One `ip addr flush` alone removes ten times what comes back meanwhile.
const RESTORES_MAX: usize = 50;
const RESTORE_WINDOW: Duration = Duration::from_secs(10);

/// A claim of somebody else is told and answered once in so long (RFC 5227, `DEFEND_INTERVAL`).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Addresses that a note names; the rest is counted.
const NAMED_MAX: usize = 3;

/// A resource of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    group: GroupName,
    resource: String,
}

impl Key {
    pub(super) fn new(group: &GroupName, resource: &str) -> Self {
        Self {
            group: group.clone(),
            resource: resource.to_owned(),
        }
    }

    fn note(&self, text: String) -> HandsEvent {
        HandsEvent::Note {
            group: self.group.clone(),
            resource: self.resource.clone(),
            text,
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    netlink: Netlink,
    announcer: Announcer,
    sentry: Sentry,
    resources: BTreeMap<Arc<Key>, Resource>,
    held: BTreeMap<InterfaceAddress, Held>,
    /// Addresses of the machine that are not held; read when needed, forgotten when one of them changes.
    others: Option<Vec<InterfaceAddress>>,
    /// The machine's own hardware addresses; likewise.
    macs: Option<BTreeSet<Mac>>,
    /// Addresses that were put back since the last [`Self::take_notes`].
    restored: BTreeMap<Arc<Key>, Vec<IpAddr>>,
    pub(super) recoveries: Recoveries,
    notes: Vec<HandsEvent>,
}

/// A resource that is held.
#[derive(Debug)]
struct Resource {
    set: Arc<AddressSet>,
    index: u32,
    carrier: Carrier,
    fault: Option<String>,
}

/// One address that is held.
#[derive(Debug)]
struct Held {
    key: Arc<Key>,
    schedule: Schedule,
    restores: Vec<Instant>,
    defended: Option<Instant>,
}

impl State {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            announcer: Announcer::default(),
            sentry: Sentry::open(),
            resources: BTreeMap::new(),
            held: BTreeMap::new(),
            others: None,
            macs: None,
            restored: BTreeMap::new(),
            recoveries: Recoveries::default(),
            notes: Vec::new(),
        })
    }

    pub(super) fn sentry(&self) -> &Sentry {
        &self.sentry
    }

    /// An interface that nobody has set up carries nothing; one without a carrier may get it yet.
    pub(super) fn check_up(&mut self, set: &AddressSet, index: u32) -> Result<LinkState, String> {
        let interface = &set.interface;
        match self.netlink.link(index) {
            Ok(Some(link)) if link.up => Ok(link),
            Ok(Some(_)) => Err(format!(
                "the interface {interface:?} is down: `ip link set {interface} up`"
            )),
            Ok(None) => Err(format!("the interface {interface:?} has just gone")),
            Err(error) => Err(format!("asking for the state of {interface:?}: {error}")),
        }
    }

    /// Takes all addresses of a resource. The error is none where `may` answered no in the middle of it.
    pub(super) fn acquire(
        &mut self,
        set: &AddressSet,
        index: u32,
        key: &Key,
        may: impl Fn() -> bool,
    ) -> Result<(), Option<String>> {
        for address in &set.addresses {
            if !may() {
                return Err(None);
            }
            self.add(set, *address, index)
                .map_err(|error| explain("adding", *address, &set.interface, &error))?;
        }
        route::add_all(&mut self.netlink, set, index)?;
        let now = Instant::now();
        let link = self.netlink.link(index).ok().flatten();
        let carrier = Carrier::found(link.is_some_and(|link| link.carrier), now);
        if carrier.is_lost() {
            self.notes.push(key.note(format!(
                "{:?} has no carrier: {} not reachable before it has",
                set.interface,
                are(&set.addresses)
            )));
        }
        self.recoveries.end(key);
        self.hold(set, index, Arc::new(key.clone()), carrier, now);
        self.watch_claims();
        self.announce_due(now);
        Ok(())
    }

    fn hold(
        &mut self,
        set: &AddressSet,
        index: u32,
        key: Arc<Key>,
        carrier: Carrier,
        now: Instant,
    ) {
        for address in &set.addresses {
            let held = Held {
                key: Arc::clone(&key),
                schedule: Schedule::start(now),
                restores: Vec::new(),
                defended: None,
            };
            self.held.insert(on(*address, index), held);
        }
        let resource = Resource {
            set: Arc::new(set.clone()),
            index,
            carrier,
            fault: None,
        };
        self.resources.insert(key, resource);
    }

    /// Gives everything up that the resource may have, going on after errors.
    pub(super) fn release(&mut self, set: &AddressSet, key: &Key) -> Result<(), String> {
        let held = self.resources.remove(key).map(|resource| resource.index);
        self.held.retain(|_, held| *held.key != *key);
        self.restored.remove(key);
        let named = interface_index(&set.interface).filter(|index| Some(*index) != held);
        let mut result = Ok(());
        // The index comes first: an interface that was renamed while it held the addresses still has them.
        for index in held.into_iter().chain(named) {
            if let Err(reason) = route::remove_all(&mut self.netlink, set, index) {
                result = Err(reason);
            }
            // Backwards, since the kernel may remove the rest of a subnet with its first address.
            for address in set.addresses.iter().rev() {
                if let Err(error) = self.remove(*address, index) {
                    result = Err(explain("removing", *address, &set.interface, &error));
                }
            }
        }
        if held.is_some() {
            self.watch_claims();
        }
        result
    }

    pub(super) fn fault(&self, key: &Key) -> Option<String> {
        self.resources.get(key)?.fault.clone()
    }

    pub(super) fn is_faulty(&self) -> bool {
        let mut resources = self.resources.values();
        resources.any(|resource| resource.fault.is_some())
    }

    /// What people should know since the last call.
    pub(super) fn take_notes(&mut self) -> Vec<HandsEvent> {
        for (key, addresses) in std::mem::take(&mut self.restored) {
            let Some(resource) = self.resources.get(&key) else {
                continue;
            };
            self.notes.push(key.note(format!(
                "{} removed from {:?} by somebody else, put back",
                were(&addresses),
                resource.set.interface
            )));
        }
        std::mem::take(&mut self.notes)
    }

    /// When something is to be done next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let schedules = self.held.values().map(|held| held.schedule.due());
        let links = self
            .resources
            .values()
            .filter(|resource| resource.fault.is_none())
            .filter_map(|resource| resource.carrier.fails_at());
        schedules.chain(links).chain(self.recoveries.due()).min()
    }

    /// Looks for what has recovered: whether anything has, and what is to be asked before that is known.
    pub(super) fn look_for_recoveries(&mut self, now: Instant) -> (bool, Vec<Question>) {
        self.recoveries.look(&mut self.netlink, now)
    }

    pub(super) fn handle_notice(&mut self, notice: &Notice, may_restore: bool) {
        match notice {
            Notice::Added(address) if !self.held.contains_key(address) => self.others = None,
            Notice::Added(_) => {}
            Notice::Removed(address) if !self.held.contains_key(address) => self.others = None,
            Notice::Removed(address) if may_restore => {
                if let Some(key) = self.restore(*address) {
                    self.add_routes_again(&key);
                }
            }
            Notice::Removed(_) => {}
            Notice::Link {
                index,
                name,
                carrier,
            } => {
                if !carrier {
                    self.recoveries.on_loss(name);
                }
                self.announcer.forget(*index);
                self.macs = None;
                self.on_carrier(*index, *carrier, may_restore);
            }
            Notice::LinkGone { index } => {
                self.announcer.forget(*index);
                self.macs = None;
                self.others = None;
                self.on_interface_gone(*index);
            }
            Notice::Overrun => {
                self.others = None;
                self.macs = None;
                self.resync(may_restore);
            }
        }
    }

    fn add(&mut self, set: &AddressSet, address: AddressWithPrefix, index: u32) -> io::Result<()> {
        let target = on(address, index);
        match self.add_new(set, target) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.check_same(target),
            result => result,
        }
    }

    fn add_new(&mut self, set: &AddressSet, target: InterfaceAddress) -> io::Result<()> {
        let how = HowToAdd {
            covered: self.is_covered(set, target)?,
            source: set.source,
            label: set.label.as_deref(),
        };
        self.netlink.add(target, how)
    }

    /// The kernel says "exists" for an IPv6 address with another prefix length too; to adopt that one
    /// would leave it behind at the stop, which removes only what is configured.
    fn check_same(&mut self, target: InterfaceAddress) -> io::Result<()> {
        if self.netlink.addresses()?.contains(&target) {
            return Ok(());
        }
        Err(io::Error::other(
            "it is there with another prefix length: remove it, or configure the same length",
        ))
    }

    fn remove(&mut self, address: AddressWithPrefix, index: u32) -> io::Result<()> {
        match self.netlink.remove(on(address, index)) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EADDRNOTAVAIL | libc::ENODEV)
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Whether an address of the machine's own has the subnet already.
    fn is_covered(&mut self, set: &AddressSet, target: InterfaceAddress) -> io::Result<bool> {
        let others = match self.others.take() {
            Some(others) => others,
            None => {
                let mut all = self.netlink.addresses()?;
                all.retain(|address| !self.held.contains_key(address));
                all
            }
        };
        let covered = others.iter().any(|other| {
            other.index == target.index
                && same_network(target.address, other.address, other.prefix)
                // Left from an earlier life, it is no address of the machine's own.
                && !set.addresses.iter().any(|one| on(*one, target.index) == *other)
        });
        self.others = Some(others);
        Ok(covered)
    }

    /// Puts an address back that somebody removed; answers whose it was. Nothing to tell if it is there: the
    /// notice was an old one.
    fn restore(&mut self, address: InterfaceAddress) -> Option<Arc<Key>> {
        let now = Instant::now();
        let key = Arc::clone(&self.held.get(&address)?.key);
        let resource = self.resources.get(&key)?;
        if resource.fault.is_some() {
            return None;
        }
        let set = Arc::clone(&resource.set);
        let is_lost = resource.carrier.is_lost();
        let fault = match self.add_new(&set, address) {
            Ok(()) => {
                self.restored
                    .entry(Arc::clone(&key))
                    .or_default()
                    .push(address.address);
                self.held
                    .get_mut(&address)?
                    .on_restored(address.address, &set, now)
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EEXIST) => return None,
                Some(libc::ENODEV) => {
                    self.recoveries.begin(&key, &set, now);
                    Some(interface_gone(&set))
                }
                // It is tried again when the interface is back.
                _ if is_lost => return None,
                _ => {
                    let prefix = address.prefix;
                    let address = address.address;
                    let address = AddressWithPrefix { address, prefix };
                    Some(explain("putting back", address, &set.interface, &error))
                }
            },
        };
        let resource = self.resources.get_mut(&key)?;
        resource.fault = resource.fault.take().or(fault);
        Some(key)
    }

    /// With an address the kernel removes the routes that name it, and with an interface all of them.
    fn add_routes_again(&mut self, key: &Arc<Key>) {
        let Some(resource) = self.resources.get(key) else {
            return;
        };
        let set = Arc::clone(&resource.set);
        if set.routes.is_empty() || resource.fault.is_some() || resource.carrier.is_lost() {
            return;
        }
        if let Err(reason) = route::add_all(&mut self.netlink, &set, resource.index) {
            self.notes.push(key.note(reason));
        }
    }

    fn on_carrier(&mut self, index: u32, carrier: bool, may_restore: bool) {
        let now = Instant::now();
        let mut regained = Vec::new();
        for (key, resource) in &mut self.resources {
            if resource.index != index {
                continue;
            }
            let Some(change) = resource.carrier.update(carrier, now) else {
                continue;
            };
            let text = match change {
                Change::Lost => resource.describe_loss(),
                Change::Regained => {
                    regained.push(Arc::clone(key));
                    let addresses = &resource.set.addresses;
                    let interface = &resource.set.interface;
                    format!(
                        "{interface:?} has a carrier again, announcing {}",
                        list(addresses)
                    )
                }
            };
            self.notes.push(key.note(text));
        }
        if regained.is_empty() {
            return;
        }
        for held in self.held.values_mut() {
            if regained.contains(&held.key) {
                held.schedule = Schedule::start(now);
            }
        }
        // IPv6 addresses and routes are lost when an interface goes down.
        self.resync(may_restore);
        if may_restore {
            regained.iter().for_each(|key| self.add_routes_again(key));
        }
    }

    /// A carrier that is missing for too long is a fault.
    pub(super) fn judge_links(&mut self, now: Instant) {
        for (key, resource) in &mut self.resources {
            let due = resource.carrier.fails_at().is_some_and(|at| at <= now);
            if due && resource.fault.is_none() {
                self.recoveries.begin(key, &resource.set, now);
                resource.fault = Some(format!(
                    "{:?} is down or without carrier for {} ms: {} not reachable here",
                    resource.set.interface,
                    DEBOUNCE.as_millis(),
                    are(&resource.set.addresses)
                ));
            }
        }
    }

    fn on_interface_gone(&mut self, index: u32) {
        let now = Instant::now();
        for (key, resource) in &mut self.resources {
            if resource.index == index {
                self.recoveries.begin(key, &resource.set, now);
                resource.fault = Some(interface_gone(&resource.set));
            }
        }
    }

    /// Compares what is held with what is there.
    fn resync(&mut self, may_restore: bool) {
        let Ok(present) = self.netlink.addresses() else {
            return;
        };
        if !may_restore {
            return;
        }
        let present: BTreeSet<_> = present.into_iter().collect();
        let missing = self
            .held
            .keys()
            .filter(|address| !present.contains(address));
        for address in missing.copied().collect::<Vec<_>>() {
            self.restore(address);
        }
    }

    /// Somebody claims addresses. Told and answered seldom: two that defend alike must not fill the network.
    pub(super) fn handle_claims(&mut self, claims: &[Claim], may_announce: bool) {
        let now = Instant::now();
        let mut foreign: BTreeMap<(Arc<Key>, Mac), Vec<IpAddr>> = BTreeMap::new();
        for claim in claims {
            if self.is_own(claim.mac) {
                continue;
            }
            let with = |prefix| InterfaceAddress {
                index: claim.index,
                address: claim.address,
                prefix,
            };
            let Some((_, held)) = self.held.range_mut(with(0)..=with(u8::MAX)).next() else {
                continue;
            };
            let lately = |at: Instant| now.duration_since(at) < DEFEND_INTERVAL;
            if held.defended.is_some_and(lately) {
                continue;
            }
            held.defended = Some(now);
            if may_announce {
                held.schedule = Schedule::start(now);
            }
            let of_one = foreign.entry((Arc::clone(&held.key), claim.mac));
            of_one.or_default().push(claim.address);
        }
        for ((key, mac), addresses) in foreign {
            if let Some(resource) = self.resources.get(&key) {
                self.notes.push(key.note(format!(
                    "conflict: {} is also claimed by {} on {:?}: take it away there; announcing it again",
                    list_addresses(&addresses),
                    show_mac(mac),
                    resource.set.interface
                )));
            }
        }
    }

    fn is_own(&mut self, mac: Mac) -> bool {
        if self.macs.is_none() {
            self.macs = own_macs().ok();
        }
        self.macs.as_ref().is_some_and(|own| own.contains(&mac))
    }

    fn watch_claims(&mut self) {
        let addresses = self.held.keys().map(|held| held.address);
        if let Err(error) = self.sentry.watch(addresses) {
            tracing::debug!(%error, "claims of neighbours are not noticed");
        }
    }

    /// What a group holds is announced as after a start.
    pub(super) fn announce_anew(&mut self, group: &GroupName, now: Instant) {
        for held in self.held.values_mut() {
            if held.key.group == *group {
                held.schedule = Schedule::start(now);
            }
        }
    }

    /// Announces what is due. A first announcement is followed by the question who else has the address, once
    /// all others are told: nobody waits for the answer.
    pub(super) fn announce_due(&mut self, now: Instant) {
        let mut questions = Vec::new();
        // An interface that does not take one frame is left alone: what is not sent will be repeated.
        let mut silent = BTreeSet::new();
        for (address, held) in &mut self.held {
            if held.schedule.due() > now {
                continue;
            }
            let is_first = held.schedule.is_first();
            held.schedule.advance(now);
            if silent.contains(&address.index) {
                continue;
            }
            match self
                .announcer
                .announce(address.index, address.address, is_first)
            {
                Ok(()) if is_first => questions.push(*address),
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, ?address, "announcement not sent, will be repeated");
                    silent.insert(address.index);
                }
            }
        }
        for address in questions {
            if !silent.contains(&address.index)
                && self
                    .announcer
                    .probe(address.index, address.address)
                    .is_err()
            {
                silent.insert(address.index);
            }
        }
    }

    /// Without a lease nothing is announced, but the schedule goes on.
    pub(super) fn skip_due(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            if held.schedule.due() <= now {
                held.schedule.advance(now);
            }
        }
    }
}

impl Resource {
    fn describe_loss(&self) -> String {
        let addresses = are(&self.set.addresses);
        let interface = &self.set.interface;
        let end = match self.carrier.fails_at() {
            Some(_) => format!(
                "; it fails unless that is over within {} ms",
                DEBOUNCE.as_millis()
            ),
            None => "; it came and went before, so waiting for it".to_owned(),
        };
        format!("{interface:?} is down or without carrier: {addresses} not reachable{end}")
    }
}

impl Held {
    /// It was put back; why that was once too often, if so.
    fn on_restored(&mut self, address: IpAddr, set: &AddressSet, now: Instant) -> Option<String> {
        self.schedule = Schedule::start(now);
        self.restores
            .retain(|past| now.duration_since(*past) < RESTORE_WINDOW);
        self.restores.push(now);
        (self.restores.len() > RESTORES_MAX).then(|| {
            format!(
                "{address} was removed from {:?} more than {RESTORES_MAX} times in {} s: find out by whom",
                set.interface,
                RESTORE_WINDOW.as_secs()
            )
        })
    }
}

fn on(address: AddressWithPrefix, index: u32) -> InterfaceAddress {
    InterfaceAddress {
        index,
        address: address.address,
        prefix: address.prefix,
    }
}

fn list(addresses: &[AddressWithPrefix]) -> String {
    let addresses: Vec<IpAddr> = addresses.iter().map(|one| one.address).collect();
    list_addresses(&addresses)
}

/// A few addresses by name, and how many more there are.
fn list_addresses(addresses: &[IpAddr]) -> String {
    let named: Vec<String> = addresses
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    match addresses.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn are(addresses: &[AddressWithPrefix]) -> String {
    let verb = if addresses.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", list(addresses))
}

fn were(addresses: &[IpAddr]) -> String {
    let verb = if addresses.len() == 1 { "was" } else { "were" };
    format!("{} {verb}", list_addresses(addresses))
}

fn interface_gone(set: &AddressSet) -> String {
    format!(
        "the interface {:?} has gone, and {} with it",
        set.interface,
        list(&set.addresses)
    )
}

fn explain(doing: &str, address: AddressWithPrefix, interface: &str, error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM) => ": the daemon needs CAP_NET_ADMIN",
        Some(libc::EACCES) => ": is IPv6 disabled on that interface?",
        _ => "",
    };
    format!("{doing} {address} on {interface:?}: {error}{remedy}")
}
