//! What a relying party may demand of the machine that the guest runs on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::expect::{Expect, Hex, Never};
use crate::report::{Firmware, PlatformFlag};

/// Properties of the platform (PLATFORM_INFO). Bits that nobody here knows are tolerated and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Platform {
    /// Properties that it must have. Default: the firmware looked for aliased memory.
    pub required: BTreeSet<PlatformFlag>,
    /// Properties that it may have too; any other that is known refuses. Default all.
    pub allowed: BTreeSet<PlatformFlag>,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            required: [PlatformFlag::AliasCheckComplete].into(),
            allowed: PlatformFlag::ALL.into(),
        }
    }
}

/// The SNP firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FirmwareRules {
    /// The oldest version that may be committed.
    pub minimum: Expect<Firmware>,
    /// Firmware on trial: it runs, but is not committed, and the host can go back behind it.
    pub provisional: Expect<Never>,
}

impl Default for FirmwareRules {
    fn default() -> Self {
        Self {
            minimum: Expect::unchecked(
                "the policy names none; the minimum TCB covers the firmware",
            ),
            provisional: Expect::Value(Never::Forbidden),
        }
    }
}

/// Which machine, and which launch on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// Chips, one of which must be the guest's: CHIP_ID, 128 hexadecimal digits each. On Azure the platform
    /// chooses the machine.
    pub chip_id: Expect<Vec<Hex<64>>>,
    /// Launches, one of which must be the guest's: REPORT_ID, 64 hexadecimal digits each.
    pub report_id: Expect<Vec<Hex<32>>>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            chip_id: Expect::unchecked("the policy names no machines: any genuine one will do"),
            report_id: Expect::unchecked("the policy names no launches: any will do"),
        }
    }
}
