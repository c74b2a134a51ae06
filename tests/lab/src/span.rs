//! Spans of time on the lab's clock, and sets of them.

use std::time::Duration;

/// From one point of the lab's clock to another, the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First point.
    pub from: Duration,
    /// First point after it.
    pub to: Duration,
}

impl Span {
    /// A span; empty if `to` is before `from`.
    pub fn new(from: Duration, to: Duration) -> Self {
        Self {
            from,
            to: to.max(from),
        }
    }

    /// Its length.
    pub fn length(&self) -> Duration {
        self.to - self.from
    }

    /// What two spans have in common, if anything.
    pub fn common(&self, other: &Self) -> Option<Self> {
        let from = self.from.max(other.from);
        let to = self.to.min(other.to);
        (from < to).then_some(Self { from, to })
    }
}

/// Longest of some spans; zero if there are none.
pub fn longest(spans: &[Span]) -> Duration {
    spans.iter().map(Span::length).max().unwrap_or_default()
}

/// What two sets of spans have in common.
pub fn intersect(left: &[Span], right: &[Span]) -> Vec<Span> {
    let mut result: Vec<Span> = left
        .iter()
        .flat_map(|a| right.iter().filter_map(|b| a.common(b)))
        .collect();
    result.sort();
    result
}

/// The parts of `whole` that no span of the set covers.
pub fn gaps(whole: Span, covered: &[Span]) -> Vec<Span> {
    let mut sorted = covered.to_vec();
    sorted.sort();
    let mut result = Vec::new();
    let mut at = whole.from;
    for span in sorted {
        if span.from > at && span.from <= whole.to {
            result.push(Span::new(at, span.from));
        }
        at = at.max(span.to);
    }
    if at < whole.to {
        result.push(Span::new(at, whole.to));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: u64) -> Span {
        Span::new(Duration::from_millis(from), Duration::from_millis(to))
    }

    #[test]
    fn gaps_are_what_no_span_covers() {
        let covered = [span(30, 50), span(0, 10), span(40, 60)];
        assert_eq!(gaps(span(0, 100), &covered), [span(10, 30), span(60, 100)]);
        assert_eq!(gaps(span(0, 10), &covered), []);
    }

    #[test]
    fn common_parts_of_two_sets_are_found() {
        let left = [span(0, 10), span(20, 30)];
        let right = [span(5, 25)];
        assert_eq!(intersect(&left, &right), [span(5, 10), span(20, 25)]);
        assert_eq!(longest(&intersect(&left, &right)), Duration::from_millis(5));
        assert_eq!(intersect(&left, &[span(10, 20)]), []);
    }
}
