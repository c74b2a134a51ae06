//! What this machine's network interfaces and addresses are at one moment.
//!
//! Plain data: [`super::netlink`] fills it, [`super::binding`] judges by it.

use std::net::{IpAddr, Ipv4Addr};

/// All interfaces at one moment, in the kernel's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The interfaces.
    pub(super) interfaces: Vec<Interface>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    /// The kernel's number for it; a re-created interface has another one.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// Administratively up.
    pub(super) enabled: bool,
    /// The layer below can carry frames: cable plugged in, peer of a virtual pair up.
    pub(super) carrier: bool,
    /// Its addresses in the kernel's order, primary ones before their secondaries.
    pub(super) addresses: Vec<Address>,
}

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The machine's own end.
    pub(super) ip: IpAddr,
    /// Prefix length: 0 to 32, or 0 to 128.
    pub(super) prefix: u8,
    /// Broadcast address, where one was set.
    pub(super) broadcast: Option<Ipv4Addr>,
    /// IPv6: still being checked for duplicates, or found to be one.
    pub(super) tentative: bool,
    /// IPv4: not the first of its network.
    pub(super) secondary: bool,
}

impl Snapshot {
    /// The interface of that name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.name == name)
    }

    /// The interface that carries that address, the ones that are up first.
    pub(super) fn by_address(&self, ip: IpAddr) -> Option<&Interface> {
        let mut having = self.interfaces.iter().filter(|i| i.address(ip).is_some());
        let first = having.next()?;
        if first.enabled {
            return Some(first);
        }
        Some(having.find(|i| i.enabled).unwrap_or(first))
    }
}

impl Interface {
    /// Its entry for that address.
    pub(super) fn address(&self, ip: IpAddr) -> Option<&Address> {
        self.addresses.iter().find(|a| a.ip == ip)
    }
}

impl Address {
    /// Where a datagram to the whole network of this address goes.
    ///
    /// Many tools set no broadcast address; the kernel then still routes the last address of the network as one.
    pub(super) fn broadcast_address(&self) -> Option<Ipv4Addr> {
        let IpAddr::V4(own) = self.ip else {
            return None;
        };
        if self.broadcast.is_some() {
            return self.broadcast;
        }
        if self.prefix > 30 {
            return None;
        }
        let host_bits = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        Some(Ipv4Addr::from_bits(own.to_bits() | host_bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, prefix: u8, broadcast: Option<&str>) -> Address {
        Address {
            ip: ip.parse().unwrap(),
            prefix,
            broadcast: broadcast.map(|b| b.parse().unwrap()),
            tentative: false,
            secondary: false,
        }
    }

    #[test]
    fn the_broadcast_address_is_the_configured_one_else_the_last_of_the_network() {
        let of = |ip, prefix, set| address(ip, prefix, set).broadcast_address();
        let is = |text: &str| Some(text.parse().unwrap());
        assert_eq!(of("10.1.2.3", 24, None), is("10.1.2.255"));
        assert_eq!(of("10.1.2.3", 20, None), is("10.1.15.255"));
        assert_eq!(of("10.1.2.3", 30, None), is("10.1.2.3"));
        assert_eq!(of("10.1.2.3", 0, None), is("255.255.255.255"));
        assert_eq!(of("10.1.2.3", 24, Some("10.1.255.255")), is("10.1.255.255"));
        assert_eq!(of("10.1.2.3", 31, None), None);
        assert_eq!(of("10.1.2.3", 32, None), None);
        assert_eq!(of("fd00::1", 64, None), None);
    }

    #[test]
    fn an_address_on_two_interfaces_is_taken_from_the_one_that_is_up() {
        let interface = |index, enabled| Interface {
            index,
            name: format!("eth{index}"),
            enabled,
            carrier: enabled,
            addresses: vec![address("10.0.0.1", 24, None)],
        };
        let snapshot = Snapshot {
            interfaces: vec![interface(1, false), interface(2, true)],
        };
        let found = snapshot.by_address("10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(found.index, 2);
    }
}
