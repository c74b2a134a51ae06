//! Text of the failed stops: each node and each group is named once, so that all groups on all nodes fit in a message.

use super::text::{Parts, list, parse_list};
use super::{GROUPS_MAX, NODES_MAX, Reject};
use crate::ids::{GroupName, NodeName};
use std::collections::{BTreeMap, BTreeSet};

/// `NODE[:NODE…]`, then `GROUP:MASK` for each group; the lowest bit of a mask stands for the first node.
pub(super) fn blocked_text(blocked: &BTreeSet<(GroupName, NodeName)>) -> Option<String> {
    let nodes: BTreeSet<&NodeName> = blocked.iter().map(|(_, node)| node).collect();
    let bits: BTreeMap<&NodeName, u64> = (0..)
        // A mask without room for a node refuses the message at the receiver, and is never read as another one.
        .map(|at| 1_u64.checked_shl(at).unwrap_or(0))
        .zip(nodes)
        .map(|(bit, node)| (node, bit))
        .collect();
    let mut masks: BTreeMap<&GroupName, u64> = BTreeMap::new();
    for (group, node) in blocked {
        *masks.entry(group).or_default() |= bits.get(node).copied().unwrap_or(0);
    }
    let names: Vec<&str> = bits.keys().map(|node| node.as_str()).collect();
    let groups = masks
        .iter()
        .map(|(group, mask)| format!("{group}:{mask:x}"));
    list(
        std::iter::once(names.join(":"))
            .filter(|names| !names.is_empty())
            .chain(groups),
    )
}

pub(super) fn parse_blocked(text: Option<&str>) -> Result<BTreeSet<(GroupName, NodeName)>, Reject> {
    let Some(text) = text else {
        return Ok(BTreeSet::new());
    };
    let (names, masks) = text.split_once(' ').ok_or(Reject::BadField)?;
    let nodes = parse_nodes(names)?;
    let masks = parse_list(Some(masks), GROUPS_MAX, |parts| {
        Ok((parts.group()?, parts.number()?))
    })?;
    let mut blocked = BTreeSet::new();
    for (group, mask) in masks {
        if mask == 0 || mask >> nodes.len() != 0 {
            return Err(Reject::BadField);
        }
        let named = (nodes.iter().enumerate()).filter(|(at, _)| mask >> at & 1 == 1);
        blocked.extend(named.map(|(_, node)| (group.clone(), node.clone())));
    }
    Ok(blocked)
}

fn parse_nodes(names: &str) -> Result<Vec<NodeName>, Reject> {
    let mut parts = Parts::new(names);
    let mut nodes = Vec::new();
    while let Some(name) = parts.optional() {
        let node = NodeName::new(name).map_err(|_| Reject::BadField)?;
        if nodes.len() == NODES_MAX || nodes.contains(&node) {
            return Err(Reject::BadField);
        }
        nodes.push(node);
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(pairs: &[(&str, &str)]) -> BTreeSet<(GroupName, NodeName)> {
        let claim = |(group, node): &(&str, &str)| {
            (GroupName::new(group).unwrap(), NodeName::new(node).unwrap())
        };
        pairs.iter().map(claim).collect()
    }

    #[test]
    fn each_name_is_said_once() {
        let all = claims(&[
            ("web", "beta"),
            ("web", "alpha"),
            ("mail", "beta"),
            ("db", "gamma"),
        ]);
        let text = blocked_text(&all);
        assert_eq!(text.as_deref(), Some("alpha:beta:gamma db:4 mail:2 web:3"));
        assert_eq!(parse_blocked(text.as_deref()), Ok(all));
        assert_eq!(blocked_text(&BTreeSet::new()), None);
        assert_eq!(parse_blocked(None), Ok(BTreeSet::new()));
    }

    #[test]
    fn what_names_no_node_or_one_that_is_not_there_is_refused() {
        for bad in [
            "",
            "alpha",
            "alpha ",
            " web:1",
            "alpha web:0",
            "alpha web:2",
            "alpha web",
            "alpha web:1:1",
            "alpha web:1 web:1",
            "alpha:alpha web:1",
            "alpha: web:1",
            "al/pha web:1",
        ] {
            assert_eq!(parse_blocked(Some(bad)), Err(Reject::BadField), "{bad:?}");
        }
    }

    #[test]
    fn as_many_nodes_as_there_can_be() {
        let names = |count: usize| (0..count).map(|i| format!("n{i:02}")).collect::<Vec<_>>();
        let all: BTreeSet<_> = names(NODES_MAX)
            .iter()
            .map(|node| (GroupName::new("web").unwrap(), NodeName::new(node).unwrap()))
            .collect();
        assert_eq!(parse_blocked(blocked_text(&all).as_deref()), Ok(all));
        let more = format!("{} web:1", names(NODES_MAX + 1).join(":"));
        assert_eq!(parse_blocked(Some(&more)), Err(Reject::BadField));
    }
}
