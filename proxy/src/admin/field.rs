//! A field of a form as a page shows it: its label, what to write, what stands there, what is wrong with it.

use super::form::Form;
use super::values::Problems;

/// How a field is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One line.
    Text,
    /// A whole number or an amount.
    Number,
    /// Several lines.
    Lines,
    /// No or yes, in these words.
    Choice(&'static str, &'static str),
}

/// A field.
pub(super) struct Field {
    /// Of the element; a page may have the same name in two forms.
    pub(super) id: String,
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) hint: &'static str,
    pub(super) value: String,
    pub(super) error: String,
    kind: Kind,
}

impl Field {
    pub(super) fn new(
        form: &str,
        name: &'static str,
        label: &'static str,
        hint: &'static str,
        kind: Kind,
    ) -> Self {
        let id = format!("{form}-{name}");
        Self { id, name, label, hint, kind, value: String::new(), error: String::new() }
    }

    /// With what is in force.
    pub(super) fn value(self, value: impl Into<String>) -> Self {
        Self { value: value.into(), ..self }
    }

    pub(super) fn is_lines(&self) -> bool {
        self.kind == Kind::Lines
    }

    pub(super) fn is_number(&self) -> bool {
        self.kind == Kind::Number
    }

    /// The words of a choice: no, yes.
    pub(super) fn choice(&self) -> Option<(&'static str, &'static str)> {
        if let Kind::Choice(no, yes) = self.kind { Some((no, yes)) } else { None }
    }

    pub(super) fn is_yes(&self) -> bool {
        self.value == "true"
    }
}

/// What somebody sent, and what is wrong with it.
pub(super) struct Refused<'a> {
    pub(super) form: &'a Form,
    pub(super) problems: &'a Problems,
}

/// Puts what was sent back into its fields, so that nothing is lost, and says beside each what is wrong.
pub(super) fn refill(fields: &mut [Field], refused: &Refused<'_>) {
    for field in fields {
        if let Some(value) = refused.form.get(field.name) {
            value.clone_into(&mut field.value);
        }
        refused.problems.of(field.name).clone_into(&mut field.error);
    }
}
