//! Which machines own an address, and on which a unit runs, at every instant.
//!
//! Addresses are followed by the kernel's own messages in each machine's namespace, so that no change is
//! missed however short; units by a look at their cgroup every millisecond. A machine without power owns
//! nothing, whatever was last heard of it.

use super::{Watcher, wait_readable};
use crate::machine::Machine;
use crate::span::{self, Span};
use crate::{clock, network};
use anyhow::{Context, Result};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;
const UNIT_INTERVAL: Duration = Duration::from_millis(1);
/// How soon a machine that was booted again is watched again.
const RETRY: Duration = Duration::from_millis(10);
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// Overlaps and gaps shorter than this are below what sampling every millisecond can tell.
pub const RESOLUTION: Duration = Duration::from_millis(1);

/// When something began (true) and ceased to be so, in order.
type Changes = Vec<(Duration, bool)>;

/// Who had something when: an address, or a running unit.
#[derive(Debug, Clone)]
pub struct Ownership {
    /// From the first look to the last.
    pub observed: Span,
    /// For each machine, when it had it.
    pub owners: BTreeMap<String, Vec<Span>>,
}

impl Ownership {
    /// Spans in which more than one machine had it, with their names; shorter ones than [`RESOLUTION`] left out.
    pub fn doubles(&self) -> Vec<(Span, [String; 2])> {
        let mut result = Vec::new();
        for (index, (first, spans)) in self.owners.iter().enumerate() {
            for (second, others) in self.owners.iter().skip(index + 1) {
                for span in span::intersect(spans, others) {
                    if span.length() >= RESOLUTION {
                        result.push((span, [first.clone(), second.clone()]));
                    }
                }
            }
        }
        result
    }

    /// Longest overlap, also below the resolution.
    pub fn longest_double(&self) -> Duration {
        let spans: Vec<&Vec<Span>> = self.owners.values().collect();
        spans
            .iter()
            .enumerate()
            .flat_map(|(index, first)| {
                spans
                    .iter()
                    .skip(index + 1)
                    .map(|second| span::longest(&span::intersect(first, second)))
            })
            .max()
            .unwrap_or_default()
    }

    /// Spans in which no machine had it; shorter ones than [`RESOLUTION`] left out.
    pub fn absences(&self) -> Vec<Span> {
        let all: Vec<Span> = self.owners.values().flatten().copied().collect();
        let mut gaps = span::gaps(self.observed, &all);
        gaps.retain(|gap| gap.length() >= RESOLUTION);
        gaps
    }

    /// Who had it last, if anyone did at the end.
    pub fn last_owner(&self) -> Option<&str> {
        self.owners
            .iter()
            .find(|(_, spans)| spans.last().is_some_and(|s| s.to >= self.observed.to))
            .map(|(name, _)| name.as_str())
    }

    fn new(machines: &[Machine], changes: Vec<Changes>, observed: Span) -> Self {
        let owners = machines
            .iter()
            .zip(changes)
            .map(|(machine, changes)| {
                let powered = spans(&machine.power_changes(), observed.to);
                let had = spans(&changes, observed.to);
                (machine.name().to_owned(), span::intersect(&had, &powered))
            })
            .collect();
        Self { observed, owners }
    }
}

/// Watches an address and a unit on some machines.
#[derive(Debug)]
pub struct Sampler {
    from: Duration,
    machines: Vec<Machine>,
    addresses: Vec<Watcher<Changes>>,
    units: Option<Watcher<Vec<Changes>>>,
}

impl Sampler {
    /// Starts watching.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(machines: &[Machine], address: IpAddr, unit: Option<&str>) -> Result<Self> {
        let addresses = machines
            .iter()
            .map(|machine| {
                let machine = machine.clone();
                Watcher::start("owner", None, move |stop| follow(&machine, address, stop))
            })
            .collect::<Result<_>>()?;
        let units = match unit {
            Some(unit) => {
                let (machines, unit) = (machines.to_vec(), unit.to_owned());
                let body = move |stop: &AtomicBool| Ok(look_at_units(&machines, &unit, stop));
                Some(Watcher::start("units", None, body)?)
            }
            None => None,
        };
        // The threads need a moment for their first look.
        clock::sleep(FIRST_LOOK);
        Ok(Self {
            from: clock::now(),
            machines: machines.to_vec(),
            addresses,
            units,
        })
    }

    /// Ends it: who had the address, and on which machine the unit ran.
    ///
    /// # Errors
    /// A machine could not be watched.
    pub fn finish(self) -> Result<(Ownership, Option<Ownership>)> {
        let observed = Span::new(self.from, clock::now());
        let addresses = self
            .addresses
            .into_iter()
            .map(Watcher::finish)
            .collect::<Result<_>>()?;
        let address = Ownership::new(&self.machines, addresses, observed);
        let units = self.units.map(Watcher::finish).transpose()?;
        let unit = units.map(|changes| Ownership::new(&self.machines, changes, observed));
        Ok((address, unit))
    }
}

