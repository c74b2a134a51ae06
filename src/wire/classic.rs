//! The older framing: lines between `>>>` and `<<<`, authenticated by the field `auth` alone.
//!
//! A text field is `NAME=VALUE`, any other `(TYPE)NAME=VALUE`; binary values are base64, and a newline in a text
//! is the byte 0x13. Accepted from peers, never sent by the daemon.

use super::auth::split_signature;
use super::keys::Keys;
use super::message::{AUTH, Field, Kind, Message};
use super::{PACKET_RECEIVED_MAX, Reject};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// First bytes of the framing.
pub const START: &[u8] = b">>>\n";
const END: &[u8] = b"<<<\n";

/// Stands for a newline inside a text.
const NEWLINE_STAND_IN: u8 = 0x13;

/// A value or name that the lines of this framing cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field contains bytes that the classic form cannot carry")]
pub struct NotRepresentable;

/// Encodes a message, which its sender has signed ([`Message::sign`]).
///
/// # Errors
/// [`NotRepresentable`] if decoding would not give the message back: a text with the bytes 0 or 0x13, a name with a
/// newline or a leading `(`, a newline in a field of a type that is not understood.
pub fn encode(message: &Message) -> Result<Vec<u8>, NotRepresentable> {
    let mut packet = START.to_vec();
    for field in message.fields() {
        if !is_representable(field) {
            return Err(NotRepresentable);
        }
        push_line(&mut packet, field);
    }
    packet.extend_from_slice(END);
    Ok(packet)
}

/// Verifies the field `auth`, then decodes.
///
/// # Errors
/// The first reason to drop the packet.
pub fn open(packet: &[u8], keys: &Keys) -> Result<Message, Reject> {
    if packet.len() > PACKET_RECEIVED_MAX {
        return Err(Reject::TooLong);
    }
    // Parsing stops at a NUL in Heartbeat, whose older versions send their terminator along.
    let packet = packet.strip_suffix(b"\0").unwrap_or(packet);
    let body = packet
        .strip_prefix(START)
        .and_then(|rest| rest.strip_suffix(END))
        .filter(|body| body.is_empty() || body.ends_with(b"\n"))
        .ok_or(Reject::BadFraming)?;
    verify(body, keys)?;
    parse_lines(body)
}

/// What the inner digest covers: the lines of all fields but `auth`.
pub(super) fn digest_input(message: &Message) -> Vec<u8> {
    let mut lines = Vec::new();
    for field in message
        .fields()
        .iter()
        .filter(|f| f.name != AUTH.as_bytes())
    {
        push_line(&mut lines, field);
    }
    lines
}

fn is_representable(field: &Field) -> bool {
    let lacks = |bytes: &[u8], bad: &[u8]| !bytes.iter().any(|byte| bad.contains(byte));
    let name = !field.name.starts_with(b"(") && lacks(&field.name, b"\0\n=");
    name && !field.name.is_empty()
        && match field.kind {
            Kind::Text => lacks(&field.value, &[0, NEWLINE_STAND_IN]),
            Kind::Binary => true,
            Kind::Other(_) => lacks(&field.value, b"\0\n"),
        }
}

fn push_line(out: &mut Vec<u8>, field: &Field) {
    match field.kind {
        Kind::Text => {}
        Kind::Binary | Kind::Other(_) => out.extend_from_slice(&[b'(', field.kind.digit(), b')']),
    }
    out.extend_from_slice(&field.name);
    out.push(b'=');
    match field.kind {
        Kind::Text => out.extend(field.value.iter().map(|&byte| match byte {
            b'\n' => NEWLINE_STAND_IN,
            other => other,
        })),
        Kind::Binary => out.extend_from_slice(STANDARD.encode(&field.value).as_bytes()),
        Kind::Other(_) => out.extend_from_slice(&field.value),
    }
    out.push(b'\n');
}

/// Checks the digest over the lines as they came, before anything but line ends and `auth=` is looked at.
fn verify(body: &[u8], keys: &Keys) -> Result<(), Reject> {
    let mut covered = Vec::new();
    let mut signature = None;
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_prefix(b"auth=") {
            Some(value) if signature.is_none() => signature = value.strip_suffix(b"\n"),
            Some(_) => return Err(Reject::BadFraming),
            None if line == b"\n" => {}
            // A type 0 may be written out, but is not part of what the digest covers.
            None => covered.push(line.strip_prefix(b"(0)").unwrap_or(line)),
        }
    }
    let signature = signature.ok_or(Reject::NoAuthentication)?;
    let (number, digest) = split_signature(signature).ok_or(Reject::BadFraming)?;
    let key = keys.key(number).ok_or(Reject::UnknownKey)?;
    match key.verify(&covered, digest) {
        true => Ok(()),
        false => Err(Reject::BadDigest),
    }
}

