//! Bytes <-> messages: framing, fields, authentication. No sockets, files or clocks.
//!
//! A message is an ordered list of named fields ([`message`]). It travels in one of two framings, both
//! Heartbeat's: [`netstring`], which is what is sent, and [`classic`], which is accepted as well. Either is
//! authenticated with a key ([`auth`]) of a key file ([`keys`]). [`codec`] maps [`status::Status`] to fields
//! and back, with the texts of its lists in modules of their own; [`brief`] leaves out what the receiver has already.
//!
//! Invariant: nothing of a packet is interpreted before its digest was verified, and no bytes cause a panic
//! or an allocation that is not bounded by their own length.

pub mod auth;
mod blocked;
pub mod body;
pub mod brief;
pub mod classic;
pub mod codec;
pub mod keys;
pub mod message;
pub mod netstring;
mod plan;
mod profile;
mod refusal;
mod reject;
mod report;
pub mod size;
pub mod status;
mod text;

pub use reject::Reject;

/// Largest packet that can be sent, in bytes: what one UDP datagram over IPv4 holds.
pub const PACKET_SENT_MAX: usize = 65_507;

/// Largest packet that is looked at, in bytes; longer ones are rejected unread.
pub const PACKET_RECEIVED_MAX: usize = 256 * 1024;

/// Most fields of one message; a status of ours has at most 30, one of Heartbeat's some 15.
pub const FIELDS_MAX: usize = 128;

/// Most nodes in one list of a status.
pub const NODES_MAX: usize = 32;

/// Most groups in one list of a status.
pub const GROUPS_MAX: usize = 4096;
