//! Programs that systemd runs for us: a transient service each, whose end tells how the program ended.
//!
//! Nothing is a child of the daemon. A program gets its parameters as arguments and environment, word for word, and
//! writes to the journal under its own identifier. Its unit's name is the caller's and must say what is done to
//! what: a unit of that name that runs already is the same work, begun earlier, and its end is waited for. A program
//! whose end could not be seen, since the connection was lost meanwhile, is run again; so it must be repeatable.
//!
//! Which program, and what its answer means, is the business of those who call.

use crate::dbus::systemd1::{JobResult, Property, error_word};
use crate::resource::bus::{Job, Link};
use crate::resource::guard::NO_LEASE;
use crate::resource::starts::Permit;
use crate::resource::unit::{
    ROOM_PAUSE, Units, explain_refusal, is_no_room, revoked, wait_for_room,
};
use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use zbus::{Fd, Variant};

/// So many times a program is begun again whose unit's name was taken, or whose end was not seen.
const ATTEMPTS_MAX: usize = 5;
/// What a program gets to end by itself after its time-out, before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(5);
/// Most of a program's output that is kept where it is asked for; the rest is read and forgotten.
const OUTPUT_MAX: usize = 256 * 1024;
/// `LOG_NOTICE` of syslog(3).
const LEVEL_NOTICE: i32 = 5;
/// Exit codes by which a program that is asked may answer.
const ANSWERS: std::ops::RangeInclusive<i32> = 1..=199;
/// Exit codes that systemd itself uses for what went wrong before the program ran (systemd.exec(5)).
const CODE_NOT_EXECUTABLE: i32 = 203;
const SYSTEMD_CODES: std::ops::RangeInclusive<i32> = 200..=245;

/// A program, and under which name it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Name of its unit, with the suffix `.service`; see [`unit_name`].
    pub unit: String,
    /// What it does, for people who look at the unit.
    pub description: String,
    /// The program by its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// Variables beside those that systemd sets.
    pub environment: BTreeMap<String, String>,
    /// Who it runs as; root if none.
    pub user: Option<String>,
    /// `SYSLOG_IDENTIFIER` of its output.
    pub identifier: String,
    /// How long it may take; then it is ended.
    pub timeout: Duration,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took longer than its time-out and was ended.
    TimedOut,
    /// Somebody stopped its unit before it had ended.
    Canceled,
    /// It never ran, for this reason.
    NotStarted(String),
    /// The same, since there is no such program, or it cannot be executed.
    NotExecutable,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => f.write_str("ended after its time-out"),
            Self::Canceled => f.write_str("its unit was stopped before it had ended"),
            Self::NotStarted(reason) => write!(f, "not started: {reason}"),
            Self::NotExecutable => f.write_str(
                "it could not be executed: is it there, and executable? Does its first line name an interpreter?",
            ),
        }
    }
}

/// What becomes of the unit when the program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It ends with the program, and with it everything that the program left running.
    Short,
    /// The same, and the journal hears of it only what the program writes or what went wrong: it is run all the time.
    Quiet,
    /// The same, and its exit code is an answer of which systemd says nothing, whatever it is.
    Asked,
    /// After success it stays, with what the program left running in it, until it is stopped. Needs the lease.
    Long,
}

/// Where a program's output goes in place of the journal; its errors go there, too, if they have no pipe of their own.
struct Output {
    out: OwnedFd,
    errors: Option<OwnedFd>,
}

/// How an attempt ended.
enum Attempt {
    Ended(Exit),
    /// The same, of a unit that somebody else had begun.
    Joined(Exit),
    /// A unit of that name was in the way, and is gone now.
    WasTaken,
    /// The message bus had no room for the call.
    NoRoom,
    /// The connection was lost; nobody knows.
    Lost,
}

impl Units {
    /// Runs a program to its end, and ends with it what it left running.
    ///
    /// # Errors
    /// How it ended is not known; words for people.
    pub async fn run(self: &Arc<Self>, program: &Program) -> Result<Exit, String> {
        self.run_unit(program, Life::Short, None).await
    }

