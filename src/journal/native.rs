//! journald's native protocol: an entry is one datagram of `FIELD=value` lines.
//!
//! The socket never blocks. Entries that journald does not take now wait, up to a bound, for the next call
//! of [`Backlog::drain`]; what finds no room is counted, and told once there is room again.

use crate::journal::describe::describe_lost;
use crate::journal::{IDENTIFIER, Record};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// How many entries wait for journald; at the limit new ones are counted only.
pub const BACKLOG_MAX: usize = 512;

/// A field's name and value.
pub type Field<'a> = (&'a str, &'a str);

/// Encodes one entry; names must be upper-case letters, digits and underscores.
pub fn encode<'a>(fields: impl IntoIterator<Item = Field<'a>>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

fn encode_record(record: &Record) -> Vec<u8> {
    let priority = record.level.priority().to_string();
    let fixed = [
        ("MESSAGE", record.text.as_str()),
        ("PRIORITY", priority.as_str()),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
    ];
    encode(
        fixed.into_iter().chain(
            record
                .fields
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        ),
    )
}

/// A datagram socket to journald that never blocks.
#[derive(Debug)]
pub struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Opens the socket; journald may come, go and come back later.
    ///
    /// # Errors
    /// Where no socket can be had at all (out of file descriptors).
    pub fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// Sends an entry, now or never.
    ///
    /// # Errors
    /// `WouldBlock` while journald does not read; others where it is absent or refuses the entry.
    pub fn send(&self, entry: &[u8]) -> io::Result<()> {
        self.socket.send_to(entry, &self.path).map(drop)
    }
}

/// Entries on their way to journald, in order, without ever waiting.
#[derive(Debug)]
pub struct Backlog {
    journal: JournalSocket,
    entries: VecDeque<Vec<u8>>,
    lost: u64,
}

impl Backlog {
    /// Nothing waits.
    pub fn new(journal: JournalSocket) -> Self {
        Self {
            journal,
            entries: VecDeque::new(),
            lost: 0,
        }
    }

    /// Whether another entry finds room; counts one as lost if not.
    pub fn has_room(&mut self) -> bool {
        let room = self.entries.len() < BACKLOG_MAX;
        self.lost = self.lost.saturating_add(u64::from(!room));
        room
    }

    /// How many were lost, if that can be told now in an entry of its own.
    pub fn take_lost(&mut self) -> Option<u64> {
        let tells = self.lost > 0 && self.entries.len() + 1 < BACKLOG_MAX;
        tells.then(|| std::mem::take(&mut self.lost))
    }

    /// Writes an entry after all that came before it.
    pub fn push(&mut self, entry: Vec<u8>) {
        self.entries.push_back(entry);
    }

    /// Tries to write what waits; call it again while [`Self::waits`].
    pub fn drain(&mut self) {
        while let Some(entry) = self.entries.front() {
            match self.journal.send(entry) {
                Ok(()) => drop(self.entries.pop_front()),
                Err(error) if is_temporary(&error) => return,
                // This entry will never be taken; the others may be.
                Err(_) => {
                    self.entries.pop_front();
                    self.lost = self.lost.saturating_add(1);
                }
            }
        }
    }

    /// Whether something waits for journald.
    pub fn waits(&self) -> bool {
        !self.entries.is_empty()
    }
}

/// Writes events, in order, without ever waiting.
#[derive(Debug)]
pub struct EventWriter {
    journal: Option<Backlog>,
}

impl EventWriter {
    /// Writes to the journal if there is one for this process, else to standard error.
    pub fn new() -> Self {
        let journal = super::diagnostics::journal_is_ours()
            .then(|| JournalSocket::open(Path::new(SOCKET)).ok())
            .flatten();
        Self::with(journal)
    }

    /// Writes to this socket, or to standard error.
    pub fn with(journal: Option<JournalSocket>) -> Self {
        Self {
            journal: journal.map(Backlog::new),
        }
    }

    /// Writes an event after all that came before it.
    pub fn write(&mut self, record: &Record) {
        let Some(journal) = &mut self.journal else {
            eprintln!("<{}>{}", record.level.priority(), record.text);
            return;
        };
        if !journal.has_room() {
            return;
        }
        if let Some(lost) = journal.take_lost() {
            journal.push(encode_record(&lost_record(lost, record)));
        }
        journal.push(encode_record(record));
        journal.drain();
    }

    /// Tries to write what waits; call it again while [`Self::waits`].
    pub fn drain(&mut self) {
        self.journal.iter_mut().for_each(Backlog::drain);
    }

    /// Whether something waits for journald: call [`Self::drain`] soon.
    pub fn waits(&self) -> bool {
        self.journal.as_ref().is_some_and(Backlog::waits)
    }

    /// How many events were lost since that was last told.
    pub fn lost(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.lost)
    }
}

fn lost_record(lost: u64, next: &Record) -> Record {
    let identity: Vec<_> = (next.fields.iter())
        .filter(|(name, _)| matches!(*name, "HA_CLUSTER" | "HA_NODE"))
        .cloned()
        .collect();
    describe_lost(lost, &identity, next.usec)
}

impl Default for EventWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// journald is busy, or between two lives.
fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::NotFound
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Level;

    fn record(text: &str) -> Record {
        Record {
            id: "node-dead",
            message_id: "0",
            level: Level::Warning,
            text: text.to_owned(),
            fields: vec![("HA_NODE", "alpha".to_owned())],
            usec: 1,
        }
    }

    fn receive(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[test]
    fn a_value_of_several_lines_carries_its_length() {
        let bytes = encode([("A", "x"), ("B", "y\nz")]);
        assert_eq!(bytes, b"A=x\nB\n\x03\0\0\0\0\0\0\0y\nz\n");
    }

    #[test]
    fn an_event_is_one_datagram() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut writer = EventWriter::with(Some(JournalSocket::open(&path).unwrap()));
        writer.write(&record("node beta: is dead"));
        assert_eq!(
            receive(&journal).unwrap(),
            "MESSAGE=node beta: is dead\nPRIORITY=4\nSYSLOG_IDENTIFIER=ha-node\nHA_NODE=alpha\n"
        );
        assert!(!writer.waits());
    }

    #[test]
    fn a_journal_that_stands_still_costs_entries_and_says_how_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let mut writer = EventWriter::with(Some(JournalSocket::open(&path).unwrap()));
        // The kernel's own queue takes a few hundred at most.
        for number in 0..3000 {
            writer.write(&record(&number.to_string()));
        }
        let lost = writer.lost();
        assert!(writer.waits() && lost > 0);

        let mut received = Vec::new();
        while writer.waits() {
            writer.drain();
            received.extend(std::iter::from_fn(|| receive(&journal)));
        }
        assert_eq!(received.len() as u64 + lost, 3000);
        writer.write(&record("after"));
        let told = receive(&journal).unwrap();
        assert!(
            told.starts_with(&format!("MESSAGE={lost} events could not be written")),
            "{told}"
        );
        assert!(receive(&journal).unwrap().starts_with("MESSAGE=after\n"));
    }

    #[test]
    fn a_journal_that_comes_later_gets_what_waited() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut writer = EventWriter::with(Some(JournalSocket::open(&path).unwrap()));
        writer.write(&record("early"));
        assert!(writer.waits());
        let journal = UnixDatagram::bind(&path).unwrap();
        writer.drain();
        assert!(receive(&journal).unwrap().starts_with("MESSAGE=early\n"));
    }
}
