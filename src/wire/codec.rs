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
//! | `ha_heard` | `NODE:GENERATION:SEQUENCE[:p]` … |
//! | `ha_report` | plan version that the report is made under |
//! | `ha_groups`, `ha_dead`, `ha_blocked` | `GROUP:STATE[:FAILURES[:p]]` …; `NODE:GENERATION[:h]` …; `GROUP:NODE` … |
//! | `ha_plan`, `ha_members` | version; `NODE:VERSION` … |
//! | `ha_assign`, `ha_answers` | `GROUP:k:NODE` …; `NODE:GENERATION:ID:OUTCOME` … |
//! | `ha_request` | `ID:move:GROUP:NODE` |
//! | `src`, `seq`, `hg`, `ts`, `ld`, `ttl`, `auth` | Heartbeat's common fields |
//!
//! Fields of unknown names are passed over; in a known field, anything that is not understood refuses the message.

use super::keys::Keys;
use super::message::Message;
use super::status::{Plan, Report, Status};
use super::text::parse_number;
use super::{Reject, classic, netstring, plan, report};
use crate::ids::{ClusterName, Generation, NodeName, PlanVersion, Sequence};
use std::time::Duration;

/// Version of the additional fields.
pub const VERSION: &str = "1";

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
    Status(Box<Status>),
    /// Any other message that Heartbeat would take in: one of a node that runs it.
    Foreign(Message),
}

/// Encodes a status, signed with the sending key of `keys`; without one nobody accepts the packet.
///
/// The deadtime is rounded down to whole milliseconds, so that no promise is taken for longer than it was given. A
/// packet longer than [`PACKET_SENT_MAX`](super::PACKET_SENT_MAX) is returned all the same, since a status cut short would say
/// something else; [`packet_length_max`](super::size::packet_length_max) tells beforehand whether that can happen.
pub fn encode(status: &Status, keys: &Keys, facts: &SenderFacts<'_>) -> Vec<u8> {
    let mut message = message(status, facts);
    if let Some(key) = keys.sending_key() {
        message.sign(key);
    }
    netstring::seal(&message, keys.sending_key())
}

/// The message of a status, without its inner digest.
pub(super) fn message(status: &Status, facts: &SenderFacts<'_>) -> Message {
    let mut message = Message::new();
    push_status(&mut message, status);
    push_common(&mut message, status, facts);
    message
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
    let status = parse_status(&Fields(&message))?;
    Ok(Received::Status(Box::new(status)))
}

fn push_status(message: &mut Message, status: &Status) {
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
    push_some(
        message,
        "ha_term",
        status.term.as_ref().map(report::term_text),
    );
    // Of most senders it is the same.
    let floor = status
        .floor
        .as_ref()
        .filter(|_| status.floor != status.term);
    push_some(message, "ha_floor", floor.map(report::term_text));
    push_some(message, "ha_flags", report::flags_text(flags));
    push_some(message, "ha_heard", report::heard_text(&status.heard));
    push_report(message, &status.report);
    if let Some(plan) = &status.plan {
        push_plan(message, plan);
    }
    push_some(
        message,
        "ha_request",
        status.request.as_ref().map(plan::request_text),
    );
}

fn push_report(message: &mut Message, report: &Report) {
    message.push_text("ha_report", format!("{:x}", report.version.0));
    push_some(message, "ha_groups", report::groups_text(&report.groups));
    push_some(message, "ha_dead", report::dead_text(&report.dead));
    push_some(message, "ha_blocked", report::blocked_text(&report.blocked));
}

fn push_plan(message: &mut Message, plan: &Plan) {
    message.push_text("ha_plan", format!("{:x}", plan.version.0));
    push_some(message, "ha_members", plan::members_text(&plan.members));
    push_some(message, "ha_assign", plan::assignments_text(&plan.groups));
    push_some(message, "ha_answers", plan::answers_text(&plan.answers));
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

fn push_some(message: &mut Message, name: &str, value: Option<String>) {
    if let Some(value) = value {
        message.push_text(name, value);
    }
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

fn parse_status(fields: &Fields<'_>) -> Result<Status, Reject> {
    if fields.required("ha_v")? != VERSION {
        return Err(Reject::UnknownVersion);
    }
    let flags = report::parse_flags(fields.optional("ha_flags")?)?;
    let term = fields
        .optional("ha_term")?
        .map(report::parse_term)
        .transpose()?;
    let floor = fields
        .optional("ha_floor")?
        .map(report::parse_term)
        .transpose()?;
    Ok(Status {
        cluster: ClusterName::new(fields.required("ha_cluster")?).map_err(|_| Reject::BadField)?,
        node: NodeName::new(fields.required("src")?).map_err(|_| Reject::BadField)?,
        generation: Generation(fields.number("hg")?),
        sequence: Sequence(fields.number("seq")?),
        phase: report::parse_phase(fields.required("st")?)?,
        deadtime: Duration::from_millis(fields.number("dt")?),
        heard: report::parse_heard(fields.optional("ha_heard")?)?,
        floor: floor.or_else(|| term.clone()),
        term,
        electable: flags.electable,
        returning: flags.returning,
        voting: flags.voting,
        report: parse_report(fields, flags)?,
        plan: parse_plan(fields)?,
        request: fields
            .optional("ha_request")?
            .map(plan::parse_request)
            .transpose()?,
        config_hash: fields.number("ha_config")?,
    })
}

fn parse_report(fields: &Fields<'_>, flags: report::Flags) -> Result<Report, Reject> {
    Ok(Report {
        version: PlanVersion(fields.number("ha_report")?),
        groups: report::parse_groups(fields.optional("ha_groups")?)?,
        dead: report::parse_dead(fields.optional("ha_dead")?)?,
        standby: flags.standby,
        leaving: flags.leaving,
        blocked: report::parse_blocked(fields.optional("ha_blocked")?)?,
    })
}

fn parse_plan(fields: &Fields<'_>) -> Result<Option<Plan>, Reject> {
    let Some(version) = fields.optional("ha_plan")? else {
        return Ok(None);
    };
    Ok(Some(Plan {
        version: PlanVersion(parse_number(version)?),
        members: plan::parse_members(fields.optional("ha_members")?)?,
        groups: plan::parse_assignments(fields.optional("ha_assign")?)?,
        answers: plan::parse_answers(fields.optional("ha_answers")?)?,
    }))
}

/// A message whose fields are looked up by what must be there.
struct Fields<'a>(&'a Message);

impl<'a> Fields<'a> {
    fn optional(&self, name: &str) -> Result<Option<&'a str>, Reject> {
        match self.0.field(name) {
            None => Ok(None),
            Some(_) => self.0.text(name).map(Some).ok_or(Reject::BadField),
        }
    }

    fn required(&self, name: &str) -> Result<&'a str, Reject> {
        self.optional(name)?.ok_or(Reject::MissingField)
    }

    fn number(&self, name: &str) -> Result<u64, Reject> {
        parse_number(self.required(name)?)
    }
}

#[cfg(test)]
mod tests;
