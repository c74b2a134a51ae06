//! What holds for all statuses and all bytes: round trips, and no damaged packet gets through.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod wire_support;

use ha_node::wire::body::with_its_digest;
use ha_node::wire::codec::{Received, SenderFacts, decode, encode};
use ha_node::wire::keys::Keys;
use ha_node::wire::size::packet_length_max;
use ha_node::wire::status::Status;
use ha_node::wire::{PACKET_SENT_MAX, Reject, classic, netstring};
use proptest::prelude::*;
use wire_support::status;

const METHODS: [&str; 5] = [
    "crc",
    "md5 secret",
    "sha1 secret",
    "sha256 secret",
    "sha512 secret",
];

const FACTS: SenderFacts<'static> = SenderFacts {
    timestamp_unix_secs: 1_790_000_000,
    loadavg: "0.70 0.32 0.15 3/120 72",
    ttl: 3,
};

fn keys(method: &str) -> Keys {
    Keys::parse(&format!("auth 1\n1 {method}\n")).unwrap()
}

/// The packet in the classic form.
fn classic_form(packet: &[u8], keys: &Keys) -> Vec<u8> {
    classic::encode(&netstring::open(packet, keys).unwrap()).unwrap()
}

/// What a receiver makes of a whole heartbeat.
fn read(packet: &[u8], keys: &Keys) -> Result<Status, Reject> {
    let received = decode(packet, keys)?;
    let Received::Heartbeat(heartbeat) = received else {
        panic!("{received:?}");
    };
    assert!(!heartbeat.brief);
    Ok(*heartbeat.status)
}

proptest! {
    #[test]
    fn decoding_inverts_encoding_in_both_framings(status in status(), method in 0..METHODS.len()) {
        let keys = keys(METHODS[method]);
        let packet = encode(&status, &keys, &FACTS);
        prop_assert!(packet.len() < PACKET_SENT_MAX);
        prop_assert_eq!(read(&packet, &keys), Ok(status.clone()));
        prop_assert_eq!(read(&classic_form(&packet, &keys), &keys), Ok(status));
    }

    #[test]
    fn a_flipped_bit_is_rejected(
        status in status(),
        method in 0..METHODS.len(),
        lines in any::<bool>(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let keys = keys(METHODS[method]);
        let mut packet = encode(&status, &keys, &FACTS);
        if lines {
            packet = classic_form(&packet, &keys);
        }
        let at = at.index(packet.len());
        packet[at] ^= 1_u8 << bit;
        prop_assert!(decode(&packet, &keys).is_err());
    }

    #[test]
    fn a_truncated_packet_is_rejected(
        status in status(),
        method in 0..METHODS.len(),
        lines in any::<bool>(),
        at in any::<prop::sample::Index>(),
    ) {
        let keys = keys(METHODS[method]);
        let mut packet = encode(&status, &keys, &FACTS);
        if lines {
            packet = classic_form(&packet, &keys);
        }
        packet.truncate(at.index(packet.len()));
        prop_assert!(decode(&packet, &keys).is_err());
    }

    #[test]
    fn random_bytes_are_rejected(
        start in prop::sample::select(vec!["", "###\n", ">>>\n", "###\n6:(0)a=b,%%%\n"]),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let packet = [start.as_bytes(), &bytes].concat();
        prop_assert!(decode(&packet, &keys("sha1 secret")).is_err());
    }

    /// Signed garbage: what a member that went mad, or a stolen key, could send.
    #[test]
    fn authentic_but_changed_fields_never_panic(
        status in status(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let keys = keys("sha256 secret");
        let packet = encode(&status, &keys, &FACTS);
        let original = netstring::open(&packet, &keys).unwrap();
        let mut message = ha_node::wire::message::Message::new();
        let mut fields: Vec<(String, Vec<u8>)> = original
            .fields()
            .iter()
            .map(|field| (String::from_utf8(field.name.clone()).unwrap(), field.value.clone()))
            .collect();
        for (field, at, byte) in changes {
            let value = &mut field.get_mut(&mut fields).1;
            if !value.is_empty() {
                let at = at.index(value.len());
                value[at] = byte;
            }
        }
        for (name, value) in fields {
            message.push_text(&name, String::from_utf8_lossy(&value).into_owned());
        }
        for message in [with_its_digest(&message), message] {
            let packet = netstring::seal(&message, keys.sending_key());
            if let Ok(Received::Heartbeat(changed)) = decode(&packet, &keys) {
                let again = encode(&changed.status, &keys, &FACTS);
                prop_assert_eq!(read(&again, &keys), Ok(*changed.status));
            }
        }
    }
}

#[test]
fn no_packet_is_longer_than_foretold() {
    let status = wire_support::example();
    let nodes = ["alpha", "beta", "gamma"].map(|name| name.parse().unwrap());
    let groups = ["web", "mail"].map(|name| name.parse().unwrap());
    let foretold = packet_length_max(&status.cluster, &nodes, &groups).unwrap();
    let length = encode(&status, &keys("sha512 secret"), &FACTS).len();
    assert!(
        length <= foretold && foretold < 4 * length,
        "{length}, {foretold}"
    );
}

#[test]
fn every_bit_and_every_length_of_a_packet_counts() {
    let mut status = wire_support::example();
    (status.plan, status.request) = (None, None);
    for method in METHODS {
        let keys = keys(method);
        let packet = encode(&status, &keys, &FACTS);
        for whole in [classic_form(&packet, &keys), packet] {
            assert_eq!(read(&whole, &keys).as_ref(), Ok(&status));
            for length in 0..whole.len() {
                assert!(
                    decode(&whole[..length], &keys).is_err(),
                    "{method}, {length} bytes"
                );
            }
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&flipped, &keys).is_err(), "{method}, bit {bit}");
            }
        }
    }
}
