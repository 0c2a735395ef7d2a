//! The key of this boot, and the chain of records that it signs.
//!
//! The key is made here, never leaves, and is gone with the process. Records are compact JWS (RFC 7515) with
//! ES256; their form is [`attestation::log_record`]'s. A record is part of the chain as soon as it is signed:
//! whoever has one signed must bring it to the spool before the next.

use attestation::Binding;
use attestation::crypto::sha256;
use attestation::encoding::to_b64u;
use attestation::log_record::{Event, Identity, Record, TYPE};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use service::clock;

use crate::recipients::Recipients;

/// A key could not be made, or would not sign.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignerError {
    #[error("the boot's signing key could not be made")]
    Key,
    #[error("the boot id is not 32 hexadecimal digits")]
    BootId,
    #[error("a record could not be signed")]
    Sign,
}

/// A record, ready for the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Its number in the boot.
    pub(crate) seq: u64,
    /// Compact JWS.
    pub(crate) compact: String,
    /// SHA-256 of the compact form.
    pub(crate) digest: [u8; 32],
}

/// Signs the records of this boot, each naming the one before it.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    public_key: Vec<u8>,
    boot: String,
    boot_id: [u8; 16],
    recipients_sha256: [u8; 32],
    next_seq: u64,
    prev: Option<[u8; 32]>,
}

