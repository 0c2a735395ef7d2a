//! What a report can say: the 64 bytes of `REPORT_DATA` for each purpose (`wire.md` part 1).
//!
//! There are three shapes. The certificate and the batch shape are SHA-512 digests and fill all 64 bytes; the
//! MAA shape is a SHA-256 digest followed by 32 zero bytes. None can be mistaken for another: that would need
//! a SHA-512 digest that ends in 32 zero bytes, or equal digests of messages with different labels.

use crate::crypto::{sha256, sha512};
use crate::lp::Message;
use crate::merkle;

/// Content of `REPORT_DATA`.
pub type ReportData = [u8; 64];

/// A statement about something fresh. Waiting bindings share one report as the leaves of a Merkle tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// One TLS 1.3 connection, as its server sees it.
    TlsChannel {
        /// Chosen by the client.
        nonce: [u8; 32],
        /// RFC 9266 `tls-exporter` of this connection.
        exporter: [u8; 32],
        /// SHA-256 of the leaf's SubjectPublicKeyInfo (DER).
        spki_sha256: [u8; 32],
        /// SHA-256 of the leaf certificate (DER).
        certificate_sha256: [u8; 32],
        /// SHA-256 of the manifest's exact bytes.
        manifest_sha256: [u8; 32],
    },
    /// One TLS 1.3 connection, as its attested client sees it.
    ClientChannel {
        /// Chosen by the server.
        nonce: [u8; 32],
        /// RFC 9266 `tls-exporter` of this connection.
        exporter: [u8; 32],
        /// SHA-256 of the server leaf's SubjectPublicKeyInfo (DER).
        server_spki_sha256: [u8; 32],
        /// SHA-256 of the API key's id.
        key_id_sha256: [u8; 32],
    },
    /// The key that signs one boot's log records.
    LogKey {
        /// SubjectPublicKeyInfo (DER).
        public_key: Vec<u8>,
        /// The boot's 16 bytes.
        boot_id: [u8; 16],
        /// SHA-256 of the recipient list.
        recipients_sha256: [u8; 32],
    },
}

impl Binding {
    /// The leaf's bytes, before the tree hashes them.
    #[must_use]
    pub fn leaf(&self) -> Vec<u8> {
        let message = match self {
            Self::TlsChannel {
                nonce,
                exporter,
                spki_sha256,
                certificate_sha256,
                manifest_sha256,
            } => Message::new("tls-channel")
                .field(nonce)
                .field(exporter)
                .field(spki_sha256)
                .field(certificate_sha256)
                .field(manifest_sha256),
            Self::ClientChannel { nonce, exporter, server_spki_sha256, key_id_sha256 } => {
                Message::new("client-channel")
                    .field(nonce)
                    .field(exporter)
                    .field(server_spki_sha256)
                    .field(key_id_sha256)
            }
            Self::LogKey { public_key, boot_id, recipients_sha256 } => {
                Message::new("log-key").field(public_key).field(boot_id).field(recipients_sha256)
            }
        };
        message.into_bytes()
    }

    /// The `REPORT_DATA` of a report that covers this binding at that place of a batch.
    #[must_use]
    pub fn report_data(&self, inclusion: &merkle::Inclusion) -> Option<ReportData> {
        inclusion.root(&self.leaf()).map(|root| batch(&root))
    }
}

/// The batch shape: a report over the root of the tree of all bindings that waited.
#[must_use]
pub fn batch(root: &merkle::Hash) -> ReportData {
    sha512(&Message::new("batch").field(root).into_bytes())
}

/// The certificate shape: a report for a TLS certificate's extension. Says nothing about a connection.
/// `not_after` is in Unix seconds.
#[must_use]
pub fn tls_certificate(spki_sha256: &[u8; 32], not_after: u64) -> ReportData {
    sha512(
        &Message::new("tls-certificate")
            .field(spki_sha256)
            .field(&not_after.to_be_bytes())
            .into_bytes(),
    )
}

/// The shape of Microsoft Azure Attestation: SHA-256 of the runtime data, then 32 zero bytes.
#[must_use]
pub fn maa(runtime_data: &[u8]) -> ReportData {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&sha256(runtime_data));
    out
}

/// What the owner's key signs: the evidence's `REPORT_DATA` and the manifest's SHA-256.
#[must_use]
pub fn owner_message(report_data: &ReportData, manifest_sha256: &[u8; 32]) -> Vec<u8> {
    Message::new("owner").raw(report_data).field(manifest_sha256).into_bytes()
}
