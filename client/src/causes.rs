//! An error and its causes as one text, for people.

use std::error::Error;

/// Outermost first. Control characters, which a server may have put into its names, are shown, never obeyed.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    printable(&text)
}

/// The text with its control characters and those that change the direction of writing escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let obeyed = character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if obeyed {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(printable("ARK-Milan"), "ARK-Milan");
        assert_eq!(printable("\u{1b}[2J\nACCEPTED"), "\\u{1b}[2J\\u{a}ACCEPTED");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
    }
}
