//! From what happened to what people read. Pure.
//!
//! Texts that Heartbeat had keep its wording, so that log filters made for it go on working.

use crate::core::event::{Event, Section};
use crate::ids::{ClusterName, Generation, GroupName, LinkId, NodeName, Term};
use crate::journal::Record;
use crate::journal::table::{self, Kind};
use crate::wire::status::Phase;
use std::collections::BTreeSet;
use std::time::Duration;

/// What an event's text needs besides the event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Name of the cluster.
    pub cluster: &'a ClusterName,
    /// This node.
    pub node: &'a NodeName,
    /// What people call each link, by its number: `config::model::Link::label`.
    pub links: &'a [String],
    /// Now, in microseconds since 1970.
    pub realtime_usec: u64,
}

/// Makes the record of an event.
pub fn describe(event: &Event, context: &Context<'_>) -> Record {
    let draft = draft(event, context);
    let kind = draft.kind;
    let mut fields = vec![
        ("MESSAGE_ID", kind.message_id.to_owned()),
        ("HA_EVENT", kind.id.to_owned()),
        ("HA_CLUSTER", context.cluster.to_string()),
        ("HA_NODE", context.node.to_string()),
    ];
    fields.extend(draft.fields);
    Record {
        id: kind.id,
        message_id: kind.message_id,
        level: kind.level,
        text: one_line(&draft.text),
        fields,
        usec: context.realtime_usec,
    }
}

/// A record before the fields that all have in common.
struct Draft {
    kind: Kind,
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Draft {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            fields: Vec::new(),
        }
    }

    fn field(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    fn peer(self, peer: &NodeName) -> Self {
        self.field("HA_PEER", peer)
    }

    fn group(self, group: &GroupName) -> Self {
        self.field("HA_GROUP", group)
    }

    fn generation(self, generation: Generation) -> Self {
        self.field("HA_GENERATION", generation)
    }

    fn duration(self, duration: Duration) -> Self {
        self.field("HA_DURATION_USEC", duration.as_micros())
    }
}

