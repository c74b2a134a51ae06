//! From what systemd says to what people read: one line per case where it can be.

use super::facts::{Bond, Control, FileState, Limit, Load, Puller, Scope};
use super::finding::{AtBoot, Finding, Untrigger, judge};
use super::*;
use zbus::{OwnedVariant, Structure, Variant};

const STOP_TIMEOUT: Duration = Duration::from_secs(300);

fn properties(all: &[(&str, Variant<'static>)]) -> Properties {
    let owned = |value: &Variant<'static>| OwnedVariant::try_from(value.try_clone().unwrap());
    (all.iter())
        .map(|(name, value)| ((*name).to_owned(), owned(value).unwrap()))
        .collect()
}

fn names(all: &[&str]) -> Variant<'static> {
    let all: Vec<String> = all.iter().map(|name| (*name).to_owned()).collect();
    all.into()
}

/// What systemd says of a service that is as it should be, and what differs.
fn unit(name: &str, other: &[(&str, Variant<'static>)]) -> UnitFacts {
    let mut all = properties(&[
        ("Id", name.to_owned().into()),
        ("LoadState", "loaded".into()),
        ("UnitFileState", "disabled".into()),
        ("ActiveState", "inactive".into()),
        ("CanStart", true.into()),
        ("CanStop", true.into()),
        ("RefuseManualStart", false.into()),
        ("RefuseManualStop", false.into()),
        ("SourcePath", "".into()),
        ("Requires", names(&["sysinit.target", "system.slice"])),
        ("WantedBy", names(&[])),
    ]);
    all.extend(properties(other));
    UnitFacts::from_properties(name, &all)
}

fn service(other: &[(&str, Variant<'static>)]) -> KindFacts {
    let mut all = properties(&[
        ("Type", "simple".into()),
        ("RemainAfterExit", false.into()),
        ("KillMode", "control-group".into()),
        ("SendSIGKILL", true.into()),
        ("TimeoutStopUSec", 90_000_000_u64.into()),
    ]);
    all.extend(properties(other));
    KindFacts::service(&all)
}

fn of_unit(other: &[(&str, Variant<'static>)]) -> Vec<Finding> {
    judge(
        &unit("app.service", other),
        &service(&[]),
        &[],
        STOP_TIMEOUT,
    )
}

fn of_service(other: &[(&str, Variant<'static>)]) -> Vec<Finding> {
    judge(
        &unit("app.service", &[]),
        &service(other),
        &[],
        STOP_TIMEOUT,
    )
}

fn enabled(scope: Scope) -> Vec<Finding> {
    vec![Finding::AtBoot(AtBoot::Enabled(scope))]
}

#[test]
fn a_unit_without_a_flaw_yields_nothing() {
    assert_eq!(of_unit(&[]), []);
    assert_eq!(
        judge(
            &UnitFacts::from_properties("old.service", &Properties::new()),
            &KindFacts::service(&Properties::new()),
            &[],
            STOP_TIMEOUT
        ),
        [],
        "what systemd does not say is no finding"
    );
    for state in [
        "static",
        "linked",
        "linked-runtime",
        "indirect",
        "generated",
        "transient",
        "alias",
        "disabled",
        "",
    ] {
        assert_eq!(of_unit(&[("UnitFileState", state.into())]), [], "{state}");
    }
}

#[test]
fn a_unit_that_cannot_be_loaded_has_no_other_finding() {
    let enabled = ("UnitFileState", Variant::from("enabled"));
    let with =
        |word: &'static str| of_unit(&[("LoadState", word.into()), ("CanStart", false.into())]);
    assert_eq!(with("not-found"), [Finding::Missing]);
    assert_eq!(with("masked"), [Finding::Masked(Scope::Persistent)]);
    assert_eq!(
        with("bad-setting"),
        [Finding::Broken("bad-setting".to_owned())]
    );
    assert_eq!(with("error"), [Finding::Broken("error".to_owned())]);
    assert_eq!(
        of_unit(&[("LoadState", "not-found".into()), enabled]),
        [Finding::Missing]
    );
    let error = Structure::from(("org.example.Bad".to_owned(), "Bad setting.".to_owned()));
    let facts = [
        ("LoadState", Variant::from("bad-setting")),
        ("LoadError", error.into()),
    ];
    assert_eq!(
        of_unit(&facts),
        [Finding::Broken("Bad setting.".to_owned())]
    );
    let masked = |word: &'static str| of_unit(&[("UnitFileState", word.into())]);
    assert_eq!(masked("masked"), [Finding::Masked(Scope::Persistent)]);
    assert_eq!(masked("masked-runtime"), [Finding::Masked(Scope::Runtime)]);
}

#[test]
fn a_unit_that_is_enabled_starts_at_boot_unless_only_the_cluster_wants_it() {
    let state = |word: &'static str, wanted_by: &[&str]| {
        of_unit(&[
            ("UnitFileState", word.into()),
            ("WantedBy", names(wanted_by)),
        ])
    };
    let persistent = enabled(Scope::Persistent);
    assert_eq!(state("enabled", &["multi-user.target"]), persistent);
    assert_eq!(
        state("enabled-runtime", &["multi-user.target"]),
        enabled(Scope::Runtime)
    );
    assert_eq!(
        state("enabled", &[]),
        persistent,
        "its target is not loaded yet"
    );
    assert_eq!(state("enabled", &["other.target"]), persistent);
    assert_eq!(state("enabled", &["ha-group-web.target"]), []);
    let both = ["ha-group-web.target", "multi-user.target"];
    assert_eq!(state("enabled", &both), persistent);
    assert_eq!(state("indirect", &["multi-user.target"]), persistent);
    assert_eq!(
        state("disabled", &["app.service", "ha-group-web.target"]),
        []
    );
}

#[test]
fn the_links_of_an_enabled_unit_tell_what_for() {
    let judged = |links: &[&str]| {
        let all = [
            ("UnitFileState", "enabled".into()),
            ("Names", names(&["app.service", "alias.service"])),
        ];
        let below = |link: &&str| format!("/etc/systemd/system/{link}");
        let links: Vec<String> = links.iter().map(below).collect();
        let facts = unit("app.service", &all).with_links(&links);
        !judge(&facts, &service(&[]), &[], STOP_TIMEOUT).is_empty()
    };
    let (ours, boot) = (
        "ha-group-web.target.wants/app.service",
        "multi-user.target.wants/alias.service",
    );
    assert!(judged(&[boot]));
    assert!(judged(&[ours, boot]));
    assert!(!judged(&[ours]));
    assert!(!judged(&["alias.service"]), "only another name");
    assert!(!judged(&[ours, "sockets.target.wants/app.socket"]), "Also=");
}

#[test]
fn a_unit_that_a_target_of_the_boot_pulls_in_starts_at_boot_though_it_is_not_enabled() {
    let pulled = |bond, target: &str| {
        let target = target.to_owned();
        vec![Finding::AtBoot(AtBoot::PulledIn { target, bond })]
    };
    let facts = |state: &'static str, by: &'static str, target: &str, source: &'static str| {
        of_unit(&[
            ("UnitFileState", state.into()),
            (by, names(&[target])),
            ("SourcePath", source.into()),
        ])
    };
    let fstab = "/etc/fstab";
    let script = "/etc/init.d/app";
    for (found, expected) in [
        (
            facts("static", "WantedBy", "sockets.target", ""),
            pulled(Bond::Wants, "sockets.target"),
        ),
        (
            facts("static", "RequiredBy", "sysinit.target", ""),
            pulled(Bond::Requires, "sysinit.target"),
        ),
        (
            facts("static", "UpheldBy", "timers.target", ""),
            pulled(Bond::Upholds, "timers.target"),
        ),
        (facts("static", "WantedBy", "sleep.target", ""), vec![]),
        (
            facts("generated", "RequiredBy", "local-fs.target", fstab),
            vec![Finding::AtBoot(AtBoot::Fstab)],
        ),
        (
            facts("generated", "RequiredBy", "app.service", fstab),
            vec![],
        ),
        (
            facts("generated", "WantedBy", "graphical.target", script),
            enabled(Scope::Persistent),
        ),
        (
            facts("generated", "WantedBy", "ha-group-web.target", script),
            vec![],
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn who_may_start_and_stop_a_unit_is_respected() {
    for (property, value, expected) in [
        (
            "RefuseManualStart",
            true,
            Finding::NotStartable(Control::Refused),
        ),
        (
            "RefuseManualStop",
            true,
            Finding::NotStoppable(Control::Refused),
        ),
        (
            "CanStart",
            false,
            Finding::NotStartable(Control::Impossible),
        ),
        ("CanStop", false, Finding::NotStoppable(Control::Impossible)),
    ] {
        assert_eq!(of_unit(&[(property, value.into())]), [expected]);
    }
    let refuses = [("RefuseManualStop", true.into()), ("CanStop", false.into())];
    assert_eq!(of_unit(&refuses), [Finding::NotStoppable(Control::Refused)]);
}

#[test]
fn a_service_needs_a_proper_stop_in_time() {
    let late = |after| Finding::StopsTooLate {
        setting: ("Service", "TimeoutStopSec"),
        after,
        allowed: STOP_TIMEOUT,
    };
    let limit = |usec: u64| of_service(&[("TimeoutStopUSec", usec.into())]);
    assert_eq!(limit(299_999_999), []);
    assert_eq!(limit(300_000_000), [late(Some(STOP_TIMEOUT))]);
    assert_eq!(limit(u64::MAX), [late(None)]);
    assert_eq!(
        of_service(&[("KillMode", "none".into())]),
        [Finding::KillsNothing]
    );
    for mode in ["process", "mixed"] {
        assert_eq!(of_service(&[("KillMode", mode.into())]), []);
    }
    assert_eq!(
        of_service(&[("SendSIGKILL", false.into())]),
        [Finding::NeverKills]
    );
    let no_signal = [("KillMode", "none".into()), ("SendSIGKILL", false.into())];
    assert_eq!(of_service(&no_signal), [Finding::KillsNothing]);
    assert_eq!(
        of_service(&[("Type", "oneshot".into())]),
        [Finding::EndsAtOnce]
    );
    let remains = [("Type", "oneshot".into()), ("RemainAfterExit", true.into())];
    assert_eq!(of_service(&remains), []);
}

#[test]
fn a_mount_that_is_unmounted_too_slowly_is_found() {
    let all = properties(&[("TimeoutUSec", 90_000_000_u64.into())]);
    let kind = KindFacts::file_system("Mount", &all);
    let mount = unit("srv.mount", &[]);
    assert_eq!(judge(&mount, &kind, &[], STOP_TIMEOUT), []);
    let short = Duration::from_secs(30);
    let expected = Finding::StopsTooLate {
        setting: ("Mount", "TimeoutSec"),
        after: Some(Duration::from_secs(90)),
        allowed: short,
    };
    assert_eq!(judge(&mount, &kind, &[], short), [expected]);
    assert_eq!(
        KindFacts::file_system("Swap", &Properties::new()),
        KindFacts::FileSystem {
            section: "Swap",
            stop_limit: Limit::Unknown
        }
    );
}

#[test]
fn a_trigger_counts_where_boot_starts_it_or_it_outlives_the_stop() {
    let up = || [("ActiveState", "active".into())];
    let enabled = || [("UnitFileState", "enabled".into())];
    let found = |of_unit: &[(&str, Variant<'static>)], of_socket: &[(&str, Variant<'static>)]| {
        let socket = unit("app.socket", of_socket);
        let mut found = judge(
            &unit("app.service", of_unit),
            &service(&[]),
            &[socket],
            STOP_TIMEOUT,
        );
        assert!(found.len() <= 1, "{found:?}");
        match found.pop() {
            Some(Finding::Triggered { remedy, .. }) => Some(remedy),
            other => {
                assert_eq!(other, None);
                None
            }
        }
    };
    let wants = || [("Wants", names(&["app.socket"]))];
    let at_boot = Untrigger::NotAtBoot(AtBoot::Enabled(Scope::Persistent));
    assert_eq!(found(&[], &[]), None);
    assert_eq!(found(&wants(), &[]), None, "not up yet");
    assert_eq!(found(&[], &enabled()), Some(at_boot));
    assert_eq!(found(&[], &up()), Some(Untrigger::Stop));
    assert_eq!(found(&wants(), &up()), Some(Untrigger::Own));
    let along = [("ConsistsOf", names(&["app.socket"]))];
    assert_eq!(found(&along, &up()), None, "it stops with the service");
    assert!(found(&along, &enabled()).is_some(), "but boot starts it");
}

fn app(finding: Finding) -> String {
    finding.text("app.service", "app.service", "web")
}

#[test]
fn each_finding_says_what_to_do() {
    let pulled = AtBoot::PulledIn {
        target: "sockets.target".to_owned(),
        bond: Bond::Wants,
    };
    for (text, expected) in [
        (
            app(Finding::Missing),
            "there is no unit \"app.service\" on this machine: install it, or correct its name in the configuration",
        ),
        (
            app(Finding::Masked(Scope::Persistent)),
            "\"app.service\" is masked, so it cannot be started: systemctl unmask app.service",
        ),
        (
            app(Finding::Masked(Scope::Runtime)),
            "\"app.service\" is masked, so it cannot be started: systemctl unmask --runtime app.service",
        ),
        (
            app(Finding::Broken("Bad setting.".to_owned())),
            "\"app.service\" cannot be loaded (Bad setting): systemd-analyze verify app.service says more; after the correction systemctl daemon-reload",
        ),
        (
            app(Finding::AtBoot(AtBoot::Enabled(Scope::Persistent))),
            "\"app.service\" is also started at boot, on every node: systemctl disable app.service",
        ),
        (
            app(Finding::AtBoot(AtBoot::Fstab)),
            "\"app.service\" is also started at boot, by its line in /etc/fstab: add noauto to its options there, then systemctl daemon-reload",
        ),
        (
            app(Finding::AtBoot(pulled)),
            "\"app.service\" is also started at boot, by sockets.target: mkdir -p /etc/systemd/system/sockets.target.wants && ln -sf /dev/null /etc/systemd/system/sockets.target.wants/app.service && systemctl daemon-reload",
        ),
        (
            app(Finding::NotStoppable(Control::Refused)),
            "\"app.service\" refuses a stop that is asked for (RefuseManualStop=yes): systemctl edit app.service, with the lines [Unit] and RefuseManualStop=no",
        ),
        (
            app(Finding::NotStartable(Control::Impossible)),
            "\"app.service\" is no unit that anybody can start: name another one in the configuration",
        ),
    ] {
        assert_eq!(text, expected);
    }
}

#[test]
fn a_finding_about_the_stop_or_a_trigger_says_what_to_do() {
    let late = |after| Finding::StopsTooLate {
        setting: ("Service", "TimeoutStopSec"),
        after,
        allowed: Duration::from_secs(30),
    };
    let triggered = |remedy| Finding::Triggered {
        by: "app.socket".to_owned(),
        remedy,
    };
    let runtime = AtBoot::Enabled(Scope::Runtime);
    for (text, expected) in [
        (
            app(Finding::KillsNothing),
            "processes of \"app.service\" outlive its stop (KillMode=none): systemctl edit app.service, with the lines [Service] and KillMode=control-group",
        ),
        (
            app(Finding::NeverKills),
            "processes of \"app.service\" that ignore SIGTERM outlive its stop (SendSIGKILL=no): systemctl edit app.service, with the lines [Service] and SendSIGKILL=yes",
        ),
        (
            app(late(Some(Duration::from_secs(90)))),
            "\"app.service\" is ended by force only after 90s (TimeoutStopSec=), when the cluster has given up its stop after 30s and the group is blocked: a longer stop_timeout of the resource, or systemctl edit app.service, with the lines [Service] and TimeoutStopSec=15s",
        ),
        (
            app(late(None)),
            "\"app.service\" is never ended by force (TimeoutStopSec=infinity), but the cluster gives up its stop after 30s and the group is blocked: systemctl edit app.service, with the lines [Service] and TimeoutStopSec=15s",
        ),
        (
            app(Finding::EndsAtOnce),
            "\"app.service\" counts as ended as soon as its program is done (Type=oneshot), so its start fails: systemctl edit app.service, with the lines [Service] and RemainAfterExit=yes",
        ),
        (
            app(triggered(Untrigger::Own)),
            "\"app.service\" is also started by \"app.socket\", behind the cluster's back: make it a resource before \"app.service\" in the group",
        ),
        (
            app(triggered(Untrigger::Stop)),
            "\"app.service\" is also started by \"app.socket\", behind the cluster's back: systemctl stop app.socket, or make it a resource before \"app.service\" in the group",
        ),
        (
            app(triggered(Untrigger::NotAtBoot(runtime))),
            "\"app.service\" is also started by \"app.socket\", behind the cluster's back: systemctl disable --now --runtime app.socket, or make it a resource before \"app.service\" in the group",
        ),
    ] {
        assert_eq!(text, expected);
    }
}

#[test]
fn commands_name_the_unit_as_systemd_and_the_shell_know_it() {
    let finding = Finding::AtBoot(AtBoot::Enabled(Scope::Persistent));
    let text = finding.text("mysql.service", "mariadb.service", "web");
    assert!(text.starts_with("\"mysql.service\" is also"), "{text}");
    assert!(
        text.ends_with("systemctl disable mariadb.service"),
        "{text}"
    );
    let mount = "srv-a\\x2db.mount";
    let text = finding.text(mount, mount, "web");
    assert!(
        text.ends_with("systemctl disable 'srv-a\\x2db.mount'"),
        "{text}"
    );
}

#[test]
fn facts_are_read_as_systemd_tells_them() {
    let facts = unit(
        "app@blue.service",
        &[
            ("WantedBy", names(&["a.target"])),
            ("RequiredBy", names(&["b.target"])),
            ("TriggeredBy", names(&["app.socket", "app.timer"])),
        ],
    );
    let puller = |name: &str, bond| Puller {
        name: name.to_owned(),
        bond,
    };
    assert_eq!(facts.id, "app@blue.service");
    assert_eq!(facts.load, Load::Loaded);
    assert_eq!(facts.file, FileState::Other);
    assert_eq!(
        facts.pulled_in_by,
        [
            puller("a.target", Bond::Wants),
            puller("b.target", Bond::Requires)
        ]
    );
    assert_eq!(facts.triggered_by, ["app.socket", "app.timer"]);
    assert_eq!(facts.stops_along, ["b.target"]);
}

#[test]
fn what_asks_for_more_time_than_all_units_get_is_known_to_need_it() {
    let margin = Duration::from_millis(250);
    let default = Limit::After(Duration::from_secs(90));
    let asks = |usec: u64| {
        let kind = service(&[("TimeoutStopUSec", usec.into())]);
        finding::cut_short(&kind, default, margin)
    };
    let cut_short = |asks| {
        Some(Finding::CutShort {
            key: "TimeoutStopSec",
            asks,
            margin,
        })
    };
    assert_eq!(asks(90_000_000), None, "says nothing");
    assert_eq!(asks(5_000_000), None, "wants to be quick");
    assert_eq!(
        asks(3_600_000_000),
        cut_short(Some(Duration::from_secs(3600)))
    );
    assert_eq!(asks(u64::MAX), cut_short(None));
    let unknown = finding::cut_short(&service(&[]), Limit::Unknown, margin);
    assert_eq!(unknown, None);
    let long = service(&[("TimeoutStopUSec", 100_000_000_u64.into())]);
    assert_eq!(
        finding::cut_short(&long, default, Duration::from_secs(120)),
        None,
        "it has that time"
    );
    let text = |asks| cut_short(asks).unwrap().text("db", "db.service", "data");
    assert_eq!(
        text(Some(Duration::from_secs(3600))),
        "\"db\" asks for 1h to stop (TimeoutStopSec=), but is killed within 250ms when this node has lost the others: \
         stop_margin = \"20s\" of group \"data\", say, if it must not be cut short; the others then wait for that long"
    );
    assert!(text(None).contains("asks for as long as it likes to stop"));
}
