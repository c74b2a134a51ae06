//! The service on a message bus of its own, under the policy file that is shipped, and `hactl` as its client.
//!
//! The daemon's part is played by a task with a fixed cluster. Needs the program `dbus-daemon`; without it
//! the tests say so and check nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bus_fixture;

use bus_fixture::{PrivateBus, fake_snapshot, hactl, serve};
use futures_util::StreamExt;
use ha_node::core::view::GroupCondition;
use ha_node::dbus::BUS_NAME;
use ha_node::ids::GroupName;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::time::Duration;
use zbus::{MatchRule, MessageStream, OwnedVariant};

type PropertiesChanged = (String, HashMap<String, OwnedVariant>, Vec<String>);

#[test]
fn hactl_reads_and_steers_the_cluster() {
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    let daemon = serve(&bus);
    assert_eq!(hactl(&bus, &["status"]).code, 0);

    let status = hactl(&bus, &["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(json["cluster"], "prod");
    assert_eq!(json["leader"], "alpha");
    assert_eq!(json["nodes"][1]["links"]["eth1"], "up");
    assert_eq!(json["groups"][0]["resources"][0]["id"], "vip:10.0.0.1");
    assert_eq!(json["groups"][0]["failures"]["beta"], 2);

    assert_eq!(hactl(&bus, &["move", "web", "beta"]).code, 0);
    assert_eq!(hactl(&bus, &["standby", "foreign"]).code, 0);
    assert_eq!(hactl(&bus, &["online"]).code, 0);
    assert_eq!(hactl(&bus, &["clear", "web"]).code, 0);
    assert_eq!(
        daemon.requests(),
        [
            "Move { group: web, node: beta }",
            "Standby(Foreign)",
            "Online",
            "Clear(web)"
        ]
    );
}

#[test]
fn a_refusal_is_told_with_its_reason_and_code_1() {
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    let _daemon = serve(&bus);
    let refused = hactl(&bus, &["move", "nosuch", "beta"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(
        refused.stderr.contains("there is no group \"nosuch\""),
        "{}",
        refused.stderr
    );
    let invalid = hactl(&bus, &["move", "a b", "beta"]);
    assert_eq!(invalid.code, 1);
    assert!(
        invalid.stderr.contains("is not allowed in a name"),
        "{}",
        invalid.stderr
    );
}

#[test]
fn without_the_daemon_the_code_is_3_and_for_wrong_usage_2() {
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    for arguments in [
        &["status"][..],
        &["online"],
        &["events"],
        &["events", "--follow"],
    ] {
        let ended = hactl(&bus, arguments);
        assert_eq!(ended.code, 3, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("not running"));
    }
    assert_eq!(hactl(&bus, &["statu"]).code, 2);
    assert_eq!(hactl(&bus, &["--help"]).code, 0);
}

#[test]
fn strangers_may_read_but_not_change() {
    if !bus_fixture::is_root() {
        eprintln!("SKIPPED: only root can call as somebody else");
        return;
    }
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    let daemon = serve(&bus);
    let stranger = |arguments: &[&str]| bus_fixture::hactl_as(&bus, arguments, 65534);
    assert_eq!(stranger(&["status"]).code, 0);
    assert_eq!(stranger(&["events"]).code, 0);
    for change in [
        &["standby"][..],
        &["online"],
        &["move", "web", "beta"],
        &["clear", "web"],
    ] {
        let denied = stranger(change);
        assert_eq!(denied.code, 1, "{change:?}");
        assert!(
            denied.stderr.contains("may change the cluster"),
            "{}",
            denied.stderr
        );
    }
    assert!(daemon.requests().is_empty());
}

#[test]
fn events_are_kept_and_told_in_order() {
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    let daemon = serve(&bus);
    daemon.event("node-dead", "node beta: is dead");
    daemon.event("node-left", "Received shutdown notice from 'beta'.");
    let listed = bus.until(|| {
        let text = hactl(&bus, &["events"]).stdout;
        (text.lines().count() == 2).then_some(text)
    });
    let (first, second) = listed.split_once('\n').unwrap();
    assert!(
        first.ends_with("node-dead             node beta: is dead"),
        "{first}"
    );
    assert!(second.contains("node-left"));
}

#[test]
fn a_follower_sees_past_and_new_events_once_each() {
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    let daemon = serve(&bus);
    daemon.event("node-dead", "first");
    bus.until(|| (hactl(&bus, &["events"]).stdout.lines().count() == 1).then_some(()));
    let mut follower = bus_fixture::spawn_hactl(&bus, &["events", "--follow"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next_line = || lines.next().unwrap().unwrap();
    assert!(next_line().ends_with("first"));
    daemon.event("node-left", "second");
    daemon.event("node-dead", "third");
    assert!(next_line().ends_with("second"));
    assert!(next_line().ends_with("third"));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn one_signal_tells_all_that_changed_and_counters_wait() {
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    let daemon = serve(&bus);
    bus.block_on(async {
        let client = bus.connect().await;
        let rule = MatchRule::builder()
            .sender(BUS_NAME)
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .build()
            .unwrap();
        let mut signals = MessageStream::for_match_rule(rule, &client, None)
            .await
            .unwrap();
        let mut snapshot = fake_snapshot();
        snapshot.links[0].sent += 1;
        let web = GroupName::new("web").unwrap();
        let group = snapshot.view.groups.get_mut(&web).unwrap();
        (group.state, group.owner) = (GroupCondition::Stopped, None);
        daemon.publish(snapshot);

        let (interface, changed, invalidated) = next(&mut signals).await;
        assert_eq!(interface, "org.linuxha.Cluster.Group");
        let mut names: Vec<_> = changed.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["Owner", "State"]);
        assert!(invalidated.is_empty());

        let (interface, changed, _) = next(&mut signals).await;
        assert_eq!(
            (interface.as_str(), changed.len()),
            ("org.linuxha.Cluster.Link", 1)
        );
        assert!(changed.contains_key("Sent"));
    });
}

async fn next(signals: &mut MessageStream) -> PropertiesChanged {
    let message = tokio::time::timeout(Duration::from_secs(20), signals.next()).await;
    message
        .unwrap()
        .unwrap()
        .unwrap()
        .body()
        .deserialize()
        .unwrap()
}

#[test]
fn a_new_bus_is_served_again_with_the_newest_state() {
    let Some(mut bus) = PrivateBus::start() else {
        return;
    };
    let daemon = serve(&bus);
    assert_eq!(hactl(&bus, &["status"]).code, 0);
    bus.stop();
    let mut snapshot = fake_snapshot();
    snapshot.view.quorate = false;
    daemon.publish(snapshot);
    bus.restart();
    let text = bus.until(|| {
        let status = hactl(&bus, &["status", "--json"]);
        (status.code == 0).then_some(status.stdout)
    });
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&json["quorate"], &json["state"]),
        (&false.into(), &"no-quorum".into())
    );
}

#[test]
fn a_bus_that_comes_late_is_waited_for() {
    let Some(mut bus) = PrivateBus::start() else {
        return;
    };
    bus.stop();
    let _daemon = bus_fixture::serve_without_waiting(&bus);
    bus.restart();
    bus.until(|| (hactl(&bus, &["status"]).code == 0).then_some(()));
}

#[test]
fn a_caller_that_goes_away_disturbs_nobody() {
    let Some(bus) = PrivateBus::start() else {
        return;
    };
    let daemon = serve(&bus);
    daemon.hold_replies(true);
    let mut caller = bus_fixture::spawn_hactl(&bus, &["online"]);
    bus.until(|| (daemon.requests().len() == 1).then_some(()));
    caller.kill().unwrap();
    caller.wait().unwrap();
    daemon.hold_replies(false);
    assert_eq!(hactl(&bus, &["online"]).code, 0);
}
