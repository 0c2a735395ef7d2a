//! Writes the seeds of every parser into the folder that is its argument, one folder a parser, and prints the names.
//! Recordings of real machines join them where `$VECTORS_DIR` has them.

#[path = "../../tests/parsers/entries.rs"]
mod entries;

use std::path::{Path, PathBuf};

/// Which recordings are inputs of which parser.
const RECORDED: [(&str, &str); 18] = [
    ("report", "aci-reports/milan_attestation_report.bin"),
    ("report", "aci-reports/genoa_attestation_report.bin"),
    ("report", "trustee/snp/test-vlek-report.bin"),
    ("certificates-pem", "aci-reports/milan_vcek.pem"),
    ("certificates-pem", "azure-tpm-roots/azure_tpm_intermediate_03.pem"),
    ("certificate", "virtee-sev/certs_data/vcek_turin.der"),
    ("certificate", "trustee/snp/test-vlek.der"),
    ("cose", "ms-confidential-sidecar/attest/body.uvm_reference_info.bin"),
    ("cose", "ms-confidential-sidecar/security-context/reference-info.cose"),
    ("uvm", "ms-confidential-sidecar/attest/body.uvm_reference_info.bin"),
    ("claims", "maa-tokens/aci-payload-sharedeus-2023-09.json"),
    ("claims", "maa-tokens/cvm-payload-sharedeus-test-2022-05.json"),
    ("token", "maa-tokens/cvm-sharedeus2-2025-12.jwt"),
    ("jws", "maa-tokens/sgx-sharedeus-2023-09.jwt"),
    ("jwks", "maa-tokens/sgx-sharedeus-2023-09.jwks.json"),
    ("hcl", "trustee/az-snp-vtpm/hcl-report.bin"),
    ("hcl", "kinvolk-az-cvm-vtpm/hcl-report-tdx.bin"),
    ("quote", "trustee/az-snp-vtpm/tpm-quote.msg"),
];

fn main() -> std::io::Result<()> {
    let corpus = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    let recordings = std::env::var_os("VECTORS_DIR").map(PathBuf::from);
    for entry in entries::entries() {
        let _ = entry.read;
        let folder = corpus.join(entry.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (entry.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
        if let Some(recordings) = &recordings {
            copy(recordings, entry.name, &folder)?;
        }
        println!("{}", entry.name);
    }
    Ok(())
}

fn copy(recordings: &Path, parser: &str, folder: &Path) -> std::io::Result<()> {
    let of_parser = RECORDED.iter().filter(|(of, _)| *of == parser);
    for (number, (_, file)) in of_parser.enumerate() {
        let file = recordings.join(file);
        if file.is_file() {
            std::fs::copy(file, folder.join(format!("recorded-{number}")))?;
        }
    }
    Ok(())
}
