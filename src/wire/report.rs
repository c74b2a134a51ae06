//! Texts of what a node says about itself: whom it heard, its groups, the peers it declared dead.

use super::text::{Parts, list, parse_item, parse_list};
use super::{GROUPS_MAX, NODES_MAX, Reject};
use crate::ids::{Generation, GroupName, MessageId, NodeName, Sequence, Term};
use crate::wire::status::{DeadReport, Fitness, GroupReport, GroupState, Heard, Phase};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Init => "init",
        Phase::Up => "up",
        Phase::Active => "active",
        Phase::Gone => "dead",
    }
}

pub(super) fn parse_phase(text: &str) -> Result<Phase, Reject> {
    match text {
        "init" => Ok(Phase::Init),
        "up" => Ok(Phase::Up),
        "active" => Ok(Phase::Active),
        "dead" => Ok(Phase::Gone),
        _ => Err(Reject::BadField),
    }
}

/// `NUMBER:LEADER:GENERATION`.
pub(super) fn term_text(term: &Term) -> String {
    format!("{:x}:{}:{:x}", term.number, term.leader, term.generation.0)
}

pub(super) fn parse_term(text: &str) -> Result<Term, Reject> {
    parse_item(text, |parts| {
        Ok(Term {
            number: parts.number()?,
            leader: parts.node()?,
            generation: Generation(parts.number()?),
        })
    })
}

/// `NODE:GENERATION:SEQUENCE[:p]`, the mark for a promise.
pub(super) fn heard_text(heard: &BTreeMap<NodeName, Heard>) -> Option<String> {
    list(heard.iter().map(|(node, heard)| {
        let promise = if heard.promise { ":p" } else { "" };
        format!(
            "{node}:{:x}:{:x}{promise}",
            heard.generation.0, heard.sequence.0
        )
    }))
}

pub(super) fn parse_heard(text: Option<&str>) -> Result<BTreeMap<NodeName, Heard>, Reject> {
    parse_list(text, NODES_MAX, |parts| {
        let node = parts.node()?;
        let heard = Heard {
            generation: Generation(parts.number()?),
            sequence: Sequence(parts.number()?),
            promise: parts.mark("p")?,
        };
        Ok((node, heard))
    })
}

/// `GROUP:STATE[:FAILURES[:MARKS]]`, with the marks `d` or `u` for a node that is doubtful or unfit, `p` for a pinned group.
pub(super) fn groups_text(groups: &BTreeMap<GroupName, GroupReport>) -> Option<String> {
    list(groups.iter().map(|(group, report)| {
        let state = state_letter(report.state);
        match (report.failures, marks(report)) {
            (0, "") => format!("{group}:{state}"),
            (failures, "") => format!("{group}:{state}:{failures:x}"),
            (failures, marks) => format!("{group}:{state}:{failures:x}:{marks}"),
        }
    }))
}

pub(super) fn parse_groups(text: Option<&str>) -> Result<BTreeMap<GroupName, GroupReport>, Reject> {
    parse_list(text, GROUPS_MAX, |parts| {
        Ok((parts.group()?, parse_group(parts)?))
    })
}

fn parse_group(parts: &mut Parts<'_>) -> Result<GroupReport, Reject> {
    let state = parse_state(parts.word()?)?;
    let failures = match parts.optional() {
        Some(text) => super::text::parse_number(text)?,
        None => 0,
    };
    let (fitness, pinned) = match parts.optional() {
        None => (Fitness::Fit, false),
        Some("p") => (Fitness::Fit, true),
        Some("d") => (Fitness::Doubtful, false),
        Some("dp") => (Fitness::Doubtful, true),
        Some("u") => (Fitness::Unfit, false),
        Some("up") => (Fitness::Unfit, true),
        Some(_) => return Err(Reject::BadField),
    };
    Ok(GroupReport {
        state,
        failures: u32::try_from(failures).map_err(|_| Reject::BadField)?,
        fitness,
        pinned,
    })
}

fn marks(report: &GroupReport) -> &'static str {
    match (report.fitness, report.pinned) {
        (Fitness::Fit, false) => "",
        (Fitness::Fit, true) => "p",
        (Fitness::Doubtful, false) => "d",
        (Fitness::Doubtful, true) => "dp",
        (Fitness::Unfit, false) => "u",
        (Fitness::Unfit, true) => "up",
    }
}

