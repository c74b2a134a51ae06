//! Routes that come and go with addresses, in the kernel's main table.
//!
//! Ours carry a protocol number of their own, and removal names it: the kernel then leaves a route of
//! anybody else alone, even if it is the same in all else. So nothing need be remembered of what was added.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's many messages and attributes, of which a few matter here"
)]

use crate::config::vip::{AddressSet, Route};
use crate::resource::netlink::Netlink;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::IpAddr;

/// The `proto` of our routes in `ip route`: 182 is free in iproute2's list and in those of the routing daemons.
pub const PROTOCOL: u8 = 182;

/// Adds the routes of a resource; those that are there in the same way, whoever added them, are fine.
///
/// # Errors
/// Words for people, with the first route that could not be added.
pub(super) fn add_all(netlink: &mut Netlink, set: &AddressSet, index: u32) -> Result<(), String> {
    for route in &set.routes {
        add(netlink, set, *route, index).map_err(|error| explain(*route, set, &error))?;
    }
    Ok(())
}

fn add(netlink: &mut Netlink, set: &AddressSet, route: Route, index: u32) -> io::Result<()> {
    let mut message = message(route, index);
    if let Some(source) = preferred_source(set, route) {
        let source = RouteAttribute::PrefSource(source.into());
        message.attributes.push(source);
    }
    let request = RouteNetlinkMessage::NewRoute(message);
    match netlink.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            if exists(netlink, route, index)? {
                return Ok(());
            }
            Err(io::Error::other(
                "there is another route to the same network: remove that one",
            ))
        }
        result => result.map(drop),
    }
}

/// Removes our routes of a resource. Goes on after an error; nothing there is success.
pub(super) fn remove_all(
    netlink: &mut Netlink,
    set: &AddressSet,
    index: u32,
) -> Result<(), String> {
    let mut result = Ok(());
    for route in set.routes.iter().rev() {
        let request = RouteNetlinkMessage::DelRoute(message(*route, index));
        match netlink.request(request, NLM_F_ACK) {
            // Where the interface is down or has lost its last address of the family, the kernel has
            // removed them by itself.
            Err(error)
                if !matches!(
                    error.raw_os_error(),
                    Some(libc::ESRCH | libc::ENODEV | libc::ENETDOWN | libc::ENETUNREACH)
                ) =>
            {
                result = Err(format!("removing the route {route}: {error}"));
            }
            Ok(_) | Err(_) => {}
        }
    }
    result
}

/// An address of the resource that the machine shall use towards the route, where it may use one at all.
fn preferred_source(set: &AddressSet, route: Route) -> Option<IpAddr> {
    let same_family = |address: &IpAddr| address.is_ipv4() == route.destination.is_ipv4();
    let mut addresses = set.addresses.iter().map(|one| one.address);
    addresses.find(same_family).filter(|_| set.source)
}

fn message(route: Route, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match route.destination {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = route.prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = match route.gateway {
        None if route.destination.is_ipv4() => RouteScope::Link,
        None | Some(_) => RouteScope::Universe,
    };
    let mut attributes = vec![RouteAttribute::Oif(index)];
    if route.prefix > 0 {
        attributes.push(RouteAttribute::Destination(route.destination.into()));
    }
    attributes.extend(
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(gateway.into())),
    );
    message.attributes = attributes;
    message
}

/// Whether the route is there, over this interface and by the same router, whoever added it.
fn exists(netlink: &mut Netlink, route: Route, index: u32) -> io::Result<bool> {
    let mut query = RouteMessage::default();
    query.header.address_family = message(route, index).header.address_family;
    let answers = netlink.request(RouteNetlinkMessage::GetRoute(query), NLM_F_DUMP)?;
    Ok(answers.iter().any(|answer| match answer {
        RouteNetlinkMessage::NewRoute(found) => is_same(found, route, index),
        _ => false,
    }))
}

fn is_same(found: &RouteMessage, route: Route, index: u32) -> bool {
    let mut destination = None;
    let mut gateway = None;
    let mut output = None;
    for attribute in &found.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => output = Some(*index),
            _ => {}
        }
    }
    found.header.table == RouteHeader::RT_TABLE_MAIN
        && found.header.kind == RouteType::Unicast
        && found.header.destination_prefix_length == route.prefix
        && destination.is_none_or(|destination| destination == route.destination)
        && (destination.is_some() || route.prefix == 0)
        && gateway == route.gateway
        && output == Some(index)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn explain(route: Route, set: &AddressSet, error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            ": the gateway is in no network of that interface; correct it, or the prefix length of the address"
        }
        Some(libc::ENETDOWN) => ": the interface is down",
        _ => "",
    };
    format!(
        "adding the route {route} on {:?}: {error}{remedy}",
        set.interface
    )
}
