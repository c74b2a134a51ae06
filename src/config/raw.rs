//! What one layer says, and what all of them say together: every value optional and with its origin.
//!
//! Each layer is turned into a figment value and back, so a field that is not set must not be written:
//! it would wipe the layer below.

use crate::config::failure::RawFailure;
use crate::config::health::HealthCheck;
use crate::config::kinds::{RawKind, RawRespawn};
use crate::config::model::Standby;
use crate::config::place::{Found, Origin};
use crate::config::vip::{AddressRange, OnConflict, Route};
use crate::ids::{ClusterName, GroupName, NodeName};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

macro_rules! raw {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub(crate) struct $name {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(crate) $field: Option<Found<$type>>,
            )*
        }
    };
}

/// A whole file, or all files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Raw {
    pub(crate) cluster: RawCluster,
    pub(crate) timing: RawTiming,
    pub(crate) auth: RawAuth,
    pub(crate) quorum: RawQuorum,
    pub(crate) node: Vec<RawNode>,
    pub(crate) link: Vec<RawLink>,
    pub(crate) group: Vec<RawGroup>,
    pub(crate) respawn: Vec<RawRespawn>,
}

raw! {
    /// `[cluster]`
    RawCluster {
        name: ClusterName,
        auto_failback: bool,
    }
}

raw! {
    /// `[timing]`
    RawTiming {
        keepalive: Duration,
        warntime: Duration,
        deadtime: Duration,
        initdead: Duration,
    }
}

raw! {
    /// `[auth]`
    RawAuth {
        keyfile: PathBuf,
    }
}

raw! {
    /// `[quorum]`
    RawQuorum {
        policy: PolicyChoice,
    }
}

/// `policy` before `auto` is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PolicyChoice {
    Auto,
    Majority,
    Ignore,
}

/// `[[node]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawNode {
    pub(crate) name: Found<NodeName>,
    pub(crate) witness: bool,
}

/// `[[link]]`: exactly one of the first three after decoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawLink {
    pub(crate) at: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ucast: Option<Found<Vec<UcastEntry>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bcast: Option<Found<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mcast: Option<Found<IpAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<Found<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<Found<u16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<Found<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) direct: Option<Found<bool>>,
}

/// One node of a unicast link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UcastEntry {
    pub(crate) node: Found<NodeName>,
    pub(crate) address: Found<IpAddr>,
}

/// `[[group]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawGroup {
    pub(crate) name: Found<GroupName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<Found<Vec<Found<NodeName>>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_failback: Option<Found<bool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_margin: Option<Found<Duration>>,
    pub(crate) resources: Vec<RawResource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<Found<HealthCheck>>,
}

/// One entry of `resources`: exactly one of `vip`, `unit` and `kind` after decoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawResource {
    pub(crate) at: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vip: Option<Found<Vec<Found<AddressRange>>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<Found<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<Found<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Found<bool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<Found<Vec<Found<Route>>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_conflict: Option<Found<OnConflict>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Found<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<RawKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Found<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_timeout: Option<Found<Duration>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_timeout: Option<Found<Duration>>,
    #[serde(default)]
    pub(crate) failure: RawFailure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) standby: Option<Found<Standby>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<Found<HealthCheck>>,
}
