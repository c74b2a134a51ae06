//! The runner against a driver that keeps a diary.

use super::*;
use crate::config::model::Standby;
use crate::config::vip::{AddressSet, AddressWithPrefix};
use crate::core::{FailurePolicy, Reaction};
use crate::ids::GroupName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use tokio::runtime::Builder;
use tokio::sync::Notify;

/// What the fake driver does with one resource.
#[derive(Debug, Clone, Default)]
struct Script {
    start: Act,
    stop: Act,
    fault: Option<&'static str>,
    appeared: bool,
    /// Survives being killed.
    immortal: bool,
    recovered: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum Act {
    #[default]
    Works,
    Fails(&'static str),
    Hangs,
}

#[derive(Debug, Default)]
struct Stage {
    diary: Mutex<Vec<String>>,
    scripts: Mutex<BTreeMap<String, Script>>,
    hanging: Notify,
    /// What was killed.
    killed: watch::Sender<BTreeSet<String>>,
}

struct Fake(Arc<Stage>);

impl Fake {
    async fn act(&self, verb: &str, resource: &Resource) -> Result<(), String> {
        self.0
            .diary
            .lock()
            .unwrap()
            .push(format!("{verb} {}", resource.id));
        let script = self.script(resource);
        match if verb == "start" {
            script.start
        } else {
            script.stop
        } {
            Act::Works => Ok(()),
            Act::Fails(reason) => Err(reason.to_owned()),
            Act::Hangs => {
                self.0.hanging.notify_one();
                // A stop hangs as long as what it waits for lives.
                let mut killed = self.0.killed.subscribe();
                let is_dead =
                    |dead: &BTreeSet<String>| verb == "stop" && dead.contains(&resource.id);
                killed.wait_for(is_dead).await.unwrap();
                Ok(())
            }
        }
    }

    fn script(&self, resource: &Resource) -> Script {
        let scripts = self.0.scripts.lock().unwrap();
        scripts.get(&resource.id).cloned().unwrap_or_default()
    }
}

impl Driver for Fake {
    async fn start(&self, resource: &Resource) -> Result<(), String> {
        self.act("start", resource).await
    }
    async fn stop(&self, resource: &Resource, _: Purpose) -> Result<(), String> {
        self.act("stop", resource).await
    }
    async fn kill(&self, resource: &Resource) {
        let line = format!("kill {}", resource.id);
        self.0.diary.lock().unwrap().push(line);
        if self.script(resource).immortal {
            return std::future::pending().await;
        }
        let id = resource.id.clone();
        self.0.killed.send_modify(|killed| {
            killed.insert(id);
        });
    }
    async fn fault(&self, resource: &Resource) -> Option<String> {
        self.script(resource).fault.map(str::to_owned)
    }
    fn appeared(&self, resource: &Resource) -> bool {
        self.script(resource).appeared
    }
    fn has_recovered(&self, resource: &Resource) -> bool {
        let mut scripts = self.0.scripts.lock().unwrap();
        let script = scripts.get_mut(&resource.id);
        script.is_some_and(|script| std::mem::take(&mut script.recovered))
    }
    async fn idle(&self) {
        std::future::pending().await
    }
    fn is_hidden(&self) -> bool {
        false
    }
    async fn show_presence(&self, presence: Presence) {
        self.0.diary.lock().unwrap().push(format!("{presence:?}"));
    }
    fn overdue(&self, _: &Resource) -> String {
        "the stage is empty".to_owned()
    }
}

#[path = "runner_force_tests.rs"]
mod force;
#[path = "runner_recovery_tests.rs"]
mod recovery;

/// A group `a` (unit), `v` and `w` (addresses), `b` (unit), and its runner.
struct Play {
    stage: Arc<Stage>,
    orders: watch::Sender<Option<Order>>,
    changes: watch::Sender<()>,
    events: mpsc::Receiver<HandsEvent>,
}

impl Play {
    fn begin() -> Self {
        Self::with(group())
    }

    fn with(group: Group) -> Self {
        let stage = Arc::new(Stage::default());
        let (orders, newest) = watch::channel(None);
        let (changes, seen) = watch::channel(());
        let (sender, events) = mpsc::channel(64);
        tokio::spawn(run(
            Arc::new(group),
            Fake(Arc::clone(&stage)),
            newest,
            seen,
            sender,
        ));
        Self {
            stage,
            orders,
            changes,
            events,
        }
    }

    fn script(&self, resource: &str, script: Script) {
        self.stage
            .scripts
            .lock()
            .unwrap()
            .insert(resource.to_owned(), script);
    }

    fn order(&self, id: u64, goal: Goal) {
        self.orders.send_replace(Some(Order {
            id: RequestId(id),
            goal,
            emergency: None,
        }));
    }

    /// The next outcome, with the order that it answers.
    async fn outcome(&mut self) -> (Option<u64>, GroupOutcome) {
        loop {
            match self.events.recv().await.unwrap() {
                HandsEvent::Group { order, outcome, .. } => return (order.map(|id| id.0), outcome),
                HandsEvent::Resource { .. } | HandsEvent::Note { .. } => {}
            }
        }
    }

    fn diary(&self) -> Vec<String> {
        std::mem::take(&mut *self.stage.diary.lock().unwrap())
    }
}

fn group() -> Group {
    let resource = |id: &str, kind| Resource {
        id: id.to_owned(),
        kind,
        start_timeout: Duration::from_millis(50),
        stop_timeout: Duration::from_millis(50),
        policy: FailurePolicy::default(),
        checks: Vec::new(),
    };
    let unit = |id: &str| {
        resource(
            id,
            ResourceKind::Unit {
                name: format!("{id}.service"),
                standby: Standby::Stopped,
            },
        )
    };
    let address = |id: &str| {
        let address = "192.0.2.1".parse().unwrap();
        let vip = AddressWithPrefix {
            address,
            prefix: 24,
        };
        resource(
            id,
            ResourceKind::Address(AddressSet::new(vec![vip], "eth0")),
        )
    };
    Group {
        name: GroupName::new("web").unwrap(),
        resources: vec![unit("a"), address("v"), address("w"), unit("b")],
        checks: Vec::new(),
        here: true,
        stop_margin: Duration::from_millis(250),
    }
}

fn play<F: Future>(acts: impl FnOnce(Play) -> F) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { acts(Play::begin()).await });
}

