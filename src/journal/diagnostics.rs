//! The daemon's own diagnostics (`tracing`) on the same way to the journal as events.
//!
//! Not tracing-journald: its socket blocks the caller for as long as journald stands still. A diagnostic
//! that journald does not take at once is dropped; events are the ones that matter.

use crate::journal::IDENTIFIER;
use crate::journal::native::{JournalSocket, SOCKET, encode};
use std::fmt::{self, Write};
use std::path::Path;
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
    // A second call changes nothing, which suits tests.
    let _ = tracing_subscriber::registry()
        .with(filter())
        .with(journal.map(JournalLayer::new))
        .with(stderr)
        .try_init();
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
    journal: JournalSocket,
}

impl JournalLayer {
    fn new(journal: JournalSocket) -> Self {
        Self { journal }
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let metadata = event.metadata();
        let entry = encode([
            (
                "MESSAGE",
                format!("{}{}", message.text, message.values).as_str(),
            ),
            ("PRIORITY", priority(*metadata.level())),
            ("SYSLOG_IDENTIFIER", IDENTIFIER),
            ("CODE_MODULE", metadata.target()),
        ]);
        let _ = self.journal.send(&entry);
    }
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
}
