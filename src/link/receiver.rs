//! Reads the datagrams of one socket and hands them on.

use super::port::Counts;
use super::{LinkEvent, socket};
use crate::ids::LinkId;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Largest UDP datagram, rounded up.
const DATAGRAM_MAX: usize = 64 * 1024;
/// After so many datagrams in a row the others get a turn.
const BURST: u32 = 16;
/// A socket that keeps failing (its interface is going) is not asked in a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Runs until the task is aborted or nobody takes the events any more.
pub(super) async fn run(
    link: LinkId,
    socket: Arc<AsyncFd<UdpSocket>>,
    counts: Arc<Counts>,
    events: mpsc::Sender<LinkEvent>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut remarks = socket::remarks_buffer();
    let mut dropped_before = 0;
    let mut in_a_row = 0;
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        // The place first, then the datagram: what finds no place waits in the kernel, whose buffer is bounded per
        // link, and places are given in the order in which the links asked.
        let Ok(place) = events.reserve().await else {
            return;
        };
        let result =
            ready.try_io(|socket| socket::receive(socket.get_ref(), &mut buffer, &mut remarks));
        match result {
            Err(_would_block) => in_a_row = 0,
            Ok(Ok(datagram)) => {
                counts.received.fetch_add(1, Relaxed);
                if let Some(dropped) = datagram.dropped {
                    let more = dropped.wrapping_sub(dropped_before);
                    counts.dropped.fetch_add(u64::from(more), Relaxed);
                    dropped_before = dropped;
                }
                place.send(LinkEvent::Received {
                    link,
                    from: datagram.from,
                    bytes: buffer.get(..datagram.length).unwrap_or_default().to_vec(),
                    waited: datagram.waited,
                });
                in_a_row += 1;
                if in_a_row == BURST {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Ok(Err(_)) => {
                drop(place);
                counts.receive_errors.fetch_add(1, Relaxed);
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}
