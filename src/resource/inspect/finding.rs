//! What is wrong with a unit that the cluster shall start and stop, and what to do about it.
//!
//! Pure: facts in, findings out. What is not certain is no finding.

use super::facts::{Bond, Control, FileState, KindFacts, Limit, Load, Scope, UnitFacts};
use crate::config::show_duration;
use std::borrow::Cow;
use std::time::Duration;

/// Targets that every boot reaches, or that are reached in every boot that anybody means by that.
const BOOT_TARGETS: [&str; 14] = [
    "basic.target",
    "cryptsetup.target",
    "default.target",
    "getty.target",
    "graphical.target",
    "local-fs.target",
    "multi-user.target",
    "paths.target",
    "remote-fs.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "timers.target",
];

/// How the names of the cluster's own targets begin: to be enabled for one of them is as it should be.
const GROUP_TARGET: &str = "ha-group-";

/// One thing that is wrong with a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There is none.
    Missing,
    /// Nobody can start it.
    Masked(Scope),
    /// systemd cannot use its file, for this reason.
    Broken(String),
    /// Boot starts it, too.
    AtBoot(AtBoot),
    /// It may not be started by a job.
    NotStartable(Control),
    /// It may not be stopped by a job.
    NotStoppable(Control),
    /// A stop ends no process.
    KillsNothing,
    /// A stop does not end what ignores SIGTERM.
    NeverKills,
    /// systemd is still stopping it when the cluster gives up.
    StopsTooLate {
        /// Section and key of the limit.
        setting: (&'static str, &'static str),
        /// When systemd uses force; never if none.
        after: Option<Duration>,
        /// When the cluster gives up.
        allowed: Duration,
    },
    /// It is known to need longer for its stop than an emergency leaves it.
    CutShort {
        /// Section and key of the limit.
        key: &'static str,
        /// What it asks of systemd; forever if none.
        asks: Option<Duration>,
        /// When it is killed, after the end of the lease.
        margin: Duration,
    },
    /// It is over as soon as its program is.
    EndsAtOnce,
    /// A socket, timer, path or automount starts it, which is not the cluster's.
    Triggered {
        /// Which.
        by: String,
        /// What to do about that.
        remedy: Untrigger,
    },
}

/// Why boot starts a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtBoot {
    /// It is enabled.
    Enabled(Scope),
    /// It stands in /etc/fstab, without `noauto`.
    Fstab,
    /// A target that boot reaches starts it, though it is not enabled.
    PulledIn {
        /// The target.
        target: String,
        /// By what.
        bond: Bond,
    },
}

/// How to keep a unit from being started by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untrigger {
    /// The unit itself starts the other one: only the cluster can keep them together.
    Own,
    /// Boot does not start the other one, which runs now.
    Stop,
    /// Boot starts the other one.
    NotAtBoot(AtBoot),
}

/// Everything that is wrong with a unit. `triggers` are those of its triggers that the cluster does not manage.
pub fn judge(
    unit: &UnitFacts,
    kind: &KindFacts,
    triggers: &[UnitFacts],
    stop_timeout: Duration,
) -> Vec<Finding> {
    match (&unit.load, unit.file) {
        (Load::Missing, _) => return vec![Finding::Missing],
        (Load::Masked | Load::Loaded, FileState::Masked(scope)) => {
            return vec![Finding::Masked(scope)];
        }
        (Load::Masked, _) => return vec![Finding::Masked(Scope::Persistent)],
        (Load::Broken(reason), _) => return vec![Finding::Broken(reason.clone())],
        (Load::Loaded, _) => {}
    }
    let mut found: Vec<Finding> = at_boot(unit).map(Finding::AtBoot).into_iter().collect();
    found.extend(controls(unit));
    found.extend(kind_findings(kind, stop_timeout));
    found.extend(triggers.iter().filter_map(|trigger| {
        let remedy = untrigger(unit, trigger)?;
        let by = trigger.id.clone();
        Some(Finding::Triggered { by, remedy })
    }));
    found
}

