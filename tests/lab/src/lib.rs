//! Real systemd machines on one host, to test, show and measure ha-node.
//!
//! What lives where:
//! * [`host`] and [`base`]: what the host must have, and the Debian file system that all machines share;
//! * [`lab`], [`network`], [`machine`], [`cgroup`]: one lab is a set of machines (nspawn containers, each
//!   with its own file system, cgroup, journal, message bus and cables) and a client that watches them;
//! * [`mod@unit`], [`install`], [`cluster`]: ha-node in these machines;
//! * [`probe`], [`capture`], [`meter`]: what a third machine sees, what crosses a cable, what a daemon costs;
//! * [`scenario`], [`timeline`]: what is done to a cluster, shared by tests, demo and benchmarks;
//! * [`walk`]: faults without end, drawn from a seed.
//!
//! Invariants: labs of parallel runs share nothing but the read-only base; a lab removes all that it made,
//! also after a panic or Ctrl-C, and what a killed run left behind is removed by the next one; only
//! processes inside a lab's own cgroups are ever ended.

pub mod base;
pub mod capture;
pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod host;
pub mod install;
pub mod lab;
pub mod machine;
pub mod meter;
pub mod network;
pub mod probe;
pub mod run;
pub mod scenario;
pub mod span;
mod sys;
pub mod timeline;
pub mod unit;
pub mod walk;

pub use cluster::{Cluster, Options};
pub use lab::Lab;
pub use machine::Machine;
pub use span::Span;
