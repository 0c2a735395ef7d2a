//! The other direction: from what a client in a TEE says about itself, and what a server knows of the connection by
//! itself, to a verdict about that client (`wire.md` part 1, `client-channel`).

use crate::anchors::Anchors;
use crate::appraise::{Appraised, appraise};
use crate::binding::Binding;
use crate::check::Rejected;
use crate::demand::Demand;
use crate::evidence::{Evidence, EvidenceError};
use crate::merkle::Inclusion;
use crate::policy::Policy;
use crate::verify::verify;
use crate::wire::{ClientProof, NotAnInclusion};

/// What the server knows of the connection by itself. Nothing of it came from the client's proof.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ObservedByServer {
    /// The nonce that it gave on this connection, for one proof.
    pub nonce: [u8; 32],
    /// RFC 9266 `tls-exporter` of the TLS 1.3 connection.
    pub exporter: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo (DER) that its handshake showed.
    pub server_spki_sha256: [u8; 32],
}

/// Why a client is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientProofError {
    /// The proof's form is of another version.
    #[error("the proof has version {0}, not 1")]
    Version(u8),
    /// The evidence cannot be read.
    #[error("the evidence cannot be read")]
    Evidence(#[from] EvidenceError),
    /// The inclusion proof cannot be read, or its parts do not fit together.
    #[error("the inclusion proof cannot be read")]
    Inclusion(#[from] NotAnInclusion),
    /// A check failed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// Judges one client: the evidence is authentic, its guest acceptable, and its report covers this server's nonce, this
/// connection, and the id of the API key that the proof is for.
///
/// # Errors
///
/// [`ClientProofError`].
pub fn judge_client(
    proof: &ClientProof,
    observed: &ObservedByServer,
    anchors: &Anchors,
    policy: &Policy,
    at: u64,
) -> Result<Appraised, ClientProofError> {
    if proof.v != 1 {
        return Err(ClientProofError::Version(proof.v));
    }
    let binding = Binding::ClientChannel {
        nonce: observed.nonce,
        exporter: observed.exporter,
        server_spki_sha256: observed.server_spki_sha256,
        key_id_sha256: proof.key_id_sha256,
    };
    let inclusion = Inclusion::try_from(&proof.merkle)?;
    let demand = Demand::of(&binding, &inclusion).ok_or(NotAnInclusion)?;
    let evidence = Evidence::from_json(&proof.evidence)?;
    Ok(appraise(verify(&evidence, anchors, at)?, policy, demand)?)
}
