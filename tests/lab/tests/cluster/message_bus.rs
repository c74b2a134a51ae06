//! The cluster on D-Bus: read and steered by busctl and by a Python program, and a bus that is restarted.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{GROUP, PATIENCE};
use ha_node_lab::{Cluster, Machine, Options, clock, install};

const NAME: &str = "org.linuxha.Cluster";
const ROOT: &str = "/org/linuxha/Cluster";

/// Reads the cluster by introspection-free calls, moves the group, and waits for the signals of the move.
const CLIENT: &str = r#"
import sys, dbus, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SystemBus()
group, target = sys.argv[1], sys.argv[2]
seen = {"event": False, "owner": False}
loop = GLib.MainLoop()
def check():
    if all(seen.values()):
        loop.quit()
def on_event(usec, id, message, fields):
    assert usec > 0 and id and message, (usec, id, message)
    seen["event"] = True
    check()
def on_change(interface, changed, invalidated, path=None):
    if interface == "org.linuxha.Cluster.Group" and changed.get("Owner") == target:
        seen["owner"] = True
        check()
bus.add_signal_receiver(on_event, "Event", "org.linuxha.Cluster")
bus.add_signal_receiver(on_change, "PropertiesChanged", "org.freedesktop.DBus.Properties",
                        "org.linuxha.Cluster", path_keyword="path")
root = bus.get_object("org.linuxha.Cluster", "/org/linuxha/Cluster")
properties = dbus.Interface(root, "org.freedesktop.DBus.Properties").GetAll("org.linuxha.Cluster")
for name in ("Name", "LocalNode", "State", "Version", "Generation", "Leader", "Quorate",
             "Maintenance", "Nodes", "Groups", "Links"):
    assert name in properties, name
objects = dbus.Interface(root, "org.freedesktop.DBus.ObjectManager").GetManagedObjects()
found = set(interface for interfaces in objects.values() for interface in interfaces)
for name in ("Node", "Group", "Link"):
    assert "org.linuxha.Cluster." + name in found, (name, found)
for path in list(properties["Nodes"]) + list(properties["Groups"]) + list(properties["Links"]):
    assert path in objects, path
manager = dbus.Interface(root, "org.linuxha.Cluster")
try:
    manager.MoveGroup("no such group", target)
    sys.exit("a move of no group was accepted")
except dbus.DBusException as error:
    assert error.get_dbus_name().startswith("org.linuxha.Cluster.Error."), error
manager.MoveGroup(group, target, timeout=30)
GLib.timeout_add_seconds(10, loop.quit)
if not all(seen.values()):
    loop.run()
assert all(seen.values()), seen
print("moved")
"#;

fn property(node: &Machine, path: &str, interface: &str, name: &str) -> Result<String> {
    node.exec(&["busctl", "get-property", NAME, path, interface, name])
}

#[test]
fn busctl_and_python_read_and_steer_the_cluster() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        ensure!(
            property(&owner, ROOT, NAME, "Name")? == "s \"lab\"",
            "the cluster's name"
        );
        let group = format!("{ROOT}/group/{GROUP}");
        let interface = "org.linuxha.Cluster.Group";
        let wanted = format!("s \"{}\"", owner.name());
        ensure!(
            property(&owner, &group, interface, "Owner")? == wanted,
            "the group's owner"
        );
        let tree = owner.exec(&["busctl", "tree", "--list", NAME])?;
        ensure!(
            tree.lines().any(|line| line == group),
            "busctl finds it: {tree}"
        );

        let seen = cluster.watch(|| {
            owner.exec(&[
                "busctl",
                "call",
                NAME,
                ROOT,
                NAME,
                "MoveGroup",
                "ss",
                GROUP,
                other.name(),
            ])?;
            cluster.wait_owner(&owner, &other)?;
            let python = ["python3", "-c", CLIENT, GROUP, owner.name()];
            let output = owner.exec(&python)?;
            ensure!(output == "moved", "{output}");
            cluster.wait_owner(&other, &owner)
        })?;
        seen.ensure_single_owner()?;

        owner.exec(&["busctl", "call", NAME, ROOT, NAME, "Standby", "s", "all"])?;
        cluster.wait_owner(&other, &other)?;
        owner.exec(&["busctl", "call", NAME, ROOT, NAME, "Online"])?;
        let anyone = ["setpriv", "--reuid=65534", "--clear-groups", "busctl"];
        let read: Vec<&str> = anyone
            .iter()
            .copied()
            .chain(["get-property", NAME, ROOT, NAME, "Name"])
            .collect();
        ensure!(owner.attempt(&read)?.success(), "everyone may read");
        let change: Vec<&str> = anyone
            .iter()
            .copied()
            .chain(["call", NAME, ROOT, NAME, "Standby", "s", "all"])
            .collect();
        ensure!(
            !owner.attempt(&change)?.success(),
            "not everyone may change"
        );
        Ok(())
    });
}

#[test]
fn a_restart_of_the_message_bus_does_not_disturb_the_cluster() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let owner = cluster.owner()?;
        let pid = owner.main_pid(install::UNIT)?;
        let seen = cluster.watch(|| {
            for node in &cluster.nodes {
                node.systemctl(&["restart", "dbus.service"])?;
            }
            clock::wait_for("the daemons to be back on the bus", PATIENCE, || {
                for node in &cluster.nodes {
                    node.status()?;
                }
                Ok(Some(()))
            })?;
            clock::sleep(cluster.options.deadtime);
            cluster.wait_formed()
        })?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.owners.absences().is_empty(),
            "the group stayed: {:?}",
            seen.owners
        );
        ensure!(
            owner.main_pid(install::UNIT)? == pid,
            "the daemon was not restarted"
        );
        let other = cluster.other(&owner)?;
        owner.hactl(&["move", GROUP, other.name()])?;
        cluster.wait_owner(&other, &other)
    });
}
