//! The guest messages MSG_REPORT_REQ and MSG_REPORT_RSP (SEV-SNP Firmware ABI, section 8.7).
//!
//! Must not know: how they travel.

use crate::report::REPORT_LEN;

/// Length of MSG_REPORT_REQ.
pub const REQUEST_LEN: usize = 96;
/// Length of the answer: MSG_REPORT_RSP and the padding that guests reserve for it.
pub const RESPONSE_LEN: usize = 1280;
/// Where the report begins in the answer.
pub const REPORT_OFFSET: usize = 32;
/// Firmware status: a parameter is invalid.
pub const INVALID_PARAM: u32 = 0x16;

/// The highest privilege level number there is.
const MAX_VMPL: u32 = 3;

/// A well-formed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What the report shall carry.
    pub report_data: [u8; 64],
    /// The privilege level that the report shall name.
    pub vmpl: u32,
}

impl Request {
    /// Reads a request. `None` stands for [`INVALID_PARAM`]: a privilege level above 3, or a
    /// reserved byte that is not zero.
    #[must_use]
    pub fn parse(bytes: &[u8; REQUEST_LEN]) -> Option<Self> {
        let (report_data, rest) = bytes.split_first_chunk::<64>()?;
        let (vmpl, reserved) = rest.split_first_chunk::<4>()?;
        let vmpl = u32::from_le_bytes(*vmpl);
        if vmpl > MAX_VMPL || reserved.iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(Self { report_data: *report_data, vmpl })
    }
}

/// An answer with a report.
#[must_use]
pub fn success(report: &[u8; REPORT_LEN]) -> [u8; RESPONSE_LEN] {
    let mut response = [0; RESPONSE_LEN];
    let size = u32::try_from(REPORT_LEN).unwrap_or(u32::MAX).to_le_bytes();
    let fields = response.iter_mut().skip(4).zip(size);
    fields.for_each(|(to, from)| *to = from);
    let fields = response.iter_mut().skip(REPORT_OFFSET).zip(report);
    fields.for_each(|(to, from)| *to = *from);
    response
}

/// An answer with a status other than success, and no report.
#[must_use]
pub fn failure(status: u32) -> [u8; RESPONSE_LEN] {
    let mut response = [0; RESPONSE_LEN];
    response.iter_mut().zip(status.to_le_bytes()).for_each(|(to, from)| *to = from);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_with_a_high_vmpl_or_a_reserved_byte_are_invalid() {
        let mut bytes = [0; REQUEST_LEN];
        bytes[0] = 7;
        bytes[64] = 3;
        let request = Request::parse(&bytes).unwrap();
        assert_eq!((request.report_data[0], request.vmpl), (7, 3));
        for position in [64, 65, 68, 95] {
            let mut bad = bytes;
            bad[position] = 4;
            assert_eq!(Request::parse(&bad), None, "{position}");
        }
    }

    #[test]
    fn answers_have_status_size_and_report_where_the_abi_says() {
        let response = success(&[9; REPORT_LEN]);
        assert_eq!(response[..8], [0, 0, 0, 0, 0xa0, 0x04, 0, 0]);
        assert!(response[8..32].iter().all(|byte| *byte == 0));
        assert!(response[32..1216].iter().all(|byte| *byte == 9));
        assert!(response[1216..].iter().all(|byte| *byte == 0));
        let response = failure(INVALID_PARAM);
        assert_eq!(response[..8], [0x16, 0, 0, 0, 0, 0, 0, 0]);
    }
}
