//! A few members of a JSON document, kept while it passes by.
//!
//! Must not know what they mean, or how they are found: [`super::json`] does.

use std::fmt;

use crate::openai::json::{Scanner, Wanted, What};

/// The value of a member, as it stood.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Value {
    /// It was not there.
    #[default]
    Absent,
    /// The bytes from its first to its last.
    Raw(Vec<u8>),
    /// It was longer than its limit.
    TooLong,
}

/// How long it is; never what it says.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Raw(raw) => write!(f, "Raw({} bytes)", raw.len()),
            Self::TooLong => f.write_str("TooLong"),
        }
    }
}

impl Value {
    /// The bytes, if they were kept.
    pub(crate) fn raw(&self) -> Option<&[u8]> {
        match self {
            Self::Raw(raw) => Some(raw),
            Self::Absent | Self::TooLong => None,
        }
    }

    /// What it says, if it says that. Never for what is malformed.
    pub(crate) fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_slice(self.raw()?).ok()
    }
}

/// The wanted members of a document that passes by.
pub(crate) struct Members<const N: usize> {
    wanted: &'static [Wanted; N],
    scanner: Scanner,
    values: [Value; N],
    open: Option<usize>,
}

impl<const N: usize> Members<N> {
    pub(crate) fn new(wanted: &'static [Wanted; N]) -> Self {
        let values = std::array::from_fn(|_| Value::Absent);
        Self { wanted, scanner: Scanner::new(wanted), values, open: None }
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.scanner.reset();
        self.values.fill(Value::Absent);
        self.open = None;
    }

    /// Reads all of the input.
    pub(crate) fn feed(&mut self, mut input: &[u8]) {
        loop {
            let (taken, what) = self.step(input);
            if matches!(what, What::More | What::Broken) {
                return;
            }
            input = input.get(taken..).unwrap_or_default();
        }
    }

    /// As [`Scanner::step`].
    pub(crate) fn step(&mut self, input: &[u8]) -> (usize, What) {
        let (taken, what) = self.scanner.step(input);
        if let Some(open) = self.open
            && let Some(value) = self.values.get_mut(open)
            && let Value::Raw(raw) = value
        {
            let limit = self.wanted.get(open).map_or(0, |wanted| wanted.limit);
            if raw.len() + taken > limit {
                *value = Value::TooLong;
            } else {
                raw.extend_from_slice(input.get(..taken).unwrap_or_default());
            }
        }
        match what {
            What::Begins(wanted) => {
                self.open = Some(wanted);
                if let Some(value) = self.values.get_mut(wanted) {
                    *value = Value::Raw(Vec::new());
                }
            }
            What::Ends(_) => self.open = None,
            What::Broken => {
                // Half a value is none.
                if let Some(value) = self.open.take().and_then(|open| self.values.get_mut(open)) {
                    *value = Value::Absent;
                }
            }
            What::More | What::Closes => {}
        }
        (taken, what)
    }

    /// The value of a wanted member. Of a document that broke off within it, as much as came.
    pub(crate) fn value(&self, wanted: usize) -> &Value {
        self.values.get(wanted).unwrap_or(&Value::Absent)
    }

    /// Whether the value of this wanted member is being read.
    pub(crate) fn is_open_at(&self, wanted: usize) -> bool {
        self.open == Some(wanted)
    }

    pub(crate) fn scanner(&self) -> &Scanner {
        &self.scanner
    }
}
