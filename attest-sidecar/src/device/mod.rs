//! The security processor, by whichever way this machine offers it. One file a way.
//!
//! Source: SEV-SNP ABI 1.58, MSG_REPORT_REQ and MSG_REPORT_RSP; the kernel's `sev-guest` driver.

mod auto;
mod kernel5;
mod sev_guest;
mod socket;
mod tsm;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The length of a report in bytes.
pub(crate) const REPORT: usize = attestation::report::LENGTH;

/// A raw report.
pub(crate) type RawReport = Box<[u8; REPORT]>;

const SEV_GUEST: &str = "/dev/sev-guest";
const SEV: &str = "/dev/sev";
const TSM: &str = "/sys/kernel/config/tsm/report";

/// Something that makes reports. Calls block for milliseconds and are made from one thread.
pub(crate) trait Device: Send {
    /// A report of privilege level 0 with these 64 bytes in it.
    fn report(&mut self, report_data: &[u8; 64]) -> Result<RawReport, DeviceError>;
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// This machine has no security processor to ask.
    #[error(
        "SEV guest driver is missing: none of {SEV_GUEST}, {SEV} and {TSM} is there. Run in a confidential container \
         group or VM, or name a simulated device in ATTEST_DEVICE"
    )]
    Missing,
    /// The device is not there or not ours.
    #[error("error opening SNP device {path}")]
    Open { path: PathBuf, source: std::io::Error },
    /// The call to it failed.
    #[error("ioctl failed")]
    Call(#[source] std::io::Error),
    /// The driver or the hypervisor refused.
    #[error("the firmware refused")]
    Firmware(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The processor answered with another status than success.
    #[error("fetching attestation report failed. status: {0}")]
    Status(u32),
    /// A file of configfs-tsm.
    #[error("configfs-tsm failed at {file}")]
    File { file: &'static str, source: std::io::Error },
    /// configfs-tsm speaks for another technology.
    #[error("configfs-tsm is provided by {0:?}, not by a driver of SEV-SNP")]
    Provider(String),
    /// The report may be about somebody else's data.
    #[error(
        "configfs-tsm counted {0} writes instead of two: one was lost, or another process wrote"
    )]
    Generation(u64),
    /// The processor answered with something that is no report.
    #[error("the answer holds a report of {0} bytes instead of {REPORT}")]
    Length(u32),
}

/// Which device to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `/dev/sev-guest` if it is there, else `/dev/sev`, else configfs-tsm.
    Auto,
    /// The driver of kernels from 5.19 on.
    SevGuest,
    /// The driver of Azure's kernels 5.x.
    Kernel5,
    /// configfs-tsm of kernels from 6.7 on.
    Tsm,
    /// A Unix socket that speaks guest messages.
    Socket(PathBuf),
}

/// Not the name of a device.
#[derive(Debug, thiserror::Error)]
#[error("must be auto, {SEV_GUEST}, {SEV}, {TSM} or socket:/absolute/path")]
pub(crate) struct NotADevice;

impl FromStr for Source {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        match (text, text.strip_prefix("socket:")) {
            ("auto", _) => Ok(Self::Auto),
            (SEV_GUEST, _) => Ok(Self::SevGuest),
            (SEV, _) => Ok(Self::Kernel5),
            (TSM, _) => Ok(Self::Tsm),
            (_, Some(path)) if path.starts_with('/') => Ok(Self::Socket(path.into())),
            _ => Err(NotADevice),
        }
    }
}

impl Source {
    /// The device itself. It is opened when it is first used, and again after every error.
    pub(crate) fn device(&self) -> Box<dyn Device> {
        match self {
            Self::Auto => Box::new(auto::Auto::new()),
            Self::SevGuest => Box::new(sev_guest::SevGuest),
            Self::Kernel5 => Box::new(kernel5::Kernel5),
            Self::Tsm => Box::new(tsm::Tsm::new(TSM.into(), tsm::Kernel)),
            Self::Socket(path) => Box::new(socket::Socket::new(path.clone())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::SevGuest => f.write_str(SEV_GUEST),
            Self::Kernel5 => f.write_str(SEV),
            Self::Tsm => f.write_str(TSM),
            Self::Socket(path) => write!(f, "socket:{}", path.display()),
        }
    }
}

/// MSG_REPORT_REQ: 64 bytes of report data, the privilege level, 28 reserved bytes.
pub(crate) fn report_request(report_data: &[u8; 64]) -> [u8; 96] {
    let mut request = [0; 96];
    let (data, _) = request.split_at_mut(64);
    data.copy_from_slice(report_data);
    request
}

/// MSG_REPORT_RSP: a status, a length, 24 reserved bytes, the report.
pub(crate) fn report_response(response: &[u8; 1280]) -> Result<RawReport, DeviceError> {
    let word = |at: usize| {
        let bytes = response.get(at..).and_then(|tail| tail.first_chunk());
        u32::from_le_bytes(*bytes.expect("an offset inside the response"))
    };
    let (status, length) = (word(0), word(4));
    if status != 0 {
        return Err(DeviceError::Status(status));
    }
    if usize::try_from(length) != Ok(REPORT) {
        return Err(DeviceError::Length(length));
    }
    let report = response.get(32..).and_then(|tail| tail.first_chunk());
    Ok(Box::new(*report.expect("the response is longer than its header and a report")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for name in ["auto", "/dev/sev-guest", "/dev/sev", TSM, "socket:/run/snp.sock"] {
            assert_eq!(name.parse::<Source>().unwrap().to_string(), name);
        }
        for bad in [
            "",
            "/dev/null",
            "socket:",
            "socket:snp.sock",
            "none",
            "/sys/kernel/config/tsm/report/mine",
        ] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_response_is_a_report_only_with_status_zero_and_the_right_length() {
        let mut response = [7; 1280];
        response[..4].copy_from_slice(&0_u32.to_le_bytes());
        response[4..8].copy_from_slice(&1184_u32.to_le_bytes());
        assert_eq!(*report_response(&response).unwrap(), [7; REPORT]);
        response[4..8].copy_from_slice(&1183_u32.to_le_bytes());
        assert!(matches!(report_response(&response), Err(DeviceError::Length(1183))));
        response[..4].copy_from_slice(&0x16_u32.to_le_bytes());
        assert!(matches!(report_response(&response), Err(DeviceError::Status(0x16))));
    }

    #[test]
    fn a_request_asks_for_level_zero() {
        let request = report_request(&[9; 64]);
        assert_eq!(request[..64], [9; 64]);
        assert_eq!(request[64..], [0; 32]);
    }
}
