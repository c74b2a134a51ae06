//! What good and bad answers in a row amount to. Knows neither time nor what was asked.

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that anybody must hear of.
    None,
    /// The first bad answer in a row, where more are needed for a failure.
    Failing,
    /// A good answer before the bad ones were enough.
    Recovered,
    /// The bad answers are enough.
    Failed,
    /// After that the good ones are.
    Good,
}

/// What the answers so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not good yet since the start.
    Starting,
    Good,
    Failed,
}

/// Equal answers in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Streak {
    good: bool,
    length: u32,
}

/// Counts the answers to one check since its resource was started.
#[derive(Debug)]
pub(super) struct Count {
    failures: u32,
    successes: u32,
    standing: Standing,
    streak: Streak,
}

impl Count {
    /// With the numbers of bad answers that make it fail and of good ones that make it good.
    pub(super) fn new(failures: u32, successes: u32) -> Self {
        Self {
            failures,
            successes,
            standing: Standing::Starting,
            streak: NOTHING_YET,
        }
    }

    /// Takes in an answer. In the grace after a start, bad ones do not count before it was good once.
    pub(super) fn record(&mut self, good: bool, in_grace: bool) -> Change {
        if !good && in_grace && self.standing == Standing::Starting {
            self.streak = NOTHING_YET;
            return Change::None;
        }
        let before = self.streak;
        let length = if before.good == good {
            before.length.saturating_add(1)
        } else {
            1
        };
        self.streak = Streak { good, length };
        if good {
            self.on_good(before)
        } else {
            self.on_bad()
        }
    }

    fn on_good(&mut self, before: Streak) -> Change {
        let enough = self.streak.length >= self.successes;
        match self.standing {
            Standing::Failed if enough => {
                self.standing = Standing::Good;
                Change::Good
            }
            Standing::Failed => Change::None,
            Standing::Starting | Standing::Good => {
                if enough {
                    self.standing = Standing::Good;
                }
                if before.good {
                    Change::None
                } else {
                    Change::Recovered
                }
            }
        }
    }

    fn on_bad(&mut self) -> Change {
        match self.standing {
            Standing::Failed => Change::None,
            Standing::Starting | Standing::Good if self.streak.length >= self.failures => {
                self.standing = Standing::Failed;
                Change::Failed
            }
            Standing::Starting | Standing::Good if self.streak.length == 1 => Change::Failing,
            Standing::Starting | Standing::Good => Change::None,
        }
    }
}

const NOTHING_YET: Streak = Streak {
    good: true,
    length: 0,
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The changes that answers make: `+` good, `-` bad, `~` bad within the grace.
    fn changes(failures: u32, successes: u32, answers: &str) -> Vec<Change> {
        let mut count = Count::new(failures, successes);
        let change = |answer| count.record(answer == '+', answer == '~');
        answers.chars().map(change).collect()
    }

    #[test]
    fn one_bad_answer_below_the_count_is_survived() {
        assert_eq!(
            changes(3, 1, "+-+--+"),
            [
                Change::None,
                Change::Failing,
                Change::Recovered,
                Change::Failing,
                Change::None,
                Change::Recovered
            ]
        );
    }

    #[test]
    fn enough_bad_answers_fail_once_and_enough_good_ones_end_it() {
        assert_eq!(
            changes(2, 2, "+---+-++"),
            [
                Change::None,
                Change::Failing,
                Change::Failed,
                Change::None,
                Change::None,
                Change::None,
                Change::None,
                Change::Good
            ]
        );
        assert_eq!(changes(1, 1, "-+"), [Change::Failed, Change::Good]);
    }

    #[test]
    fn a_slow_start_counts_for_nothing_until_the_grace_is_over() {
        assert_eq!(
            changes(2, 1, "~~~--"),
            [
                Change::None,
                Change::None,
                Change::None,
                Change::Failing,
                Change::Failed
            ]
        );
    }

    #[test]
    fn the_grace_ends_with_the_first_success() {
        assert_eq!(
            changes(2, 1, "~+~~"),
            [Change::None, Change::None, Change::Failing, Change::Failed]
        );
        // One success where two are needed is not yet good.
        assert_eq!(changes(1, 2, "+~+~++~").last(), Some(&Change::Failed));
        assert_eq!(changes(1, 2, "+~+~"), [Change::None; 4]);
    }

    /// The same by looking at everything that came since the last change.
    fn failed_by_looking_back(failures: usize, successes: usize, answers: &[bool]) -> Vec<bool> {
        let mut failed = false;
        let mut since = 0;
        let mut all = Vec::new();
        for end in 1..=answers.len() {
            let wanted = if failed { successes } else { failures };
            let row = answers[since..end].iter().rev();
            if row.take_while(|good| **good == failed).count() >= wanted {
                failed = !failed;
                since = end;
            }
            all.push(failed);
        }
        all
    }

    proptest! {
        #[test]
        fn it_has_failed_exactly_when_the_last_answers_say_so(
            failures in 1_u32..5,
            successes in 1_u32..5,
            answers in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut count = Count::new(failures, successes);
            let mut failed = false;
            let mut all = Vec::new();
            for good in &answers {
                match count.record(*good, false) {
                    Change::Failed => { prop_assert!(!failed); failed = true; }
                    Change::Good => { prop_assert!(failed); failed = false; }
                    Change::Failing | Change::Recovered => prop_assert!(!failed),
                    Change::None => {}
                }
                all.push(failed);
            }
            let expected = failed_by_looking_back(failures as usize, successes as usize, &answers);
            prop_assert_eq!(all, expected);
        }

        #[test]
        fn nothing_fails_within_the_grace_before_it_was_good(
            failures in 1_u32..5,
            successes in 1_u32..5,
            answers in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut count = Count::new(failures, successes);
            let mut row = 0;
            for good in answers {
                let change = count.record(good, true);
                prop_assert_ne!(change, Change::Failed);
                row = if good { row + 1 } else { 0 };
                if row >= successes {
                    break;
                }
            }
        }
    }
}
