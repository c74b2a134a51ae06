//! A readable line per transition, and a digest of all of them that shows whether two runs were the same.

use crate::sim::clock::Nanos;
use std::collections::VecDeque;
use std::fmt::Arguments;

/// Lines kept for a failure's report; older ones are dropped.
const LINES_MAX: usize = 400;

/// What a trace does with its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceMode {
    /// Only counts, which is fastest.
    Quiet,
    /// Keeps the last lines and the digest.
    Keep,
    /// Prints each line at once, too.
    Print,
}

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    mode: TraceMode,
    lines: VecDeque<String>,
    digest: u64,
}

impl Trace {
    /// An empty record.
    pub fn new(mode: TraceMode) -> Self {
        Self {
            mode,
            lines: VecDeque::new(),
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Whether lines are wanted at all; costly texts are made only then.
    pub fn wants_lines(&self) -> bool {
        self.mode != TraceMode::Quiet
    }

    /// Adds a line about `who` at a true time.
    pub fn line(&mut self, now: Nanos, who: &str, text: Arguments<'_>) {
        if self.mode == TraceMode::Quiet {
            return;
        }
        let line = format!("{:>12.6} {who:<8} {text}", now as f64 / 1e9);
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.mode == TraceMode::Print {
            println!("{line}");
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// FNV-1a over all lines; equal for equal runs. Meaningless in [`TraceMode::Quiet`].
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
