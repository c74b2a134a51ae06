//! Health checks of resources and groups: what is asked, how often, and how many answers count.

mod decode;
mod target;

pub(crate) use decode::checks;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Most checks of all groups together: each is a task and at times a connection of the daemon.
pub(crate) const CHECKS_MAX: usize = 256;

/// Time from one attempt to the next where the file does not say.
pub(crate) const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// How long an attempt may take where the file does not say, if the interval is not shorter.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
/// Failures in a row that make a check fail.
pub(crate) const FAILURES_DEFAULT: u32 = 3;
/// Successes in a row that make it good.
pub(crate) const SUCCESSES_DEFAULT: u32 = 1;
/// How long after a start failures are not counted before the first success.
pub(crate) const START_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// The program that asks for pages over TLS: what it needs is never part of the daemon, which is locked in memory.
pub(crate) const CURL: &str = "/usr/bin/curl";
/// Whom it runs as; systemd knows this user by itself.
pub(crate) const CURL_USER: &str = "nobody";

/// Status codes that are good where the file does not say.
pub const STATUS_DEFAULT: RangeInclusive<u16> = 200..=399;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From the beginning of one attempt to the beginning of the next; at least 100 ms.
    pub interval: Duration,
    /// How long an attempt may take; never longer than the interval.
    pub timeout: Duration,
    /// This many failures in a row make it fail; at least 1.
    pub failures: u32,
    /// This many successes in a row make it good, after a start and after it had failed; at least 1.
    pub successes: u32,
    /// For so long after a start failures do not count, unless it has been good before.
    pub start_grace: Duration,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// A page over HTTP, by GET.
    Http(HttpProbe),
    /// A page over TLS, by GET, which curl asks for.
    Https(HttpsProbe),
    /// A connection that is accepted.
    Tcp {
        /// Where to.
        address: SocketAddr,
    },
    /// A program that ends with exit code 0, run by systemd.
    Exec {
        /// Absolute path and arguments; never empty.
        command: Vec<String>,
        /// Whom it runs as; root if not said.
        user: Option<String>,
    },
    /// A unit that is active.
    Unit {
        /// Its name with its suffix.
        name: String,
    },
}

/// A page, and where it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Where to connect.
    pub address: SocketAddr,
    /// What is asked for there.
    pub page: Page,
}

/// A page that is asked for over TLS, and whose certificate is good there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpsProbe {
    /// Whose certificates.
    pub trust: Trust,
    /// What is asked for there; its host may be a name.
    pub page: Page,
}

/// Which certificates are good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Those that the system trusts.
    System,
    /// Those of the authority whose certificate is in this file.
    Ca(String),
    /// All.
    Any,
}

/// A page, and what it must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Host and port as they stand in the URL, for the `Host` field.
    pub host: String,
    /// Path and query, from the first `/` on; printable ASCII without spaces.
    pub path: String,
    /// Codes that are good; [`STATUS_DEFAULT`] if empty.
    pub status: Vec<u16>,
    /// What the body must contain.
    pub text: Option<String>,
}

impl Page {
    /// Whether an answer with this status is good.
    pub fn accepts(&self, status: u16) -> bool {
        if self.status.is_empty() {
            STATUS_DEFAULT.contains(&status)
        } else {
            self.status.contains(&status)
        }
    }

    /// The codes that are good, for people.
    pub fn expected(&self) -> String {
        if self.status.is_empty() {
            return format!("{} to {}", STATUS_DEFAULT.start(), STATUS_DEFAULT.end());
        }
        let codes: Vec<String> = self.status.iter().map(u16::to_string).collect();
        codes.join(" or ")
    }
}

/// The URL without its scheme.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

/// What people call the check: the URL, or the key and its value.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(HttpProbe { page, .. }) => write!(f, "http://{page}"),
            Self::Https(HttpsProbe { page, .. }) => write!(f, "https://{page}"),
            Self::Tcp { address } => write!(f, "tcp {address}"),
            Self::Exec { command, .. } => write!(f, "exec {}", command.join(" ")),
            Self::Unit { name } => write!(f, "unit {name}"),
        }
    }
}
