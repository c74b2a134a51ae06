//! What a `vip` resource says: addresses and ranges of them, their options, and each value's reading.
//!
//! Judges each value by itself; what the values mean together is `check::addresses`'s business.

use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::reader::{Reader, about, origin};
use crate::config::value::{Checked, is_host, one_of, quoted, text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use toml::de::DeValue;

/// Most addresses of one resource; all of them are taken in one go, within the daemon's one thread.
pub const ADDRESSES_MAX: usize = 1024;

/// Most entries of a list in a `vip` resource.
const ENTRIES_MAX: usize = 1024;

/// Most routes of one resource.
const ROUTES_MAX: usize = 32;

/// An address and the prefix length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressWithPrefix {
    /// The address.
    pub address: IpAddr,
    /// 1 to 32, or 1 to 128.
    pub prefix: u8,
}

/// What to do about somebody else who has the address already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnConflict {
    /// Take it, and say so: the start does not wait for an answer.
    #[default]
    Take,
    /// Ask first, and fail the start.
    Refuse,
}

/// A route that comes and goes with the addresses, over their interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The network; all zero for the default route.
    pub destination: IpAddr,
    /// Its prefix length; 0 for the default route.
    pub prefix: u8,
    /// The router; none for a network that is on the link itself.
    pub gateway: Option<IpAddr>,
}

/// A `vip` resource: addresses that are held together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSet {
    /// 1 to [`ADDRESSES_MAX`], each once, in the order of the file.
    pub addresses: Vec<AddressWithPrefix>,
    /// Interface that carries them.
    pub interface: String,
    /// What IPv4 addresses are called in `ip addr`; the interface's name without one.
    pub label: Option<String>,
    /// Whether the machine itself may choose the addresses as the source of its connections.
    pub source: bool,
    /// Routes that come and go with them.
    pub routes: Vec<Route>,
    /// What to do about a foreign owner.
    pub on_conflict: OnConflict,
}

impl AddressSet {
    /// Addresses on an interface, with every option at its default.
    pub fn new(addresses: Vec<AddressWithPrefix>, interface: &str) -> Self {
        Self {
            addresses,
            interface: interface.to_owned(),
            label: None,
            source: false,
            routes: Vec::new(),
            on_conflict: OnConflict::default(),
        }
    }

    /// What must be the same on all nodes, as one text. The interface may differ, and with it the label.
    pub(crate) fn common(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let mut text = addresses.join(",");
        if self.source {
            text += " source";
        }
        if self.on_conflict == OnConflict::Refuse {
            text += " refuse";
        }
        for route in &self.routes {
            text += &format!(" route {route}");
        }
        text
    }
}

impl fmt::Display for AddressWithPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            0 => f.write_str("default")?,
            prefix => write!(f, "{}/{prefix}", self.destination)?,
        }
        match self.gateway {
            Some(gateway) => write!(f, " via {gateway}"),
            None => Ok(()),
        }
    }
}

/// One entry of `vip`: an address, or all from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressRange {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
    pub(crate) prefix: u8,
}