fn fails(reason: &'static str) -> Act {
    Act::Fails(reason)
}

#[test]
fn a_group_starts_left_to_right_and_stops_right_to_left() {
    play(|mut play| async move {
        play.order(1, Goal::Start);
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Started));
        assert_eq!(
            play.diary(),
            ["start a", "start v", "start w", "start b", "Here"]
        );
        play.order(2, Goal::Stop(Urgency::Orderly));
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Stopped));
        assert_eq!(
            play.diary(),
            ["Leaving", "stop b", "stop w", "stop v", "stop a"]
        );
    });
}

#[test]
fn a_lost_lease_takes_the_addresses_first() {
    play(|mut play| async move {
        play.order(1, Goal::Stop(Urgency::LeaseLost));
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Stopped));
        assert_eq!(
            play.diary(),
            ["stop w", "stop v", "Gone", "stop b", "stop a"]
        );
    });
}

#[test]
fn a_failed_start_is_rolled_back_in_reverse_with_the_one_that_failed() {
    play(|mut play| async move {
        play.script(
            "w",
            Script {
                start: fails("no interface"),
                ..Script::default()
            },
        );
        play.order(0, Goal::Stop(Urgency::Orderly));
        play.outcome().await;
        play.diary();
        play.order(1, Goal::Start);
        let expected = GroupOutcome::StartFailed {
            resource: "w".to_owned(),
            reason: "no interface".to_owned(),
        };
        assert_eq!(play.outcome().await, (Some(1), expected));
        let diary = play.diary();
        assert_eq!(
            diary,
            [
                "start a", "start v", "start w", "Gone", "stop w", "stop v", "stop a"
            ]
        );
    });
}

#[test]
fn a_roll_back_that_fails_leaves_the_group_blocked_and_tells_both_reasons() {
    play(|mut play| async move {
        play.script(
            "b",
            Script {
                start: fails("exit 1"),
                ..Script::default()
            },
        );
        play.script(
            "a",
            Script {
                stop: fails("busy"),
                ..Script::default()
            },
        );
        play.order(1, Goal::Start);
        let (_, outcome) = play.outcome().await;
        let GroupOutcome::StopFailed { resource, reason } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(resource, "a");
        assert!(
            reason.contains("busy") && reason.contains("exit 1"),
            "{reason}"
        );
    });
}

#[test]
fn a_start_that_takes_too_long_fails_with_what_it_waited_for() {
    play(|mut play| async move {
        play.script(
            "b",
            Script {
                start: Act::Hangs,
                ..Script::default()
            },
        );
        play.order(1, Goal::Start);
        let (_, outcome) = play.outcome().await;
        let GroupOutcome::StartFailed { resource, reason } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(resource, "b");
        assert!(
            reason.contains("50ms") && reason.contains("the stage is empty"),
            "{reason}"
        );
    });
}

