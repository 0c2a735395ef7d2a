//! The parts of a report that are made of bits. Whether they are acceptable is for the checks.
//!
//! Source: 56860 revision 1.58, tables "Guest Policy", "PLATFORM_INFO" and "ATTESTATION_REPORT".

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// A version of the SNP firmware. The order is that of releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// Major version of its ABI.
    pub major: u8,
    /// Minor version of its ABI.
    pub minor: u8,
    /// Its build.
    pub build: u8,
}

impl Firmware {
    /// From BUILD, MINOR and MAJOR as they follow each other in the report.
    pub(super) fn from_bytes([build, minor, major]: [u8; 3]) -> Self {
        Self { major, minor, build }
    }
}

impl Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// A flag of the guest's policy, by its bit. Migration and debugging are not among them: nothing may allow
/// these in passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestFlag {
    /// Allows a platform with simultaneous multithreading.
    Smt = 16,
    /// Demands that one socket runs the guest.
    SingleSocket = 20,
    /// Allows memory behind CXL.
    Cxl = 21,
    /// Demands AES-256-XTS for memory.
    MemAes256Xts = 22,
    /// Demands that power consumption cannot be read (RAPL).
    RaplDisabled = 23,
    /// Demands that ciphertext in memory is hidden from the host.
    CiphertextHidingDram = 24,
    /// Demands that guest pages are not swapped.
    PageSwapDisabled = 25,
}

impl GuestFlag {
    /// Every one that the specification has.
    pub const ALL: [Self; 7] = [
        Self::Smt,
        Self::SingleSocket,
        Self::Cxl,
        Self::MemAes256Xts,
        Self::RaplDisabled,
        Self::CiphertextHidingDram,
        Self::PageSwapDisabled,
    ];
}

impl Display for GuestFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smt => "smt",
            Self::SingleSocket => "single-socket",
            Self::Cxl => "cxl",
            Self::MemAes256Xts => "mem-aes256-xts",
            Self::RaplDisabled => "rapl-disabled",
            Self::CiphertextHidingDram => "ciphertext-hiding-dram",
            Self::PageSwapDisabled => "page-swap-disabled",
        })
    }
}

/// A property of the platform, by its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlatformFlag {
    /// Simultaneous multithreading is on.
    Smt = 0,
    /// Transparent memory encryption is on.
    Tsme = 1,
    /// Memory has error correction.
    Ecc = 2,
    /// Power consumption cannot be read (RAPL).
    RaplDisabled = 3,
    /// Ciphertext in memory is hidden from the host.
    CiphertextHidingDram = 4,
    /// The firmware looked for aliased memory at start, and found none (AMD-SB-3015, "BadRAM").
    AliasCheckComplete = 5,
    /// SEV-TIO is on: devices may be trusted.
    Tio = 7,
}

impl PlatformFlag {
    /// Every one that we know.
    pub const ALL: [Self; 7] = [
        Self::Smt,
        Self::Tsme,
        Self::Ecc,
        Self::RaplDisabled,
        Self::CiphertextHidingDram,
        Self::AliasCheckComplete,
        Self::Tio,
    ];
}

impl Display for PlatformFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smt => "smt",
            Self::Tsme => "tsme",
            Self::Ecc => "ecc",
            Self::RaplDisabled => "rapl-disabled",
            Self::CiphertextHidingDram => "ciphertext-hiding-dram",
            Self::AliasCheckComplete => "alias-check-complete",
            Self::Tio => "tio",
        })
    }
}

/// PLATFORM_INFO of a report. Newer firmware sets bits that older specifications do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    /// Those of [`PlatformFlag`] that are set.
    pub fn flags(self) -> impl Iterator<Item = PlatformFlag> {
        PlatformFlag::ALL.into_iter().filter(move |flag| self.0 >> *flag as u32 & 1 == 1)
    }

    /// The bits that are none of them.
    #[must_use]
    pub fn unknown(self) -> u64 {
        PlatformFlag::ALL.into_iter().fold(self.0, |bits, flag| bits & !(1 << flag as u32))
    }
}

/// POLICY of a guest (table "Guest Policy").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Minimum ABI version (major, minor) that the guest asks for.
    #[must_use]
    pub fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    /// Bit 17, which must be one.
    #[must_use]
    pub fn reserved_one(self) -> bool {
        self.bit(17)
    }

    /// A migration agent may be associated: the guest can leave this machine.
    #[must_use]
    pub fn migration_allowed(self) -> bool {
        self.bit(18)
    }

    /// The host may read and write the guest's memory.
    #[must_use]
    pub fn debug_allowed(self) -> bool {
        self.bit(19)
    }

    /// Those of [`GuestFlag`] that are set.
    pub fn flags(self) -> impl Iterator<Item = GuestFlag> {
        GuestFlag::ALL.into_iter().filter(move |flag| self.bit(*flag as u32))
    }

    /// The bits from 26 on, which must be zero.
    #[must_use]
    pub fn reserved(self) -> u64 {
        self.0 & !0x3ff_ffff
    }
}

/// KEY_INFO of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo(pub u32);

/// Which key signed a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// The chip's own key.
    Vcek,
    /// A key that AMD gave to the cloud provider.
    Vlek,
    /// None, or one that this code does not know; the number is the field's.
    Other(u8),
}

impl KeyInfo {
    /// The digest of an author key is in the report.
    #[must_use]
    pub fn author_key_present(self) -> bool {
        self.0 & 1 == 1
    }

    /// The firmware masks CHIP_ID with zeros.
    #[must_use]
    pub fn chip_id_masked(self) -> bool {
        self.0 >> 1 & 1 == 1
    }

    /// Who signed.
    #[must_use]
    pub fn signing_key(self) -> SigningKey {
        match self.0 >> 2 & 0b111 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            other => SigningKey::Other(u8::try_from(other).expect("three bits")),
        }
    }

    /// The bits above those three fields, which must be zero.
    #[must_use]
    pub fn reserved(self) -> u32 {
        self.0 >> 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_specification_has_them() {
        let azure = GuestPolicy(0x3_001f);
        assert_eq!(azure.abi(), (0, 31));
        assert_eq!(azure.flags().collect::<Vec<_>>(), [GuestFlag::Smt]);
        assert!(azure.reserved_one() && azure.reserved() == 0);
        assert_eq!(GuestPolicy(0x3f2_0000).flags().collect::<Vec<_>>(), GuestFlag::ALL[1..]);
        assert_eq!(GuestPolicy(1 << 26).reserved(), 1 << 26);

        let turin = PlatformInfo(0x65);
        let named: Vec<String> = turin.flags().map(|flag| flag.to_string()).collect();
        assert_eq!(named, ["smt", "ecc", "alias-check-complete"]);
        assert_eq!(turin.unknown(), 0x40);
    }

    #[test]
    fn flags_have_one_name_in_files_and_verdicts() {
        for flag in GuestFlag::ALL {
            assert_eq!(serde_json::to_string(&flag).unwrap(), format!("\"{flag}\""));
        }
        for flag in PlatformFlag::ALL {
            assert_eq!(serde_json::to_string(&flag).unwrap(), format!("\"{flag}\""));
        }
    }

    #[test]
    fn versions_are_ordered_as_they_were_released() {
        let version = |major, minor, build| Firmware { major, minor, build };
        assert!(version(1, 55, 29) > version(1, 52, 40));
        assert!(version(1, 55, 40) > version(1, 55, 29));
        assert_eq!(Firmware::from_bytes([29, 55, 1]).to_string(), "1.55.29");
    }
}
