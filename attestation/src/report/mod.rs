//! The attestation report: 1184 raw bytes as the security processor signed them.
//!
//! Source: AMD SEV Secure Nested Paging Firmware ABI Specification (56860) revision 1.58, section
//! "Attestation", table "ATTESTATION_REPORT". Versions 2 to 5 share this layout; each one gives meaning to
//! bytes that its predecessor kept zero.
//!
//! Parsing is total: every 1184 bytes are a report here. Whether its values are acceptable is for the checks.

mod fields;

use std::ops::Range;

pub use fields::{
    Firmware, GuestFlag, GuestPolicy, KeyInfo, PlatformFlag, PlatformInfo, SigningKey,
};

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

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
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
        GuestPolicy(self.u64(0x08))
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

    /// What the platform says about itself.
    #[must_use]
    pub fn platform_info(&self) -> PlatformInfo {
        PlatformInfo(self.u64(0x40))
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

    /// The firmware that runs.
    #[must_use]
    pub fn current_firmware(&self) -> Firmware {
        Firmware::from_bytes(self.bytes(0x1e8))
    }

    /// The firmware that is committed: the platform cannot go back behind it.
    #[must_use]
    pub fn committed_firmware(&self) -> Firmware {
        Firmware::from_bytes(self.bytes(0x1ec))
    }

    /// The TCB at the guest's launch, raw.
    #[must_use]
    pub fn launch_tcb(&self) -> [u8; 8] {
        self.bytes(0x1f0)
    }

    /// Mitigations in force at the guest's launch and now, a bit each (LAUNCH_MIT_VECTOR, CURRENT_MIT_VECTOR);
    /// `None` before version 5, which does not state them.
    #[must_use]
    pub fn mitigations(&self) -> Option<(u64, u64)> {
        (self.version() >= 5).then(|| (self.u64(0x1f8), self.u64(0x200)))
    }

    /// The raw TCBs with their names in the specification.
    #[must_use]
    pub fn raw_tcbs(&self) -> [(&'static str, [u8; 8]); 4] {
        [
            ("REPORTED_TCB", self.reported_tcb()),
            ("COMMITTED_TCB", self.committed_tcb()),
            ("CURRENT_TCB", self.current_tcb()),
            ("LAUNCH_TCB", self.launch_tcb()),
        ]
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