fn spans(changes: &[(Duration, bool)], end: Duration) -> Vec<Span> {
    let mut result = Vec::new();
    let mut since = None;
    for (at, on) in changes {
        match (on, since) {
            (true, None) => since = Some(*at),
            (false, Some(from)) => {
                result.push(Span::new(from, *at));
                since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    if let Some(from) = since {
        result.push(Span::new(from, end));
    }
    result
}

/// Follows one machine through all its boots.
fn follow(machine: &Machine, address: IpAddr, stop: &AtomicBool) -> Result<Changes> {
    let mut changes = Changes::new();
    while !stop.load(Ordering::Relaxed) {
        let epoch = machine.epoch();
        let current = || !stop.load(Ordering::Relaxed) && machine.epoch() == epoch;
        // Without power there is no namespace to enter, until the next boot.
        if network::enter(&machine.namespace()).is_ok() {
            listen(address, current, &mut changes)?;
            changes.push((clock::now(), false));
            if stop.load(Ordering::Relaxed) {
                changes.pop();
            }
        } else {
            clock::sleep(RETRY);
        }
    }
    Ok(changes)
}

fn listen(address: IpAddr, current: impl Fn() -> bool, changes: &mut Changes) -> Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    socket.bind(&SocketAddr::new(0, ADDRESS_GROUPS))?;
    socket.set_non_blocking(true)?;
    ask_for_all(&socket)?;
    let mut interfaces = BTreeSet::new();
    let mut buffer = vec![0_u8; 65_536];
    while current() {
        match socket.recv(&mut &mut buffer[..], 0) {
            Ok(length) => {
                let now = clock::now();
                let before = interfaces.is_empty();
                take_in(&buffer[..length], address, &mut interfaces);
                if before != interfaces.is_empty() {
                    changes.push((now, before));
                }
            }
            Err(_) => wait_readable(&socket, clock::now() + RETRY),
        }
    }
    Ok(())
}

fn ask_for_all(socket: &Socket) -> Result<()> {
    let mut message =
        NetlinkMessage::from(RouteNetlinkMessage::GetAddress(AddressMessage::default()));
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.finalize();
    let mut bytes = vec![0_u8; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(())
}

/// Reads all messages of one datagram, and notes on which interfaces the address is.
fn take_in(mut bytes: &[u8], address: IpAddr, interfaces: &mut BTreeSet<u32>) {
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        if let NetlinkPayload::InnerMessage(inner) = message.payload {
            match inner {
                RouteNetlinkMessage::NewAddress(new) if is_about(&new, address) => {
                    interfaces.insert(new.header.index);
                }
                RouteNetlinkMessage::DelAddress(old) if is_about(&old, address) => {
                    interfaces.remove(&old.header.index);
                }
                _ => {}
            }
        }
        match bytes.get(length.next_multiple_of(4).max(16)..) {
            Some(rest) if !rest.is_empty() => bytes = rest,
            _ => return,
        }
    }
}

fn is_about(message: &AddressMessage, address: IpAddr) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Local(is) | AddressAttribute::Address(is) => *is == address,
        _ => false,
    })
}

fn look_at_units(machines: &[Machine], unit: &str, stop: &AtomicBool) -> Vec<Changes> {
    let mut all: Vec<Changes> = vec![Changes::new(); machines.len()];
    let mut next = clock::now();
    while !stop.load(Ordering::Relaxed) {
        for (machine, changes) in machines.iter().zip(&mut all) {
            let runs = machine.unit_runs(unit);
            let before = changes.last().is_some_and(|(_, runs)| *runs);
            if runs != before {
                changes.push((clock::now(), runs));
            }
        }
        next = (next + UNIT_INTERVAL).max(clock::now());
        clock::sleep_until(next);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn doubles_and_absences_are_found() {
        let owners = BTreeMap::from([
            (
                "alpha".to_owned(),
                spans(&[(at(0), true), (at(50), false)], at(100)),
            ),
            (
                "beta".to_owned(),
                spans(&[(at(40), true), (at(80), false)], at(100)),
            ),
        ]);
        let seen = Ownership {
            observed: Span::new(at(0), at(100)),
            owners,
        };
        let doubles = seen.doubles();
        assert_eq!(doubles.len(), 1);
        assert_eq!(doubles[0].0, Span::new(at(40), at(50)));
        assert_eq!(seen.longest_double(), at(10));
        assert_eq!(seen.absences(), [Span::new(at(80), at(100))]);
        assert_eq!(seen.last_owner(), None);
    }

    #[test]
    fn what_has_not_ended_lasts_to_the_end() {
        assert_eq!(
            spans(&[(at(10), true)], at(30)),
            [Span::new(at(10), at(30))]
        );
        assert_eq!(spans(&[(at(10), false)], at(30)), []);
    }
}
