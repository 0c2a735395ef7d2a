//! New keys: their text, which its holder alone learns, and their ids.
//!
//! Must not know what a key is good for.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::edit::EditError;

/// `pm_` and 43 characters of url-safe base64: 256 random bits (`proxy.md` case 29).
pub(super) fn text() -> Result<Zeroizing<String>, EditError> {
    let mut bits = Zeroizing::new([0; 32]);
    rand::fill(bits.as_mut_slice()).map_err(|_| EditError::NoRandomNumbers)?;
    // Long enough, so that it is never moved while it grows and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(64));
    text.push_str("pm_");
    URL_SAFE_NO_PAD.encode_string(bits.as_slice(), &mut text);
    Ok(text)
}

/// `key_` and 8 hexadecimal digits, until one is free.
pub(super) fn id(is_taken: impl Fn(&str) -> bool) -> Result<String, EditError> {
    loop {
        let mut bits = [0; 4];
        rand::fill(&mut bits).map_err(|_| EditError::NoRandomNumbers)?;
        let id = format!("key_{}", hex::encode(bits));
        if !is_taken(&id) {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn case_29_keys_have_46_characters_and_are_all_different() {
        let mut all = HashSet::new();
        for _ in 0..100 {
            let text = text().unwrap();
            assert!(text.starts_with("pm_") && text.len() == 46);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            assert!(all.insert(text.to_string()));
        }
    }

    #[test]
    fn an_id_that_is_taken_is_not_given_again() {
        let tries = std::cell::Cell::new(0);
        let id = id(|_| tries.replace(tries.get() + 1) < 3).unwrap();
        assert_eq!((tries.get(), id.len()), (4, 12));
        assert!(id.starts_with("key_"));
    }
}
