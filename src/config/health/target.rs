//! Whom a check asks: URLs, addresses with ports, programs and users, each with an error that says what is right.
//!
//! A name would have to be looked up, which can block, so `localhost` is the only one; it is 127.0.0.1. Pages over TLS
//! are asked for by a program, and certificates are made for names: there any name may stand.

use super::{HttpProbe, Page};
use crate::config::problem::Wrong;
use crate::config::value::{Checked, describe, quoted, text};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use toml::de::DeValue;

/// Begins the URL of a page over TLS.
pub(super) const HTTPS: &str = "https://";

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// Longest URL, and longest argument of a program.
const LENGTH_MAX: usize = 2000;
/// Most words of a command.
const WORDS_MAX: usize = 64;
/// Longest name of a host that DNS has, and longest part of one.
const HOST_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;
/// Longest name of a user that Linux has.
const USER_LENGTH_MAX: usize = 32;
const NO_LOOKUP: &str = "host names are not looked up, since that can block: write the address";

/// `http`: without status and text, which are keys of their own.
pub(super) fn http(value: &DeValue<'_>) -> Checked<HttpProbe> {
    let expected = "http://HOST[:PORT]/PATH with an address or localhost as HOST";
    let url = text(value, expected)?;
    let page = page(url, "http://", expected)?;
    let address =
        address(&page.host, Some(HTTP_PORT)).map_err(|hint| unasked(url, expected, hint))?;
    Ok(HttpProbe { address, page })
}

/// `http` where it is an https URL: without status and text, too.
pub(super) fn https(value: &DeValue<'_>) -> Checked<Page> {
    let expected = "https://HOST[:PORT]/PATH with an address or a name as HOST";
    let url = text(value, expected)?;
    let page = page(url, HTTPS, expected)?;
    let (name, port) = match page.host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (page.host.as_str(), None),
    };
    let hint = if is_host_name(name) {
        port.map_or(Ok(0), port_number).err()
    } else {
        address(&page.host, Some(HTTPS_PORT)).err()
    };
    match hint {
        None => Ok(page),
        // What is neither name nor address is no name that is not looked up.
        Some(hint) => Err(unasked(
            url,
            expected,
            hint.filter(|hint| *hint != NO_LOOKUP),
        )),
    }
}

/// Letters, digits and hyphens in parts; not what a program may take for a number, and so for an address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= HOST_LENGTH_MAX
        && name.split('.').all(is_label)
        && last.starts_with(|first: char| first.is_ascii_alphabetic())
}

fn unasked(url: &str, expected: &str, hint: Option<&str>) -> Wrong {
    let wrong = Wrong::new(quoted(url)).expected(expected);
    match hint {
        Some(hint) => wrong.hint(hint),
        None => wrong,
    }
}

/// A URL in its parts, of which the host is not looked at yet.
fn page(url: &str, scheme: &str, expected: &str) -> Checked<Page> {
    let wrong = || Wrong::new(quoted(url)).expected(expected);
    let rest = url.strip_prefix(scheme).ok_or_else(wrong)?;
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
    Ok(Page {
        host: host.to_owned(),
        path: path.to_owned(),
        status: Vec::new(),
        text: None,
    })
}

/// `tcp`
pub(super) fn tcp(value: &DeValue<'_>) -> Checked<SocketAddr> {
    let expected = "ADDRESS:PORT, as \"127.0.0.1:5432\" or \"[::1]:5432\"";
    let text = text(value, expected)?;
    address(text, None).map_err(|hint| unasked(text, expected, hint))
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
        Some(port) => port_number(port)?,
    };
    Ok(SocketAddr::new(address, port))
}

fn port_number(text: &str) -> Result<u16, Option<&'static str>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(None);
    }
    match text.parse().map_err(|_| None)? {
        0 => Err(Some("a port is a number from 1 to 65535")),
        port => Ok(port),
    }
}

/// `ca`: the path of a file.
pub(super) fn ca(value: &DeValue<'_>) -> Checked<String> {
    let expected = "the absolute path of a file with certificates, as \"/etc/ssl/ca.pem\"";
    let text = text(value, expected)?;
    let valid = text.starts_with('/')
        && !text.ends_with('/')
        && text.len() <= LENGTH_MAX
        && !text.chars().any(char::is_control);
    if valid {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
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

    #[test]
    fn a_page_over_tls_may_have_a_name() {
        let read = |url: &str| https(&DeValue::String(url.into()));
        for (url, host, path) in [
            ("https://127.0.0.1", "127.0.0.1", "/"),
            ("https://[::1]:8443/x", "[::1]:8443", "/x"),
            ("https://localhost/", "localhost", "/"),
            (
                "https://www.example.org:8443/a?b",
                "www.example.org:8443",
                "/a?b",
            ),
            ("https://4web.x-y.org/", "4web.x-y.org", "/"),
        ] {
            let page = read(url).unwrap();
            assert_eq!((page.host.as_str(), page.path.as_str()), (host, path));
        }
        for url in [
            "http://127.0.0.1/",
            "https://",
            "https:///x",
            "https://0.0.0.0/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://a..b/",
            "https://-a/",
            "https://a-/",
            "https://a_b/",
            "https://a{b,c}/",
            "https://user@a/",
            "https://a:/",
            "https://a:0/",
            "https://a:65536/",
            "https://a:1:2/",
            "https://::1/",
            "https://a/ b",
            "https://a/#b",
        ] {
            assert!(read(url).is_err(), "{url:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_taken_cannot_break_a_request(text in "(https?://)?\\PC*") {
            let value = DeValue::String(text.as_str().into());
            let _ = (tcp(&value), user(&value), command(&value), ca(&value));
            if let Ok(page) = https(&value) {
                let line = page.to_string();
                prop_assert!(line.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(line.starts_with(|first: char| first == '[' || first.is_ascii_alphanumeric()));
            }
            if let Ok(probe) = http(&value) {
                let line = probe.page.to_string();
                prop_assert!(line.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
