//! Where a value stands: a compact origin while the layers are merged, file, line and column for people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a value came from: a source and a byte offset in it. Meaningful only together with [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Index into [`Sources`].
    pub(crate) source: u32,
    /// Byte offset; files are limited to far less than 4 GiB.
    pub(crate) offset: u32,
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found<T> {
    /// The value itself.
    pub(crate) value: T,
    /// Its place.
    pub(crate) at: Origin,
}

/// All texts that values can come from, in the order of the layers.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

#[derive(Debug)]
enum Source {
    File { name: String, text: String },
    Variable { name: String },
}

impl Sources {
    /// Adds a file and returns its index.
    pub(crate) fn add_file(&mut self, name: &str, text: String) -> u32 {
        self.add(Source::File {
            name: name.to_owned(),
            text,
        })
    }

    /// Adds an environment variable and returns its index.
    pub(crate) fn add_variable(&mut self, name: &str) -> u32 {
        self.add(Source::Variable {
            name: name.to_owned(),
        })
    }

    fn add(&mut self, source: Source) -> u32 {
        self.0.push(source);
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// The place of an origin, for people.
    pub(crate) fn place(&self, origin: Origin) -> Place {
        match self.0.get(origin.source as usize) {
            Some(Source::File { name, text }) => {
                let (line, column) = line_and_column(text, origin.offset as usize);
                Place::In {
                    file: name.clone(),
                    line,
                    column,
                }
            }
            Some(Source::Variable { name }) => Place::Variable(name.clone()),
            None => Place::File("configuration".to_owned()),
        }
    }
}

/// Line and column, both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (before, _) = text.split_at(end);
    let line = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.split_at(line_start).1.chars().count() + 1;
    (line, column)
}

/// Where something stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At one point of a file.
    In {
        /// Its path.
        file: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// A file as a whole.
    File(String),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::File(file) => f.write_str(file),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let text = "a = 1\nü = 2\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 6), (2, 1));
        assert_eq!(line_and_column(text, 8), (2, 2));
        assert_eq!(line_and_column(text, 7), (2, 1), "inside of a character");
        assert_eq!(line_and_column(text, 999), (3, 1));
    }
}
