//! `check = { … }` of a resource or a group, or a list of them, to [`HealthCheck`].

use super::{
    FAILURES_DEFAULT, HealthCheck, INTERVAL_DEFAULT, Probe, START_GRACE_DEFAULT, SUCCESSES_DEFAULT,
    TIMEOUT_DEFAULT, target,
};
use crate::config::decode::exactly_one;
use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::reader::{Reader, about, origin};
use crate::config::schema::CHECK;
use crate::config::value::{self, Checked, describe, quoted, show_duration};
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::DeValue;

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const EXEC_INTERVAL_MIN: Duration = Duration::from_secs(1);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const START_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const COUNT: RangeInclusive<i64> = 1..=1000;
const STATUS: RangeInclusive<i64> = 100..=599;
/// Most status codes that one check can list.
const STATUS_MAX: usize = 50;
/// Longest text that is looked for.
const TEXT_LENGTH_MAX: usize = 1000;

/// The key `check` of a table; nothing if it is not set.
pub(crate) fn checks(table: &Reader<'_, '_>, problems: &mut Problems) -> Vec<Found<HealthCheck>> {
    let Some((value, at)) = table.get("check") else {
        return Vec::new();
    };
    match value.as_array() {
        Some(list) => list
            .iter()
            .filter_map(|entry| {
                let at = origin(at.source, &entry.span());
                entry_of(entry.get_ref(), at, problems)
            })
            .collect(),
        None => entry_of(value, at, problems).into_iter().collect(),
    }
}

fn entry_of(
    value: &DeValue<'_>,
    at: Origin,
    problems: &mut Problems,
) -> Option<Found<HealthCheck>> {
    let Some(map) = value.as_table() else {
        let expected = "a table, as { http = \"http://127.0.0.1/\" }, or a list of such tables";
        let wrong = Wrong::new(describe(value)).expected(expected);
        problems.add(at, about("check", wrong));
        return None;
    };
    let table = Reader::new(&CHECK, map, at, problems);
    let value = check(&table, problems)?;
    Some(Found { value, at })
}

fn check(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<HealthCheck> {
    only_with(table, "status", "http", problems);
    only_with(table, "text", "http", problems);
    only_with(table, "user", "exec", problems);
    let probe = probe(table, problems);
    let or = |found: Option<Found<Duration>>, default| found.map_or(default, |found| found.value);
    let interval = table.read("interval", problems, |v| value::duration(v, INTERVAL));
    exec_interval(table, interval.as_ref(), problems);
    let interval = or(interval, INTERVAL_DEFAULT);
    let timeout = table.read("timeout", problems, |v| timeout(v, interval));
    let start_grace = table.read("start_grace", problems, |v| value::duration(v, START_GRACE));
    let count = |v: &DeValue<'_>| value::integer(v, COUNT);
    let failures = table.read("failures", problems, count);
    let successes = table.read("successes", problems, count);
    Some(HealthCheck {
        probe: probe?,
        interval,
        timeout: or(timeout, interval.min(TIMEOUT_DEFAULT)),
        failures: failures.map_or(FAILURES_DEFAULT, |found| found.value),
        successes: successes.map_or(SUCCESSES_DEFAULT, |found| found.value),
        start_grace: or(start_grace, START_GRACE_DEFAULT),
    })
}

/// A key that means something for one kind only.
fn only_with(table: &Reader<'_, '_>, key: &str, kind: &str, problems: &mut Problems) {
    if let (Some((_, at)), None) = (table.get(key), table.get(kind)) {
        let wrong = Wrong::new(format!("{key} is only for a check with {kind}"));
        problems.add(at, wrong.hint("remove it"));
    }
}

fn probe(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<Probe> {
    exactly_one(table, &["http", "tcp", "exec", "unit"], problems)?;
    let status = table.read("status", problems, status);
    let text = table.read("text", problems, body_text);
    let user = table.read("user", problems, target::user);
    let tcp = table.read("tcp", problems, target::tcp);
    let exec = table.read("exec", problems, target::command);
    let unit = table.read("unit", problems, value::unit);
    if let Some(http) = table.read("http", problems, target::http) {
        let mut http = http.value;
        http.page.status = status.map(|found| found.value).unwrap_or_default();
        http.page.text = text.map(|found| found.value);
        return Some(Probe::Http(http));
    }
    let user = user.map(|found| found.value);
    tcp.map(|found| Probe::Tcp {
        address: found.value,
    })
    .or(exec.map(|found| Probe::Exec {
        command: found.value,
        user,
    }))
    .or(unit.map(|found| Probe::Unit { name: found.value }))
}

/// Each attempt of a program is a unit, which costs systemd some milliseconds.
fn exec_interval(
    table: &Reader<'_, '_>,
    interval: Option<&Found<Duration>>,
    problems: &mut Problems,
) {
    if table.get("exec").is_some()
        && let Some(short) = interval.filter(|found| found.value < EXEC_INTERVAL_MIN)
    {
        let found = format!("interval: \"{}\" for exec", show_duration(short.value));
        let least = format!("at least {}", show_duration(EXEC_INTERVAL_MIN));
        let wrong = Wrong::new(found).expected(least);
        problems.add(
            short.at,
            wrong.hint("each attempt is a unit that systemd runs"),
        );
    }
}

/// Attempts do not overlap, and the time until a failure is noticed shall be the one that can be read off.
fn timeout(value: &DeValue<'_>, interval: Duration) -> Checked<Duration> {
    let timeout = value::duration(value, TIMEOUT)?;
    if timeout <= interval {
        return Ok(timeout);
    }
    let limit = format!("at most the interval, {}", show_duration(interval));
    let wrong = Wrong::new(value.as_str().map_or_else(String::new, quoted)).expected(limit);
    Err(wrong.hint("a longer interval allows a longer timeout"))
}

/// `status`: one code or a list.
fn status(value: &DeValue<'_>) -> Checked<Vec<u16>> {
    let code = |value: &DeValue<'_>| value::integer(value, STATUS);
    let Some(list) = value.as_array() else {
        return Ok(vec![code(value)?]);
    };
    if !(1..=STATUS_MAX).contains(&list.len()) {
        let found = format!("a list of {} codes", list.len());
        return Err(Wrong::new(found).expected(format!("1 to {STATUS_MAX} status codes")));
    }
    list.iter().map(|entry| code(entry.get_ref())).collect()
}

/// `text`: what is looked for in a body.
fn body_text(value: &DeValue<'_>) -> Checked<String> {
    let expected = format!("a text of 1 to {TEXT_LENGTH_MAX} bytes");
    let text = value::text(value, &expected)?;
    if (1..=TEXT_LENGTH_MAX).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}
