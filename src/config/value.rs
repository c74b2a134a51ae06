//! Single values: from a TOML value to a checked type, each with an error that says what would be right.

use crate::config::model::{Standby, is_multicast};
use crate::config::problem::Wrong;
use crate::config::raw::PolicyChoice;
use crate::config::schema::nearest;
use crate::ids::{NameError, NodeName};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Result of one value.
pub(crate) type Checked<T> = Result<T, Wrong>;

/// Longest value that is quoted in full in a message.
const QUOTED_MAX: usize = 60;

/// The word for a value's type, and the value where it is short.
pub(crate) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A text in quotes, cut where it is too long to be read.
pub(crate) fn quoted(text: &str) -> String {
    let start: String = text.chars().take(QUOTED_MAX).collect();
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("{:?}{dots}", start)
}

/// A text.
pub(crate) fn text<'v>(value: &'v DeValue<'_>, expected: &str) -> Checked<&'v str> {
    value
        .as_str()
        .ok_or_else(|| Wrong::new(describe(value)).expected(expected))
}

/// `true` or `false`.
pub(crate) fn boolean(value: &DeValue<'_>) -> Checked<bool> {
    value
        .as_bool()
        .ok_or_else(|| Wrong::new(describe(value)).expected("true or false, without quotes"))
}

/// `auto_failback`: a boolean, or Heartbeat's third way.
pub(crate) fn auto_failback(value: &DeValue<'_>) -> Checked<bool> {
    match value.as_str() {
        Some("legacy") => Err(
            Wrong::new("\"legacy\" is known, but not supported by this version")
                .expected("true or false, without quotes"),
        ),
        Some(_) | None => boolean(value),
    }
}

/// A whole number in a range.
pub(crate) fn integer<T: TryFrom<i64>>(
    value: &DeValue<'_>,
    range: RangeInclusive<i64>,
) -> Checked<T> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let wrong = || Wrong::new(describe(value)).expected(expected.clone());
    let number = value.as_integer().ok_or_else(wrong)?;
    let digits = number.as_str().trim_start_matches('+');
    i64::from_str_radix(digits, number.radix())
        .ok()
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(wrong)
}

/// A cluster's, group's or node's name.
pub(crate) fn name<T: std::str::FromStr<Err = NameError>>(value: &DeValue<'_>) -> Checked<T> {
    let text = text(value, "a name in quotes")?;
    text.parse()
        .map_err(|error: NameError| Wrong::new(format!("the name {}: {error}", quoted(text))))
}

/// A node's name, in lower case: the wire has it so, and Heartbeat takes `Alpha` and `alpha` for one node.
pub(crate) fn node_name(value: &DeValue<'_>) -> Checked<NodeName> {
    let name: NodeName = name(value)?;
    NodeName::new(&name.as_str().to_ascii_lowercase())
        .map_err(|error| Wrong::new(error.to_string()))
}

/// `role`: whether it is a witness.
pub(crate) fn role(value: &DeValue<'_>) -> Checked<bool> {
    one_of(value, &[("member", false), ("witness", true)])
}

/// `policy`
pub(crate) fn policy(value: &DeValue<'_>) -> Checked<PolicyChoice> {
    one_of(
        value,
        &[
            ("auto", PolicyChoice::Auto),
            ("majority", PolicyChoice::Majority),
            ("ignore", PolicyChoice::Ignore),
        ],
    )
}

/// `standby`
pub(crate) fn standby(value: &DeValue<'_>) -> Checked<Standby> {
    let words = [("stopped", Standby::Stopped), ("started", Standby::Started)];
    one_of(value, &words)
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Checked<T> {
    let list: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let expected = list.join(" or ");
    let text = text(value, &expected)?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| {
            Wrong::new(quoted(text))
                .expected(expected)
                .did_you_mean(nearest(text, words.iter().map(|(word, _)| *word)))
        })
}

/// An absolute path.
pub(crate) fn path(value: &DeValue<'_>) -> Checked<PathBuf> {
    let text = text(value, "an absolute path in quotes")?;
    if text.starts_with('/') && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        Err(Wrong::new(quoted(text)).expected("an absolute path, as \"/etc/ha-node/authkeys\""))
    }
}

