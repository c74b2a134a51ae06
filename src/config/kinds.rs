//! Resources that are neither an address nor a unit (`mount`, `script`, `ocf`), and `[[respawn]]`: what their keys
//! say, each value judged by itself.

use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::reader::{Reader, about, origin};
use crate::config::value::{self, Checked, describe, quoted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use toml::de::DeValue;

/// The keys that name a kind.
pub(crate) const KINDS: [&str; 5] = ["vip", "unit", "mount", "script", "ocf"];

/// Keys that only some kinds have.
const KEYS_OF_KINDS: [(&str, &[&str]); 12] = [
    ("interface", &["vip"]),
    ("label", &["vip"]),
    ("source", &["vip"]),
    ("route", &["vip"]),
    ("on_conflict", &["vip"]),
    ("standby", &["unit"]),
    ("device", &["mount"]),
    ("fstype", &["mount"]),
    ("options", &["mount"]),
    ("args", &["script"]),
    ("params", &["ocf"]),
    ("monitor_interval", &["script", "ocf"]),
];

/// Least and most time between two monitor actions.
const MONITOR_INTERVAL_MIN: Duration = Duration::from_secs(1);
const MONITOR_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// Most arguments or parameters of one program, and the longest of them in bytes.
const ARGUMENTS_MAX: usize = 100;
const ARGUMENT_LENGTH_MAX: usize = 4096;

/// Longest name of a unit.
const UNIT_LENGTH_MAX: usize = 255;

/// A resource of one of these kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RawKind {
    Mount(RawMount),
    Script(RawScript),
    Ocf(RawOcf),
}

/// `{ mount = …, device = … }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawMount {
    pub(crate) directory: Found<String>,
    pub(crate) device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fstype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) options: Option<String>,
}

/// `{ script = …, args = […] }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawScript {
    pub(crate) path: String,
    pub(crate) arguments: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) monitor_interval: Option<Duration>,
}

/// `{ ocf = …, params = {…} }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawOcf {
    pub(crate) provider: String,
    pub(crate) agent: String,
    pub(crate) parameters: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) monitor_interval: Option<Duration>,
}

/// `[[respawn]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawRespawn {
    pub(crate) user: String,
    pub(crate) command: Vec<String>,
}

/// Tells of keys that the resource's kind does not have.
pub(crate) fn misplaced_keys(table: &Reader<'_, '_>, problems: &mut Problems) {
    for (key, kinds) in KEYS_OF_KINDS {
        let has_kind = kinds.iter().any(|kind| table.get(kind).is_some());
        if let Some((_, at)) = table.get(key).filter(|_| !has_kind) {
            let article = match kinds {
                ["ocf"] => "an",
                _ => "a",
            };
            let found = format!("{key} is only for {article} {}", kinds.join(" or "));
            problems.add(at, Wrong::new(found).hint("remove it"));
        }
    }
}

