//! The status as text for people. Pure: the same status and the same time give the same text.
//!
//! Colours are always in the text; who prints it takes them out where they do not belong.

use crate::ctl::status::{GroupStatus, NodeStatus, Status};
use crate::ctl::time;
use owo_colors::{AnsiColors, OwoColorize};
use std::fmt::Write;

/// Renders the whole status; `now_usec` counts from 1970.
pub fn render(status: &Status, now_usec: u64) -> String {
    let mut text = String::new();
    head(&mut text, status);
    text.push('\n');
    groups(&mut text, status, now_usec);
    text.push('\n');
    nodes(&mut text, status, now_usec);
    text
}

/// How something is, as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Busy,
    Bad,
    Off,
}

impl Mood {
    fn color(self) -> AnsiColors {
        match self {
            Self::Good => AnsiColors::Green,
            Self::Busy => AnsiColors::Yellow,
            Self::Bad => AnsiColors::Red,
            Self::Off => AnsiColors::BrightBlack,
        }
    }

    fn dot(self) -> String {
        let sign = match self {
            Self::Good | Self::Busy => "●",
            Self::Bad => "×",
            Self::Off => "○",
        };
        sign.color(self.color()).to_string()
    }

    /// Pads first, since colours have no width.
    fn paint(self, word: &str, width: usize) -> String {
        format!("{word:width$}").color(self.color()).to_string()
    }
}

fn cluster_mood(state: &str) -> Mood {
    match state {
        "stable" => Mood::Good,
        "starting" | "transition" => Mood::Busy,
        _ => Mood::Bad,
    }
}

fn group_mood(state: &str) -> Mood {
    match state {
        "started" => Mood::Good,
        "starting" | "stopping" => Mood::Busy,
        "stopped" => Mood::Off,
        _ => Mood::Bad,
    }
}

fn node_mood(node: &NodeStatus) -> Mood {
    match node.state.as_str() {
        "active" if node.standby => Mood::Off,
        "active" => Mood::Good,
        "init" | "up" | "leaving" => Mood::Busy,
        "dead" => Mood::Bad,
        _ => Mood::Off,
    }
}

/// Lines cannot fail to be added to a String.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => {{ let _ = writeln!($text, $($arguments)*); }};
}

fn head(text: &mut String, status: &Status) {
    let mood = cluster_mood(&status.state);
    let state = mood.paint(&status.state, 0);
    line!(
        text,
        "{} cluster {}: {state}",
        mood.dot(),
        status.cluster.bold()
    );
    let local = format!("{} (generation {})", status.local_node, status.generation);
    line!(
        text,
        "  {:<14}{local}, ha-node {}",
        "This node:",
        status.version
    );
    line!(
        text,
        "  {:<14}{}",
        "Leader:",
        status.leader.as_deref().unwrap_or("none")
    );
    let quorum = if status.quorate {
        "yes".to_owned()
    } else {
        Mood::Bad.paint("no: this node may not run groups now", 0)
    };
    line!(text, "  {:<14}{quorum}", "Quorum:");
    if !status.link_trouble.is_empty() {
        let trouble = format!("not usable: {}", status.link_trouble);
        let trouble = Mood::Bad.paint(&trouble, 0);
        line!(text, "  {:<14}{trouble}", "Links:");
    }
    for (row, protection) in protection(&status.protection).iter().enumerate() {
        line!(
            text,
            "  {:<14}{protection}",
            if row == 0 { "Split brain:" } else { "" }
        );
    }
    if status.maintenance {
        line!(
            text,
            "  {:<14}{}",
            "Maintenance:",
            Mood::Busy.paint("on", 0)
        );
    }
}

/// What keeps two nodes from running the same group, and what does not.
fn protection(word: &str) -> Vec<String> {
    match word {
        "standalone" => vec!["cannot happen, there is one node only".to_owned()],
        "majority" => vec!["prevented by majority: who loses it stops its groups".to_owned()],
        "deadtime" => vec![
            Mood::Busy.paint("NOT PREVENTED: silence for deadtime is taken as death", 0),
            "When the nodes lose sight of each other, both run the groups until".to_owned(),
            "the network is mended. Shared data is not protected; a third node,".to_owned(),
            "which may be a mere witness, would protect it.".to_owned(),
        ],
        other => vec![other.to_owned()],
    }
}

fn groups(text: &mut String, status: &Status, now_usec: u64) {
    line!(text, "{}", "GROUPS".bold());
    if status.groups.is_empty() {
        line!(text, "  none configured");
    }
    let width = widest(status.groups.iter().map(|group| group.name.as_str()));
    for group in &status.groups {
        group_lines(text, group, width, now_usec);
    }
}

