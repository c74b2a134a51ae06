//! Virtual addresses: taken, announced, watched, put back, given up.
//!
//! An address is *held* from a successful [`Addresses::acquire`] to the next [`Addresses::release`]; only
//! what is held is announced or put back, and only while the guard holds. All of it is synchronous except
//! [`Addresses::keep`], the one task that listens and keeps the schedule. The order of a group is `runner`'s.

use crate::ids::GroupName;
use crate::resource::HandsEvent;
use crate::resource::announce::{Announcer, Schedule};
use crate::resource::guard::Guard;
use crate::resource::netlink::{InterfaceAddress, Netlink, Notice, Watch, interface_index};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// So many times within [`RESTORE_WINDOW`] an address is put back; then somebody else insists, and it failed.
const RESTORES_MAX: usize = 10;
const RESTORE_WINDOW: Duration = Duration::from_secs(10);
/// Pause before the kernel's notices are subscribed to again, should that ever be needed.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// An address as configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// Name of the interface that carries it.
    pub interface: String,
}

/// All addresses that this node may hold.
#[derive(Debug)]
pub struct Addresses {
    state: Mutex<State>,
    wake: Notify,
    guard: Guard,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    netlink: Netlink,
    announcer: Announcer,
    held: BTreeMap<VirtualAddress, Held>,
    /// Addresses of the machine that are not held; read when needed, forgotten when one of them changes.
    others: Option<Vec<InterfaceAddress>>,
}

#[derive(Debug)]
struct Held {
    group: GroupName,
    resource: String,
    index: u32,
    carrier: Option<bool>,
    schedule: Schedule,
    restores: Vec<Instant>,
    fault: Option<String>,
}

