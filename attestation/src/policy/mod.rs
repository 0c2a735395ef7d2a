//! A relying party's reference values: what a guest must look like to be acceptable (RATS, RFC 9334).
//!
//! An expectation is never absent. It is a value, or it is `Unchecked` with a reason that every verdict shows.
//! The file form (TOML or JSON) says so too: a field without a strict default must be there, and loosening one
//! names it:
//!
//! ```toml
//! host_data = ["4f4448c67f3c8dfc8de8a5e37125d807dadcc41f06cf23f615dbd52eec777d10"]
//! vmpl = { unchecked = "a paravisor asks for the reports" }
//!
//! [minimum_tcb.milan]
//! bootloader = 4
//! tee = 0
//! snp = 24
//! microcode = 219
//!
//! [guest_policy]
//! required = ["single-socket"]
//!
//! [firmware]
//! minimum = { major = 1, minor = 55, build = 29 }
//!
//! [revocation]
//! list = "required"
//! ```

mod endorsement;
mod expect;
mod guest;
mod platform;
mod revocation;
mod tcb;

use serde::{Deserialize, Serialize};

pub use crate::owner::OwnerKey;
pub use endorsement::EndorsementPolicy;
pub use expect::{Expect, Hex, Never, NotHex};
pub use guest::{AbiVersion, IdentityBlock, LaunchPolicy};
pub use platform::{FirmwareRules, Machine, Platform};
pub use revocation::{List, Revocation};
pub use tcb::{Generation, MinimumTcb, MinimumTcbs};

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
    /// The lowest TCB by generation ("milan"), reported and at launch. A generation without a row is refused.
    /// Default: what Azure's machines reported in February 2026, which is Milan 4, 0, 24, 219 and Genoa 10, 0,
    /// 23, 84.
    #[serde(default = "azure_tcbs")]
    pub minimum_tcb: Expect<MinimumTcbs>,
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
    /// The rest of the policy that the guest was launched with.
    #[serde(default = "strict")]
    pub guest_policy: Expect<LaunchPolicy>,
    /// The identity block that the guest was launched with.
    #[serde(default)]
    pub identity_block: IdentityBlock,
    /// Properties of the platform.
    #[serde(default = "strict")]
    pub platform: Expect<Platform>,
    /// The SNP firmware.
    #[serde(default)]
    pub firmware: FirmwareRules,
    /// Mitigations that must have been in force at launch and be so now: bits of AMD's mitigation vectors.
    /// Reports before version 5 state none, and are refused if one is demanded.
    #[serde(default = "no_mitigation")]
    pub minimum_mitigation: Expect<u64>,
    /// Which machine, and which launch on it.
    #[serde(default)]
    pub machine: Machine,
    /// The endorsement of the utility VM. Without a word about it, evidence must bring one.
    #[serde(default = "strict")]
    pub endorsement: Expect<EndorsementPolicy>,
    /// The key of the group's owner, which must have signed the proof of a connection: base64url of its
    /// SubjectPublicKeyInfo, as the manifest's `owner_key`.
    #[serde(default = "any_owner")]
    pub owner_key: Expect<OwnerKey>,
    /// AMD's revocation list.
    #[serde(default = "strict")]
    pub revocation: Expect<Revocation>,
}

fn measurement_by_endorsement() -> Expect<Vec<Hex<48>>> {
    Expect::unchecked("the policy names none; see U5, which compares it with the endorsement's")
}

fn azure_tcbs() -> Expect<MinimumTcbs> {
    Expect::Value(tcb::of_azure_in_february_2026())
}

fn any_owner() -> Expect<OwnerKey> {
    Expect::unchecked("the policy names no owner: the same group in other hands is not told apart")
}

fn level_zero() -> Expect<u32> {
    Expect::Value(0)
}

fn forbidden() -> Expect<Never> {
    Expect::Value(Never::Forbidden)
}

fn strict<T: Default>() -> Expect<T> {
    Expect::Value(T::default())
}

fn no_mitigation() -> Expect<u64> {
    Expect::unchecked("the policy demands none; the minimum TCB covers the known ones")
}

impl Policy {
    /// The strictest policy for groups with one of these enforcement policies.
    #[must_use]
    pub fn for_host_data(host_data: Expect<Vec<Hex<32>>>) -> Self {
        Self {
            host_data,
            measurement: measurement_by_endorsement(),
            minimum_tcb: azure_tcbs(),
            vmpl: level_zero(),
            debug: forbidden(),
            migration: forbidden(),
            vlek: forbidden(),
            guest_policy: strict(),
            identity_block: IdentityBlock::default(),
            platform: strict(),
            firmware: FirmwareRules::default(),
            minimum_mitigation: no_mitigation(),
            machine: Machine::default(),
            endorsement: strict(),
            owner_key: any_owner(),
            revocation: strict(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::GuestFlag;

    fn read(text: &str) -> Result<Policy, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_file_that_names_nothing_else_is_as_strict_as_the_built_in_policy() {
        let read = read(r#"{"host_data": []}"#).unwrap();
        assert_eq!(read, Policy::for_host_data(Expect::Value(vec![])));
        let again: Policy = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read, "what is written can be read");
    }

    #[test]
    fn the_built_in_minimum_has_a_row_for_what_was_recorded_and_no_other() {
        let Expect::Value(rows) = azure_tcbs() else { panic!("a value") };
        let levels = |of| rows.get(&of).map(|r| (r.fmc, r.bootloader, r.tee, r.snp, r.microcode));
        assert_eq!(levels(Generation::Milan), Some((0, 4, 0, 24, 219)));
        assert_eq!(levels(Generation::Genoa), Some((0, 10, 0, 23, 84)));
        assert_eq!(levels(Generation::Turin), None);
    }

    #[test]
    fn a_part_that_is_given_keeps_the_strict_defaults_of_its_rest() {
        let read = read(r#"{"host_data": [], "guest_policy": {"required": ["single-socket"]}}"#);
        let Expect::Value(demand) = read.unwrap().guest_policy else { panic!("a value") };
        assert_eq!(demand.required, [GuestFlag::SingleSocket].into());
        assert_eq!(demand.minimum_abi, AbiVersion { major: 0, minor: 31 });
        assert!(!demand.allowed.contains(&GuestFlag::Cxl));
    }

    #[test]
    fn what_is_misspelt_or_loosened_without_a_reason_is_refused() {
        for part in [
            r#""guest_policy": {"require": ["smt"]}"#,
            r#""guest_policy": {"required": ["debug"]}"#,
            r#""guest_policy": {"unchecked": ""}"#,
            r#""guest_policy": {"unchecked": "x", "required": []}"#,
            r#""platform": {"required": ["aliascheck"]}"#,
            r#""firmware": {"provisional": "allowed"}"#,
            r#""firmware": {"unchecked": "all of it"}"#,
            r#""identity_block": {"minimum_svn": -1}"#,
            r#""machine": {"chip_id": ["00"]}"#,
            r#""minimum_tcb": {"naples": {"bootloader": 0, "tee": 0, "snp": 0, "microcode": 0}}"#,
            r#""revocation": {"list": "sometimes"}"#,
            r#""minimum_mitigation": "all""#,
        ] {
            assert!(read(&format!("{{\"host_data\": [], {part}}}")).is_err(), "{part}");
        }
        let firmware =
            r#"{"host_data": [], "firmware": {"provisional": {"unchecked": "a trial"}}}"#;
        assert!(read(firmware).is_ok());
    }
}
