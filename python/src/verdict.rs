//! A refusal as one JSON document, with the members that `pmc verify --json` has.

use attestation::Rejected;
use client::Target;
use serde_json::json;

/// Of a connection whose proof was judged.
pub(crate) fn refused(target: &Target, rejected: &Rejected) -> String {
    let document = json!({
        "verdict": "refused",
        "endpoint": target.to_string(),
        "anchors": rejected.trust.to_string(),
        "checks": rejected.findings,
    });
    document.to_string()
}
