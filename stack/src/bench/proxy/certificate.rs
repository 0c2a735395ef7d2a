//! One key and certificate in files, for everybody who serves TLS here: P-256, as the proxy makes its own.

use std::path::{Path, PathBuf};

use crate::bench::{BenchError, io};

/// Where they lie.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    pub(crate) fn make(folder: &Path) -> Result<Self, BenchError> {
        let failed = |error: rcgen::Error| BenchError::Unexpected(error.to_string());
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(failed)?;
        let certificate = Self { chain: folder.join("server.pem"), key: folder.join("server.key") };
        let unwritten = io("the certificate of the benchmark cannot be written");
        std::fs::write(&certificate.chain, made.cert.pem()).map_err(&unwritten)?;
        std::fs::write(&certificate.key, made.signing_key.serialize_pem()).map_err(&unwritten)?;
        Ok(certificate)
    }
}