fn group_lines(text: &mut String, group: &GroupStatus, width: usize, now_usec: u64) {
    let mood = group_mood(&group.state);
    let place = (group.owner.as_deref())
        .map(|owner| format!(" on {}", owner.bold()))
        .unwrap_or_default();
    let state = mood.paint(&group.state, 0);
    line!(
        text,
        "  {} {:<width$}  {state}{place}{}",
        mood.dot(),
        group.name,
        since(group, now_usec)
    );
    if !group.reason.is_empty() {
        line!(text, "      {:<11}{}", "why:", group.reason);
    }
    line!(
        text,
        "      {:<11}{}",
        "prefers:",
        group.preferred.join(", ")
    );
    let ids = widest(group.resources.iter().map(|resource| resource.id.as_str()));
    for (row, resource) in group.resources.iter().enumerate() {
        let label = if row == 0 { "resources:" } else { "" };
        let state = group_mood(&resource.state).paint(&resource.state, 0);
        line!(text, "      {label:<11}{:<ids$}  {state}", resource.id);
    }
    for (node, count) in group.failures.iter().filter(|(_, count)| **count > 0) {
        let times = if *count == 1 {
            "once".to_owned()
        } else {
            format!("{count} times")
        };
        let failed = Mood::Bad.paint(&format!("{times} on {node}"), 0);
        line!(
            text,
            "      {:<11}{failed}; after repair: hactl clear {}",
            "failed:",
            group.name
        );
    }
    if group.state == "blocked" {
        let advice = "a stop failed; stop it by hand, then: hactl clear";
        line!(text, "      {:<11}{advice} {}", "blocked:", group.name);
    }
}

fn since(group: &GroupStatus, now_usec: u64) -> String {
    if group.since_usec == 0 {
        return String::new();
    }
    let (absolute, relative) = (
        time::absolute(group.since_usec),
        time::relative(group.since_usec, now_usec),
    );
    format!(" since {absolute}; {relative}")
}

/// A row of the table of nodes, before it is padded.
struct Row<'a> {
    node: &'a NodeStatus,
    name: String,
    state: String,
    generation: String,
    heard: String,
}

fn nodes(text: &mut String, status: &Status, now_usec: u64) {
    line!(text, "{}", "NODES".bold());
    let rows: Vec<Row<'_>> = status
        .nodes
        .iter()
        .map(|node| row(node, &status.local_node, now_usec))
        .collect();
    let name = widest(rows.iter().map(|row| row.name.as_str()));
    let state = widest(rows.iter().map(|row| row.state.as_str()));
    let generation = widest(rows.iter().map(|row| row.generation.as_str()));
    let heard = widest(rows.iter().map(|row| row.heard.as_str()));
    for row in rows {
        let mood = node_mood(row.node);
        let links: Vec<String> = row
            .node
            .links
            .iter()
            .map(|(label, it)| link(label, it))
            .collect();
        let line = format!(
            "  {} {:<name$}  {}  {:<generation$}  {:<heard$}  {}",
            mood.dot(),
            row.name,
            mood.paint(&row.state, state),
            row.generation,
            row.heard,
            links.join(", ")
        );
        line!(text, "{}", line.trim_end());
        if !row.node.differs.is_empty() {
            let differs = row.node.differs.join(", ");
            let note = format!("has another configuration in {differs}: make both the same");
            line!(text, "    {}", Mood::Bad.paint(&note, 0));
        }
    }
}

fn row<'a>(node: &'a NodeStatus, local: &str, now_usec: u64) -> Row<'a> {
    let is_local = node.name == local;
    let mut state = node.state.clone();
    if node.standby {
        state.push_str(", standby");
    }
    if node.role == "witness" {
        state.push_str(", witness");
    }
    Row {
        node,
        name: format!(
            "{}{}",
            node.name,
            if is_local { " (this node)" } else { "" }
        ),
        state,
        generation: match node.generation {
            0 => String::new(),
            generation => format!("generation {generation}"),
        },
        heard: match node.last_heard_usec {
            _ if is_local => String::new(),
            None => "never heard".to_owned(),
            Some(usec) => format!("heard {}", time::relative(usec, now_usec)),
        },
    }
}

fn link(label: &str, state: &str) -> String {
    let mood = if state == "up" { Mood::Good } else { Mood::Bad };
    format!("{label} {}", mood.paint(state, 0))
}

fn widest<'a>(words: impl Iterator<Item = &'a str>) -> usize {
    words.map(|word| word.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
