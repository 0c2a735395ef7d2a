//! configfs-tsm: reports through files, on kernels from 6.7 on that have `configfs` mounted.
//!
//! An entry is a folder that the kernel fills: `inblob` and `privlevel` are written, `outblob` is read, and
//! `generation` counts the writes, so that a report over somebody else's `inblob` cannot pass for ours. Each report
//! has an entry of its own, which is removed after it, also after an error.
//!
//! Source: Linux, Documentation/ABI/testing/configfs-tsm and drivers/virt/coco/tsm.c, v6.7.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{Device, DeviceError, REPORT, RawReport};

/// What calls itself so speaks SEV-SNP.
const PROVIDER: &str = "sev_guest";

/// The kernel refuses longer reports.
const LONGEST: u64 = 32 * 1024;

/// `privlevel` and `inblob`.
const WRITES: u64 = 2;

/// What is asked of the file system. The kernel answers it, and in tests something that can be told to fail.
pub(super) trait Files: Send {
    /// Makes an entry.
    fn make(&self, entry: &Path) -> io::Result<()>;
    /// Removes it. The files in it go along.
    fn remove(&self, entry: &Path);
    /// Writes a file that is there, at once. The kernel takes the bytes of `inblob` when it is closed, and closing
    /// reports no errors: `generation` tells.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Reads a whole file of at most so many bytes.
    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>>;
}

/// The kernel's own files.
pub(super) struct Kernel;

impl Files for Kernel {
    fn make(&self, entry: &Path) -> io::Result<()> {
        fs::create_dir(entry)
    }

    fn remove(&self, entry: &Path) {
        if let Err(error) = fs::remove_dir(entry) {
            tracing::warn!(%error, "an entry of configfs-tsm stays behind");
        }
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).open(file)?.write_all(bytes)
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
        let whole = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
        if whole { Ok(bytes) } else { Err(io::Error::from(io::ErrorKind::FileTooLarge)) }
    }
}

/// The interface.
pub(super) struct Tsm<F> {
    folder: PathBuf,
    files: F,
}

impl<F: Files> Tsm<F> {
    /// `folder` holds the entries.
    pub(super) fn new(folder: PathBuf, files: F) -> Self {
        Self { folder, files }
    }

    fn entry(&self) -> Result<Entry<'_, F>, DeviceError> {
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).expect("the system gave random numbers at the start");
        let path = self.folder.join(format!("attest-sidecar-{}", hex::encode(name)));
        let made = self.files.make(&path);
        made.map_err(|source| DeviceError::Open { path: self.folder.clone(), source })?;
        Ok(Entry { path, files: &self.files })
    }
}

impl<F: Files> Device for Tsm<F> {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<RawReport, DeviceError> {
        let entry = self.entry()?;
        let provider = entry.text("provider")?;
        if provider != PROVIDER {
            return Err(DeviceError::Provider(provider));
        }
        let before = entry.generation()?;
        entry.write("privlevel", b"0")?;
        entry.write("inblob", report_data)?;
        let report = entry.read("outblob", LONGEST)?;
        let writes = entry.generation()?.wrapping_sub(before);
        if writes != WRITES {
            return Err(DeviceError::Generation(writes));
        }
        let length = u32::try_from(report.len()).unwrap_or(u32::MAX);
        let report: Box<[u8; REPORT]> =
            report.try_into().map_err(|_| DeviceError::Length(length))?;
        Ok(report)
    }
}

/// An entry, for as long as one report takes.
struct Entry<'a, F: Files> {
    path: PathBuf,
    files: &'a F,
}

impl<F: Files> Entry<'_, F> {
    fn write(&self, file: &'static str, bytes: &[u8]) -> Result<(), DeviceError> {
        let written = self.files.write(&self.path.join(file), bytes);
        written.map_err(|source| DeviceError::File { file, source })
    }

    fn read(&self, file: &'static str, limit: u64) -> Result<Vec<u8>, DeviceError> {
        let read = self.files.read(&self.path.join(file), limit);
        read.map_err(|source| DeviceError::File { file, source })
    }

    fn text(&self, file: &'static str) -> Result<String, DeviceError> {
        Ok(String::from_utf8_lossy(&self.read(file, 64)?).trim().to_owned())
    }

    fn generation(&self) -> Result<u64, DeviceError> {
        let source = |_| io::Error::from(io::ErrorKind::InvalidData);
        let number = self.text("generation")?.parse();
        number.map_err(source).map_err(|source| DeviceError::File { file: "generation", source })
    }
}

impl<F: Files> Drop for Entry<'_, F> {
    fn drop(&mut self) {
        self.files.remove(&self.path);
    }
}

#[cfg(test)]
mod tests;