/// Why boot starts a unit, if it does.
fn at_boot(unit: &UnitFacts) -> Option<AtBoot> {
    let pulls = &unit.pulled_in_by;
    let puller = pulls
        .iter()
        .find(|it| BOOT_TARGETS.contains(&it.name.as_str()));
    match (unit.file, puller) {
        (FileState::Enabled(scope), Some(_)) => Some(AtBoot::Enabled(scope)),
        (FileState::Enabled(scope), None) => {
            wants_more_than_cluster(unit).then_some(AtBoot::Enabled(scope))
        }
        (_, Some(_)) if unit.source == "/etc/fstab" => Some(AtBoot::Fstab),
        // systemctl knows how to disable an init script, and removes links of any name.
        (_, Some(_)) if unit.source.starts_with("/etc/init.d/") => {
            Some(AtBoot::Enabled(Scope::Persistent))
        }
        (FileState::LinkedElsewhere, Some(_)) => Some(AtBoot::Enabled(Scope::Persistent)),
        (FileState::Other | FileState::Masked(_), Some(puller)) => Some(AtBoot::PulledIn {
            target: puller.name.clone(),
            bond: puller.bond,
        }),
        (FileState::LinkedElsewhere | FileState::Other | FileState::Masked(_), None) => None,
    }
}

/// Whether a unit is enabled for anything but the cluster's own targets, which may lead to the boot.
fn wants_more_than_cluster(unit: &UnitFacts) -> bool {
    let is_ours = |name: &str| name.starts_with(GROUP_TARGET);
    match &unit.enabled_for {
        Some(owners) => !owners.iter().all(|owner| is_ours(owner)),
        // What links to it may not be loaded.
        None => !unit.pulled_in_by.iter().any(|it| is_ours(&it.name)),
    }
}

fn controls(unit: &UnitFacts) -> impl Iterator<Item = Finding> {
    let start = (unit.start != Control::Allowed).then_some(Finding::NotStartable(unit.start));
    let stop = (unit.stop != Control::Allowed).then_some(Finding::NotStoppable(unit.stop));
    start.into_iter().chain(stop)
}

fn kind_findings(kind: &KindFacts, stop_timeout: Duration) -> Vec<Finding> {
    match *kind {
        KindFacts::Service {
            ends_at_once,
            kills_nothing,
            never_kills,
            stop_limit,
        } => {
            let setting = ("Service", "TimeoutStopSec");
            // Where no signal is sent, it does not matter which would be the last.
            let never_kills = never_kills && !kills_nothing;
            let late = stops_too_late(setting, stop_limit, stop_timeout);
            [
                ends_at_once.then_some(Finding::EndsAtOnce),
                kills_nothing.then_some(Finding::KillsNothing),
                never_kills.then_some(Finding::NeverKills),
                late,
            ]
            .into_iter()
            .flatten()
            .collect()
        }
        KindFacts::FileSystem {
            section,
            stop_limit,
        } => stops_too_late((section, "TimeoutSec"), stop_limit, stop_timeout)
            .into_iter()
            .collect(),
        KindFacts::Plain => Vec::new(),
    }
}

fn stops_too_late(
    setting: (&'static str, &'static str),
    limit: Limit,
    allowed: Duration,
) -> Option<Finding> {
    let after = match limit {
        Limit::Unknown => return None,
        Limit::Never => None,
        // Force at the very moment of giving up is too late, as well.
        Limit::After(after) if after < allowed => return None,
        Limit::After(after) => Some(after),
    };
    Some(Finding::StopsTooLate {
        setting,
        after,
        allowed,
    })
}

/// Whether a unit is known to need longer for its stop than its group's margin. What asks for more time than systemd
/// leaves to all units does: a database that writes itself down, a machine that shuts down. What says nothing may end at
/// once or not, and is not told.
pub fn cut_short(kind: &KindFacts, default: Limit, margin: Duration) -> Option<Finding> {
    let (key, limit) = match *kind {
        KindFacts::Service { stop_limit, .. } => ("TimeoutStopSec", stop_limit),
        // Nothing of a file system is killed.
        KindFacts::FileSystem { .. } | KindFacts::Plain => return None,
    };
    let asks = match (limit, default) {
        (Limit::Unknown, _) | (_, Limit::Unknown | Limit::Never) => return None,
        (Limit::Never, Limit::After(_)) => None,
        (Limit::After(asks), Limit::After(default)) if asks > default.max(margin) => Some(asks),
        (Limit::After(_), Limit::After(_)) => return None,
    };
    Some(Finding::CutShort { key, asks, margin })
}

