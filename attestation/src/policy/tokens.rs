//! What a relying party demands of tokens of Microsoft Azure Attestation.

use serde::{Deserialize, Serialize};

use super::expect::Expect;

/// Whose word counts, and under which rules of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenPolicy {
    /// URLs of issuers, exactly as they stand in `iss`. An empty list accepts nobody.
    pub issuers: Vec<String>,
    /// Digests of the attestation policies (`x-ms-policy-hash`) that the issuer may have applied. The owner of an
    /// instance can change its policy, and with it what a token means; so they must be named, or why not.
    pub policy_hashes: Expect<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn issuers_and_their_policies_must_both_be_named() {
        let read = |tokens: &str| {
            let text = format!(r#"{{"host_data": [], "tokens": {tokens}}}"#);
            serde_json::from_str::<Policy>(&text).map(|policy| policy.tokens)
        };
        let named = read(r#"{"issuers": ["https://a"], "policy_hashes": ["h"]}"#).unwrap();
        let Expect::Value(named) = named else { panic!("a value") };
        assert_eq!(named.issuers, ["https://a"]);
        assert!(read(r#"{"issuers": ["https://a"]}"#).is_err(), "a shared instance is named too");
        assert!(read(r#"{"policy_hashes": ["h"]}"#).is_err());
        assert!(read(r#"{"issuers": [], "policy_hashes": [], "keys": []}"#).is_err());
        assert!(read(r#"{"unchecked": "no token is asked for"}"#).is_ok());
    }
}
