//! Reading fields of documents. Whole numbers come back as whatever type the server keeps them in.

use std::fmt;

use ::mongodb::bson::{Bson, Document};

use crate::error::{Error, Kind, Result};

/// A whole number.
pub(crate) fn int(document: &Document, field: &str) -> Option<i64> {
    match document.get(field)? {
        Bson::Int64(value) => Some(*value),
        Bson::Int32(value) => Some(i64::from(*value)),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only a number that is whole and fits passes"
        )]
        Bson::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
        _ => None,
    }
}

/// A text.
pub(crate) fn text<'d>(document: &'d Document, field: &str) -> Option<&'d str> {
    document.get(field).and_then(Bson::as_str)
}

/// Reads the fields of one document; what breaks a rule is told by the field's name and the rule,
/// never by its value.
pub(crate) struct Read<'d> {
    pub(crate) part: &'static str,
    pub(crate) document: &'d Document,
}

impl<'d> Read<'d> {
    /// A whole number that must be there.
    pub(crate) fn int(&self, field: &str) -> Result<i64> {
        int(self.document, field).ok_or_else(|| self.broken(field, "is no whole number"))
    }

    /// A number that must be there and fit.
    pub(crate) fn number<T: TryFrom<i64>>(&self, field: &str) -> Result<T> {
        let value = self.int(field)?;
        T::try_from(value).map_err(|_| self.broken(field, "is out of range"))
    }

    /// A text that must be there.
    pub(crate) fn text(&self, field: &str) -> Result<&'d str> {
        self.maybe(field)
            .ok_or_else(|| self.broken(field, "is no text"))
    }

    /// A text that may be there.
    pub(crate) fn maybe(&self, field: &str) -> Option<&'d str> {
        text(self.document, field)
    }

    /// Bytes that must be there.
    pub(crate) fn bytes(&self, field: &str) -> Result<&'d [u8]> {
        match self.document.get(field) {
            Some(Bson::Binary(binary)) => Ok(&binary.bytes),
            _ => Err(self.broken(field, "is no binary")),
        }
    }

    /// A value made of a field by a rule.
    pub(crate) fn checked<T>(
        &self,
        field: &str,
        value: std::result::Result<T, impl fmt::Display>,
    ) -> Result<T> {
        value.map_err(|rule| self.broken(field, rule))
    }

    /// The error of a field that breaks a rule.
    pub(crate) fn broken(&self, field: &str, rule: impl fmt::Display) -> Error {
        let op = format!("read a document of MongoDB: its field `{field}` {rule}");
        Error::new(Kind::Corrupt, self.part, op)
    }
}
