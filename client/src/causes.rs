//! An error and its causes as one text, for people.

use std::error::Error;
use std::fmt::Write as _;

/// Outermost first. Control characters, which a server may have put into its names, are shown, never obeyed.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    printable(&text)
}

/// Control characters, ends of lines, and those that change the direction of writing.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A JSON document's text that means the same and has none of these but the ends of its own lines: JSON lets most of
/// them stand in its strings as they are.
pub(crate) fn printable_json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for character in document.chars() {
        if is_obeyed(character) && character != '\n' {
            // All of them have four digits at most.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// The text with these characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{printable, printable_json};

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(printable("ARK-Milan"), "ARK-Milan");
        assert_eq!(printable("\u{1b}[2J\nACCEPTED"), "\\u{1b}[2J\\u{a}ACCEPTED");
        assert_eq!(printable("a\u{202e}b\u{2028}c"), "a\\u{202e}b\\u{2028}c");
    }

    #[test]
    fn a_document_means_the_same_without_what_a_terminal_obeys() {
        let value = serde_json::json!({"a": "\u{9b}2J\u{7f}\u{202e}\u{61c}\n\\ä"});
        let text = printable_json(&format!("{value:#}\n"));
        assert!(text.chars().all(|c| c == '\n' || !super::is_obeyed(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