#[test]
fn a_stop_that_takes_too_long_is_a_failed_stop_and_the_others_are_stopped_nevertheless() {
    play(|mut play| async move {
        play.script(
            "b",
            Script {
                stop: Act::Hangs,
                ..Script::default()
            },
        );
        play.order(1, Goal::Stop(Urgency::Orderly));
        let (_, outcome) = play.outcome().await;
        let GroupOutcome::StopFailed { resource, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(resource, "b");
        assert_eq!(
            play.diary(),
            ["Leaving", "stop b", "stop w", "stop v", "stop a"]
        );
    });
}

#[test]
fn a_stop_ends_a_start_under_way_and_only_the_stop_has_an_outcome() {
    play(|mut play| async move {
        play.script(
            "b",
            Script {
                start: Act::Hangs,
                ..Script::default()
            },
        );
        play.order(1, Goal::Start);
        play.stage.hanging.notified().await;
        play.order(2, Goal::Stop(Urgency::Orderly));
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Stopped));
        let diary = play.diary();
        assert_eq!(diary[5..], ["stop b", "stop w", "stop v", "stop a"]);
    });
}

#[test]
fn of_two_orders_at_once_only_the_newer_is_carried_out() {
    play(|mut play| async move {
        play.order(1, Goal::Start);
        play.order(2, Goal::Stop(Urgency::Orderly));
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Stopped));
        assert_eq!(
            play.diary(),
            ["Leaving", "stop b", "stop w", "stop v", "stop a"]
        );
    });
}

#[test]
fn a_failure_is_told_once_and_again_only_after_a_new_start() {
    play(|mut play| async move {
        let expected = GroupOutcome::Failed {
            resource: "b".to_owned(),
            reason: "gone".to_owned(),
        };
        play.order(1, Goal::Start);
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Started));
        play.script(
            "b",
            Script {
                fault: Some("gone"),
                ..Script::default()
            },
        );
        play.changes.send_replace(());
        assert_eq!(play.outcome().await, (None, expected.clone()));
        play.changes.send_replace(());
        play.order(2, Goal::Start);
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Started));
        assert_eq!(play.outcome().await, (None, expected));
    });
}

#[test]
fn states_are_shown_as_they_change() {
    play(|mut play| async move {
        play.script(
            "w",
            Script {
                start: fails("no"),
                ..Script::default()
            },
        );
        play.order(0, Goal::Stop(Urgency::Orderly));
        play.outcome().await;
        play.order(1, Goal::Start);
        let mut shown = Vec::new();
        loop {
            match play.events.recv().await.unwrap() {
                HandsEvent::Resource {
                    resource, state, ..
                } => {
                    shown.push(format!("{resource} {}", state.as_str()));
                }
                HandsEvent::Group { .. } => break,
                HandsEvent::Note { .. } => {}
            }
        }
        let last = |id: &str| shown.iter().rfind(|line| line.starts_with(id)).cloned();
        assert_eq!(shown[..2], ["a starting", "a started"]);
        assert_eq!(last("a").as_deref(), Some("a stopped"));
        assert_eq!(last("w").as_deref(), Some("w failed"));
        assert_eq!(last("b"), None);
    });
}

/// A resource fails, and the group is a group that does without `a`.
fn lenient() -> Group {
    let mut group = group();
    group.resources[0].policy.reaction = Reaction::Ignore;
    group
}

fn failing(reason: &'static str) -> Script {
    Script {
        fault: Some(reason),
        ..Script::default()
    }
}

fn failed(resource: &str, reason: &str) -> GroupOutcome {
    GroupOutcome::Failed {
        resource: resource.to_owned(),
        reason: reason.to_owned(),
    }
}

#[test]
fn a_restart_takes_the_resource_and_all_to_the_right_of_it() {
    play(|mut play| async move {
        play.order(1, Goal::Start);
        play.outcome().await;
        play.diary();
        play.order(2, Goal::Restart(2));
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Started));
        let diary = play.diary();
        assert_eq!(diary, ["stop b", "stop w", "start w", "start b", "Here"]);
    });
}

#[test]
fn a_restart_that_does_not_start_is_rolled_back_as_a_whole() {
    play(|mut play| async move {
        play.order(1, Goal::Start);
        play.outcome().await;
        play.diary();
        let script = Script {
            start: fails("no"),
            ..Script::default()
        };
        play.script("b", script);
        play.order(2, Goal::Restart(3));
        let (_, outcome) = play.outcome().await;
        assert!(
            matches!(outcome, GroupOutcome::StartFailed { .. }),
            "{outcome:?}"
        );
        let diary = play.diary();
        assert_eq!(
            diary,
            [
                "stop b", "start b", "Gone", "stop b", "stop w", "stop v", "stop a"
            ]
        );
    });
}

#[test]
fn a_second_failure_is_told_beside_a_first_and_again_after_a_restart_that_left_it() {
    play(|mut play| async move {
        play.order(1, Goal::Start);
        play.outcome().await;
        play.script("b", failing("gone"));
        play.changes.send_replace(());
        assert_eq!(play.outcome().await, (None, failed("b", "gone")));
        play.script("v", failing("lost"));
        play.changes.send_replace(());
        assert_eq!(play.outcome().await, (None, failed("v", "lost")));
        play.script("b", Script::default());
        play.order(2, Goal::Restart(3));
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Started));
        assert_eq!(play.outcome().await, (None, failed("v", "lost")));
    });
}

