//! Asks a web server for its page over a new connection every so often, several at a time, so that
//! one that hangs does not delay the next.

use super::{ANSWER_LIMIT, Report, Sample, Watcher, remaining};
use crate::clock;
use anyhow::Result;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n";

/// Starts asking from inside a network namespace, once in each interval. The first line of the page tells who answered.
///
/// # Errors
/// No thread can be started.
pub fn start(namespace: &str, target: SocketAddr, interval: Duration) -> Result<Watcher<Report>> {
    Watcher::start("http", Some(namespace.to_owned()), move |stop| {
        let mut probe = Probe {
            target,
            interval,
            report: Report::default(),
            open: Vec::new(),
        };
        probe.run(stop);
        Ok(probe.report)
    })
}

struct Probe {
    target: SocketAddr,
    interval: Duration,
    report: Report,
    open: Vec<Attempt>,
}

struct Attempt {
    index: usize,
    started: Duration,
    socket: Socket,
    asked: bool,
    answer: Vec<u8>,
}

enum Progress {
    Waiting,
    Failed,
    Answered,
}

impl Probe {
    fn run(&mut self, stop: &AtomicBool) {
        let mut next = clock::now();
        while !stop.load(Ordering::Relaxed) {
            self.ask();
            next = (next + self.interval).max(clock::now());
            self.listen(next);
        }
        self.listen(clock::now() + ANSWER_LIMIT);
    }

    fn ask(&mut self) {
        let started = clock::now();
        let index = self.report.samples.len();
        self.report.samples.push(Sample {
            at: started,
            answered: None,
        });
        if let Ok(socket) = connect(self.target) {
            self.open.push(Attempt {
                index,
                started,
                socket,
                asked: false,
                answer: Vec::new(),
            });
        }
    }

    fn listen(&mut self, until: Duration) {
        while clock::now() < until {
            let mut sockets: Vec<PollFd<'_>> = self
                .open
                .iter()
                .map(|attempt| PollFd::new(&attempt.socket, attempt.interest()))
                .collect();
            if poll(&mut sockets, Some(&remaining(until))).is_err() {
                continue;
            }
            let ready: Vec<bool> = sockets.iter().map(|s| !s.revents().is_empty()).collect();
            self.advance(&ready);
        }
    }

    fn advance(&mut self, ready: &[bool]) {
        let now = clock::now();
        let attempts = std::mem::take(&mut self.open);
        for (mut attempt, ready) in attempts.into_iter().zip(ready) {
            let progress = if *ready {
                attempt.go_on()
            } else {
                Progress::Waiting
            };
            let late = now.saturating_sub(attempt.started) > ANSWER_LIMIT;
            match progress {
                Progress::Answered if !late => self.note(&attempt, now),
                Progress::Waiting if !late => self.open.push(attempt),
                Progress::Waiting | Progress::Answered | Progress::Failed => {}
            }
        }
    }

    fn note(&mut self, attempt: &Attempt, now: Duration) {
        if let Some(sample) = self.report.samples.get_mut(attempt.index) {
            sample.answered = Some(now.saturating_sub(attempt.started));
        }
        let page = String::from_utf8_lossy(&attempt.answer).into_owned();
        let body = page.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let name = body.lines().next().unwrap_or("").to_owned();
        let same = self
            .report
            .answered_by
            .last()
            .is_some_and(|(_, last)| *last == name);
        if !same {
            self.report.answered_by.push((now, name));
        }
    }
}

impl Attempt {
    fn interest(&self) -> PollFlags {
        if self.asked {
            PollFlags::IN
        } else {
            PollFlags::OUT
        }
    }

    fn go_on(&mut self) -> Progress {
        if !self.asked {
            let refused = !matches!(self.socket.take_error(), Ok(None));
            if refused || (&self.socket).write(REQUEST).is_err() {
                return Progress::Failed;
            }
            self.asked = true;
            return Progress::Waiting;
        }
        let mut buffer = [0_u8; 4096];
        match (&self.socket).read(&mut buffer) {
            Ok(0) if self.complete() => Progress::Answered,
            Ok(0) => Progress::Failed,
            Ok(length) => {
                self.answer.extend_from_slice(&buffer[..length]);
                Progress::Waiting
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Waiting,
            Err(_) => Progress::Failed,
        }
    }

    fn complete(&self) -> bool {
        self.answer.starts_with(b"HTTP/1.") && self.answer.get(8..13) == Some(b" 200 ")
    }
}

fn connect(target: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Closing resets: hundreds of connections a second must not use up the client's ports.
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&target.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
