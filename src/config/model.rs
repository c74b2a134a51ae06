//! The configuration as the program uses it: complete, checked, nothing optional that has a default.

use crate::config::health::HealthCheck;
use crate::config::vip::AddressSet;
use crate::core::settings::FailurePolicy;
use crate::core::{Policy, Settings};
use crate::ids::{ClusterName, GroupName, NodeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// Programs that live and die with the daemon, in the order of the file.
    pub respawn: Vec<Respawn>,
}

/// One program that lives and dies with the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respawn {
    /// Who it runs as.
    pub user: String,
    /// The program by its absolute path, and its arguments.
    pub command: Vec<String>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// How it reaches them.
    pub transport: Transport,
    /// UDP port, 694 by default.
    pub port: u16,
    /// A cable from machine to machine: it has no carrier where the other one has no power, either.
    #[serde(default)]
    pub direct: bool,
}

/// How a link reaches the peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Started left to right, stopped right to left.
    pub resources: Vec<Resource>,
    /// Checks of the group as a whole: a failure counts as one of its last resource.
    #[serde(skip)]
    pub checks: Vec<HealthCheck>,
    /// This node is one of those that may run it.
    #[serde(default)]
    pub here: bool,
    /// How long its emergency stop may take after the end of a lease, before others may start it.
    #[serde(default = "stop_margin_default")]
    pub stop_margin: Duration,
}

/// For a group that a version without the key has written down.
fn stop_margin_default() -> Duration {
    KEEPALIVE_DEFAULT
}

/// Default of the time between heartbeats.
pub(crate) const KEEPALIVE_DEFAULT: Duration = Duration::from_millis(250);

impl Group {
    /// Whether it consists of the same; how that is watched may differ.
    pub fn has_parts_of(&self, other: &Self) -> bool {
        let parts = |group: &Self| -> Vec<(String, ResourceKind)> {
            let all = group.resources.iter();
            all.map(|it| (it.id.clone(), it.kind.clone())).collect()
        };
        self.name == other.name && parts(self) == parts(other)
    }
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Unique within the group: given as `id`, else made from the kind and its argument
    /// (`vip:10.0.0.1`, `unit:nginx.service`).
    pub id: String,
    /// What it is.
    pub kind: ResourceKind,
    /// How long a start may take; 10 s by default for an address, 90 s for all else but an OCF
    /// agent, which says so itself, up to 600 s.
    pub start_timeout: Duration,
    /// How long a stop may take; 300 s by default for a unit, which systemd ends by force before, 10 s for an address.
    pub stop_timeout: Duration,
    /// What its failures lead to.
    #[serde(default)]
    pub policy: FailurePolicy,
    /// Checks of its health while it runs here; whoever only stops it need not know them.
    #[serde(skip)]
    pub checks: Vec<HealthCheck>,
}

/// What a resource is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceKind {
    /// Virtual addresses.
    Address(AddressSet),
    /// A systemd unit, with its suffix.
    Unit {
        /// Its name.
        name: String,
        /// What it does where the group does not run.
        #[serde(default)]
        standby: Standby,
    },
    /// A file system.
    Mount {
        /// Where, and under which name systemd has it: a path and a unit.
        directory: String,
        /// The unit's name, made from the path.
        unit: String,
        /// What is mounted.
        device: String,
        /// Its type; the kernel's guess if none.
        fstype: Option<String>,
        /// As in fstab(5).
        options: Option<String>,
    },
    /// An LSB init script, or one of Heartbeat's resource.d.
    Script {
        /// Its absolute path.
        path: String,
        /// What stands before the verb.
        arguments: Vec<String>,
        /// How often it is asked for its status while it runs; never if none.
        monitor_interval: Option<Duration>,
    },
    /// An OCF resource agent.
    Ocf {
        /// Its directory below `resource.d`.
        provider: String,
        /// Its name there.
        agent: String,
        /// Its parameters.
        parameters: BTreeMap<String, String>,
        /// How often it is monitored while it runs; 10 s by default.
        monitor_interval: Duration,
        /// As configured; if none, the agent's meta-data says it, within the resource's.
        start_timeout: Option<Duration>,
        /// The same for a stop.
        stop_timeout: Option<Duration>,
    },
}

/// What a unit does on a node that may run its group and does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Standby {
    /// It is stopped.
    #[default]
    Stopped,
    /// It runs as well: only its checks and what stands beside it move.
    Started,
}

impl ResourceKind {
    /// The path of the program that starts and stops it, if one does.
    pub fn program(&self) -> Option<String> {
        match self {
            Self::Script { path, .. } => Some(path.clone()),
            Self::Ocf {
                provider, agent, ..
            } => Some(format!("/usr/lib/ocf/resource.d/{provider}/{agent}")),
            Self::Address { .. } | Self::Unit { .. } | Self::Mount { .. } => None,
        }
    }

    /// Word for the kind, as in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Address { .. } => "vip",
            Self::Unit { .. } => "unit",
            Self::Mount { .. } => "mount",
            Self::Script { .. } => "script",
            Self::Ocf { .. } => "ocf",
        }
    }
}

/// Default UDP port (IANA `ha-cluster`).
pub const PORT_DEFAULT: u16 = 694;

/// Whether an address may be the group of a multicast link.
pub fn is_multicast(address: IpAddr) -> bool {
    address.is_multicast() && address != IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}
