//! The framing that is sent: netstrings between `###` and `%%%`, then the outer digest.
//!
//! `###\n`, for each field `LENGTH:(TYPE)NAME=VALUE,`, `%%%\n`, and `LENGTH:NUMBER DIGEST,` over every byte up
//! to there. Nothing is escaped; nothing may follow. There is exactly one print of a message, so that a
//! packet that was accepted encodes back byte for byte.

use super::auth::{Key, split_signature};
use super::keys::Keys;
use super::message::{Field, Kind, Message};
use super::{PACKET_RECEIVED_MAX, Reject};

/// First bytes of the framing.
pub const START: &[u8] = b"###\n";
const END: &[u8] = b"%%%\n";

/// More than the outer digest ever has: length, key number and the 128 digits of the longest digest.
const SIGNATURE_LENGTH_MAX: usize = 160;

/// Encodes a message and signs it with `key`; without one nobody accepts the packet.
///
/// A packet longer than [`PACKET_SENT_MAX`](super::PACKET_SENT_MAX) is returned all the same: no datagram can
/// carry it, and who sends it has the better place to say so.
pub fn seal(message: &Message, key: Option<&Key>) -> Vec<u8> {
    let mut packet = START.to_vec();
    push_fields(&mut packet, message.fields());
    packet.extend_from_slice(END);
    if let Some(key) = key {
        let signature = key.sign(&[&packet]);
        packet.extend_from_slice(format!("{}:{signature},", signature.len()).as_bytes());
    }
    packet
}

/// Fields as they stand in a packet.
pub(super) fn push_fields(packet: &mut Vec<u8>, fields: &[Field]) {
    for field in fields {
        let length = b"(0)=".len() + field.name.len() + field.value.len();
        packet.extend_from_slice(length.to_string().as_bytes());
        packet.extend_from_slice(&[b':', b'(', field.kind.digit(), b')']);
        packet.extend_from_slice(&field.name);
        packet.push(b'=');
        packet.extend_from_slice(&field.value);
        packet.push(b',');
    }
}

/// Verifies the outer digest, then decodes. The inner one is not looked at, as with Heartbeat.
///
/// # Errors
/// The first reason to drop the packet.
pub fn open(packet: &[u8], keys: &Keys) -> Result<Message, Reject> {
    if packet.len() > PACKET_RECEIVED_MAX {
        return Err(Reject::TooLong);
    }
    if !packet.starts_with(START) {
        return Err(Reject::BadFraming);
    }
    let body = verified_body(packet, keys)?;
    parse_fields(body)
}

/// The bytes between the two marks, if the signature behind them holds.
///
/// Looked for from the end, because a value may contain the mark: the fields are not parsed yet.
fn verified_body<'a>(packet: &'a [u8], keys: &Keys) -> Result<&'a [u8], Reject> {
    let tail_start = packet.len().saturating_sub(SIGNATURE_LENGTH_MAX);
    let tail = packet.get(tail_start..).unwrap_or_default();
    let mark = tail.windows(END.len()).rposition(|window| window == END);
    let signed_length = tail_start + mark.ok_or(Reject::BadFraming)? + END.len();
    let (signed, signature) = packet
        .split_at_checked(signed_length)
        .ok_or(Reject::BadFraming)?;
    if signature.is_empty() {
        return Err(Reject::NoAuthentication);
    }
    let (signature, rest) = split_netstring(signature).ok_or(Reject::BadFraming)?;
    if !rest.is_empty() {
        return Err(Reject::BadFraming);
    }
    let (number, digest) = split_signature(signature).ok_or(Reject::BadFraming)?;
    let key = keys.key(number).ok_or(Reject::UnknownKey)?;
    if !key.verify(&[signed], digest) {
        return Err(Reject::BadDigest);
    }
    signed
        .get(START.len()..signed_length - END.len())
        .ok_or(Reject::BadFraming)
}

fn parse_fields(mut body: &[u8]) -> Result<Message, Reject> {
    let mut message = Message::new();
    while !body.is_empty() {
        let (content, rest) = split_netstring(body).ok_or(Reject::BadFraming)?;
        let field = parse_field(content).ok_or(Reject::BadFraming)?;
        if !message.push(field) {
            return Err(Reject::BadFraming);
        }
        body = rest;
    }
    Ok(message)
}

