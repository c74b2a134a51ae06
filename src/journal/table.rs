//! The table of all events: identifier, `MESSAGE_ID`, level.
//!
//! Only additions: filters, alerts and the journal catalog (`systemd/ha-node.catalog`) rely on each line.

use crate::journal::Level;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What people call it: `HA_EVENT`, and the `id` of the bus signal.
    pub id: &'static str,
    /// Its `MESSAGE_ID`: 128 random bits in hexadecimal.
    pub message_id: &'static str,
    /// How grave it is.
    pub level: Level,
}

macro_rules! table {
    ($($name:ident = $id:literal, $message_id:literal, $level:ident;)*) => {
        $(pub(crate) const $name: Kind =
            Kind { id: $id, message_id: $message_id, level: Level::$level };)*

        /// Every event that there is.
        pub const TABLE: &[Kind] = &[$($name),*];
    };
}

table! {
    STARTING = "starting", "a728fd96e46a481fb5b3378ae4983d78", Info;
    LOCAL_STATUS = "local-status", "c4ed746cf82a49bf9ffbc18f10a63fe6", Info;
    SHARED_DATA_NOT_PROTECTED = "shared-data-not-protected", "64c614af1159478a858e2abab0ad52fe", Warning;
    LINK_UP = "link-up", "9b86fa39d598456fa385fff680cf217c", Info;
    LINK_DEAD = "link-dead", "fd6346e15fc140faa1c7b7f670185ebb", Warning;
    NODE_STATUS = "node-status", "80c5ef4416704bd381d6dd82641c435b", Info;
    LATE_HEARTBEAT = "late-heartbeat", "3c76642f4c004fa583f4e797917e2d5c", Warning;
    LATE_HEARTBEAT_BEYOND_DEADTIME = "late-heartbeat-beyond-deadtime", "afa48e3df345400d963e1d15739e2b5d", Critical;
    NODE_DEAD = "node-dead", "3ff21dfd88d0429a92279de70498ebc2", Warning;
    NODE_RESTARTED = "node-restarted", "0125a499098146c0addeb9e0fb758f81", Info;
    NODE_RETURNED_AFTER_PARTITION = "node-returned-after-partition", "5fe54153a99945b99502b7d6c8a46b2d", Critical;
    NODE_LEFT = "node-left", "1b6766cb321741f4ba7ac5e9aae4e93f", Info;
    NOT_HEARD = "not-heard", "2dfd0cb8071545fba3ecdcd5e7fbb3d4", Error;
    CONFIG_DIFFERS = "config-differs", "76a4d03290604dd48c47d13f62b5a231", Error;
    CONFIG_AGREES = "config-agrees", "b24f81c4c325475bbd58abb17cbd655f", Info;
    CLOCK_STOOD_STILL = "clock-stood-still", "fc9176c0eed2427da95cbd607456522a", Critical;
    NODE_GIVEN_UP = "node-given-up", "970d94378813441da611bd2a1139205e", Warning;
    GENERATION_STALE = "generation-stale", "4a368282609a40eb9a9d73d77ca15ed6", Error;
    LEADER_ELECTED = "leader-elected", "e2c3ac0dab734fd4b036d3b52c35d5ca", Info;
    LEADER_LOST = "leader-lost", "833d9e3fe9b7461ca634f226dbad3846", Warning;
    QUORUM_GAINED = "quorum-gained", "ff7786822b4445108896ce2263474739", Notice;
    QUORUM_LOST = "quorum-lost", "ec43ab75938342e2b891de6ccc32e44a", Error;
    LEASE_LOST = "lease-lost", "48b23f16182a4f85a94cc6d2f4ed9bbb", Critical;
    STOOD_STILL = "stood-still", "a484d6120107424f88ff1bda5d903a86", Error;
    TAKING_OVER = "taking-over", "b79d06f3d825455d815e2671c6113034", Notice;
    GROUP_STARTING = "group-starting", "e5246cbd8412421dbe55918a4725c6e1", Info;
    GROUP_STARTED = "group-started", "94f8fea46e5e4168bc68ab28d7d1aa10", Notice;
    GROUP_STOPPING = "group-stopping", "d57d653f65e144edb1bda433837e8b07", Info;
    GROUP_STOPPED = "group-stopped", "7360475e7db14162a233d035883c7e20", Notice;
    GROUP_FAILED = "group-failed", "376701f597ec444ba87f204cf9066a20", Error;
    GROUP_BLOCKED = "group-blocked", "ece0ad3ef57f40aeb2e21697a969e258", Critical;
    RESOURCE_RESTARTING = "resource-restarting", "70af835b6a234afe91d6fc30c4797710", Warning;
    RESOURCE_FAILURE_IGNORED = "resource-failure-ignored", "e0af0b67c1ea4b0a8ba06db09ce4f7e6", Error;
    RESOURCE_APPEARED = "resource-appeared", "36e06de11cc24eb389d2ad01915b721a", Warning;
    GROUP_GIVEN_UP = "group-given-up", "a985c0570c0d4678aa7502230924ce1f", Critical;
    FAILURES_EXPIRED = "failures-expired", "4a0d55f18b7d4c62bde1479c2c3f4cee", Notice;
    RESOURCE_NOTED = "resource-noted", "467559b4a6de4a29bdebac1975f7064c", Warning;
    GROUP_HAS_NO_NODE = "group-has-no-node", "524a2aac152f41599d90e0bb82cfbf70", Critical;
    DOUBLE_OWNER = "double-owner", "e661ab9b1b534d819d16da593c35848d", Critical;
    GROUP_PLANNED = "group-planned", "32358553a5574bc1aeea8776b5d3b247", Info;
    STANDBY_ENTERED = "standby-entered", "e57bed53c3be4052bcbe723469d6a207", Notice;
    STANDBY_LEFT = "standby-left", "5531788f861b4520ae0b1a6cadefb7b7", Notice;
    MOVE_REQUESTED = "move-requested", "0479222b0da640d6b80a15379216c0e8", Notice;
    SHUTDOWN_STARTED = "shutdown-started", "4451310506234c4da21b0662aec01ccd", Notice;
    SHUTDOWN_COMPLETE = "shutdown-complete", "e902ca1768e8465397c6915f12f2c32a", Notice;
    NODE_RETURNING = "node-returning", "b07fd95bde40466bbf320a61f37e1d0b", Notice;
    RESTART_STARTED = "restart-started", "27a2e00b65e749cbbf935b68fad32696", Notice;
    GROUP_ADOPTED = "group-adopted", "da896c1ffc4b41a79f4409536d53972f", Notice;
    EVENTS_LOST = "events-lost", "c10159004ee048699ec491bde297bae0", Warning;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn identifiers_are_unique_and_well_formed() {
        let ids: BTreeSet<_> = TABLE.iter().map(|kind| kind.id).collect();
        let message_ids: BTreeSet<_> = TABLE.iter().map(|kind| kind.message_id).collect();
        assert_eq!((ids.len(), message_ids.len()), (TABLE.len(), TABLE.len()));
        for kind in TABLE {
            assert!(
                kind.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{}",
                kind.id
            );
            assert_eq!(kind.message_id.len(), 32, "{}", kind.id);
            assert!(
                kind.message_id
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            );
        }
    }
}
