//! Texts of what passes between a node and its leader: the plan, requests and their answers.

use super::refusal::{ACCEPTED, parse_answer, refusal_text};
use super::text::{Parts, list, parse_item, parse_list};
use super::{GROUPS_MAX, NODES_MAX, Reject};
use crate::ids::{Generation, GroupName, NodeName, PlanVersion, RequestId};
use crate::wire::status::{Answer, Assignment, ForwardedRequest, Wish};
use std::collections::BTreeMap;

/// `NODE:VERSION`.
pub(super) fn members_text(members: &BTreeMap<NodeName, PlanVersion>) -> Option<String> {
    list(
        members
            .iter()
            .map(|(node, version)| format!("{node}:{:x}", version.0)),
    )
}

pub(super) fn parse_members(text: Option<&str>) -> Result<BTreeMap<NodeName, PlanVersion>, Reject> {
    parse_list(text, NODES_MAX, |parts| {
        Ok((parts.node()?, PlanVersion(parts.number()?)))
    })
}

/// `GROUP:k:NODE` to keep, `GROUP:r:NODE` to run, `GROUP:p:NODE` to run pinned, `GROUP:n` to stop.
pub(super) fn assignments_text(groups: &BTreeMap<GroupName, Assignment>) -> Option<String> {
    list(groups.iter().map(|(group, assignment)| match assignment {
        Assignment::Keep(node) => format!("{group}:k:{node}"),
        Assignment::Run {
            node,
            pinned: false,
        } => format!("{group}:r:{node}"),
        Assignment::Run { node, pinned: true } => format!("{group}:p:{node}"),
        Assignment::Nobody => format!("{group}:n"),
    }))
}

pub(super) fn parse_assignments(
    text: Option<&str>,
) -> Result<BTreeMap<GroupName, Assignment>, Reject> {
    parse_list(text, GROUPS_MAX, |parts| {
        Ok((parts.group()?, parse_assignment(parts)?))
    })
}

fn parse_assignment(parts: &mut Parts<'_>) -> Result<Assignment, Reject> {
    match parts.word()? {
        "k" => Ok(Assignment::Keep(parts.node()?)),
        "r" => Ok(Assignment::Run {
            node: parts.node()?,
            pinned: false,
        }),
        "p" => Ok(Assignment::Run {
            node: parts.node()?,
            pinned: true,
        }),
        "n" => Ok(Assignment::Nobody),
        _ => Err(Reject::BadField),
    }
}

/// `NODE:GENERATION:ID:ok` or `NODE:GENERATION:ID:REASON[:NAME…]`.
pub(super) fn answers_text(answers: &BTreeMap<NodeName, Answer>) -> Option<String> {
    list(answers.iter().map(|(node, answer)| {
        let outcome = answer
            .refusal
            .as_ref()
            .map_or(ACCEPTED.to_owned(), refusal_text);
        format!(
            "{node}:{:x}:{:x}:{outcome}",
            answer.generation.0, answer.id.0
        )
    }))
}

pub(super) fn parse_answers(text: Option<&str>) -> Result<BTreeMap<NodeName, Answer>, Reject> {
    parse_list(text, NODES_MAX, |parts| {
        let node = parts.node()?;
        let answer = Answer {
            generation: Generation(parts.number()?),
            id: RequestId(parts.number()?),
            refusal: parse_answer(parts)?,
        };
        Ok((node, answer))
    })
}

/// `ID:move:GROUP:NODE` or `ID:clear:GROUP`.
pub(super) fn request_text(request: &ForwardedRequest) -> String {
    match &request.wish {
        Wish::Move { group, node } => format!("{:x}:move:{group}:{node}", request.id.0),
        Wish::Clear { group } => format!("{:x}:clear:{group}", request.id.0),
    }
}

pub(super) fn parse_request(text: &str) -> Result<ForwardedRequest, Reject> {
    parse_item(text, |parts| {
        let id = RequestId(parts.number()?);
        let wish = match parts.word()? {
            "move" => {
                let (group, node) = (parts.group()?, parts.node()?);
                Wish::Move { group, node }
            }
            "clear" => Wish::Clear {
                group: parts.group()?,
            },
            _ => return Err(Reject::BadField),
        };
        Ok(ForwardedRequest { id, wish })
    })
}