/// The kind and what belongs to it; none for an address or a unit, and where something is wrong.
pub(crate) fn kind(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawKind> {
    if table.get("mount").is_some() {
        return mount(table, problems).map(RawKind::Mount);
    }
    let monitor_interval = table
        .read("monitor_interval", problems, |v| {
            value::duration(v, MONITOR_INTERVAL_MIN..=MONITOR_INTERVAL_MAX)
        })
        .map(|found| found.value);
    if table.get("script").is_some() {
        let arguments = strings(table, "args", problems);
        let path = table.read("script", problems, program_path)?.value;
        return Some(RawKind::Script(RawScript {
            path,
            arguments,
            monitor_interval,
        }));
    }
    table.get("ocf")?;
    let parameters = parameters(table, problems);
    let (provider, agent) = table.read("ocf", problems, agent)?.value;
    Some(RawKind::Ocf(RawOcf {
        provider,
        agent,
        parameters,
        monitor_interval,
    }))
}

fn mount(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawMount> {
    let word = |v: &DeValue<'_>| plain(v, "a word in quotes");
    let fstype = table.read("fstype", problems, word);
    let options = table.read("options", problems, word);
    let directory = table.read("mount", problems, directory);
    if table.get("device").is_none() {
        let wrong = Wrong::new("a mount has no device").expected("device = \"/dev/drbd0\"");
        problems.add(table.at, wrong);
    }
    let device = table.read("device", problems, |v| {
        plain(v, "what to mount, as \"/dev/drbd0\" or \"server:/export\"")
    })?;
    Some(RawMount {
        directory: directory?,
        device: device.value,
        fstype: fstype.map(|found| found.value),
        options: options.map(|found| found.value),
    })
}

/// One `[[respawn]]`.
pub(crate) fn respawn(table: &Reader<'_, '_>, problems: &mut Problems) -> Option<RawRespawn> {
    let user = table.require("user", problems, user);
    if table.get("command").is_none() {
        let wrong = Wrong::new("[[respawn]] has no key \"command\"")
            .expected("command = [\"/usr/local/bin/mydaemon\", \"-v\"]");
        problems.add(table.at, wrong);
        return None;
    }
    let command = strings(table, "command", problems);
    let (_, at) = table.get("command")?;
    let absolute = command.first().is_some_and(|path| is_path(path));
    if !absolute && table.get("command").is_some_and(|(v, _)| v.is_array()) {
        let wrong = Wrong::new("command: the program has no absolute path")
            .expected("the program by its absolute path, then its arguments");
        problems.add(at, wrong);
    }
    Some(RawRespawn {
        user: user?.value,
        command,
    })
}

/// A user's name, or number.
fn user(value: &DeValue<'_>) -> Checked<String> {
    let expected = "the name of a user, as \"hacluster\"";
    let text = value::text(value, expected)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let valid = (1..=31).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with(['-', '.']);
    if valid {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}

/// A list of texts that become arguments; empty where the key is not set or wrong, which is then told.
fn strings(table: &Reader<'_, '_>, key: &str, problems: &mut Problems) -> Vec<String> {
    let Some(list) = table.list(key, problems) else {
        return Vec::new();
    };
    if list.value.len() > ARGUMENTS_MAX {
        let wrong = Wrong::new(format!("{} entries", list.value.len()))
            .expected(format!("at most {ARGUMENTS_MAX}"));
        problems.add(list.at, about(key, wrong));
    }
    let mut all = Vec::new();
    for (entry, at) in list.value {
        match argument(entry) {
            Ok(text) => all.push(text),
            Err(wrong) => problems.add(at, about(key, wrong)),
        }
    }
    all
}

/// Something that a program gets word for word; a number or truth value is taken as it is written.
fn argument(value: &DeValue<'_>) -> Checked<String> {
    let expected = "a text in quotes, a number, or true or false";
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            return Err(Wrong::new(describe(value)).expected(expected));
        }
    };
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.chars().any(control) {
        return Err(
            Wrong::new(format!("control characters in {}", quoted(&text)))
                .expected("text without them"),
        );
    }
    if text.len() > ARGUMENT_LENGTH_MAX {
        return Err(Wrong::new(format!("a text of {} bytes", text.len()))
            .expected(format!("at most {ARGUMENT_LENGTH_MAX}")));
    }
    Ok(text)
}

fn parameters(table: &Reader<'_, '_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some((value, at)) = table.get("params") else {
        return BTreeMap::new();
    };
    let Some(map) = value.as_table() else {
        let wrong = Wrong::new(describe(value)).expected("a table, as { ip = \"10.0.0.1\" }");
        problems.add(at, about("params", wrong));
        return BTreeMap::new();
    };
    if map.len() > ARGUMENTS_MAX {
        let wrong = Wrong::new(format!("{} parameters", map.len()))
            .expected(format!("at most {ARGUMENTS_MAX}"));
        problems.add(at, about("params", wrong));
    }
    let mut all = BTreeMap::new();
    for (name, entry) in map {
        let text: &str = name.get_ref();
        if let Err(wrong) = parameter_name(text) {
            problems.add(origin(at.source, &name.span()), about("params", wrong));
            continue;
        }
        match argument(entry.get_ref()) {
            Ok(value) => drop(all.insert(text.to_owned(), value)),
            Err(wrong) => {
                let at: Origin = origin(at.source, &entry.span());
                problems.add(at, about(&format!("params.{text}"), wrong));
            }
        }
    }
    all
}

/// A parameter becomes the variable `OCF_RESKEY_NAME`.
fn parameter_name(text: &str) -> Result<(), Wrong> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.is_empty() && text.len() < 100 && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Wrong::new(format!("the parameter {}", quoted(text)))
        .expected("a name of letters, digits and _"))
}

