//! `${NAME}` in configuration: values that are known only when the world runs.
//!
//! Must not know: which names there are. Names are looked up once, what they stand for is not
//! looked at again, and a name that nobody defined is an error.

use std::collections::BTreeMap;

use serde_json::Value;

/// A name in a template that has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nobody defined it.
    #[error("${{{name}}} has no value; known are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that have one.
        known: String,
    },
    /// `${` without `}`.
    #[error("a placeholder in {text:?} does not end")]
    Open {
        /// The text in question.
        text: String,
    },
}

/// Fills in all strings of a JSON value, at any depth; member names stay as they are.
///
/// # Errors
/// [`TemplateError`] for unknown names and placeholders that do not end.
pub fn fill(template: &Value, values: &BTreeMap<String, String>) -> Result<Value, TemplateError> {
    Ok(match template {
        Value::String(text) => Value::String(fill_text(text, values)?),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| fill(item, values)).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, member)| Ok((name.clone(), fill(member, values)?)))
                .collect::<Result<_, TemplateError>>()?,
        ),
        other => other.clone(),
    })
}

fn fill_text(text: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let open = || TemplateError::Open { text: text.to_owned() };
        let (name, after) = after.split_once('}').ok_or_else(open)?;
        let value = values.get(name).ok_or_else(|| TemplateError::Unknown {
            name: name.to_owned(),
            known: values.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_filled_in_once_and_unknown_ones_are_errors() {
        let values = BTreeMap::from([
            ("MAA".to_owned(), "https://maa".to_owned()),
            ("X".to_owned(), "${MAA}".to_owned()),
        ]);
        let template = json!({"authority": "${MAA}/x", "all": ["${X}", 1], "${MAA}": true});
        let filled = json!({"authority": "https://maa/x", "all": ["${MAA}", 1], "${MAA}": true});
        assert_eq!(fill(&template, &values), Ok(filled));
        assert!(matches!(
            fill(&json!("${Y}"), &values),
            Err(TemplateError::Unknown { name, .. }) if name == "Y"
        ));
        assert!(matches!(fill(&json!("${MAA"), &values), Err(TemplateError::Open { .. })));
    }
}
