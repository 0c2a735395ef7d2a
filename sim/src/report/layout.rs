//! Where each field of a report lies, and the two directions between struct and bytes.
//!
//! Must not know: signatures. Encoding writes whatever the struct holds; decoding is strict: the
//! exact length, a known version, and zero wherever the ABI says that a field must be zero.

use super::verify::ReportError;
use super::{FirmwareVersion, Report};

/// Length of a signed report.
pub const REPORT_LEN: usize = 1184;
/// Length of the part that is signed; the signature structure follows.
pub const SIGNED_LEN: usize = 0x2a0;

/// What the ABI lets a version carry. Version 4 has the layout of 3.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;

/// Bits 31:5 of the key information must be zero.
const KEY_INFO_BITS: u32 = 0x1f;

impl Report {
    /// The signed part of the report, 672 bytes.
    #[must_use]
    pub fn to_body(&self) -> [u8; SIGNED_LEN] {
        let mut body = [0; SIGNED_LEN];
        let mut writer = Writer { body: &mut body };
        writer.put(0x000, &self.version.to_le_bytes());
        writer.put(0x004, &self.guest_svn.to_le_bytes());
        writer.put(0x008, &self.policy.to_le_bytes());
        writer.put(0x010, &self.family_id);
        writer.put(0x020, &self.image_id);
        writer.put(0x030, &self.vmpl.to_le_bytes());
        writer.put(0x034, &self.signature_algo.to_le_bytes());
        writer.put(0x038, &self.current_tcb);
        writer.put(0x040, &self.platform_info.to_le_bytes());
        writer.put(0x048, &self.key_info.to_le_bytes());
        writer.put(0x050, &self.report_data);
        writer.put(0x090, &self.measurement);
        writer.put(0x0c0, &self.host_data);
        writer.put(0x0e0, &self.id_key_digest);
        writer.put(0x110, &self.author_key_digest);
        writer.put(0x140, &self.report_id);
        writer.put(0x160, &self.report_id_ma);
        writer.put(0x180, &self.reported_tcb);
        writer.put(0x188, &self.cpuid);
        writer.put(0x1a0, &self.chip_id);
        writer.put(0x1e0, &self.committed_tcb);
        writer.put(0x1e8, &self.current_firmware.to_bytes());
        writer.put(0x1ec, &self.committed_firmware.to_bytes());
        writer.put(0x1f0, &self.launch_tcb);
        writer.put(0x1f8, &self.launch_mit_vector.to_le_bytes());
        writer.put(0x200, &self.current_mit_vector.to_le_bytes());
        body
    }

    /// Reads a report of exactly [`REPORT_LEN`] bytes. The signature is not looked at: see
    /// [`super::verify_signature`].
    ///
    /// # Errors
    /// [`ReportError`] for a wrong length, an unknown version or a non-zero reserved field.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let bytes: &[u8; REPORT_LEN] =
            bytes.try_into().map_err(|_| ReportError::Length { actual: bytes.len() })?;
        let reader = Reader { bytes };
        let version = u32::from_le_bytes(reader.take(0x000));
        if !VERSIONS.contains(&version) {
            return Err(ReportError::Version { actual: version });
        }
        let report = Self {
            version,
            guest_svn: u32::from_le_bytes(reader.take(0x004)),
            policy: u64::from_le_bytes(reader.take(0x008)),
            family_id: reader.take(0x010),
            image_id: reader.take(0x020),
            vmpl: u32::from_le_bytes(reader.take(0x030)),
            signature_algo: u32::from_le_bytes(reader.take(0x034)),
            current_tcb: reader.take(0x038),
            platform_info: u64::from_le_bytes(reader.take(0x040)),
            key_info: u32::from_le_bytes(reader.take(0x048)),
            report_data: reader.take(0x050),
            measurement: reader.take(0x090),
            host_data: reader.take(0x0c0),
            id_key_digest: reader.take(0x0e0),
            author_key_digest: reader.take(0x110),
            report_id: reader.take(0x140),
            report_id_ma: reader.take(0x160),
            reported_tcb: reader.take(0x180),
            cpuid: reader.take(0x188),
            chip_id: reader.take(0x1a0),
            committed_tcb: reader.take(0x1e0),
            current_firmware: FirmwareVersion::from_bytes(reader.take(0x1e8)),
            committed_firmware: FirmwareVersion::from_bytes(reader.take(0x1ec)),
            launch_tcb: reader.take(0x1f0),
            launch_mit_vector: u64::from_le_bytes(reader.take(0x1f8)),
            current_mit_vector: u64::from_le_bytes(reader.take(0x200)),
        };
        report.check_reserved(&reader)?;
        Ok(report)
    }

    fn check_reserved(&self, reader: &Reader<'_>) -> Result<(), ReportError> {
        let zero =
            [(0x04c, 0x050), (0x18b, 0x1a0), (0x1eb, 0x1ec), (0x1ef, 0x1f0), (0x208, SIGNED_LEN)];
        for (from, to) in zero {
            reader.must_be_zero(from, to)?;
        }
        if self.version < 3 {
            reader.must_be_zero(0x188, 0x18b)?;
        }
        if self.version < 5 {
            reader.must_be_zero(0x1f8, 0x208)?;
        }
        if self.key_info & !KEY_INFO_BITS != 0 {
            return Err(ReportError::Reserved { offset: 0x048 });
        }
        Ok(())
    }
}