    /// The same for a program that is run again and again: systemd's words on each good run stay out of the journal.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_quietly(self: &Arc<Self>, program: &Program) -> Result<Exit, String> {
        self.run_unit(program, Life::Quiet, None).await
    }

    /// The same, and gives what the program wrote, in place of the journal: the first 256 KiB.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_captured(
        self: &Arc<Self>,
        program: &Program,
    ) -> Result<(Exit, String), String> {
        let (reader, out) = pipe(program)?;
        let errors = None;
        let mut output = Vec::new();
        let run = self.run_unit(program, Life::Short, Some(Output { out, errors }));
        let exit = tokio::select! {
            biased;
            exit = run => exit?,
            () = drain(&reader, &mut output) => return Err(format!("the output of {} broke off", program.unit)),
        };
        read_waiting(&reader, &mut output);
        Ok((exit, String::from_utf8_lossy(&output).into_owned()))
    }

    /// Runs a program again and again whose output is an answer: it is given to `take` as it comes, until that says
    /// that it knows enough; from then on the program writes to nobody. Gives what it wrote as errors, the first 256 KiB.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_asked(
        self: &Arc<Self>,
        program: &Program,
        mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(Exit, String), String> {
        let (reader, out) = pipe(program)?;
        let (errors_reader, errors) = pipe(program)?;
        let mut reader = Some(reader);
        let mut told = Vec::new();
        let errors = Some(errors);
        let run = self.run_unit(program, Life::Asked, Some(Output { out, errors }));
        let listen = async {
            tokio::join!(
                feed(&mut reader, &mut take),
                drain(&errors_reader, &mut told)
            );
            // Its end is the unit's.
            pending::<()>().await;
        };
        let exit = tokio::select! {
            biased;
            exit = run => exit?,
            () = listen => return Err(format!("the output of {} broke off", program.unit)),
        };
        if let Some(reader) = reader {
            let _ = feed_waiting(&reader, &mut take);
        }
        read_waiting(&errors_reader, &mut told);
        Ok((exit, String::from_utf8_lossy(&told).into_owned()))
    }

    /// Runs a program that may leave something running, which then lives in the program's unit until that is
    /// stopped. A unit of that name that is active already is success.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn launch(self: &Arc<Self>, program: &Program) -> Result<Exit, String> {
        self.run_unit(program, Life::Long, None).await
    }

    async fn run_unit(
        self: &Arc<Self>,
        program: &Program,
        life: Life,
        output: Option<Output>,
    ) -> Result<Exit, String> {
        let (mut lost, mut pause) = (None, ROOM_PAUSE);
        let mut attempts = 0;
        while attempts < ATTEMPTS_MAX {
            attempts += 1;
            let link = self.connected(lost).await;
            let properties = properties(program, life, output.as_ref())?;
            let name = program.unit.clone();
            // A task of its own: a call that is dropped half-written would spoil the connection, and a unit that
            // is not let go of would stay.
            let permit = (life == Life::Long).then(|| self.starts.begin(&name));
            let task = Arc::clone(self).attempt_unit(link.clone(), name, properties, life, permit);
            match tokio::spawn(task).await.unwrap_or(Attempt::Lost) {
                // What another one's program wrote is not known: it is asked again.
                Attempt::Joined(_) if output.is_some() => lost = None,
                Attempt::Ended(exit) | Attempt::Joined(exit) => return Ok(exit),
                Attempt::WasTaken => lost = None,
                // Nothing was tried; who waits for the program knows for how long.
                Attempt::NoRoom => {
                    attempts -= 1;
                    wait_for_room(&mut pause).await;
                }
                // Two answers one behind the other would be none.
                Attempt::Lost if life == Life::Asked => break,
                Attempt::Lost => lost = Some(link.epoch),
            }
        }
        Err(format!(
            "how {} ended is not known: its unit was taken, or the connection to systemd lost, {ATTEMPTS_MAX} times",
            program.unit
        ))
    }

    async fn attempt_unit(
        self: Arc<Self>,
        link: Link,
        name: String,
        properties: Vec<Property>,
        life: Life,
        permit: Option<Permit>,
    ) -> Attempt {
        let job = Job::expect(&self);
        if permit.as_ref().is_some_and(|permit| !permit.holds()) {
            return Attempt::Ended(Exit::NotStarted(revoked(&name)));
        }
        if life == Life::Long && !self.guard.holds() {
            let reason = NO_LEASE;
            return Attempt::Ended(Exit::NotStarted(reason.to_owned()));
        }
        let manager = &link.manager;
        let reply = manager
            .start_transient_unit(&name, "fail", &properties, &[])
            .await;
        drop(properties);
        drop(permit);
        match reply {
            Ok(path) => self.follow_unit(&link, &name, job, path.as_str()).await,
            Err(error) if is_taken(&error) => self.join_unit(&link, &name, job, life).await,
            Err(error) if link.is_lost(&error) => Attempt::Lost,
            Err(error) if is_no_room(&error) => Attempt::NoRoom,
            Err(error) => Attempt::Ended(Exit::NotStarted(explain_refusal(&name, &error))),
        }
    }

    /// Waits for the end of the start job, which is the end of the program, and lets go of the unit.
    async fn follow_unit(&self, link: &Link, name: &str, job: Job, path: &str) -> Attempt {
        let Some(result) = job.ended(path).await else {
            return Attempt::Lost;
        };
        let end = link.service_end(name).await;
        let _ = link.manager.reset_failed_unit(name).await;
        let _ = link.manager.unref_unit(name).await;
        match end {
            Some((word, code, status)) => Attempt::Ended(judge(&result, &word, code, status)),
            None => Attempt::Lost,
        }
    }

    /// The unit exists: its work is waited for if it is under way, else it is cleared away.
    async fn join_unit(self: &Arc<Self>, link: &Link, name: &str, job: Job, life: Life) -> Attempt {
        if link.manager.ref_unit(name).await.is_err() {
            return Attempt::WasTaken;
        }
        let state = link.unit_state(name).await.map(|(_, state)| state.active);
        let is_starting = state
            .as_ref()
            .is_some_and(|active| active.as_str() == "activating");
        if is_starting && let Some(path) = link.unit_job(name).await {
            return match self.follow_unit(link, name, job, path.as_str()).await {
                Attempt::Ended(exit) => Attempt::Joined(exit),
                other @ (Attempt::Joined(_)
                | Attempt::WasTaken
                | Attempt::NoRoom
                | Attempt::Lost) => other,
            };
        }
        let is_active = state.is_some_and(|active| active.as_str() == "active");
        let _ = link.manager.unref_unit(name).await;
        if is_active && life == Life::Long {
            return Attempt::Ended(Exit::Code(0));
        }
        drop(job);
        let job = Job::expect(self);
        match link.manager.stop_unit(name, "replace").await {
            Ok(path) => {
                let ended = job.ended(path.as_str()).await;
                let _ = link.manager.reset_failed_unit(name).await;
                ended.map_or(Attempt::Lost, |_| Attempt::WasTaken)
            }
            Err(error) if link.is_lost(&error) => Attempt::Lost,
            Err(_) => Attempt::WasTaken,
        }
    }
}

