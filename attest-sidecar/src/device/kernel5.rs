//! `/dev/sev` as Azure's guest kernels 5.x have it, before the driver went upstream.
//!
//! Source: measured on the reference (`skr.md` part 2.1): `_IOWR('S', 1, 40 bytes)`.

use std::fs::OpenOptions;

use rustix::ioctl::{Updater, ioctl, opcode};

use super::{Device, DeviceError, RawReport, SEV, report_request, report_response};

const MSG_REPORT_REQ: u8 = 5;
const MSG_REPORT_RSP: u8 = 6;
const MSG_VERSION: u8 = 1;

/// The argument of the ioctl. The addresses are of this process; the driver copies from and to them.
#[repr(C)]
struct GuestRequest {
    request_type: u8,
    response_type: u8,
    message_version: u8,
    request_length: u16,
    request_address: u64,
    response_length: u16,
    response_address: u64,
    error: u32,
}

const _: () = {
    assert!(size_of::<GuestRequest>() == 40);
    assert!(std::mem::offset_of!(GuestRequest, request_length) == 4);
    assert!(std::mem::offset_of!(GuestRequest, request_address) == 8);
    assert!(std::mem::offset_of!(GuestRequest, response_length) == 16);
    assert!(std::mem::offset_of!(GuestRequest, response_address) == 24);
    assert!(std::mem::offset_of!(GuestRequest, error) == 32);
    assert!(GUEST_MESSAGE == 0xC028_5301);
};

const GUEST_MESSAGE: rustix::ioctl::Opcode = opcode::read_write::<GuestRequest>(b'S', 1);

/// The driver. Opened for each report and closed after it.
pub(super) struct Kernel5;

impl Device for Kernel5 {
    #[expect(unsafe_code, reason = "the only ioctl that no crate wraps")]
    fn report(&mut self, report_data: &[u8; 64]) -> Result<RawReport, DeviceError> {
        let open = |source| DeviceError::Open { path: SEV.into(), source };
        let device = OpenOptions::new().read(true).write(true).open(SEV).map_err(open)?;
        let request = Box::new(report_request(report_data));
        let mut response = Box::new([0_u8; 1280]);
        let mut message = GuestRequest {
            request_type: MSG_REPORT_REQ,
            response_type: MSG_REPORT_RSP,
            message_version: MSG_VERSION,
            request_length: 96,
            request_address: request.as_ptr() as u64,
            response_length: 1280,
            response_address: response.as_mut_ptr() as u64,
            error: 0,
        };
        // SAFETY: the opcode is the driver's, and its argument has the driver's layout (asserted above). Both
        // addresses are of heap buffers of exactly the stated lengths; `request` and `response` own them and
        // live past the call, and nothing else touches them during it.
        let outcome =
            unsafe { ioctl(&device, Updater::<GUEST_MESSAGE, GuestRequest>::new(&mut message)) };
        outcome.map_err(|error| DeviceError::Call(error.into()))?;
        if message.error != 0 {
            return Err(DeviceError::Status(message.error));
        }
        report_response(&response)
    }
}
