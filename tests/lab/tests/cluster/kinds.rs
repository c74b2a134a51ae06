//! Resources that are neither an address nor a unit, and programs that live and die with the daemon.

use crate::with_lab;
use anyhow::{Context, Result, ensure};
use ha_node_lab::cluster::PATIENCE;
use ha_node_lab::{Cluster, Machine, Options, clock, install};
use std::time::Duration;

/// The group with one resource of each kind.
const GROUP: &str = "kinds";

/// What the script gets as its argument, which no shell and no systemd may change.
const ARGUMENT: &str = "a $HOME ${PATH} %n %% \\\\x41 'q'";

const RESOURCES: &str = r#"
[[group]]
name = "kinds"
nodes = ["alpha", "beta"]
resources = [
  { mount = "/srv/kinds", device = "tmpfs", fstype = "tmpfs", options = "size=1m", on_failure = "failover" },
  { script = "/etc/ha.d/resource.d/tutorial", args = ['ARGUMENT'], id = "tutorial", monitor_interval = "1s", on_failure = "failover" },
  { ocf = "heartbeat:Dummy", params = { state = "/run/dummy.state" }, id = "dummy", monitor_interval = "1s", on_failure = "failover" },
  { ocf = "heartbeat:IPaddr2", params = { ip = "10.77.0.201", cidr_netmask = 24, nic = "eth0" }, id = "agent-ip" },
]
"#;

/// As tutorials show them: it starts something in the background, answers in words and always with 0, and fails where
/// there is nothing to stop.
const SCRIPT: &str = r#"#!/bin/sh
pid=/run/tutorial.pid
case "$2" in
start)
    echo "tutorial is starting"
    printf '%s' "$1" > /var/lib/tutorial.argument
    [ -e $pid ] && exit 1
    sleep 1000000 &
    echo $! > $pid
    ;;
stop)
    echo "tutorial is stopping"
    kill "$(cat $pid)" && rm $pid
    ;;
status)
    if [ -e $pid ] && kill -0 "$(cat $pid)" 2>/dev/null; then
        echo "tutorial is running"
    else
        echo "tutorial is not running"
    fi
    ;;
*)
    echo "usage: $0 NAME start|stop|status"
    exit 1
    ;;
esac
"#;

fn form() -> Result<Cluster> {
    let mut options = Options::two().address_only();
    options.extra = RESOURCES.replace("'ARGUMENT'", &format!("{ARGUMENT:?}"));
    let cluster = Cluster::prepare(options)?;
    for node in &cluster.nodes {
        node.shell("mkdir -p /etc/ha.d/resource.d")?;
        node.write("/etc/ha.d/resource.d/tutorial", SCRIPT, 0o755)?;
    }
    cluster.start_all()?;
    cluster.wait_formed()?;
    Ok(cluster)
}

/// Waits until the group runs here, by what the cluster says.
fn wait_there(cluster: &Cluster, node: &Machine) -> Result<()> {
    let what = format!("{GROUP} to run on {}", node.name());
    clock::wait_for(&what, PATIENCE, || {
        let status = node.status()?;
        let there = status.owner(GROUP) == node.name() && status.group_state(GROUP) == "started";
        Ok(there.then_some(()))
    })
    .map_err(|error| cluster.with_journals(error))
}

/// What of the group is on a machine, by what the machine itself says.
fn present(node: &Machine) -> Result<Vec<&'static str>> {
    let checks = [
        ("mount", "mountpoint -q /srv/kinds"),
        ("script", "kill -0 $(cat /run/tutorial.pid)"),
        ("agent", "test -e /run/dummy.state"),
        (
            "address",
            "ip -o addr show | grep -q '10[.]77[.]0[.]201/24'",
        ),
    ];
    let mut found = Vec::new();
    for (name, check) in checks {
        if node.attempt(&["sh", "-c", check])?.success() {
            found.push(name);
        }
    }
    Ok(found)
}

fn ensure_only_on(cluster: &Cluster, owner: &Machine) -> Result<()> {
    for node in &cluster.nodes {
        let found = present(node)?;
        let wanted = if node.name() == owner.name() { 4 } else { 0 };
        ensure!(
            found.len() == wanted,
            "{} has {found:?} while {} owns {GROUP}",
            node.name(),
            owner.name()
        );
    }
    Ok(())
}

