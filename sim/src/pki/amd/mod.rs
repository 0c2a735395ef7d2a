//! AMD's certificate authority: ARK, ASK and ASVK, the VCEK and VLEK below them, and the CRL.
//!
//! Must not know: reports, or who asks for certificates. Names, serials, extension order and
//! algorithm parameters are those of AMD's certificates (VCEK Certificate and KDS Interface
//! Specification, AMD publication 57230); only the keys and the validity are this world's own.

use std::sync::OnceLock;

use der::Encode as _;
use der::asn1::{Ia5String, ObjectIdentifier};
use x509_cert::Certificate;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::KeyUsages;
use x509_cert::name::Name;

use super::certificate::{self as x509, Profile, attribute};
use super::signer::{Signer, public_key_info};
use super::{KeyRing, PkiError, chain};
use crate::seed::Seed;
use crate::tcb::{Product, Tcb};

/// The extensions of AMD's leaf certificates, below 1.3.6.1.4.1.3704.1.
pub mod oid {
    use der::asn1::ObjectIdentifier;

    /// Version of the certificate structure.
    pub const STRUCT_VERSION: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
    /// Product name, an IA5String.
    pub const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
    /// Security patch level of the boot loader.
    pub const BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
    /// Security patch level of the security processor's operating system.
    pub const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
    /// Security patch level of the SNP firmware.
    pub const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
    /// Reserved.
    pub const SPL4: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4");
    /// Reserved.
    pub const SPL5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5");
    /// Reserved.
    pub const SPL6: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6");
    /// Reserved.
    pub const SPL7: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7");
    /// Security patch level of the microcode.
    pub const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
    /// Security patch level of the management controller's firmware (Turin).
    pub const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
    /// Hardware id: the raw chip id, in no DER value of its own.
    pub const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
    /// Cloud service provider of a VLEK, an IA5String.
    pub const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");
}

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// keyCertSign as AMD encodes it: DER would have two unused bits, AMD's certificates say one.
const AMD_CERT_SIGN: [u8; 4] = [0x03, 0x02, 0x01, 0x04];

/// A key that signs reports, with its certificate.
#[derive(Debug, Clone)]
pub struct EndorsementKey {
    /// The P-384 private key.
    pub key: p384::SecretKey,
    /// The VCEK or VLEK certificate.
    pub certificate: Certificate,
}

/// One product's certificate authority.
#[derive(Debug)]
pub struct AmdAuthority {
    product: Product,
    seed: Seed,
    ark_signer: Signer,
    ark: Certificate,
    ask_signer: Signer,
    ask: Certificate,
    asvk: OnceLock<(Signer, Certificate)>,
}

impl AmdAuthority {
    /// Derives the authority of one product. Searches for two RSA-4096 keys when they are not
    /// cached.
    ///
    /// # Errors
    /// [`PkiError`] when a key cannot be derived.
    pub fn derive(keys: &KeyRing, product: Product) -> Result<Self, PkiError> {
        let ark_signer = ca_signer(keys, &format!("amd/ark/{product}"))?;
        let ask_signer = ca_signer(keys, &format!("amd/ask/{product}"))?;
        let serials = Serials::of(product);
        let ark_name = amd_name(&format!("ARK-{product}"))?;
        let ark_key = ark_signer.public_key()?;
        let crl = crl_uri("vcek", product);
        let ark = x509::issue(
            Profile {
                serial: serials.ark,
                issuer: ark_name.clone(),
                subject: ark_name,
                extensions: vec![
                    x509::key_usage(&[KeyUsages::KeyCertSign, KeyUsages::CRLSign])?,
                    x509::subject_key_id(&ark_key)?,
                    x509::basic_constraints(true, None)?,
                    x509::crl_distribution_point(&crl)?,
                ],
                public_key: ark_key,
            },
            &ark_signer,
            keys.seed(),
        )?;
        let ask = intermediate(
            &ark,
            &ark_signer,
            &ask_signer,
            serials.ask,
            &format!("SEV-{product}"),
            &crl,
            keys.seed(),
        )?;
        Ok(Self {
            product,
            seed: keys.seed().clone(),
            ark_signer,
            ark,
            ask_signer,
            ask,
            asvk: OnceLock::new(),
        })
    }

    /// The product.
    #[must_use]
    pub fn product(&self) -> Product {
        self.product
    }

    /// The root certificate.
    #[must_use]
    pub fn ark(&self) -> &Certificate {
        &self.ark
    }

    /// The certificate that signs VCEKs.
    #[must_use]
    pub fn ask(&self) -> &Certificate {
        &self.ask
    }

    /// The certificate that signs VLEKs. Its RSA-4096 key is searched for on first use.
    ///
    /// # Errors
    /// [`PkiError`] when the key cannot be derived.
    pub fn asvk(&self, keys: &KeyRing) -> Result<&Certificate, PkiError> {
        Ok(&self.vlek_issuer(keys)?.1)
    }

