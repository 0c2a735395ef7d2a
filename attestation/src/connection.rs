//! From a server's answer and what a client observed on its own connection, to a verdict about that connection
//! (`wire.md` parts 1 and 2).

use crate::anchors::Anchors;
use crate::appraise::{Appraised, appraise};
use crate::binding::Binding;
use crate::certificate::{Certificate, CertificateError};
use crate::check::Rejected;
use crate::crypto::sha256;
use crate::demand::Demand;
use crate::evidence::{Evidence, EvidenceError};
use crate::merkle::Inclusion;
use crate::owner::OwnerStatement;
use crate::policy::Policy;
use crate::verify::verify;
use crate::wire::{Manifest, NotAnInclusion, VerifyAnswer};

/// Who the manifest must speak of.
pub const SERVICE: &str = "privatemode-confidential";

/// Roles of a group that have measured variables. Ours have fewer than ten; whoever remembers or compares them needs a
/// bound.
pub const MAX_ROLES: usize = 64;

/// What the client knows of its connection by itself. Nothing of it came from the server's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Observed {
    /// The nonce that it sent, new for every proof.
    pub nonce: [u8; 32],
    /// RFC 9266 `tls-exporter` of its TLS 1.3 connection.
    pub exporter: [u8; 32],
    /// The certificate that the handshake showed (DER).
    pub certificate: Vec<u8>,
}

/// A connection that ends in a guest which is genuine and acceptable.
#[derive(Clone)]
pub struct ProvenConnection {
    /// The guest.
    pub appraised: Appraised,
    /// What it says about itself; the proof covers it.
    pub manifest: Manifest,
}

/// Why a connection is not proved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The answer's form is of another version.
    #[error("the answer has version {0}, not 1: update this client")]
    Version(u8),
    /// The certificate of the handshake cannot be read.
    #[error("the server's certificate cannot be read")]
    Certificate(#[from] CertificateError),
    /// The evidence cannot be read.
    #[error("the evidence cannot be read")]
    Evidence(#[from] EvidenceError),
    /// The inclusion proof cannot be read, or its parts do not fit together.
    #[error("the inclusion proof cannot be read")]
    Inclusion(#[from] NotAnInclusion),
    /// The manifest cannot be read, or names too many roles.
    #[error("the manifest is not one of version 1 of {SERVICE}, with {MAX_ROLES} roles at most")]
    Manifest,
    /// A check failed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// Judges one connection: the evidence is authentic, its guest acceptable, and its report covers this nonce,
/// this exporter, this certificate and this manifest.
///
/// # Errors
///
/// [`ConnectionError`].
pub fn judge(
    answer: &VerifyAnswer,
    observed: &Observed,
    anchors: &Anchors,
    policy: &Policy,
    at: u64,
) -> Result<ProvenConnection, ConnectionError> {
    let demand = demand(answer, observed)?;
    let evidence = Evidence::from_json(&answer.evidence)?;
    let verified = verify(&evidence, anchors, at)?;
    let appraised = appraise(verified, policy, demand)?;
    let manifest = manifest(answer)?;
    Ok(ProvenConnection { appraised, manifest })
}

/// The manifest of an answer. That the proof covers it is for [`judge`] to say.
///
/// # Errors
///
/// [`ConnectionError::Manifest`].
pub fn manifest(answer: &VerifyAnswer) -> Result<Manifest, ConnectionError> {
    let manifest: Manifest =
        serde_json::from_slice(&answer.manifest).map_err(|_| ConnectionError::Manifest)?;
    let is_ours = manifest.v == 1 && manifest.service == SERVICE;
    if is_ours && manifest.config.len() <= MAX_ROLES {
        Ok(manifest)
    } else {
        Err(ConnectionError::Manifest)
    }
}

/// What a report must say to prove this connection, and what came with it in the owner's name.
///
/// # Errors
///
/// Every [`ConnectionError`] but `Evidence`, `Manifest` and `Rejected`.
pub fn demand(answer: &VerifyAnswer, observed: &Observed) -> Result<Demand, ConnectionError> {
    if answer.v != 1 {
        return Err(ConnectionError::Version(answer.v));
    }
    let certificate = Certificate::from_der(&observed.certificate)?;
    let spki = certificate.spki()?;
    let inclusion = Inclusion::try_from(&answer.merkle)?;
    let manifest_sha256 = sha256(&answer.manifest);
    let binding = Binding::TlsChannel {
        nonce: observed.nonce,
        exporter: observed.exporter,
        spki_sha256: sha256(&spki),
        certificate_sha256: sha256(&observed.certificate),
        manifest_sha256,
    };
    let mut demand = Demand::of(&binding, &inclusion).ok_or(NotAnInclusion)?;
    let signature = answer.owner.clone();
    demand.owner = signature.map(|signature| OwnerStatement { signature, manifest_sha256 });
    Ok(demand)
}