fn parse_field(content: &[u8]) -> Option<Field> {
    let [b'(', digit, b')', rest @ ..] = content else {
        return None;
    };
    let equals = rest
        .iter()
        .position(|&byte| byte == b'=')
        .filter(|&at| at > 0)?;
    Some(Field {
        kind: Kind::from_digit(*digit)?,
        name: rest.get(..equals)?.to_vec(),
        value: rest.get(equals + 1..)?.to_vec(),
    })
}

/// Splits `LENGTH:CONTENT,REST` into content and rest; the length is canonical decimal.
fn split_netstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().take(8).position(|&byte| byte == b':')?;
    let (digits, rest) = (bytes.get(..colon)?, bytes.get(colon + 1..)?);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    let length = digits.iter().try_fold(0_usize, |length, digit| {
        digit
            .is_ascii_digit()
            .then(|| length * 10 + usize::from(digit - b'0'))
    })?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((content, rest.strip_prefix(b",")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::parse("auth 2\n2 sha256 secret\n3 crc\n").unwrap()
    }

    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut packet = [START, body, END].concat();
        let signature = keys().key(2).unwrap().sign(&[&packet]);
        packet.extend(format!("{}:{signature},", signature.len()).bytes());
        packet
    }

    #[test]
    fn values_may_hold_any_bytes_even_the_marks() {
        let mut message = Message::new();
        message.push_text("a", "%%%\n5:1 abc,");
        message.push_text("b", "###\n\0,");
        message.push_text("c", "x=y");
        message.push_text("d", "");
        let packet = seal(&message, keys().sending_key());
        assert_eq!(open(&packet, &keys()), Ok(message));
    }

    #[test]
    fn types_that_are_not_understood_are_kept() {
        let packet = sealed(b"10:(2)a=b\n()=,6:(9)x=y,");
        let message = open(&packet, &keys()).unwrap();
        assert_eq!(message.fields()[0].kind, Kind::Other(b'2'));
        assert_eq!(seal(&message, keys().key(2)), packet);
    }

    #[test]
    fn authentic_but_malformed_bodies_are_rejected() {
        for body in [
            "6:(0)a=b",
            "5:(0)a=b,",
            "7:(0)a=b,",
            "06:(0)a=b,",
            "+6:(0)a=b,",
            ":(0)a=b,",
            "6(0)a=b,",
            "5:(0)ab,",
            "5:(0)=b,",
            "6:(x)a=b,",
            "3:a=b,",
            "0:,",
            ",",
            "99999999:(0)a=b,",
            "6:(0)a=b,,",
        ] {
            assert_eq!(
                open(&sealed(body.as_bytes()), &keys()),
                Err(Reject::BadFraming),
                "{body}"
            );
        }
        let many = "6:(0)a=b,".repeat(super::super::FIELDS_MAX);
        assert!(open(&sealed(many.as_bytes()), &keys()).is_ok());
        let too_many = format!("{many}6:(0)a=b,");
        assert_eq!(
            open(&sealed(too_many.as_bytes()), &keys()),
            Err(Reject::BadFraming)
        );
    }

    #[test]
    fn each_fault_of_the_frame_has_its_reason() {
        let good = sealed(b"6:(0)a=b,");
        let mut message = Message::new();
        message.push_text("a", "b");
        assert_eq!(open(&good, &keys()), Ok(message.clone()));
        assert_eq!(open(b"", &keys()), Err(Reject::BadFraming));
        assert_eq!(open(b"###\n", &keys()), Err(Reject::BadFraming));
        assert_eq!(
            open(&seal(&message, None), &keys()),
            Err(Reject::NoAuthentication)
        );
        assert_eq!(
            open(&[&good[..], b"\0"].concat(), &keys()),
            Err(Reject::BadFraming)
        );
        assert_eq!(open(&good, &Keys::none()), Err(Reject::UnknownKey));
        let other = Keys::parse("auth 2\n2 sha256 Secret\n").unwrap();
        assert_eq!(open(&good, &other), Err(Reject::BadDigest));
        let padded = [START, &vec![b'x'; PACKET_RECEIVED_MAX]].concat();
        assert_eq!(open(&padded, &keys()), Err(Reject::TooLong));
    }

    #[test]
    fn an_empty_message_is_a_message() {
        let packet = seal(&Message::new(), keys().sending_key());
        assert_eq!(open(&packet, &keys()), Ok(Message::new()));
    }
}