#[test]
fn a_mount_a_script_and_agents_move_together() {
    with_lab(|| {
        let cluster = form()?;
        let (alpha, beta) = (cluster.node("alpha")?, cluster.node("beta")?);
        wait_there(&cluster, &alpha)?;
        ensure_only_on(&cluster, &alpha)?;
        let argument = alpha.read("/var/lib/tutorial.argument")?;
        ensure!(argument == ARGUMENT, "the script was given {argument:?}");
        let written = alpha.journal("tutorial", None)?;
        let said = written
            .iter()
            .any(|entry| entry.message == "tutorial is starting");
        ensure!(said, "the script's words are in the journal under its id");
        ensure!(
            alpha.unit_runs("ha-kinds-tutorial-run.service"),
            "what the script started lives in its own unit"
        );

        let show = [
            "show",
            "--property=TimeoutStartUSec",
            "--value",
            "ha-kinds-dummy-run.service",
        ];
        let advised = alpha.systemctl(&show)?;
        ensure!(
            advised.trim() == "20s",
            "the agent's own time-out, not {advised:?}"
        );

        alpha.hactl(&["move", GROUP, "beta"])?;
        wait_there(&cluster, &beta)?;
        ensure_only_on(&cluster, &beta)?;
        beta.hactl(&["move", GROUP, "alpha"])?;
        wait_there(&cluster, &alpha)?;
        ensure_only_on(&cluster, &alpha)?;
        Ok(())
    });
}

#[test]
fn a_monitor_that_fails_and_a_mount_that_is_lost_move_the_group() {
    with_lab(|| {
        let cluster = form()?;
        let (alpha, beta) = (cluster.node("alpha")?, cluster.node("beta")?);
        wait_there(&cluster, &alpha)?;
        alpha.shell("rm /run/dummy.state")?;
        wait_there(&cluster, &beta)?;
        ensure_only_on(&cluster, &beta)?;
        let told = alpha.journal("ha-node", None)?;
        let told = told
            .iter()
            .any(|e| e.message.contains("dummy") && e.message.contains("monitor"));
        ensure!(told, "the journal names the agent and its monitor");

        alpha.hactl(&["clear", GROUP])?;
        beta.shell("umount /srv/kinds")?;
        wait_there(&cluster, &alpha)?;
        ensure_only_on(&cluster, &alpha)?;

        beta.hactl(&["clear", GROUP])?;
        alpha.shell("kill $(cat /run/tutorial.pid)")?;
        wait_there(&cluster, &beta)?;
        ensure_only_on(&cluster, &beta)
    });
}

#[test]
fn a_dead_daemon_leaves_no_mount_script_or_agent_behind() {
    with_lab(|| {
        let cluster = form()?;
        let (alpha, beta) = (cluster.node("alpha")?, cluster.node("beta")?);
        wait_there(&cluster, &alpha)?;
        alpha.shell(
            "mkdir -p /run/systemd/system/ha-node.service.d
             printf '[Service]\\nRestart=no\\n' > /run/systemd/system/ha-node.service.d/lab.conf
             systemctl daemon-reload",
        )?;
        let pid = alpha.main_pid(install::UNIT)?.context("the daemon runs")?;
        alpha.kill(pid, "KILL")?;
        wait_there(&cluster, &beta)?;
        ensure_only_on(&cluster, &beta)
    });
}

#[test]
fn a_machine_that_shuts_down_stops_its_programs_in_order_and_hands_over() {
    with_lab(|| {
        let cluster = form()?;
        let (alpha, beta) = (cluster.node("alpha")?, cluster.node("beta")?);
        wait_there(&cluster, &alpha)?;
        let from = clock::now();
        alpha.systemctl(&["poweroff"])?;
        wait_there(&cluster, &beta)?;
        let took = clock::now() - from;
        // What is seen of the machine afterwards is on its disk only.
        clock::sleep(Duration::from_secs(2));
        alpha.power_cut()?;
        alpha.power_on()?;
        let words = alpha.journal("tutorial", None)?;
        let stopping = words
            .iter()
            .filter(|e| e.message == "tutorial is stopping")
            .count();
        // Once at the beginning of the daemon's life, once at its end.
        ensure!(stopping >= 2, "it was stopped by its script: {stopping}");
        let said = alpha.journal("ha-node", None)?;
        let trouble = said.iter().find(|e| e.message.contains("did not stop"));
        ensure!(trouble.is_none(), "{trouble:?}");
        ensure!(took < PATIENCE / 2, "handed over, not lost: {took:?}");
        Ok(())
    });
}

#[test]
fn a_script_that_is_on_one_node_only_starts_there() {
    with_lab(|| {
        let cluster = form()?;
        let (alpha, beta) = (cluster.node("alpha")?, cluster.node("beta")?);
        wait_there(&cluster, &alpha)?;
        beta.shell("rm /etc/ha.d/resource.d/tutorial")?;
        let refused = alpha.hactl(&["move", GROUP, "beta"]);
        ensure!(refused.is_err(), "it cannot start there");
        wait_there(&cluster, &alpha)?;
        ensure_only_on(&cluster, &alpha)?;
        let told = beta.journal("ha-node", None)?;
        let told = told
            .iter()
            .any(|e| e.message.contains("could not be executed"));
        ensure!(told, "the journal says what is wrong with the script");
        Ok(())
    });
}

/// Its start takes three seconds, and never ends where a file says so.
const SLOW: &str = r#"#!/bin/sh
case "$1" in
start)
    [ -e /var/lib/hang ] && sleep 1000000
    sleep 3
    touch /run/slow
    ;;
