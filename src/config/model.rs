//! The configuration as the program uses it: complete, checked, nothing optional that has a default.

use crate::config::vip::AddressSet;
use crate::core::{Policy, Settings};
use crate::ids::{ClusterName, GroupName, NodeName};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the daemon was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the core needs of it.
    pub settings: Settings,
    /// No configuration file was found: a cluster of one.
    pub standalone: bool,
    /// Authentication keys; none in a cluster of one without links.
    pub keyfile: Option<PathBuf>,
    /// Links, in the order of the file; [`crate::ids::LinkId`] is the position.
    pub links: Vec<Link>,
    /// Resources of each group, in starting order.
    pub groups: Vec<Group>,
}

impl Config {
    /// Name of the cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.settings.cluster
    }

    /// This node.
    pub fn local(&self) -> &NodeName {
        &self.settings.local
    }

    /// The policy after `auto` was resolved.
    pub fn policy(&self) -> Policy {
        self.settings.policy
    }
}

/// One path between the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// How it reaches them.
    pub transport: Transport,
    /// UDP port, 694 by default.
    pub port: u16,
}

/// How a link reaches the peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A datagram to each peer's address.
    Unicast {
        /// Bind to this interface (SO_BINDTODEVICE); by the routing table if none.
        interface: Option<String>,
        /// Own address, to bind to.
        local: IpAddr,
        /// The peers' addresses, without this node.
        peers: Vec<(NodeName, IpAddr)>,
    },
    /// One datagram to the IPv4 broadcast address of an interface, as Heartbeat's `bcast`.
    Broadcast {
        /// Which interface.
        interface: String,
    },
    /// One datagram to a multicast group on an interface.
    Multicast {
        /// Which interface.
        interface: String,
        /// IPv4 or IPv6 group.
        group: IpAddr,
        /// Time to live or hop limit, 0 to 255; 1 by default.
        ttl: u8,
    },
}

impl Link {
    /// Word for the kind, as the bus and the client show it.
    pub fn kind(&self) -> &'static str {
        match self.transport {
            Transport::Unicast { .. } => "ucast",
            Transport::Broadcast { .. } => "bcast",
            Transport::Multicast { .. } => "mcast",
        }
    }

    /// The interface it is bound to, if any.
    pub fn interface(&self) -> Option<&str> {
        match &self.transport {
            Transport::Unicast { interface, .. } => interface.as_deref(),
            Transport::Broadcast { interface } | Transport::Multicast { interface, .. } => {
                Some(interface)
            }
        }
    }

    /// What people call the link: its interface, or its own address where it has none.
    pub fn label(&self) -> String {
        match &self.transport {
            Transport::Unicast {
                interface: None,
                local,
                ..
            } => local.to_string(),
            Transport::Unicast {
                interface: Some(interface),
                ..
            }
            | Transport::Broadcast { interface }
            | Transport::Multicast { interface, .. } => interface.clone(),
        }
    }

    /// Where a datagram for one unicast peer goes.
    pub fn address_of(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port)
    }
}

/// One group and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Started left to right, stopped right to left.
    pub resources: Vec<Resource>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Unique within the group: given as `id`, else made from the kind and its argument
    /// (`vip:10.0.0.1`, `unit:nginx.service`).
    pub id: String,
    /// What it is.
    pub kind: ResourceKind,
    /// How long a start may take; 90 s by default for a unit, 10 s for an address.
    pub start_timeout: Duration,
    /// How long a stop may take; the same defaults.
    pub stop_timeout: Duration,
}

/// What a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceKind {
    /// Virtual addresses.
    Address(AddressSet),
    /// A systemd unit, with its suffix.
    Unit {
        /// Its name.
        name: String,
    },
}

impl ResourceKind {
    /// Word for the kind, as in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Address { .. } => "vip",
            Self::Unit { .. } => "unit",
        }
    }
}

/// Default UDP port (IANA `ha-cluster`).
pub const PORT_DEFAULT: u16 = 694;

/// Whether an address may be the group of a multicast link.
pub fn is_multicast(address: IpAddr) -> bool {
    address.is_multicast() && address != IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}
