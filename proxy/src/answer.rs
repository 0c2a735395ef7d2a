//! The answer to a request for a proof, written in two parts: what a batch shares, once for all, and what is one
//! connection's own. Together they are exactly `attestation::wire::VerifyAnswer`.

use attestation::Evidence;
use attestation::encoding::to_b64u;
use attestation::merkle::Inclusion;
use attestation::wire::{InclusionText, OwnerSignature};
use bytes::Bytes;
use serde::Serialize;

/// The first part: version and evidence, tens of kilobytes. Clones share the bytes.
#[derive(Clone)]
pub(crate) struct Opening(Bytes);

impl Opening {
    pub(crate) fn of(evidence: &Evidence) -> Self {
        let evidence = evidence.to_json();
        let text = serde_json::to_vec(&Shared { v: 1, evidence });
        let mut text = text.expect("text and numbers always serialise");
        // The object goes on in the second part.
        text.pop();
        text.shrink_to_fit();
        Self(text.into())
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

#[derive(Serialize)]
struct Shared {
    v: u8,
    evidence: serde_json::Value,
}

/// The second part.
#[derive(Serialize)]
pub(crate) struct Rest {
    merkle: InclusionText,
    manifest: String,
    owner: Option<OwnerSignature>,
    token: Option<String>,
    client_nonce: Option<String>,
}

impl Rest {
    pub(crate) fn new(inclusion: &Inclusion, manifest: &[u8]) -> Self {
        let merkle = InclusionText::from(inclusion);
        Self { merkle, manifest: to_b64u(manifest), owner: None, token: None, client_nonce: None }
    }

    /// With the owner's word.
    pub(crate) fn owner(self, owner: Option<OwnerSignature>) -> Self {
        Self { owner, ..self }
    }

    /// With a nonce for a client that wants to prove itself.
    pub(crate) fn client_nonce(self, nonce: Option<[u8; 32]>) -> Self {
        Self { client_nonce: nonce.map(|nonce| to_b64u(&nonce)), ..self }
    }

    /// With MAA's word.
    pub(crate) fn token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    pub(crate) fn bytes(&self) -> Bytes {
        let mut text = serde_json::to_vec(self).expect("text and numbers always serialise");
        // It goes on where the first part stopped.
        if let Some(brace) = text.first_mut() {
            *brace = b',';
        }
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use attestation::merkle::Tree;
    use attestation::wire::VerifyAnswer;

    use super::*;

    #[test]
    fn both_parts_are_the_wire_format() {
        let evidence = Evidence {
            report: vec![1; 1184],
            vek: vec![2; 3],
            uvm: Some(vec![5]),
            ..Evidence::default()
        };
        let leaves: Vec<_> = (0..3).map(|n| vec![n]).collect();
        let inclusion = Tree::new(&leaves).unwrap().inclusions.remove(1);
        let manifest = br#"{"v":1,"service":"\"<&"}"#;
        let word =
            OwnerSignature { kid: "owner/1".to_owned(), alg: "ES256".to_owned(), sig: vec![7; 64] };
        for all in [false, true] {
            let token = all.then(|| "e30.e30.AA".to_owned());
            let (owner, nonce) = (all.then(|| word.clone()), all.then_some([9; 32]));
            let rest = Rest::new(&inclusion, manifest)
                .owner(owner.clone())
                .token(token.clone())
                .client_nonce(nonce);
            let answer = [Opening::of(&evidence).bytes(), rest.bytes()].concat();

            let whole = VerifyAnswer {
                v: 1,
                evidence: evidence.to_json(),
                merkle: InclusionText::from(&inclusion),
                manifest: manifest.to_vec(),
                owner,
                token,
                client_nonce: nonce.map(|nonce| nonce.to_vec()),
            };
            assert_eq!(answer, serde_json::to_vec(&whole).unwrap());
            let read: VerifyAnswer = serde_json::from_slice(&answer).unwrap();
            assert!(read == whole);
            assert_eq!(Inclusion::try_from(&read.merkle), Ok(inclusion.clone()));
        }
    }
}
