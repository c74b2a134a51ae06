//! What happened when, for people: the machines' own events, what was done to them, and what the client saw,
//! in one order.

use crate::cluster::{Cluster, Seen};
use crate::probe::Report;
use crate::{Span, clock};
use anyhow::Result;
use std::fmt;
use std::time::Duration;

/// A list of what happened, to be printed with milliseconds since its start.
#[derive(Debug, Clone)]
pub struct Timeline {
    start: Duration,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    at: Duration,
    who: String,
    text: String,
}

impl Timeline {
    /// The events of all machines that are on, and all that was seen from outside, while something was done.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn of<T>(cluster: &Cluster, seen: &Seen<T>) -> Result<Self> {
        let mut timeline = Self {
            start: seen.span.from,
            lines: Vec::new(),
        };
        timeline.add_events(cluster, seen.span)?;
        timeline.add_power(cluster, seen.span);
        timeline.add_owners(seen);
        timeline.add_outages("address", &seen.address, seen.span);
        if let Some(http) = &seen.http {
            timeline.add_outages("http", http, seen.span);
            for (at, name) in &http.answered_by {
                timeline.add(*at, "client", format!("the web page is served by {name}"));
            }
        }
        timeline.lines.retain(|line| line.at >= seen.span.from);
        timeline.lines.sort();
        Ok(timeline)
    }

    /// Adds a line.
    pub fn add(&mut self, at: Duration, who: &str, text: String) {
        self.lines.push(Line {
            at,
            who: who.to_owned(),
            text,
        });
        self.lines.sort();
    }

    fn add_events(&mut self, cluster: &Cluster, span: Span) -> Result<()> {
        for node in cluster.nodes.iter().filter(|node| node.is_on()) {
            let entries = node.journal("ha-node", Some(span))?;
            for entry in entries
                .iter()
                .filter(|entry| !entry.field("HA_EVENT").is_empty())
            {
                self.add(entry.at, node.name(), entry.message.clone());
            }
        }
        Ok(())
    }

    fn add_power(&mut self, cluster: &Cluster, span: Span) {
        for node in &cluster.nodes {
            for (at, on) in node.power_changes() {
                let text = if on { "[power on]" } else { "[power off]" };
                if (span.from..span.to).contains(&at) {
                    self.add(at, node.name(), text.to_owned());
                }
            }
        }
    }

    fn add_owners<T>(&mut self, seen: &Seen<T>) {
        for (name, spans) in &seen.owners.owners {
            for span in spans {
                self.add(span.from, name, "[has the address]".to_owned());
                if span.to < seen.owners.observed.to {
                    self.add(span.to, name, "[has the address no more]".to_owned());
                }
            }
        }
    }

    fn add_outages(&mut self, what: &str, report: &Report, span: Span) {
        for outage in report.within(span).outages() {
            let text = format!(
                "{what} does not answer for {:.1} ms",
                clock::ms(outage.length())
            );
            self.add(outage.from, "client", text);
        }
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let ms = clock::ms(line.at.saturating_sub(self.start));
            writeln!(f, "  {ms:>9.1} ms  {:<7} {}", line.who, line.text)?;
        }
        Ok(())
    }
}
