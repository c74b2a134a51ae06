//! Errors and warnings of the configuration, collected over a whole phase and shown in the order of the files.

use crate::config::place::{Origin, Place, Sources};
use std::fmt;

/// At most this many errors are shown; the rest is counted.
pub const PROBLEMS_SHOWN_MAX: usize = 20;

/// At most this many errors are kept in memory; a file of nonsense has one in each line.
const PROBLEMS_KEPT_MAX: usize = 1000;

/// What is wrong with one value: found, expected, and what may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) found: String,
    pub(crate) expected: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Wrong {
    /// Something that should not be there at all.
    pub(crate) fn new(found: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            expected: None,
            hint: None,
        }
    }

    /// Says what would be right; without the word "expected".
    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a suggestion, if there is one.
    pub(crate) fn did_you_mean(mut self, nearest: Option<&str>) -> Self {
        if let Some(nearest) = nearest {
            self.hint = Some(format!("did you mean {nearest:?}?"));
        }
        self
    }
}

/// One error of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as exactly as it is known.
    pub place: Option<Place>,
    /// What was found there.
    pub found: String,
    /// What was expected instead.
    pub expected: Option<String>,
    /// The nearest valid name, or what to do.
    pub hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(place: Option<Place>, wrong: Wrong) -> Self {
        Self {
            place,
            found: wrong.found,
            expected: wrong.expected,
            hint: wrong.hint,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.found)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// Why there is no configuration: one error per line when shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// In the order of the layers and of the lines in them; at least one, at most [`PROBLEMS_SHOWN_MAX`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl ConfigErrors {
    pub(crate) fn one(place: Place, wrong: Wrong) -> Self {
        Self {
            problems: vec![Problem::new(Some(place), wrong)],
            more: 0,
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more errors", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Something that works but may not be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where, if it is about one value.
    pub place: Option<Place>,
    /// What, and what is done about it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Collects the problems of one load.
#[derive(Debug)]
pub(crate) struct Problems {
    /// The texts that the origins point into.
    pub(crate) sources: Sources,
    pub(crate) warnings: Vec<Warning>,
    located: Vec<(Origin, Wrong)>,
    others: Vec<Problem>,
    dropped: usize,
}

impl Problems {
    pub(crate) fn new(sources: Sources) -> Self {
        Self {
            sources,
            warnings: Vec::new(),
            located: Vec::new(),
            others: Vec::new(),
            dropped: 0,
        }
    }

    /// An error at a value.
    pub(crate) fn add(&mut self, at: Origin, wrong: Wrong) {
        if self.located.len() < PROBLEMS_KEPT_MAX {
            self.located.push((at, wrong));
        } else {
            self.dropped += 1;
        }
    }

    /// An error at a value if there is one to point at, else without a place.
    pub(crate) fn add_maybe_at(&mut self, at: Option<Origin>, wrong: Wrong) {
        match at {
            Some(at) => self.add(at, wrong),
            None => self.others.push(Problem::new(None, wrong)),
        }
    }

    /// An error about a whole file, or something outside of the files.
    pub(crate) fn add_at_place(&mut self, place: Place, wrong: Wrong) {
        self.others.push(Problem::new(Some(place), wrong));
    }

    pub(crate) fn warn(&mut self, at: Option<Origin>, text: impl Into<String>) {
        let place = at.map(|at| self.sources.place(at));
        self.warnings.push(Warning {
            place,
            text: text.into(),
        });
    }

    /// Where something is, for the text of another problem.
    pub(crate) fn place(&self, at: Origin) -> Place {
        self.sources.place(at)
    }

    /// Ends a phase: everything found so far is an error, if anything was.
    pub(crate) fn finish_phase(&mut self) -> Result<(), ConfigErrors> {
        let mut located = std::mem::take(&mut self.located);
        located.sort_by_key(|(at, _)| *at);
        let mut problems = std::mem::take(&mut self.others);
        problems.extend(
            located
                .into_iter()
                .map(|(at, wrong)| Problem::new(Some(self.sources.place(at)), wrong)),
        );
        if problems.is_empty() {
            return Ok(());
        }
        let more = self.dropped + problems.len().saturating_sub(PROBLEMS_SHOWN_MAX);
        problems.truncate(PROBLEMS_SHOWN_MAX);
        Err(ConfigErrors { problems, more })
    }
}
