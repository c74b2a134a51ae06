//! Failures of one group on this node: what each leads to, and when it is forgotten.
//!
//! A failure is answered by a restart here as long as fewer than the resource's limit lie within its window, then by a
//! bar: the node may not run the group. What does not start bars at once. A bar ends when its cause is seen to be over,
//! else after a pause that grows from trial to trial, and leaves a doubt: such a node is asked only where no other is
//! left, and so often only ([`TRIALS_MAX`]), until it has run the group for a whole window or a person has cleared it.

use crate::core::settings::{FailurePolicy, Reaction};
use crate::core::time::Instant;
use crate::wire::status::Fitness;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many bars in a row end by themselves; the next one only a person ends, or the end of its cause.
pub(crate) const TRIALS_MAX: u32 = DOUBLINGS + 1;

/// How often the pause before a trial doubles: from a 64th of the window to all of it.
const DOUBLINGS: u32 = 6;

/// After so many windows without a trial a node has all of its trials again.
const TRIALS_DECAY: u32 = 10;

/// Failures of one resource that are remembered, the newest of them; more than any limit.
const REMEMBERED_MAX: usize = 128;

/// What the failure of a resource that ran leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It is started anew, for the n-th time of so many.
    Restart { attempt: u32, limit: u32 },
    /// This node may not run the group any more.
    Bar,
    /// Nothing.
    Ignore,
}

/// The failures of one group, which outlive the daemon as long as the machine is up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failures {
    recent: BTreeMap<String, Recent>,
    trust: Trust,
}

/// When something failed, and how long the leader may need to learn of it: no bar is shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) notice: Duration,
}

/// Those of one resource, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Recent {
    window: Duration,
    times: VecDeque<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
enum Trust {
    #[default]
    Whole,
    /// `until`: none where only a person ends it.
    Barred {
        until: Option<Instant>,
        window: Duration,
        trials: u32,
        /// The resource that failed last.
        #[serde(default)]
        cause: String,
    },
    Doubted {
        since: Instant,
        window: Duration,
        trials: u32,
    },
}

/// How far the group has come on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stint {
    /// It does not run here.
    None,
    /// It is being started: how a trial ends is not known yet.
    Beginning,
    /// It has run since then.
    Since(Instant),
}

impl Stint {
    /// When it will have run for a whole window.
    fn proves(self, window: Duration) -> Option<Instant> {
        match self {
            Self::None | Self::Beginning => None,
            Self::Since(start) => Some(start + window),
        }
    }
}

/// How long a bar lasts: a small part of the window at first, twice as long after each trial, at last the whole window.
pub(crate) fn pause(window: Duration, trials: u32) -> Duration {
    window / 2_u32.saturating_pow(DOUBLINGS.saturating_sub(trials))
}

impl Failures {
    /// A resource has failed while it ran.
    pub(super) fn on_failure(
        &mut self,
        resource: &str,
        policy: FailurePolicy,
        moment: Moment,
    ) -> Consequence {
        let attempt = self.note(resource, policy, moment.now);
        match policy.reaction {
            Reaction::Ignore => Consequence::Ignore,
            Reaction::Restart { limit } if attempt <= limit => {
                Consequence::Restart { attempt, limit }
            }
            Reaction::Restart { .. } => {
                self.bar(resource, policy, moment);
                Consequence::Bar
            }
        }
    }

    /// A resource did not start, or did not stop while a start was undone: to try it again here would be in vain.
    pub(super) fn on_defeat(&mut self, resource: &str, policy: FailurePolicy, moment: Moment) {
        self.note(resource, policy, moment.now);
        self.bar(resource, policy, moment);
    }

    /// Counts one failure; answers how many of the resource lie within its window.
    fn note(&mut self, resource: &str, policy: FailurePolicy, now: Instant) -> u32 {
        let fresh = || Recent {
            window: policy.window,
            times: VecDeque::new(),
        };
        let recent = self.recent.entry(resource.to_owned()).or_insert_with(fresh);
        if recent.times.len() >= REMEMBERED_MAX {
            recent.times.pop_front();
        }
        recent.times.push_back(now);
        let within = recent.times.iter().filter(|t| now < **t + policy.window);
        u32::try_from(within.count()).unwrap_or(u32::MAX)
    }

    fn bar(&mut self, resource: &str, policy: FailurePolicy, moment: Moment) {
        let (trials, before) = match &self.trust {
            Trust::Whole => (0, Duration::ZERO),
            Trust::Barred { trials, window, .. } | Trust::Doubted { trials, window, .. } => {
                (*trials, *window)
            }
        };
        // One resource with a short window must not make others look well.
        let window = policy.window.max(before);
        self.trust = Trust::Barred {
            until: (trials < TRIALS_MAX)
                .then(|| moment.now + pause(window, trials).max(moment.notice)),
            window,
            trials,
            cause: resource.to_owned(),
        };
    }

