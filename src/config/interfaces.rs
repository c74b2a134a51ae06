//! Interfaces that the configuration names but the machine does not have: a warning, since they may come later.

use crate::config::place::Place;
use crate::config::problem::Warning;
use crate::config::schema::nearest;

/// One place of the configuration that names an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceUse {
    /// The interface.
    pub name: String,
    /// Where it is named.
    pub place: Place,
    /// What it is for.
    pub purpose: Purpose,
}

/// What an interface is for, which decides what its absence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A link waits for it.
    Link,
    /// A virtual address cannot be started without it.
    Address,
}

/// The machine's interfaces, sorted.
///
/// # Errors
/// What the kernel said.
pub fn existing() -> std::io::Result<Vec<String>> {
    // Not from /sys, which can be that of another network namespace.
    let all = nix::net::if_::if_nameindex()?;
    let mut names: Vec<String> = all
        .iter()
        .map(|interface| interface.name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// A warning for each place that names an interface that is not among `existing`.
pub fn missing(uses: &[InterfaceUse], existing: &[String]) -> Vec<Warning> {
    uses.iter()
        .filter(|interface| !existing.contains(&interface.name))
        .map(|interface| missing_one(interface, existing))
        .collect()
}

fn missing_one(interface: &InterfaceUse, existing: &[String]) -> Warning {
    let near = nearest(&interface.name, existing.iter().map(String::as_str));
    let near = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    Warning {
        place: Some(interface.place.clone()),
        text: format!(
            "no interface {:?} on this machine now; there are {} (see `ip link`){near}; {}",
            interface.name,
            existing.join(", "),
            match interface.purpose {
                Purpose::Link => "the link waits for it",
                Purpose::Address => "without it the group does not start here",
            }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_told_with_those_that_exist() {
        let place = Place::In {
            file: "x.toml".to_owned(),
            line: 3,
            column: 13,
        };
        let used = |name: &str| InterfaceUse {
            name: name.to_owned(),
            place: place.clone(),
            purpose: Purpose::Link,
        };
        let existing = ["eth0".to_owned(), "lo".to_owned()];
        let warnings = missing(&[used("eth1"), used("lo")], &existing);
        assert_eq!(warnings.len(), 1);
        let text = warnings[0].to_string();
        assert!(
            text.starts_with("x.toml:3:13: no interface \"eth1\""),
            "{text}"
        );
        assert!(
            text.contains("eth0, lo") && text.contains("did you mean \"eth0\"?"),
            "{text}"
        );
    }

    #[test]
    fn every_machine_has_a_loopback_interface() {
        assert!(existing().unwrap().contains(&"lo".to_owned()));
    }
}
