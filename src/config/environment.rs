//! The topmost layer: variables `HA_NODE_SECTION__KEY`, each read like a file with that one key.

use crate::config::decode;
use crate::config::place::Origin;
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::Raw;
use crate::config::schema::{CLUSTER, ROOT, SECTIONS, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const PREFIX: &str = "HA_NODE_";
const SEPARATOR: &str = "__";

/// One layer per variable that is a setting, in the order of the names.
pub(crate) fn layers(
    env: impl Iterator<Item = (String, String)>,
    problems: &mut Problems,
) -> Vec<Raw> {
    let mut settings: Vec<(String, String)> =
        env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    settings.sort();
    settings
        .iter()
        .filter_map(|(name, text)| layer(name, text, problems))
        .collect()
}

fn layer(name: &str, text: &str, problems: &mut Problems) -> Option<Raw> {
    let path = name.strip_prefix(PREFIX)?.to_lowercase();
    let Some((section, key)) = path.split_once(SEPARATOR) else {
        warn_of_single_underscore(name, &path, problems);
        return None;
    };
    let source = problems.sources.add_variable(name);
    let at = Origin { source, offset: 0 };
    if ["node", "link", "group"].contains(&section) {
        let wrong = Wrong::new(format!("{section} is a list")).expected("it in a file");
        problems.add(at, wrong.hint("lists cannot be set by the environment"));
        return None;
    }
    let mut inner = DeTable::new();
    inner.insert(
        at_start(key.to_owned().into()),
        at_start(typed(section, key, text)),
    );
    let mut table = DeTable::new();
    table.insert(
        at_start(section.to_owned().into()),
        at_start(DeValue::Table(inner)),
    );
    Some(decode::root(&table, source, problems))
}

fn at_start<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// The text as the type that the key has, so that a name of digits stays a name.
fn typed<'t>(section: &str, key: &str, text: &'t str) -> DeValue<'t> {
    let is_boolean = section == "cluster" && key == "auto_failback";
    debug_assert!(CLUSTER.keys.contains(&"auto_failback"), "the key's name");
    match text {
        "true" if is_boolean => DeValue::Boolean(true),
        "false" if is_boolean => DeValue::Boolean(false),
        _ => DeValue::String(text.into()),
    }
}

/// Variables without `__` belong to others, unless they look like a setting with one `_` too few.
fn warn_of_single_underscore(name: &str, path: &str, problems: &mut Problems) {
    let Some((section, key)) = path.split_once('_') else {
        return;
    };
    let is_section = ROOT.keys.contains(&section);
    let is_key = SECTIONS
        .iter()
        .any(|section| nearest(key, section.keys.iter().copied()) == Some(key));
    if is_section && is_key {
        let meant = format!("{PREFIX}{section}{SEPARATOR}{key}").to_uppercase();
        problems.warn(
            None,
            format!(
                "environment variable {name} is no setting, ignoring it; did you mean {meant}?"
            ),
        );
    }
}