stop) rm -f /run/slow ;;
status) [ -e /run/slow ] || exit 3 ;;
esac
"#;
const SLOW_GROUP: &str = r#"
[[group]]
name = "kinds"
resources = [{ script = "/etc/init.d/slow", id = "slow", start_timeout = "6s" }]
"#;
const SLOW_UNIT: &str = "ha-kinds-slow-run.service";

#[test]
fn a_start_that_hangs_is_ended_and_one_that_loses_the_bus_is_not() {
    with_lab(|| {
        let mut options = Options::two().address_only();
        options.extra = SLOW_GROUP.to_owned();
        let cluster = Cluster::prepare(options)?;
        let (alpha, beta) = (cluster.node("alpha")?, cluster.node("beta")?);
        for node in &cluster.nodes {
            node.write("/etc/init.d/slow", SLOW, 0o755)?;
        }
        alpha.write("/var/lib/hang", "", 0o644)?;
        cluster.start_all()?;
        wait_there(&cluster, &beta)?;
        ensure!(!alpha.unit_runs(SLOW_UNIT), "the start that hung was ended");

        alpha.shell("rm /var/lib/hang")?;
        alpha.hactl(&["clear", GROUP])?;
        let moving = alpha.exec_spawn(&["hactl", "move", GROUP, "alpha"])?;
        clock::wait_for("the start on alpha", PATIENCE, || {
            Ok(alpha.unit_runs(SLOW_UNIT).then_some(()))
        })?;
        alpha.systemctl(&["restart", "dbus"])?;
        wait_there(&cluster, &alpha)?;
        let status = alpha.status()?;
        ensure!(status.owner(GROUP) == "alpha", "it stays");
        alpha.shell("test -e /run/slow")?;
        ensure!(
            !beta.attempt(&["test", "-e", "/run/slow"])?.success(),
            "only here"
        );
        drop(moving.wait_with_output());
        Ok(())
    });
}

const RESPAWN: &str = r#"
[[respawn]]
user = "nobody"
command = ["/usr/local/bin/forever", "$HOME"]
[[respawn]]
user = "root"
command = ["/usr/local/bin/once"]
[[respawn]]
user = "root"
command = ["/usr/local/bin/fast"]
"#;
const FOREVER: &str = "ha-respawn-0-forever.service";

fn lines(node: &Machine, path: &str) -> usize {
    node.read(path).map_or(0, |text| text.lines().count())
}

fn wait_pid(node: &Machine, unit: &str, other_than: Option<u32>) -> Result<u32> {
    let what = format!("{unit} to run on {}", node.name());
    clock::wait_for(&what, PATIENCE, || {
        Ok(node.main_pid(unit)?.filter(|pid| Some(*pid) != other_than))
    })
}

#[test]
fn respawned_programs_live_and_die_with_the_daemon() {
    with_lab(|| {
        let mut options = Options::two().address_only();
        options.nodes = 1;
        options.extra = RESPAWN.to_owned();
        let cluster = Cluster::prepare(options)?;
        let alpha = cluster.node("alpha")?;
        for (name, script) in [
            ("forever", "exec sleep 1000000"),
            ("once", "echo x >> /var/lib/once; exit 100"),
            ("fast", "echo x >> /var/lib/fast; exit 1"),
        ] {
            let path = format!("/usr/local/bin/{name}");
            alpha.write(&path, &format!("#!/bin/sh\n{script}\n"), 0o755)?;
        }
        alpha.start_daemon()?;
        let first = wait_pid(&alpha, FOREVER, None)?;
        let user = alpha.shell(&format!("stat -c %U /proc/{first}"))?;
        ensure!(user.trim() == "nobody", "it runs as {user:?}");
        alpha.kill(first, "KILL")?;
        let second = wait_pid(&alpha, FOREVER, Some(first))?;

        let told = |text: &'static str| {
            let what = format!("the journal to say {text:?}");
            clock::wait_for(&what, Duration::from_secs(40), || {
                let entries = alpha.journal("ha-node", None)?;
                let found = entries.iter().any(|entry| entry.message.contains(text));
                Ok(found.then_some(()))
            })
            .map_err(|error| cluster.with_journals(error))
        };
        told("exit code 100")?;
        told("respawning too fast")?;
        ensure!(
            lines(&alpha, "/var/lib/once") == 1,
            "exit code 100 was the last"
        );
        let starts = lines(&alpha, "/var/lib/fast");
        ensure!(starts == 11, "eleven starts, not {starts}");

        let daemon = alpha.main_pid(install::UNIT)?.context("the daemon runs")?;
        alpha.kill(daemon, "KILL")?;
        wait_pid(&alpha, FOREVER, Some(second))?;
        alpha.systemctl(&["stop", install::UNIT])?;
        ensure!(!alpha.unit_runs(FOREVER), "it died with the daemon");
        let left = alpha.systemctl(&["list-units", "--all", "--plain", "--no-legend", "ha-*"])?;
        ensure!(!left.contains("respawn"), "left behind: {left}");
        Ok(())
    });
}
