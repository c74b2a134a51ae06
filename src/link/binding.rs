//! From what a link is configured as and what the machine has now: how to bind it, or what it waits for.
//!
//! A function of its two arguments only. The texts are for people: each names the thing that is missing.

use super::interfaces::{Address, Interface, Snapshot};
use crate::config::model::{Link, Transport};
use crate::ids::NodeName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// All that a socket is made from; two that are equal need no new socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    /// Name for SO_BINDTODEVICE.
    pub(super) device: Option<String>,
    /// The interface's index, so that a re-created one gets a new socket.
    pub(super) index: u32,
    /// Where to listen.
    pub(super) listen: SocketAddr,
    /// Where each datagram goes.
    pub(super) destinations: Vec<SocketAddr>,
    /// What the socket needs beyond an ordinary one.
    pub(super) kind: Kind,
}

/// Kind of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing special.
    Unicast,
    /// Permission to send to all.
    Broadcast,
    /// Membership in the group that it listens to.
    Multicast {
        /// Time to live or hop limit.
        ttl: u8,
    },
}

/// What the machine as it is means for one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outlook {
    /// How to bind it, or what it waits for.
    pub(super) binding: Result<Binding, String>,
    /// It can be bound but hardly reaches anybody: why.
    pub(super) impediment: Option<String>,
}

/// Judges one link.
pub(super) fn outlook(link: &Link, snapshot: &Snapshot) -> Outlook {
    match bind_to(link, snapshot) {
        Ok((interface, binding)) => Outlook {
            impediment: (!interface.carrier)
                .then(|| format!("interface \"{}\" has no carrier", interface.name)),
            binding: Ok(binding),
        },
        Err(reason) => Outlook {
            binding: Err(reason),
            impediment: None,
        },
    }
}

fn bind_to<'a>(link: &Link, snapshot: &'a Snapshot) -> Result<(&'a Interface, Binding), String> {
    match &link.transport {
        Transport::Unicast {
            interface,
            local,
            peers,
        } => unicast(link.port, interface.as_deref(), *local, peers, snapshot),
        Transport::Broadcast { interface } => broadcast(link.port, interface, snapshot),
        Transport::Multicast {
            interface,
            group,
            ttl,
        } => multicast(link.port, interface, *group, *ttl, snapshot),
    }
}

fn unicast<'a>(
    port: u16,
    device: Option<&str>,
    local: IpAddr,
    peers: &[(NodeName, IpAddr)],
    snapshot: &'a Snapshot,
) -> Result<(&'a Interface, Binding), String> {
    let interface = match device {
        Some(name) => enabled(name, snapshot)?,
        None => snapshot
            .by_address(local)
            .ok_or_else(|| format!("no interface has the address {local} yet"))?,
    };
    let own = interface
        .address(local)
        .ok_or_else(|| address_missing(local, interface, snapshot))?;
    check_not_tentative(own)?;
    if !interface.enabled {
        return Err(format!("interface \"{}\" is down", interface.name));
    }
    if let Some((peer, address)) = peers.iter().find(|(_, a)| a.is_ipv4() != local.is_ipv4()) {
        return Err(format!(
            "the own address {local} and {address} of \"{peer}\" are not of the same IP version"
        ));
    }
    let binding = Binding {
        device: device.map(str::to_owned),
        index: interface.index,
        listen: scoped(local, port, interface.index),
        destinations: peers
            .iter()
            .map(|(_, address)| scoped(*address, port, interface.index))
            .collect(),
        kind: Kind::Unicast,
    };
    Ok((interface, binding))
}

fn broadcast<'a>(
    port: u16,
    device: &str,
    snapshot: &'a Snapshot,
) -> Result<(&'a Interface, Binding), String> {
    let interface = enabled(device, snapshot)?;
    // A virtual address of ours must not decide where heartbeats go: primary addresses first.
    let target = interface
        .addresses
        .iter()
        .filter(|a| !a.secondary)
        .chain(interface.addresses.iter().filter(|a| a.secondary))
        .find_map(Address::broadcast_address)
        .ok_or_else(|| {
            format!("interface \"{device}\" has no IPv4 address with a broadcast address yet")
        })?;
    let binding = Binding {
        device: Some(device.to_owned()),
        index: interface.index,
        listen: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into(),
        destinations: vec![SocketAddrV4::new(target, port).into()],
        kind: Kind::Broadcast,
    };
    Ok((interface, binding))
}

fn multicast<'a>(
    port: u16,
    device: &str,
    group: IpAddr,
    ttl: u8,
    snapshot: &'a Snapshot,
) -> Result<(&'a Interface, Binding), String> {
    let interface = enabled(device, snapshot)?;
    let mut sources = interface
        .addresses
        .iter()
        .filter(|a| a.ip.is_ipv4() == group.is_ipv4());
    let first = sources.next().ok_or_else(|| {
        let version = if group.is_ipv4() { "IPv4" } else { "IPv6" };
        format!("interface \"{device}\" has no {version} address to send from yet")
    })?;
    if sources.all(|a| a.tentative) {
        check_not_tentative(first)?;
    }
    let target = scoped_always(group, port, interface.index);
    let binding = Binding {
        device: Some(device.to_owned()),
        index: interface.index,
        listen: target,
        destinations: vec![target],
        kind: Kind::Multicast { ttl },
    };
    Ok((interface, binding))
}

fn enabled<'a>(name: &str, snapshot: &'a Snapshot) -> Result<&'a Interface, String> {
    let interface = snapshot
        .by_name(name)
        .ok_or_else(|| format!("there is no interface \"{name}\" yet"))?;
    if !interface.enabled {
        return Err(format!("interface \"{name}\" is down"));
    }
    Ok(interface)
}

fn address_missing(local: IpAddr, interface: &Interface, snapshot: &Snapshot) -> String {
    match snapshot.by_address(local) {
        Some(other) => format!(
            "the address {local} is on interface \"{}\", not on \"{}\"",
            other.name, interface.name
        ),
        None => format!(
            "interface \"{}\" has no address {local} yet",
            interface.name
        ),
    }
}

fn check_not_tentative(address: &Address) -> Result<(), String> {
    if address.tentative {
        return Err(format!(
            "the kernel has not yet confirmed that nobody else uses {}",
            address.ip
        ));
    }
    Ok(())
}

/// A scope is for link-local addresses only: on others the kernel may refuse it.
fn scoped(ip: IpAddr, port: u16, index: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, index).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(ip, port),
    }
}

/// Multicast groups of any scope need to know the interface.
fn scoped_always(ip: IpAddr, port: u16, index: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, index).into(),
        IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
    }
}

#[cfg(test)]
mod tests;
