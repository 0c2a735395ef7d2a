//! The versioned endorsement key's certificate: VCEK (of a chip) or VLEK (of a cloud provider).
//!
//! Source: AMD "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230),
//! section 3: X.509 extensions below 1.3.6.1.4.1.3704.1.

use der::asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode as _, Tagged as _};

use crate::certificate::Certificate;
use crate::product::Product;
use crate::report::SigningKey;
use crate::tcb::Tcb;

macro_rules! amd {
    ($suffix:literal) => {
        ObjectIdentifier::new_unwrap(concat!("1.3.6.1.4.1.3704.1.", $suffix))
    };
}

const PRODUCT_NAME: ObjectIdentifier = amd!("2");
const SPL_BOOTLOADER: ObjectIdentifier = amd!("3.1");
const SPL_TEE: ObjectIdentifier = amd!("3.2");
const SPL_SNP: ObjectIdentifier = amd!("3.3");
const SPL_MICROCODE: ObjectIdentifier = amd!("3.8");
const SPL_FMC: ObjectIdentifier = amd!("3.9");
const HARDWARE_ID: ObjectIdentifier = amd!("4");

/// What an endorsement key's certificate says about the platform. Nothing about it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vek {
    /// By the subject's common name.
    pub kind: SigningKey,
    /// By the productName extension.
    pub product: Product,
    /// The TCB that the key was derived for.
    pub tcb: Tcb,
    /// The chip: 64 bytes, 8 on Turin; `None` in a VLEK.
    pub hardware_id: Option<Vec<u8>>,
}

/// The certificate is not of that kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VekError {
    /// The subject is neither SEV-VCEK nor SEV-VLEK.
    #[error("the subject is {0:?}, not SEV-VCEK or SEV-VLEK")]
    Subject(Option<String>),
    /// An extension is missing, doubled or not of its type.
    #[error("extension {0} is missing or malformed")]
    Extension(ObjectIdentifier),
    /// The product is none that this code knows.
    #[error("the product {0:?} is not known")]
    Product(String),
}

impl Vek {
    /// Reads the extensions.
    ///
    /// # Errors
    ///
    /// [`VekError`].
    pub fn read(certificate: &Certificate) -> Result<Self, VekError> {
        let kind = match certificate.subject_cn().as_deref() {
            Some("SEV-VCEK") => SigningKey::Vcek,
            Some("SEV-VLEK") => SigningKey::Vlek,
            other => return Err(VekError::Subject(other.map(str::to_owned))),
        };
        let name = product_name(certificate)?;
        // A VLEK's name may say more, such as "Milan-B0"; a later generation's must not fall through.
        let product = Product::from_product_name(&name).ok_or(VekError::Product(name))?;
        let fmc = match product {
            Product::Turin => spl(certificate, SPL_FMC)?,
            Product::Milan | Product::Genoa => 0,
        };
        let tcb = Tcb {
            fmc,
            bootloader: spl(certificate, SPL_BOOTLOADER)?,
            tee: spl(certificate, SPL_TEE)?,
            snp: spl(certificate, SPL_SNP)?,
            microcode: spl(certificate, SPL_MICROCODE)?,
        };
        let hardware_id = match kind {
            SigningKey::Vcek => Some(hardware_id(certificate, product)?),
            SigningKey::Vlek | SigningKey::Other(_) => None,
        };
        Ok(Self { kind, product, tcb, hardware_id })
    }
}

fn product_name(certificate: &Certificate) -> Result<String, VekError> {
    let malformed = || VekError::Extension(PRODUCT_NAME);
    let value = certificate.extension(&PRODUCT_NAME).ok_or_else(malformed)?;
    Ok(Ia5StringRef::from_der(value).map_err(|_| malformed())?.as_str().to_owned())
}

/// A security patch level: a DER INTEGER from 0 to 255. From 128 on it has a leading zero byte, so its last
/// byte alone, or its third, is no way to read it.
fn spl(certificate: &Certificate, oid: ObjectIdentifier) -> Result<u8, VekError> {
    let malformed = || VekError::Extension(oid);
    let value = certificate.extension(&oid).ok_or_else(malformed)?;
    let integer = UintRef::from_der(value).map_err(|_| malformed())?;
    match integer.as_bytes() {
        [level] => Ok(*level),
        _ => Err(malformed()),
    }
}

/// The chip's id: its bytes themselves, or, in some certificates, a DER OCTET STRING of them.
fn hardware_id(certificate: &Certificate, product: Product) -> Result<Vec<u8>, VekError> {
    let malformed = || VekError::Extension(HARDWARE_ID);
    let value = certificate.extension(&HARDWARE_ID).ok_or_else(malformed)?;
    if value.len() == product.chip_id_len() {
        return Ok(value.to_vec());
    }
    let wrapped = OctetStringRef::from_der(value).map_err(|_| malformed())?;
    debug_assert_eq!(wrapped.tag(), der::Tag::OctetString);
    if wrapped.as_bytes().len() == product.chip_id_len() {
        Ok(wrapped.as_bytes().to_vec())
    } else {
        Err(malformed())
    }
}
