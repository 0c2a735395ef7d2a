//! Judges one envelope after the other: which key opens it, whether it is believed, and whether it may take the place
//! of what is open. What is open stays open whatever comes.
//!
//! Must not know where envelopes and keys come from.

use std::collections::VecDeque;
use std::sync::Arc;

use attestation::secrets::{self, Envelope, Expected, Refusal, Secrets};

use super::key::SecretsKey;

/// Keys that are kept: while the vault's key is rotated, envelopes for the old one and the new one are about.
const KEYS: usize = 2;

/// Keys, and what they opened.
pub(crate) struct Opener {
    expected: Expected,
    keys: VecDeque<SecretsKey>,
    open: Option<Arc<Secrets>>,
}

/// What an envelope led to.
pub(crate) enum Outcome {
    /// Its secrets are open now.
    Opened(Arc<Secrets>),
    /// It is not believed, and never will be here.
    Refused(Refusal),
    /// It is for a key that is not at hand.
    NoKey,
}

impl Opener {
    /// With no key yet.
    pub(crate) fn new(expected: Expected) -> Self {
        Self { expected, keys: VecDeque::new(), open: None }
    }

    /// Takes a key that the vault released; the oldest one makes room.
    pub(crate) fn take(&mut self, key: SecretsKey) {
        self.keys.retain(|held| held.kid() != key.kid());
        self.keys.push_front(key);
        self.keys.truncate(KEYS);
    }

    /// Judges an envelope.
    pub(crate) fn judge(&mut self, text: &str) -> Outcome {
        let envelope = match Envelope::parse(text) {
            Ok(envelope) => envelope,
            Err(refusal) => return Outcome::Refused(refusal),
        };
        let Some(key) = self.keys.iter().find(|key| key.kid() == envelope.kid()) else {
            return Outcome::NoKey;
        };
        match self.believe(key, envelope) {
            Ok(secrets) => {
                let secrets = Arc::new(secrets);
                self.open = Some(secrets.clone());
                Outcome::Opened(secrets)
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn believe(&self, key: &SecretsKey, envelope: Envelope) -> Result<Secrets, Refusal> {
        let secrets = secrets::open(&key.open(envelope)?, &self.expected)?;
        if let Some(open) = &self.open {
            secrets.replaces(open)?;
        }
        Ok(secrets)
    }
}
