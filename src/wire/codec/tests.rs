//! Heartbeats as packets, field by field, and what a wrong field leads to.

use super::super::status::{Heard, Phase, Profile};
use super::super::{GROUPS_MAX, NODES_MAX};
use super::*;
use crate::ids::GroupName;

const FACTS: SenderFacts<'static> = SenderFacts {
    timestamp_unix_secs: 0x6b02_5b6a,
    loadavg: "0.73 0.33 0.15 2/113 106\nrest",
    ttl: 3,
};

fn keys() -> Keys {
    Keys::parse("auth 1\n1 sha1 LabSecret1\n").unwrap()
}

fn status() -> Status {
    Status {
        cluster: ClusterName::new("example").unwrap(),
        node: NodeName::new("alpha").unwrap(),
        generation: Generation(0x6b02_5b66),
        sequence: Sequence(14),
        phase: Phase::Active,
        deadtime: Duration::from_secs(6),
        heard: [].into(),
        asks: [].into(),
        term: None,
        floor: None,
        electable: true,
        reach: 1,
        led: true,
        returning: false,
        voting: true,
        report: Report::default(),
        plan: None,
        request: None,
        config_hash: 0x00c0_ffee,
        profile: Profile::default(),
    }
}

/// The message that a status is sent as.
fn sent(status: &Status) -> Message {
    netstring::open(&encode(status, &keys(), &FACTS), &keys()).unwrap()
}

/// The status' message with one field changed, or left out.
fn decode_with(name: &str, value: Option<&str>) -> Result<Received, Reject> {
    decode_message(&with(name, value))
}

/// The status' message with one field changed, or left out; a new one stands at the end of the body.
fn with(name: &str, value: Option<&str>) -> Message {
    let original = sent(&status());
    let added = match original.field(name) {
        Some(_) => None,
        None => value.map(|value| (name, value)),
    };
    let mut changed = Message::new();
    for field in original.fields() {
        let text = std::str::from_utf8(&field.name).unwrap();
        if let Some((name, value)) = added.filter(|_| text == "src") {
            changed.push_text(name, value);
        }
        match value {
            Some(value) if text == name => changed.push_text(name, value),
            None if text == name => {}
            Some(_) | None => assert!(changed.push(field.clone())),
        }
    }
    match name {
        "ha_state" => changed,
        _ => body::with_its_digest(&changed),
    }
}

fn decode_message(message: &Message) -> Result<Received, Reject> {
    decode(&netstring::seal(message, keys().sending_key()), &keys())
}

