//! What the fuzz targets do with their bytes; the replay of stored inputs in the tests runs the same.

use ha_node::wire::body::with_its_digest;
use ha_node::wire::brief::{Exchange, Taken};
use ha_node::wire::codec::{Heartbeat, Received, SenderFacts, decode, encode};
use ha_node::wire::keys::Keys;
use ha_node::wire::{FIELDS_MAX, classic, netstring};

/// Decodes the bytes as a packet, and as the body of a packet in either framing with a right digest.
///
/// Returns how many of the three were accepted.
pub(crate) fn wire_decode(bytes: &[u8]) -> usize {
    let keys =
        Keys::parse("auth 1\n1 crc\n2 sha1 LabSecret1\n3 sha512 secret\n").expect("a key file");
    let framed = [b"###\n", bytes, b"%%%\n"].concat();
    let signature = format!("1 {:x}", crc(&framed));
    let suffix = format!("{}:{signature},", signature.len());
    let netstrings = [&framed, suffix.as_bytes()].concat();
    let auth = format!("auth=1 {:x}\n<<<\n", crc(bytes));
    let lines = [b">>>\n", bytes, auth.as_bytes()].concat();
    if let Ok(message) = netstring::open(&netstrings, &keys) {
        // What a fuzzer changes in the body would stop at its digest.
        let message = with_its_digest(&message);
        check_packet(&netstring::seal(&message, keys.sending_key()), &keys);
    }
    let packets = [bytes, &netstrings, &lines];
    packets
        .into_iter()
        .filter(|packet| check_packet(packet, &keys))
        .count()
}

/// Parses the bytes as a key file; an error must point into the text.
pub(crate) fn authkeys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Keys::parse(text) {
        Ok(keys) => {
            let method = keys
                .send_method()
                .expect("a key file names its sending key");
            assert!(
                keys.iter()
                    .any(|key| key.method() == method && key.number() <= 15)
            );
        }
        Err(error) => {
            let line = text.lines().nth(error.line - 1).unwrap_or_default();
            assert!(error.line <= text.lines().count().max(1), "{error}");
            assert!(
                (1..=line.chars().count() + 1).contains(&error.column),
                "{error}"
            );
        }
    }
}

/// Whatever is accepted must encode to something that means the same.
fn check_packet(packet: &[u8], keys: &Keys) -> bool {
    let facts = SenderFacts {
        timestamp_unix_secs: 1,
        loadavg: "",
        ttl: 2,
    };
    let decoded = decode(packet, keys);
    let accepted = decoded.is_ok();
    match decoded {
        Ok(Received::Heartbeat(heartbeat)) => check_heartbeat(heartbeat, keys, &facts),
        Ok(Received::Foreign(message)) => {
            let sealed = netstring::seal(&message, keys.sending_key());
            assert_eq!(netstring::open(&sealed, keys).as_ref(), Ok(&message));
            let mut signed = message;
            signed.sign(keys.sending_key().expect("the file has one"));
            let fits = signed.fields().len() <= FIELDS_MAX;
            if let Some(lines) = classic::encode(&signed).ok().filter(|_| fits) {
                assert_eq!(classic::open(&lines, keys), Ok(signed));
            }
        }
        Err(_) => {}
    }
    accepted
}

/// A whole heartbeat means the same when it is said again, and when it is said briefly to whoever has heard it.
fn check_heartbeat(heartbeat: Heartbeat, keys: &Keys, facts: &SenderFacts<'_>) {
    let (mut sender, mut receiver) = (Exchange::default(), Exchange::default());
    let status = heartbeat.status.clone();
    let brief = heartbeat.brief;
    let taken = receiver.take(heartbeat);
    if brief {
        assert_eq!(taken, Taken::Brief(status));
        return;
    }
    assert_eq!(taken, Taken::Whole(status.clone()));
    // Of one number the first is kept, and that may have been in another order.
    receiver = Exchange::default();
    let packets = std::iter::once(encode(&status, keys, facts));
    let said = (0..3).map(|_| sender.encode(&status, keys, facts));
    for packet in packets.chain(said) {
        let Ok(Received::Heartbeat(again)) = decode(&packet, keys) else {
            panic!("not accepted again: {}", packet.escape_ascii());
        };
        assert_eq!(receiver.take(again), Taken::Whole(status.clone()));
    }
}

/// Heartbeat's CRC once more, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    };
    !bytes.iter().fold(0, step)
}