impl FirmwareVersion {
    const fn to_bytes(self) -> [u8; 4] {
        [self.build, self.minor, self.major, 0]
    }

    const fn from_bytes(bytes: [u8; 4]) -> Self {
        let [build, minor, major, _] = bytes;
        Self { build, minor, major }
    }
}

struct Writer<'a> {
    body: &'a mut [u8; SIGNED_LEN],
}

impl Writer<'_> {
    fn put(&mut self, offset: usize, field: &[u8]) {
        for (to, from) in self.body.iter_mut().skip(offset).zip(field) {
            *to = *from;
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8; REPORT_LEN],
}

impl Reader<'_> {
    fn take<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut field = [0; N];
        for (to, from) in field.iter_mut().zip(self.bytes.iter().skip(offset)) {
            *to = *from;
        }
        field
    }

    fn must_be_zero(&self, from: usize, to: usize) -> Result<(), ReportError> {
        match self.bytes.iter().take(to).skip(from).position(|byte| *byte != 0) {
            None => Ok(()),
            Some(position) => Err(ReportError::Reserved { offset: from + position }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcb::Product;

    /// Every field gets bytes of its own, so that two fields that overlap or change places are
    /// seen.
    #[test]
    fn every_field_survives_the_bytes() {
        let mut report = Report::aci(Product::Turin, Product::Turin.current_tcb());
        report.version = 5;
        report.guest_svn = 0x0102_0304;
        report.family_id = [0x11; 16];
        report.image_id = [0x12; 16];
        report.vmpl = 3;
        report.current_tcb = [0x13; 8];
        report.report_data = [0x14; 64];
        report.measurement = [0x15; 48];
        report.host_data = [0x16; 32];
        report.id_key_digest = [0x17; 48];
        report.author_key_digest = [0x18; 48];
        report.report_id = [0x19; 32];
        report.report_id_ma = [0x1a; 32];
        report.reported_tcb = [0x1b; 8];
        report.cpuid = [0x1c; 3];
        report.chip_id = [0x1d; 64];
        report.committed_tcb = [0x1e; 8];
        report.current_firmware = FirmwareVersion { build: 1, minor: 2, major: 3 };
        report.committed_firmware = FirmwareVersion { build: 4, minor: 5, major: 6 };
        report.launch_tcb = [0x1f; 8];
        report.launch_mit_vector = 0x2021_2223_2425_2627;
        report.current_mit_vector = 0x3031_3233_3435_3637;
        let mut bytes = [0; REPORT_LEN];
        bytes[..SIGNED_LEN].copy_from_slice(&report.to_body());
        assert_eq!(Report::parse(&bytes).unwrap(), report);
    }

    #[test]
    fn wrong_lengths_versions_and_reserved_bytes_are_refused() {
        let report = Report::aci(Product::Milan, Product::Milan.current_tcb());
        let mut bytes = [0; REPORT_LEN];
        bytes[..SIGNED_LEN].copy_from_slice(&report.to_body());
        assert!(Report::parse(&bytes).is_ok());
        assert_eq!(Report::parse(&bytes[1..]), Err(ReportError::Length { actual: 1183 }));
        for version in [0_u8, 1, 6] {
            let mut other = bytes;
            other[0] = version;
            assert_eq!(
                Report::parse(&other),
                Err(ReportError::Version { actual: u32::from(version) })
            );
        }
        for offset in [0x4c, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x1f8, 0x200, 0x208, 0x29f] {
            let mut other = bytes;
            other[offset] = 1;
            assert_eq!(Report::parse(&other), Err(ReportError::Reserved { offset }));
        }
    }
}