fn state_letter(state: GroupState) -> char {
    match state {
        GroupState::Stopped => 'x',
        GroupState::Starting => 'u',
        GroupState::Started => 'r',
        GroupState::Stopping => 'd',
        GroupState::Blocked => 'b',
    }
}

fn parse_state(text: &str) -> Result<GroupState, Reject> {
    match text {
        "x" => Ok(GroupState::Stopped),
        "u" => Ok(GroupState::Starting),
        "r" => Ok(GroupState::Started),
        "d" => Ok(GroupState::Stopping),
        "b" => Ok(GroupState::Blocked),
        _ => Err(Reject::BadField),
    }
}

/// `NODE:GENERATION[:h]`, the mark for one that is heard again.
pub(super) fn dead_text(dead: &BTreeMap<NodeName, DeadReport>) -> Option<String> {
    list(dead.iter().map(|(node, dead)| {
        let heard = if dead.heard_again { ":h" } else { "" };
        format!("{node}:{:x}{heard}", dead.generation.0)
    }))
}

pub(super) fn parse_dead(text: Option<&str>) -> Result<BTreeMap<NodeName, DeadReport>, Reject> {
    parse_list(text, NODES_MAX, |parts| {
        let node = parts.node()?;
        let dead = DeadReport {
            generation: Generation(parts.number()?),
            heard_again: parts.mark("h")?,
        };
        Ok((node, dead))
    })
}

/// `NODE`.
pub(super) fn asks_text(asks: &BTreeSet<NodeName>) -> Option<String> {
    list(asks.iter().map(ToString::to_string))
}

pub(super) fn parse_asks(text: Option<&str>) -> Result<BTreeSet<NodeName>, Reject> {
    let asks = parse_list(text, NODES_MAX, |parts| Ok((parts.node()?, ())))?;
    Ok(asks.into_keys().collect())
}

/// `NODE:GENERATION:SEQUENCE`.
pub(super) fn lives_text(lives: &BTreeMap<NodeName, MessageId>) -> Option<String> {
    let lives = lives.iter();
    list(lives.map(|(node, (life, sequence))| format!("{node}:{:x}:{:x}", life.0, sequence.0)))
}

pub(super) fn parse_lives(text: Option<&str>) -> Result<BTreeMap<NodeName, MessageId>, Reject> {
    parse_list(text, NODES_MAX, |parts| {
        let node = parts.node()?;
        let newest = (Generation(parts.number()?), Sequence(parts.number()?));
        Ok((node, newest))
    })
}

/// `REACH[:l]`, the mark for a sender that follows a leader.
pub(super) fn reach_text(reach: u32, led: bool) -> String {
    format!("{reach:x}{}", if led { ":l" } else { "" })
}

pub(super) fn parse_reach(text: &str) -> Result<(u32, bool), Reject> {
    parse_item(text, |parts| {
        let reach = u32::try_from(parts.number()?).map_err(|_| Reject::BadField)?;
        Ok((reach, parts.mark("l")?))
    })
}

/// The flags of a status; each is a word of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags {
    pub(super) voting: bool,
    pub(super) electable: bool,
    pub(super) returning: bool,
    pub(super) standby: bool,
    pub(super) leaving: bool,
}

pub(super) fn flags_text(flags: Flags) -> Option<String> {
    let words = [
        (flags.voting, "voting"),
        (flags.electable, "electable"),
        (flags.returning, "returning"),
        (flags.standby, "standby"),
        (flags.leaving, "leaving"),
    ];
    list(
        words
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, word)| word.to_owned()),
    )
}

pub(super) fn parse_flags(text: Option<&str>) -> Result<Flags, Reject> {
    let mut flags = Flags::default();
    for word in text.into_iter().flat_map(|text| text.split(' ')) {
        let flag = match word {
            "voting" => &mut flags.voting,
            "electable" => &mut flags.electable,
            "returning" => &mut flags.returning,
            "standby" => &mut flags.standby,
            "leaving" => &mut flags.leaving,
            // What a flag means may bind others, so one that is not understood cannot be passed over.
            _ => return Err(Reject::BadField),
        };
        if std::mem::replace(flag, true) {
            return Err(Reject::BadField);
        }
    }
    Ok(flags)
}