/// Longest name of a network interface (IFNAMSIZ without the terminator).
pub(crate) const INTERFACE_LENGTH_MAX: usize = 15;

/// The name of a network interface.
pub(crate) fn interface(value: &DeValue<'_>) -> Checked<String> {
    let expected =
        "the name of a network interface, as \"eth0\": 1 to 15 bytes, no spaces, no '/' or ':'";
    let text = text(value, expected)?;
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    let valid = (1..=INTERFACE_LENGTH_MAX).contains(&text.len())
        && text.chars().all(allowed)
        && text != "."
        && text != "..";
    if valid {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}

/// The address of a node on a link.
pub(crate) fn host_address(value: &DeValue<'_>) -> Checked<IpAddr> {
    let expected = "the IPv4 or IPv6 address of the node, as \"10.0.0.1\"";
    let text = text(value, expected)?;
    let hint = "host names are not looked up, since that can block: write the address";
    let address: IpAddr = text.parse().map_err(|_| {
        let wrong = Wrong::new(quoted(text)).expected(expected);
        if text.contains('/') {
            wrong.hint("without a prefix length")
        } else {
            wrong.hint(hint)
        }
    })?;
    if is_host(address) {
        Ok(address)
    } else {
        Err(Wrong::new(format!("{text} is no address of a single host")).expected(expected))
    }
}

/// Whether one host can have the address.
pub(crate) fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// The group of a multicast link.
pub(crate) fn multicast_group(value: &DeValue<'_>) -> Checked<IpAddr> {
    let expected = "a multicast address, as \"239.0.0.42\" or \"ff15::42\"";
    let text = text(value, expected)?;
    text.parse()
        .ok()
        .filter(|address| is_multicast(*address))
        .ok_or_else(|| Wrong::new(quoted(text)).expected(expected))
}

/// Kinds of units that can be started and stopped by a job.
const UNIT_SUFFIXES: [&str; 8] = [
    "service",
    "socket",
    "target",
    "mount",
    "automount",
    "timer",
    "path",
    "swap",
];

/// Longest name of a unit.
const UNIT_LENGTH_MAX: usize = 255;

/// The name of a systemd unit.
pub(crate) fn unit(value: &DeValue<'_>) -> Checked<String> {
    let expected = "the name of a systemd unit with its suffix, as \"nginx.service\"";
    let text = text(value, expected)?;
    let wrong = || Wrong::new(quoted(text)).expected(expected);
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if text.is_empty() || text.len() > UNIT_LENGTH_MAX || !text.chars().all(allowed) {
        return Err(wrong().hint("letters, digits and : - _ . \\ @ are allowed"));
    }
    let Some((stem, suffix)) = text.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
        return Err(wrong().hint(format!("did you mean \"{text}.service\"?")));
    };
    if !UNIT_SUFFIXES.contains(&suffix) {
        let list = UNIT_SUFFIXES.join(", ");
        return Err(
            Wrong::new(format!("the suffix {suffix:?} in {}", quoted(text)))
                .expected(format!("one of {list}"))
                .did_you_mean(nearest(suffix, UNIT_SUFFIXES)),
        );
    }
    if stem.ends_with('@') {
        return Err(wrong().hint("a template needs an instance, as \"app@blue.service\""));
    }
    if text == "ha-node.service" {
        return Err(Wrong::new(
            "\"ha-node.service\" cannot be a resource of itself",
        ));
    }
    Ok(text.to_owned())
}

/// Longest identifier of a resource.
const ID_LENGTH_MAX: usize = 99;

/// The identifier of a resource.
pub(crate) fn resource_id(value: &DeValue<'_>) -> Checked<String> {
    let expected = "an identifier of 1 to 99 letters, digits and : - _ . / @";
    let text = text(value, expected)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_./@".contains(c);
    if (1..=ID_LENGTH_MAX).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}

const DURATION_EXPECTED: &str =
    "a duration in quotes with one of the units ms, s, m and h, as \"250ms\" or \"2s\"";

