//! Units of every kind as resources, and units that are not fit to be one.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::PATIENCE;
use ha_node_lab::{Cluster, Machine, Options, clock};

/// Services that are not fit, each in a group of its own that is called the same, and two that are.
const FLAWED: [(&str, &str); 9] = [
    ("enabled", "[Install]\nWantedBy=multi-user.target\n"),
    ("lingering", "KillMode=none\n"),
    ("stubborn", "SendSIGKILL=no\n"),
    ("slow", "TimeoutStopSec=60s\n"),
    ("oneshot", "Type=oneshot\nExecStart=\nExecStart=/bin/true\n"),
    ("socketed", ""),
    ("vendor", ""),
    ("clean", ""),
    ("awaited", "[Install]\nWantedBy=ha-group-awaited.target\n"),
];

/// Makes of them what their names say, and more.
const FLAWS: &str = "
systemctl mask masked.service
printf '[Socket]\\nListenStream=/run/socketed\\n[Install]\\nWantedBy=sockets.target\\n' \
    > /etc/systemd/system/socketed.socket
mkdir -p /usr/lib/systemd/system/multi-user.target.wants
mv /etc/systemd/system/vendor.service /usr/lib/systemd/system/
ln -s ../vendor.service /usr/lib/systemd/system/multi-user.target.wants/
mkdir -p /srv/listed
echo 'tmpfs /srv/listed tmpfs size=1m 0 0' >> /etc/fstab
systemctl daemon-reload
systemctl enable enabled.service awaited.service socketed.socket
";

/// What is said of each group's unit, with words of problem and remedy.
const FINDINGS: [(&str, &str, &str); 10] = [
    (
        "enabled",
        "at boot, on every node",
        "systemctl disable enabled.service",
    ),
    ("masked", "is masked", "systemctl unmask masked.service"),
    (
        "missing",
        "there is no unit \"missing.service\"",
        "install it",
    ),
    (
        "lingering",
        "(KillMode=none)",
        "systemctl edit lingering.service",
    ),
    (
        "stubborn",
        "(SendSIGKILL=no)",
        "systemctl edit stubborn.service",
    ),
    (
        "slow",
        "only after 1m (TimeoutStopSec=)",
        "TimeoutStopSec=15s",
    ),
    ("oneshot", "(Type=oneshot)", "RemainAfterExit=yes"),
    (
        "socketed",
        "by \"socketed.socket\"",
        "systemctl disable --now socketed.socket",
    ),
    (
        "vendor",
        "at boot, by multi-user.target",
        "ln -sf /dev/null",
    ),
    ("listed", "at boot, by its line in /etc/fstab", "add noauto"),
];

/// The commands of the remedies, and what can be done by one line for those that begin an editor.
const REMEDIES: &str = "
systemctl disable enabled.service
systemctl unmask masked.service
systemctl disable --now socketed.socket
mkdir -p /etc/systemd/system/multi-user.target.wants && \
    ln -sf /dev/null /etc/systemd/system/multi-user.target.wants/vendor.service && systemctl daemon-reload
sed -i 's/size=1m/size=1m,noauto/' /etc/fstab
cd /etc/systemd/system
sed -i '/KillMode/d; /SendSIGKILL/d; s/=60s/=15s/; s/=oneshot/=oneshot\\nRemainAfterExit=yes/' \
    lingering.service stubborn.service slow.service oneshot.service
cp clean.service missing.service
cp clean.service masked.service
systemctl daemon-reload
";

fn flawed_groups() -> String {
    let services = FLAWED.iter().map(|(name, _)| *name);
    let services = services.chain(["masked", "missing"]);
    let group = |name: &str, unit: &str, keys: &str| {
        let resource = format!("{{ unit = \"{unit}\", id = \"it\"{keys} }}");
        format!("[[group]]\nname = \"{name}\"\nresources = [{resource}]\n")
    };
    let stop = ", stop_timeout = \"30s\"";
    let groups = services.map(|name| group(name, &format!("{name}.service"), stop));
    let mounted = group("listed", "srv-listed.mount", "");
    groups.chain([mounted]).collect()
}

fn service(settings: &str) -> String {
    format!("[Service]\nTimeoutStopSec=5s\nExecStart=/bin/sleep infinity\n{settings}")
}

/// What `hactl check` warns about.
fn warnings(node: &Machine) -> Result<Vec<String>> {
    let checked = node.attempt(&["hactl", "check"])?;
    ensure!(checked.success(), "warnings are no failure: {checked:?}");
    let warnings = checked.stderr.lines();
    Ok(warnings
        .filter_map(|line| line.strip_prefix("warning: "))
        .map(str::to_owned)
        .collect())
}

/// What the daemon has noted so far: group, resource and words of each.
fn notes(node: &Machine) -> Result<Vec<(String, String, String)>> {
    let mut entries = node.journal("ha-node", None)?;
    entries.retain(|entry| entry.field("HA_EVENT") == "resource-noted");
    let note = |entry: &ha_node_lab::unit::Entry| {
        let field = |name| entry.field(name).to_owned();
        (
            field("HA_GROUP"),
            field("HA_RESOURCE"),
            entry.message.clone(),
        )
    };
    Ok(entries.iter().map(note).collect())
}