/// One arm for each event and nothing else: the texts, side by side.
fn draft(event: &Event, context: &Context<'_>) -> Draft {
    use table as t;
    match event {
        Event::Starting { generation } => Draft::new(
            t::STARTING,
            format!("Starting ha-node, generation {generation}."),
        )
        .generation(*generation),
        Event::LocalStatus { phase } => {
            let text = format!("Local status now set to: '{}'", phase_word(*phase));
            Draft::new(t::LOCAL_STATUS, text)
        }
        Event::SharedDataNotProtected => Draft::new(
            t::SHARED_DATA_NOT_PROTECTED,
            "Shared disks are not protected.",
        ),
        Event::LinkUp { peer, link } => link_draft(t::LINK_UP, peer, *link, "up", context),
        Event::LinkDead { peer, link } => link_draft(t::LINK_DEAD, peer, *link, "dead", context),
        Event::PeerStatus { peer, phase } => {
            let word = phase_word(*phase);
            let text = format!("Status update for node {peer}: status {word}");
            Draft::new(t::NODE_STATUS, text).peer(peer)
        }
        Event::LateHeartbeat {
            peer,
            interval,
            beyond_deadtime,
        } => late_draft(peer, *interval, *beyond_deadtime),
        Event::PeerDead { peer, generation } => {
            let draft = Draft::new(t::NODE_DEAD, format!("node {peer}: is dead")).peer(peer);
            match generation {
                Some(generation) => draft.generation(*generation),
                None => draft,
            }
        }
        Event::PeerRestarted { peer, generation } => Draft::new(
            t::NODE_RESTARTED,
            format!("Heartbeat restart on node {peer}"),
        )
        .peer(peer)
        .generation(*generation),
        Event::PeerReturnedAfterPartition {
            peer,
            generation,
            silence,
        } => {
            let text = format!("Cluster node {peer} returning after partition.");
            Draft::new(t::NODE_RETURNED_AFTER_PARTITION, text)
                .peer(peer)
                .generation(*generation)
                .duration(*silence)
        }
        Event::PeerLeft { peer } => Draft::new(
            t::NODE_LEFT,
            format!("Received shutdown notice from '{peer}'."),
        )
        .peer(peer),
        Event::NotHeardBy { peer } => {
            let text = format!("Node {peer} does not hear this node, which hears it.");
            Draft::new(t::NOT_HEARD, text).peer(peer)
        }
        Event::ConfigDiffers {
            peer,
            sections,
            apart,
        } => differs_draft(peer, sections, *apart),
        Event::ClockStoodStill { peer } => {
            let text = format!(
                "Node {peer}, which had promised not to, has declared this node dead: the clock of this machine stood still. Releasing all groups."
            );
            Draft::new(t::CLOCK_STOOD_STILL, text).peer(peer)
        }
        Event::PeerGivenUp { peer } => {
            let text = format!(
                "Node {peer}: is heard, but out of contact with this node or the leader: its groups are taken over"
            );
            Draft::new(t::NODE_GIVEN_UP, text).peer(peer)
        }
        Event::GenerationStale { peer, remembered } => {
            let text = format!(
                "Node {peer} remembers generation {remembered} of this node, newer than this one: its state was lost or copied."
            );
            Draft::new(t::GENERATION_STALE, text)
                .peer(peer)
                .generation(*remembered)
        }
        Event::Leader { term } => leader_draft(term.as_ref()),
        Event::QuorumGained => Draft::new(t::QUORUM_GAINED, "Quorum gained: groups may run."),
        Event::QuorumLost => Draft::new(
            t::QUORUM_LOST,
            "Quorum lost: too few nodes hear this one to run groups.",
        ),
        Event::LeaseLost => Draft::new(
            t::LEASE_LOST,
            "Lease lost: stopping all groups of this node at once.",
        ),
        Event::StoodStill { pause } => {
            let text = format!("This node stood still for {} ms.", pause.as_millis());
            Draft::new(t::STOOD_STILL, text).duration(*pause)
        }
        Event::TakingOver { peer, group } => {
            let text =
                format!("Resources being acquired from {peer}. Taking over resource group {group}");
            Draft::new(t::TAKING_OVER, text).peer(peer).group(group)
        }
        Event::PeerReturning { peer } => {
            let text =
                format!("Node {peer} restarts its daemon, back in a moment; its groups go on.");
            Draft::new(t::NODE_RETURNING, text).peer(peer)
        }
        Event::RestartStarted => Draft::new(
            t::RESTART_STARTED,
            "Restarting, back in a moment: the groups of this node go on.",
        ),
        Event::GroupAdopted { group } => {
            let text = format!("Group {group}: goes on here, as the daemon has left it.");
            Draft::new(t::GROUP_ADOPTED, text).group(group)
        }
        Event::GroupStarting { group } => {
            Draft::new(t::GROUP_STARTING, format!("Group {group}: starting.")).group(group)
        }
        Event::GroupStarted { group, duration } => {
            let text = format!("Group {group}: started in {} ms.", duration.as_millis());
            Draft::new(t::GROUP_STARTED, text)
                .group(group)
                .duration(*duration)
        }
        Event::GroupStopping { group } => {
            Draft::new(t::GROUP_STOPPING, format!("Group {group}: stopping.")).group(group)
        }
        Event::GroupStopped { group, duration } => {
            let text = format!("Group {group}: stopped in {} ms.", duration.as_millis());
            Draft::new(t::GROUP_STOPPED, text)
                .group(group)
                .duration(*duration)
        }
        Event::GroupFailed {
            group,
            resource,
            reason,
        } => {
            let text = format!("Group {group}: \"{resource}\" failed: {reason}");
            Draft::new(t::GROUP_FAILED, text)
                .group(group)
                .field("HA_RESOURCE", resource)
        }
        Event::ResourceRestarting {
            group,
            resource,
            reason,
            attempt,
            limit,
        } => {
            let text = format!(
                "Group {group}: \"{resource}\" failed, starting it again here ({attempt} of {limit}): {reason}"
            );
            Draft::new(t::RESOURCE_RESTARTING, text)
                .group(group)
                .field("HA_RESOURCE", resource)
        }
        Event::ResourceFailureIgnored {
            group,
            resource,
            reason,
        } => {
            let text = format!(
                "Group {group}: \"{resource}\" failed, and the group goes on without it, as configured: {reason}"
            );
            Draft::new(t::RESOURCE_FAILURE_IGNORED, text)
                .group(group)
                .field("HA_RESOURCE", resource)
        }
        Event::ResourceAppeared { group, resource } => {
            let text = format!(
                "Group {group}: \"{resource}\" was started here by somebody else, though the group does not run here: stopping it."
            );
            Draft::new(t::RESOURCE_APPEARED, text)
                .group(group)
                .field("HA_RESOURCE", resource)
        }
        Event::GroupGivenUp { group } => Draft::new(
            t::GROUP_GIVEN_UP,
            format!("Group {group}: failed here at every trial, and is not tried here again before `hactl clear {group}`."),
        )
        .group(group),
        Event::FailuresExpired { group } => Draft::new(
            t::FAILURES_EXPIRED,
            format!("Group {group}: its failures here are past; it may run here again where no other node can."),
        )
        .group(group),
        Event::GroupBlocked {
            group,
            resource,
            reason,
        } => {
            let text = format!("Group {group}: \"{resource}\" did not stop: {reason}");
            Draft::new(t::GROUP_BLOCKED, text)
                .group(group)
                .field("HA_RESOURCE", resource)
        }
        Event::ResourceNoted {
            group,
            resource,
            text,
        } => Draft::new(
            t::RESOURCE_NOTED,
            format!("Group {group}: \"{resource}\": {text}"),
        )
        .group(group)
        .field("HA_RESOURCE", resource),
        Event::GroupHasNoNode { group } => Draft::new(
            t::GROUP_HAS_NO_NODE,
            format!("Group {group}: no node can run it."),
        )
        .group(group),
        Event::DoubleOwner {
            group,
            kept_by,
            stopped_on,
        } => {
            let text = format!(
                "Both machines own our resources! Group {group} stays on {kept_by} and stops on {stopped_on}."
            );
            let peer = if kept_by == context.node {
                stopped_on
            } else {
                kept_by
            };
            Draft::new(t::DOUBLE_OWNER, text).peer(peer).group(group)
        }
        Event::GroupPlanned {
            group,
            owner,
            reason,
        } => planned_draft(group, owner.as_ref(), reason, context),
        Event::StandbyEntered { node } => about(
            Draft::new(
                t::STANDBY_ENTERED,
                format!("{node} wants to go standby [all]"),
            ),
            node,
            context,
        ),
        Event::StandbyLeft { node } => about(
            Draft::new(t::STANDBY_LEFT, format!("{node} takes part again.")),
            node,
            context,
        ),
        Event::MoveRequested { group, node } => {
            let text = format!("Group {group}: asked to move to {node}.");
            about(
                Draft::new(t::MOVE_REQUESTED, text).group(group),
                node,
                context,
            )
        }
        Event::ShutdownStarted => Draft::new(
            t::SHUTDOWN_STARTED,
            "Heartbeat shutdown in progress. Giving up all HA resources.",
        ),
        Event::ShutdownComplete => Draft::new(
            t::SHUTDOWN_COMPLETE,
            format!("{} Heartbeat shutdown complete.", context.node),
        ),
    }
}

