//! The daemon's own diagnostics (`tracing`) on the same way to the journal as events.
//!
//! Not tracing-journald: its socket blocks the caller for as long as journald stands still. What journald does not
//! take at once waits for [`drain`], as events do.

use crate::journal::IDENTIFIER;
use crate::journal::native::{Backlog, JournalSocket, SOCKET, encode};
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt as text};

/// What is shown where `RUST_LOG` says nothing.
const FILTER_DEFAULT: &str = "warn,ha_node=info";

/// Sends all diagnostics of this process to the journal, or to standard error where it is not systemd's.
pub fn init() {
    let filter = || EnvFilter::try_from_default_env().unwrap_or_else(|_| FILTER_DEFAULT.into());
    let journal = journal_is_ours()
        .then(|| JournalSocket::open(Path::new(SOCKET)).ok())
        .flatten();
    let stderr = journal
        .is_none()
        .then(|| text::layer().with_writer(std::io::stderr).without_time());
    let layer = journal.map(JournalLayer::new);
    if let Some(layer) = &layer {
        let _ = WAITING.set(Arc::clone(&layer.journal));
    }
    // A second call changes nothing, which suits tests.
    let _ = tracing_subscriber::registry()
        .with(filter())
        .with(layer)
        .with(stderr)
        .try_init();
}

/// What waits for journald in this process.
static WAITING: OnceLock<Arc<Mutex<Backlog>>> = OnceLock::new();

/// Tries to write what waits; whether something still does.
pub fn drain() -> bool {
    WAITING.get().is_some_and(|journal| {
        let mut journal = lock(journal);
        journal.drain();
        journal.waits()
    })
}

/// A panic elsewhere cannot leave a list of whole entries half changed.
fn lock(journal: &Mutex<Backlog>) -> MutexGuard<'_, Backlog> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether standard error is the journal: a run from a shell shows its log there instead.
pub(crate) fn journal_is_ours() -> bool {
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else {
        return false;
    };
    std::env::var("JOURNAL_STREAM").is_ok_and(|it| it == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Writes diagnostics as journal entries.
struct JournalLayer {
    journal: Arc<Mutex<Backlog>>,
}

impl JournalLayer {
    fn new(journal: JournalSocket) -> Self {
        Self {
            journal: Arc::new(Mutex::new(Backlog::new(journal))),
        }
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let metadata = event.metadata();
        let text = format!("{}{}", message.text, message.values);
        let mut journal = lock(&self.journal);
        if !journal.has_room() {
            return;
        }
        if let Some(lost) = journal.take_lost() {
            let text = format!("{lost} lines could not be written to the journal");
            journal.push(entry(&text, Level::WARN, metadata.target()));
        }
        journal.push(entry(&text, *metadata.level(), metadata.target()));
        journal.drain();
    }
}

fn entry(text: &str, level: Level, module: &str) -> Vec<u8> {
    encode([
        ("MESSAGE", text),
        ("PRIORITY", priority(level)),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ("CODE_MODULE", module),
    ])
}

/// The text of a diagnostic, then its values.
#[derive(Default)]
struct Message {
    text: String,
    values: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.values, " {name}={value:?}"),
        };
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_diagnostic_is_an_entry_with_its_values_in_the_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let layer = JournalLayer::new(JournalSocket::open(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(tries = 3, "connected");
        });
        let mut buffer = [0; 1024];
        let length = journal.recv(&mut buffer).unwrap();
        let entry = String::from_utf8_lossy(&buffer[..length]);
        assert!(
            entry.starts_with("MESSAGE=connected tries=3\nPRIORITY=6\nSYSLOG_IDENTIFIER=ha-node\n"),
            "{entry}"
        );
    }

    #[test]
    fn what_a_busy_journal_does_not_take_waits_and_what_finds_no_room_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let layer = JournalLayer::new(JournalSocket::open(&path).unwrap());
        let waiting = Arc::clone(&layer.journal);
        let subscriber = tracing_subscriber::registry().with(layer);
        let read = || std::iter::from_fn(|| journal.recv(&mut [0; 1024]).ok()).count();
        tracing::subscriber::with_default(subscriber, || {
            (0..3000).for_each(|number| tracing::info!(number, "told"));
        });
        assert!(lock(&waiting).waits());
        let mut received = 0;
        while lock(&waiting).waits() {
            lock(&waiting).drain();
            received += read();
        }
        let lost = lock(&waiting).take_lost();
        assert_eq!(lost, Some(3000 - received as u64));
    }
}