fn parse_lines(body: &[u8]) -> Result<Message, Reject> {
    let mut message = Message::new();
    for line in body
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let field = parse_line(line).ok_or(Reject::BadFraming)?;
        if !message.push(field) {
            return Err(Reject::BadFraming);
        }
    }
    Ok(message)
}

fn parse_line(line: &[u8]) -> Option<Field> {
    let (kind, rest) = match line {
        [b'(', digit, b')', rest @ ..] => (Kind::from_digit(*digit)?, rest),
        _ => (Kind::Text, line),
    };
    let equals = rest
        .iter()
        .position(|&byte| byte == b'=')
        .filter(|&at| at > 0)?;
    let (name, value) = (rest.get(..equals)?, rest.get(equals + 1..)?);
    let value = match kind {
        Kind::Text => value
            .iter()
            .map(|&byte| match byte {
                NEWLINE_STAND_IN => b'\n',
                other => other,
            })
            .collect(),
        Kind::Binary => STANDARD.decode(value).ok()?,
        Kind::Other(_) => value.to_vec(),
    };
    let field = Field {
        kind,
        name: name.to_vec(),
        value,
    };
    is_representable(&field).then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::parse("auth 1\n1 sha1 secret\n").unwrap()
    }

    fn signed(fields: &[(&str, &str)]) -> Message {
        let mut message = Message::new();
        for (name, value) in fields {
            message.push_text(name, *value);
        }
        message.sign(keys().key(1).unwrap());
        message
    }

    #[test]
    fn a_newline_survives() {
        let message = signed(&[("t", "x"), ("two", "one\ntwo"), ("empty", "")]);
        let packet = encode(&message).unwrap();
        assert!(packet.starts_with(b">>>\nt=x\ntwo=one\x13two\nempty=\nauth=1 "));
        assert_eq!(open(&packet, &keys()), Ok(message));
    }

    #[test]
    fn what_lines_cannot_carry_is_refused() {
        for (name, value) in [
            ("a", "\0"),
            ("a", "\x13"),
            ("a\n", "b"),
            ("(1)a", "b"),
            ("", "b"),
        ] {
            assert_eq!(
                encode(&signed(&[(name, value)])),
                Err(NotRepresentable),
                "{name:?}={value:?}"
            );
        }
    }

    #[test]
    fn empty_lines_a_final_nul_and_a_written_type_do_not_matter() {
        let message = signed(&[("t", "x")]);
        let text = String::from_utf8(encode(&message).unwrap()).unwrap();
        for variant in [
            text.replace("t=x\n", "\n\nt=x\n\n"),
            text.replace("t=x\n", "(0)t=x\n"),
            format!("{text}\0"),
        ] {
            assert_eq!(
                open(variant.as_bytes(), &keys()).as_ref(),
                Ok(&message),
                "{variant:?}"
            );
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let text = String::from_utf8(encode(&signed(&[("t", "x")])).unwrap()).unwrap();
        let auth_line = text.lines().find(|line| line.starts_with("auth")).unwrap();
        let cases = [
            (String::new(), Reject::BadFraming),
            (">>>\n<<<\n".to_owned(), Reject::NoAuthentication),
            (text.replace(auth_line, ""), Reject::NoAuthentication),
            (text.replace(auth_line, "auth=1"), Reject::BadFraming),
            (
                text.replace(auth_line, &format!("{auth_line}\n{auth_line}")),
                Reject::BadFraming,
            ),
            (text.replace("auth=1", "auth=2"), Reject::UnknownKey),
            (text.replace("t=x", "t=y"), Reject::BadDigest),
            (text.replace("<<<\n", ""), Reject::BadFraming),
            (format!("{text}x"), Reject::BadFraming),
            (text.replace("\n<<<", "<<<"), Reject::BadFraming),
            ("x".repeat(PACKET_RECEIVED_MAX + 1), Reject::TooLong),
        ];
        for (packet, reason) in cases {
            assert_eq!(
                open(packet.as_bytes(), &keys()),
                Err(reason),
                "{packet:.60?}"
            );
        }
    }

    #[test]
    fn authentic_but_malformed_lines_are_rejected() {
        for line in ["novalue", "=x", "(1)a=?", "(x)a=b", "(1)a=Zh==", "a=b\0"] {
            let key = keys().key(1).unwrap().sign(&[line.as_bytes(), b"\n"]);
            let packet = format!(">>>\n{line}\nauth={key}\n<<<\n");
            assert!(
                matches!(open(packet.as_bytes(), &keys()), Err(Reject::BadFraming)),
                "{line}"
            );
        }
    }
}
