//! The owner's word for a proof: the proxy's client of `skr-sidecar` (`wire.md` part 2).
//!
//! The key itself never leaves `skr-sidecar`. Without the owner's word a proof goes out all the same: a client that
//! pins an owner refuses it, others still have the hardware's word.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attestation::encoding::to_b64u;
use attestation::owner::OwnerKey;
use attestation::wire::OwnerSignature;
use attestation::{Binding, ReportData, merkle};
use proto::skr::skr_client::SkrClient;
use proto::skr::{GetOwnerKeyRequest, SignEvidenceRequest};
use service::listen::Local;
use tokio::sync::OnceCell;
use tonic::Code;
use tonic::transport::Channel;

use crate::attest::ChannelFacts;

/// How long one answer about the key may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a proof may wait for the owner's word: after a restart, `skr-sidecar` has to have the key released again.
const WORD: Duration = Duration::from_secs(10);

/// Pause between two questions then.
const PAUSE: Duration = Duration::from_millis(250);

/// Batches whose signature is kept: those of one batch ask at about the same time.
const BATCHES: usize = 8;

/// What the owner is asked to sign: a report's content, and a manifest's digest.
type Statement = (ReportData, [u8; 32]);

/// The signature for a batch, or that there is none. Whoever comes first asks, the others wait for that.
type Word = Arc<OnceCell<Option<OwnerSignature>>>;

/// What is known of the owner's key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// `skr-sidecar` has not said anything yet.
    Nothing,
    /// No owner is configured.
    NoOwner,
    /// `skr-sidecar` cannot have the key released: waiting is no use now.
    Refused,
    /// The last key that it named. A moment without `skr-sidecar` takes nothing from it.
    Key(String),
}

/// The owner, as far as the proxy is concerned.
pub(crate) struct Owner {
    /// `None`: there is no `skr-sidecar`, so no owner.
    skr: Option<SkrClient<Channel>>,
    known: Mutex<(Known, bool)>,
    words: Mutex<VecDeque<(Statement, Word)>>,
}

impl Owner {
    /// Of the `skr-sidecar` at that address.
    pub(crate) fn new(skr: Option<&Local>) -> Self {
        let known = if skr.is_some() { Known::Nothing } else { Known::NoOwner };
        Self {
            skr: skr.map(|skr| SkrClient::new(service::grpc::channel(skr))),
            known: Mutex::new((known, true)),
            words: Mutex::default(),
        }
    }

    /// Waits until it is known whose group this is, but not for longer than this.
    pub(crate) async fn first(&self, patience: Duration) {
        let known = async {
            while self.key().await.is_none() && self.known() == Known::Nothing {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(patience, known).await.is_err() {
            tracing::warn!(
                "the owner's key is not there; the first proofs go out without it. If there is no skr-sidecar, set SKR_SIDECAR=off"
            );
        }
    }

    /// The owner's public key, as the manifest has it.
    pub(crate) async fn key(&self) -> Option<String> {
        let mut skr = self.skr.clone()?;
        let asked = tokio::time::timeout(PATIENCE, skr.get_owner_key(GetOwnerKeyRequest {})).await;
        let answer = match asked {
            Ok(Ok(reply)) => read(&reply.into_inner().spki),
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => Some(Known::Refused),
            Ok(Err(_)) | Err(_) => None,
        };
        self.learn(answer)
    }

    /// Keeps what was answered; says so once when it no longer is.
    fn learn(&self, answer: Option<Known>) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = matches!(answer, Some(Known::Key(_) | Known::NoOwner));
        if known.1 && !answered {
            tracing::warn!("skr-sidecar does not name the owner's key");
        }
        known.1 = answered;
        match answer {
            // It was released before, so it is the same owner's still.
            Some(Known::Refused) if matches!(known.0, Known::Key(_)) => {}
            Some(answer) => known.0 = answer,
            None => {}
        }
        match &known.0 {
            Known::Key(text) => Some(text.clone()),
            Known::Nothing | Known::NoOwner | Known::Refused => None,
        }
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The owner's word for a proof with this content. `None` if there is no owner, or it cannot be had.
    ///
    /// What is signed is composed from the connection's own facts, so that it fits no other evidence than that
    /// which proves this connection.
    pub(crate) async fn word(
        &self,
        facts: &ChannelFacts,
        inclusion: &merkle::Inclusion,
    ) -> Option<OwnerSignature> {
        // A key that was never there is not waited for here: every proof would be late.
        if !matches!(self.known(), Known::Key(_)) {
            return None;
        }
        let binding = Binding::TlsChannel {
            nonce: facts.nonce,
            exporter: facts.exporter,
            spki_sha256: facts.spki_sha256,
            certificate_sha256: facts.certificate_sha256,
            manifest_sha256: facts.manifest_sha256,
        };
        let statement = (binding.report_data(inclusion)?, facts.manifest_sha256);
        let word = self.entry(statement);
        word.get_or_init(|| self.sign(statement)).await.clone()
    }

    /// The place where the word for this statement is, or will be.
    fn entry(&self, statement: Statement) -> Word {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, word)) = words.iter().find(|(of, _)| *of == statement) {
            return word.clone();
        }
        let word = Word::default();
        words.push_front((statement, word.clone()));
        words.truncate(BATCHES);
        word
    }

