//! Whom a check asks: URLs, addresses with ports, programs and users, each with an error that says what is right.
//!
//! A name would have to be looked up, which can block, so `localhost` is the only one; it is 127.0.0.1.

use super::{HttpProbe, Page};
use crate::config::problem::Wrong;
use crate::config::value::{Checked, describe, quoted, text};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use toml::de::DeValue;

const HTTP_PORT: u16 = 80;
/// Longest URL, and longest argument of a program.
const LENGTH_MAX: usize = 2000;
/// Most words of a command.
const WORDS_MAX: usize = 64;
/// Longest name of a user that Linux has.
const USER_LENGTH_MAX: usize = 32;
const NO_LOOKUP: &str = "host names are not looked up, since that can block: write the address";

/// `http`: without status and text, which are keys of their own.
pub(super) fn http(value: &DeValue<'_>) -> Checked<HttpProbe> {
    let expected = "http://HOST[:PORT]/PATH with an address or localhost as HOST";
    let url = text(value, expected)?;
    let wrong = || Wrong::new(quoted(url)).expected(expected);
    if url.starts_with("https://") {
        return Err(wrong().hint(
            "https is not there yet: use exec = [\"/usr/bin/curl\", \"--fail\", \"--silent\", \"https://…\"]",
        ));
    }
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    if url.len() > LENGTH_MAX || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        let hint = format!("at most {LENGTH_MAX} printable characters of ASCII, a space as %20");
        return Err(wrong().hint(hint));
    }
    let (host, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if !path.starts_with('/') || path.contains('#') || host.contains('@') {
        return Err(wrong().hint("no user, no #fragment, and a / before any ?query"));
    }
    let address = address(host, Some(HTTP_PORT)).map_err(|hint| match hint {
        Some(hint) => wrong().hint(hint),
        None => wrong(),
    })?;
    let page = Page {
        host: host.to_owned(),
        path: path.to_owned(),
        status: Vec::new(),
        text: None,
    };
    Ok(HttpProbe { address, page })
}

/// `tcp`
pub(super) fn tcp(value: &DeValue<'_>) -> Checked<SocketAddr> {
    let expected = "ADDRESS:PORT, as \"127.0.0.1:5432\" or \"[::1]:5432\"";
    let text = text(value, expected)?;
    address(text, None).map_err(|hint| {
        let wrong = Wrong::new(quoted(text)).expected(expected);
        match hint {
            Some(hint) => wrong.hint(hint),
            None => wrong,
        }
    })
}

/// `HOST[:PORT]`; as an error what may help.
fn address(text: &str, default_port: Option<u16>) -> Result<SocketAddr, Option<&'static str>> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, "")) => (inner, None),
        Some((inner, rest)) => (inner, Some(rest.strip_prefix(':').ok_or(None)?)),
        None => match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(Some("an IPv6 address stands in [ ]"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_v6 = text.starts_with('[');
    let address = match host {
        "localhost" if !is_v6 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => host.parse().map_err(|_| Some(NO_LOOKUP))?,
    };
    if is_v6 != address.is_ipv6() {
        return Err(None);
    }
    if address.is_unspecified() || address.is_multicast() {
        return Err(Some("that is no address of a single host"));
    }
    let port = match port {
        None => default_port.ok_or(Some("the port is missing"))?,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map_err(|_| None)?
        }
        Some(_) => return Err(None),
    };
    if port == 0 {
        return Err(Some("a port is a number from 1 to 65535"));
    }
    Ok(SocketAddr::new(address, port))
}

/// `exec`: the path of a program and its arguments.
pub(super) fn command(value: &DeValue<'_>) -> Checked<Vec<String>> {
    let expected = "a list of a program's absolute path and its arguments, as [\"/usr/bin/test\", \"-e\", \"/srv/x\"]";
    let Some(list) = value.as_array() else {
        let wrong = Wrong::new(describe(value)).expected(expected);
        let hint = "there is no shell: each argument is a text of its own";
        return Err(wrong.hint(hint));
    };
    let mut words = Vec::new();
    for word in list.iter() {
        let text = text(word.get_ref(), expected)?;
        if text.len() > LENGTH_MAX || text.contains('\0') {
            let limit = format!("at most {LENGTH_MAX} bytes without NUL");
            return Err(Wrong::new(quoted(text)).expected(limit));
        }
        words.push(text.to_owned());
    }
    match words.first() {
        Some(path) if !path.starts_with('/') => Err(Wrong::new(quoted(path)).expected(expected)),
        Some(_) if words.len() > WORDS_MAX => {
            Err(Wrong::new(format!("{} words", words.len()))
                .expected(format!("at most {WORDS_MAX}")))
        }
        Some(_) => Ok(words),
        None => Err(Wrong::new("an empty list").expected(expected)),
    }
}

/// `user`: a name or a number.
pub(super) fn user(value: &DeValue<'_>) -> Checked<String> {
    let expected = "the name of a user, as \"nobody\"";
    let text = text(value, expected)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let valid = (1..=USER_LENGTH_MAX).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with(['-', '.']);
    if valid {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(url: &str) -> Checked<HttpProbe> {
        http(&DeValue::String(url.into()))
    }

    #[test]
    fn a_url_is_an_address_a_host_field_and_a_path() {
        for (url, address, host, path) in [
            ("http://127.0.0.1/", "127.0.0.1:80", "127.0.0.1", "/"),
            ("http://localhost", "127.0.0.1:80", "localhost", "/"),
            (
                "http://10.0.0.1:8080/a?b=c",
                "10.0.0.1:8080",
                "10.0.0.1:8080",
                "/a?b=c",
            ),
            ("http://[::1]/x", "[::1]:80", "[::1]", "/x"),
            ("http://[fd00::1]:81", "[fd00::1]:81", "[fd00::1]:81", "/"),
        ] {
            let probe = read(url).unwrap();
            assert_eq!(probe.address, address.parse().unwrap(), "{url}");
            let page = probe.page;
            assert_eq!((page.host.as_str(), page.path.as_str()), (host, path));
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for url in [
            "",
            "127.0.0.1",
            "https://127.0.0.1/",
            "ftp://127.0.0.1/",
            "http://",
            "http:///x",
            "http://example.org/",
            "http://::1/",
            "http://[127.0.0.1]/",
            "http://[localhost]/",
            "http://[::1/",
            "http://[::1]80/",
            "http://127.0.0.1:/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:65536/",
            "http://127.0.0.1:+80/",
            "http://0.0.0.0/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1/ x",
            "http://127.0.0.1/\r\nX: y",
            "http://127.0.0.1/#x",
            "http://127.0.0.1?x",
            "http://127.0.0.1/ü",
        ] {
            assert!(read(url).is_err(), "{url:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_taken_cannot_break_a_request(text in "(http://)?\\PC*") {
            let value = DeValue::String(text.as_str().into());
            let _ = (tcp(&value), user(&value), command(&value));
            if let Ok(probe) = http(&value) {
                let line = probe.page.to_string();
                prop_assert!(line.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