impl Signer {
    /// Makes the key. `boot` is the boot id as 32 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) fn new(boot: &str, recipients: &Recipients) -> Result<Self, SignerError> {
        let mut boot_id = [0; 16];
        hex::decode_to_slice(boot, &mut boot_id).map_err(|_| SignerError::BootId)?;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| SignerError::Key)?;
        let public_key: PublicKeyX509Der<'_> =
            key.public_key().as_der().map_err(|_| SignerError::Key)?;
        Ok(Self {
            public_key: public_key.as_ref().to_vec(),
            key,
            boot: boot.to_owned(),
            boot_id,
            recipients_sha256: recipients.sha256(),
            next_seq: 0,
            prev: None,
        })
    }

    /// What evidence must say for this key to be the group's (`log-key` of `wire.md` part 1).
    pub(crate) fn binding(&self) -> Binding {
        Binding::LogKey {
            public_key: self.public_key.clone(),
            boot_id: self.boot_id,
            recipients_sha256: self.recipients_sha256,
        }
    }

    /// SubjectPublicKeyInfo (DER).
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The boot id, 32 hexadecimal digits.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// From the next record on, these are the readers.
    pub(crate) fn change_readers(&mut self, recipients: &Recipients) {
        self.recipients_sha256 = recipients.sha256();
    }

    /// Signs the next record. `identity` belongs to the first one of the boot.
    ///
    /// # Errors
    ///
    /// [`SignerError::Sign`]; the chain stays where it was.
    pub(crate) fn sign(
        &mut self,
        event: Event,
        identity: Option<Identity>,
    ) -> Result<Signed, SignerError> {
        let record = Record {
            v: 1,
            boot: self.boot.clone(),
            seq: self.next_seq,
            prev: self.prev.map(Vec::from),
            time: clock::unix_now(),
            recipients_sha256: self.recipients_sha256,
            event,
            identity,
        };
        let payload = serde_json::to_vec(&record).map_err(|_| SignerError::Sign)?;
        let header = format!(r#"{{"alg":"ES256","typ":"{TYPE}"}}"#);
        let mut compact = format!("{}.{}", to_b64u(header.as_bytes()), to_b64u(&payload));
        let signature = self
            .key
            .sign(&SystemRandom::new(), compact.as_bytes())
            .map_err(|_| SignerError::Sign)?;
        compact.push('.');
        compact.push_str(&to_b64u(signature.as_ref()));

        let digest = sha256(compact.as_bytes());
        let signed = Signed { seq: self.next_seq, compact, digest };
        self.next_seq += 1;
        self.prev = Some(digest);
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use attestation::Evidence;
    use attestation::encoding::from_b64u;
    use attestation::log_record::Chain;
    use attestation::merkle::Inclusion;
    use attestation::wire::InclusionText;

    use super::*;

    const BOOT: &str = "000102030405060708090a0b0c0d0e0f";

    /// A signer, and the first record that it signs.
    fn begun() -> (Signer, Signed) {
        let recipients = age_recipient();
        let mut signer = Signer::new(BOOT, &recipients).unwrap();
        let start =
            Event::Start { previous: None, heartbeat_seconds: 60, recipients: recipients.texts() };
        let first = signer.sign(start, Some(identity(&signer))).unwrap();
        (signer, first)
    }

    fn identity(signer: &Signer) -> Identity {
        let evidence = Evidence { report: vec![1], vek: vec![2], ..Evidence::default() };
        let alone = Inclusion { index: 0, size: 1, path: vec![] };
        Identity {
            public_key: signer.public_key().to_vec(),
            evidence: evidence.to_json(),
            merkle: InclusionText::from(&alone),
        }
    }

    fn segment(records: u64) -> Event {
        let (first, last) = (Some(1), Some(2));
        Event::Segment { sha256: [7; 32], bytes: 4321, records, spans: 2, points: 3, first, last }
    }

    #[test]
    fn what_it_signs_is_a_chain() {
        let (mut signer, first) = begun();
        let (mut chain, record, proof) = Chain::begin(&first.compact).unwrap();
        assert_eq!(record.boot, BOOT);
        let alone = Inclusion { index: 0, size: 1, path: vec![] };
        assert_eq!(Some(proof.report_data), signer.binding().report_data(&alone));

        let second = signer.sign(segment(5), None).unwrap();
        assert!(chain.follow(&second.compact).unwrap().event == segment(5));
        assert_eq!(chain.head(), (1, second.digest));
        let stop = signer.sign(Event::Stop, None).unwrap();
        chain.follow(&stop.compact).unwrap();
        assert!(chain.is_stopped());
        assert_eq!([first.seq, second.seq, stop.seq], [0, 1, 2]);
    }

    #[test]
    fn left_out_moved_changed_or_foreign_records_break_the_chain() {
        let (mut signer, first) = begun();
        let second = signer.sign(segment(1), None).unwrap().compact;
        let third = signer.sign(segment(2), None).unwrap().compact;
        let (mut chain, ..) = Chain::begin(&first.compact).unwrap();

        assert!(chain.clone().follow(&third).is_err(), "left out");
        let mut followed = chain.clone();
        followed.follow(&second).unwrap();
        assert!(followed.clone().follow(&second).is_err(), "twice");
        assert!(followed.follow(&third).is_ok());

        let mut parts: Vec<&str> = second.split('.').collect();
        let payload = String::from_utf8(from_b64u(parts[1]).unwrap()).unwrap();
        let changed = to_b64u(payload.replace("4321", "4322").as_bytes());
        parts[1] = &changed;
        assert!(chain.clone().follow(&parts.join(".")).is_err(), "changed");

        let mut other = Signer::new(BOOT, &age_recipient()).unwrap();
        other.next_seq = 1;
        other.prev = Some(first.digest);
        other.recipients_sha256 = signer.recipients_sha256;
        let foreign = other.sign(segment(1), None).unwrap().compact;
        assert!(chain.follow(&foreign).is_err(), "foreign");
    }

    fn age_recipient() -> Recipients {
        age::x25519::Identity::generate().to_public().to_string().parse().unwrap()
    }

    #[test]
    fn the_header_is_exactly_this() {
        let compact = begun().0.sign(segment(1), None).unwrap().compact;
        let header = from_b64u(compact.split('.').next().unwrap()).unwrap();
        assert_eq!(header, br#"{"alg":"ES256","typ":"privatemode-confidential-log+jws"}"#);
    }

    #[test]
    fn every_boot_has_its_own_key() {
        assert_ne!(begun().0.public_key(), begun().0.public_key());
        let refused = Signer::new("00", &age_recipient());
        assert_eq!(refused.err(), Some(SignerError::BootId));
    }
}
