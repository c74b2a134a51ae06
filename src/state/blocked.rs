//! How failed stops stand in the file: each node and each group is named once, so that there is room for all of them.

use crate::ids::{GroupName, NodeName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Where the state has them, and those that a person has cleared.
const FIELDS: [&str; 2] = ["blocked", "cleared"];

/// The lowest bit of a mask stands for the first node.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blocked {
    nodes: Vec<NodeName>,
    groups: BTreeMap<GroupName, u64>,
}

/// Group and node, as the core has them.
type Claim = (GroupName, NodeName);

/// Replaces the claims in a state by their short form.
pub(super) fn shorten(state: &mut Value) -> serde_json::Result<()> {
    (FIELDS.iter()).try_for_each(|field| shorten_field(state, field))
}

fn shorten_field(state: &mut Value, field: &str) -> serde_json::Result<()> {
    let Some(field) = state.get_mut(field) else {
        return Ok(());
    };
    let claims: BTreeSet<Claim> = serde_json::from_value(field.take())?;
    let nodes: BTreeSet<&NodeName> = claims.iter().map(|(_, node)| node).collect();
    let nodes: Vec<NodeName> = nodes.into_iter().cloned().collect();
    if nodes.len() > 64 {
        // No cluster has so many; the long form is read as well.
        *field = serde_json::to_value(claims)?;
        return Ok(());
    }
    let mut groups: BTreeMap<GroupName, u64> = BTreeMap::new();
    for (group, node) in claims {
        let bit = nodes.binary_search(&node).map_or(0, |at| 1 << at);
        *groups.entry(group).or_default() |= bit;
    }
    *field = serde_json::to_value(Blocked { nodes, groups })?;
    Ok(())
}

/// Replaces the short form in a state by the claims.
pub(super) fn lengthen(state: &mut Value) -> serde_json::Result<()> {
    (FIELDS.iter()).try_for_each(|field| lengthen_field(state, field))
}

fn lengthen_field(state: &mut Value, field: &str) -> serde_json::Result<()> {
    let Some(field) = state.get_mut(field).filter(|field| field.is_object()) else {
        return Ok(());
    };
    let Blocked { nodes, groups } = serde_json::from_value(field.take())?;
    let mut claims: BTreeSet<Claim> = BTreeSet::new();
    for (group, mask) in groups {
        let named = (nodes.iter().zip(0..64_u32)).filter(|(_, at)| mask >> at & 1 == 1);
        claims.extend(named.map(|(node, _)| (group.clone(), node.clone())));
    }
    *field = serde_json::to_value(claims)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_name_is_stored_once() {
        let long = json!({"blocked": [["db", "gamma"], ["web", "alpha"], ["web", "beta"]], "x": 1});
        let mut state = long.clone();
        shorten(&mut state).unwrap();
        let short = json!({
            "blocked": {"nodes": ["alpha", "beta", "gamma"], "groups": {"db": 4, "web": 3}},
            "x": 1,
        });
        assert_eq!(state, short);
        lengthen(&mut state).unwrap();
        assert_eq!(state, long);
    }

    #[test]
    fn a_state_without_claims_or_in_the_long_form_stays_as_it_is() {
        for state in [json!({}), json!({"blocked": [["db", "gamma"]]})] {
            let mut same = state.clone();
            lengthen(&mut same).unwrap();
            assert_eq!(same, state);
        }
    }

    #[test]
    fn more_nodes_than_a_mask_has_bits_are_kept_in_the_long_form() {
        let claims: Vec<_> = (0..65)
            .map(|at| json!(["web", format!("n{at:02}")]))
            .collect();
        let long = json!({ "blocked": claims });
        let mut state = long.clone();
        shorten(&mut state).unwrap();
        assert_eq!(state, long);
    }
}
