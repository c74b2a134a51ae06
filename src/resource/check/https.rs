//! A page over TLS: curl asks, as a transient unit of a user without rights, and `response` reads what it hands on.
//!
//! Owns what curl is told and what its end means. The answer itself is judged as the plain one is: once enough of it
//! was read, it does not matter how curl ends. What is wrong with curl, or keeps it from asking, is not the service's.

use super::response::{Progress, Response};
use super::{Finding, exec};
use crate::config::health::{CURL, CURL_USER, HttpsProbe, Trust};
use crate::resource::transient::{Exit, Program};
use crate::resource::unit::Units;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How much longer than its own time-out curl may take before systemd ends it.
const SLACK: Duration = Duration::from_secs(2);
/// Longest of curl's own words that is told.
const DETAIL_MAX: usize = 200;
/// A directory that always is there and never holds a certificate: some builds of curl trust one beside the file.
const NO_CERTIFICATES: &str = "/proc/sys";

/// Asks once, in the unit of `program`, whose time-out is that of the check.
pub(super) async fn ask(probe: &HttpsProbe, program: Program, units: &Arc<Units>) -> Finding {
    let limit = program.timeout;
    let program = Program {
        argv: arguments(probe, limit),
        // Its words are read, and a decimal point must be one.
        environment: [("LC_ALL".to_owned(), "C".to_owned())].into(),
        user: Some(CURL_USER.to_owned()),
        timeout: limit + SLACK,
        ..program
    };
    let mut response = Response::new(&probe.page);
    let mut verdict = None;
    let run = units.run_asked(&program, |bytes| match response.take(bytes) {
        Ok(Progress::More) => ControlFlow::Continue(()),
        Ok(Progress::Good) => {
            verdict = Some(Finding::Good);
            ControlFlow::Break(())
        }
        Err(reason) => {
            verdict = Some(Finding::Bad(reason));
            ControlFlow::Break(())
        }
    });
    let Some((exit, words)) = exec::ended(&program, units, run).await else {
        return Finding::Unknown;
    };
    verdict.unwrap_or_else(|| judge(&exit, &words, &response.end(), probe, limit))
}

/// What curl is told: a GET over HTTP/1.1 without what its own configuration or the environment may add, and the
/// answer as it comes, head first.
fn arguments(probe: &HttpsProbe, limit: Duration) -> Vec<String> {
    let agent = concat!("ha-node/", env!("CARGO_PKG_VERSION"));
    let seconds = format!("{}.{:03}", limit.as_secs(), limit.subsec_millis());
    let url = format!("https://{}", probe.page);
    let mut words = vec![CURL, "--disable", "--silent", "--show-error"];
    words.extend(["--proto", "=https", "--noproxy", "*", "--http1.1"]);
    words.extend(["--include", "--raw", "--no-buffer", "--globoff"]);
    words.extend(["--path-as-is", "--user-agent", agent]);
    words.extend(["--max-time", &seconds]);
    match &probe.trust {
        Trust::System => {}
        Trust::Ca(path) => words.extend(["--cacert", path, "--capath", NO_CERTIFICATES]),
        Trust::Any => words.push("--insecure"),
    }
    if matches!(probe.page.host.split(':').next(), Some("localhost")) {
        words.push("--ipv4");
    }
    words.extend(["--url", &url]);
    words.into_iter().map(str::to_owned).collect()
}

/// What it means that curl has ended before the answer was judged; `cut` says where the answer ended.
fn judge(exit: &Exit, words: &str, cut: &str, probe: &HttpsProbe, limit: Duration) -> Finding {
    match exit {
        Exit::Code(code) => judge_code(*code, &detail(words), cut, probe, limit),
        Exit::TimedOut => Finding::Bad(no_answer(limit)),
        Exit::Canceled => Finding::Unknown,
        Exit::NotExecutable => Finding::Unasked(format!("{CURL} is not there: install curl")),
        Exit::Signal(_) | Exit::NotStarted(_) => Finding::Unasked(format!("{CURL}: {exit}")),
    }
}

/// By curl's exit code (curl(1), "EXIT CODES"), and its words where one code has several meanings.
fn judge_code(code: i32, detail: &str, cut: &str, probe: &HttpsProbe, limit: Duration) -> Finding {
    let has = |words: &str| detail.contains(words);
    Finding::Bad(match code {
        0 | 18 | 52 => cut.to_owned(),
        7 if has("refused") => "connection refused".to_owned(),
        7 => "no connection: refused, or the host cannot be reached".to_owned(),
        28 if has("Resolving timed out") || has("name lookup timed out") => {
            return Finding::Unasked(no_lookup(probe));
        }
        28 => no_answer(limit),
        1 | 8 if has("HTTP") => "the answer is not HTTP".to_owned(),
        35 if has("wrong version number") || has("unexpected TLS packet") => {
            "the port does not speak TLS".to_owned()
        }
        35 => format!("the TLS handshake failed{}", in_brackets(detail)),
        51 | 60 => distrust(detail, probe),
        55 | 56 => format!("the connection broke{}", in_brackets(detail)),
        6 => return Finding::Unasked(no_lookup(probe)),
        77 => return Finding::Unasked(no_certificates(&probe.trust)),
        // What concerns curl itself: how it was built, its arguments, memory, files.
        1..=5 | 23 | 26 | 27 | 41 | 43 | 48 | 53 | 54 | 58 | 59 | 66 | 82 | 83 => {
            return Finding::Unasked(format!(
                "curl ended with exit code {code}{}",
                in_brackets(detail)
            ));
        }
        code => format!("curl ended with exit code {code}{}", in_brackets(detail)),
    })
}

fn no_lookup(probe: &HttpsProbe) -> String {
    format!("the name of {} cannot be looked up", probe.page.host)
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}

fn no_certificates(trust: &Trust) -> String {
    match trust {
        Trust::Ca(path) => format!(
            "the certificates in {path} cannot be used: is it there, in PEM, and may {CURL_USER} read it?"
        ),
        Trust::System | Trust::Any => {
            "the certificates that the system trusts cannot be read: install ca-certificates"
                .to_owned()
        }
    }
}

/// Why a certificate was refused, from the words of OpenSSL or GnuTLS.
fn distrust(detail: &str, probe: &HttpsProbe) -> String {
    let has = |words: &[&str]| words.iter().any(|words| detail.contains(words));
    if has(&["has expired", "expiration date"]) {
        return "the certificate has expired".to_owned();
    }
    if has(&["not yet valid", "not activated", "activation date"]) {
        return "the certificate is not valid yet".to_owned();
    }
    if has(&["does not match", "no alternative certificate subject name"]) {
        let host = &probe.page.host;
        return format!("the certificate is for another name than that in {host}");
    }
    if has(&["revoked"]) {
        return "the certificate is revoked".to_owned();
    }
    let problem = detail
        .strip_prefix("SSL certificate problem: ")
        .unwrap_or(detail);
    format!("the certificate is not trusted{}", in_brackets(problem))
}

fn in_brackets(detail: &str) -> String {
    match detail {
        "" => String::new(),
        detail => format!(" ({detail})"),
    }
}

/// curl's own words for its error, as "curl: (60) SSL certificate problem: …", without the code; in one line.
fn detail(words: &str) -> String {
    let mut errors = words.lines().filter_map(|line| {
        let (code, text) = line.strip_prefix("curl: (")?.split_once(") ")?;
        code.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(text)
    });
    let text = errors.next_back().unwrap_or_default().trim();
    let text = text.chars().filter(|c| !c.is_control());
    text.take(DETAIL_MAX).collect()
}

#[cfg(test)]
mod tests;