/// What systemd is told of a program.
fn properties(
    program: &Program,
    life: Life,
    output: Option<&Output>,
) -> Result<Vec<Property>, String> {
    let path = program
        .argv
        .first()
        .filter(|path| path.starts_with('/'))
        .ok_or_else(|| format!("{}: the program has no absolute path", program.unit))?;
    let usec = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let variables: Vec<String> = program
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    // Without the flag systemd would replace $NAME in arguments.
    let flags = vec!["no-env-expand".to_owned()];
    let command = vec![(path.clone(), program.argv.clone(), flags)];
    let mut properties: Vec<Property> = vec![
        ("Description", program.description.clone().into()),
        ("Type", "oneshot".into()),
        ("ExecStartEx", Variant::from(command)),
        ("Environment", variables.into()),
        ("SyslogIdentifier", program.identifier.clone().into()),
        ("TimeoutStartUSec", usec(program.timeout).into()),
        ("TimeoutStopUSec", usec(KILL_AFTER).into()),
        ("RemainAfterExit", (life == Life::Long).into()),
        // A group that moves away at shutdown still needs its programs, and stops them itself.
        ("DefaultDependencies", false.into()),
        ("StartLimitIntervalUSec", 0_u64.into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("AddRef", true.into()),
    ];
    if matches!(life, Life::Quiet | Life::Asked) {
        // systemd tells of a good run at the level info; the program's own words are lifted above it.
        properties.push(("SyslogLevel", LEVEL_NOTICE.into()));
        properties.push(("LogLevelMax", LEVEL_NOTICE.into()));
    }
    if life == Life::Asked {
        let statuses: Vec<i32> = ANSWERS.collect();
        let signals: Vec<i32> = Vec::new();
        properties.push(("SuccessExitStatus", Variant::from((statuses, signals))));
        properties.push(("NoNewPrivileges", true.into()));
    }
    if let Some(user) = &program.user {
        properties.push(("User", user.clone().into()));
    }
    let descriptor = |pipe: &OwnedFd| {
        let copy = pipe.try_clone();
        copy.map(|copy| Variant::Fd(Fd::from(copy)))
            .map_err(|error| format!("no descriptor for {}: {error}", program.unit))
    };
    if let Some(output) = output {
        properties.push(("StandardOutputFileDescriptor", descriptor(&output.out)?));
        if let Some(errors) = &output.errors {
            properties.push(("StandardErrorFileDescriptor", descriptor(errors)?));
        }
    }
    Ok(properties)
}

/// `CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED` of wait(2).
pub(super) const CODE_EXITED: i32 = 1;
const CODE_KILLED: i32 = 2;
const CODE_DUMPED: i32 = 3;

/// How the program ended, from systemd's words for its unit.
fn judge(job: &JobResult, result: &str, code: i32, status: i32) -> Exit {
    match (result, code) {
        ("timeout", _) => Exit::TimedOut,
        (_, CODE_EXITED) if status == CODE_NOT_EXECUTABLE => Exit::NotExecutable,
        (_, CODE_EXITED) if SYSTEMD_CODES.contains(&status) => {
            Exit::NotStarted(systemd_code(status))
        }
        (_, CODE_EXITED) => Exit::Code(status),
        (_, CODE_KILLED | CODE_DUMPED) if *job == JobResult::Canceled => Exit::Canceled,
        (_, CODE_KILLED | CODE_DUMPED) => Exit::Signal(status),
        _ if *job == JobResult::Canceled => Exit::Canceled,
        _ => Exit::NotStarted(format!("systemd says {:?}, {result:?}", job.as_str())),
    }
}

fn systemd_code(status: i32) -> String {
    match status {
        216 | 217 => "there is no such user or group on this machine".to_owned(),
        other => {
            format!("systemd could not prepare its process (status {other}, see systemd.exec(5))")
        }
    }
}

fn is_taken(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if error_word(name) == Some("UnitExists"))
}

