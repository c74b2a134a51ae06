//! What was no failure of the group's, or is one no more, as the runner tells it.

use super::*;
use crate::resource::guard::{NEVER_ASKED, NO_ROOM};

#[test]
fn what_failed_for_a_want_that_is_over_is_told_once_the_group_is_down() {
    play(|mut play| async move {
        play.order(0, Goal::Stop(Urgency::Orderly));
        play.outcome().await;
        let script = Script {
            start: fails("no interface"),
            recovered: true,
            ..Script::default()
        };
        play.script("v", script);
        play.order(1, Goal::Start);
        let (order, outcome) = play.outcome().await;
        assert!(
            matches!(outcome, GroupOutcome::StartFailed { .. }),
            "{outcome:?}"
        );
        assert_eq!(order, Some(1));
        let recovered = |resource: &str| GroupOutcome::Recovered {
            resource: resource.to_owned(),
        };
        assert_eq!(play.outcome().await, (None, recovered("v")));
        let script = Script {
            recovered: true,
            ..Script::default()
        };
        play.script("w", script.clone());
        play.changes.send_replace(());
        assert_eq!(play.outcome().await, (None, recovered("w")));
        // While it runs there is nothing to recover from.
        play.script("v", script);
        play.order(2, Goal::Start);
        assert_eq!(play.outcome().await, (Some(2), GroupOutcome::Started));
        play.changes.send_replace(());
        play.order(3, Goal::Stop(Urgency::Orderly));
        assert_eq!(play.outcome().await, (Some(3), GroupOutcome::Stopped));
        assert_eq!(play.outcome().await, (None, recovered("v")));
    });
}

#[test]
fn a_start_that_was_never_asked_for_is_not_undone() {
    play(|mut play| async move {
        let cases = [
            (NEVER_ASKED, &["stop v", "stop a"][..], false),
            (NO_ROOM, &["stop w", "stop v", "stop a"][..], true),
        ];
        for (reason, undone, is_refused) in cases {
            play.order(0, Goal::Stop(Urgency::Orderly));
            play.outcome().await;
            play.diary();
            let script = Script {
                start: fails(reason),
                ..Script::default()
            };
            play.script("w", script);
            play.order(1, Goal::Start);
            let (_, outcome) = play.outcome().await;
            assert_eq!(
                outcome == GroupOutcome::StartRefused,
                is_refused,
                "{outcome:?}"
            );
            let diary = play.diary();
            let stops: Vec<&str> = diary.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops
                .into_iter()
                .filter(|it| it.starts_with("stop"))
                .collect();
            assert_eq!(stops, undone);
        }
    });
}
