//! What is written is found again by a later life, and nothing else is.

use super::*;
use crate::config::model::{Resource, ResourceKind, Standby};
use crate::ids::{ClusterName, Generation, NodeName, Sequence};
use crate::wire::status::{Phase, Profile, Report};
use std::collections::BTreeSet;
use std::time::Duration;

fn group(name: &str, unit: &str) -> Group {
    let config = format!("[[group]]\nname = \"{name}\"\nresources = [{{ unit = \"{unit}\" }}]\n");
    crate::config::parse_str(&config)
        .unwrap()
        .config
        .groups
        .remove(0)
}

fn words() -> Status {
    Status {
        cluster: ClusterName::new("c").unwrap(),
        node: NodeName::new("alpha").unwrap(),
        generation: Generation(7),
        sequence: Sequence(9),
        phase: Phase::Active,
        deadtime: Duration::from_secs(2),
        heard: BTreeMap::new(),
        asks: BTreeSet::new(),
        term: None,
        floor: None,
        electable: true,
        reach: 1,
        led: true,
        returning: false,
        voting: true,
        report: Report::default(),
        plan: None,
        request: None,
        config_hash: 3,
        profile: Profile::default(),
    }
}

const UP: Holding = Holding {
    up: true,
    pinned: true,
};
const DOWN: Holding = Holding {
    up: false,
    pinned: false,
};

fn keep(directory: &Path, groups: &[Group], held: &[(&Group, Holding)], until: Lease) {
    let mut keeper = Keeper::new(directory, Vec::new(), None);
    let held = held
        .iter()
        .map(|(group, holding)| (group.name.clone(), *holding));
    keeper.note_held(held.collect(), groups);
    keeper.note_heartbeat(until, &words());
}

#[test]
fn what_was_said_last_is_known_to_the_next_life_also_where_nothing_was_held_or_all_was_released() {
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(directory.path(), vec![], None);
    let mut ignoring = words();
    ignoring.profile.policy = Policy::Ignore;
    keeper.note_heartbeat(Lease::None, &ignoring);
    assert_eq!(newest_words(directory.path()), None, "nothing is promised");
    keeper.note_heartbeat(Lease::None, &words());
    assert_eq!(newest_words(directory.path()).as_deref(), Some(&words()));
    assert_eq!(Left::load(directory.path()), None, "nothing was held");

    let web = group("web", "web.service");
    let end = Lease::Until(Instant::from_nanos(1_000));
    keep(
        directory.path(),
        std::slice::from_ref(&web),
        &[(&web, UP)],
        end,
    );
    clear(directory.path());
    assert_eq!(newest_words(directory.path()).as_deref(), Some(&words()));
    assert_eq!(Left::load(directory.path()), None, "all was released");
    let record: Tenure = read(directory.path(), TENURE).unwrap();
    assert_eq!(record.until, Lease::None, "and nothing lasts");
}

#[test]
fn a_later_life_inherits_what_is_up_and_unchanged_while_the_tenure_lasts() {
    let directory = tempfile::tempdir().unwrap();
    let groups = ["web", "mail", "changed"].map(|name| group(name, &format!("{name}.service")));
    let [web, mail, changed] = &groups;
    let end = Instant::from_nanos(1_000);
    let held = [(web, UP), (mail, DOWN), (changed, UP)];
    keep(directory.path(), &groups, &held, Lease::Until(end));

    let left = Left::load(directory.path()).unwrap();
    let said = left.tenure.as_ref().unwrap().words.clone().unwrap();
    assert_eq!(*said, words());
    assert_eq!(left.policy(), Some(Policy::Majority));
    assert_eq!(left.deadtime(), words().deadtime);
    let now = [web.clone(), mail.clone(), group("changed", "other.service")];
    let longest = Some(Duration::from_nanos(500));
    let inheritance = left.inheritance(&now, Instant::from_nanos(999), longest);
    assert_eq!(inheritance.groups, BTreeMap::from([(web.name.clone(), UP)]));
    assert_eq!(left.unknown(&now), std::slice::from_ref(changed));

    // Too late, too far ahead to be true, or of a cluster of one.
    for (at, longest) in [(1_000, longest), (400, longest), (999, None)] {
        let inheritance = left.inheritance(&now, Instant::from_nanos(at), longest);
        assert_eq!(inheritance, Inheritance::default());
    }
}

#[test]
fn who_holds_nothing_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Left::load(directory.path()), None);
    keep(
        directory.path(),
        &[group("web", "a.service")],
        &[],
        Lease::Unlimited,
    );
    assert_eq!(Left::load(directory.path()), None);
    let web = group("web", "a.service");
    keep(
        directory.path(),
        std::slice::from_ref(&web),
        &[(&web, UP)],
        Lease::Unlimited,
    );
    assert!(Left::load(directory.path()).is_some());
    clear(directory.path());
    assert_eq!(Left::load(directory.path()), None);
}