fn link_draft(
    kind: Kind,
    peer: &NodeName,
    link: LinkId,
    word: &str,
    context: &Context<'_>,
) -> Draft {
    let label = (context.links.get(usize::from(link.0)).cloned())
        .unwrap_or_else(|| format!("link {}", link.0));
    Draft::new(kind, format!("Link {peer}:{label} {word}."))
        .peer(peer)
        .field("HA_LINK", label)
}

fn late_draft(peer: &NodeName, interval: Duration, beyond_deadtime: bool) -> Draft {
    let (kind, end) = if beyond_deadtime {
        (table::LATE_HEARTBEAT_BEYOND_DEADTIME, " (> deadtime)")
    } else {
        (table::LATE_HEARTBEAT, "")
    };
    let millis = interval.as_millis();
    Draft::new(
        kind,
        format!("Late heartbeat: Node {peer}: interval {millis} ms{end}"),
    )
    .peer(peer)
    .duration(interval)
}

fn differs_draft(peer: &NodeName, sections: &BTreeSet<Section>, apart: bool) -> Draft {
    let named: Vec<&str> = sections.iter().map(|section| section.as_str()).collect();
    let text = match (named.is_empty(), apart) {
        (true, _) => format!("Node {peer} has the same configuration as this node again."),
        (false, false) => format!(
            "Node {peer} has another configuration in {}: make both the same.",
            named.join(", ")
        ),
        (false, true) => format!(
            "Node {peer} has another configuration in {}, so that neither counts on the other: make both the same.",
            named.join(", ")
        ),
    };
    let kind = match named.is_empty() {
        true => table::CONFIG_AGREES,
        false => table::CONFIG_DIFFERS,
    };
    Draft::new(kind, text).peer(peer)
}

