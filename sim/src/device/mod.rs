//! The AMD security processor, behind a Unix socket.
//!
//! Must not know: certificates. A kernel passes the messages below to the guest through an
//! `ioctl` of `/dev/sev-guest`, which a socket cannot imitate; the framing here is of our own
//! making, around the unchanged messages of the SEV-SNP ABI:
//!
//! * the client writes exactly the 96 bytes of MSG_REPORT_REQ: report data, 64 bytes; VMPL, u32
//!   little-endian; 28 zero bytes;
//! * the server answers exactly 1280 bytes, MSG_REPORT_RSP: status, u32 little-endian; report
//!   size, u32; 24 reserved bytes; the report, 1184 bytes; zero bytes;
//! * a connection carries any number of requests, one after the other.
//!
//! All connections share one processor, which makes one report at a time and takes its time.

pub mod message;
mod processor;
mod server;

pub use processor::Processor;
pub use server::{DeviceError, DeviceServer, listen};

use axum::Router;

use crate::faults::{Control, DeviceFault, Switch};

/// `/_sim/faults` for a device, which has no HTTP of its own.
pub fn control_router(faults: &Switch<DeviceFault>) -> Router {
    Control::default().with("device", faults).router()
}
