//! The numbers behind the safety rules, and switches that break a rule for the simulator.

use std::time::Duration;

/// Clocks of two machines may run apart by this part of a span: one hundredth.
const DRIFT_DIVISOR: u32 = 100;

/// How long a span of a peer may be relied on by our own clock: shorter by the drift margin.
pub(super) fn shortened(span: Duration) -> Duration {
    span.saturating_sub(span / DRIFT_DIVISOR)
}

/// How long to wait until a span has passed by every clock: longer by the drift margin.
pub(super) fn lengthened(span: Duration) -> Duration {
    span.saturating_add(span / DRIFT_DIVISOR)
}

/// A safety rule that can be broken, so that a test shows what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BrokenRule {
    /// Peers that were declared dead are acknowledged like others.
    DeathIsNoPromise,
    /// A node that has just started votes and acknowledges at once.
    VotesAtOnce,
    /// The leader counts reports that were made under another term.
    ReportsOfAnyTerm,
    /// A group gets its new owner without waiting for the old one.
    OneStepMoves,
    /// Groups go on after the lease has run out.
    LeaseIgnored,
    /// Who had promised not to declares this node dead, and that proves nothing.
    PauseUnnoticed,
}
