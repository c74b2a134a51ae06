//! Whether this machine's own links can be used: who is deaf must not take the silence for the death of others.
//!
//! Owns what each link said last; what follows from it is the core's. Before its first word a link counts as unusable.

use crate::ids::LinkId;
use crate::link::LinkEvent;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Longest wait for the first words of the links; the first look at the machine takes milliseconds.
const FIRST_WORDS: Duration = Duration::from_millis(250);

/// What the links said last.
#[derive(Debug)]
pub(super) struct Ears {
    links: Vec<Ear>,
}

#[derive(Debug, Clone)]
struct Ear {
    label: String,
    able: bool,
    reason: String,
}

impl Ears {
    /// Links by their labels, in their order.
    pub(super) fn new(labels: impl Iterator<Item = String>) -> Self {
        let ear = |label| Ear {
            label,
            able: false,
            reason: "not looked at yet".to_owned(),
        };
        Self {
            links: labels.map(ear).collect(),
        }
    }

    /// Takes in a link's word: whether this machine does its part. Answers whether any link can be used now, if that
    /// has changed.
    pub(super) fn note(&mut self, link: LinkId, able: bool, reason: &str) -> Option<bool> {
        let before = self.hear();
        if let Some(ear) = self.links.get_mut(usize::from(link.0)) {
            ear.able = able;
            reason.clone_into(&mut ear.reason);
        }
        let now = self.hear();
        (before != now).then_some(now)
    }

    /// Whether any link can be used. A cluster of one has none, and needs none.
    pub(super) fn hear(&self) -> bool {
        self.links.is_empty() || self.links.iter().any(|ear| ear.able)
    }

    /// Why none can be used, if so: for people.
    pub(super) fn deafness(&self) -> Option<String> {
        if self.hear() {
            return None;
        }
        let each = self
            .links
            .iter()
            .map(|ear| format!("{}: {}", ear.label, ear.reason));
        Some(each.collect::<Vec<_>>().join("; "))
    }
}

/// What the links say first, for as long as it takes to know whether one of them can be used: a life that began deaf
/// would wait for nothing. What came meanwhile is handed on in its order.
pub(super) async fn first_words(
    events: &mut mpsc::Receiver<LinkEvent>,
    links: usize,
) -> Vec<LinkEvent> {
    let end = Instant::now() + FIRST_WORDS;
    let (mut words, mut told) = (Vec::new(), 0);
    while told < links {
        let Ok(Some(event)) = timeout_at(end, events.recv()).await else {
            break;
        };
        let is_able = matches!(event, LinkEvent::State { able: true, .. });
        told += usize::from(matches!(event, LinkEvent::State { .. }));
        words.push(event);
        if is_able {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ears() -> Ears {
        Ears::new(["eth0", "10.0.0.1"].map(str::to_owned).into_iter())
    }

    #[test]
    fn one_link_is_enough_and_only_a_change_of_the_whole_is_told() {
        let mut ears = ears();
        assert!(!ears.hear());
        assert_eq!(ears.note(LinkId(0), false, "no carrier"), None);
        assert_eq!(ears.note(LinkId(1), true, "listening"), Some(true));
        assert_eq!(ears.note(LinkId(0), true, "listening"), None);
        assert_eq!(ears.note(LinkId(1), false, "gone"), None);
        assert_eq!(ears.deafness(), None);
        assert_eq!(ears.note(LinkId(0), false, "down"), Some(false));
        assert_eq!(ears.deafness().unwrap(), "eth0: down; 10.0.0.1: gone");
        assert_eq!(
            ears.note(LinkId(9), true, "is none"),
            None,
            "an unknown link"
        );
    }

    #[test]
    fn who_has_no_links_needs_none() {
        let ears = Ears::new(std::iter::empty());
        assert!(ears.hear());
        assert_eq!(ears.deafness(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_link_that_can_be_used_ends_the_wait_and_so_does_the_last_word() {
        let state = |number, able| LinkEvent::State {
            link: LinkId(number),
            up: able,
            able,
            reason: String::new(),
        };
        let (sender, mut events) = mpsc::channel(8);
        for event in [state(0, false), state(1, true), state(2, false)] {
            sender.send(event).await.unwrap();
        }
        assert_eq!(first_words(&mut events, 3).await.len(), 2);
        assert_eq!(first_words(&mut events, 1).await.len(), 1);
        let begin = Instant::now();
        assert_eq!(first_words(&mut events, 2).await.len(), 0);
        assert_eq!(begin.elapsed(), FIRST_WORDS);
    }
}