/// What to do about a trigger that may start the unit; none if it will not.
fn untrigger(unit: &UnitFacts, trigger: &UnitFacts) -> Option<Untrigger> {
    let at_boot = at_boot(trigger);
    // One that stops with the unit is up because the unit is.
    let stays = trigger.is_up && !unit.stops_along.contains(&trigger.id);
    if at_boot.is_none() && !stays {
        None
    } else if unit.needs.contains(&trigger.id) {
        Some(Untrigger::Own)
    } else {
        Some(at_boot.map_or(Untrigger::Stop, Untrigger::NotAtBoot))
    }
}

impl Finding {
    /// Whether others than the cluster start the unit.
    pub fn is_about_others(&self) -> bool {
        match self {
            Self::AtBoot(_) | Self::Triggered { .. } => true,
            Self::Missing
            | Self::Masked(_)
            | Self::Broken(_)
            | Self::NotStartable(_)
            | Self::NotStoppable(_)
            | Self::KillsNothing
            | Self::NeverKills
            | Self::StopsTooLate { .. }
            | Self::CutShort { .. }
            | Self::EndsAtOnce => false,
        }
    }

    /// What is wrong and what to do, of the unit that is configured as `name` in `group` and is `id` to systemd.
    pub fn text(&self, name: &str, id: &str, group: &str) -> String {
        let word = shell_word(id);
        match self {
            Self::Missing => format!(
                "there is no unit \"{name}\" on this machine: install it, or correct its name in the configuration"
            ),
            Self::Masked(scope) => {
                let option = option(*scope);
                format!(
                    "\"{name}\" is masked, so it cannot be started: systemctl unmask {option}{word}"
                )
            }
            Self::Broken(reason) => format!(
                "\"{name}\" cannot be loaded ({}): systemd-analyze verify {word} says more; after the correction \
                 systemctl daemon-reload",
                reason.trim_end_matches('.')
            ),
            Self::AtBoot(how) => {
                let by = how.by();
                format!("\"{name}\" is also started at boot{by}: {}", how.remedy(id))
            }
            Self::NotStartable(control) => control_text(name, id, *control, "start", "Start"),
            Self::NotStoppable(control) => control_text(name, id, *control, "stop", "Stop"),
            Self::KillsNothing => {
                let remedy = edit(id, "Service", "KillMode=control-group");
                format!("processes of \"{name}\" outlive its stop (KillMode=none): {remedy}")
            }
            Self::NeverKills => {
                let remedy = edit(id, "Service", "SendSIGKILL=yes");
                format!(
                    "processes of \"{name}\" that ignore SIGTERM outlive its stop (SendSIGKILL=no): {remedy}"
                )
            }
            Self::StopsTooLate {
                setting,
                after,
                allowed,
            } => too_late_text(name, id, *setting, *after, *allowed),
            Self::CutShort { key, asks, margin } => {
                cut_short_text(name, group, key, *asks, *margin)
            }
            Self::EndsAtOnce => {
                let remedy = edit(id, "Service", "RemainAfterExit=yes");
                format!(
                    "\"{name}\" counts as ended as soon as its program is done (Type=oneshot), so its start fails: \
                     {remedy}"
                )
            }
            Self::Triggered { by, remedy } => {
                let remedy = remedy.text(name, by);
                format!(
                    "\"{name}\" is also started by \"{by}\", behind the cluster's back: {remedy}"
                )
            }
        }
    }
}

impl AtBoot {
    fn by(&self) -> String {
        match self {
            Self::Enabled(_) => ", on every node".to_owned(),
            Self::Fstab => ", by its line in /etc/fstab".to_owned(),
            Self::PulledIn { target, .. } => format!(", by {target}"),
        }
    }