#[test]
fn a_shorter_heartbeat_leaves_nothing_of_a_longer_one() {
    let directory = tempfile::tempdir().unwrap();
    let web = group("web", "a.service");
    let mut keeper = Keeper::new(directory.path(), Vec::new(), None);
    let held = BTreeMap::from([(web.name.clone(), UP)]);
    keeper.note_held(held, std::slice::from_ref(&web));
    let mut long = words();
    long.sequence = Sequence(u64::MAX);
    keeper.note_heartbeat(Lease::Until(Instant::from_nanos(u64::MAX)), &long);
    keeper.note_heartbeat(Lease::None, &words());
    let left = Left::load(directory.path()).unwrap();
    assert_eq!(left.until(), Lease::None);
    assert_eq!(*left.tenure.unwrap().words.unwrap(), words());
}

#[test]
fn in_a_cluster_of_one_a_daemon_can_always_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let web = group("web", "a.service");
    let mut keeper = Keeper::new(directory.path(), Vec::new(), None);
    keeper.note_held(
        BTreeMap::from([(web.name.clone(), UP)]),
        std::slice::from_ref(&web),
    );
    keeper.note_unlimited();
    let left = Left::load(directory.path()).unwrap();
    let groups = [web];
    let late = Instant::from_nanos(u64::MAX);
    assert_eq!(left.inheritance(&groups, late, None).groups.len(), 1);
    // But not once there are others.
    let longest = Some(Duration::from_secs(2));
    assert_eq!(
        left.inheritance(&groups, late, longest),
        Inheritance::default()
    );
}

#[test]
fn what_cannot_be_written_down_is_not_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let web = group("web", "a.service");
    let mut keeper = Keeper::new(directory.path(), Vec::new(), None);
    let held = BTreeMap::from([(web.name.clone(), UP)]);
    keeper.note_held(held, std::slice::from_ref(&web));
    keeper.note_heartbeat(Lease::Unlimited, &words());
    // A directory in its place keeps the new file from being written.
    fs::create_dir(directory.path().join("held.json.new")).unwrap();
    keeper.note_held(BTreeMap::new(), std::slice::from_ref(&web));
    let left = Left::load(directory.path()).unwrap();
    assert_eq!(left.until(), Lease::None);
}

#[test]
fn damage_and_other_boots_are_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let web = group("web", "a.service");
    keep(
        directory.path(),
        std::slice::from_ref(&web),
        &[(&web, UP)],
        Lease::Unlimited,
    );
    let path = directory.path().join(HELD);
    let good = fs::read_to_string(&path).unwrap();
    fs::write(directory.path().join(TENURE), "{").unwrap();
    let left = Left::load(directory.path()).unwrap();
    assert_eq!(
        left.until(),
        Lease::None,
        "what is held must be given up all the same"
    );
    for bad in [
        "",
        "{}",
        "null",
        &good.replacen("\"boot\":\"", "\"boot\":\"x", 1),
    ] {
        fs::write(&path, bad).unwrap();
        assert_eq!(Left::load(directory.path()), None, "{bad}");
    }
}

#[test]
fn every_kind_of_resource_survives_the_file() {
    let kind = ResourceKind::Unit {
        name: "a.service".to_owned(),
        standby: Standby::Started,
    };
    let resource = Resource {
        kind,
        ..group("web", "b.service").resources.remove(0)
    };
    let text = serde_json::to_string(&resource).unwrap();
    assert_eq!(serde_json::from_str::<Resource>(&text).unwrap(), resource);
}

#[test]
fn failures_are_kept_and_forgotten_as_they_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let web = GroupName::new("web").unwrap();
    let text =
        r#"{"recent":{"unit:a":{"window":{"secs":60,"nanos":0},"times":[5]}},"trust":"Whole"}"#;
    let failed: Failures = serde_json::from_str(text).unwrap();
    let noted = BTreeMap::from([(web, failed)]);
    let groups = [group("web", "a.service")];
    let mut keeper = Keeper::new(directory.path(), Vec::new(), None);
    assert!(failures(directory.path(), &groups).is_empty());
    keeper.note_failures(noted.clone(), &groups);
    assert_eq!(failures(directory.path(), &groups), noted);
    clear(directory.path());
    assert_eq!(
        failures(directory.path(), &groups),
        noted,
        "a release repairs nothing"
    );
    let mut next = Keeper::new(directory.path(), Vec::new(), None);
    next.note_failures(BTreeMap::new(), &groups);
    assert!(failures(directory.path(), &groups).is_empty());
}