impl AddressRange {
    /// All of them; at most [`ADDRESSES_MAX`].
    pub(crate) fn addresses(&self) -> Vec<AddressWithPrefix> {
        let prefix = self.prefix;
        let with_prefix = |address| AddressWithPrefix { address, prefix };
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits()..=last.to_bits())
                .take(ADDRESSES_MAX)
                .map(|bits| with_prefix(Ipv4Addr::from_bits(bits).into()))
                .collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits()..=last.to_bits())
                .take(ADDRESSES_MAX)
                .map(|bits| with_prefix(Ipv6Addr::from_bits(bits).into()))
                .collect(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        }
    }

    /// How many, of a range that was read without complaint.
    pub(crate) fn count(&self) -> usize {
        let length = self
            .length()
            .and_then(|length| usize::try_from(length).ok());
        length.unwrap_or(usize::MAX / ENTRIES_MAX)
    }

    /// How many, where both ends are of one family and in order.
    fn length(&self) -> Option<u128> {
        let (first, last) = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (u128::from(first.to_bits()), u128::from(last.to_bits()))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        last.checked_sub(first)?.checked_add(1)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A key that is one text or a list of texts.
pub(crate) fn one_or_many<T>(
    table: &Reader<'_, '_>,
    key: &str,
    problems: &mut Problems,
    check: impl Fn(&DeValue<'_>) -> Checked<T>,
) -> Option<Found<Vec<Found<T>>>> {
    let (value, at) = table.get(key)?;
    let entries: Vec<(&DeValue<'_>, Origin)> = match value.as_array() {
        None => vec![(value, at)],
        Some(list) => (list.iter())
            .map(|entry| (entry.get_ref(), origin(at.source, &entry.span())))
            .collect(),
    };
    if entries.is_empty() {
        let wrong = Wrong::new("an empty list").expected("at least one entry");
        problems.add(at, about(key, wrong));
    }
    if entries.len() > ENTRIES_MAX {
        let wrong = Wrong::new(format!("{} entries", entries.len()))
            .expected(format!("at most {ENTRIES_MAX}"));
        problems.add(at, about(key, wrong));
        return None;
    }
    let mut all = Vec::new();
    for (entry, at) in entries {
        match check(entry) {
            Ok(value) => all.push(Found { value, at }),
            Err(wrong) => problems.add(at, about(key, wrong)),
        }
    }
    (!all.is_empty()).then_some(Found { value: all, at })
}

/// An entry of `vip`.
pub(crate) fn addresses(value: &DeValue<'_>) -> Checked<AddressRange> {
    let expected = "ADDRESS/PREFIX, as \"192.168.0.100/24\" or \"2001:db8::100/64\"";
    let text = text(value, expected)?;
    let wrong = || Wrong::new(quoted(text)).expected(expected);
    let Some((ends, prefix)) = text.split_once('/') else {
        let range = text
            .split('-')
            .all(|address| address.parse::<IpAddr>().is_ok());
        return Err(if range {
            wrong().hint("add the prefix length of the network")
        } else {
            wrong()
        });
    };
    let (first, last) = ends.split_once('-').unwrap_or((ends, ends));
    let parse = |address: &str| address.trim().parse::<IpAddr>().map_err(|_| wrong());
    let (first, last) = (parse(first)?, parse(last)?);
    let range = AddressRange {
        first,
        last,
        prefix: prefix_length(prefix, first, 1, text)?,
    };
    if let Some(address) = [first, last].into_iter().find(|end| !is_host(*end)) {
        return Err(
            Wrong::new(format!("{address} is no address of a single host")).expected(expected),
        );
    }
    check_range(range, text)
}

fn check_range(range: AddressRange, text: &str) -> Checked<AddressRange> {
    let wrong = |found: &str| Wrong::new(format!("{found} in {}", quoted(text)));
    let most = ADDRESSES_MAX as u128;
    match range.length() {
        Some(1) => return Ok(range),
        Some(count) if count <= most => {}
        Some(count) => {
            return Err(wrong(&format!("{count} addresses")).expected(format!("at most {most}")));
        }
        None => {
            return Err(wrong("the range").expected(
                "FIRST-LAST/PREFIX of one family with the lower one first, as \"10.0.0.10-10.0.0.99/24\"",
            ));
        }
    }
    let bits = if range.first.is_ipv4() { 32 } else { 128 };
    if range.prefix != bits && !same_network(range.first, range.last, range.prefix) {
        return Err(wrong("the range leaves its network").expected(format!(
            "addresses of one network of prefix length {}",
            range.prefix
        )));
    }
    Ok(range)
}

fn prefix_length(prefix: &str, address: IpAddr, least: u8, whole: &str) -> Checked<u8> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (prefix.parse().ok())
        .filter(|prefix| (least..=bits).contains(prefix))
        .ok_or_else(|| {
            Wrong::new(format!("the prefix length in {}", quoted(whole)))
                .expected(format!("a whole number from {least} to {bits}"))
        })
}

/// Whether two addresses are in one network of that prefix length.
pub(crate) fn same_network(left: IpAddr, right: IpAddr, prefix: u8) -> bool {
    match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) => {
            let shift = 32_u32.saturating_sub(u32::from(prefix));
            left.to_bits().checked_shr(shift) == right.to_bits().checked_shr(shift)
        }
        (IpAddr::V6(left), IpAddr::V6(right)) => {
            let shift = 128_u32.saturating_sub(u32::from(prefix));
            left.to_bits().checked_shr(shift) == right.to_bits().checked_shr(shift)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// An entry of `route`.
pub(crate) fn route(value: &DeValue<'_>) -> Checked<Route> {
    let expected = "\"default via GATEWAY\", \"NETWORK/PREFIX via GATEWAY\" or \"NETWORK/PREFIX\"";
    let text = text(value, expected)?;
    let wrong = || Wrong::new(quoted(text)).expected(expected);
    let words: Vec<&str> = text.split_whitespace().collect();
    let (network, gateway) = match words.as_slice() {
        [network] => (*network, None),
        [network, "via", gateway] => (*network, Some(gateway.parse().map_err(|_| wrong())?)),
        _ => return Err(wrong()),
    };
    if let Some(gateway) = gateway.filter(|gateway| !is_host(*gateway)) {
        return Err(Wrong::new(format!(
            "{gateway} is no address of a single router"
        )));
    }
    let (destination, prefix) = match (network, gateway) {
        ("default", Some(IpAddr::V4(_))) => (Ipv4Addr::UNSPECIFIED.into(), 0),
        ("default", Some(IpAddr::V6(_))) => (Ipv6Addr::UNSPECIFIED.into(), 0),
        _ => network_of(network).ok_or_else(wrong)??,
    };
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != destination.is_ipv4()) {
        return Err(wrong().hint("network and gateway must be of one family"));
    }
    Ok(Route {
        destination,
        prefix,
        gateway,
    })
}

/// A network in the form `10.1.0.0/16`; none if it is no such text.
fn network_of(text: &str) -> Option<Checked<(IpAddr, u8)>> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix = match prefix_length(prefix, address, 1, text) {
        Ok(prefix) => prefix,
        Err(wrong) => return Some(Err(wrong)),
    };
    let network = network_address(address, prefix);
    if network == address {
        return Some(Ok((address, prefix)));
    }
    let wrong = Wrong::new(format!("{} is no network", quoted(text)));
    Some(Err(
        wrong.hint(format!("did you mean \"{network}/{prefix}\"?"))
    ))
}

