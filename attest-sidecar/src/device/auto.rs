//! Whichever device this machine has. A driver may be loaded after this role has started, so that a machine without one
//! is looked at again for each report; until then there is none, and nothing stands in for it.

use std::path::Path;

use super::{Device, DeviceError, RawReport, SEV, SEV_GUEST, TSM, kernel5, sev_guest, tsm};

/// Looks for a device.
type Look = Box<dyn Fn() -> Option<Box<dyn Device>> + Send>;

/// The device once it is found.
pub(super) struct Auto {
    look: Look,
    found: Option<Box<dyn Device>>,
}

impl Auto {
    /// `/dev/sev-guest` if it is there, else `/dev/sev`, else configfs-tsm.
    pub(super) fn new() -> Self {
        Self::looking(Box::new(look))
    }

    fn looking(look: Look) -> Self {
        Self { look, found: None }
    }
}

impl Device for Auto {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<RawReport, DeviceError> {
        let mut device = self.found.take().or_else(&self.look).ok_or(DeviceError::Missing)?;
        let report = device.report(report_data);
        self.found = Some(device);
        report
    }
}

fn look() -> Option<Box<dyn Device>> {
    let there = |path: &str| Path::new(path).exists();
    if there(SEV_GUEST) {
        Some(Box::new(sev_guest::SevGuest))
    } else if there(SEV) {
        Some(Box::new(kernel5::Kernel5))
    } else if there(TSM) {
        Some(Box::new(tsm::Tsm::new(TSM.into(), tsm::Kernel)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::device::REPORT;

    struct Good;

    impl Device for Good {
        fn report(&mut self, _: &[u8; 64]) -> Result<RawReport, DeviceError> {
            Ok(Box::new([7; REPORT]))
        }
    }

    #[test]
    fn a_device_that_appears_later_is_found_and_nothing_stands_in_for_it() {
        let looked = Arc::new(AtomicUsize::new(0));
        let looks = looked.clone();
        let mut auto = Auto::looking(Box::new(move || {
            let appeared = looks.fetch_add(1, Ordering::Relaxed) >= 2;
            appeared.then(|| Box::new(Good) as Box<dyn Device>)
        }));
        for _ in 0..2 {
            assert!(matches!(auto.report(&[0; 64]), Err(DeviceError::Missing)));
        }
        assert_eq!(*auto.report(&[0; 64]).unwrap(), [7; REPORT]);
        assert_eq!(*auto.report(&[0; 64]).unwrap(), [7; REPORT]);
        assert_eq!(looked.load(Ordering::Relaxed), 3, "what is found is kept");
    }
}