fn leader_draft(term: Option<&Term>) -> Draft {
    match term {
        Some(term) => {
            let text = format!("Leader is {} now, term {}.", term.leader, term.number);
            Draft::new(table::LEADER_ELECTED, text).peer(&term.leader)
        }
        None => Draft::new(table::LEADER_LOST, "There is no leader now."),
    }
}

fn planned_draft(
    group: &GroupName,
    owner: Option<&NodeName>,
    reason: &str,
    context: &Context<'_>,
) -> Draft {
    let place = owner.map_or_else(|| "nowhere".to_owned(), |node| format!("on {node}"));
    let text = format!("Group {group}: shall run {place}: {reason}");
    let draft = Draft::new(table::GROUP_PLANNED, text).group(group);
    match owner {
        Some(node) => about(draft, node, context),
        None => draft,
    }
}

/// Names another node than this one as the peer.
fn about(draft: Draft, node: &NodeName, context: &Context<'_>) -> Draft {
    if node == context.node {
        draft
    } else {
        draft.peer(node)
    }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Init => "init",
        Phase::Up => "up",
        Phase::Active => "active",
        Phase::Gone => "gone",
    }
}

/// The record that tells of others that journald did not take.
pub(crate) fn describe_lost(lost: u64, identity: &[(&'static str, String)], usec: u64) -> Record {
    let kind = table::EVENTS_LOST;
    let mut fields = vec![
        ("MESSAGE_ID", kind.message_id.to_owned()),
        ("HA_EVENT", kind.id.to_owned()),
    ];
    fields.extend(identity.iter().cloned());
    let text = format!("{lost} events could not be written to the journal, it did not take them.");
    Record {
        id: kind.id,
        message_id: kind.message_id,
        level: kind.level,
        text,
        fields,
        usec,
    }
}

/// Longest text of an event in bytes; what drivers say is cut there.
const TEXT_LENGTH_MAX: usize = 1024;

/// Foreign texts must not fake further entries, nor fill the journal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(TEXT_LENGTH_MAX));
    for character in text.chars() {
        if line.len() + character.len_utf8() > TEXT_LENGTH_MAX {
            line.push('…');
            break;
        }
        line.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    line
}

#[cfg(test)]
mod tests;