fn network_address(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let shift = 32_u32.saturating_sub(u32::from(prefix));
            let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let shift = 128_u32.saturating_sub(u32::from(prefix));
            let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// The routes of a resource, of which there are not too many.
pub(crate) fn routes(
    table: &Reader<'_, '_>,
    problems: &mut Problems,
) -> Option<Found<Vec<Found<Route>>>> {
    let routes = one_or_many(table, "route", problems, route)?;
    if let Some(excess) = routes.value.get(ROUTES_MAX) {
        let wrong = Wrong::new(format!("{} routes", routes.value.len()))
            .expected(format!("at most {ROUTES_MAX}"));
        problems.add(excess.at, about("route", wrong));
    }
    Some(routes)
}

/// `on_conflict`
pub(crate) fn on_conflict(value: &DeValue<'_>) -> Checked<OnConflict> {
    one_of(
        value,
        &[("take", OnConflict::Take), ("refuse", OnConflict::Refuse)],
    )
}

/// Longest label (IFNAMSIZ without the terminator).
const LABEL_LENGTH_MAX: usize = 15;

/// `label`; that it begins with the interface's name is for `check` to judge.
pub(crate) fn label(value: &DeValue<'_>) -> Checked<String> {
    let expected =
        "the interface's name, ':' and a word, as \"eth0:web\": at most 15 bytes, no spaces";
    let text = text(value, expected)?;
    let allowed = |c: char| c.is_ascii_graphic() && c != '/';
    if (1..=LABEL_LENGTH_MAX).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(quoted(text)).expected(expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> DeValue<'_> {
        DeValue::String(text.into())
    }

    #[test]
    fn ranges_hold_every_address_from_the_first_to_the_last() {
        let range = addresses(&value("10.0.0.254-10.0.1.1/16")).unwrap();
        let all: Vec<String> = range.addresses().iter().map(ToString::to_string).collect();
        let expected = [
            "10.0.0.254/16",
            "10.0.0.255/16",
            "10.0.1.0/16",
            "10.0.1.1/16",
        ];
        assert_eq!(all, expected);
        assert_eq!(range.to_string(), "10.0.0.254-10.0.1.1");
        let range = addresses(&value("fd00::ff-fd00::101/64")).unwrap();
        assert_eq!(range.addresses().len(), 3);
        let single = addresses(&value("fd00::1/128")).unwrap();
        assert_eq!(single.to_string(), "fd00::1");
        assert_eq!(
            addresses(&value("10.0.0.0-10.0.3.255/16"))
                .unwrap()
                .addresses()
                .len(),
            1024
        );
    }

    #[test]
    fn ranges_that_cannot_be_are_refused() {
        for wrong in [
            "10.0.0.9-10.0.0.1/24",
            "10.0.0.1-fd00::1/24",
            "10.0.0.250-10.0.1.5/24",
            "10.0.0.0-10.0.4.0/16",
            "fd00::-fd01::/8",
            "10.0.0.1-10.0.0.2-10.0.0.3/24",
            "10.0.0.1-/24",
            "10.0.0.1-10.0.0.9",
        ] {
            assert!(addresses(&value(wrong)).is_err(), "{wrong}");
        }
        assert!(addresses(&value("10.0.0.250-10.0.1.5/32")).is_ok());
    }

    #[test]
    fn routes_have_three_forms() {
        let show = |text: &str| route(&value(text)).map(|route| route.to_string());
        for right in [
            "default via 10.0.0.254",
            "default via fe80::1",
            "10.1.0.0/16 via 10.0.0.254",
            "10.1.0.0/16",
            "2001:db8::/32 via fd00::1",
        ] {
            assert_eq!(show(right).as_deref(), Ok(right));
        }
        for wrong in [
            "default",
            "10.1.0.1/16",
            "10.1.0.0",
            "10.1.0.0/16 via fd00::1",
            "10.1.0.0/16 via",
            "10.1.0.0/0 via 10.0.0.1",
            "default via 0.0.0.0",
            "default via 10.0.0.1 dev eth0",
            "",
        ] {
            assert!(show(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn networks_are_told_apart() {
        let inside = |left: &str, right: &str, prefix| {
            same_network(left.parse().unwrap(), right.parse().unwrap(), prefix)
        };
        assert!(inside("10.0.0.99", "10.0.0.1", 24));
        assert!(!inside("10.0.1.99", "10.0.0.1", 24));
        assert!(inside("10.9.9.9", "192.0.2.1", 0));
        assert!(!inside("10.0.0.99", "10.0.0.1", 32));
        assert!(inside("fd00::99", "fd00::1", 64));
        assert!(!inside("fd01::99", "fd00::1", 64));
        assert!(inside("fd01::99", "::1", 0));
        assert!(!inside("fd00::99", "10.0.0.1", 0));
    }

    proptest! {
        #[test]
        fn no_text_panics_a_parser(text in "[0-9a-f:./ -]{0,40}|default via .*|\\PC*") {
            let value = value(&text);
            if let Ok(range) = addresses(&value) {
                prop_assert!((1..=ADDRESSES_MAX).contains(&range.addresses().len()));
            }
            let _ = (route(&value), label(&value), on_conflict(&value));
        }
    }
}
