//! Events on their way to the bus: those that still wait to be sent, and the last ones for `ListEvents`.
//!
//! Adding never blocks and never fails; a bus that is away or slow costs the oldest waiting ones.

use crate::journal::Record;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many past events `ListEvents` tells; older ones are in the journal.
pub const KEPT_MAX: usize = 256;

/// How many events wait for the bus; at the limit the oldest is dropped and counted.
pub const WAITING_MAX: usize = 256;

/// Past and waiting events.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    kept: VecDeque<Arc<Record>>,
    waiting: VecDeque<Arc<Record>>,
    dropped: u64,
}

impl EventLog {
    /// Keeps an event and queues it for sending.
    pub(crate) fn push(&mut self, record: Record) {
        let record = Arc::new(record);
        push_bounded(&mut self.kept, Arc::clone(&record), KEPT_MAX);
        if push_bounded(&mut self.waiting, record, WAITING_MAX) {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The next event to send.
    pub(crate) fn next_waiting(&mut self) -> Option<Arc<Record>> {
        self.waiting.pop_front()
    }

    /// How many were dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// The last events, oldest first.
    pub(crate) fn kept(&self) -> Vec<Arc<Record>> {
        self.kept.iter().cloned().collect()
    }
}

/// Whether an element had to go to make room.
fn push_bounded<T>(queue: &mut VecDeque<T>, element: T, limit: usize) -> bool {
    let full = queue.len() >= limit;
    if full {
        queue.pop_front();
    }
    queue.push_back(element);
    full
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Level;

    fn record(usec: u64) -> Record {
        Record {
            id: "node-dead",
            message_id: "0123456789abcdef0123456789abcdef",
            level: Level::Warning,
            text: String::new(),
            fields: Vec::new(),
            usec,
        }
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let mut log = EventLog::default();
        for usec in 0..300 {
            log.push(record(usec));
        }
        assert_eq!(log.take_dropped(), 44);
        assert_eq!(log.take_dropped(), 0);
        assert_eq!(log.next_waiting().map(|it| it.usec), Some(44));
        assert_eq!(log.kept().first().map(|it| it.usec), Some(44));
        assert_eq!(log.kept().len(), KEPT_MAX);
        assert_eq!(
            std::iter::from_fn(|| log.next_waiting()).count(),
            WAITING_MAX - 1
        );
    }
}