    /// Forgets what is past. Answers whether a bar has ended.
    pub(super) fn expire(&mut self, now: Instant, stint: Stint) -> bool {
        match self.trust {
            Trust::Barred {
                until: Some(until),
                window,
                trials,
                ..
            } if until <= now => {
                self.trust = Trust::Doubted {
                    since: until,
                    window,
                    trials: trials + 1,
                };
                self.prune(now);
                return true;
            }
            // The reasons for a bar are kept as long as it is there.
            Trust::Barred { .. } => return false,
            Trust::Doubted { window, .. } if stint.proves(window).is_some_and(|t| t <= now) => {
                self.trust = Trust::Whole;
            }
            Trust::Doubted {
                since,
                window,
                trials,
            } if trials > 0
                && stint != Stint::Beginning
                && since + TRIALS_DECAY * window <= now =>
            {
                self.trust = Trust::Doubted {
                    since,
                    window,
                    trials: 0,
                };
            }
            Trust::Doubted { .. } | Trust::Whole => {}
        }
        self.prune(now);
        false
    }

    /// What kept a resource from running is over. Answers whether a bar has ended by that.
    pub(super) fn on_recovery(&mut self, resource: &str, now: Instant) -> bool {
        match &self.trust {
            Trust::Barred {
                window,
                trials,
                cause,
                ..
            } if cause == resource => {
                self.trust = Trust::Doubted {
                    since: now,
                    window: *window,
                    trials: *trials,
                };
                self.prune(now);
                true
            }
            Trust::Barred { .. } | Trust::Doubted { .. } | Trust::Whole => false,
        }
    }