fn whole(received: Result<Received, Reject>) -> Status {
    match received {
        Ok(Received::Heartbeat(heartbeat)) if !heartbeat.brief => *heartbeat.status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_heartbeat_reads_like_heartbeats_with_our_fields_before_the_common_ones() {
    let message = sent(&status());
    let text: Vec<String> = message
        .fields()
        .iter()
        .map(|f| format!("{}={}", f.name.escape_ascii(), f.value.escape_ascii()))
        .collect();
    let (auth, fields) = text.split_last().unwrap();
    let expected = "t=status|st=active|dt=1770|ha_v=2|ha_cluster=example|ha_config=c0ffee|\
         ha_flags=voting electable|ha_reach=1:l|ha_report=0|ha_state=a4641c495f4364a4|ha_profile=m:0:0:0|\
         src=alpha|seq=e|hg=6b025b66|ts=6b025b6a|ld=0.73 0.33 0.15 2/113 106|ttl=3";
    assert_eq!(fields.join("|"), expected);
    assert!(auth.starts_with("auth=1 "), "{auth}");
}

#[test]
fn the_deadtime_is_rounded_down() {
    let mut status = status();
    status.deadtime = Duration::from_nanos(2_000_999_999);
    assert_eq!(sent(&status).text("dt"), Some("7d0"));
    status.deadtime = Duration::MAX;
    assert_eq!(sent(&status).text("dt"), Some("ffffffffffffffff"));
}

#[test]
fn a_missing_or_bad_field_has_its_reason() {
    for name in [
        "t",
        "src",
        "ts",
        "seq",
        "st",
        "dt",
        "hg",
        "ha_cluster",
        "ha_config",
        "ha_report",
        "ha_state",
    ] {
        assert_eq!(decode_with(name, None), Err(Reject::MissingField), "{name}");
    }
    let bad = [
        ("ts", "0"),
        ("ts", "x"),
        ("seq", ""),
        ("src", "a b"),
        ("st", "ping"),
        ("dt", "-1"),
        ("hg", "10000000000000000"),
        ("ha_cluster", ""),
        ("ha_flags", "voting voting"),
        ("ha_flags", "flying"),
        ("ha_term", "1:alpha"),
        ("ha_heard", "beta:1:1:q"),
        ("ha_groups", "web:r:100000000"),
        ("ha_groups", "web:z"),
        ("ha_ask", "beta beta"),
        ("ha_state", "e3b0c44298fc1c15"),
        ("ha_state", "e3b0c44298fc1c14:x"),
        ("ha_blocked", "beta"),
        ("ha_plan", ""),
        ("ha_request", "1:dance:web:beta"),
        ("ha_request", "1:move:web:beta:x"),
    ];
    for (name, value) in bad {
        assert_eq!(
            decode_with(name, Some(value)),
            Err(Reject::BadField),
            "{name}={value}"
        );
    }
    assert_eq!(decode_with("ha_v", Some("1")), Err(Reject::UnknownVersion));
    assert_eq!(whole(decode_with("ha_later", Some("anything"))), status());
}

#[test]
fn the_digest_covers_all_that_it_stands_for_and_nothing_of_it_stands_elsewhere() {
    let other = with("ha_groups", Some("web:r"));
    let mut under_the_old_digest = Message::new();
    let mut outside = Message::new();
    outside.push_text("ha_groups", "web:r");
    for field in other.fields() {
        if field.name == b"ha_state" {
            under_the_old_digest.push_text("ha_state", "e3b0c44298fc1c14");
        } else {
            under_the_old_digest.push(field.clone());
        }
    }
    for field in sent(&status()).fields() {
        outside.push(field.clone());
    }
    let groups = whole(decode_message(&other)).report.groups;
    assert_eq!(groups.len(), 1);
    for bad in [under_the_old_digest, outside] {
        assert_eq!(decode_message(&bad), Err(Reject::BadField));
    }
}

#[test]
fn a_brief_heartbeat_has_a_digest_and_nothing_that_it_stands_for() {
    let mut full = status();
    let group = GroupName::new("web").unwrap();
    full.report.groups.insert(group, Default::default());
    let digest = Encoded::of(&full).digest;
    let packet = encode_brief(&full, digest, &keys(), &FACTS);
    let head = Heartbeat {
        status: Box::new(status()),
        state: digest,
        brief: true,
    };
    assert_eq!(decode(&packet, &keys()), Ok(Received::Heartbeat(head)));
    let message = netstring::open(&packet, &keys()).unwrap();
    let mut both = Message::new();
    for field in message.fields() {
        if field.name == b"src" {
            both.push_text("ha_groups", "web:r");
        }
        both.push(field.clone());
    }
    assert_eq!(decode_message(&both), Err(Reject::BadField));
}

#[test]
fn other_authentic_messages_are_foreign() {
    for (name, value) in [("ha_v", None), ("t", Some("starting"))] {
        assert!(
            matches!(decode_with(name, value), Ok(Received::Foreign(_))),
            "{name}"
        );
    }
}

#[test]
fn as_many_nodes_and_groups_as_allowed_and_no_more() {
    let mut full = status();
    let heard = Heard {
        generation: Generation(1),
        sequence: Sequence(1),
        promise: true,
    };
    for number in 0..NODES_MAX {
        full.heard
            .insert(NodeName::new(&format!("n{number}")).unwrap(), heard);
    }
    for number in 0..GROUPS_MAX {
        let group = GroupName::new(&format!("g{number}")).unwrap();
        full.report.groups.insert(group, Default::default());
    }
    let packet = encode(&full, &keys(), &FACTS);
    assert!(
        packet.len() < super::super::PACKET_SENT_MAX,
        "{}",
        packet.len()
    );
    assert_eq!(whole(decode(&packet, &keys())), full);
    let mut nodes = full.clone();
    nodes.heard.insert(NodeName::new("more").unwrap(), heard);
    let mut groups = full;
    groups
        .report
        .groups
        .insert(GroupName::new("more").unwrap(), Default::default());
    for more in [nodes, groups] {
        let packet = encode(&more, &keys(), &FACTS);
        assert_eq!(decode(&packet, &keys()), Err(Reject::BadField));
    }
}

#[test]
fn without_keys_nothing_is_signed_and_nothing_accepted() {
    let unsigned = encode(&status(), &Keys::none(), &FACTS);
    assert!(unsigned.ends_with(b"%%%\n"));
    assert_eq!(decode(&unsigned, &keys()), Err(Reject::NoAuthentication));
    let signed = encode(&status(), &keys(), &FACTS);
    assert_eq!(decode(&signed, &Keys::none()), Err(Reject::UnknownKey));
}

#[test]
fn odd_facts_do_no_harm() {
    let facts = SenderFacts {
        timestamp_unix_secs: 0,
        loadavg: &"é\u{7}x".repeat(100),
        ttl: 0,
    };
    let packet = encode(&status(), &keys(), &facts);
    assert_eq!(whole(decode(&packet, &keys())), status());
    let message = netstring::open(&packet, &keys()).unwrap();
    assert_eq!(message.text("ld").map(str::len), Some(LOADAVG_LENGTH_MAX));
}
