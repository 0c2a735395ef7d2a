//! `/dev/sev-guest`, through the `sev` crate.

use sev::firmware::guest::Firmware;

use super::{Device, DeviceError, RawReport, SEV_GUEST};

/// The driver. Opened for each report and closed after it: a report takes milliseconds, opening microseconds.
pub(super) struct SevGuest;

impl Device for SevGuest {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<RawReport, DeviceError> {
        let open = |source| DeviceError::Open { path: SEV_GUEST.into(), source };
        let mut firmware = Firmware::open().map_err(open)?;
        let report = firmware
            .get_report(None, Some(*report_data), Some(0))
            .map_err(|error| DeviceError::Firmware(error.into()))?;
        let length = u32::try_from(report.len()).unwrap_or(u32::MAX);
        report.try_into().map_err(|_| DeviceError::Length(length))
    }
}
