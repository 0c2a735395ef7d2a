//! The certificates of one chip at one TCB, and whether they fit a report.
//!
//! No root is believed here: who relies on evidence has its own. What is checked is what a source can get wrong, or
//! be made to: another chip, another TCB, a chain that does not hang together, a key that did not sign.

use attestation::certificate::{Certificate, CertificateError};
use attestation::crypto;
use attestation::product::Product;
use attestation::report::{Report, SigningKey};
use attestation::tcb::Tcb;
use attestation::vek::{Vek, VekError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The certificates of one chip at one TCB.
#[derive(Debug)]
pub(crate) struct Endorsements {
    /// VCEK, ASK and ARK in PEM, as their source wrote them.
    pub(crate) pem: String,
    /// The leaf (DER).
    pub(crate) vek: Vec<u8>,
    /// ASK, then ARK (DER), one after the other.
    pub(crate) issuers: Vec<u8>,
    /// The TCB as THIM names it: 16 hexadecimal digits.
    pub(crate) tcbm: String,
    /// The root, which also signs the revocation list.
    pub(crate) ark: Certificate,
    pub(crate) about: Vek,
    leaf: Certificate,
    /// The last second in the life of all three, in Unix time.
    end: u64,
}

/// A source's answer is no set of certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndorsementsError {
    #[error("not the JSON of THIM: vcekCert, certificateChain and tcbm")]
    Syntax,
    #[error("the tcbm is not 16 hexadecimal digits")]
    Tcbm,
    #[error("not text")]
    Text,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the leaf is no endorsement key's certificate")]
    Leaf(#[from] VekError),
    #[error("{0} certificates instead of a leaf and its two issuers")]
    Number(usize),
    #[error("the {0} was not signed by its issuer")]
    Chain(&'static str),
}

/// Certificates do not belong to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("the leaf is not of the kind of key that signed the report")]
    Kind,
    #[error("the leaf is of the generation {0}, the report is not")]
    Product(Product),
    #[error("the leaf is another chip's")]
    Chip,
    /// The source may lag behind a firmware update.
    #[error("SNP reported TCB value: {reported} doesn't match Certificate TCB value: {certified}")]
    Tcb { reported: u64, certified: u64 },
    #[error("the leaf's key did not sign the report")]
    Signature,
    #[error("the certificates have ended: the source must get newer ones")]
    Ended,
}

impl Endorsements {
    /// Reads the JSON of THIM, which the platform mounts in the same form.
    pub(super) fn from_thim(json: &[u8]) -> Result<Self, EndorsementsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Thim {
            vcek_cert: String,
            tcbm: String,
            certificate_chain: String,
        }
        let thim: Thim = serde_json::from_slice(json).map_err(|_| EndorsementsError::Syntax)?;
        if hex::decode(&thim.tcbm).map(|bytes| bytes.len()) != Ok(8) {
            return Err(EndorsementsError::Tcbm);
        }
        let mut certificates = Certificate::sequence_from_pem(&thim.vcek_cert)?;
        certificates.extend(Certificate::sequence_from_pem(&thim.certificate_chain)?);
        Self::new(certificates, thim.vcek_cert + &thim.certificate_chain, thim.tcbm)
    }

    /// Reads leaf, ASK and ARK in PEM.
    pub(super) fn from_pem(pem: &[u8], tcbm: String) -> Result<Self, EndorsementsError> {
        let pem = std::str::from_utf8(pem).map_err(|_| EndorsementsError::Text)?;
        Self::new(Certificate::sequence_from_pem(pem)?, pem.to_owned(), tcbm)
    }

    /// Reads a leaf in DER and its issuers in PEM.
    pub(super) fn from_parts(
        leaf: &[u8],
        issuers: &[u8],
        tcbm: String,
    ) -> Result<Self, EndorsementsError> {
        let issuers = std::str::from_utf8(issuers).map_err(|_| EndorsementsError::Text)?;
        let mut certificates = vec![Certificate::from_der(leaf)?];
        certificates.extend(Certificate::sequence_from_pem(issuers)?);
        Self::new(certificates, to_pem(leaf) + issuers, tcbm)
    }

    fn new(
        certificates: Vec<Certificate>,
        pem: String,
        tcbm: String,
    ) -> Result<Self, EndorsementsError> {
        let number = certificates.len();
        let [leaf, ask, ark] =
            certificates.try_into().map_err(|_| EndorsementsError::Number(number))?;
        for (name, subject, issuer) in
            [("ARK", &ark, &ark), ("ASK", &ask, &ark), ("leaf", &leaf, &ask)]
        {
            if !subject.names_as_issuer(issuer) || subject.verify_pss_sha384(issuer).is_err() {
                return Err(EndorsementsError::Chain(name));
            }
        }
        let ends = [&leaf, &ask, &ark].map(|certificate| certificate.validity().1);
        Ok(Self {
            end: ends.into_iter().min().unwrap_or_default(),
            about: Vek::read(&leaf)?,
            vek: leaf.der().to_vec(),
            issuers: [ask.der(), ark.der()].concat(),
            pem,
            tcbm,
            ark,
            leaf,
        })
    }

    /// Whether the life of one of them is over. The clock is the host's, which can only do without them.
    pub(super) fn have_ended(&self, now: u64) -> bool {
        now > self.end
    }

    /// Whether these are the certificates of the key that signed the report.
    pub(super) fn fit(&self, report: &Report) -> Result<(), Misfit> {
        let about = &self.about;
        if about.kind != report.key_info().signing_key() {
            return Err(Misfit::Kind);
        }
        let stated = report.cpuid().map(|(family, model, _)| Product::from_cpuid(family, model));
        if stated.is_some_and(|stated| stated != Some(about.product)) {
            return Err(Misfit::Product(about.product));
        }
        if !about.hardware_id.as_deref().is_none_or(|id| is_of_chip(id, &report.chip_id())) {
            return Err(Misfit::Chip);
        }
        if about.tcb != Tcb::from_bytes(report.reported_tcb(), about.product) {
            let reported = u64::from_le_bytes(report.reported_tcb());
            return Err(Misfit::Tcb { reported, certified: number(&about.tcb, about.product) });
        }
        let key = self.leaf.p384_key().ok_or(Misfit::Signature)?;
        let signature = report.signature().ok_or(Misfit::Signature)?;
        crypto::verify_p384(key, report.signed_bytes(), &signature).map_err(|_| Misfit::Signature)
    }
}

