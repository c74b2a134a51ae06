//! Reads the values of one TOML table, and tells of every key that is not among those of its section.

use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::schema::{Section, nearest, other_home};
use crate::config::value::{Checked, describe};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A point in a source.
pub(crate) fn origin(source: u32, span: &Range<usize>) -> Origin {
    Origin {
        source,
        offset: u32::try_from(span.start).unwrap_or(u32::MAX),
    }
}

/// One table, whose keys are read one by one.
pub(crate) struct Reader<'t, 'i> {
    pub(crate) section: &'static Section,
    pub(crate) at: Origin,
    table: &'t DeTable<'i>,
}

impl<'t, 'i> Reader<'t, 'i> {
    /// Takes a table, after telling of its unknown keys.
    pub(crate) fn new(
        section: &'static Section,
        table: &'t DeTable<'i>,
        at: Origin,
        problems: &mut Problems,
    ) -> Self {
        for key in table.keys() {
            if let Some(wrong) = check_key(section, key.get_ref()) {
                problems.add(origin(at.source, &key.span()), wrong);
            }
        }
        Self { section, at, table }
    }

    /// The value of a key and where it stands, if it is set.
    pub(crate) fn get(&self, key: &str) -> Option<(&'t DeValue<'i>, Origin)> {
        debug_assert!(self.section.keys.contains(&key), "{key} is in the schema");
        let value = self.table.get(key)?;
        Some((value.get_ref(), origin(self.at.source, &value.span())))
    }

    /// The checked value of a key; none if it is not set or wrong, which is then told.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        problems: &mut Problems,
        check: impl FnOnce(&DeValue<'i>) -> Checked<T>,
    ) -> Option<Found<T>> {
        let (value, at) = self.get(key)?;
        match check(value) {
            Ok(value) => Some(Found { value, at }),
            Err(wrong) => {
                problems.add(at, about(key, wrong));
                None
            }
        }
    }

    /// The same for a key that must be set.
    pub(crate) fn require<T>(
        &self,
        key: &str,
        problems: &mut Problems,
        check: impl FnOnce(&DeValue<'i>) -> Checked<T>,
    ) -> Option<Found<T>> {
        if self.get(key).is_none() {
            let wrong = Wrong::new(format!("{} has no key {key:?}", self.section.title))
                .expected(format!("{key} = …"));
            problems.add(self.at, wrong);
        }
        self.read(key, problems, check)
    }

    /// The entries of a list, none if the key is not set; another type is told.
    pub(crate) fn list(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> Option<Found<Vec<(&'t DeValue<'i>, Origin)>>> {
        let (value, at) = self.get(key)?;
        let Some(entries) = value.as_array() else {
            let wrong = Wrong::new(describe(value)).expected("a list in [ ]");
            problems.add(at, about(key, wrong));
            return None;
        };
        let value = entries
            .iter()
            .map(|entry| (entry.get_ref(), origin(at.source, &entry.span())))
            .collect();
        Some(Found { value, at })
    }
}

/// Puts the key's name before what was found.
pub(crate) fn about(key: &str, wrong: Wrong) -> Wrong {
    Wrong {
        found: format!("{key}: {}", wrong.found),
        ..wrong
    }
}

fn check_key(section: &'static Section, key: &str) -> Option<Wrong> {
    if section.keys.contains(&key) {
        return None;
    }
    let what = if section.title == "the file" {
        "section"
    } else {
        "key"
    };
    if section.later.contains(&key) {
        let found = format!("the {what} {key:?} is known, but not supported by this version");
        return Some(Wrong::new(found).hint("remove it"));
    }
    let list: Vec<&str> = section.keys.to_vec();
    let wrong = Wrong::new(format!("unknown {what} {key:?} in {}", section.title))
        .expected(format!("one of {}", list.join(", ")));
    let candidates = section.keys.iter().chain(section.later).copied();
    Some(match (nearest(key, candidates), other_home(section, key)) {
        (None, Some(home)) => wrong.hint(format!("{key:?} belongs in {}", home.title)),
        (near, _) => wrong.did_you_mean(near),
    })
}
