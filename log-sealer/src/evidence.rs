//! The proof that comes with the boot's key: evidence from `attest-sidecar` for the purpose `log-key`.
//!
//! Nothing of it is verified here: that is the reader's work, and a forged answer would only make readers
//! refuse. What no reader could even parse is not accepted, though: it would spoil the boot's first record.

use std::time::Duration;

use attestation::Evidence;
use attestation::binding::Binding;
use attestation::log_record::{self, Identity};
use attestation::merkle::{Inclusion, MAX_LENGTH_OF_PATH};
use attestation::wire::InclusionText;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use proto::attest::attest_client::AttestClient;
use proto::attest::evidence_request::Purpose;
use proto::attest::{self, EvidenceReply, EvidenceRequest, LogKey};
use service::lifecycle;
use service::listen::Local;
use tonic::transport::Channel;

/// The longest identity, in bytes of JSON: in base64 and with the rest of a record around it, it stays below
/// what readers accept.
const LONGEST: usize = log_record::MAX_LENGTH / 4 * 3 - 4096;

/// An answer is a few tens of kilobytes.
const ANSWER: usize = 1 << 20;

/// Why there is no evidence yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("attest-sidecar gave no evidence")]
    Call(#[source] Box<tonic::Status>),
    #[error("attest-sidecar's answer lacks {0}")]
    Incomplete(&'static str),
    #[error("attest-sidecar's answer does not cover the key that it was asked for")]
    NotCovered,
    #[error("attest-sidecar's evidence is too long for a record: {0} bytes")]
    TooLong(usize),
}

/// Where evidence comes from.
pub(crate) struct EvidenceSource(AttestClient<Channel>);

impl EvidenceSource {
    pub(crate) fn new(attest_sidecar: &Local) -> Self {
        let client = AttestClient::new(service::grpc::channel(attest_sidecar));
        Self(client.max_decoding_message_size(ANSWER))
    }

    /// Asks until there is evidence for this binding, with growing pauses of up to half a minute or so.
    pub(crate) async fn obtain(&mut self, binding: &Binding) -> Identity {
        let mut pauses = pauses();
        let mut announced = false;
        loop {
            let error = match self.ask(binding).await {
                Ok(identity) => return identity,
                Err(error) => error,
            };
            if !announced {
                let code = match &error {
                    EvidenceError::Call(status) => Some(status.code().description()),
                    _ => None,
                };
                lifecycle!("waiting for evidence", error = %error, code = code);
                announced = true;
            }
            // the builder below never ends
            tokio::time::sleep(pauses.next().unwrap_or(PAUSES.1)).await;
        }
    }

    async fn ask(&mut self, binding: &Binding) -> Result<Identity, EvidenceError> {
        let Binding::LogKey { public_key, boot_id, recipients_sha256 } = binding else {
            return Err(EvidenceError::NotCovered);
        };
        let purpose = Purpose::LogKey(LogKey {
            public_key: public_key.clone(),
            boot_id: boot_id.to_vec(),
            recipients_sha256: recipients_sha256.to_vec(),
        });
        let reply = self
            .0
            .get_evidence(EvidenceRequest { purpose: Some(purpose) })
            .await
            .map_err(|status| EvidenceError::Call(Box::new(status)))?;
        identity(public_key, binding, reply.into_inner())
    }
}

/// The shortest and, apart from jitter, the longest pause between two questions.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));

fn pauses() -> backon::ExponentialBackoff {
    let (shortest, longest) = PAUSES;
    ExponentialBuilder::new()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

fn identity(
    public_key: &[u8],
    binding: &Binding,
    reply: EvidenceReply,
) -> Result<Identity, EvidenceError> {
    let evidence = reply.evidence.ok_or(EvidenceError::Incomplete("evidence"))?;
    let inclusion = reply.inclusion.ok_or(EvidenceError::Incomplete("an inclusion proof"))?;
    let inclusion = read_inclusion(inclusion).ok_or(EvidenceError::NotCovered)?;
    binding.report_data(&inclusion).ok_or(EvidenceError::NotCovered)?;
    let identity = Identity {
        public_key: public_key.to_vec(),
        evidence: collection(evidence)?.to_json(),
        merkle: InclusionText::from(&inclusion),
    };
    let length = serde_json::to_vec(&identity).map_or(usize::MAX, |json| json.len());
    if length > LONGEST {
        return Err(EvidenceError::TooLong(length));
    }
    Ok(identity)
}

fn collection(evidence: attest::Evidence) -> Result<Evidence, EvidenceError> {
    let needed = |part: Vec<u8>, name| {
        if part.is_empty() { Err(EvidenceError::Incomplete(name)) } else { Ok(part) }
    };
    let optional = |part: Vec<u8>| (!part.is_empty()).then_some(part);
    Ok(Evidence {
        report: needed(evidence.report, "the report")?,
        vek: needed(evidence.vek, "the certificate of the key that signed the report")?,
        chain: optional(evidence.chain),
        crl: optional(evidence.crl),
        uvm: optional(evidence.uvm),
        cce_policy: optional(evidence.cce_policy),
    })
}

fn read_inclusion(inclusion: attest::Inclusion) -> Option<Inclusion> {
    let attest::Inclusion { index, size, path } = inclusion;
    if path.len() > MAX_LENGTH_OF_PATH {
        return None;
    }
    let path = path.into_iter().map(|hash| hash.try_into().ok()).collect::<Option<_>>()?;
    Some(Inclusion { index, size, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding::LogKey { public_key: vec![4; 91], boot_id: [1; 16], recipients_sha256: [2; 32] }
    }

    fn reply() -> EvidenceReply {
        EvidenceReply {
            evidence: Some(attest::Evidence {
                report: vec![1; 1184],
                vek: vec![2; 1000],
                chain: vec![3; 3000],
                ..Default::default()
            }),
            inclusion: Some(attest::Inclusion { index: 1, size: 2, path: vec![vec![5; 32]] }),
        }
    }

    fn refused(change: impl FnOnce(&mut attest::Evidence, &mut attest::Inclusion)) -> String {
        let mut reply = reply();
        let (evidence, inclusion) = (reply.evidence.as_mut(), reply.inclusion.as_mut());
        change(evidence.unwrap(), inclusion.unwrap());
        identity(&[4; 91], &binding(), reply).err().unwrap().to_string()
    }

    #[test]
    fn an_answer_becomes_the_first_records_identity() {
        let identity = identity(&[4; 91], &binding(), reply()).unwrap();
        let evidence = Evidence::from_json(&identity.evidence).unwrap();
        assert_eq!(evidence.report, [1; 1184]);
        assert_eq!(evidence.chain, Some(vec![3; 3000]));
        assert_eq!(evidence.crl, None, "an empty part is an absent one");
        let inclusion = Inclusion::try_from(&identity.merkle).unwrap();
        assert_eq!(inclusion, Inclusion { index: 1, size: 2, path: vec![[5; 32]] });
    }

    #[test]
    fn what_no_reader_could_parse_is_refused() {
        assert!(refused(|evidence, _| evidence.report.clear()).contains("lacks the report"));
        assert!(refused(|evidence, _| evidence.vek.clear()).contains("lacks the certificate"));
        assert!(refused(|_, inclusion| inclusion.index = 2).contains("does not cover"));
        assert!(refused(|_, inclusion| inclusion.path.clear()).contains("does not cover"));
        assert!(refused(|_, inclusion| inclusion.path[0].truncate(31)).contains("does not cover"));
        let many = |_: &mut _, inclusion: &mut attest::Inclusion| {
            inclusion.path = vec![vec![0; 32]; MAX_LENGTH_OF_PATH + 1];
        };
        assert!(refused(many).contains("does not cover"));
        let long = refused(|evidence, _| evidence.cce_policy = vec![0; 400_000]);
        assert!(long.contains("too long"), "{long}");
        let without = EvidenceReply { inclusion: None, ..reply() };
        assert!(identity(&[4; 91], &binding(), without).is_err());
    }

    #[test]
    fn pauses_grow_to_a_bound_and_never_end() {
        let mut pauses = pauses();
        let all: Vec<Duration> = (0..100).map(|_| pauses.next().unwrap()).collect();
        assert!(all[0] < 2 * PAUSES.0);
        assert!(all.iter().all(|pause| *pause <= 2 * PAUSES.1));
        assert!(all[99] >= PAUSES.1);
    }
}
