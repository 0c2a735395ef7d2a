//! The security processor's socket.

use std::time::{Duration, Instant};

use sim::device::message::{INVALID_PARAM, RESPONSE_LEN};
use sim::faults::DeviceFault;
use sim::report::{Report, verify_signature};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::{PATIENCE, Stage, ask_device, device_request, report, stage};

async fn connect(stage: &Stage) -> UnixStream {
    UnixStream::connect(stage.group().device_path()).await.unwrap()
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_every_report_verifies() {
    let stage = stage(|config| config.maa = None).await;
    let group = stage.group();
    let vcek = group.machine().vcek(group.machine().tcb()).unwrap().certificate;
    let mut stream = connect(&stage).await;
    for byte in 1..=3 {
        let (status, bytes) = ask_device(&mut stream, &device_request(&[byte; 64])).await;
        assert_eq!((status, bytes.len()), (0, 1184));
        verify_signature(&bytes, &vcek).unwrap();
        let report = Report::parse(&bytes).unwrap();
        assert_eq!(report.report_data, [byte; 64]);
        assert_eq!(report.host_data, *group.host_data());
        assert_eq!(report.policy, 0x3001f);
        assert_eq!((report.guest_svn, report.vmpl, report.platform_info), (2, 0, 0x25));
        assert_eq!((report.family_id[0], report.image_id[0]), (1, 2));
    }
    assert_eq!(group.processor().reports(), 3);
}

#[tokio::test]
async fn a_reserved_byte_or_a_high_vmpl_is_an_invalid_parameter() {
    let stage = stage(|config| config.maa = None).await;
    let mut stream = connect(&stage).await;
    for (position, value) in [(64, 4), (67, 1), (68, 1), (95, 1)] {
        let mut request = device_request(&[1; 64]);
        request[position] = value;
        assert_eq!(ask_device(&mut stream, &request).await, (INVALID_PARAM, Vec::new()));
    }
    let mut request = device_request(&[1; 64]);
    request[64] = 3;
    let (status, bytes) = ask_device(&mut stream, &request).await;
    assert_eq!((status, Report::parse(&bytes).unwrap().vmpl), (0, 3));
}

#[tokio::test]
async fn all_connections_share_one_slow_processor() {
    let pause = Duration::from_millis(50);
    let stage = stage(|config| config.groups[0].time_per_report = pause).await;
    let started = Instant::now();
    let group = stage.group();
    let reports = futures_util::future::join_all(
        (0..4_u8).map(|byte| async move { report(group, &[byte; 64]).await }),
    )
    .await;
    assert!(started.elapsed() >= 4 * pause);
    for (byte, bytes) in (0..4_u8).zip(reports) {
        assert_eq!(Report::parse(&bytes).unwrap().report_data, [byte; 64]);
    }
}

#[tokio::test]
async fn the_socket_is_open_to_all_and_gone_after_the_stop() {
    use std::os::unix::fs::PermissionsExt as _;

    let stage = stage(|config| config.maa = None).await;
    let path = stage.group().device_path().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let mut stream = connect(&stage).await;
    stage.world.stop().await;
    assert!(!path.exists());
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
    use sim::device::{DeviceError, Processor, listen};
    use sim::faults::Switch;

    let stage = stage(|config| config.maa = None).await;
    let group = stage.group();
    let processor = || {
        let template = Report::aci(group.machine().product(), group.machine().tcb());
        Processor::new(group.machine(), template, Duration::ZERO, Switch::default()).unwrap()
    };
    assert!(matches!(listen(group.device_path(), processor()), Err(DeviceError::InUse { .. })));
    report(group, &[1; 64]).await;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let device = listen(&path, processor()).unwrap();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert_eq!(ask_device(&mut stream, &device_request(&[1; 64])).await.0, 0);
    device.stop().await;

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(listen(&path, processor()), Err(DeviceError::NoSocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn every_fault_shows_and_passes() {
    let stage = stage(|config| config.maa = None).await;
    let group = stage.group();
    let machine = group.machine();
    let faults = group.device_faults();
    let vcek = machine.vcek(machine.tcb()).unwrap().certificate;
    let older = machine.vcek(machine.tcb().older()).unwrap().certificate;
    let mut stream = connect(&stage).await;
    let request = device_request(&[5; 64]);

    faults.once(DeviceFault::Status { status: 0x27 });
    assert_eq!(ask_device(&mut stream, &request).await, (0x27, Vec::new()));

    faults.once(DeviceFault::WrongReportData);
    let (_, bytes) = ask_device(&mut stream, &request).await;
    verify_signature(&bytes, &vcek).unwrap();
    assert_ne!(Report::parse(&bytes).unwrap().report_data, [5; 64]);

    faults.once(DeviceFault::BadSignature);
    let (_, bytes) = ask_device(&mut stream, &request).await;
    assert!(verify_signature(&bytes, &vcek).is_err());

    faults.once(DeviceFault::OldTcb);
    let (_, bytes) = ask_device(&mut stream, &request).await;
    assert!(verify_signature(&bytes, &vcek).is_err());
    verify_signature(&bytes, &older).unwrap();
    let report = Report::parse(&bytes).unwrap();
    assert_eq!(report.reported_tcb[7], report.current_tcb[7] - 1);

    let (_, bytes) = ask_device(&mut stream, &request).await;
    verify_signature(&bytes, &vcek).unwrap();

    faults.once(DeviceFault::Stall);
    stream.write_all(&request).await.unwrap();
    let mut response = [0; RESPONSE_LEN];
    let waited = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut response));
    assert!(waited.await.is_err());
    faults.clear();
    stream.read_exact(&mut response).await.unwrap();

    faults.once(DeviceFault::CloseMidAnswer);
    stream.write_all(&request).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), RESPONSE_LEN / 2);
}
