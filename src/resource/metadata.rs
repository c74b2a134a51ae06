//! The time-outs that an OCF agent advises in its meta-data.
//!
//! Reads no more of the XML than the tags of actions, and believes no more than a plain duration in range: what is
//! damaged or strange is passed over.

use std::time::Duration;

/// Shortest and longest time-out that is believed.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// How long the actions of an agent may take; none where it says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) start: Option<Duration>,
    pub(super) stop: Option<Duration>,
    pub(super) monitor: Option<Duration>,
}

/// Reads them. Of several monitor actions (one for each role) the longest counts.
pub(super) fn parse(text: &str) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for tag in text.split("<action").skip(1) {
        let Some((attributes, _)) = tag.split_once('>') else {
            break;
        };
        // `<actions>` begins alike, and has no attributes.
        let timeout = attribute(attributes, "timeout").and_then(duration);
        let place = match attribute(attributes, "name") {
            Some("start") => &mut timeouts.start,
            Some("stop") => &mut timeouts.stop,
            Some("monitor") => &mut timeouts.monitor,
            Some(_) | None => continue,
        };
        *place = (*place).max(timeout);
    }
    timeouts
}

/// The value of `name="…"` or `name='…'` among attributes.
fn attribute<'t>(attributes: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = attributes;
    loop {
        let (before, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'')?;
        let (value, behind) = after.get(1..)?.split_once(quote)?;
        if before.trim() == name {
            return Some(value.trim());
        }
        rest = behind;
    }
}

/// `20`, `20s`, `20000ms`, `1min`, `1m`, `1h`; a number alone is seconds.
fn duration(text: &str) -> Option<Duration> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "" | "s" | "sec" => 1000,
        "ms" | "msec" => 1,
        "m" | "min" => 60_000,
        "h" | "hr" => 3_600_000,
        _ => return None,
    };
    let time = Duration::from_millis(number.checked_mul(millis)?);
    Some(time.clamp(TIMEOUT_MIN, TIMEOUT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_actions_are_read() {
        let text = r#"ocf warning on the same stream
            <resource-agent name="X"><parameters/><actions>
            <action name="start"        timeout="60s" />
            <action timeout='1min' name='stop'/>
            <action name="monitor" depth="0" timeout="20" interval="10s" role="Slave"/>
            <action name="monitor" depth="0" timeout="40000ms" interval="20s" role="Master"/>
            <action name="meta-data" timeout="5s"/></actions>"#;
        let seconds = |s| Some(Duration::from_secs(s));
        let expected = Timeouts {
            start: seconds(60),
            stop: seconds(60),
            monitor: seconds(40),
        };
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn what_is_strange_is_passed_over() {
        for text in [
            "",
            "<action",
            "<action name=\"start\"",
            "<action name=start timeout=20>",
            "<action name=\"start\" timeout=\"soon\">",
            "<action name=\"start\" timeout=\"99999999999999999999s\">",
            "<action name=\"start\" timeout=\"18446744073709551615h\">",
            "<action name=\"é\" timeout=\"é\">",
            "<action =\"\" ='>",
        ] {
            assert_eq!(parse(text), Timeouts::default(), "{text}");
        }
        let text = "<action name=\"start\" timeout=\"0\"><action name=\"stop\" timeout=\"9h\">";
        let parsed = parse(text);
        assert_eq!(
            (parsed.start, parsed.stop),
            (Some(TIMEOUT_MIN), Some(TIMEOUT_MAX))
        );
    }
}
