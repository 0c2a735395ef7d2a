//! The processor itself: one report at a time, each taking a while.
//!
//! Must not know: sockets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::message::{self, REQUEST_LEN, RESPONSE_LEN, Request};
use crate::faults::{DeviceFault, Switch};
use crate::machine::Machine;
use crate::pki::PkiError;
use crate::report::{Report, ReportError, SignatureForm};

/// Firmware status for an error inside the processor itself.
const HARDWARE_PLATFORM: u32 = 0x18;

/// A security processor with one guest.
#[derive(Debug)]
pub struct Processor {
    template: Report,
    key: p384::SecretKey,
    older_tcb: [u8; 8],
    older_key: p384::SecretKey,
    time_per_report: Duration,
    /// Held while a report is made: the hardware is slow and serial.
    busy: Mutex<()>,
    reports: AtomicU64,
    faults: Switch<DeviceFault>,
}

/// What goes back over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Whole(Box<[u8; RESPONSE_LEN]>),
    /// Half of it, and then the connection is closed.
    Half(Box<[u8; RESPONSE_LEN]>),
}

impl Processor {
    /// A processor on `machine` whose reports are `template` with report data and VMPL filled
    /// in. Whatever else the template says is signed as it stands.
    ///
    /// # Errors
    /// [`PkiError`] when the endorsement key cannot be derived.
    pub fn new(
        machine: &Machine,
        template: Report,
        time_per_report: Duration,
        faults: Switch<DeviceFault>,
    ) -> Result<Self, PkiError> {
        let older = machine.tcb().older();
        Ok(Self {
            template,
            key: machine.vcek(machine.tcb())?.key,
            older_tcb: older.to_bytes(machine.product()),
            older_key: machine.vcek(older)?.key,
            time_per_report,
            busy: Mutex::new(()),
            reports: AtomicU64::new(0),
            faults,
        })
    }

    /// How many reports were signed since the start.
    #[must_use]
    pub fn reports(&self) -> u64 {
        self.reports.load(Ordering::Relaxed)
    }

    /// The faults of this device.
    #[must_use]
    pub fn faults(&self) -> &Switch<DeviceFault> {
        &self.faults
    }

    pub(super) async fn answer(&self, request: &[u8; REQUEST_LEN]) -> Answer {
        let _busy = self.busy.lock().await;
        let mut active = self.faults.strike();
        if let Some(active) = &mut active
            && active.fault == DeviceFault::Stall
        {
            active.stall().await;
        }
        let fault = active.map(|active| active.fault);
        let Some(request) = Request::parse(request) else {
            return Answer::Whole(Box::new(message::failure(message::INVALID_PARAM)));
        };
        tokio::time::sleep(self.time_per_report).await;
        let response = match &fault {
            Some(DeviceFault::Status { status }) => message::failure(*status),
            _ => self.report(&request, fault.as_ref()).map_or_else(
                |_| message::failure(HARDWARE_PLATFORM),
                |report| message::success(&report),
            ),
        };
        match fault {
            Some(DeviceFault::CloseMidAnswer) => Answer::Half(Box::new(response)),
            _ => Answer::Whole(Box::new(response)),
        }
    }

    fn report(
        &self,
        request: &Request,
        fault: Option<&DeviceFault>,
    ) -> Result<[u8; crate::report::REPORT_LEN], ReportError> {
        let mut report = self.template.clone();
        report.report_data = request.report_data;
        report.vmpl = request.vmpl;
        let (mut key, mut form) = (&self.key, SignatureForm::Abi);
        match fault {
            None
            | Some(DeviceFault::Status { .. } | DeviceFault::Stall | DeviceFault::CloseMidAnswer) =>
                {}
            Some(DeviceFault::WrongReportData) => {
                report.report_data.iter_mut().for_each(|byte| *byte ^= 0xff);
            }
            Some(DeviceFault::BadSignature) => form = SignatureForm::BitFlip,
            Some(DeviceFault::OldTcb) => {
                report.reported_tcb = self.older_tcb;
                key = &self.older_key;
            }
        }
        let bytes = report.sign_as(key, form)?;
        self.reports.fetch_add(1, Ordering::Relaxed);
        Ok(bytes)
    }
}