    /// The key that a chip derives for one TCB version, and its certificate.
    ///
    /// # Errors
    /// [`PkiError`] when the certificate cannot be made.
    pub fn vcek(&self, chip_id: &[u8; 64], tcb: Tcb) -> Result<EndorsementKey, PkiError> {
        let label = format!(
            "vcek/{}/{}/{:016x}",
            self.product,
            hex::encode(chip_id),
            tcb.to_u64(self.product)
        );
        let (hwid, _) = chip_id.split_at(self.product.chip_id_len());
        let mut extensions = tcb_extensions(self.product, self.product.vcek_name(), tcb)?;
        extensions.push(x509::raw_extension(oid::HWID, false, hwid)?);
        self.leaf(&label, "SEV-VCEK", extensions, &self.ask, &self.ask_signer)
    }

    /// The key that AMD gives a cloud provider for one TCB version, and its certificate.
    ///
    /// # Errors
    /// [`PkiError`] when the certificate cannot be made.
    pub fn vlek(&self, keys: &KeyRing, csp_id: &str, tcb: Tcb) -> Result<EndorsementKey, PkiError> {
        let (signer, asvk) = self.vlek_issuer(keys)?;
        let label = format!("vlek/{}/{csp_id}/{:016x}", self.product, tcb.to_u64(self.product));
        let mut extensions = tcb_extensions(self.product, self.product.name(), tcb)?;
        extensions.push(x509::extension_of(oid::CSP_ID, &Ia5String::new(csp_id)?)?);
        self.leaf(&label, "SEV-VLEK", extensions, asvk, signer)
    }

    /// The revocation list, DER, with the given serials on it.
    ///
    /// # Errors
    /// [`PkiError`] when it cannot be made.
    pub fn crl(&self, revoked: &[u32]) -> Result<Vec<u8>, PkiError> {
        self.crl_until(revoked, x509::NOT_AFTER)
    }

    /// The same with the given nextUpdate, in Unix seconds.
    ///
    /// # Errors
    /// [`PkiError`] when it cannot be made.
    pub fn crl_until(&self, revoked: &[u32], next_update: u64) -> Result<Vec<u8>, PkiError> {
        let ark = &self.ark.tbs_certificate;
        let list = x509::issue_crl(
            &ark.subject,
            x509::authority_key_id(&ark.subject_public_key_info)?,
            1,
            revoked,
            next_update,
            &self.ark_signer,
            &self.seed,
        )?;
        Ok(list.to_der()?)
    }

    /// The serial of the certificate that signs VCEKs.
    #[must_use]
    pub fn ask_serial(&self) -> u32 {
        Serials::of(self.product).ask
    }

    /// ASK then ARK as PEM: the order of AMD's `cert_chain` and of Azure's `certificateChain`.
    ///
    /// # Errors
    /// [`PkiError`] when a certificate does not encode.
    pub fn chain_pem(&self) -> Result<String, PkiError> {
        x509::to_pem_chain([&self.ask, &self.ark])
    }

    fn vlek_issuer(&self, keys: &KeyRing) -> Result<&(Signer, Certificate), PkiError> {
        if let Some(issuer) = self.asvk.get() {
            return Ok(issuer);
        }
        let signer = ca_signer(keys, &format!("amd/asvk/{}", self.product))?;
        let certificate = intermediate(
            &self.ark,
            &self.ark_signer,
            &signer,
            Serials::of(self.product).asvk,
            &format!("SEV-VLEK-{}", self.product),
            &crl_uri("vlek", self.product),
            &self.seed,
        )?;
        Ok(self.asvk.get_or_init(|| (signer, certificate)))
    }

    fn leaf(
        &self,
        label: &str,
        common_name: &str,
        extensions: Vec<Extension>,
        issuer: &Certificate,
        signer: &Signer,
    ) -> Result<EndorsementKey, PkiError> {
        let key = p384::SecretKey::random(&mut self.seed.rng(label));
        let signer = match signer {
            Signer::RsaPssSha384 { key, .. } => {
                Signer::RsaPssSha384 { key: key.clone(), explicit_trailer: false }
            }
            other @ (Signer::RsaSha256(_) | Signer::RsaSha384(_)) => other.clone(),
        };
        let certificate = x509::issue(
            Profile {
                serial: 0,
                issuer: issuer.tbs_certificate.subject.clone(),
                subject: amd_name(common_name)?,
                public_key: public_key_info(&key.public_key())?,
                extensions,
            },
            &signer,
            &self.seed,
        )?;
        Ok(EndorsementKey { key, certificate })
    }
}

/// What a VCEK certificate says about its chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcekFacts {
    /// Product by the name extension.
    pub product: Product,
    /// The firmware that the key is derived for.
    pub tcb: Tcb,
    /// The chip, as long as the product's chip ids are.
    pub hwid: Vec<u8>,
}