#[test]
fn units_that_are_not_fit_are_found_by_check_and_noted_at_start() {
    with_lab(|| {
        let mut options = Options::two().address_only();
        options.nodes = 1;
        options.extra = flawed_groups();
        let cluster = Cluster::prepare(options)?;
        let alpha = cluster.node("alpha")?;
        for (name, settings) in FLAWED {
            let path = format!("/etc/systemd/system/{name}.service");
            alpha.write(&path, &service(settings), 0o644)?;
        }
        alpha.shell(FLAWS)?;
        let found = warnings(&alpha)?;
        for (_, problem, remedy) in FINDINGS {
            let told = found
                .iter()
                .filter(|it| it.contains(problem) && it.contains(remedy));
            ensure!(told.count() == 1, "{problem:?}, {remedy:?}: {found:#?}");
        }
        ensure!(found.len() == FINDINGS.len(), "nothing else: {found:#?}");

        alpha.start_daemon()?;
        clock::wait_for("a note of each finding", PATIENCE, || {
            Ok((notes(&alpha)?.len() >= FINDINGS.len()).then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))?;
        let noted = notes(&alpha)?;
        for (name, problem, remedy) in FINDINGS {
            let told = noted.iter().any(|(group, resource, text)| {
                group == name && resource == "it" && text.contains(problem) && text.contains(remedy)
            });
            ensure!(told, "{name}: {noted:#?}");
        }
        // Another connection is no reason to say it again.
        alpha.systemctl(&["restart", "dbus"])?;
        clock::sleep(PATIENCE / 10);
        let noted = notes(&alpha)?;
        ensure!(noted.len() == FINDINGS.len(), "once each: {noted:#?}");

        alpha.shell(REMEDIES)?;
        let found = warnings(&alpha)?;
        ensure!(found.is_empty(), "the remedies are right: {found:#?}");
        Ok(())
    });
}

/// The group of units of each kind.
const GROUP: &str = "units";
const UNITS: [&str; 5] = [
    "srv-data.mount",
    "app@blue.service",
    "door.socket",
    "tick.timer",
    "things.target",
];
const UNIT_FILES: [(&str, &str); 7] = [
    (
        "srv-data.mount",
        "[Mount]\nWhat=tmpfs\nWhere=/srv/data\nType=tmpfs\n",
    ),
    (
        "app@.service",
        "[Service]\nExecStart=/bin/sh -c 'echo %i > /srv/data/instance; exec sleep infinity'\n",
    ),
    ("door.socket", "[Socket]\nListenStream=/run/door\n"),
    ("door.service", "[Service]\nExecStart=/bin/sleep infinity\n"),
    ("tick.timer", "[Timer]\nOnActiveSec=1h\n"),
    (
        "tick.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    ),
    ("things.target", "[Unit]\nDescription=Things\n"),
];

fn form_units() -> Result<Cluster> {
    let mut options = Options::two().address_only();
    let resources = UNITS.map(|unit| format!("{{ unit = \"{unit}\" }}"));
    options.extra = format!(
        "[[group]]\nname = \"{GROUP}\"\nnodes = [\"alpha\", \"beta\"]\nresources = [{}]\n",
        resources.join(", ")
    );
    let cluster = Cluster::prepare(options)?;
    for node in &cluster.nodes {
        for (name, text) in UNIT_FILES {
            node.write(&format!("/etc/systemd/system/{name}"), text, 0o644)?;
        }
        node.systemctl(&["daemon-reload"])?;
    }
    cluster.start_all()?;
    cluster.wait_formed()?;
    Ok(cluster)
}

/// The units of the group that are active on a machine, by what its systemd says.
fn active(node: &Machine) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for unit in UNITS {
        if node.unit_state(unit)? == "active" {
            found.push(unit);
        }
    }
    Ok(found)
}

/// Waits until all units run on the node that owns the group, and nowhere else; gives the node.
fn wait_whole(cluster: &Cluster) -> Result<Machine> {
    clock::wait_for("all units to run on one node", PATIENCE, || {
        let status = cluster.node("alpha")?.status()?;
        let owner = status.owner(GROUP);
        if status.group_state(GROUP) != "started" {
            return Ok(None);
        }
        for node in &cluster.nodes {
            let wanted = if node.name() == owner { UNITS.len() } else { 0 };
            if active(node)?.len() != wanted {
                return Ok(None);
            }
        }
        cluster.node(&owner).map(Some)
    })
    .map_err(|error| cluster.with_journals(error))
}

#[test]
fn units_of_every_kind_start_and_move_together() {
    with_lab(|| {
        let cluster = form_units()?;
        for target in ["beta", "alpha", "beta"] {
            let before = wait_whole(&cluster)?;
            if before.name() == target {
                continue;
            }
            before.hactl(&["move", GROUP, target])?;
            let now = wait_whole(&cluster)?;
            ensure!(now.name() == target, "it is on {}", now.name());
            let instance = now.shell("cat /srv/data/instance")?;
            ensure!(instance == "blue", "the instance's name: {instance:?}");
        }
        for node in &cluster.nodes {
            let found = warnings(node)?;
            ensure!(found.is_empty(), "nothing is wrong with them: {found:?}");
            let noted = notes(node)?;
            let noted = noted.iter().find(|(group, ..)| group == GROUP);
            ensure!(noted.is_none(), "{noted:?}");
        }
        Ok(())
    });
}

#[test]
fn a_unit_of_any_kind_that_somebody_stops_runs_again() {
    with_lab(|| {
        let cluster = form_units()?;
        for unit in UNITS {
            let owner = wait_whole(&cluster)?;
            let from = clock::now();
            owner.systemctl(&["stop", unit])?;
            let what = format!("{unit} to be missed");
            clock::wait_for(&what, PATIENCE, || {
                let entries = owner.journal("ha-node", None)?;
                let told = entries
                    .iter()
                    .any(|it| it.at >= from && it.message.contains(unit));
                Ok(told.then_some(()))
            })
            .map_err(|error| cluster.with_journals(error))?;
            let now = wait_whole(&cluster)?;
            now.hactl(&["clear", GROUP])?;
            owner.hactl(&["clear", GROUP])?;
        }
        Ok(())
    });
}
