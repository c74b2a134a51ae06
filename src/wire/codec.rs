//! [`Status`] <-> packets.
//!
//! A status is Heartbeat's message of type `status` with additional fields, so that a peer that runs Heartbeat takes it for a
//! heartbeat. Fields in order (lists, numbers and marks as in `docs/WIRE.md`; a field that would be empty is left out):
//!
//! | field | content |
//! |---|---|
//! | `t`, `st`, `dt` | `status`; `init`, `up`, `active` or `dead`; own deadtime in milliseconds |
//! | `ha_v` | version of this format; others than [`VERSION`] are refused |
//! | `ha_cluster`, `ha_config` | cluster name; digest of the shared configuration |
//! | `ha_term`, `ha_floor` | `NUMBER:LEADER:GENERATION` each |
//! | `ha_flags` | of `voting electable returning standby leaving` |
//! | `ha_heard`, `ha_ask` | `NODE:GENERATION:SEQUENCE[:p]` …; `NODE` … |
//! | `ha_reach` | `REACH[:l]` |
//! | `ha_report`, `ha_dead` | plan version that the report is made under; `NODE:GENERATION[:h]` … |
//! | `ha_request` | `ID:move:GROUP:NODE` |
//! | `ha_state` | `DIGEST[:k]` of all that follows, up to `src`; `k`: it is left out |
//! | `ha_groups`, `ha_blocked` | `GROUP:STATE[:FAILURES[:p]]` …; `NODE:NODE…` and `GROUP:MASK` … |
//! | `ha_cleared`, `ha_lives` | as `ha_blocked`; `NODE:GENERATION:SEQUENCE` … |
//! | `ha_profile`, `ha_nodes` | `POLICY:KEEPALIVE:GROUPS:MARGIN`; `NODE[:w]` … |
//! | `ha_plan`, `ha_members`, `ha_expelled` | version; `NODE:VERSION` …; `NODE` … |
//! | `ha_assign`, `ha_answers` | `GROUP:k:NODE` …; `NODE:GENERATION:ID:OUTCOME` … |
//! | `src`, `seq`, `hg`, `ts`, `ld`, `ttl`, `auth` | Heartbeat's common fields |
//!
//! Fields of unknown names are passed over; in a known field, anything that is not understood refuses the message.

use super::body::{self, Encoded, StateDigest};
use super::keys::Keys;
use super::message::Message;
use super::status::{Profile, Report, Status};
use super::text::parse_number;
use super::{Reject, classic, netstring, plan, report};
use crate::ids::{ClusterName, Generation, NodeName, PlanVersion, Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Version of the additional fields.
pub const VERSION: &str = "2";

/// Most bytes of a load average that are sent along.
pub(super) const LOADAVG_LENGTH_MAX: usize = 64;

/// What a sender says beside its status, only for a peer that runs Heartbeat; we never evaluate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderFacts<'a> {
    /// Seconds since 1970; 0, which Heartbeat refuses, is sent as 1.
    pub timestamp_unix_secs: u64,
    /// The line of `/proc/loadavg`; anything after its first line is cut off.
    pub loadavg: &'a str,
    /// One more than the number of nodes, as Heartbeat counts hops.
    pub ttl: u32,
}

/// An authentic message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A heartbeat of ours.
    Heartbeat(Heartbeat),
    /// Any other message that Heartbeat would take in: one of a node that runs it.
    Foreign(Message),
}

/// A heartbeat as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// What it says; no groups, failed stops and plan where it is brief.
    pub status: Box<Status>,
    /// Digest of those three.
    pub state: StateDigest,
    /// They are left out.
    pub brief: bool,
}

/// Encodes a status as a whole, signed with the sending key of `keys`; without one nobody accepts the packet.
///
/// The deadtime is rounded down to whole milliseconds, so that no promise is taken for longer than it was given. A
/// packet longer than [`PACKET_SENT_MAX`](super::PACKET_SENT_MAX) is returned all the same, since a status cut short would say
/// something else; [`packet_length_max`](super::size::packet_length_max) tells beforehand whether that can happen.
pub fn encode(status: &Status, keys: &Keys, facts: &SenderFacts<'_>) -> Vec<u8> {
    encode_whole(status, Encoded::of(status), keys, facts)
}

/// The same with a body that was encoded already.
pub(super) fn encode_whole(
    status: &Status,
    body: Encoded,
    keys: &Keys,
    facts: &SenderFacts<'_>,
) -> Vec<u8> {
    seal(message(status, body, facts), keys)
}

/// Encodes a status without its body, whose digest this is.
pub(super) fn encode_brief(
    status: &Status,
    digest: StateDigest,
    keys: &Keys,
    facts: &SenderFacts<'_>,
) -> Vec<u8> {
    let mut message = Message::new();
    push_head(&mut message, status);
    digest.push(&mut message);
    push_common(&mut message, status, facts);
    seal(message, keys)
}

/// The message of a whole status, without its inner digest.
pub(super) fn message(status: &Status, body: Encoded, facts: &SenderFacts<'_>) -> Message {
    let mut message = Message::new();
    push_head(&mut message, status);
    body.push(&mut message);
    push_common(&mut message, status, facts);
    message
}

fn seal(mut message: Message, keys: &Keys) -> Vec<u8> {
    if let Some(key) = keys.sending_key() {
        message.sign(key);
    }
    netstring::seal(&message, keys.sending_key())
}

/// Verifies and decodes a packet in either framing.
///
/// # Errors
/// Why the packet is to be dropped; without keys every packet is.
pub fn decode(packet: &[u8], keys: &Keys) -> Result<Received, Reject> {
    let message = match packet.starts_with(classic::START) {
        true => classic::open(packet, keys)?,
        false => netstring::open(packet, keys)?,
    };
    check_common(&message)?;
    if message.text("t") != Some("status") || message.field("ha_v").is_none() {
        return Ok(Received::Foreign(message));
    }
    parse_heartbeat(&message).map(Received::Heartbeat)
}

