//! What a third machine sees of the cluster, and what its machines own, every millisecond.
//!
//! Each probe is a thread of its own, ahead of ordinary threads, with its sockets in the namespace that it
//! looks from. An answer that comes too late counts as none: the client's kernel queues probes while it
//! resolves an address and delivers them afterwards, which no user would call an answer.

pub mod address;
pub mod crowd;
pub mod http;
pub mod owner;

use crate::span::{self, Span};
use crate::{clock, network, sys};
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// An answer later than this is none.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(20);

/// One question and whether it was answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was asked.
    pub at: Duration,
    /// How long the answer took; none if it was late or never came.
    pub answered: Option<Duration>,
}

/// What a probe saw.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Every question, in order.
    pub samples: Vec<Sample>,
    /// Who answered from when on, where the answer tells.
    pub answered_by: Vec<(Duration, String)>,
}

impl Report {
    /// Windows without an answer: each from the first lost question to the next answered one.
    pub fn outages(&self) -> Vec<Span> {
        let mut result = Vec::new();
        let mut since = None;
        for sample in &self.samples {
            match (sample.answered, since) {
                (None, None) => since = Some(sample.at),
                (Some(_), Some(from)) => {
                    result.push(Span::new(from, sample.at));
                    since = None;
                }
                (None, Some(_)) | (Some(_), None) => {}
            }
        }
        if let (Some(from), Some(last)) = (since, self.samples.last()) {
            result.push(Span::new(from, last.at));
        }
        result
    }

    /// Longest outage; zero if every question was answered.
    pub fn longest_outage(&self) -> Duration {
        span::longest(&self.outages())
    }

    /// How many questions had no answer in time.
    pub fn lost(&self) -> usize {
        self.samples.iter().filter(|s| s.answered.is_none()).count()
    }

    /// Longest pause between two questions: how far the probe itself can be trusted.
    pub fn coarsest(&self) -> Duration {
        self.samples
            .windows(2)
            .map(|pair| match pair {
                [first, second] => second.at.saturating_sub(first.at),
                _ => Duration::ZERO,
            })
            .max()
            .unwrap_or_default()
    }

    /// Only what was asked within a span.
    #[must_use]
    pub fn within(&self, span: Span) -> Self {
        let inside = |at: Duration| (span.from..span.to).contains(&at);
        Self {
            samples: self
                .samples
                .iter()
                .copied()
                .filter(|s| inside(s.at))
                .collect(),
            answered_by: self
                .answered_by
                .iter()
                .filter(|(at, _)| inside(*at))
                .cloned()
                .collect(),
        }
    }
}

/// A thread that looks until it is told to finish.
#[derive(Debug)]
pub struct Watcher<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<T>>,
}

impl<T: Send + 'static> Watcher<T> {
    /// Starts it, inside a network namespace if one is named.
    pub(crate) fn start(
        name: &str,
        namespace: Option<String>,
        body: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Some(namespace) = namespace {
                    network::enter(&namespace)?;
                }
                sys::prefer_this_thread().context("cannot get real-time priority")?;
                body(&seen)
            })?;
        Ok(Self { stop, thread })
    }

    /// Ends it and gives what it saw.
    ///
    /// # Errors
    /// It could not look at all.
    pub fn finish(self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("a probe panicked"),
        }
    }
}

/// Waits until a socket is readable or a point of the lab's clock has passed.
pub(crate) fn wait_readable(socket: &impl AsFd, until: Duration) {
    let mut sockets = [PollFd::new(socket, PollFlags::IN)];
    let _ = poll(&mut sockets, Some(&remaining(until)));
}

/// Time left until a point of the lab's clock, in poll's form.
pub(crate) fn remaining(until: Duration) -> Timespec {
    let left = until.saturating_sub(clock::now());
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(answers: &[bool]) -> Report {
        let samples = answers.iter().zip(0..).map(|(answered, at)| Sample {
            at: Duration::from_millis(at),
            answered: answered.then_some(Duration::ZERO),
        });
        Report {
            samples: samples.collect(),
            answered_by: Vec::new(),
        }
    }

    #[test]
    fn an_outage_lasts_until_the_next_answered_question() {
        let seen = report(&[true, false, false, true, true, false]);
        let lengths: Vec<_> = seen.outages().iter().map(Span::length).collect();
        assert_eq!(lengths, [Duration::from_millis(2), Duration::ZERO]);
        assert_eq!(seen.longest_outage(), Duration::from_millis(2));
        assert_eq!(seen.lost(), 3);
        assert_eq!(report(&[true, true]).outages(), []);
    }
}
