//! Doing to real machines what a script says, and undoing all of it.

use super::conditions::Conditions;
use super::script::{Act, Blow, Brief, Lasting, interface};
use crate::cluster::{ADDRESS, Cluster, GROUP, SERVICE};
use crate::machine::Machine;
use crate::network::Direction;
use crate::{cgroup, clock, install};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write as _;
use std::time::Duration;

/// Where the daemon keeps its state.
const STATE: &str = "/var/lib/ha-node";
/// What fills the disk there.
const FILLER: &str = "/var/lib/ha-node/filler";
/// How long a request to the daemon is waited for; it goes on by itself.
const REQUEST_SECONDS: &str = "2";
/// How long systemd may take to start the daemon when all is healed.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Does something to a machine; the answer says what the machine said against it, if anything.
///
/// # Errors
/// It cannot be done at all.
pub(super) fn act(cluster: &Cluster, node: usize, act: Act) -> Result<Option<String>> {
    let machine = cluster.nodes.get(node).context("no such machine")?;
    match act {
        Act::Begin(lasting) => begin(machine, lasting),
        Act::End(lasting) => end(machine, lasting),
        Act::Do(Brief::KillDaemon) => signal(machine, Signal::KILL).map(|()| None),
        Act::Do(Brief::RestartDaemon) => daemon(machine, "restart"),
        Act::Do(Brief::MoveHere) => ask(machine, &["hactl", "move", GROUP, machine.name()]),
    }
}

/// Does something to the group, on every machine where it is.
///
/// # Errors
/// None of the machine's tools can be run.
pub(super) fn blow(cluster: &Cluster, now: &Conditions, blow: Blow) -> Result<Option<String>> {
    for (node, machine) in cluster.nodes.iter().enumerate() {
        if now.has(node, Lasting::Off) || now.has(node, Lasting::Paused) {
            continue;
        }
        match blow {
            Blow::KillUnit => kill_all(machine, SERVICE, Signal::KILL),
            Blow::DeleteAddress => {
                let address = format!("{ADDRESS}/24");
                // Most machines do not have it.
                machine.attempt(&["ip", "addr", "del", &address, "dev", "eth0"])?;
            }
        }
    }
    Ok(None)
}

/// Ends all conditions; what it did not bring about itself but finds not running is started, as a person would.
///
/// # Errors
/// A machine does not boot, or a daemon does not start.
pub(super) fn heal(cluster: &Cluster, now: &mut Conditions) -> Result<()> {
    let all = now.all();
    let (standbys, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|(_, lasting)| *lasting == Lasting::Standby);
    for (node, lasting) in others {
        act(cluster, node, Act::End(lasting))?;
        now.take_in(node, Act::End(lasting));
    }
    cluster.nodes.iter().try_for_each(wait_daemon)?;
    for (node, lasting) in standbys {
        let end = Act::End(lasting);
        // A daemon that has just been started may not be there to be asked.
        clock::wait_for("the end of a standby", START_LIMIT, || {
            Ok(act(cluster, node, end)?.is_none().then_some(()))
        })?;
        now.take_in(node, end);
    }
    Ok(())
}

fn wait_daemon(machine: &Machine) -> Result<()> {
    clock::wait_for("the daemon to be started", START_LIMIT, || {
        let state = machine.unit_state(install::UNIT)?;
        if state == "failed" || state == "inactive" {
            machine.attempt(&["systemctl", "reset-failed", install::UNIT])?;
            daemon(machine, "start")?;
        }
        Ok((state == "active").then_some(()))
    })
}

fn begin(machine: &Machine, lasting: Lasting) -> Result<Option<String>> {
    match lasting {
        Lasting::DiskFull => fill_disk(machine)?,
        Lasting::Off => machine.power_cut()?,
        Lasting::Paused => machine.pause()?,
        Lasting::Frozen => signal(machine, Signal::STOP)?,
        Lasting::LinkDown(cable) => set_link(machine, cable, "down")?,
        Lasting::Cut(cable) => machine.cut(&interface(cable))?,
        Lasting::Deaf(cable) => machine.block(&interface(cable), Some(Direction::Incoming))?,
        Lasting::Mute(cable) => machine.block(&interface(cable), Some(Direction::Outgoing))?,
        Lasting::Stopped => return daemon(machine, "stop"),
        Lasting::Standby => return ask(machine, &["hactl", "standby"]),
    }
    Ok(None)
}

fn end(machine: &Machine, lasting: Lasting) -> Result<Option<String>> {
    match lasting {
        Lasting::DiskFull => fs::remove_file(machine.path(FILLER))?,
        Lasting::Off => machine.power_on()?,
        Lasting::Paused => machine.resume()?,
        Lasting::Frozen => signal(machine, Signal::CONT)?,
        Lasting::LinkDown(cable) => set_link(machine, cable, "up")?,
        Lasting::Cut(cable) => machine.mend(&interface(cable))?,
        // The switch has one set of rules for each cable.
        Lasting::Deaf(cable) | Lasting::Mute(cable) => machine.block(&interface(cable), None)?,
        Lasting::Stopped => return daemon(machine, "start"),
        Lasting::Standby => return ask(machine, &["hactl", "online"]),
    }
    Ok(None)
}

fn set_link(machine: &Machine, cable: usize, state: &str) -> Result<()> {
    let words = ["ip", "link", "set", &interface(cable), state];
    machine.exec(&words).map(drop)
}

/// Every process of the daemon's unit, its stop commands included.
fn signal(machine: &Machine, signal: Signal) -> Result<()> {
    kill_all(machine, install::UNIT, signal);
    Ok(())
}

/// By the host's numbers, so that no tool of the machine is needed; a process that has just ended needs no signal.
fn kill_all(machine: &Machine, unit: &str, signal: Signal) {
    for pid in cgroup::processes(&machine.unit_cgroup(unit)) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// A job of systemd, not waited for: the next step may fall into it.
fn daemon(machine: &Machine, verb: &str) -> Result<Option<String>> {
    let words = ["systemctl", "--no-block", verb, install::UNIT];
    Ok(complaint(&machine.attempt(&words)?))
}

fn ask(machine: &Machine, words: &[&str]) -> Result<Option<String>> {
    let mut all = vec!["timeout", REQUEST_SECONDS];
    all.extend(words);
    Ok(complaint(&machine.attempt(&all)?))
}

fn complaint(output: &crate::run::Output) -> Option<String> {
    let text = format!("{} {}", output.code, output.stderr.trim());
    (!output.success()).then_some(text)
}

/// Writes until nothing more fits.
fn fill_disk(machine: &Machine) -> Result<()> {
    let path = machine.path(FILLER);
    let mut file = File::create(&path).with_context(|| format!("cannot fill {STATE}"))?;
    let block = [0_u8; 4096];
    while file.write_all(&block).is_ok() {}
    Ok(())
}
