//! `/.well-known/openid-configuration` of an attestation service.
//!
//! Must not know: keys or evidence.

use serde_json::{Value, json};

/// The document (OpenID Connect Discovery 1.0 section 3), with the members that Azure gives.
pub(super) fn openid_configuration(issuer: &str) -> Value {
    json!({
        "response_types_supported": ["token", "none"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "revocation_endpoint": format!("{issuer}/revoke"),
        "jwks_uri": format!("{issuer}/certs"),
        "claims_supported": [
            "exp",
            "iat",
            "iss",
            "jti",
            "nbf",
            "nonce",
            "x-ms-attestation-type",
            "x-ms-compliance-status",
            "x-ms-inittime",
            "x-ms-policy-hash",
            "x-ms-runtime",
            "x-ms-sevsnpvm-authorkeydigest",
            "x-ms-sevsnpvm-bootloader-svn",
            "x-ms-sevsnpvm-familyId",
            "x-ms-sevsnpvm-guestsvn",
            "x-ms-sevsnpvm-hostdata",
            "x-ms-sevsnpvm-idkeydigest",
            "x-ms-sevsnpvm-imageId",
            "x-ms-sevsnpvm-is-debuggable",
            "x-ms-sevsnpvm-launchmeasurement",
            "x-ms-sevsnpvm-microcode-svn",
            "x-ms-sevsnpvm-migration-allowed",
            "x-ms-sevsnpvm-reportdata",
            "x-ms-sevsnpvm-reportid",
            "x-ms-sevsnpvm-smt-allowed",
            "x-ms-sevsnpvm-snpfw-svn",
            "x-ms-sevsnpvm-tee-svn",
            "x-ms-sevsnpvm-uvm-endorsement",
            "x-ms-sevsnpvm-uvm-endorsement-headers",
            "x-ms-sevsnpvm-vmpl",
            "x-ms-ver",
        ],
        "issuer": issuer,
    })
}
