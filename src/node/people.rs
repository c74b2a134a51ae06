//! What people get to see: journal entries, the bus, the status line of the unit.

use crate::config::Config;
use crate::core::Core;
use crate::core::event::Event;
use crate::core::view::{GroupCondition, NodeState, Protection, View};
use crate::dbus::{Bus, ClockOffset, LinkSnapshot, ResourceSnapshot, Snapshot};
use crate::ids::{GroupName, LinkId, NodeName};
use crate::journal::native::EventWriter;
use crate::journal::{Context, describe, diagnostics};
use crate::link::Links;
use crate::node::notify::Notifier;
use crate::node::packets::Reception;
use crate::process;
use crate::resource::ResourceState;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// All ways to people, and what was shown on them last.
pub(super) struct People {
    cluster: crate::ids::ClusterName,
    node: NodeName,
    link_labels: Vec<String>,
    writer: EventWriter,
    pub(super) notifier: Notifier,
    bus: Option<Bus>,
    clock: ClockOffset,
    resources: BTreeMap<GroupName, Vec<ResourceSnapshot>>,
    status_line: String,
    loadavg: String,
    /// Why none of this node's links can be used, if so.
    deafness: Option<String>,
    /// What was shown last, without what changes with every heartbeat.
    last_view: Option<View>,
}

impl People {
    /// Nothing shown yet.
    pub(super) fn new(config: &Config) -> Self {
        let resources = config.groups.iter().map(|group| {
            let stopped = |r: &crate::config::model::Resource| ResourceSnapshot {
                id: r.id.clone(),
                kind: r.kind.as_str(),
                state: ResourceState::Stopped.as_str(),
            };
            (
                group.name.clone(),
                group.resources.iter().map(stopped).collect(),
            )
        });
        Self {
            cluster: config.cluster().clone(),
            node: config.local().clone(),
            link_labels: config
                .links
                .iter()
                .map(crate::config::model::Link::label)
                .collect(),
            writer: EventWriter::new(),
            notifier: Notifier::new(),
            bus: None,
            clock: ClockOffset::new(process::boottime_now(), realtime()),
            resources: resources.collect(),
            status_line: String::new(),
            loadavg: process::loadavg(),
            deafness: None,
            last_view: None,
        }
    }

    /// From now on the bus is shown everything too.
    pub(super) fn serve(&mut self, bus: Bus) {
        self.bus = Some(bus);
    }

    /// What a link is called.
    pub(super) fn link_label(&self, link: LinkId) -> &str {
        self.link_labels
            .get(usize::from(link.0))
            .map_or("?", String::as_str)
    }

    /// The load average for heartbeats, read once a second.
    pub(super) fn loadavg(&self) -> String {
        self.loadavg.clone()
    }

    /// Tells of one event.
    pub(super) fn tell(&mut self, event: &Event) {
        let context = Context {
            cluster: &self.cluster,
            node: &self.node,
            links: &self.link_labels,
            realtime_usec: u64::try_from(realtime().as_micros()).unwrap_or(u64::MAX),
        };
        let record = describe(event, &context);
        self.writer.write(&record);
        if let Some(bus) = &self.bus {
            bus.event(&record);
        }
    }

    /// A resource of this node changed.
    pub(super) fn note_resource(
        &mut self,
        group: &GroupName,
        resource: String,
        state: ResourceState,
    ) {
        let known = self
            .resources
            .get_mut(group)
            .and_then(|all| all.iter_mut().find(|r| r.id == resource));
        if let Some(known) = known {
            known.state = state.as_str();
        }
    }

    /// Why none of this node's links can be used, if so.
    pub(super) fn note_deafness(&mut self, deafness: Option<String>) {
        self.deafness = deafness;
    }

    /// The core's view, with what only the drivers know.
    fn view(&self, core: &Core) -> View {
        let mut view = core.view(process::boottime_now());
        if let Some(reason) = &self.deafness {
            // What runs elsewhere is old news, too.
            let local = view.local_node.clone();
            let groups = view.groups.values_mut();
            let others = groups.filter(|group| group.owner.as_ref() != Some(&local));
            others.for_each(|group| {
                group.reason = format!("this node has no usable link of its own: {reason}");
            });
        }
        view
    }

