//! Why a packet was dropped: a closed list, to count by.

use std::fmt;

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// Longer than [`PACKET_RECEIVED_MAX`](super::PACKET_RECEIVED_MAX).
    TooLong,
    /// Neither of the two framings, or one that breaks off or goes on after its end.
    BadFraming,
    /// Well framed as far as can be told, but without a digest.
    NoAuthentication,
    /// The digest is made with a key number that the key file does not have.
    UnknownKey,
    /// The digest is not the one that the key gives: another key, or a changed packet.
    BadDigest,
    /// Authentic, but a field that every message must have is missing.
    MissingField,
    /// Authentic, but a field has a value that it cannot have, or a list is too long.
    BadField,
    /// An authentic status of a later, incompatible format.
    UnknownVersion,
}

impl Reject {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::TooLong,
        Self::BadFraming,
        Self::NoAuthentication,
        Self::UnknownKey,
        Self::BadDigest,
        Self::MissingField,
        Self::BadField,
        Self::UnknownVersion,
    ];

    /// A short name of lower-case words, for counters and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::BadFraming => "bad-framing",
            Self::NoAuthentication => "no-authentication",
            Self::UnknownKey => "unknown-key",
            Self::BadDigest => "bad-digest",
            Self::MissingField => "missing-field",
            Self::BadField => "bad-field",
            Self::UnknownVersion => "unknown-version",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_lists_every_reason_once_under_a_name_of_its_own() {
        let reasons: BTreeSet<Reject> = Reject::ALL.into_iter().collect();
        let names: BTreeSet<&str> = Reject::ALL.into_iter().map(Reject::as_str).collect();
        assert_eq!(reasons.len(), Reject::ALL.len());
        assert_eq!(names.len(), Reject::ALL.len());
        assert_eq!(Reject::UnknownVersion as usize + 1, Reject::ALL.len());
    }
}
