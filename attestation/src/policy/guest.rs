//! What a relying party may demand of the guest itself: its launch policy and its identity block.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::expect::{Expect, Hex};
use crate::report::GuestFlag;

/// Version of an ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiVersion {
    /// Major version.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
}

/// The policy that the guest was launched with (POLICY), beyond debugging and migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaunchPolicy {
    /// The guest asks for at least this ABI: it would not have started on older firmware. Default 0.31, as
    /// Azure's groups do.
    pub minimum_abi: AbiVersion,
    /// Flags that must be set. Default none.
    pub required: BTreeSet<GuestFlag>,
    /// Flags that may be set too; any other refuses. Default: multithreading, and whatever only demands more of
    /// the platform. Memory behind CXL must be allowed by name.
    pub allowed: BTreeSet<GuestFlag>,
}

impl Default for LaunchPolicy {
    fn default() -> Self {
        Self {
            minimum_abi: AbiVersion { major: 0, minor: 31 },
            required: BTreeSet::new(),
            allowed: GuestFlag::ALL.into_iter().filter(|flag| *flag != GuestFlag::Cxl).collect(),
        }
    }
}

/// The identity block that the guest was launched with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityBlock {
    /// The lowest GUEST_SVN.
    pub minimum_svn: Expect<u32>,
    /// FAMILY_IDs, one of which must be the guest's: 32 hexadecimal digits each.
    pub family_id: Expect<Vec<Hex<16>>>,
    /// IMAGE_IDs, likewise.
    pub image_id: Expect<Vec<Hex<16>>>,
    /// SHA-384 digests of keys, one of which signed the block: 96 hexadecimal digits each. Azure has a new one
    /// for every build of the utility VM.
    pub id_key: Expect<Vec<Hex<48>>>,
    /// SHA-384 digests of keys, one of which signed the identity key.
    pub author_key: Expect<Vec<Hex<48>>>,
}

impl Default for IdentityBlock {
    fn default() -> Self {
        const WHY: &str = "the policy names none; the UVM's endorsement stands for it";
        Self {
            minimum_svn: Expect::unchecked(WHY),
            family_id: Expect::unchecked(WHY),
            image_id: Expect::unchecked(WHY),
            id_key: Expect::unchecked(WHY),
            author_key: Expect::unchecked(WHY),
        }
    }
}
