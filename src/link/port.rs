//! One link at run time: its socket while it has one, and its counters.

use super::LinkCounters;
use super::binding::Binding;
use super::{LinkEvent, receiver, socket};
use crate::config::model::Link;
use crate::ids::LinkId;
use socket2::{SockAddr, SockRef};
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One link.
#[derive(Debug)]
pub(super) struct Port {
    /// Its number.
    pub(super) id: LinkId,
    /// What it is configured as.
    pub(super) link: Link,
    /// What it counted; shared with the task that receives.
    pub(super) counts: Arc<Counts>,
    bound: Mutex<Option<Bound>>,
}

/// Numbers of one link.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) send_errors: AtomicU64,
    pub(super) receive_errors: AtomicU64,
    pub(super) dropped: AtomicU64,
    send_error_last: AtomicI32,
}

#[derive(Debug)]
struct Bound {
    binding: Binding,
    socket: Arc<AsyncFd<UdpSocket>>,
    destinations: Vec<SockAddr>,
    receiver: JoinHandle<()>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl Port {
    /// A link without a socket.
    pub(super) fn new(id: LinkId, link: Link) -> Self {
        Self {
            id,
            link,
            counts: Arc::default(),
            bound: Mutex::new(None),
        }
    }

    /// How it is bound now.
    pub(super) fn binding(&self) -> Option<Binding> {
        self.lock().as_ref().map(|b| b.binding.clone())
    }

    /// Gives it the socket for `binding` instead of the one it has, and begins to receive.
    ///
    /// # Errors
    /// In words for people; the link is then without a socket.
    pub(super) fn bind(
        &self,
        binding: Binding,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Result<(), String> {
        self.unbind();
        let socket = socket::open(&binding)
            .and_then(|socket| {
                register(socket.into()).map_err(|error| ("wait for datagrams", error))
            })
            .map_err(|(what, error)| bind_failure(&binding, what, &error))?;
        let socket = Arc::new(socket);
        let receiver = tokio::spawn(receiver::run(
            self.id,
            Arc::clone(&socket),
            Arc::clone(&self.counts),
            events.clone(),
        ));
        let destinations = binding.destinations.iter().map(|&d| d.into()).collect();
        *self.lock() = Some(Bound {
            binding,
            socket,
            destinations,
            receiver,
        });
        Ok(())
    }

    /// Closes the socket.
    pub(super) fn unbind(&self) {
        *self.lock() = None;
    }

    /// Sends to each peer without waiting.
    pub(super) fn send(&self, bytes: &[u8]) {
        let bound = self.lock();
        let Some(bound) = bound.as_ref() else {
            return;
        };
        let socket = SockRef::from(bound.socket.get_ref());
        for destination in &bound.destinations {
            match socket.send_to(bytes, destination) {
                Ok(_) => {
                    self.counts.sent.fetch_add(1, Relaxed);
                }
                Err(error) => self.counts.send_failed(&error),
            }
        }
    }

    /// The counters at this moment.
    pub(super) fn counters(&self) -> LinkCounters {
        let counts = &self.counts;
        LinkCounters {
            link: self.id,
            sent: counts.sent.load(Relaxed),
            received: counts.received.load(Relaxed),
            send_errors: counts.send_errors.load(Relaxed),
            receive_errors: counts.receive_errors.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn send_failed(&self, error: &io::Error) {
        self.send_errors.fetch_add(1, Relaxed);
        self.send_error_last
            .store(error.raw_os_error().unwrap_or(0), Relaxed);
    }

    /// Why the newest failed send failed.
    pub(super) fn send_error_last(&self) -> io::Error {
        io::Error::from_raw_os_error(self.send_error_last.load(Relaxed))
    }
}

/// Watched for datagrams only: to be told after each send that there is room again would wake the process for nothing.
#[expect(
    deprecated,
    reason = "its successor is unsafe; the socket owns its descriptor and keeps it"
)]
fn register(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// The two failures that people meet get a hint.
fn bind_failure(binding: &Binding, what: &str, error: &io::Error) -> String {
    let listen = binding.listen;
    let port = listen.port();
    if error.kind() == io::ErrorKind::PermissionDenied && port < 1024 {
        return format!(
            "not allowed to use port {port}: ports below 1024 need CAP_NET_BIND_SERVICE"
        );
    }
    if error.kind() == io::ErrorKind::AddrInUse {
        return format!("another program has {listen} for itself");
    }
    format!("cannot {what} for {listen}: {error}")
}
