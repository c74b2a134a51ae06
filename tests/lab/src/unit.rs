//! systemd units and the journal of a machine.

use crate::clock;
use crate::machine::Machine;
use crate::{Span, cgroup};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// One journal entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When, on the lab's clock.
    pub at: Duration,
    /// `MESSAGE`.
    pub message: String,
    /// All fields that are text.
    pub fields: BTreeMap<String, String>,
}

impl Entry {
    /// A field, empty if the entry has none of that name.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl Machine {
    /// Runs systemctl inside.
    ///
    /// # Errors
    /// It failed: the error holds what it said.
    pub fn systemctl(&self, words: &[&str]) -> Result<String> {
        let mut all = vec!["systemctl"];
        all.extend(words);
        self.exec(&all)
    }

    /// State of a unit in systemd's word: `active`, `inactive`, `failed` …
    ///
    /// # Errors
    /// The machine is off.
    pub fn unit_state(&self, unit: &str) -> Result<String> {
        let output = self.attempt(&["systemctl", "is-active", unit])?;
        Ok(output.stdout.trim().to_owned())
    }

    /// Whether any process of a unit runs, seen from outside.
    pub fn unit_runs(&self, unit: &str) -> bool {
        cgroup::populated(&self.unit_cgroup(unit))
    }

    /// Main process of a unit by the machine's own number; none if it does not run.
    ///
    /// # Errors
    /// The machine is off.
    pub fn main_pid(&self, unit: &str) -> Result<Option<u32>> {
        let text = self.systemctl(&["show", "--property=MainPID", "--value", unit])?;
        Ok(text.parse().ok().filter(|pid| *pid != 0))
    }

    /// Sends a signal to a process of the machine, by the machine's own number.
    ///
    /// # Errors
    /// No such process.
    pub fn kill(&self, pid: u32, signal: &str) -> Result<()> {
        let signal = format!("-{signal}");
        self.exec(&["kill", &signal, &pid.to_string()]).map(drop)
    }

    /// The journal's entries of one identifier (`SYSLOG_IDENTIFIER`) within a span, oldest first.
    ///
    /// # Errors
    /// The machine is off.
    pub fn journal(&self, identifier: &str, span: Option<Span>) -> Result<Vec<Entry>> {
        let text = self.exec(&["journalctl", "-o", "json", "--no-pager", "-t", identifier])?;
        let mut entries: Vec<Entry> = text
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(parse)
            .collect::<Result<_>>()?;
        entries.retain(|entry| span.is_none_or(|span| (span.from..span.to).contains(&entry.at)));
        Ok(entries)
    }

    /// The journal of a unit as people read it, for messages about a failure.
    pub fn journal_text(&self, unit: &str) -> String {
        let words = [
            "journalctl",
            "-o",
            "short-monotonic",
            "--no-pager",
            "-n",
            "60",
            "-u",
            unit,
        ];
        self.exec(&words).unwrap_or_else(|error| error.to_string())
    }

    /// Starts endless loops, to keep the host's cores busy; they end with [`Self::rest`] or the machine.
    ///
    /// # Errors
    /// The machine is off.
    pub fn be_busy(&self, loops: usize) -> Result<()> {
        for number in 0..loops {
            let unit = format!("--unit=busy-{number}");
            self.exec(&[
                "systemd-run",
                "--quiet",
                &unit,
                "sh",
                "-c",
                "while :; do :; done",
            ])?;
        }
        Ok(())
    }

    /// Ends the endless loops.
    ///
    /// # Errors
    /// The machine is off.
    pub fn rest(&self) -> Result<()> {
        self.systemctl(&["stop", "busy-*"]).map(drop)
    }

    /// Waits until a unit is in a state, 10 s at most.
    ///
    /// # Errors
    /// It does not get there.
    pub fn wait_unit(&self, unit: &str, state: &str) -> Result<()> {
        let what = format!("{unit} to be {state} on {}", self.name());
        clock::wait_for(&what, Duration::from_secs(10), || {
            Ok((self.unit_state(unit)? == state).then_some(()))
        })
    }
}

fn parse(line: &str) -> Result<Entry> {
    let value: Value = serde_json::from_str(line).context("journalctl printed no JSON")?;
    let fields: BTreeMap<String, String> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    let stamp = fields
        .get("__MONOTONIC_TIMESTAMP")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    Ok(Entry {
        at: Duration::from_micros(stamp),
        message: fields.get("MESSAGE").cloned().unwrap_or_default(),
        fields,
    })
}
