//! The driver's side, as the kernel's documentation and source describe it, and what a bad one does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;

/// What the kernel keeps of one entry.
#[derive(Default)]
struct Kept {
    inblob: Vec<u8>,
    generation: u64,
}

/// How this kernel differs from a good one.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NoFolder,
    OtherProvider,
    LostWrite,
    OtherWriter,
    BusyOutblob,
    HighPrivilegeFloor,
    OddGeneration,
    ReportOf(usize),
}

/// The driver, as its documentation describes it.
#[derive(Clone)]
struct Driver {
    entries: Arc<Mutex<BTreeMap<PathBuf, Kept>>>,
    made: Arc<Mutex<u32>>,
    fault: Fault,
}

impl Driver {
    fn new(fault: Fault) -> Self {
        Self { entries: Arc::default(), made: Arc::default(), fault }
    }

    fn with<T>(&self, file: &Path, act: impl FnOnce(&mut Kept) -> io::Result<T>) -> io::Result<T> {
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(file.parent().unwrap());
        act(entry.ok_or(io::Error::from(io::ErrorKind::NotFound))?)
    }

    fn outblob(&self, kept: &mut Kept) -> io::Result<Vec<u8>> {
        if kept.inblob.is_empty() {
            return Err(io::Error::from_raw_os_error(22));
        }
        let length = match self.fault {
            Fault::BusyOutblob => return Err(io::Error::from(io::ErrorKind::WouldBlock)),
            Fault::OtherWriter => {
                kept.inblob = vec![0xee; 64];
                kept.generation += 1;
                REPORT
            }
            Fault::ReportOf(length) => length,
            _ => REPORT,
        };
        let mut report = vec![0; length];
        let room = report.iter_mut().skip(0x50);
        room.zip(&kept.inblob).for_each(|(to, from)| *to = *from);
        Ok(report)
    }
}

impl Files for Driver {
    fn make(&self, entry: &Path) -> io::Result<()> {
        if self.fault == Fault::NoFolder {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        *self.made.lock().unwrap() += 1;
        let before = self.entries.lock().unwrap().insert(entry.to_owned(), Kept::default());
        assert!(before.is_none(), "an entry that was there");
        Ok(())
    }

    fn remove(&self, entry: &Path) {
        assert!(self.entries.lock().unwrap().remove(entry).is_some());
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.with(file, |kept| match file.file_name().unwrap().to_str().unwrap() {
            "privlevel" if self.fault == Fault::HighPrivilegeFloor => {
                Err(io::Error::from_raw_os_error(22))
            }
            "privlevel" => {
                assert_eq!(bytes, b"0");
                kept.generation += 1;
                Ok(())
            }
            // What closing the file would have said is said to nobody.
            "inblob" if self.fault == Fault::LostWrite => {
                kept.inblob = vec![0xdd; 64];
                Ok(())
            }
            "inblob" => {
                kept.inblob = bytes.to_vec();
                kept.generation += 1;
                Ok(())
            }
            other => panic!("{other} is not written"),
        })
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.with(file, |kept| match file.file_name().unwrap().to_str().unwrap() {
            "provider" if self.fault == Fault::OtherProvider => Ok(b"tdx_guest\n".to_vec()),
            "provider" => Ok(b"sev_guest\n".to_vec()),
            "generation" if self.fault == Fault::OddGeneration => Ok(b"many\n".to_vec()),
            "generation" => Ok(format!("{}\n", kept.generation).into_bytes()),
            "outblob" => self.outblob(kept),
            other => panic!("{other} is not read"),
        })?;
        assert!(bytes.len() as u64 <= limit);
        Ok(bytes)
    }
}

fn report(fault: Fault) -> (Result<RawReport, DeviceError>, Driver) {
    let driver = Driver::new(fault);
    let mut device = Tsm::new("/fake/report".into(), driver.clone());
    (device.report(&[7; 64]), driver)
}

#[test]
fn each_report_has_an_entry_of_its_own_that_goes_with_it() {
    let driver = Driver::new(Fault::None);
    let mut device = Tsm::new("/fake/report".into(), driver.clone());
    for byte in [1, 2, 3] {
        let report = device.report(&[byte; 64]).unwrap();
        assert_eq!(report[0x50..0x90], [byte; 64]);
        assert!(driver.entries.lock().unwrap().is_empty());
    }
    assert_eq!(*driver.made.lock().unwrap(), 3);
}

#[test]
fn a_report_that_another_writer_had_a_part_in_is_none() {
    let outcome = report(Fault::OtherWriter).0;
    assert!(matches!(outcome, Err(DeviceError::Generation(3))), "{outcome:?}");
    let outcome = report(Fault::LostWrite).0;
    assert!(matches!(outcome, Err(DeviceError::Generation(1))), "{outcome:?}");
}

#[test]
fn only_a_provider_of_sev_snp_is_asked() {
    let outcome = report(Fault::OtherProvider).0;
    assert!(matches!(&outcome, Err(DeviceError::Provider(name)) if name == "tdx_guest"));
}

#[test]
fn a_report_has_its_length_and_no_other() {
    for length in [0, 1183, 1185, 4096] {
        let outcome = report(Fault::ReportOf(length)).0;
        assert!(matches!(outcome, Err(DeviceError::Length(_))), "{length}: {outcome:?}");
    }
}

#[test]
fn errors_name_the_file_and_leave_no_entry_behind() {
    for (fault, named) in [
        (Fault::BusyOutblob, "outblob"),
        (Fault::HighPrivilegeFloor, "privlevel"),
        (Fault::OddGeneration, "generation"),
    ] {
        let (outcome, driver) = report(fault);
        assert!(matches!(outcome, Err(DeviceError::File { file, .. }) if file == named));
        assert!(driver.entries.lock().unwrap().is_empty());
    }
    for fault in [Fault::OtherProvider, Fault::OtherWriter, Fault::ReportOf(1)] {
        assert!(report(fault).1.entries.lock().unwrap().is_empty());
    }
    let (outcome, driver) = report(Fault::NoFolder);
    assert!(matches!(outcome, Err(DeviceError::Open { .. })));
    assert_eq!(*driver.made.lock().unwrap(), 0);
}

#[test]
fn the_kernels_files_are_read_up_to_a_limit_and_never_created() {
    let folder = tempfile::tempdir().unwrap();
    let entry = folder.path().join("entry");
    Kernel.make(&entry).unwrap();
    assert!(Kernel.make(&entry).is_err(), "an entry that is there is somebody's");
    let file = entry.join("outblob");
    assert!(Kernel.write(&file, b"x").is_err());
    assert!(!file.exists());
    fs::write(&file, [1; 8]).unwrap();
    Kernel.write(&file, &[2; 8]).unwrap();
    assert_eq!(Kernel.read(&file, 8).unwrap(), [2; 8]);
    assert_eq!(Kernel.read(&file, 7).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    fs::remove_file(&file).unwrap();
    Kernel.remove(&entry);
    assert!(!entry.exists());
}
