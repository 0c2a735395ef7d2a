//! The JSON that tokens of Microsoft Azure Attestation are made about (`wire.md` parts 1 and 2). Its SHA-256
//! stands in the report, so its exact bytes matter: who makes it and who checks it call the same function.

use serde::Serialize;

use crate::crypto::sha256;
use crate::encoding::to_b64u;

/// About a TLS certificate: `{"spki_sha256","manifest_sha256","not_after"}`.
#[must_use]
pub fn certificate(spki_sha256: &[u8; 32], manifest_sha256: &[u8; 32], not_after: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Certificate {
        spki_sha256: String,
        manifest_sha256: String,
        not_after: u64,
    }
    json(&Certificate {
        spki_sha256: to_b64u(spki_sha256),
        manifest_sha256: to_b64u(manifest_sha256),
        not_after,
    })
}

/// About one connection: `{"nonce","exporter_sha256","manifest_sha256"}`.
#[must_use]
pub fn channel(
    nonce: &[u8; 32],
    exporter_sha256: &[u8; 32],
    manifest_sha256: &[u8; 32],
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Channel {
        nonce: String,
        exporter_sha256: String,
        manifest_sha256: String,
    }
    json(&Channel {
        nonce: to_b64u(nonce),
        exporter_sha256: to_b64u(exporter_sha256),
        manifest_sha256: to_b64u(manifest_sha256),
    })
}

/// About the RSA key that a vault shall wrap a released key for: `{"keys":[JWK]}`, the JWK's members in
/// alphabetical order, its `kid` the RFC 7638 thumbprint. Modulus and exponent are big-endian.
#[must_use]
pub fn release_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Keys {
        keys: [Key; 1],
    }
    #[derive(Serialize)]
    struct Key {
        e: String,
        key_ops: [&'static str; 1],
        kid: String,
        kty: &'static str,
        n: String,
    }
    let kid = rsa_thumbprint(modulus, exponent);
    json(&Keys {
        keys: [Key {
            e: to_b64u(exponent),
            key_ops: ["encrypt"],
            kid,
            kty: "RSA",
            n: to_b64u(modulus),
        }],
    })
}

/// RFC 7638 thumbprint (SHA-256) of an RSA key, in base64url.
#[must_use]
pub fn rsa_thumbprint(modulus: &[u8], exponent: &[u8]) -> String {
    let required =
        format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, to_b64u(exponent), to_b64u(modulus));
    to_b64u(&sha256(required.as_bytes()))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("text and numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::from_b64u;

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_7638() {
        // RFC 7638, section 3.1
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP\
                 ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY3\
                 68QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4\
                 lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let thumbprint = rsa_thumbprint(&from_b64u(n).unwrap(), &from_b64u("AQAB").unwrap());
        assert_eq!(thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn the_exact_bytes_are_fixed() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (a, b) = ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", [0; 32]);
        assert_eq!(
            text(certificate(&b, &b, 7)),
            format!(r#"{{"spki_sha256":"{a}","manifest_sha256":"{a}","not_after":7}}"#)
        );
        assert_eq!(
            text(channel(&b, &b, &b)),
            format!(r#"{{"nonce":"{a}","exporter_sha256":"{a}","manifest_sha256":"{a}"}}"#)
        );
        let keys = text(release_key(&[1, 2, 3], &[1, 0, 1]));
        assert!(
            keys.starts_with(r#"{"keys":[{"e":"AQAB","key_ops":["encrypt"],"kid":""#),
            "{keys}"
        );
        assert!(keys.ends_with(r#","kty":"RSA","n":"AQID"}]}"#), "{keys}");
    }
}
