//! What systemd is told while the loop runs (sd_notify(3)), without ever waiting for it.
//!
//! systemd that does not read, or does not run, must not hold up heartbeats: what finds no room is dropped.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to systemd; leads nowhere outside a unit.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// Connects to the socket that `NOTIFY_SOCKET` names.
    pub(super) fn new() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let address = match name.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
                path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            };
            connect(&address.ok()?)
        });
        Self { socket }
    }

    /// The loop is alive.
    pub(super) fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// The line that `systemctl status` shows; false if it was not taken.
    pub(super) fn status(&self, line: &str) -> bool {
        self.send(&format!("STATUS={line}"))
    }

    /// The daemon is on its way out.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A stop under way may take this long from now, whatever the unit's limit.
    pub(super) fn extend_timeout(&self, time: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()));
    }

    fn send(&self, text: &str) -> bool {
        let socket = self.socket.as_ref();
        socket.is_none_or(|socket| socket.send(text.as_bytes()).is_ok())
    }
}

fn connect(address: &SocketAddr) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect_addr(address).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_dropped_and_nothing_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let reader = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_pathname(&path).unwrap();
        let notifier = Notifier {
            socket: connect(&address),
        };
        assert!(notifier.status("1 of 2 nodes"));
        let mut buffer = [0; 64];
        let length = reader.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=1 of 2 nodes");

        let taken = (0..10_000).take_while(|_| notifier.status("x")).count();
        assert!(taken < 10_000, "a full queue refuses");
    }

    #[test]
    fn outside_a_unit_everything_is_said_to_nobody() {
        assert!(Notifier::default().status("x"));
    }
}