    fn prune(&mut self, now: Instant) {
        for recent in self.recent.values_mut() {
            recent.times.retain(|t| now < *t + recent.window);
        }
        self.recent.retain(|_, recent| !recent.times.is_empty());
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_deadline(&self, stint: Stint) -> Option<Instant> {
        let trust = match self.trust {
            Trust::Barred { until, .. } => return until,
            Trust::Doubted {
                since,
                window,
                trials,
            } => {
                let decays = trials > 0 && stint != Stint::Beginning;
                let decay = decays.then(|| since + TRIALS_DECAY * window);
                decay.into_iter().chain(stint.proves(window)).min()
            }
            Trust::Whole => None,
        };
        let oldest = self.recent.values().filter_map(|recent| {
            let first = recent.times.front()?;
            Some(*first + recent.window)
        });
        trust.into_iter().chain(oldest).min()
    }

    /// Whether only a person ends the bar.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.trust, Trust::Barred { until: None, .. })
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many are remembered.
    pub(super) fn count(&self) -> u32 {
        let all: usize = self.recent.values().map(|recent| recent.times.len()).sum();
        u32::try_from(all).unwrap_or(u32::MAX)
    }

    /// Whether the group may run here.
    pub(super) fn fitness(&self) -> Fitness {
        match self.trust {
            Trust::Whole => Fitness::Fit,
            Trust::Doubted { .. } => Fitness::Doubtful,
            Trust::Barred { .. } => Fitness::Unfit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(64);

    fn policy(limit: u32) -> FailurePolicy {
        FailurePolicy {
            reaction: Reaction::Restart { limit },
            window: WINDOW,
        }
    }

    fn when(seconds: u64) -> Moment {
        Moment {
            now: at(seconds),
            notice: Duration::from_millis(500),
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn restart(attempt: u32, limit: u32) -> Consequence {
        Consequence::Restart { attempt, limit }
    }

    #[test]
    fn restarts_are_limited_within_a_window_that_slides() {
        let mut failures = Failures::default();
        let mut fail = |seconds| failures.on_failure("a", policy(2), when(seconds));
        assert_eq!(fail(0), restart(1, 2));
        assert_eq!(fail(50), restart(2, 2));
        assert_eq!(fail(65), restart(2, 2));
        assert_eq!(fail(66), Consequence::Bar);
        assert_eq!(failures.fitness(), Fitness::Unfit);
        assert_eq!(failures.count(), 4);
    }

    #[test]
    fn each_resource_has_its_own_count() {
        let mut failures = Failures::default();
        assert_eq!(failures.on_failure("a", policy(1), when(0)), restart(1, 1));
        assert_eq!(failures.on_failure("b", policy(1), when(0)), restart(1, 1));
        assert_eq!(failures.count(), 2);
        assert_eq!(
            failures.on_failure("b", policy(0), when(0)),
            Consequence::Bar
        );
    }

    #[test]
    fn what_is_ignored_is_counted_and_bars_nothing() {
        let mut failures = Failures::default();
        let policy = FailurePolicy {
            reaction: Reaction::Ignore,
            window: WINDOW,
        };
        for second in 0..1000 {
            let consequence = failures.on_failure("a", policy, when(second));
            assert_eq!(consequence, Consequence::Ignore);
        }
        assert_eq!(failures.count(), 128);
        assert_eq!(failures.fitness(), Fitness::Fit);
    }

    #[test]
    fn counts_expire_one_by_one() {
        let mut failures = Failures::default();
        failures.on_failure("a", policy(9), when(0));
        failures.on_failure("a", policy(9), when(10));
        assert_eq!(failures.next_deadline(Stint::None), Some(at(64)));
        assert!(!failures.expire(at(64), Stint::None));
        assert_eq!(failures.count(), 1);
        assert_eq!(failures.next_deadline(Stint::None), Some(at(74)));
        assert!(!failures.expire(at(74), Stint::None));
        assert_eq!(failures.count(), 0);
        assert_eq!(failures.next_deadline(Stint::None), None);
    }

    #[test]
    fn a_bar_ends_soon_with_a_doubt_that_a_whole_window_of_running_ends() {
        let mut failures = Failures::default();
        failures.on_defeat("a", policy(9), when(10));
        assert_eq!(failures.next_deadline(Stint::None), Some(at(11)));
        assert!(!failures.expire(at(10), Stint::None));
        assert!(failures.expire(at(11), Stint::None));
        assert_eq!(failures.fitness(), Fitness::Doubtful);
        failures.expire(at(80), Stint::None);
        assert_eq!(failures.count(), 0);
        assert_eq!(failures.next_deadline(Stint::None), Some(at(651)));
        let runs = Stint::Since(at(100));
        assert_eq!(failures.next_deadline(runs), Some(at(164)));
        failures.expire(at(163), runs);
        assert_eq!(failures.fitness(), Fitness::Doubtful);
        failures.expire(at(164), runs);
        assert_eq!(failures.fitness(), Fitness::Fit);
    }

    #[test]
    fn a_bar_lasts_until_the_leader_can_know_of_it() {
        let mut failures = Failures::default();
        let notice = Duration::from_secs(5);
        failures.on_defeat("a", policy(0), Moment { now: at(0), notice });
        assert_eq!(failures.next_deadline(Stint::None), Some(at(5)));
    }

    #[test]
    fn a_bar_ends_with_its_cause_and_with_no_other() {
        let mut failures = Failures::default();
        failures.on_defeat("a", policy(0), when(0));
        assert!(!failures.on_recovery("b", at(0)));
        assert!(failures.on_recovery("a", at(0)));
        assert_eq!(failures.fitness(), Fitness::Doubtful);
        assert!(
            !failures.on_recovery("a", at(0)),
            "there is no bar any more"
        );
        failures.on_defeat("b", policy(0), when(0));
        assert!(!failures.on_recovery("a", at(0)), "the newest cause counts");
    }

    #[test]
    fn failures_of_one_resource_survive_the_bar_of_another() {
        let mut failures = Failures::default();
        let short = FailurePolicy {
            window: WINDOW / 8,
            ..policy(0)
        };
        assert_eq!(failures.on_failure("a", policy(1), when(0)), restart(1, 1));
        assert_eq!(failures.on_failure("b", short, when(1)), Consequence::Bar);
        assert!(failures.expire(at(2), Stint::None));
        assert_eq!(
            failures.on_failure("a", policy(1), when(12)),
            Consequence::Bar
        );
        assert!(failures.expire(at(14), Stint::None));
        failures.on_defeat("b", short, when(73));
        assert_eq!(
            failures.next_deadline(Stint::None),
            Some(at(77)),
            "a part of the longer window"
        );
    }

    #[test]
    fn trials_come_back_in_time_and_the_doubt_stays() {
        let mut failures = Failures::default();
        failures.on_defeat("a", policy(0), when(0));
        failures.expire(at(1), Stint::None);
        failures.expire(at(640), Stint::None);
        assert_eq!(failures.next_deadline(Stint::None), Some(at(641)));
        failures.expire(at(641), Stint::None);
        assert_eq!(failures.next_deadline(Stint::None), None);
        assert_eq!(failures.fitness(), Fitness::Doubtful);
    }

    #[test]
    fn a_trial_under_way_uses_up_no_time() {
        let mut failures = Failures::default();
        for now in [0, 1000] {
            failures.on_defeat("a", policy(0), when(now));
            failures.expire(at(now + 2), Stint::None);
            assert_eq!(failures.next_deadline(Stint::Beginning), Some(at(now + 64)));
            failures.expire(at(now + 999), Stint::Beginning);
            assert_eq!(failures.next_deadline(Stint::Beginning), None);
        }
        failures.on_defeat("a", policy(0), when(2000));
        assert_eq!(
            failures.next_deadline(Stint::None),
            Some(at(2004)),
            "the third pause"
        );
    }

    #[test]
    fn what_fails_at_every_trial_is_left_to_a_person() {
        let mut failures = Failures::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..TRIALS_MAX {
            failures.on_defeat("a", policy(0), when(now));
            let end = failures.next_deadline(Stint::None).unwrap();
            pauses.push(end.since(at(now)).as_secs());
            now += pauses.last().unwrap();
            assert!(failures.expire(at(now), Stint::None));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64]);
        assert!(!failures.is_final());
        failures.on_defeat("a", policy(0), when(now));
        assert!(failures.is_final());
        assert_eq!(failures.next_deadline(Stint::None), None);
        assert!(!failures.expire(at(1_000_000), Stint::None));
        assert_eq!(failures.fitness(), Fitness::Unfit);
        assert!(failures.on_recovery("a", at(1_000_000)));
    }
}
