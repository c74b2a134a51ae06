//! The part of a heartbeat that is long and rarely changes: groups, failed stops, profile, plan. And its digest.
//!
//! In a message these are the fields between `ha_state` and `src`, known or not. The digest covers exactly them, as
//! they stand in a packet.

use super::codec::Fields;
use super::message::{Field, Message};
use super::status::{GroupReport, Plan, Profile, Report, Status};
use super::text::{parse_item, parse_number};
use super::{FIELDS_MAX, Reject, blocked, netstring, plan, profile, report};
use crate::ids::{GroupName, MessageId, NodeName, PlanVersion};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Says the digest; what follows it, up to the sender, is what it covers.
const STATE: &str = "ha_state";

/// The field behind the body.
const END: &str = "src";

/// What may stand in a body only.
const NAMES: [&str; 11] = [
    "ha_groups",
    "ha_blocked",
    "ha_cleared",
    "ha_lives",
    "ha_profile",
    "ha_nodes",
    "ha_plan",
    "ha_members",
    "ha_expelled",
    "ha_assign",
    "ha_answers",
];

/// First 64 bits of SHA-256 over a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDigest(u64);

/// The long part of a status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    groups: BTreeMap<GroupName, GroupReport>,
    blocked: BTreeSet<(GroupName, NodeName)>,
    cleared: BTreeSet<(GroupName, NodeName)>,
    lives: BTreeMap<NodeName, MessageId>,
    profile: Profile,
    plan: Option<Plan>,
}

impl Body {
    /// That of a status.
    pub fn of(status: &Status) -> Self {
        let Report {
            groups,
            blocked,
            cleared,
            lives,
            ..
        } = &status.report;
        Self {
            groups: groups.clone(),
            blocked: blocked.clone(),
            cleared: cleared.clone(),
            lives: lives.clone(),
            profile: status.profile.clone(),
            plan: status.plan.clone(),
        }
    }

    /// Whether it is that of a status.
    pub fn is_of(&self, status: &Status) -> bool {
        self.groups == status.report.groups
            && self.blocked == status.report.blocked
            && self.cleared == status.report.cleared
            && self.lives == status.report.lives
            && self.profile == status.profile
            && self.plan == status.plan
    }

    /// Makes it that of a status.
    pub fn put_into(self, status: &mut Status) {
        status.report.groups = self.groups;
        status.report.blocked = self.blocked;
        status.report.cleared = self.cleared;
        status.report.lives = self.lives;
        status.profile = self.profile;
        status.plan = self.plan;
    }
}

/// A body as it is sent.
#[derive(Debug)]
pub(super) struct Encoded {
    fields: Message,
    pub(super) digest: StateDigest,
}

impl Encoded {
    pub(super) fn of(status: &Status) -> Self {
        let mut fields = Message::new();
        let report = &status.report;
        fields.push_some("ha_groups", report::groups_text(&report.groups));
        fields.push_some("ha_blocked", blocked::blocked_text(&report.blocked));
        fields.push_some("ha_cleared", blocked::blocked_text(&report.cleared));
        fields.push_some("ha_lives", report::lives_text(&report.lives));
        fields.push_text("ha_profile", profile::profile_text(&status.profile));
        fields.push_some("ha_nodes", profile::nodes_text(&status.profile));
        if let Some(plan) = &status.plan {
            fields.push_text("ha_plan", format!("{:x}", plan.version.0));
            fields.push_some("ha_members", plan::members_text(&plan.members));
            fields.push_some("ha_assign", plan::assignments_text(&plan.groups));
            fields.push_some("ha_expelled", report::asks_text(&plan.expelled));
            fields.push_some("ha_answers", plan::answers_text(&plan.answers));
        }
        let digest = digest_of(fields.fields());
        Self { fields, digest }
    }

    /// Appends digest and body.
    pub(super) fn push(self, message: &mut Message) {
        message.push_text(STATE, format!("{:x}", self.digest.0));
        for field in self.fields.fields() {
            message.push(field.clone());
        }
    }
}

impl StateDigest {
    /// Appends the digest for a body that is left out.
    pub(super) fn push(self, message: &mut Message) {
        message.push_text(STATE, format!("{:x}:k", self.0));
    }
}

/// The digest that a message says, and its body, if that is not left out.
pub(super) fn parse(message: &Message) -> Result<(StateDigest, Option<Body>), Reject> {
    let text = Fields(message).required(STATE)?;
    let (digest, kept) = parse_item(text, |parts| {
        Ok((StateDigest(parts.number()?), parts.mark("k")?))
    })?;
    let fields = fields_of(message)?;
    if kept {
        return match fields.is_empty() {
            true => Ok((digest, None)),
            false => Err(Reject::BadField),
        };
    }
    if digest_of(fields) != digest {
        return Err(Reject::BadField);
    }
    let mut body = Message::new();
    for field in fields {
        body.push(field.clone());
    }
    Ok((digest, Some(parse_body(&Fields(&body))?)))
}

/// The message with the digest that its body has; what tests and fuzzers change is authentic then.
#[must_use]
pub fn with_its_digest(message: &Message) -> Message {
    let digest = fields_of(message).map(digest_of);
    let mut changed = Message::new();
    for field in message.fields() {
        match digest {
            Ok(digest) if field.name == STATE.as_bytes() => {
                changed.push_text(STATE, format!("{:x}", digest.0));
            }
            Ok(_) | Err(_) => {
                changed.push(field.clone());
            }
        }
    }
    changed
}

/// The fields between digest and sender; nothing of a body may stand elsewhere.
fn fields_of(message: &Message) -> Result<&[Field], Reject> {
    let fields = message.fields();
    let is = |field: &Field, name: &str| field.name == name.as_bytes();
    let state = fields.iter().position(|field| is(field, STATE));
    let start = state.map_or(FIELDS_MAX, |at| at + 1);
    let rest = fields.get(start..).ok_or(Reject::BadField)?;
    let end = rest.iter().position(|field| is(field, END));
    let body = rest.get(..end.ok_or(Reject::BadField)?).unwrap_or_default();
    let count = |fields: &[Field]| {
        let of_body = |field: &&Field| NAMES.iter().any(|name| is(field, name));
        fields.iter().filter(of_body).count()
    };
    match count(fields) == count(body) {
        true => Ok(body),
        false => Err(Reject::BadField),
    }
}

fn digest_of(fields: &[Field]) -> StateDigest {
    let mut packet = Vec::new();
    netstring::push_fields(&mut packet, fields);
    let digest = Sha256::digest(&packet);
    let first = digest.iter().take(8);
    StateDigest(first.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn parse_body(fields: &Fields<'_>) -> Result<Body, Reject> {
    Ok(Body {
        groups: report::parse_groups(fields.optional("ha_groups")?)?,
        blocked: blocked::parse_blocked(fields.optional("ha_blocked")?)?,
        cleared: blocked::parse_blocked(fields.optional("ha_cleared")?)?,
        lives: report::parse_lives(fields.optional("ha_lives")?)?,
        profile: profile::parse_profile(
            fields.required("ha_profile")?,
            fields.optional("ha_nodes")?,
        )?,
        plan: parse_plan(fields)?,
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
        expelled: report::parse_asks(fields.optional("ha_expelled")?)?,
        answers: plan::parse_answers(fields.optional("ha_answers")?)?,
    }))
}
