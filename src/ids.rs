//! Names and numbers that must not be mixed up: parsed once at the border, then only compared.
//!
//! Everything here is plain data, used by the configuration, the wire, the core and the drivers alike.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Longest node or group name in bytes. Heartbeat's receiver stops at 100 bytes, terminator included.
pub const NAME_LENGTH_MAX: usize = 99;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`NAME_LENGTH_MAX`] bytes.
    #[error("a name has at most {NAME_LENGTH_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A character that is none of letters, digits, `.`, `_` and `-`, or a leading `-` or `.`.
    #[error(
        "{0:?} is not allowed in a name: letters, digits, '.', '_' and '-' are, the first being a letter, a digit or '_'"
    )]
    BadCharacter(char),
}

fn check_name(text: &str) -> Result<(), NameError> {
    let first = text.chars().next().ok_or(NameError::Empty)?;
    if text.len() > NAME_LENGTH_MAX {
        return Err(NameError::TooLong(text.len()));
    }
    if !(first.is_ascii_alphanumeric() || first == '_') {
        return Err(NameError::BadCharacter(first));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        Some(bad) => Err(NameError::BadCharacter(bad)),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name(text).map(|()| Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name_type! {
    /// A member of the cluster, as `uname -n` says it, in lower case on the wire as Heartbeat has it.
    NodeName
}
name_type! {
    /// A group of resources that run together on one node.
    GroupName
}
name_type! {
    /// The name of the cluster; packets that carry another one are ignored.
    ClusterName
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl $name {
            /// The number after this one; stays at the largest, which no real counter reaches.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    };
}

number_type! {
    /// One life of the daemon on a node: stored, and higher at each start (Heartbeat's `hg`).
    Generation
}
number_type! {
    /// Position of a message among those of its sender's generation, from 1 (Heartbeat's `seq`).
    Sequence
}
/// Which message of a node: its life, and the place in it. Later ones are larger.
pub type MessageId = (Generation, Sequence);

number_type! {
    /// Position of a plan among those of its term, from 1; 0 stands for "no plan yet".
    PlanVersion
}

/// Which link of this node, by its position in the configuration, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u16);

/// One person's request, numbered by the node that took it, or one order to a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId(pub u64);

/// One period of leadership.
///
/// Ordered by number first; two leaders of separate partitions may pick the same number, and a leader that
/// restarts forgets the versions that it gave out, so its name and generation are part of the term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term {
    /// Higher than any number that the leader had seen when it began.
    pub number: u64,
    /// Who leads in this term.
    pub leader: NodeName,
    /// In which of its lives.
    pub generation: Generation,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.number, self.leader, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_border() {
        assert!(NodeName::new("alpha-1.example").is_ok());
        assert_eq!(NodeName::new(""), Err(NameError::Empty));
        assert_eq!(NodeName::new("-a"), Err(NameError::BadCharacter('-')));
        assert_eq!(NodeName::new("a b"), Err(NameError::BadCharacter(' ')));
        assert_eq!(
            NodeName::new(&"x".repeat(100)),
            Err(NameError::TooLong(100))
        );
    }

    #[test]
    fn a_term_is_ordered_by_number_before_leader() {
        let term = |number, leader: &str| Term {
            number,
            leader: NodeName::new(leader).unwrap(),
            generation: Generation(1),
        };
        assert!(term(2, "alpha") > term(1, "beta"));
        assert!(term(2, "beta") > term(2, "alpha"));
    }
}