/// Reads the extensions of a VCEK certificate.
///
/// # Errors
/// [`PkiError::Chain`] when one is missing or malformed.
pub fn vcek_facts(certificate: &Certificate) -> Result<VcekFacts, PkiError> {
    use der::Decode as _;
    let name = chain::raw(certificate, oid::PRODUCT_NAME)
        .and_then(|bytes| Ia5String::from_der(bytes).ok())
        .ok_or(PkiError::Chain("the VCEK names no product"))?;
    let product = Product::ALL
        .into_iter()
        .find(|product| name.as_str().split('-').next() == Some(product.name()))
        .ok_or(PkiError::Chain("the VCEK names an unknown product"))?;
    let level = |oid: ObjectIdentifier| {
        chain::number(certificate, oid).ok_or(PkiError::Chain("the VCEK lacks a patch level"))
    };
    let tcb = Tcb {
        fmc: if product == Product::Turin { level(oid::FMC)? } else { 0 },
        bootloader: level(oid::BOOTLOADER)?,
        tee: level(oid::TEE)?,
        snp: level(oid::SNP)?,
        microcode: level(oid::MICROCODE)?,
    };
    let hwid = chain::raw(certificate, oid::HWID)
        .ok_or(PkiError::Chain("the VCEK names no hardware"))?
        .to_vec();
    Ok(VcekFacts { product, tcb, hwid })
}

struct Serials {
    ark: u32,
    ask: u32,
    asvk: u32,
}

impl Serials {
    /// The serials of AMD's certificates today; Genoa's first ASK (0x20001) was revoked.
    const fn of(product: Product) -> Self {
        match product {
            Product::Milan => Self { ark: 0x1_0000, ask: 0x1_0001, asvk: 0x1_0101 },
            Product::Genoa => Self { ark: 0x2_0000, ask: 0x2_0002, asvk: 0x2_0101 },
            Product::Turin => Self { ark: 0x3_0000, ask: 0x3_0001, asvk: 0x3_0101 },
        }
    }
}

fn ca_signer(keys: &KeyRing, label: &str) -> Result<Signer, PkiError> {
    Ok(Signer::RsaPssSha384 { key: keys.rsa(label, 4096)?, explicit_trailer: true })
}

fn intermediate(
    ark: &Certificate,
    ark_signer: &Signer,
    own: &Signer,
    serial: u32,
    common_name: &str,
    crl: &str,
    seed: &Seed,
) -> Result<Certificate, PkiError> {
    let public_key = own.public_key()?;
    x509::issue(
        Profile {
            serial,
            issuer: ark.tbs_certificate.subject.clone(),
            subject: amd_name(common_name)?,
            extensions: vec![
                x509::subject_key_id(&public_key)?,
                x509::authority_key_id(&ark.tbs_certificate.subject_public_key_info)?,
                x509::basic_constraints(true, Some(0))?,
                x509::raw_extension(KEY_USAGE, true, &AMD_CERT_SIGN)?,
                x509::crl_distribution_point(crl)?,
            ],
            public_key,
        },
        ark_signer,
        seed,
    )
}

fn crl_uri(kind: &str, product: Product) -> String {
    format!("https://kdsintf.amd.com/{kind}/v1/{product}/crl")
}

pub(crate) fn amd_name(common_name: &str) -> Result<Name, PkiError> {
    x509::name(&[
        (attribute::UNIT, "Engineering"),
        (attribute::COUNTRY, "US"),
        (attribute::LOCALITY, "Santa Clara"),
        (attribute::STATE, "CA"),
        (attribute::ORGANIZATION, "Advanced Micro Devices"),
        (attribute::COMMON_NAME, common_name),
    ])
}

/// Structure version, product and patch levels, in the order in which AMD writes them.
fn tcb_extensions(product: Product, name: &str, tcb: Tcb) -> Result<Vec<Extension>, PkiError> {
    let levels: &[(ObjectIdentifier, u8)] = match product {
        Product::Milan | Product::Genoa => &[
            (oid::BOOTLOADER, tcb.bootloader),
            (oid::TEE, tcb.tee),
            (oid::SPL4, 0),
            (oid::SPL5, 0),
            (oid::SPL6, 0),
            (oid::SPL7, 0),
            (oid::SNP, tcb.snp),
            (oid::MICROCODE, tcb.microcode),
        ],
        Product::Turin => &[
            (oid::FMC, tcb.fmc),
            (oid::BOOTLOADER, tcb.bootloader),
            (oid::TEE, tcb.tee),
            (oid::SNP, tcb.snp),
            (oid::SPL5, 0),
            (oid::SPL6, 0),
            (oid::SPL7, 0),
            (oid::MICROCODE, tcb.microcode),
        ],
    };
    let struct_version = u8::from(product == Product::Turin);
    let mut extensions = vec![
        x509::extension_of(oid::STRUCT_VERSION, &struct_version)?,
        x509::extension_of(oid::PRODUCT_NAME, &Ia5String::new(name)?)?,
    ];
    for (oid, level) in levels {
        extensions.push(x509::extension_of(*oid, level)?);
    }
    Ok(extensions)
}

#[cfg(test)]
mod tests;
