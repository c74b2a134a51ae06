//! `on_failure`, `restart_limit` and `restart_window` of a resource: what its failures lead to.

use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::reader::Reader;
use crate::config::value::{self, Checked};
use crate::core::settings::{
    FailurePolicy, RESTART_LIMIT, RESTART_LIMIT_MAX, RESTART_WINDOW, Reaction,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use toml::de::DeValue;

/// Least and most time that a failure counts.
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// `on_failure`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OnFailure {
    Restart,
    Failover,
    Ignore,
}

/// The three keys as they stand there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct RawFailure {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_failure: Option<Found<OnFailure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart_limit: Option<Found<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart_window: Option<Found<Duration>>,
}

impl RawFailure {
    /// Reads them.
    pub(crate) fn read(table: &Reader<'_, '_>, problems: &mut Problems) -> Self {
        let limit = |v: &DeValue<'_>| value::integer(v, 0..=i64::from(RESTART_LIMIT_MAX));
        let window = |v: &DeValue<'_>| value::duration(v, WINDOW_MIN..=WINDOW_MAX);
        Self {
            on_failure: table.read("on_failure", problems, on_failure),
            restart_limit: table.read("restart_limit", problems, limit),
            restart_window: table.read("restart_window", problems, window),
        }
    }

    /// The policy; `is_address`: what can be mended of an address is mended in any case, so that a failure of one means
    /// that this node is not the place for it.
    pub(crate) fn policy(&self, is_address: bool) -> FailurePolicy {
        let default = if is_address && self.restart_limit.is_none() {
            OnFailure::Failover
        } else {
            OnFailure::Restart
        };
        let limit = self.restart_limit.as_ref().map(|found| found.value);
        let reaction = match self.on_failure.as_ref().map_or(default, |it| it.value) {
            OnFailure::Restart => Reaction::Restart {
                limit: limit.unwrap_or(RESTART_LIMIT),
            },
            OnFailure::Failover => Reaction::Restart { limit: 0 },
            OnFailure::Ignore => Reaction::Ignore,
        };
        let window = self.restart_window.as_ref();
        FailurePolicy {
            reaction,
            window: window.map_or(RESTART_WINDOW, |found| found.value),
        }
    }

    /// A limit where nothing is restarted: its place, and the word beside it.
    pub(crate) fn useless_limit(&self) -> Option<(Origin, &'static str)> {
        let limit = self.restart_limit.as_ref()?;
        match self.on_failure.as_ref()?.value {
            OnFailure::Restart => None,
            OnFailure::Failover => Some((limit.at, "failover")),
            OnFailure::Ignore => Some((limit.at, "ignore")),
        }
    }
}

/// Reports what contradicts itself.
pub(crate) fn check(raw: &RawFailure, problems: &mut Problems) {
    if let Some((at, word)) = raw.useless_limit() {
        let found = format!("restart_limit beside on_failure = {word:?}, which restarts nothing");
        let wrong = Wrong::new(found).expected("one of the two");
        problems.add(at, wrong);
    }
}

fn on_failure(value: &DeValue<'_>) -> Checked<OnFailure> {
    value::one_of(
        value,
        &[
            ("restart", OnFailure::Restart),
            ("failover", OnFailure::Failover),
            ("ignore", OnFailure::Ignore),
        ],
    )
}
