//! Texts of answers to a person's request: `ok`, or the reason in words with the names that belong to it.

use super::Reject;
use super::text::Parts;
use crate::wire::status::Refusal;

pub(super) const ACCEPTED: &str = "ok";

/// `REASON[:GROUP][:NODE]`.
pub(super) fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NoSuchGroup(group) => format!("no-such-group:{group}"),
        Refusal::NoSuchNode(node) => format!("no-such-node:{node}"),
        Refusal::NotAllowedThere { group, node } => format!("not-allowed-there:{group}:{node}"),
        Refusal::NodeNotActive(node) => format!("node-not-active:{node}"),
        Refusal::NodeInStandby(node) => format!("node-in-standby:{node}"),
        Refusal::FailedThere { group, node } => format!("failed-there:{group}:{node}"),
        Refusal::Blocked { group, node } => format!("blocked:{group}:{node}"),
        Refusal::NoLeader => "no-leader".to_owned(),
        Refusal::NowhereToGo(group) => format!("nowhere-to-go:{group}"),
        Refusal::StartFailed { group, node } => format!("start-failed:{group}:{node}"),
        Refusal::Overtaken { group, node } => format!("overtaken:{group}:{node}"),
        Refusal::TimedOut => "timed-out".to_owned(),
        Refusal::NotStored => "not-stored".to_owned(),
        Refusal::ShuttingDown => "shutting-down".to_owned(),
        Refusal::Busy => "busy".to_owned(),
    }
}

/// The answer that the next parts are: `None` for `ok`.
pub(super) fn parse_answer(parts: &mut Parts<'_>) -> Result<Option<Refusal>, Reject> {
    let refusal = match parts.word()? {
        ACCEPTED => return Ok(None),
        "no-such-group" => Refusal::NoSuchGroup(parts.group()?),
        "no-such-node" => Refusal::NoSuchNode(parts.node()?),
        "not-allowed-there" => {
            let (group, node) = (parts.group()?, parts.node()?);
            Refusal::NotAllowedThere { group, node }
        }
        "node-not-active" => Refusal::NodeNotActive(parts.node()?),
        "node-in-standby" => Refusal::NodeInStandby(parts.node()?),
        "failed-there" => {
            let (group, node) = (parts.group()?, parts.node()?);
            Refusal::FailedThere { group, node }
        }
        "blocked" => {
            let (group, node) = (parts.group()?, parts.node()?);
            Refusal::Blocked { group, node }
        }
        "no-leader" => Refusal::NoLeader,
        "nowhere-to-go" => Refusal::NowhereToGo(parts.group()?),
        "start-failed" => {
            let (group, node) = (parts.group()?, parts.node()?);
            Refusal::StartFailed { group, node }
        }
        "overtaken" => {
            let (group, node) = (parts.group()?, parts.node()?);
            Refusal::Overtaken { group, node }
        }
        "timed-out" => Refusal::TimedOut,
        "not-stored" => Refusal::NotStored,
        "shutting-down" => Refusal::ShuttingDown,
        "busy" => Refusal::Busy,
        _ => return Err(Reject::BadField),
    };
    Ok(Some(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupName, NodeName};

    /// The variant after `refusal`, so that a new one stops the build here until it is tested.
    fn next(refusal: &Refusal) -> Option<Refusal> {
        let group = GroupName::new("web").unwrap();
        let node = NodeName::new("beta").unwrap();
        match refusal {
            Refusal::NoSuchGroup(_) => Some(Refusal::NoSuchNode(node)),
            Refusal::NoSuchNode(_) => Some(Refusal::NotAllowedThere { group, node }),
            Refusal::NotAllowedThere { .. } => Some(Refusal::NodeNotActive(node)),
            Refusal::NodeNotActive(_) => Some(Refusal::NodeInStandby(node)),
            Refusal::NodeInStandby(_) => Some(Refusal::FailedThere { group, node }),
            Refusal::FailedThere { .. } => Some(Refusal::Blocked { group, node }),
            Refusal::Blocked { .. } => Some(Refusal::NoLeader),
            Refusal::NoLeader => Some(Refusal::NowhereToGo(group)),
            Refusal::NowhereToGo(_) => Some(Refusal::StartFailed { group, node }),
            Refusal::StartFailed { .. } => Some(Refusal::Overtaken { group, node }),
            Refusal::Overtaken { .. } => Some(Refusal::TimedOut),
            Refusal::TimedOut => Some(Refusal::NotStored),
            Refusal::NotStored => Some(Refusal::ShuttingDown),
            Refusal::ShuttingDown => Some(Refusal::Busy),
            Refusal::Busy => None,
        }
    }

    #[test]
    fn every_refusal_survives() {
        let first = Refusal::NoSuchGroup(GroupName::new("web").unwrap());
        for refusal in std::iter::successors(Some(first), next) {
            let text = refusal_text(&refusal);
            let mut parts = Parts::new(&text);
            assert_eq!(parse_answer(&mut parts), Ok(Some(refusal)), "{text}");
            assert_eq!(parts.end(), Ok(()), "{text}");
        }
        assert_eq!(parse_answer(&mut Parts::new(ACCEPTED)), Ok(None));
        for bad in [
            "",
            "no-such-group",
            "no-such-group:",
            "perhaps",
            "blocked:web",
        ] {
            assert_eq!(
                parse_answer(&mut Parts::new(bad)),
                Err(Reject::BadField),
                "{bad}"
            );
        }
    }
}