/// `PROVIDER:TYPE`
fn agent(value: &DeValue<'_>) -> Checked<(String, String)> {
    let expected = "PROVIDER:TYPE, as \"heartbeat:Filesystem\"";
    let text = value::text(value, expected)?;
    let wrong = || Wrong::new(quoted(text)).expected(expected);
    let valid = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.len() < 100 && part.chars().all(allowed)
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [provider, agent] if valid(provider) && valid(agent) => {
            Ok(((*provider).to_owned(), (*agent).to_owned()))
        }
        ["ocf", _, _] => Err(wrong().hint("without \"ocf:\" before it")),
        [agent] if valid(agent) => {
            Err(wrong().hint(format!("did you mean \"heartbeat:{agent}\"?")))
        }
        _ => Err(wrong()),
    }
}

fn program_path(value: &DeValue<'_>) -> Checked<String> {
    let expected = "the absolute path of a script, as \"/etc/init.d/x\"";
    let text = value::text(value, expected)?;
    if is_path(text) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}

/// An absolute path as systemd takes it: no `.`, `..`, empty part or control character.
fn is_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
    }) && text.len() <= ARGUMENT_LENGTH_MAX
        && !text.chars().any(char::is_control)
}

/// Where something is mounted.
fn directory(value: &DeValue<'_>) -> Checked<String> {
    let expected = "the absolute path of a directory other than /, as \"/srv\"";
    let text = value::text(value, expected)?;
    if !is_path(text) {
        let wrong = Wrong::new(quoted(text)).expected(expected);
        let trimmed = text.trim_end_matches('/');
        let near = Some(trimmed).filter(|path| is_path(path) && *path != text);
        return Err(wrong.did_you_mean(near));
    }
    if mount_unit(text).len() > UNIT_LENGTH_MAX {
        return Err(Wrong::new(quoted(text)).expected("a shorter path: it names a systemd unit"));
    }
    let of_the_system = [
        "/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr", "/var",
    ];
    if of_the_system.contains(&text) {
        let wrong = Wrong::new(format!("{text} belongs to the system"));
        return Err(wrong.expected("a directory of its own for the mount"));
    }
    Ok(text.to_owned())
}

/// A text of one line that is not empty.
fn plain(value: &DeValue<'_>, expected: &str) -> Checked<String> {
    let text = value::text(value, expected)?;
    let valid = !text.trim().is_empty()
        && text.len() <= ARGUMENT_LENGTH_MAX
        && !text.chars().any(char::is_control);
    if valid {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}

/// The name of the unit that mounts at an absolute path, as systemd-escape(1) makes it.
pub(crate) fn mount_unit(directory: &str) -> String {
    let mut name = String::new();
    for (position, byte) in directory.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if position == 0 => name.push_str("\\x2e"),
            b'_' | b':' | b'.' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_units_are_named_as_systemd_names_them() {
        for (directory, unit) in [
            ("/srv", "srv.mount"),
            ("/srv/www.de/a_b", "srv-www.de-a_b.mount"),
            ("/mnt/my-data", "mnt-my\\x2ddata.mount"),
            ("/.hidden/.x", "\\x2ehidden-.x.mount"),
            ("/a b", "a\\x20b.mount"),
            ("/ä", "\\xc3\\xa4.mount"),
        ] {
            assert_eq!(mount_unit(directory), unit);
        }
    }

    #[test]
    fn only_plain_absolute_paths_are_paths() {
        assert!(is_path("/etc/init.d/x"));
        for wrong in ["", "/", "x", "/a/", "//a", "/a/../b", "/./a", "/a\nb"] {
            assert!(!is_path(wrong), "{wrong:?}");
        }
    }
}