fn pipe(program: &Program) -> Result<(Receiver, OwnedFd), String> {
    let words = |error| format!("no pipe for the output of {}: {error}", program.unit);
    let (reader, writer) = std::io::pipe().map_err(words)?;
    let reader = Receiver::from_owned_fd(reader.into()).map_err(words)?;
    Ok((reader, writer.into()))
}

/// Hands on what comes, and closes the pipe when no more is wanted.
async fn feed(reader: &mut Option<Receiver>, take: &mut impl FnMut(&[u8]) -> ControlFlow<()>) {
    while let Some(open) = reader {
        if open.readable().await.is_err() || feed_waiting(open, take).is_break() {
            *reader = None;
        }
    }
}

/// Hands on what is there, until no more can come or is wanted.
fn feed_waiting(
    reader: &Receiver,
    take: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut buffer = [0_u8; 4096];
    loop {
        match reader.try_read(&mut buffer) {
            Ok(0) => return ControlFlow::Break(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return ControlFlow::Continue(());
            }
            Err(_) => return ControlFlow::Break(()),
        }
    }
}

/// Reads for as long as anybody may write; what is beyond the bound is forgotten.
async fn drain(reader: &Receiver, output: &mut Vec<u8>) {
    loop {
        if reader.readable().await.is_err() || !read_waiting(reader, output) {
            return;
        }
    }
}

