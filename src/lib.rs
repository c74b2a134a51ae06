//! High availability for Linux machines that run systemd: the map of the house.
//!
//! Two programs are made of this library: the daemon `ha-node` ([`node::run`]) and its client `hactl` ([`ctl::run`]).
//!
//! | part | what lives there | what it may use |
//! |---|---|---|
//! | [`ids`] | names and numbers that must not be mixed up | nothing |
//! | [`wire`] | bytes <-> messages: framing, fields, authentication | `ids` |
//! | [`core`] | the cluster's mind: membership, leases, leadership, the plan | `ids`, the types in `wire::status` |
//! | [`sim`] | virtual machines and a virtual network around the real core and codec | `core`, `wire`, `ids` |
//! | [`config`] | TOML to one checked configuration | `ids`, `core::settings` |
//! | [`process`] | clocks, priority, memory, name of this host | `core::time` |
//! | [`state`] | what survives a restart, on disk | `ids`, `core::Persistent` |
//! | [`tenure`] | what a dead daemon leaves to whoever comes after it | `ids`, `config`, `core::{Holding, Inheritance, Instant, Lease}`, `wire::status` |
//! | [`journal`] | events and diagnostics to journald; the table of all events | `ids`, `core::event`, `wire::status` |
//! | [`link`] | UDP: unicast, broadcast, multicast | `ids`, `config` |
//! | [`resource`] | addresses and units, started and stopped in order; health checks | `ids`, `config`, `core::io`, `core::time`, `dbus::systemd1` |
//! | [`dbus`] | `org.linuxha.Cluster` served; systemd's interface spelled out | `ids`, `core::{event, io, time, view}`, `wire::status`, `journal::Record` |
//! | [`node`] | the one loop in which they all meet | all of the above but `sim` |
//! | [`ctl`] | the client's commands | `dbus` (names), `config`, `node::Options` and `resource::inspect` (for `check`) |
//!
//! `ids`, `wire`, `core` and `sim` are pure: no sockets, files, processes, clocks, no order that differs from run to
//! run. Drivers (`link`, `resource`, `dbus`) do not know each other, `node`, or the core's state. `tests/tidy.rs` reads
//! the sources and fails where an arrow is missing here or runs backwards; ARCHITECTURE.md says why it is so.

pub mod config;
pub mod core;
pub mod ctl;
pub mod dbus;
pub mod ids;
pub mod journal;
pub mod link;
pub mod node;
pub mod process;
pub mod resource;
pub mod sim;
pub mod state;
pub mod tenure;
pub mod wire;
