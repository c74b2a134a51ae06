//! Emergency stops of the runner: addresses first, then good order, then force, and what outlives it.

use super::*;
use crate::core::time::Instant as Boottime;
use crate::resource::guard;

/// A stop for a lease that ended `ago` milliseconds ago.
fn emergency(play: &Play, ago: u64, margin: u64) {
    let ended = Boottime::from_nanos(guard::now().as_nanos() - ago * 1_000_000);
    play.orders.send_replace(Some(Order {
        id: RequestId(1),
        goal: Goal::Stop(Urgency::LeaseLost),
        emergency: Some(Emergency::new(ended, Duration::from_millis(margin))),
    }));
}

/// Stops take as long as they like here.
fn patient() -> Group {
    let mut group = group();
    for resource in &mut group.resources {
        resource.stop_timeout = Duration::from_secs(300);
    }
    group
}

fn hangs() -> Script {
    Script {
        stop: Act::Hangs,
        ..Script::default()
    }
}

#[test]
fn what_stops_in_good_order_is_not_killed() {
    play(|_| async move {
        let mut play = Play::with(patient());
        emergency(&play, 0, 1000);
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Stopped));
        let diary = play.diary();
        assert_eq!(diary, ["stop w", "stop v", "Gone", "stop b", "stop a"]);
    });
}

#[test]
fn what_does_not_stop_is_killed_within_the_margin_with_all_that_still_runs() {
    play(|_| async move {
        let mut play = Play::with(patient());
        play.script("b", hangs());
        let begin = Instant::now();
        emergency(&play, 0, 200);
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Stopped));
        let took = begin.elapsed();
        assert!(
            took >= Duration::from_millis(90),
            "a chance first: {took:?}"
        );
        assert!(took < Duration::from_millis(200), "{took:?}");
        let diary = play.diary();
        let expected = [
            "stop w", "stop v", "Gone", "stop b", "kill b", "kill a", "stop a",
        ];
        assert_eq!(diary, expected);
    });
}

#[test]
fn the_margin_counts_from_the_end_of_the_lease_and_not_from_the_order() {
    play(|_| async move {
        let mut play = Play::with(patient());
        play.script("b", hangs());
        let begin = Instant::now();
        emergency(&play, 10_000, 10_000);
        assert_eq!(play.outcome().await, (Some(1), GroupOutcome::Stopped));
        assert!(begin.elapsed() < Duration::from_secs(1), "at once");
    });
}

#[test]
fn what_outlives_force_is_told_at_the_end_of_the_margin_and_blocks_the_group() {
    play(|_| async move {
        let mut play = Play::with(patient());
        let script = Script {
            immortal: true,
            ..hangs()
        };
        play.script("b", script);
        // Long ago, so that its end is told at once and patience is short.
        emergency(&play, 60_000, 250);
        let mut note = None;
        let outcome = loop {
            match play.events.recv().await.unwrap() {
                HandsEvent::Note { resource, text, .. } => note = Some((resource, text)),
                HandsEvent::Group { outcome, .. } => break outcome,
                HandsEvent::Resource { .. } => {}
            }
        };
        let (resource, text) = note.unwrap();
        assert_eq!(resource, "b");
        assert!(text.contains("others may start it"), "{text}");
        let GroupOutcome::StopFailed { resource, reason } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(resource, "b");
        assert!(reason.contains("kernel"), "{reason}");
        assert!(
            play.diary().contains(&"stop a".to_owned()),
            "the rest is down"
        );
    });
}
