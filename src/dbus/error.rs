//! Errors of the service: named by condition, the text says why not and what to do.

use crate::ids::NameError;
use crate::wire::status::Refusal;

/// An error reply, `org.linuxha.Cluster.Error.*`.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.linuxha.Cluster.Error")]
#[expect(
    missing_docs,
    reason = "each variant is the condition of the same name, see `Refusal`"
)]
pub enum BusError {
    /// The bus itself failed us.
    #[zbus(error)]
    Bus(zbus::Error),
    NoSuchGroup(String),
    NoSuchNode(String),
    NotAllowedThere(String),
    NodeNotActive(String),
    NodeInStandby(String),
    FailedThere(String),
    Blocked(String),
    NoLeader(String),
    NowhereToGo(String),
    StartFailed(String),
    Overtaken(String),
    TimedOut(String),
    NotStored(String),
    ShuttingDown(String),
    Busy(String),
    /// The caller may read but not change.
    AccessDenied(String),
    /// An argument that can mean nothing.
    InvalidArguments(String),
}

impl From<Refusal> for BusError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoSuchGroup(_) => Self::NoSuchGroup(text),
            Refusal::NoSuchNode(_) => Self::NoSuchNode(text),
            Refusal::NotAllowedThere { .. } => Self::NotAllowedThere(text),
            Refusal::NodeNotActive(_) => Self::NodeNotActive(text),
            Refusal::NodeInStandby(_) => Self::NodeInStandby(text),
            Refusal::FailedThere { .. } => Self::FailedThere(text),
            Refusal::Blocked { .. } => Self::Blocked(text),
            Refusal::NoLeader => Self::NoLeader(text),
            Refusal::NowhereToGo(_) => Self::NowhereToGo(text),
            Refusal::StartFailed { .. } => Self::StartFailed(text),
            Refusal::Overtaken { .. } => Self::Overtaken(text),
            Refusal::TimedOut => Self::TimedOut(text),
            Refusal::NotStored => Self::NotStored(text),
            Refusal::ShuttingDown => Self::ShuttingDown(text),
            Refusal::Busy => Self::Busy(text),
        }
    }
}

impl From<NameError> for BusError {
    fn from(error: NameError) -> Self {
        Self::InvalidArguments(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GroupName;
    use zbus::DBusError;

    #[test]
    fn a_refusal_keeps_its_name_and_its_text() {
        let refusal = Refusal::NoSuchGroup(GroupName::new("web").unwrap());
        let text = refusal.to_string();
        let error = BusError::from(refusal);
        assert_eq!(error.name(), "org.linuxha.Cluster.Error.NoSuchGroup");
        assert_eq!(error.description(), Some(text.as_str()));
    }
}
