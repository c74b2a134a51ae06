//! Object paths of the service: how names become path elements and back.
//!
//! The escaping is systemd's (`sd_bus_path_encode`): letters and digits stay, except a digit in front; all
//! else becomes `_xx`, its byte in hexadecimal. Escaping is injective: two names never share an object.

use crate::ids::{GroupName, LinkId, NodeName};
use std::fmt::Write;

/// The fixed root object; also where ObjectManager lives.
pub const ROOT: &str = "/org/linuxha/Cluster";

/// Makes a path element of any text.
pub fn escape(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    let mut element = String::with_capacity(text.len());
    for (position, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && position > 0) {
            element.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(element, "_{byte:02x}");
        }
    }
    element
}

/// The text that [`escape`] made this element of; `None` if it made no such element.
pub fn unescape(element: &str) -> Option<String> {
    if element == "_" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(element.len());
    let mut rest = element.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'_' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && escape(&text) == element).then_some(text)
}

/// The object of a node.
pub fn node(name: &NodeName) -> String {
    format!("{ROOT}/node/{}", escape(name.as_str()))
}

/// The object of a group.
pub fn group(name: &GroupName) -> String {
    format!("{ROOT}/group/{}", escape(name.as_str()))
}

/// The object of a link: a bare number, as the path grammar allows it.
pub fn link(id: LinkId) -> String {
    format!("{ROOT}/link/{}", id.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_escaped_as_systemd_does() {
        assert_eq!(escape("alpha"), "alpha");
        assert_eq!(escape("db-1.example"), "db_2d1_2eexample");
        assert_eq!(escape("7up"), "_37up");
        assert_eq!(escape("a_b"), "a_5fb");
        assert_eq!(escape(""), "_");
    }

    #[test]
    fn what_escape_never_writes_is_no_name() {
        for bad in ["_4", "_zz", "_41", "7up", "a-b", "_FF", ""] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn unescape_inverts_escape(text in ".*") {
            let element = escape(&text);
            prop_assert!(element.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            prop_assert_eq!(unescape(&element), Some(text));
        }
    }
}
