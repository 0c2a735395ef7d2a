//! What a relying party expects of a vTPM's quote and of the certificate of the key that signed it.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::{Expect, Hex};

/// What a vTPM's quote must say.
#[derive(Clone, Debug)]
pub struct VtpmExpectations {
    /// The nonce that was sent. An empty one is met by nothing.
    pub nonce: Expect<Vec<u8>>,
    /// The registers that the quote must cover, no more and no fewer. The empty set is met by nothing.
    pub registers: Expect<BTreeSet<u8>>,
    /// Values that registers may have. A register that stands here must be quoted; an empty list accepts
    /// nobody.
    pub values: Expect<BTreeMap<u8, Vec<Hex<32>>>>,
    /// Whether the attestation key needs a certificate of Azure.
    pub ak_certificate: Expect<AkCertificate>,
}

/// What the attestation key's certificate must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AkCertificate {
    /// Of the same key, valid, and issued below a root that the anchors believe.
    Believed,
}
