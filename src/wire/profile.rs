//! Texts of what of a node's configuration its votes and promises rest on.

use super::text::{list, parse_item, parse_list};
use super::{NODES_MAX, Reject};
use crate::ids::NodeName;
use crate::wire::status::{Policy, Profile};
use std::collections::BTreeMap;
use std::time::Duration;

/// `POLICY:KEEPALIVE:GROUPS:MARGIN`: `m` or `i`, milliseconds, a digest, milliseconds.
pub(super) fn profile_text(profile: &Profile) -> String {
    let policy = match profile.policy {
        Policy::Majority => 'm',
        Policy::Ignore => 'i',
    };
    let (keepalive, margin) = (
        milliseconds(profile.keepalive),
        milliseconds(profile.stop_margin),
    );
    format!("{policy}:{keepalive:x}:{:x}:{margin:x}", profile.groups)
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `NODE[:w]`, the mark for a witness.
pub(super) fn nodes_text(profile: &Profile) -> Option<String> {
    let members = profile.members.iter();
    list(members.map(|(node, witness)| format!("{node}{}", if *witness { ":w" } else { "" })))
}

pub(super) fn parse_profile(text: &str, nodes: Option<&str>) -> Result<Profile, Reject> {
    let members = parse_nodes(nodes)?;
    parse_item(text, |parts| {
        let policy = match parts.word()? {
            "m" => Policy::Majority,
            "i" => Policy::Ignore,
            _ => return Err(Reject::BadField),
        };
        Ok(Profile {
            policy,
            keepalive: Duration::from_millis(parts.number()?),
            groups: parts.number()?,
            stop_margin: Duration::from_millis(parts.number()?),
            members,
        })
    })
}

fn parse_nodes(text: Option<&str>) -> Result<BTreeMap<NodeName, bool>, Reject> {
    parse_list(text, NODES_MAX, |parts| {
        let node = parts.node()?;
        Ok((node, parts.mark("w")?))
    })
}
