//! The rules of the core one by one, each by the shortest script that fails without it.
//!
//! One core hears what puppets say. Where a rule is a second line of defence, the script is the one that fails when the
//! first line is missing, too; `tests/mutants/list.txt` says which.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test may panic"
)]

mod leading;
mod promises;
mod stage;
mod starting;
mod voting;
