//! A relying party's reference values: what a guest must look like to be acceptable (RATS, RFC 9334).
//!
//! An expectation is never absent. It is a value, or it is `Unchecked` with a reason that every verdict shows.
//! The file form says so too: a field without a strict default must be there, and loosening one names it:
//!
//! ```toml
//! host_data = ["4f4448c67f3c8dfc8de8a5e37125d807dadcc41f06cf23f615dbd52eec777d10"]
//! minimum_tcb = { unchecked = "the fleet is being updated this week" }
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::product::Product;
use crate::tcb::Tcb;

/// A value that is expected, or why none is. In a file: the value, or `{ unchecked = "why" }` and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Expect<T> {
    /// Nobody looks, for a reason that every verdict shows.
    Unchecked {
        /// The reason. A file must give one.
        #[serde(rename = "unchecked", deserialize_with = "reason")]
        why: String,
    },
    /// It must be this.
    Value(T),
}

impl<T> Expect<T> {
    /// Nobody looks, because …
    #[must_use]
    pub fn unchecked(why: impl Into<String>) -> Self {
        Self::Unchecked { why: why.into() }
    }
}

fn reason<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let why = String::deserialize(from)?;
    if why.trim().is_empty() {
        return Err(serde::de::Error::custom("`unchecked` needs a reason"));
    }
    Ok(why)
}

/// Something that must not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Never {
    /// It must not be.
    #[default]
    Forbidden,
}

/// Bytes of a fixed length that stand as hexadecimal digits in a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Not that many hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0} hexadecimal digits")]
pub struct NotHex(usize);

impl<const N: usize> std::str::FromStr for Hex<N> {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        let mut out = [0; N];
        hex::decode_to_slice(text, &mut out).map_err(|_| NotHex(2 * N))?;
        Ok(Self(out))
    }
}

/// The lowest TCB a generation may report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimumTcb {
    /// FMC; Turin only.
    #[serde(default)]
    pub fmc: u8,
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl From<MinimumTcb> for Tcb {
    fn from(minimum: MinimumTcb) -> Self {
        let MinimumTcb { fmc, bootloader, tee, snp, microcode } = minimum;
        Self { fmc, bootloader, tee, snp, microcode }
    }
}

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
    /// What Azure has signed for container groups since it is a product.
    fn default() -> Self {
        Self { issuers: None, feed: "ContainerPlat-AMD-UVM".to_owned(), minimum_svn: 100 }
    }
}

/// What is acceptable. Strict where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// SHA-256 digests of enforcement policies, one of which HOST_DATA must be. An empty list accepts nobody.
    pub host_data: Expect<Vec<Hex<32>>>,
    /// Launch measurements, one of which must be the guest's. On Azure one belongs to each build of the
    /// utility VM; its endorsement says the same and outlives the build.
    #[serde(default = "measurement_by_endorsement")]
    pub measurement: Expect<Vec<Hex<48>>>,
    /// The lowest reported TCB by generation ("milan"). A generation without a row is refused.
    pub minimum_tcb: Expect<BTreeMap<Generation, MinimumTcb>>,
    /// The privilege level that the report must come from.
    #[serde(default = "level_zero")]
    pub vmpl: Expect<u32>,
    /// Guests whose memory the host may read.
    #[serde(default = "forbidden")]
    pub debug: Expect<Never>,
    /// Guests that may move to another machine with their migration agent.
    #[serde(default = "forbidden")]
    pub migration: Expect<Never>,
    /// Reports signed by a provider's key instead of the chip's own.
    #[serde(default = "forbidden")]
    pub vlek: Expect<Never>,
    /// The endorsement of the utility VM. Without a word about it, evidence must bring one.
    #[serde(default = "endorsed")]
    pub endorsement: Expect<EndorsementPolicy>,
}

fn measurement_by_endorsement() -> Expect<Vec<Hex<48>>> {
    Expect::unchecked("the policy names none; see U5, which compares it with the endorsement's")
}

fn endorsed() -> Expect<EndorsementPolicy> {
    Expect::Value(EndorsementPolicy::default())
}

fn level_zero() -> Expect<u32> {
    Expect::Value(0)
}

fn forbidden() -> Expect<Never> {
    Expect::Value(Never::Forbidden)
}

impl Policy {
    /// The strictest policy for groups with one of these enforcement policies.
    #[must_use]
    pub fn for_host_data(host_data: Expect<Vec<Hex<32>>>) -> Self {
        Self {
            host_data,
            measurement: measurement_by_endorsement(),
            minimum_tcb: Expect::unchecked("no minimum was given"),
            vmpl: level_zero(),
            debug: forbidden(),
            migration: forbidden(),
            vlek: forbidden(),
            endorsement: endorsed(),
        }
    }
}

/// A generation's name in a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Generation {
    /// See [`Product::Milan`].
    Milan,
    /// See [`Product::Genoa`].
    Genoa,
    /// See [`Product::Turin`].
    Turin,
}

impl From<Product> for Generation {
    fn from(product: Product) -> Self {
        match product {
            Product::Milan => Self::Milan,
            Product::Genoa => Self::Genoa,
            Product::Turin => Self::Turin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endorsement(json: &str) -> Option<Expect<EndorsementPolicy>> {
        let text = format!(
            r#"{{"host_data":[],"minimum_tcb":{{"unchecked":"a test"}}{}{json}}}"#,
            if json.is_empty() { "" } else { "," }
        );
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