fn push_head(message: &mut Message, status: &Status) {
    let deadtime = u64::try_from(status.deadtime.as_millis()).unwrap_or(u64::MAX);
    message.push_text("t", "status");
    message.push_text("st", report::phase_text(status.phase));
    message.push_text("dt", format!("{deadtime:x}"));
    message.push_text("ha_v", VERSION);
    message.push_text("ha_cluster", status.cluster.as_str());
    message.push_text("ha_config", format!("{:x}", status.config_hash));
    let flags = report::Flags {
        voting: status.voting,
        electable: status.electable,
        returning: status.returning,
        standby: status.report.standby,
        leaving: status.report.leaving,
    };
    let term = status.term.as_ref().map(report::term_text);
    // Of most senders it is the same.
    let floor = (status.floor.as_ref()).filter(|_| status.floor != status.term);
    message.push_some("ha_term", term);
    message.push_some("ha_floor", floor.map(report::term_text));
    message.push_some("ha_flags", report::flags_text(flags));
    message.push_some("ha_heard", report::heard_text(&status.heard));
    message.push_text("ha_reach", report::reach_text(status.reach, status.led));
    message.push_some("ha_ask", report::asks_text(&status.asks));
    message.push_text("ha_report", format!("{:x}", status.report.version.0));
    message.push_some("ha_dead", report::dead_text(&status.report.dead));
    let request = status.request.as_ref().map(plan::request_text);
    message.push_some("ha_request", request);
}

fn push_common(message: &mut Message, status: &Status, facts: &SenderFacts<'_>) {
    let line = facts.loadavg.lines().next().unwrap_or_default();
    let loadavg: String = line
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(LOADAVG_LENGTH_MAX)
        .collect();
    message.push_text("src", status.node.as_str());
    message.push_text("seq", format!("{:x}", status.sequence.0));
    message.push_text("hg", format!("{:x}", status.generation.0));
    message.push_text("ts", format!("{:x}", facts.timestamp_unix_secs.max(1)));
    message.push_text("ld", loadavg);
    message.push_text("ttl", facts.ttl.to_string());
}

/// What Heartbeat demands of every message.
fn check_common(message: &Message) -> Result<(), Reject> {
    let fields = Fields(message);
    let kind = fields.required("t")?;
    fields.required("src")?;
    if fields.number("ts")? == 0 {
        return Err(Reject::BadField);
    }
    if !kind.starts_with("NS_") {
        fields.number("seq")?;
    }
    Ok(())
}

fn parse_heartbeat(message: &Message) -> Result<Heartbeat, Reject> {
    let fields = Fields(message);
    if fields.required("ha_v")? != VERSION {
        return Err(Reject::UnknownVersion);
    }
    let (state, body) = body::parse(message)?;
    let mut status = Box::new(parse_head(&fields)?);
    let brief = body.is_none();
    if let Some(body) = body {
        body.put_into(&mut status);
    }
    Ok(Heartbeat {
        status,
        state,
        brief,
    })
}

fn parse_head(fields: &Fields<'_>) -> Result<Status, Reject> {
    let flags = report::parse_flags(fields.optional("ha_flags")?)?;
    let term = fields
        .optional("ha_term")?
        .map(report::parse_term)
        .transpose()?;
    let floor = fields
        .optional("ha_floor")?
        .map(report::parse_term)
        .transpose()?;
    let (reach, led) = report::parse_reach(fields.required("ha_reach")?)?;
    Ok(Status {
        cluster: ClusterName::new(fields.required("ha_cluster")?).map_err(|_| Reject::BadField)?,
        node: NodeName::new(fields.required("src")?).map_err(|_| Reject::BadField)?,
        generation: Generation(fields.number("hg")?),
        sequence: Sequence(fields.number("seq")?),
        phase: report::parse_phase(fields.required("st")?)?,
        deadtime: Duration::from_millis(fields.number("dt")?),
        heard: report::parse_heard(fields.optional("ha_heard")?)?,
        asks: report::parse_asks(fields.optional("ha_ask")?)?,
        floor: floor.or_else(|| term.clone()),
        term,
        electable: flags.electable,
        reach,
        led,
        returning: flags.returning,
        voting: flags.voting,
        report: parse_report(fields, flags)?,
        plan: None,
        request: fields
            .optional("ha_request")?
            .map(plan::parse_request)
            .transpose()?,
        config_hash: fields.number("ha_config")?,
        profile: Profile::default(),
    })
}

fn parse_report(fields: &Fields<'_>, flags: report::Flags) -> Result<Report, Reject> {
    Ok(Report {
        version: PlanVersion(fields.number("ha_report")?),
        groups: BTreeMap::new(),
        dead: report::parse_dead(fields.optional("ha_dead")?)?,
        standby: flags.standby,
        leaving: flags.leaving,
        blocked: BTreeSet::new(),
        cleared: BTreeSet::new(),
        lives: BTreeMap::new(),
    })
}

/// A message whose fields are looked up by what must be there.
pub(super) struct Fields<'a>(pub(super) &'a Message);

impl<'a> Fields<'a> {
    pub(super) fn optional(&self, name: &str) -> Result<Option<&'a str>, Reject> {
        match self.0.field(name) {
            None => Ok(None),
            Some(_) => self.0.text(name).map(Some).ok_or(Reject::BadField),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a str, Reject> {
        self.optional(name)?.ok_or(Reject::MissingField)
    }

    fn number(&self, name: &str) -> Result<u64, Reject> {
        parse_number(self.required(name)?)
    }
}

#[cfg(test)]
mod tests;