/// A duration in a range.
pub(crate) fn duration(value: &DeValue<'_>, range: RangeInclusive<Duration>) -> Checked<Duration> {
    if let DeValue::Integer(_) | DeValue::Float(_) = value {
        return Err(without_unit(&describe(value), number_text(value)));
    }
    let text = text(value, DURATION_EXPECTED)?;
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return Err(without_unit(&quoted(text), text));
    }
    let duration =
        parse_duration(text).ok_or_else(|| Wrong::new(quoted(text)).expected(DURATION_EXPECTED))?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        Err(Wrong::new(quoted(text)).expected(format!("a duration from {least} to {most}")))
    }
}

fn number_text<'v>(value: &'v DeValue<'_>) -> &'v str {
    value
        .as_integer()
        .map(|number| number.as_str())
        .or_else(|| value.as_float().map(|number| number.as_str()))
        .unwrap_or_default()
}

fn without_unit(found: &str, number: &str) -> Wrong {
    Wrong::new(format!("{found} has no unit"))
        .expected(DURATION_EXPECTED)
        .hint(format!(
            "write \"{number}s\" for seconds, \"{number}ms\" for milliseconds"
        ))
}

/// Digits after the point that count: nanoseconds of a second.
const FRACTION_DIGITS_MAX: usize = 9;

/// `"250ms"`, `"1.5s"`, `"5m"`, `"1h"`; nothing else, and nothing that does not fit.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_start);
    let nanos_per_unit: u64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(nanos_per_unit)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = fraction.parse::<u128>().ok()? * u128::from(nanos_per_unit) / scale;
    let nanos = whole.checked_add(u64::try_from(fraction).ok()?)?;
    Some(Duration::from_nanos(nanos))
}

/// A duration as it would stand in the file, in the largest unit that needs no fraction.
pub(crate) fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (size, unit) in [
        (3_600_000_000_000_u128, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
    ] {
        if nanos > 0 && nanos.is_multiple_of(size) {
            return format!("{}{unit}", nanos / size);
        }
    }
    let (whole, rest) = (nanos / 1_000_000, nanos % 1_000_000);
    if rest == 0 {
        return format!("{whole}ms");
    }
    let fraction = format!("{rest:06}");
    format!("{whole}.{}ms", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_number_and_one_of_four_units() {
        let ms = Duration::from_millis;
        assert_eq!(parse_duration("250ms"), Some(ms(250)));
        assert_eq!(parse_duration("2s"), Some(ms(2_000)));
        assert_eq!(parse_duration("5m"), Some(ms(300_000)));
        assert_eq!(parse_duration("1h"), Some(ms(3_600_000)));
        assert_eq!(parse_duration("1.5s"), Some(ms(1_500)));
        assert_eq!(parse_duration("0.5ms"), Some(Duration::from_micros(500)));
        for wrong in [
            "",
            "s",
            "1",
            "1 s",
            "-1s",
            "+1s",
            ".5s",
            "1.s",
            "1.2.3s",
            "1d",
            "1S",
            "1sec",
            "1e3s",
            "99999999999999999999s",
            "1.0000000001s",
            "1s1ms",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn units_of_systemd_are_told_from_other_texts() {
        let check = |text: &str| unit(&DeValue::String(text.into()));
        for right in [
            "nginx.service",
            "app@blue.service",
            "srv-data.mount",
            "a\\x2db.service",
        ] {
            assert_eq!(check(right), Ok(right.to_owned()));
        }
        for wrong in [
            "",
            "nginx",
            ".service",
            "a/b.service",
            "a b.service",
            "x@.service",
            "eth0.device",
            "ha-node.service",
            "a.scope",
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_of_a_duration_reads_back_as_the_same(nanos in 1_u64..u64::MAX / 2) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }

        #[test]
        fn no_text_panics_a_value_parser(text in "\\PC*") {
            let value = DeValue::String(text.as_str().into());
            let _ = (unit(&value), host_address(&value), interface(&value));
            let _ = duration(&value, Duration::ZERO..=Duration::MAX);
        }
    }
}