/// Reads what is there; false at the end.
fn read_waiting(reader: &Receiver, output: &mut Vec<u8>) -> bool {
    let mut buffer = [0_u8; 4096];
    loop {
        match reader.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                let room = OUTPUT_MAX.saturating_sub(output.len());
                output.extend(buffer.iter().take(count.min(room)));
            }
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Longest name of a unit that is made here; systemd's own limit is 255.
const NAME_LENGTH_MAX: usize = 220;

/// The name of the unit in which `verb` is done to a resource: the same for the same words, and for no others.
pub fn unit_name(group: &str, resource: &str, verb: &str) -> String {
    let name = format!("ha-{}-{}-{verb}", escape(group), escape(resource));
    if name.len() <= NAME_LENGTH_MAX {
        return format!("{name}.service");
    }
    let number = fingerprint(&[group, resource]);
    format!("ha-{number:016x}-{verb}.service")
}

/// Keeps what a unit's name may hold and `-`, the separator, means nothing else.
pub(super) fn escape(text: &str) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        match byte {
            b'_' | b':' | b'.' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

/// FNV-1a, with the end of each word in it.
fn fingerprint(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_unit_tells_how_its_program_ended() {
        let done = JobResult::Done;
        let failed = JobResult::Failed;
        assert_eq!(judge(&done, "success", 1, 0), Exit::Code(0));
        assert_eq!(judge(&failed, "exit-code", 1, 7), Exit::Code(7));
        assert_eq!(judge(&failed, "signal", 2, 9), Exit::Signal(9));
        assert_eq!(judge(&failed, "core-dump", 3, 11), Exit::Signal(11));
        assert_eq!(judge(&failed, "timeout", 2, 15), Exit::TimedOut);
        assert_eq!(
            judge(&JobResult::Canceled, "success", 2, 15),
            Exit::Canceled
        );
        assert_eq!(judge(&JobResult::Canceled, "success", 0, 0), Exit::Canceled);
        assert_eq!(judge(&failed, "exit-code", 1, 203), Exit::NotExecutable);
        for (result, code, status) in [("exit-code", 1, 217), ("resources", 0, 0)] {
            let exit = judge(&failed, result, code, status);
            assert!(matches!(exit, Exit::NotStarted(_)), "{exit:?}");
        }
    }

    #[test]
    fn names_of_units_are_valid_and_differ_where_the_words_do() {
        assert_eq!(
            unit_name("web", "script:/etc/x", "start"),
            "ha-web-script:\\x2fetc\\x2fx-start.service"
        );
        assert_ne!(unit_name("a-b", "c", "stop"), unit_name("a", "b-c", "stop"));
        let long = "é/".repeat(500);
        let name = unit_name("web", &long, "start");
        assert!(
            name.len() < 256 && name.ends_with("-start.service"),
            "{name}"
        );
        assert_ne!(name, unit_name("web", &format!("{long}x"), "start"));
    }

    #[test]
    fn a_program_without_an_absolute_path_is_refused() {
        let program = Program {
            unit: "x.service".to_owned(),
            description: String::new(),
            argv: vec!["sh".to_owned()],
            environment: BTreeMap::new(),
            user: None,
            identifier: "x".to_owned(),
            timeout: Duration::from_secs(1),
        };
        assert!(properties(&program, Life::Short, None).is_err());
    }
}
