//! Which runtime data a token request is about.

use attestation::runtime_data;
use proto::attest::token_request::Runtime;

use crate::error::{Malformed, array};

/// The longest runtime data of a caller's own. An attestation instance takes more; nobody sends more.
const MAX_LENGTH: usize = 64 * 1024;

/// The exact bytes whose SHA-256 the report will hold.
pub(crate) fn of(runtime: Option<Runtime>) -> Result<Vec<u8>, Malformed> {
    match runtime {
        None => Err(Malformed("runtime")),
        Some(Runtime::Certificate(fields)) => Ok(runtime_data::certificate(
            &array(&fields.spki_sha256, "spki_sha256")?,
            &array(&fields.manifest_sha256, "manifest_sha256")?,
            fields.not_after,
        )),
        Some(Runtime::Channel(fields)) => Ok(runtime_data::channel(
            &array(&fields.nonce, "nonce")?,
            &array(&fields.exporter_sha256, "exporter_sha256")?,
            &array(&fields.manifest_sha256, "manifest_sha256")?,
        )),
        Some(Runtime::ReleaseKey(fields)) => {
            let bits = fields.modulus.len() * 8;
            let plausible = (2048..=4096).contains(&bits)
                && fields.modulus.first().is_some_and(|byte| *byte != 0)
                && (1..=8).contains(&fields.exponent.len());
            if !plausible {
                return Err(Malformed("modulus or exponent"));
            }
            Ok(runtime_data::release_key(&fields.modulus, &fields.exponent))
        }
        Some(Runtime::Compatible(bytes)) => compatible(bytes),
    }
}

/// A caller's own bytes, unless they could be taken for typed runtime data of ours: a token about those shall mean
/// that this role made them.
pub(crate) fn compatible(bytes: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    let document: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let ours = document.is_some_and(|document| document.get("manifest_sha256").is_some());
    if ours || bytes.len() > MAX_LENGTH { Err(Malformed("runtime data")) } else { Ok(bytes) }
}
