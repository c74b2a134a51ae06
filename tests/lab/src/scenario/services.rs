//! A service that dies, and its group that goes on where it is.

use crate::cluster::{Cluster, GROUP, PATIENCE, SERVICE, Seen};
use crate::machine::Machine;
use crate::{cgroup, clock};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::Duration;

/// A service that was killed.
#[derive(Debug)]
pub struct Killed {
    /// Where it ran, and runs again.
    pub node: Machine,
    /// When it was killed.
    pub at: Duration,
}

impl Seen<Killed> {
    /// From the kill until the web server answered for good; zero if no question was lost.
    ///
    /// # Errors
    /// There is no web probe.
    pub fn until_answered(&self) -> Result<Duration> {
        let web = self.http.as_ref().context("no web probe")?;
        let last = web.within(self.span).outages().into_iter().next_back();
        Ok(last.map_or(Duration::ZERO, |span| span.to.saturating_sub(self.value.at)))
    }
}

/// SIGKILL of the service's main process on the owner; the group must be started there again.
///
/// # Errors
/// It is not, or not there.
pub fn kill_main_process(cluster: &Cluster) -> Result<Seen<Killed>> {
    let node = cluster.owner()?;
    let before = node.main_pid(SERVICE)?.context("no process to kill")?;
    let pid = host_pid(&node, before)?;
    cluster.watch(|| {
        let at = clock::now();
        kill_process(pid, Signal::KILL)?;
        // Nothing is asked of the machine meanwhile: it would only cost it time.
        clock::sleep(Duration::from_millis(500));
        clock::wait_for("the service to run again", PATIENCE, || {
            let now = node.main_pid(SERVICE)?;
            let started = node.status()?.group_state(GROUP) == "started";
            Ok((started && now.is_some_and(|pid| pid != before)).then_some(()))
        })?;
        let owner = cluster.owner()?;
        ensure!(owner.name() == node.name(), "it moved to {}", owner.name());
        Ok(Killed { node, at })
    })
}

/// The host's number of a process of the service, so that the kill is not delayed by a program that does it.
fn host_pid(node: &Machine, inside: u32) -> Result<Pid> {
    let inner = inside.to_string();
    let found = cgroup::processes(&node.unit_cgroup(SERVICE))
        .into_iter()
        .find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let mut lines = status.lines();
            let names = lines.find_map(|line| line.strip_prefix("NSpid:"));
            names.and_then(|names| names.split_whitespace().next_back()) == Some(&inner)
        });
    found
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .with_context(|| format!("{SERVICE} has no process {inside} on {}", node.name()))
}
