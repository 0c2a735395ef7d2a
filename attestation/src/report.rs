//! The attestation report: 1184 raw bytes as the security processor signed them.
//!
//! Source: AMD SEV Secure Nested Paging Firmware ABI Specification (56860) revision 1.58, section
//! "Attestation", table "ATTESTATION_REPORT". Versions 2 to 5 share this layout; each one gives meaning to
//! bytes that its predecessor kept zero.
//!
//! Parsing is total: every 1184 bytes are a report here. Whether its values are acceptable is for the checks.

use std::ops::Range;

use crate::product::Product;
use crate::tcb::Tcb;

/// The length of a report in bytes.
pub const LENGTH: usize = 1184;

/// What the signature covers.
const SIGNED: Range<usize> = 0..0x2a0;

/// Bytes that must be zero in every version that we know, beyond those inside fields.
const RESERVED: [Range<usize>; 4] = [0x4c..0x50, 0x1eb..0x1ec, 0x1ef..0x1f0, 0x208..0x2a0];

/// Bytes that versions before 3 and before 5 keep zero.
const RESERVED_BEFORE_V3: Range<usize> = 0x188..0x1a0;
const RESERVED_FROM_V3: Range<usize> = 0x18b..0x1a0;
const RESERVED_BEFORE_V5: Range<usize> = 0x1f8..0x208;

/// A parsed report. It knows nothing about who signed it: see [`verify`](crate::verify).
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    raw: Box<[u8; LENGTH]>,
}

/// The bytes are no report: only their number is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a report has {LENGTH} bytes, this has {0}")]
pub struct WrongLength(pub usize);

impl Report {
    /// Takes exactly 1184 bytes.
    ///
    /// # Errors
    ///
    /// [`WrongLength`].
    pub fn parse(bytes: &[u8]) -> Result<Self, WrongLength> {
        let raw = bytes.try_into().map_err(|_| WrongLength(bytes.len()))?;
        Ok(Self { raw: Box::new(raw) })
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.raw
            .get(at..)
            .and_then(|tail| tail.first_chunk())
            .copied()
            .expect("offsets are constants of this file and lie inside the report")
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    /// All 1184 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.raw
    }

