//! A message: an ordered list of typed, named fields.
//!
//! Knows no framing and no meaning. Values are bytes, because Heartbeat allows any; fields of types that are
//! not understood are kept as they came, so that a message encodes back byte for byte.

use super::FIELDS_MAX;

/// The inner digest's field, in the messages that have one.
pub const AUTH: &str = "auth";

/// Type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text (type 0).
    Text,
    /// Raw bytes (type 1).
    Binary,
    /// Any other of Heartbeat's types, as its ASCII digit; the value is kept as it came.
    Other(u8),
}

impl Kind {
    /// The kind that an ASCII digit stands for; `None` for any other byte.
    pub const fn from_digit(digit: u8) -> Option<Self> {
        match digit {
            b'0' => Some(Self::Text),
            b'1' => Some(Self::Binary),
            b'2'..=b'9' => Some(Self::Other(digit)),
            _ => None,
        }
    }

    /// The ASCII digit of this kind.
    pub const fn digit(self) -> u8 {
        match self {
            Self::Text => b'0',
            Self::Binary => b'1',
            Self::Other(digit) => digit,
        }
    }
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its type.
    pub kind: Kind,
    /// Its name: never empty and without `=`, as the framings guarantee.
    pub name: Vec<u8>,
    /// Its value, after any encoding of the framing was undone.
    pub value: Vec<u8>,
}

/// An ordered list of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    fields: Vec<Field>,
}

impl Message {
    /// A message without fields.
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// All fields in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Appends a text field.
    pub fn push_text(&mut self, name: &str, value: impl Into<String>) {
        self.fields.push(Field {
            kind: Kind::Text,
            name: name.as_bytes().to_vec(),
            value: value.into().into_bytes(),
        });
    }

    /// Appends a text field that has a value.
    pub(super) fn push_some(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.push_text(name, value);
        }
    }

    /// Appends a field unless the message has [`FIELDS_MAX`] already; says whether it did.
    pub(super) fn push(&mut self, field: Field) -> bool {
        let room = self.fields.len() < FIELDS_MAX;
        if room {
            self.fields.push(field);
        }
        room
    }

    /// The first field of that name: the one that counts, as with Heartbeat.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name.as_bytes())
    }

    /// The first field of that name as text; `None` also if it is no text field or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        let field = self.field(name)?;
        match field.kind {
            Kind::Text => std::str::from_utf8(&field.value).ok(),
            Kind::Binary | Kind::Other(_) => None,
        }
    }

    /// Removes all fields of that name.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|f| f.name != name.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_fields_counts() {
        let mut message = Message::new();
        message.push_text("st", "up");
        message.push_text("st", "active");
        assert_eq!(message.text("st"), Some("up"));
        assert_eq!(message.text("s"), None);
    }

    #[test]
    fn only_text_reads_as_text() {
        let mut message = Message::new();
        for (kind, name) in [(Kind::Binary, "b"), (Kind::Other(b'2'), "o")] {
            let (name, value) = (name.as_bytes().to_vec(), b"x".to_vec());
            assert!(message.push(Field { kind, name, value }));
        }
        assert_eq!((message.text("b"), message.text("o")), (None, None));
        assert!(message.field("b").is_some());
    }

    #[test]
    fn kinds_are_digits() {
        for byte in 0..=u8::MAX {
            let kind = Kind::from_digit(byte);
            assert_eq!(kind.is_some(), byte.is_ascii_digit());
            assert!(kind.is_none_or(|kind| kind.digit() == byte));
        }
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let mut message = Message::new();
        let field = || Field {
            kind: Kind::Text,
            name: b"a".to_vec(),
            value: Vec::new(),
        };
        assert!((0..FIELDS_MAX).all(|_| message.push(field())));
        assert!(!message.push(field()));
        assert_eq!(message.fields().len(), FIELDS_MAX);
    }
}
