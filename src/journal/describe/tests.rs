//! Every event's text and fields, against what was released.

use super::*;
use crate::core::event::Section;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn group() -> GroupName {
    GroupName::new("web").unwrap()
}

/// One of each variant; two where the kind depends on the content.
fn all_events() -> Vec<Event> {
    let (peer, group, generation) = (name("beta"), group(), Generation(7));
    let (interval, link) = (Duration::from_millis(1234), LinkId(0));
    let term = Term {
        number: 3,
        leader: name("beta"),
        generation,
    };
    let failed = |reason: &str| (group.clone(), "vip:10.0.0.1".to_owned(), reason.to_owned());
    let (failed_group, resource, reason) = failed("timed out");
    vec![
        Event::Starting { generation },
        Event::LocalStatus { phase: Phase::Up },
        Event::SharedDataNotProtected,
        Event::LinkUp {
            peer: peer.clone(),
            link,
        },
        Event::LinkDead {
            peer: peer.clone(),
            link,
        },
        Event::PeerStatus {
            peer: peer.clone(),
            phase: Phase::Active,
        },
        Event::LateHeartbeat {
            peer: peer.clone(),
            interval,
            beyond_deadtime: false,
        },
        Event::LateHeartbeat {
            peer: peer.clone(),
            interval,
            beyond_deadtime: true,
        },
        Event::PeerDead {
            peer: peer.clone(),
            generation: None,
        },
        Event::PeerRestarted {
            peer: peer.clone(),
            generation,
        },
        Event::PeerReturnedAfterPartition {
            peer: peer.clone(),
            generation,
            silence: interval,
        },
        Event::PeerLeft { peer: peer.clone() },
        Event::NotHeardBy { peer: peer.clone() },
        Event::ConfigDiffers {
            peer: peer.clone(),
            sections: [Section::Timing, Section::Groups].into(),
            apart: false,
        },
        Event::ConfigDiffers {
            peer: peer.clone(),
            sections: [Section::Nodes].into(),
            apart: true,
        },
        Event::ConfigDiffers {
            peer: peer.clone(),
            sections: [].into(),
            apart: false,
        },
        Event::ClockStoodStill { peer: peer.clone() },
        Event::PeerGivenUp { peer: peer.clone() },
        Event::GenerationStale {
            peer: peer.clone(),
            remembered: generation,
        },
        Event::Leader { term: Some(term) },
        Event::Leader { term: None },
        Event::QuorumGained,
        Event::QuorumLost,
        Event::LeaseLost,
        Event::StoodStill { pause: interval },
        Event::TakingOver {
            peer: peer.clone(),
            group: group.clone(),
        },
        Event::PeerReturning { peer: peer.clone() },
        Event::RestartStarted,
        Event::GroupAdopted {
            group: group.clone(),
        },
        Event::GroupStarting {
            group: group.clone(),
        },
        Event::GroupStarted {
            group: group.clone(),
            duration: interval,
        },
        Event::GroupStopping {
            group: group.clone(),
        },
        Event::GroupStopped {
            group: group.clone(),
            duration: interval,
        },
        Event::GroupFailed {
            group: failed_group.clone(),
            resource: resource.clone(),
            reason: reason.clone(),
        },
        Event::ResourceRestarting {
            group: group.clone(),
            resource: resource.clone(),
            reason: reason.clone(),
            attempt: 1,
            limit: 3,
        },
        Event::ResourceFailureIgnored {
            group: group.clone(),
            resource: resource.clone(),
            reason: reason.clone(),
        },
        Event::ResourceAppeared {
            group: group.clone(),
            resource: resource.clone(),
        },
        Event::GroupGivenUp {
            group: group.clone(),
        },
        Event::FailuresExpired {
            group: group.clone(),
        },
        Event::ResourceNoted {
            group: group.clone(),
            resource: resource.clone(),
            text: "it was removed by somebody else, put back".to_owned(),
        },
        Event::GroupBlocked {
            group: failed_group,
            resource,
            reason,
        },
        Event::GroupHasNoNode {
            group: group.clone(),
        },
        Event::DoubleOwner {
            group: group.clone(),
            kept_by: name("alpha"),
            stopped_on: peer.clone(),
        },
        Event::GroupPlanned {
            group: group.clone(),
            owner: Some(peer.clone()),
            reason: "preferred",
        },
        Event::StandbyEntered {
            node: name("alpha"),
        },
        Event::StandbyLeft { node: peer.clone() },
        Event::MoveRequested { group, node: peer },
        Event::ShutdownStarted,
        Event::ShutdownComplete,
    ]
}

fn record_of(event: &Event) -> Record {
    let (cluster, node) = (ClusterName::new("prod").unwrap(), name("alpha"));
    let links = ["eth1".to_owned()];
    describe(
        event,
        &Context {
            cluster: &cluster,
            node: &node,
            links: &links,
            realtime_usec: 42,
        },
    )
}

#[test]
fn the_table_and_the_texts_are_as_released() {
    let mut list = String::new();
    for event in all_events() {
        let record = record_of(&event);
        let fields: Vec<_> = (record.fields.iter().skip(4))
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let line = format!(
            "{} {} {} | {}",
            record.level.priority(),
            record.id,
            record.text,
            fields.join(" ")
        );
        list.push_str(line.trim_end());
        list.push('\n');
    }
    let stored = include_str!("texts.txt");
    assert!(
        list == stored,
        "texts.txt differs; it should now be:\n{list}"
    );
}

#[test]
fn every_line_of_the_table_has_its_event() {
    let mut used: Vec<_> = all_events()
        .iter()
        .map(|event| record_of(event).id)
        .collect();
    used.push(describe_lost(1, &[], 0).id);
    for kind in table::TABLE {
        assert!(used.contains(&kind.id), "no event makes {}", kind.id);
    }
}

#[test]
fn the_common_fields_come_first_and_follow_the_table() {
    for event in all_events() {
        let record = record_of(&event);
        let kind = table::TABLE
            .iter()
            .find(|kind| kind.id == record.id)
            .unwrap();
        assert_eq!(record.level, kind.level);
        let common = [
            ("MESSAGE_ID", kind.message_id.to_owned()),
            ("HA_EVENT", kind.id.to_owned()),
            ("HA_CLUSTER", "prod".to_owned()),
            ("HA_NODE", "alpha".to_owned()),
        ];
        assert_eq!(record.fields[..4], common);
        assert_eq!(record.usec, 42);
    }
}

#[test]
fn foreign_text_stays_on_one_line_of_bounded_length() {
    let reason = format!("first\nMESSAGE=faked{}", "é".repeat(2000));
    let record = record_of(&Event::GroupFailed {
        group: group(),
        resource: "r".to_owned(),
        reason,
    });
    assert!(!record.text.contains('\n'));
    assert!(record.text.len() <= TEXT_LENGTH_MAX + '…'.len_utf8());
    assert!(record.text.ends_with("é…"));
}

#[test]
fn a_link_without_a_label_still_has_a_name() {
    let record = record_of(&Event::LinkUp {
        peer: name("beta"),
        link: LinkId(9),
    });
    assert_eq!(record.text, "Link beta:link 9 up.");
}