    fn remedy(&self, id: &str) -> String {
        let word = shell_word(id);
        match self {
            Self::Enabled(scope) => format!("systemctl disable {}{word}", option(*scope)),
            Self::Fstab => {
                "add noauto to its options there, then systemctl daemon-reload".to_owned()
            }
            Self::PulledIn { target, bond } => {
                // An empty link of the unit's name takes precedence over the one that pulls it in.
                let directory = format!("/etc/systemd/system/{target}.{}", bond.suffix());
                format!(
                    "mkdir -p {directory} && ln -sf /dev/null {directory}/{word} && systemctl daemon-reload"
                )
            }
        }
    }
}

impl Untrigger {
    fn text(&self, name: &str, by: &str) -> String {
        let word = shell_word(by);
        let own = format!("make it a resource before \"{name}\" in the group");
        match self {
            Self::Own => own,
            Self::Stop => format!("systemctl stop {word}, or {own}"),
            Self::NotAtBoot(AtBoot::Enabled(scope)) => {
                let option = option(*scope);
                format!("systemctl disable --now {option}{word}, or {own}")
            }
            Self::NotAtBoot(AtBoot::Fstab) => {
                "take x-systemd.automount out of its line in /etc/fstab and add noauto, then systemctl \
                 daemon-reload"
                    .to_owned()
            }
            Self::NotAtBoot(how @ AtBoot::PulledIn { .. }) => {
                format!(
                    "{} && systemctl stop {word}, or {own}",
                    how.remedy(by)
                )
            }
        }
    }
}

fn cut_short_text(
    name: &str,
    group: &str,
    key: &str,
    asks: Option<Duration>,
    margin: Duration,
) -> String {
    let asks = asks.map_or("as long as it likes".to_owned(), show_duration);
    let margin = show_duration(margin);
    format!(
        "\"{name}\" asks for {asks} to stop ({key}=), but is killed within {margin} when this node has lost the others: \
         stop_margin = \"20s\" of group \"{group}\", say, if it must not be cut short; the others then wait for that long"
    )
}

fn too_late_text(
    name: &str,
    id: &str,
    (section, key): (&str, &str),
    after: Option<Duration>,
    allowed: Duration,
) -> String {
    // A command for the stop and what it leaves running may each take that long.
    let setting = format!("{key}={}", show_duration(allowed / 2));
    let remedy = edit(id, section, &setting);
    let allowed = show_duration(allowed);
    match after.map(show_duration) {
        Some(after) => format!(
            "\"{name}\" is ended by force only after {after} ({key}=), when the cluster has given up its stop after \
             {allowed} and the group is blocked: a longer stop_timeout of the resource, or {remedy}"
        ),
        None => format!(
            "\"{name}\" is never ended by force ({key}=infinity), but the cluster gives up its stop after {allowed} and \
             the group is blocked: {remedy}"
        ),
    }
}

fn control_text(name: &str, id: &str, control: Control, verb: &str, key: &str) -> String {
    let setting = format!("RefuseManual{key}=no");
    match control {
        Control::Allowed => String::new(),
        Control::Refused => {
            let remedy = edit(id, "Unit", &setting);
            format!(
                "\"{name}\" refuses a {verb} that is asked for (RefuseManual{key}=yes): {remedy}"
            )
        }
        Control::Impossible => format!(
            "\"{name}\" is no unit that anybody can {verb}: name another one in the configuration"
        ),
    }
}

/// The command that overrides one setting of a unit.
fn edit(id: &str, section: &str, setting: &str) -> String {
    let word = shell_word(id);
    format!("systemctl edit {word}, with the lines [{section}] and {setting}")
}

/// The option of systemctl for what is below /run.
fn option(scope: Scope) -> &'static str {
    match scope {
        Scope::Persistent => "",
        Scope::Runtime => "--runtime ",
    }
}

/// A name as a shell takes it: `\x2d` in it must not lose its backslash.
fn shell_word(name: &str) -> Cow<'_, str> {
    if name.contains('\\') {
        format!("'{name}'").into()
    } else {
        name.into()
    }
}
