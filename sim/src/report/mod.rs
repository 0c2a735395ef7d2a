//! SEV-SNP attestation reports: all fields of the ABI, as a plain struct.
//!
//! Must not know: devices, or what a service makes of a report. Source: SEV-SNP Firmware ABI
//! Specification (AMD publication 56860) revision 1.58, table ATTESTATION_REPORT. The struct
//! holds what is written, however senseless, so that tests can make any bad report there is.

mod layout;
mod sign;
mod verify;

pub use layout::{REPORT_LEN, SIGNED_LEN};
pub use sign::SignatureForm;
pub use verify::{ReportError, verify_signature};

use crate::tcb::{Product, Tcb};

/// Bits of [`Report::policy`].
pub mod policy {
    /// Simultaneous multithreading is allowed.
    pub const SMT: u64 = 1 << 16;
    /// Reserved, must be one.
    pub const RESERVED_ONE: u64 = 1 << 17;
    /// Association with a migration agent is allowed.
    pub const MIGRATE_MA: u64 = 1 << 18;
    /// Debugging is allowed: the host can read the guest.
    pub const DEBUG: u64 = 1 << 19;
    /// What Azure's confidential container groups run with: ABI 0.31, SMT, the reserved one.
    pub const ACI: u64 = 0x1f | SMT | RESERVED_ONE;
}

/// Bits and fields of [`Report::key_info`].
pub mod key_info {
    /// The author key digest is valid.
    pub const AUTHOR_KEY_EN: u32 = 1;
    /// The chip id is masked: CHIP_ID is zero and no VCEK is derived.
    pub const MASK_CHIP_KEY: u32 = 1 << 1;
    /// SIGNING_KEY: a VCEK signed.
    pub const VCEK: u32 = 0;
    /// SIGNING_KEY: a VLEK signed.
    pub const VLEK: u32 = 1 << 2;
    /// SIGNING_KEY: nothing signed.
    pub const NONE: u32 = 7 << 2;
}

/// Versions of the firmware itself: build, minor, major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmwareVersion {
    /// Build number.
    pub build: u8,
    /// Minor version of the ABI.
    pub minor: u8,
    /// Major version of the ABI.
    pub major: u8,
}

/// One report, unsigned. Integers are written little-endian, byte strings as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Version of the structure; 2, 3 and 5 are in the field.
    pub version: u32,
    /// Security version of the guest image, from its ID block.
    pub guest_svn: u32,
    /// Launch policy, see [`policy`].
    pub policy: u64,
    /// Family of the guest, from its ID block.
    pub family_id: [u8; 16],
    /// Image of the guest, from its ID block.
    pub image_id: [u8; 16],
    /// Privilege level that asked; 0 in ACI, 0xFFFFFFFF when the host asked.
    pub vmpl: u32,
    /// 1: ECDSA P-384 with SHA-384.
    pub signature_algo: u32,
    /// TCB version that runs.
    pub current_tcb: [u8; 8],
    /// Platform properties.
    pub platform_info: u64,
    /// Which key signed, see [`key_info`].
    pub key_info: u32,
    /// What the guest asked to be signed.
    pub report_data: [u8; 64],
    /// Launch digest of the guest.
    pub measurement: [u8; 48],
    /// What the host said at launch; in ACI the SHA-256 of the enforcement policy.
    pub host_data: [u8; 32],
    /// SHA-384 of the key that signed the ID block.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the key that signed the ID key.
    pub author_key_digest: [u8; 48],
    /// Identity of this launch.
    pub report_id: [u8; 32],
    /// Identity of the migration agent; all ones without.
    pub report_id_ma: [u8; 32],
    /// TCB version that the signing key was derived for.
    pub reported_tcb: [u8; 8],
    /// CPUID family, model and stepping; zero before version 3.
    pub cpuid: [u8; 3],
    /// The chip; Turin uses the first 8 bytes.
    pub chip_id: [u8; 64],
    /// TCB version that can no longer be undercut.
    pub committed_tcb: [u8; 8],
    /// Firmware that runs.
    pub current_firmware: FirmwareVersion,
    /// Firmware that is committed.
    pub committed_firmware: FirmwareVersion,
    /// TCB version when the guest was launched.
    pub launch_tcb: [u8; 8],
    /// Mitigations at launch; zero before version 5.
    pub launch_mit_vector: u64,
    /// Mitigations now; zero before version 5.
    pub current_mit_vector: u64,
}

impl Report {
    /// A report as Azure's confidential container groups get it, with everything that differs
    /// from group to group left zero.
    #[must_use]
    pub fn aci(product: Product, tcb: Tcb) -> Self {
        let tcb = tcb.to_bytes(product);
        let firmware = FirmwareVersion { build: 0x1d, minor: 0x37, major: 1 };
        Self {
            version: 3,
            guest_svn: 2,
            policy: policy::ACI,
            family_id: first_byte(1),
            image_id: first_byte(2),
            vmpl: 0,
            signature_algo: 1,
            current_tcb: tcb,
            platform_info: product.platform_info(),
            key_info: key_info::VCEK,
            report_data: [0; 64],
            measurement: [0; 48],
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [0; 32],
            report_id_ma: [0xff; 32],
            reported_tcb: tcb,
            cpuid: product.cpuid(),
            chip_id: [0; 64],
            committed_tcb: tcb,
            current_firmware: firmware,
            committed_firmware: firmware,
            launch_tcb: tcb,
            launch_mit_vector: 0,
            current_mit_vector: 0,
        }
    }

    /// Whether the launch policy has all the given bits.
    #[must_use]
    pub const fn policy_has(&self, bits: u64) -> bool {
        self.policy & bits == bits
    }
}

const fn first_byte(byte: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = byte;
    bytes
}
