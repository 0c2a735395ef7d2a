//! What a relying party demands of the utility VM's endorsement.

use serde::{Deserialize, Serialize};

use crate::uvm;

/// Which endorsements of the utility VM are acceptable, among those that the verifier's anchors believe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndorsementPolicy {
    /// Issuers (did:x509), one of which must be the endorsement's; `None`: any that the anchors believe. It narrows
    /// those, and adds none. An empty list accepts nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuers: Option<Vec<String>>,
    /// The kind of image.
    pub feed: String,
    /// The lowest security version. Leaves live for a year and are judged at the time of signing: nothing else
    /// stops an old endorsement.
    pub minimum_svn: u64,
}

impl Default for EndorsementPolicy {
    fn default() -> Self {
        Self { issuers: None, feed: uvm::FEED.to_owned(), minimum_svn: uvm::MINIMUM_SVN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Expect, Policy};

    fn endorsement(json: &str) -> Option<Expect<EndorsementPolicy>> {
        let comma = if json.is_empty() { "" } else { "," };
        let text = format!(r#"{{"host_data":[]{comma}{json}}}"#);
        serde_json::from_str::<Policy>(&text).ok().map(|policy| policy.endorsement)
    }

    #[test]
    fn a_policy_that_says_nothing_wants_an_endorsement() {
        let strict = EndorsementPolicy::default();
        assert_eq!((strict.feed.as_str(), strict.minimum_svn), ("ContainerPlat-AMD-UVM", 100));
        assert_eq!(endorsement(""), Some(Expect::Value(strict.clone())));
        assert_eq!(endorsement(r#""endorsement":{}"#), Some(Expect::Value(strict.clone())));
        let older = EndorsementPolicy { minimum_svn: 22, ..strict };
        assert_eq!(endorsement(r#""endorsement":{"minimum_svn":22}"#), Some(Expect::Value(older)));
    }

    #[test]
    fn loosening_it_needs_a_reason_and_a_known_name() {
        let loose = r#""endorsement":{"unchecked":"a laptop"}"#;
        assert_eq!(endorsement(loose), Some(Expect::unchecked("a laptop")));
        for wrong in [
            r#""endorsement":{"unchecked":" "}"#,
            r#""endorsement":{"unchecked":"why","feed":"x"}"#,
            r#""endorsement":{"minimum-svn":1}"#,
            r#""endorsement":{"minimum_svn":-1}"#,
            r#""endorsement":{"minimum_svn":1.0}"#,
            r#""endorsement":{"minimum_svn":"100"}"#,
            r#""endorsement":null"#,
        ] {
            assert_eq!(endorsement(wrong), None, "{wrong}");
        }
    }
}
