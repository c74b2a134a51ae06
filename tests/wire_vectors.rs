//! Packets captured from real Heartbeat 3.0.6 nodes decode, verify and encode back byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ha_node::wire::codec::{Received, decode};
use ha_node::wire::keys::Keys;
use ha_node::wire::message::Message;
use ha_node::wire::{Reject, classic, netstring};
use std::path::{Path, PathBuf};

/// One line of the index.
struct Vector {
    file: String,
    packet: Vec<u8>,
    digest: String,
    key: String,
    number: u8,
    sender: String,
    kind: String,
    sequence: Option<String>,
}

impl Vector {
    fn keys_with(&self, secret: &str) -> Keys {
        let secret = if self.digest == "crc" { "" } else { secret };
        let Self { digest, number, .. } = self;
        Keys::parse(&format!("auth {number}\n{number} {digest} {secret}\n")).unwrap()
    }

    fn keys(&self) -> Keys {
        self.keys_with(&self.key)
    }

    fn message(&self) -> Message {
        match decode(&self.packet, &self.keys()) {
            Ok(Received::Foreign(message)) => message,
            other => panic!("{}: {other:?}", self.file),
        }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn vectors() -> Vec<Vector> {
    let index = std::fs::read_to_string(directory().join("index.tsv")).unwrap();
    let vectors: Vec<Vector> = index.lines().skip(1).map(parse_line).collect();
    let files = std::fs::read_dir(directory()).unwrap().count();
    assert_eq!(
        vectors.len() + 1,
        files,
        "each packet has its line in the index"
    );
    vectors
}

fn parse_line(line: &str) -> Vector {
    let columns: Vec<&str> = line.split('\t').collect();
    let [file, digest, key, number, sender, kind, sequence, _note] = columns[..] else {
        panic!("{line:?} has not the columns of the index");
    };
    Vector {
        file: file.to_owned(),
        packet: std::fs::read(directory().join(file)).unwrap(),
        digest: digest.to_owned(),
        key: key.to_owned(),
        number: number.parse().unwrap(),
        sender: sender.to_owned(),
        kind: kind.to_owned(),
        sequence: Some(sequence.to_owned()).filter(|sequence| sequence != "-"),
    }
}

#[test]
fn each_decodes_to_what_the_index_says() {
    for vector in vectors() {
        let message = vector.message();
        assert_eq!(message.text("t"), Some(&*vector.kind), "{}", vector.file);
        assert_eq!(
            message.text("src"),
            Some(&*vector.sender),
            "{}",
            vector.file
        );
        assert_eq!(
            message.text("seq"),
            vector.sequence.as_deref(),
            "{}",
            vector.file
        );
    }
}

#[test]
fn each_encodes_back_byte_for_byte_with_both_digests_made_anew() {
    let mut with_inner_digest = 0;
    for vector in vectors() {
        let keys = vector.keys();
        let key = keys.sending_key().unwrap();
        let decoded = vector.message();
        let mut message = decoded.clone();
        message.remove("auth");
        if message != decoded {
            with_inner_digest += 1;
            message.sign(key);
        }
        let packet = netstring::seal(&message, Some(key));
        assert_eq!(
            packet.escape_ascii().to_string(),
            vector.packet.escape_ascii().to_string()
        );
    }
    assert!(
        with_inner_digest > 80,
        "only {with_inner_digest} vectors have an inner digest"
    );
}

#[test]
fn each_survives_the_classic_form() {
    for vector in vectors() {
        let keys = vector.keys();
        let key = keys.sending_key().unwrap();
        let original = vector.message();
        let mut message = original.clone();
        message.sign(key);
        let lines = classic::encode(&message).unwrap();
        assert!(lines.starts_with(b">>>\n"), "{}", vector.file);
        assert_eq!(
            decode(&lines, &keys),
            Ok(Received::Foreign(message.clone()))
        );
        if original.field("auth").is_some() {
            assert_eq!(
                netstring::seal(&message, Some(key)),
                vector.packet,
                "{}",
                vector.file
            );
        }
    }
}

#[test]
fn each_is_rejected_under_another_key_another_number_and_without_keys() {
    for vector in vectors() {
        let other_key = decode(&vector.packet, &vector.keys_with("another"));
        match vector.digest.as_str() {
            "crc" => assert!(other_key.is_ok()),
            _ => assert_eq!(other_key, Err(Reject::BadDigest), "{}", vector.file),
        }
        let other_number = Keys::parse("auth 14\n14 crc\n").unwrap();
        assert_eq!(
            decode(&vector.packet, &other_number),
            Err(Reject::UnknownKey)
        );
        assert_eq!(
            decode(&vector.packet, &Keys::none()),
            Err(Reject::UnknownKey)
        );
    }
}

#[test]
fn several_keys_are_valid_at_once() {
    let vectors = vectors();
    let find = |name: &str| vectors.iter().find(|vector| vector.file == name).unwrap();
    let first = find("sha1-status-active-hb2-0014.msg");
    let third = find("key3-status-active-hb5-0270.msg");
    let text = format!(
        "auth 2\n1 sha1 {}\n2 sha512 new\n3 sha1 {}\n",
        first.key, third.key
    );
    let keys = Keys::parse(&text).unwrap();
    for vector in [first, third] {
        assert!(decode(&vector.packet, &keys).is_ok(), "{}", vector.file);
    }
}
