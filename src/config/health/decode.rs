//! `check = { … }` of a resource or a group, or a list of them, to [`HealthCheck`].

use super::{
    FAILURES_DEFAULT, HealthCheck, HttpProbe, HttpsProbe, INTERVAL_DEFAULT, Page, Probe,
    START_GRACE_DEFAULT, SUCCESSES_DEFAULT, TIMEOUT_DEFAULT, Trust, target,
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
const PROGRAM_INTERVAL_MIN: Duration = Duration::from_secs(1);
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
    only_with_https(table, problems);
    let probe = probe(table, problems);
    let or = |found: Option<Found<Duration>>, default| found.map_or(default, |found| found.value);
    let interval = table.read("interval", problems, |v| value::duration(v, INTERVAL));
    program_interval(table, interval.as_ref(), problems);
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

/// The keys that say which certificates are good.
fn only_with_https(table: &Reader<'_, '_>, problems: &mut Problems) {
    if is_https(table) {
        return;
    }
    for key in ["verify", "ca"] {
        if let Some((_, at)) = table.get(key) {
            let wrong = Wrong::new(format!("{key} is only for a check of an https:// page"));
            problems.add(at, wrong.hint("remove it, or write http = \"https://…\""));
        }
    }
}

fn is_https(table: &Reader<'_, '_>) -> bool {
    let url = table.get("http").and_then(|(value, _)| value.as_str());
    url.is_some_and(|url| url.starts_with(target::HTTPS))
}

/// `verify` and `ca`; none if they are wrong.
fn trust(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<Trust> {
    let verify = table.read("verify", problems, value::boolean);
    let ca = table.read("ca", problems, target::ca);
    let is_complete = |key, read| table.get(key).is_some() == read;
    if !is_complete("verify", verify.is_some()) || !is_complete("ca", ca.is_some()) {
        return None;
    }
    match (verify.is_none_or(|found| found.value), ca) {
        (true, None) => Some(Trust::System),
        (true, Some(ca)) => Some(Trust::Ca(ca.value)),
        (false, None) => Some(Trust::Any),
        (false, Some(ca)) => {
            let wrong =
                Wrong::new("ca together with verify = false, which asks for no certificate");
            problems.add(ca.at, wrong.hint("remove one of them"));
            None
        }
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
    let demand = |mut page: Page| {
        page.status = status.map(|found| found.value).unwrap_or_default();
        page.text = text.map(|found| found.value);
        page
    };
    if is_https(table) {
        let trust = trust(table, problems);
        let page = demand(table.read("http", problems, target::https)?.value);
        return trust.map(|trust| Probe::Https(HttpsProbe { trust, page }));
    }
    if let Some(found) = table.read("http", problems, target::http) {
        let HttpProbe { address, page } = found.value;
        let page = demand(page);
        return Some(Probe::Http(HttpProbe { address, page }));
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
fn program_interval(
    table: &Reader<'_, '_>,
    interval: Option<&Found<Duration>>,
    problems: &mut Problems,
) {
    let kind = match table.get("exec") {
        Some(_) => "exec",
        None if is_https(table) => "https",
        None => return,
    };
    if let Some(short) = interval.filter(|found| found.value < PROGRAM_INTERVAL_MIN) {
        let found = format!("interval: \"{}\" for {kind}", show_duration(short.value));
        let least = format!("at least {}", show_duration(PROGRAM_INTERVAL_MIN));
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