#[test]
fn failures_of_a_group_that_is_configured_otherwise_now_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let before = |interface| {
        let config = format!(
            "[[group]]\nname = \"web\"\nresources = [{{ vip = \"192.0.2.1/24\", interface = \"{interface}\" }}]\n"
        );
        let parsed = crate::config::parse_str(&config).unwrap();
        [parsed.config.groups[0].clone(), group("db", "db.service")]
    };
    let noted: BTreeMap<_, _> = ["web", "db"]
        .map(|name| (GroupName::new(name).unwrap(), Failures::default()))
        .into();
    let mut keeper = Keeper::new(directory.path(), Vec::new(), None);
    keeper.note_failures(noted.clone(), &before("eth7"));
    assert_eq!(failures(directory.path(), &before("eth7")), noted);
    let known = failures(directory.path(), &before("eth1"));
    let left: Vec<&str> = known.keys().map(|name| name.as_str()).collect();
    assert_eq!(left, ["db"]);
    let [web, _] = before("eth7");
    assert_eq!(failures(directory.path(), &[web]).len(), 1, "db is no more");
}

fn left_of(directory: &Path, groups: &[Group]) -> Left {
    let held: Vec<(&Group, Holding)> = groups.iter().map(|group| (group, UP)).collect();
    keep(
        directory,
        groups,
        &held,
        Lease::Until(Instant::from_nanos(1_000)),
    );
    Left::load(directory).unwrap()
}

/// What a later life of a daemon with these groups goes on with.
fn heirs(directory: &Path, groups: &[Group]) -> Inheritance {
    let longest = Some(Duration::from_nanos(500));
    let left = Left::load(directory);
    left.map_or_else(Inheritance::default, |left| {
        left.inheritance(groups, Instant::from_nanos(999), longest)
    })
}

#[test]
fn what_a_release_has_begun_to_stop_is_gone_on_with_by_nobody_even_if_it_ends_there() {
    let directory = tempfile::tempdir().unwrap();
    let groups = ["x", "y"].map(|name| group(name, &format!("{name}.service")));
    let mut left = left_of(directory.path(), &groups);
    assert_eq!(heirs(directory.path(), &groups).groups.len(), 2);
    assert!(left.withdraw(directory.path()));
    assert_eq!(heirs(directory.path(), &groups), Inheritance::default());
    let again = Left::load(directory.path()).unwrap();
    assert!(again.is_withdrawn());
    assert_eq!(
        again.until(),
        left.until(),
        "the next release knows the end"
    );
    assert_eq!(again.held.groups.len(), 2, "and what to stop");
}

#[test]
fn a_release_that_fails_in_part_leaves_a_record_of_exactly_that_part() {
    let directory = tempfile::tempdir().unwrap();
    let groups = ["x", "y"].map(|name| group(name, &format!("{name}.service")));
    let mut left = left_of(directory.path(), &groups);
    assert!(left.withdraw(directory.path()));
    let [x, y] = &groups;
    left.keep_only(directory.path(), &[x]).unwrap();
    let mut said = words();
    said.sequence = Sequence(77);
    left.note_said(directory.path(), said.clone()).unwrap();
    let again = Left::load(directory.path()).unwrap();
    let names: Vec<&str> = (again.held.groups.iter())
        .map(|it| it.group.name.as_str())
        .collect();
    assert_eq!(names, ["x"]);
    assert_eq!(heirs(directory.path(), &groups), Inheritance::default());
    assert_eq!(*again.tenure.unwrap().words.unwrap(), said);
    assert!(y.name.as_str() != "x");
    // A new daemon begins with a record of its own.
    keep(
        directory.path(),
        &groups,
        &[(y, UP)],
        Lease::Until(Instant::from_nanos(1_000)),
    );
    let inherited = heirs(directory.path(), &groups);
    assert_eq!(inherited.groups, BTreeMap::from([(y.name.clone(), UP)]));
}

#[test]
fn what_cannot_be_withdrawn_in_writing_is_not_inherited_either() {
    let directory = tempfile::tempdir().unwrap();
    let groups = [group("x", "x.service")];
    let mut left = left_of(directory.path(), &groups);
    fs::create_dir(directory.path().join("held.json.new")).unwrap();
    assert!(
        left.withdraw(directory.path()),
        "its end is removed instead"
    );
    assert_eq!(heirs(directory.path(), &groups), Inheritance::default());
}

#[test]
fn a_timer_counts_only_for_the_tenure_that_it_was_set_for() {
    let directory = tempfile::tempdir().unwrap();
    let at = Instant::from_nanos;
    let until = Lease::Until(at(1_000));
    assert_eq!(waited_for(directory.path(), until), None);
    note_waited_for(directory.path(), until, at(500)).unwrap();
    assert_eq!(waited_for(directory.path(), until), Some(at(500)));
    assert_eq!(waited_for(directory.path(), Lease::Until(at(2_000))), None);
}