    async fn sign(&self, (report_data, manifest_sha256): Statement) -> Option<OwnerSignature> {
        let mut skr = self.skr.clone()?;
        let request = SignEvidenceRequest {
            report_data: report_data.to_vec(),
            manifest_sha256: manifest_sha256.to_vec(),
        };
        match tokio::time::timeout(WORD, skr.sign_evidence(request)).await {
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                Some(OwnerSignature { kid: reply.kid, alg: "ES256".to_owned(), sig: reply.sig })
            }
            Ok(Err(status)) => {
                let error = &status as &dyn std::error::Error;
                tracing::warn!(error, "a proof goes out without the owner's signature");
                None
            }
            Err(_) => {
                tracing::warn!("a proof goes out without the owner's signature: it took too long");
                None
            }
        }
    }
}

/// What `skr-sidecar` says about the key; `None` if it is none.
fn read(spki: &[u8]) -> Option<Known> {
    if spki.is_empty() {
        return Some(Known::NoOwner);
    }
    OwnerKey::from_spki(spki).ok()?;
    Some(Known::Key(to_b64u(spki)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner::new(Some(&"unix:/nowhere/at/all.sock".parse().unwrap()))
    }

    #[tokio::test]
    async fn those_of_one_batch_share_one_signature() {
        let owner = owner();
        let (one, other) = (([1; 64], [2; 32]), ([3; 64], [2; 32]));
        let word = owner.entry(one);
        assert!(Arc::ptr_eq(&word, &owner.entry(one)));
        assert!(!Arc::ptr_eq(&word, &owner.entry(other)));
        assert!(!Arc::ptr_eq(&word, &owner.entry(([1; 64], [4; 32]))), "another manifest");
        for n in 0..BATCHES {
            owner.entry(([u8::try_from(n).unwrap(); 64], [9; 32]));
        }
        assert!(!Arc::ptr_eq(&word, &owner.entry(one)), "old ones make room");
        assert_eq!(owner.words.lock().unwrap().len(), BATCHES);
    }

    #[tokio::test(start_paused = true)]
    async fn without_skr_sidecar_nothing_is_waited_for() {
        let (none, begin) = (Owner::new(None), tokio::time::Instant::now());
        none.first(Duration::from_secs(20)).await;
        assert_eq!((none.key().await, begin.elapsed()), (None, Duration::ZERO));
    }

    #[tokio::test]
    async fn a_key_that_was_named_stays_while_nobody_answers() {
        let owner = owner();
        assert_eq!(owner.key().await, None);
        assert_eq!(owner.known(), Known::Nothing);
        assert_eq!(owner.learn(Some(Known::Key("k".to_owned()))), Some("k".to_owned()));
        assert_eq!(owner.key().await, Some("k".to_owned()), "nobody answers");
        assert_eq!(
            owner.learn(Some(Known::Refused)),
            Some("k".to_owned()),
            "the vault refuses now"
        );
        assert_eq!(owner.learn(Some(Known::NoOwner)), None);
        assert_eq!(owner.learn(Some(Known::Refused)), None);
        assert_eq!(owner.known(), Known::Refused, "which ends the wait for the first answer");
    }
}