/// A hardware id is as long as its generation's are; the report pads it with zeros.
fn is_of_chip(hardware_id: &[u8], chip: &[u8; 64]) -> bool {
    chip.strip_prefix(hardware_id).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// The TCB as the number that Azure writes: the report's 8 bytes, little-endian.
fn number(tcb: &Tcb, product: Product) -> u64 {
    let Tcb { fmc, bootloader, tee, snp, microcode } = *tcb;
    u64::from_le_bytes(match product {
        Product::Milan | Product::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
        Product::Turin => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
    })
}

/// One certificate in PEM (RFC 7468): lines of 64 characters.
fn to_pem(der: &[u8]) -> String {
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, character) in STANDARD.encode(der).chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem + "\n-----END CERTIFICATE-----\n"
}

/// What certificates are looked for: those of the key that signed this report.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) report: Report,
    /// The generation, where an earlier certificate of this chip told it.
    pub(super) known: Option<Product>,
}

/// What tells the keys of reports apart: chip, TCB, and which of the chip's keys.
pub(super) type Key = ([u8; 64], [u8; 8], SigningKey);

impl Wanted {
    pub(super) fn key(&self) -> Key {
        key(&self.report)
    }

    pub(super) fn is_vcek(&self) -> bool {
        self.report.key_info().signing_key() == SigningKey::Vcek
    }

    /// The reported TCB as THIM writes it.
    pub(super) fn tcbm(&self) -> String {
        format!("{:016X}", u64::from_le_bytes(self.report.reported_tcb()))
    }

    /// The generations that the processor may be of, the likeliest first. Reports before version 3 do not state
    /// theirs; then an earlier certificate of the chip tells it, or else the chip id, which has 8 bytes on Turin
    /// and 64 before: Milan is tried before Genoa.
    pub(super) fn products(&self) -> Vec<Product> {
        let chip = self.report.chip_id();
        let short = chip.iter().skip(Product::Turin.chip_id_len()).all(|byte| *byte == 0);
        match (self.report.cpuid(), self.known) {
            (Some((family, model, _)), _) => {
                Product::from_cpuid(family, model).into_iter().collect()
            }
            (None, Some(known)) => vec![known],
            (None, None) if short => vec![Product::Turin],
            (None, None) => vec![Product::Milan, Product::Genoa],
        }
    }
}

/// The key that signed a report.
pub(super) fn key(report: &Report) -> Key {
    (report.chip_id(), report.reported_tcb(), report.key_info().signing_key())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(version: u8, chip: &[u8], known: Option<Product>) -> Wanted {
        let mut raw = vec![0; attestation::report::LENGTH];
        raw[0] = version;
        raw[0x188..0x18a].copy_from_slice(&[0x19, 0x11]);
        raw[0x1a0..0x1a0 + chip.len()].copy_from_slice(chip);
        raw[0x180..0x188].copy_from_slice(&[4, 0, 0, 0, 0, 0, 0x18, 0xdb]);
        Wanted { report: Report::parse(&raw).unwrap(), known }
    }

    #[test]
    fn the_generation_is_stated_or_known_or_guessed_by_the_chip_id() {
        let long = [7; 64];
        assert_eq!(wanted(3, &long, Some(Product::Milan)).products(), [Product::Genoa]);
        assert_eq!(wanted(2, &long, Some(Product::Genoa)).products(), [Product::Genoa]);
        assert_eq!(wanted(2, &long, None).products(), [Product::Milan, Product::Genoa]);
        assert_eq!(wanted(2, &[7; 8], None).products(), [Product::Turin]);
    }

    #[test]
    fn a_tcb_is_written_as_thim_does() {
        let wanted = wanted(2, &[7; 64], None);
        assert_eq!(wanted.tcbm(), "DB18000000000004");
        let tcb = Tcb::from_bytes(wanted.report.reported_tcb(), Product::Milan);
        assert_eq!(format!("{:016X}", number(&tcb, Product::Milan)), wanted.tcbm());
        let turin = Tcb::from_bytes([1, 2, 3, 4, 0, 0, 0, 5], Product::Turin);
        assert_eq!(number(&turin, Product::Turin).to_le_bytes(), [1, 2, 3, 4, 0, 0, 0, 5]);
    }

    #[test]
    fn a_chip_is_told_by_its_whole_id() {
        let mut chip = [0; 64];
        chip[..8].copy_from_slice(&[7; 8]);
        assert!(is_of_chip(&[7; 8], &chip));
        assert!(!is_of_chip(&[7; 7], &chip));
        assert!(!is_of_chip(&[8; 8], &chip));
        assert!(!is_of_chip(&[7; 64], &chip));
        assert!(is_of_chip(&[7; 64], &[7; 64]));
    }

    #[test]
    fn pem_has_lines_of_64_characters() {
        let pem = to_pem(&[0; 100]);
        assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
        assert_eq!(pem.lines().count(), 5);
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(STANDARD.decode(body).unwrap(), [0; 100]);
    }
}