    /// Whether something has changed since the last time that is worth showing before the next second is over.
    pub(super) fn would_notice(&self, core: &Core) -> bool {
        self.last_view.as_ref() != Some(&without_times(self.view(core)))
    }

    /// Everything that can be seen, as it is now.
    pub(super) fn snapshot(
        &self,
        core: &Core,
        config: &Config,
        links: &Links,
        reception: &Reception,
    ) -> Snapshot {
        let view = self.view(core);
        let counters = links.counters();
        let links = config
            .links
            .iter()
            .zip(&counters)
            .map(|(link, counters)| LinkSnapshot {
                kind: link.kind(),
                interface: link.interface().map(str::to_owned),
                label: link.label(),
                peers: peers_on(&view, counters.link),
                sent: counters.sent,
                received: counters.received,
                rejected: reception.rejected(counters.link),
            });
        Snapshot {
            links: links.collect(),
            view,
            cluster: config.cluster().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: self.clock,
            deafness: self.deafness.clone(),
            resources: self.resources.clone(),
        }
    }

    /// Shows a snapshot, wherever it differs from the last one.
    pub(super) fn show(&mut self, snapshot: Snapshot) {
        self.last_view = Some(without_times(snapshot.view.clone()));
        let mut line = status_line(&snapshot.view);
        if self.deafness.is_some() {
            line.insert_str(0, "no usable link of its own, ");
        }
        if line != self.status_line && self.notifier.status(&line) {
            self.status_line = line;
        }
        if let Some(bus) = &self.bus {
            bus.publish(snapshot);
        }
    }

    /// Writes what journald had no room for; whether something still waits.
    pub(super) fn drain_journal(&mut self) -> bool {
        self.writer.drain();
        let diagnostics_wait = diagnostics::drain();
        self.writer.waits() || diagnostics_wait
    }

    /// Once a second: what has no event of its own.
    pub(super) fn keep_house(&mut self) {
        self.clock = self.clock.refreshed(process::boottime_now(), realtime());
        self.loadavg = process::loadavg();
    }
}

/// A view without the times at which nodes were heard last.
fn without_times(mut view: View) -> View {
    view.nodes
        .values_mut()
        .for_each(|node| node.last_heard = None);
    view
}

fn realtime() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

fn peers_on(view: &View, link: LinkId) -> BTreeMap<NodeName, bool> {
    let peers = view
        .nodes
        .iter()
        .filter(|(name, _)| **name != view.local_node);
    peers
        .map(|(name, node)| {
            (
                name.clone(),
                node.links.get(&link).copied().unwrap_or(false),
            )
        })
        .collect()
}

/// The line that `systemctl status` shows.
fn status_line(view: &View) -> String {
    let here = view
        .groups
        .iter()
        .filter(|(_, g)| g.owner.as_ref() == Some(&view.local_node));
    let running: Vec<&str> = here
        .filter(|(_, g)| g.state == GroupCondition::Started)
        .map(|(name, _)| name.as_str())
        .collect();
    let running = match running.as_slice() {
        [] => "running no group".to_owned(),
        [one] => format!("running group {one}"),
        [first, ..] if running.len() > 4 => {
            format!("running {} groups, {first} and others", running.len())
        }
        several => format!("running groups {}", several.join(", ")),
    };
    if view.protection == Protection::Standalone {
        return format!("Standalone, {running}");
    }
    let up = view.nodes.values().filter(|n| match n.state {
        NodeState::Init | NodeState::Up | NodeState::Active | NodeState::Leaving => true,
        NodeState::Unknown | NodeState::Gone | NodeState::Dead => false,
    });
    let leader = match (&view.term, view.has_leader) {
        (Some(term), true) => format!("leader {}", term.leader),
        (Some(_) | None, _) => "no leader".to_owned(),
    };
    let quorum = if view.quorate { "" } else { "no quorum, " };
    format!(
        "{quorum}{} of {} nodes, {leader}, {running}",
        up.count(),
        view.nodes.len()
    )
}
