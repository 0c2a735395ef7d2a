//! Text for people's eyes. What stands in a keys file or a log record was written by whoever can write that: a terminal or a page
//! must show it, and not do what it says.

use std::fmt::Write as _;

/// Control characters, those that end lines, and those that change the direction of writing (Unicode 16, UAX 9).
fn is_obeyed(character: char) -> bool {
    let changes_direction = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || changes_direction || matches!(character, '\u{2028}' | '\u{2029}')
}

/// The same text, with these written as `\u{1b}`.
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

/// A JSON document that means the same, with these as its own escapes (RFC 8259, 7). Ends of lines between values stay.
pub(crate) fn printable_json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for character in document.chars() {
        if character != '\n' && is_obeyed(character) {
            // None of them has more than four digits.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_what_it_would_do() {
        for (text, shown) in [
            ("a laptop, Größe 1", "a laptop, Größe 1"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("\u{9b}31m\r\nkey", "\\u{9b}31m\\u{d}\\u{a}key"),
            ("\u{202e}cod\u{2066}\u{2028}", "\\u{202e}cod\\u{2066}\\u{2028}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({"a": ["\u{9b}2J", "\u{1b}", "\u{7f}\u{202e}ä\n"]});
        let shown = printable_json(&format!("{value:#}"));
        assert!(shown.chars().all(|one| one == '\n' || !is_obeyed(one)), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