impl Addresses {
    /// Opens the connection to the kernel. `changes` is told whenever [`Self::fault`] may answer anew.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(guard: Guard, changes: watch::Sender<()>) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State {
                netlink: Netlink::open()?,
                announcer: Announcer::default(),
                held: BTreeMap::new(),
                others: None,
            }),
            wake: Notify::new(),
            guard,
            changes,
        })
    }

    /// Takes an address for a resource of a group, and announces it; one that is there is adopted.
    ///
    /// # Errors
    /// Words for people: what was tried, and why it did not work.
    pub fn acquire(
        &self,
        wanted: &VirtualAddress,
        group: &GroupName,
        resource: &str,
    ) -> Result<(), String> {
        if !self.guard.holds() {
            return Err("this node may not run groups now: its lease has run out".to_owned());
        }
        let interface = &wanted.interface;
        let index = interface_index(interface).ok_or_else(|| {
            format!("there is no interface {interface:?} on this machine: check its name and cable")
        })?;
        let mut state = self.state();
        state
            .add(wanted, index)
            .map_err(|error| explain("adding", wanted, &error))?;
        let held = Held {
            group: group.clone(),
            resource: resource.to_owned(),
            index,
            carrier: None,
            schedule: Schedule::start(Instant::now()),
            restores: Vec::new(),
            fault: None,
        };
        state.held.insert(wanted.clone(), held);
        state.announce_due(Instant::now());
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Gives an address up, whether it was held or is left from an earlier life. Nothing there, or no
    /// such interface, is success.
    ///
    /// # Errors
    /// Words for people; the address may still be there.
    pub fn release(&self, unwanted: &VirtualAddress) -> Result<(), String> {
        let mut state = self.state();
        let held = state.held.remove(unwanted).map(|held| held.index);
        let named = interface_index(&unwanted.interface).filter(|index| Some(*index) != held);
        // The index comes first: an interface that was renamed while it held the address still has it.
        let mut result = Ok(());
        for index in held.into_iter().chain(named) {
            if let Err(error) = state.remove(unwanted, index) {
                result = Err(explain("removing", unwanted, &error));
            }
        }
        result
    }

    /// Announces what a group holds at once, and repeats it as after a start.
    pub fn announce(&self, group: &GroupName) {
        if !self.guard.holds() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        for held in state.held.values_mut().filter(|held| held.group == *group) {
            held.schedule = Schedule::start(now);
        }
        state.announce_due(now);
        drop(state);
        self.wake.notify_one();
    }

    /// Why an address that is held does not work any more, if so.
    pub fn fault(&self, address: &VirtualAddress) -> Option<String> {
        self.state().held.get(address)?.fault.clone()
    }

    /// Listens to the kernel and keeps the schedule of announcements; never returns.
    pub async fn keep(self: Arc<Self>, mut watch: Watch, events: mpsc::Sender<HandsEvent>) {
        loop {
            let due = self.next_due();
            let notices = tokio::select! {
                notices = watch.next() => notices,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(Vec::new()),
                () = self.wake.notified() => Ok(Vec::new()),
            };
            match notices {
                Ok(notices) => self.tell(&events, notices).await,
                Err(error) => {
                    tracing::warn!(%error, "notices of the kernel on addresses ended, subscribing again");
                    sleep(WATCH_AGAIN).await;
                    if let Ok(again) = Watch::open() {
                        watch = again;
                        self.tell(&events, vec![Notice::Overrun]).await;
                    }
                }
            }
            if self.guard.holds() {
                self.state().announce_due(Instant::now());
            } else {
                self.state().skip_due(Instant::now());
            }
        }
    }

    async fn tell(&self, events: &mpsc::Sender<HandsEvent>, notices: Vec<Notice>) {
        let mut notes = Vec::new();
        for notice in notices {
            notes.extend(self.handle_notice(&notice));
        }
        for note in notes {
            if events.send(note).await.is_err() {
                return;
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let state = self.state();
        state.held.values().map(|held| held.schedule.due()).min()
    }

    fn handle_notice(&self, notice: &Notice) -> Vec<HandsEvent> {
        let mut state = self.state();
        let may_restore = self.guard.holds();
        let notes = match notice {
            Notice::Added(address) => {
                if state.find(*address).is_none() {
                    state.others = None;
                }
                Vec::new()
            }
            Notice::Removed(address) => match state.find(*address) {
                Some(key) if may_restore => state.restore(&key).into_iter().collect(),
                Some(_) => Vec::new(),
                None => {
                    state.others = None;
                    Vec::new()
                }
            },
            Notice::Link { index, carrier, .. } => {
                state.announcer.forget(*index);
                state.on_carrier(*index, *carrier, may_restore)
            }
            Notice::LinkGone { index } => {
                state.announcer.forget(*index);
                state.others = None;
                state.on_interface_gone(*index);
                Vec::new()
            }
            Notice::Overrun => {
                state.others = None;
                state.resync(may_restore)
            }
        };
        let faulty = state.held.values().any(|held| held.fault.is_some());
        drop(state);
        if faulty {
            self.changes.send_replace(());
        }
        notes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, wanted: &VirtualAddress, index: u32) -> io::Result<()> {
        let target = wanted.on(index);
        let covered = self.is_covered(target)?;
        match self.netlink.add(target, covered) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.check_same(target),
            result => result,
        }
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

    fn remove(&mut self, unwanted: &VirtualAddress, index: u32) -> io::Result<()> {
        match self.netlink.remove(unwanted.on(index)) {
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
    fn is_covered(&mut self, target: InterfaceAddress) -> io::Result<bool> {
        let others = match self.others.take() {
            Some(others) => others,
            None => {
                let mut all = self.netlink.addresses()?;
                all.retain(|address| *address != target && self.find(*address).is_none());
                all
            }
        };
        let covered = others.iter().any(|other| {
            other.index == target.index && in_subnet(target.address, other.address, other.prefix)
        });
        self.others = Some(others);
        Ok(covered)
    }

    fn find(&self, address: InterfaceAddress) -> Option<VirtualAddress> {
        self.held
            .iter()
            .find(|(key, held)| key.on(held.index) == address)
            .map(|(key, _)| key.clone())
    }

    /// Puts an address back that somebody removed. No note if it is there: the notice was an old one.
    fn restore(&mut self, key: &VirtualAddress) -> Option<HandsEvent> {
        let now = Instant::now();
        let held = self.held.get(key).filter(|held| held.fault.is_none())?;
        let target = key.on(held.index);
        let covered = self.is_covered(target).unwrap_or(true);
        let result = self.netlink.add(target, covered);
        let held = self.held.get_mut(key)?;
        match result {
            Ok(()) => {
                held.restores
                    .retain(|past| now.duration_since(*past) < RESTORE_WINDOW);
                held.restores.push(now);
                if held.restores.len() > RESTORES_MAX {
                    held.fault = Some(format!(
                        "{} was removed from {:?} more than {RESTORES_MAX} times in {} s: find out by whom",
                        key.address,
                        key.interface,
                        RESTORE_WINDOW.as_secs()
                    ));
                }
                held.schedule = Schedule::start(now);
                let note = held.note(format!(
                    "{} was removed from {:?} by somebody else, put back",
                    key.address, key.interface
                ));
                self.announce_due(now);
                Some(note)
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => None,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                held.fault = Some(interface_gone(key));
                None
            }
            Err(error) => {
                held.fault = Some(explain("putting back", key, &error));
                None
            }
        }
    }

    fn on_carrier(&mut self, index: u32, carrier: bool, may_restore: bool) -> Vec<HandsEvent> {
        let mut notes = Vec::new();
        let mut regained = false;
        for (key, held) in self.held.iter_mut().filter(|(_, held)| held.index == index) {
            let before = held.carrier.replace(carrier);
            if before == Some(carrier) || (before.is_none() && carrier) {
                continue;
            }
            let text = if carrier {
                held.schedule = Schedule::start(Instant::now());
                regained = true;
                format!(
                    "{:?} has a carrier again, announcing {}",
                    key.interface, key.address
                )
            } else {
                format!(
                    "{:?} is down or without carrier: {} is not reachable",
                    key.interface, key.address
                )
            };
            notes.push(held.note(text));
        }
        if regained {
            // IPv6 addresses are lost when an interface goes down.
            notes.extend(self.resync(may_restore));
        }
        notes
    }

    fn on_interface_gone(&mut self, index: u32) {
        for (key, held) in self.held.iter_mut().filter(|(_, held)| held.index == index) {
            held.fault = Some(interface_gone(key));
        }
    }

    /// Compares what is held with what is there.
    fn resync(&mut self, may_restore: bool) -> Vec<HandsEvent> {
        let Ok(present) = self.netlink.addresses() else {
            return Vec::new();
        };
        let missing: Vec<VirtualAddress> = self
            .held
            .iter()
            .filter(|(key, held)| held.fault.is_none() && !present.contains(&key.on(held.index)))
            .map(|(key, _)| key.clone())
            .collect();
        if !may_restore {
            return Vec::new();
        }
        missing.iter().filter_map(|key| self.restore(key)).collect()
    }

    fn announce_due(&mut self, now: Instant) {
        for (key, held) in &mut self.held {
            if held.schedule.due() > now {
                continue;
            }
            let both_forms = held.schedule.is_first();
            held.schedule.advance(now);
            if let Err(error) = self.announcer.announce(held.index, key.address, both_forms) {
                tracing::debug!(%error, address = %key.address, "announcement not sent, will be repeated");
            }
        }
    }

    /// Without a lease nothing is announced, but the schedule goes on.
    fn skip_due(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            if held.schedule.due() <= now {
                held.schedule.advance(now);
            }
        }
    }
}

impl Held {
    fn note(&self, text: String) -> HandsEvent {
        HandsEvent::Note {
            group: self.group.clone(),
            resource: self.resource.clone(),
            text,
        }
    }
}

impl VirtualAddress {
    fn on(&self, index: u32) -> InterfaceAddress {
        InterfaceAddress {
            index,
            address: self.address,
            prefix: self.prefix,
        }
    }
}

fn interface_gone(key: &VirtualAddress) -> String {
    format!(
        "the interface {:?} has gone, and {} with it",
        key.interface, key.address
    )
}

fn explain(doing: &str, address: &VirtualAddress, error: &io::Error) -> String {
    let VirtualAddress {
        address,
        prefix,
        interface,
    } = address;
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM) => ": the daemon needs CAP_NET_ADMIN",
        Some(libc::EACCES) => ": is IPv6 disabled on that interface?",
        _ => "",
    };
    format!("{doing} {address}/{prefix} on {interface:?}: {error}{remedy}")
}

/// Whether `address` is in the subnet of `other` with that prefix length.
fn in_subnet(address: IpAddr, other: IpAddr, prefix: u8) -> bool {
    match (address, other) {
        (IpAddr::V4(address), IpAddr::V4(other)) => {
            let shift = 32_u32.saturating_sub(u32::from(prefix));
            let subnet = |ip: std::net::Ipv4Addr| ip.to_bits().checked_shr(shift);
            subnet(address) == subnet(other)
        }
        (IpAddr::V6(address), IpAddr::V6(other)) => {
            let shift = 128_u32.saturating_sub(u32::from(prefix));
            let subnet = |ip: std::net::Ipv6Addr| ip.to_bits().checked_shr(shift);
            subnet(address) == subnet(other)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_told_apart() {
        let inside = |address: &str, other: &str, prefix| {
            in_subnet(address.parse().unwrap(), other.parse().unwrap(), prefix)
        };
        assert!(inside("10.0.0.99", "10.0.0.1", 24));
        assert!(!inside("10.0.1.99", "10.0.0.1", 24));
        assert!(inside("10.9.9.9", "192.0.2.1", 0));
        assert!(!inside("10.0.0.99", "10.0.0.1", 32));
        assert!(inside("fd00::99", "fd00::1", 64));
        assert!(!inside("fd01::99", "fd00::1", 64));
        assert!(inside("fd01::99", "::1", 0));
        assert!(!inside("fd00::99", "10.0.0.1", 0));
    }

    #[test]
    fn nothing_is_taken_without_a_lease() {
        let (changes, _) = watch::channel(());
        let addresses = Addresses::open(Guard::default(), changes).unwrap();
        let address = VirtualAddress {
            address: "192.0.2.77".parse().unwrap(),
            prefix: 32,
            interface: "lo".to_owned(),
        };
        let group = GroupName::new("web").unwrap();
        let refusal = addresses.acquire(&address, &group, "vip").unwrap_err();
        assert!(refusal.contains("lease"), "{refusal}");
        assert_eq!(addresses.next_due(), None);
    }

    #[test]
    fn giving_up_on_an_interface_that_is_not_there_is_success() {
        let (changes, _) = watch::channel(());
        let addresses = Addresses::open(Guard::default(), changes).unwrap();
        let address = VirtualAddress {
            address: "192.0.2.77".parse().unwrap(),
            prefix: 32,
            interface: "nosuchinterface0".to_owned(),
        };
        assert_eq!(addresses.release(&address), Ok(()));
    }
}
