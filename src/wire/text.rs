//! How lists stand in one text field: items separated by a blank, parts of an item by `:`, numbers in lower-case hexadecimal.
//!
//! Names contain neither separator. Whatever does not parse to the last character is [`Reject::BadField`].

use super::Reject;
use crate::ids::{GroupName, NodeName};
use std::collections::BTreeMap;

/// The parts of one item, taken from left to right.
pub(super) struct Parts<'a>(std::str::Split<'a, char>);

impl<'a> Parts<'a> {
    /// The parts of `item`.
    pub(super) fn new(item: &'a str) -> Self {
        Self(item.split(':'))
    }

    /// The next part, if there is one.
    pub(super) fn optional(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    /// The next part.
    pub(super) fn word(&mut self) -> Result<&'a str, Reject> {
        self.optional().ok_or(Reject::BadField)
    }

    /// The next part as a number.
    pub(super) fn number(&mut self) -> Result<u64, Reject> {
        parse_number(self.word()?)
    }

    /// The next part as a node's name.
    pub(super) fn node(&mut self) -> Result<NodeName, Reject> {
        NodeName::new(self.word()?).map_err(|_| Reject::BadField)
    }

    /// The next part as a group's name.
    pub(super) fn group(&mut self) -> Result<GroupName, Reject> {
        GroupName::new(self.word()?).map_err(|_| Reject::BadField)
    }

    /// The last part, which can only be `mark`; whether it is there.
    pub(super) fn mark(&mut self, mark: &str) -> Result<bool, Reject> {
        match self.optional() {
            None => Ok(false),
            Some(word) if word == mark => Ok(true),
            Some(_) => Err(Reject::BadField),
        }
    }

    /// There must be no further part.
    pub(super) fn end(mut self) -> Result<(), Reject> {
        match self.optional() {
            None => Ok(()),
            Some(_) => Err(Reject::BadField),
        }
    }
}

/// One item by itself.
pub(super) fn parse_item<T>(
    text: &str,
    parse: impl FnOnce(&mut Parts<'_>) -> Result<T, Reject>,
) -> Result<T, Reject> {
    let mut parts = Parts::new(text);
    let item = parse(&mut parts)?;
    parts.end()?;
    Ok(item)
}

/// A list of at most `max` items without two of the same key; an absent field is an empty list.
pub(super) fn parse_list<K: Ord, V>(
    text: Option<&str>,
    max: usize,
    parse: impl Fn(&mut Parts<'_>) -> Result<(K, V), Reject>,
) -> Result<BTreeMap<K, V>, Reject> {
    let mut list = BTreeMap::new();
    for item in text.into_iter().flat_map(|text| text.split(' ')) {
        let (key, value) = parse_item(item, &parse)?;
        if list.len() == max || list.insert(key, value).is_some() {
            return Err(Reject::BadField);
        }
    }
    Ok(list)
}

/// The text of a list; `None`, which is no field, for an empty one.
pub(super) fn list(items: impl Iterator<Item = String>) -> Option<String> {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&item);
    }
    (!text.is_empty()).then_some(text)
}

/// A number of at most 16 lower-case hexadecimal digits, without a sign.
pub(super) fn parse_number(text: &str) -> Result<u64, Reject> {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    if text.len() > 16 || !text.chars().all(is_digit) {
        return Err(Reject::BadField);
    }
    u64::from_str_radix(text, 16).map_err(|_| Reject::BadField)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BTreeMap<NodeName, u64>, Reject> {
        parse_list(Some(text), 2, |parts| Ok((parts.node()?, parts.number()?)))
    }

    #[test]
    fn lists_are_bounded_and_without_repetition() {
        assert_eq!(parse("a:1 b:ff").map(|list| list.len()), Ok(2));
        assert_eq!(
            parse_list(None, 2, |parts| Ok((parts.node()?, ()))).map(|l| l.len()),
            Ok(0)
        );
        for bad in [
            "",
            " ",
            "a:1 ",
            " a:1",
            "a:1  b:1",
            "a:1 a:2",
            "a:1 b:1 c:1",
            "a",
            "a:1:1",
            ":1",
        ] {
            assert_eq!(parse(bad), Err(Reject::BadField), "{bad:?}");
        }
    }

    #[test]
    fn numbers_have_one_alphabet() {
        assert_eq!(parse_number("ffffffffffffffff"), Ok(u64::MAX));
        assert_eq!(parse_number("0"), Ok(0));
        for bad in [
            "",
            "+1",
            "-1",
            "F",
            "g",
            "1_0",
            "0x1",
            "10000000000000000",
            "é",
        ] {
            assert_eq!(parse_number(bad), Err(Reject::BadField), "{bad:?}");
        }
    }
}
