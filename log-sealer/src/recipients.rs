//! Who will be able to read: the age recipients that every segment is encrypted to.

use std::str::FromStr;

use age::x25519::Recipient;
use attestation::log_record::{MAX_READERS as MOST, Readers};

/// The readers, in the order of the configuration. Never empty.
#[derive(Clone)]
pub(crate) struct Recipients(Vec<Recipient>);

/// Why a text is no list of readers. The text itself is never repeated: somebody may have pasted a secret key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRecipients {
    #[error("must name 1 to {MOST} age recipients, this names {0}")]
    Number(usize),
    #[error("entry {0} is no age recipient: give the public half (age1…) that age-keygen prints")]
    Syntax(usize),
    #[error("entry {0} stands there twice: remove one of them")]
    Double(usize),
}

impl FromStr for Recipients {
    type Err = NotRecipients;

    fn from_str(text: &str) -> Result<Self, NotRecipients> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        let entries: Vec<&str> = entries.filter(|entry| !entry.is_empty()).collect();
        if !(1..=MOST).contains(&entries.len()) {
            return Err(NotRecipients::Number(entries.len()));
        }
        let mut recipients = Vec::with_capacity(entries.len());
        for (entry, position) in entries.into_iter().zip(1..) {
            let recipient = entry.parse().map_err(|_| NotRecipients::Syntax(position))?;
            if recipients.contains(&recipient) {
                return Err(NotRecipients::Double(position));
            }
            recipients.push(recipient);
        }
        Ok(Self(recipients))
    }
}

impl Recipients {
    /// Each of them, as age wants them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.0.iter().map(|recipient| recipient as &dyn age::Recipient)
    }

    /// Each of them in its canonical text.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// What records name the list by.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        Readers::digest_of(&self.texts())
    }
}

impl TryFrom<&Readers> for Recipients {
    type Error = NotRecipients;

    fn try_from(readers: &Readers) -> Result<Self, NotRecipients> {
        readers.recipients.join(",").parse()
    }
}

#[cfg(test)]
mod tests {
    use age::x25519::Identity;
    use attestation::crypto::sha256;

    use super::*;

    fn recipient() -> String {
        Identity::generate().to_public().to_string()
    }

    #[test]
    fn commas_and_white_space_separate() {
        let [a, b, c] = [recipient(), recipient(), recipient()];
        let list: Recipients = format!(" {a},{b}\n\t{c},").parse().unwrap();
        assert_eq!(list.iter().count(), 3);
        assert_eq!(list.sha256(), sha256(format!("{a}\n{b}\n{c}\n").as_bytes()));
    }

    #[test]
    fn the_digest_is_over_the_canonical_text() {
        let text = recipient();
        let upper: Recipients = text.to_uppercase().parse().unwrap();
        assert_eq!(upper.sha256(), sha256(format!("{text}\n").as_bytes()));
    }

    #[test]
    fn what_is_no_list_is_refused_without_being_repeated() {
        let good = recipient();
        let refused = |text: &str| text.parse::<Recipients>().err().unwrap();
        assert_eq!(refused(" , "), NotRecipients::Number(0));
        let many: Vec<String> = (0..17).map(|_| recipient()).collect();
        assert_eq!(refused(&many.join(",")), NotRecipients::Number(17));
        assert_eq!(refused(&format!("{good},age1qqqq")), NotRecipients::Syntax(2));
        assert_eq!(refused(&format!("{good} {good}")), NotRecipients::Double(2));
        // one letter changed: bech32's checksum sees it
        let typo = good.replacen(good.chars().nth(9).unwrap(), "b", 1);
        assert_eq!(refused(&typo), NotRecipients::Syntax(1));
        use age::secrecy::ExposeSecret as _;
        let secret = Identity::generate().to_string();
        let why = refused(secret.expose_secret());
        assert_eq!(why, NotRecipients::Syntax(1));
        assert!(!why.to_string().contains("SECRET"));
    }
}
