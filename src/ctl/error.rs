//! How a command can end other than well, and the exit code for it.

use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CtlError {
    /// It failed, for this reason.
    Failed(String),
    /// The daemon does not run here.
    NotRunning,
    /// The reader of our output has gone, which is no failure.
    Silent,
}

impl CtlError {
    /// The text for standard error.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Failed(text) => Some(text),
            Self::NotRunning => {
                Some("ha-node is not running on this machine; start it: systemctl start ha-node")
            }
            Self::Silent => None,
        }
    }

    /// The contract's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Silent => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::from(1),
            Self::NotRunning => ExitCode::from(3),
        }
    }
}

impl From<zbus::Error> for CtlError {
    fn from(error: zbus::Error) -> Self {
        if let zbus::Error::MethodError(name, text, _) = &error {
            return from_name(name.as_str(), text.as_deref().unwrap_or_default());
        }
        if let zbus::Error::FDO(inner) = &error {
            let name = zbus::DBusError::name(inner.as_ref());
            let text = zbus::DBusError::description(inner.as_ref());
            return from_name(name.as_str(), text.unwrap_or_default());
        }
        Self::Failed(format!("the system bus failed: {error}"))
    }
}

fn from_name(name: &str, text: &str) -> CtlError {
    match name {
        "org.freedesktop.DBus.Error.ServiceUnknown"
        | "org.freedesktop.DBus.Error.NameHasNoOwner"
        | "org.freedesktop.DBus.Error.NoReply" => CtlError::NotRunning,
        _ if name.starts_with("org.linuxha.Cluster.Error.") && !text.is_empty() => {
            CtlError::Failed(text.to_owned())
        }
        _ => CtlError::Failed(format!("{name}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_errors_are_told_in_its_words() {
        assert_eq!(
            from_name(
                "org.linuxha.Cluster.Error.NoSuchGroup",
                "there is no group \"x\""
            ),
            CtlError::Failed("there is no group \"x\"".to_owned())
        );
        assert_eq!(
            from_name("org.freedesktop.DBus.Error.ServiceUnknown", "x"),
            CtlError::NotRunning
        );
    }
}