    /// VERSION of this structure.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.u32(0x00)
    }

    /// GUEST_SVN from the guest's identity block.
    #[must_use]
    pub fn guest_svn(&self) -> u32 {
        self.u32(0x04)
    }

    /// The policy that the guest was launched with.
    #[must_use]
    pub fn guest_policy(&self) -> GuestPolicy {
        GuestPolicy(u64::from_le_bytes(self.bytes(0x08)))
    }

    /// FAMILY_ID from the identity block.
    #[must_use]
    pub fn family_id(&self) -> [u8; 16] {
        self.bytes(0x10)
    }

    /// IMAGE_ID from the identity block.
    #[must_use]
    pub fn image_id(&self) -> [u8; 16] {
        self.bytes(0x20)
    }

    /// The privilege level that asked for the report; 0xFFFFFFFF if the host did.
    #[must_use]
    pub fn vmpl(&self) -> u32 {
        self.u32(0x30)
    }

    /// SIGNATURE_ALGO; 1 is ECDSA P-384 with SHA-384.
    #[must_use]
    pub fn signature_algorithm(&self) -> u32 {
        self.u32(0x34)
    }

    /// The platform's current TCB, raw.
    #[must_use]
    pub fn current_tcb(&self) -> [u8; 8] {
        self.bytes(0x38)
    }

    /// PLATFORM_INFO, raw. Newer firmware sets bits that older specifications do not know.
    #[must_use]
    pub fn platform_info(&self) -> u64 {
        u64::from_le_bytes(self.bytes(0x40))
    }

    /// KEY_INFO: which key signed, and whether CHIP_ID is masked.
    #[must_use]
    pub fn key_info(&self) -> KeyInfo {
        KeyInfo(self.u32(0x48))
    }

    /// The 64 bytes that the guest asked for.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        self.bytes(0x50)
    }

    /// Launch measurement.
    #[must_use]
    pub fn measurement(&self) -> [u8; 48] {
        self.bytes(0x90)
    }

    /// 32 bytes that the host gave at launch; in a confidential container group, SHA-256 of the enforcement
    /// policy.
    #[must_use]
    pub fn host_data(&self) -> [u8; 32] {
        self.bytes(0xc0)
    }

    /// SHA-384 of the key that signed the identity block.
    #[must_use]
    pub fn id_key_digest(&self) -> [u8; 48] {
        self.bytes(0xe0)
    }

    /// SHA-384 of the key that signed the identity key.
    #[must_use]
    pub fn author_key_digest(&self) -> [u8; 48] {
        self.bytes(0x110)
    }

    /// An id of this guest, new at every launch.
    #[must_use]
    pub fn report_id(&self) -> [u8; 32] {
        self.bytes(0x140)
    }

    /// The same of its migration agent; all ones without one.
    #[must_use]
    pub fn report_id_ma(&self) -> [u8; 32] {
        self.bytes(0x160)
    }

    /// The TCB that the signing key was derived for, raw.
    #[must_use]
    pub fn reported_tcb(&self) -> [u8; 8] {
        self.bytes(0x180)
    }

    /// Family, model and stepping; `None` before version 3, which does not state them.
    #[must_use]
    pub fn cpuid(&self) -> Option<(u8, u8, u8)> {
        let [family, model, stepping] = self.bytes(0x188);
        (self.version() >= 3).then_some((family, model, stepping))
    }

    /// The chip, or zeros if masked.
    #[must_use]
    pub fn chip_id(&self) -> [u8; 64] {
        self.bytes(0x1a0)
    }

    /// The lowest TCB that the platform can still be rolled back to, raw.
    #[must_use]
    pub fn committed_tcb(&self) -> [u8; 8] {
        self.bytes(0x1e0)
    }

    /// The TCB at the guest's launch, raw.
    #[must_use]
    pub fn launch_tcb(&self) -> [u8; 8] {
        self.bytes(0x1f0)
    }

    /// The four TCBs in the generation's layout: reported, committed, current, launch.
    #[must_use]
    pub fn tcbs(&self, product: Product) -> Tcbs {
        let tcb = |raw| Tcb::from_bytes(raw, product);
        Tcbs {
            reported: tcb(self.reported_tcb()),
            committed: tcb(self.committed_tcb()),
            current: tcb(self.current_tcb()),
            launch: tcb(self.launch_tcb()),
        }
    }

    /// The bytes that the signature covers.
    #[must_use]
    pub fn signed_bytes(&self) -> &[u8] {
        self.raw.get(SIGNED).expect("a constant range inside the report")
    }

    /// The signature as r ‖ s, 48 bytes each, big-endian.
    ///
    /// The report holds r and s as 72 bytes little-endian. `None` if the upper 24 bytes of one are not zero,
    /// or if what follows them, up to the report's end, is not.
    #[must_use]
    pub fn signature(&self) -> Option<[u8; 96]> {
        let r: [u8; 72] = self.bytes(0x2a0);
        let s: [u8; 72] = self.bytes(0x2e8);
        let rest: [u8; 368] = self.bytes(0x330);
        let (r, r_high) = r.split_at(48);
        let (s, s_high) = s.split_at(48);
        let padding = r_high.iter().chain(s_high).chain(&rest);
        if padding.copied().any(|byte| byte != 0) {
            return None;
        }
        let mut out = [0; 96];
        let big_endian = r.iter().rev().chain(s.iter().rev());
        for (to, from) in out.iter_mut().zip(big_endian) {
            *to = *from;
        }
        Some(out)
    }

    /// Offset of the first reserved byte of this version that is not zero.
    #[must_use]
    pub fn reserved_violation(&self) -> Option<usize> {
        let version = self.version();
        let cpuid = if version < 3 { RESERVED_BEFORE_V3 } else { RESERVED_FROM_V3 };
        let mitigations = if version < 5 { RESERVED_BEFORE_V5 } else { 0..0 };
        RESERVED
            .into_iter()
            .chain([cpuid, mitigations])
            .flatten()
            .find(|at| self.raw.get(*at).is_some_and(|byte| *byte != 0))
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// The TCBs of a report, in its generation's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcbs {
    /// The one that the signing key was derived for.
    pub reported: Tcb,
    /// The lowest one that the platform can still be rolled back to.
    pub committed: Tcb,
    /// The one that runs.
    pub current: Tcb,
    /// The one at the guest's launch.
    pub launch: Tcb,
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

    /// Simultaneous multithreading is allowed.
    #[must_use]
    pub fn smt_allowed(self) -> bool {
        self.bit(16)
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

    /// The guest may run on one socket only.
    #[must_use]
    pub fn single_socket(self) -> bool {
        self.bit(20)
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
