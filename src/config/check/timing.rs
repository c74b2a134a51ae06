//! `[timing]`: keepalive < warntime < deadtime <= initdead.

use crate::config::model::KEEPALIVE_DEFAULT;
use crate::config::place::Found;
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::RawTiming;
use crate::config::value::show_duration;
use std::time::Duration;

/// Default of `keepalive`.
pub(crate) const KEEPALIVE: Duration = KEEPALIVE_DEFAULT;
/// Default of `warntime`, where it lies between the other two.
pub(crate) const WARNTIME: Duration = Duration::from_secs(1);
/// Default of `deadtime`.
pub(crate) const DEADTIME: Duration = Duration::from_secs(2);
/// Default of `initdead`, where `deadtime` is not longer.
pub(crate) const INITDEAD: Duration = Duration::from_secs(10);

/// The checked values.
pub(crate) struct Timing {
    pub(crate) keepalive: Duration,
    pub(crate) warntime: Duration,
    pub(crate) deadtime: Duration,
    pub(crate) initdead: Duration,
}

/// One value with its name, for messages.
struct Named<'r> {
    name: &'static str,
    value: Duration,
    found: Option<&'r Found<Duration>>,
}

impl Named<'_> {
    fn show(&self) -> String {
        let default = if self.found.is_none() {
            " (the default)"
        } else {
            ""
        };
        format!("{} = {}{default}", self.name, show_duration(self.value))
    }
}

/// Checks what the values mean together, and fills in the defaults.
pub(crate) fn check(raw: &RawTiming, problems: &mut Problems) -> Timing {
    let or = |found: &Option<Found<Duration>>, default| found.as_ref().map_or(default, |f| f.value);
    let keepalive = or(&raw.keepalive, KEEPALIVE);
    let deadtime = or(&raw.deadtime, DEADTIME);
    let warntime = or(&raw.warntime, warntime_default(keepalive, deadtime));
    let initdead = or(&raw.initdead, INITDEAD.max(deadtime));
    let timing = Timing {
        keepalive,
        warntime,
        deadtime,
        initdead,
    };
    report(raw, &timing, problems);
    timing
}

/// One second, or half way between keepalive and deadtime where one second is not between them.
fn warntime_default(keepalive: Duration, deadtime: Duration) -> Duration {
    if keepalive < WARNTIME && WARNTIME < deadtime {
        WARNTIME
    } else {
        (keepalive + deadtime) / 2
    }
}

fn report(raw: &RawTiming, timing: &Timing, problems: &mut Problems) {
    let keepalive = Named {
        name: "keepalive",
        value: timing.keepalive,
        found: raw.keepalive.as_ref(),
    };
    let warntime = Named {
        name: "warntime",
        value: timing.warntime,
        found: raw.warntime.as_ref(),
    };
    let deadtime = Named {
        name: "deadtime",
        value: timing.deadtime,
        found: raw.deadtime.as_ref(),
    };
    let initdead = Named {
        name: "initdead",
        value: timing.initdead,
        found: raw.initdead.as_ref(),
    };
    if deadtime.value < keepalive.value * 2 {
        tell(&deadtime, "at least twice", &keepalive, problems);
    } else if warntime.found.is_some() {
        if warntime.value <= keepalive.value {
            tell(&warntime, "longer than", &keepalive, problems);
        }
        if warntime.value >= deadtime.value {
            tell(&warntime, "shorter than", &deadtime, problems);
        }
    }
    if initdead.value < deadtime.value {
        tell(&initdead, "at least as long as", &deadtime, problems);
    }
}

/// Points at the first value, or at the second where the first is a default.
fn tell(first: &Named<'_>, relation: &str, second: &Named<'_>, problems: &mut Problems) {
    let wrong = Wrong::new(format!("{} with {}", first.show(), second.show()))
        .expected(format!("{} to be {relation} {}", first.name, second.name));
    let at = first.found.or(second.found).map(|found| found.at);
    problems.add_maybe_at(at, wrong);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_default_of_warntime_is_between_the_other_two(
            keepalive in 5_u64..10_000, factor in 2_u64..100
        ) {
            let keepalive = Duration::from_millis(keepalive);
            let deadtime = keepalive * u32::try_from(factor).unwrap();
            let warntime = warntime_default(keepalive, deadtime);
            prop_assert!(keepalive < warntime && warntime < deadtime);
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        assert_eq!(
            warntime_default(KEEPALIVE, DEADTIME),
            Duration::from_secs(1)
        );
    }
}