#[test]
fn a_group_starts_without_what_may_fail_and_tells_it_once() {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut play = Play::with(lenient());
        let script = Script {
            start: fails("no"),
            fault: Some("gone"),
            ..Script::default()
        };
        play.script("a", script);
        play.order(1, Goal::Start);
        assert_eq!(play.outcome().await, (None, failed("a", "no")));
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Started));
        play.script("b", failing("ended"));
        play.changes.send_replace(());
        assert_eq!(play.outcome().await, (None, failed("b", "ended")));
        play.script("b", Script::default());
        play.order(2, Goal::Restart(3));
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Started));
        // That nobody knows of a fault does not mean that it runs.
        play.script("a", Script::default());
        play.changes.send_replace(());
        tokio::time::sleep(Duration::from_secs(100)).await;
        play.script("a", failing("still"));
        play.changes.send_replace(());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(play.events.try_recv().is_err(), "no news");
        // Somebody starts it, and it goes again.
        let script = Script {
            appeared: true,
            ..Script::default()
        };
        play.script("a", script);
        play.changes.send_replace(());
        tokio::time::sleep(Duration::from_secs(1)).await;
        play.script("a", failing("again"));
        play.changes.send_replace(());
        assert_eq!(play.outcome().await, (None, failed("a", "again")));
        // What comes and goes all the time is not told all the time.
        for _ in 0..10 {
            play.script("a", Script::default());
            play.changes.send_replace(());
            tokio::time::sleep(Duration::from_millis(100)).await;
            play.script("a", failing("and again"));
            play.changes.send_replace(());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while let Ok(event) = play.events.try_recv() {
            assert!(!matches!(event, HandsEvent::Group { .. }), "{event:?}");
        }
    });
}

#[test]
fn a_restart_whose_stop_fails_leaves_nothing_else_running() {
    play(|mut play| async move {
        play.order(1, Goal::Start);
        play.outcome().await;
        play.diary();
        let script = Script {
            stop: fails("busy"),
            ..Script::default()
        };
        play.script("b", script);
        play.order(2, Goal::Restart(3));
        let (_, outcome) = play.outcome().await;
        assert!(
            matches!(outcome, GroupOutcome::StopFailed { .. }),
            "{outcome:?}"
        );
        let diary = play.diary();
        assert_eq!(diary, ["stop b", "Gone", "stop w", "stop v", "stop a"]);
    });
}

#[test]
fn a_group_that_has_failed_waits_for_nobody_who_is_bound_to_it() {
    play(|mut play| async move {
        play.order(1, Goal::Start);
        play.outcome().await;
        play.script("b", failing("gone"));
        play.changes.send_replace(());
        play.outcome().await;
        play.diary();
        play.order(2, Goal::Stop(Urgency::Orderly));
        play.outcome().await;
        assert_eq!(play.diary()[..2], ["Gone", "stop b"]);
    });
}

#[test]
fn what_somebody_starts_in_a_stopped_group_is_told_once_and_not_again_at_once() {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut play = Play::begin();
        let script = Script {
            appeared: true,
            ..Script::default()
        };
        play.script("a", script);
        play.order(1, Goal::Stop(Urgency::Orderly));
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Stopped));
        let appeared = GroupOutcome::Appeared {
            resource: "a".to_owned(),
        };
        assert_eq!(play.outcome().await, (None, appeared.clone()));
        let first = Instant::now();
        play.order(2, Goal::Stop(Urgency::Orderly));
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Stopped));
        assert_eq!(play.outcome().await, (None, appeared));
        assert_eq!(first.elapsed().as_secs(), APPEARANCE_PAUSE.as_secs());
    });
}

#[test]
fn what_an_earlier_daemon_has_left_behind_a_start_that_fails_is_stopped_too() {
    play(|mut play| async move {
        let script = Script {
            start: fails("no"),
            ..Script::default()
        };
        play.script("v", script);
        play.order(1, Goal::Start);
        play.outcome().await;
        let diary = play.diary();
        assert_eq!(diary[..2], ["start a", "start v"]);
        assert_eq!(diary[2..], ["Gone", "stop b", "stop w", "stop v", "stop a"]);
    });
}

#[test]
fn a_start_without_a_lease_is_refused_and_not_failed() {
    play(|mut play| async move {
        let script = Script {
            start: fails(crate::resource::guard::NO_LEASE),
            ..Script::default()
        };
        play.script("w", script);
        play.order(1, Goal::Start);
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::StartRefused));
    });
}
