//! `hactl`: the client's commands.
//!
//! Talks to the daemon by D-Bus only. Results go to standard output, all else to standard error; the
//! outcome is one of four exit codes. What is printed is made by pure functions, see `render`.

pub mod args;
mod check;
mod client;
mod error;
mod events;
mod keygen;
pub mod render;
pub mod status;
mod time;

use args::{Arguments, Command};
use clap::Parser;
use error::CtlError;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs one command of `hactl`; `arguments` start with the program's name.
///
/// The code is 0 for done, 1 for failed with the reason on standard error, 2 for wrong usage, 3 where the
/// daemon is not running.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are results, not errors: clap knows which is which.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(text) = error.text() {
                eprintln!("hactl: {text}");
            }
            error.exit_code()
        }
    }
}

fn dispatch(command: Command) -> Result<(), CtlError> {
    match command {
        Command::Keygen { output } => keygen::run(output.as_deref()),
        Command::Status { json } => block_on(print_status(json)),
        Command::Standby { scope } => block_on(client::standby(scope)),
        Command::Online => block_on(client::online()),
        Command::Move { group, node } => block_on(client::move_group(&group, &node)),
        Command::Clear { group } => block_on(client::clear(&group)),
        Command::Check { file } => block_on(check::run(file.as_deref())),
        Command::Events { follow, json } => block_on(events::run(follow, json)),
    }
}

fn block_on(work: impl Future<Output = Result<(), CtlError>>) -> Result<(), CtlError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CtlError::Failed(format!("cannot start: {error}")))?
        .block_on(work)
}

async fn print_status(json: bool) -> Result<(), CtlError> {
    let status = client::Client::connect().await?.status().await?;
    if json {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|error| CtlError::Failed(error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    print(&render::render(&status, time::now_usec()))
}

/// Prints a result; colours are left out where nobody sees them.
fn print(text: &str) -> Result<(), CtlError> {
    let mut output = anstream::stdout();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        // Who reads no further, as `head`, has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CtlError::Silent),
        Err(error) => Err(CtlError::Failed(format!(
            "cannot write the result: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}
