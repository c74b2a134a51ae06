//! Running the system's tools: one way to start them, and errors that show what they said.

use anyhow::{Context, Result, bail, ensure};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the program was content.
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// A command of its words, in a process group of its own so that Ctrl-C reaches only the lab itself.
///
/// # Errors
/// No words.
pub fn command(words: &[&str]) -> Result<Command> {
    use std::os::unix::process::CommandExt;
    let (program, arguments) = words.split_first().context("no program to run")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .process_group(0);
    Ok(command)
}

/// Runs a program to its end, whatever its exit code.
///
/// # Errors
/// It could not be started.
pub fn attempt(words: &[&str]) -> Result<Output> {
    let output = command(words)?
        .output()
        .with_context(|| format!("cannot run {words:?}"))?;
    Ok(collect(output))
}

/// Runs a program that must succeed; gives its standard output without the last newline.
///
/// # Errors
/// It could not be started, or failed: the error holds what it printed.
pub fn run(words: &[&str]) -> Result<String> {
    checked(words, attempt(words)?)
}

/// The same, with text on its standard input.
///
/// # Errors
/// As [`run`].
pub fn feed(words: &[&str], input: &str) -> Result<String> {
    let mut child = command(words)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {words:?}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    checked(words, collect(child.wait_with_output()?))
}

/// Runs a long program whose output people want to see, on standard error.
///
/// # Errors
/// It could not be started, or failed.
pub fn show(words: &[&str]) -> Result<()> {
    let status = command(words)?
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run {words:?}"))?;
    ensure!(status.success(), "{words:?} failed: {status}");
    Ok(())
}

fn collect(output: std::process::Output) -> Output {
    use std::os::unix::process::ExitStatusExt;
    let signal = || 128 + output.status.signal().unwrap_or_default();
    Output {
        code: output.status.code().unwrap_or_else(signal),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn checked(words: &[&str], output: Output) -> Result<String> {
    if !output.success() {
        bail!(
            "{} failed with {}: {}{}",
            words.join(" "),
            output.code,
            output.stderr.trim_end(),
            output.stdout.trim_end()
        );
    }
    Ok(output.stdout.trim_end_matches('\n').to_owned())
}
