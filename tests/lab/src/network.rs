//! Cables and switches: each interface name is a network with a switch of its own, so that redundant links
//! can be cut one by one. All switches of a lab live in one network namespace, each machine in its own.

use crate::run;
use anyhow::{Context, Result, ensure};
use std::fs::File;

/// Which way a cable is broken, as the machine at its end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What the machine sends is lost; it still hears the others.
    Outgoing,
    /// What is sent to the machine is lost; the others still hear it.
    Incoming,
}

/// Longest interface name the kernel takes.
const INTERFACE_NAME_MAX: usize = 15;

/// The switches of one lab.
#[derive(Debug)]
pub struct Network {
    namespace: String,
}

impl Network {
    /// Makes the namespace of the switches.
    ///
    /// # Errors
    /// The kernel or `ip` refuse.
    pub fn new(lab: &str) -> Result<Self> {
        let namespace = format!("{lab}-switch");
        run::run(&["ip", "netns", "add", &namespace])?;
        Ok(Self { namespace })
    }

    /// Namespace of the switches.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Lays a cable from the switch of that name to a namespace, and gives the far end its address.
    ///
    /// # Errors
    /// The name of the port, `MACHINE.INTERFACE`, is too long, or `ip` refuses.
    pub fn connect(
        &self,
        namespace: &str,
        machine: &str,
        interface: &str,
        address: &str,
    ) -> Result<()> {
        let port = port(machine, interface)?;
        let far = |words: &[&str]| {
            let mut all = vec!["ip", "-n", namespace];
            all.extend(words);
            run::run(&all)
        };
        self.switch(interface)?;
        let hardware = hardware_address(machine, interface).map(|byte| format!("{byte:02x}"));
        let hardware = hardware.join(":");
        let cable = format!(
            "link add {port} type veth peer name {interface} address {hardware} netns {namespace}\n\
             link set {port} master {interface} up\n"
        );
        self.ip_batch(&cable)?;
        if !address.is_empty() {
            far(&["addr", "add", address, "brd", "+", "dev", interface])?;
        }
        far(&["link", "set", interface, "up"]).map(drop)
    }

    /// Pulls a machine's cables out for good.
    pub fn disconnect(&self, machine: &str, interface: &str) {
        if let Ok(port) = port(machine, interface) {
            let _ = self.ip(&["link", "del", &port]);
            let _ = self.filter(machine, interface, "");
        }
    }

    /// Unplugs a cable at the switch, or plugs it in again: both ends see the carrier go and come.
    ///
    /// # Errors
    /// No such cable.
    pub fn plug(&self, machine: &str, interface: &str, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.ip(&["link", "set", &port(machine, interface)?, state])
            .map(drop)
    }

    /// Unplugs several cables of a machine in one go.
    ///
    /// # Errors
    /// No such cable.
    pub fn unplug_all(&self, machine: &str, interfaces: &[&str]) -> Result<()> {
        let mut batch = String::new();
        for interface in interfaces {
            batch += &format!("link set {} down\n", port(machine, interface)?);
        }
        self.ip_batch(&batch)
    }

    /// Loses packets in one direction on a cable whose carrier stays: all of them, or none.
    ///
    /// # Errors
    /// No such cable, or a kernel without nftables.
    pub fn block(
        &self,
        machine: &str,
        interface: &str,
        direction: Option<Direction>,
    ) -> Result<()> {
        let port = port(machine, interface)?;
        // What comes in at the port of the switch is what the machine sends.
        let rules = match direction {
            None => String::new(),
            Some(Direction::Outgoing) => chain("ingress", &port, "drop"),
            Some(Direction::Incoming) => chain("egress", &port, "drop"),
        };
        self.filter(machine, interface, &rules)
    }

    /// Loses this share of a machine's outgoing packets at random, 0 to 100 percent.
    ///
    /// # Errors
    /// No such cable, or a kernel without nftables.
    pub fn lose(&self, machine: &str, interface: &str, percent: u32) -> Result<()> {
        ensure!(percent <= 100, "{percent} % of packets cannot be lost");
        let port = port(machine, interface)?;
        let rule = format!("numgen random mod 100 < {percent} drop");
        let rules = match percent {
            0 => String::new(),
            100 => chain("ingress", &port, "drop"),
            _ => chain("ingress", &port, &rule),
        };
        self.filter(machine, interface, &rules)
    }

    /// Replaces all rules for one cable.
    fn filter(&self, machine: &str, interface: &str, chains: &str) -> Result<()> {
        let table = format!("{machine}_{interface}");
        let text = format!(
            "table netdev {table} {{}}\ndelete table netdev {table}\ntable netdev {table} {{\n{chains}\n}}\n"
        );
        run::feed(
            &["ip", "netns", "exec", &self.namespace, "nft", "-f", "-"],
            &text,
        )
        .map(drop)
    }

    fn switch(&self, name: &str) -> Result<()> {
        if self.ip(&["link", "show", name]).is_ok() {
            return Ok(());
        }
        // A real switch of this size learns at once and floods multicast; the spanning tree would cost 30 s.
        let added = self.ip(&[
            "link",
            "add",
            name,
            "type",
            "bridge",
            "forward_delay",
            "0",
            "stp_state",
            "0",
            "mcast_snooping",
            "0",
        ]);
        // Machines boot in parallel: another one may have been first.
        if added.is_err() && self.ip(&["link", "show", name]).is_err() {
            added?;
        }
        self.ip(&["link", "set", name, "up"]).map(drop)
    }

    fn ip_batch(&self, commands: &str) -> Result<()> {
        run::feed(&["ip", "-n", &self.namespace, "-batch", "-"], commands).map(drop)
    }

    fn ip(&self, words: &[&str]) -> Result<String> {
        let mut all = vec!["ip", "-n", self.namespace.as_str()];
        all.extend(words);
        run::run(&all)
    }
}

fn port(machine: &str, interface: &str) -> Result<String> {
    let name = format!("{machine}.{interface}");
    ensure!(
        name.len() <= INTERFACE_NAME_MAX,
        "{name} is too long for an interface of the switch"
    );
    Ok(name)
}

/// The same after every boot, as a real card's: the others may have it in their caches.
pub(crate) fn hardware_address(machine: &str, interface: &str) -> [u8; 6] {
    let hash = machine
        .bytes()
        .chain([b'.'])
        .chain(interface.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    let [a, b, c, d] = hash.to_be_bytes();
    [0x02, 0x4c, a, b, c, d]
}

fn chain(hook: &str, device: &str, rule: &str) -> String {
    format!("chain {hook} {{ type filter hook {hook} device \"{device}\" priority 0; {rule}; }}\n")
}

/// Moves the calling thread into a network namespace; sockets that it opens from now on live there.
///
/// # Errors
/// No such namespace, or not root.
pub fn enter(namespace: &str) -> Result<()> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd;
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| format!("no network namespace {path}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter {path}"))
}
