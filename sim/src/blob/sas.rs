//! Shared access signatures of a container (REST reference, "Create a service SAS", string-to-sign of version 2020-12-06 and
//! later), to read it.
//!
//! Must not know: which blobs there are.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::ACCOUNT;

/// The version of the signatures.
const VERSION: &str = "2022-11-02";

/// A signature's query, good until `expiry` (ISO 8601, UTC), for permissions such as `rl`.
#[must_use]
pub fn issue(key: &[u8; 32], container: &str, permissions: &str, expiry: &str) -> String {
    let signature = sign(key, container, permissions, expiry, "");
    let encoded = [permissions, expiry, &signature]
        .map(|value| value.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"));
    let [permissions, expiry, signature] = encoded;
    format!("sv={VERSION}&sr=c&sp={permissions}&se={expiry}&sig={signature}")
}

/// Why a query allows nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSigned {
    /// The signature is not the account's, or its time is over.
    Authentication,
    /// It is for something else.
    Permission,
}

/// Whether a query allows what takes this permission, at a time in ISO 8601.
pub(super) fn verify(
    key: &[u8; 32],
    container: &str,
    query: &BTreeMap<String, String>,
    permission: char,
    now: &str,
) -> Result<(), NotSigned> {
    let value = |name: &str| query.get(name).map_or("", String::as_str);
    let expected = sign(key, container, value("sp"), value("se"), value("st"));
    let is_container = value("sv") == VERSION && value("sr") == "c";
    if !is_container || value("sig") != expected || value("se") < now || value("st") > now {
        return Err(NotSigned::Authentication);
    }
    if value("sp").contains(permission) { Ok(()) } else { Err(NotSigned::Permission) }
}

fn sign(key: &[u8; 32], container: &str, sp: &str, se: &str, st: &str) -> String {
    let resource = format!("/blob/{ACCOUNT}/{container}");
    // permissions, start, expiry, resource, identifier, address, protocol, version, kind of resource, snapshot, scope of
    // encryption, and five headers of the answer
    let lines = [sp, st, se, &resource, "", "", "", VERSION, "c", "", "", "", "", "", "", ""];
    STANDARD.encode(hmac(key, lines.join("\n").as_bytes()))
}

/// HMAC-SHA-256 (RFC 2104) with a key that is shorter than a block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_the_standards() {
        // RFC 4231, test case 2
        assert_eq!(
            hex::encode(hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_signature_is_good_for_what_it_says() {
        let (key, expiry) = ([7; 32], "2026-11-24T00:00:00Z");
        let query = issue(&key, "logs", "rl", expiry).replace("%2B", "+");
        let query = query.replace("%2F", "/").replace("%3D", "=");
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let now = "2026-11-23T00:00:00Z";
        assert_eq!(verify(&key, "logs", &query, 'r', now), Ok(()));
        assert_eq!(verify(&key, "logs", &query, 'w', now), Err(NotSigned::Permission));
        let refused = Err(NotSigned::Authentication);
        assert_eq!(verify(&key, "other", &query, 'r', now), refused);
        assert_eq!(verify(&[8; 32], "logs", &query, 'r', now), refused);
        assert_eq!(verify(&key, "logs", &query, 'r', "2026-11-25T00:00:00Z"), refused);
        let mut more = query;
        more.insert("sp".to_owned(), "rlw".to_owned());
        assert_eq!(verify(&key, "logs", &more, 'w', now), refused);
    }
}
