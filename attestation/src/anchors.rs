//! Trust anchors: which roots a verifier believes. They belong to the verifier; nothing that is verified, and
//! no host of it, has a say in them.

use std::fmt::{self, Display};

use crate::certificate::{Certificate, CertificateError};
use crate::crl::Crl;
use crate::product::Product;
use crate::uvm;

/// SHA-256 of AMD's root certificates (ARK, DER) as published at kdsintf.amd.com, compared with five
/// independent copies. The certificates themselves come from the `sev` crate and are held against these.
const AMD_ROOTS: [(Product, &str); 3] = [
    (Product::Milan, "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
    (Product::Genoa, "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
    (Product::Turin, "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
];

/// SHA-256 of "Azure Virtual TPM Root Certificate Authority 2023" (DER), the root of the attestation keys of
/// Azure's virtual TPMs, as published with Azure's documentation of Trusted Launch. Evidence brings the path.
const AZURE_VTPM_ROOT: &str = "e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95";

/// Whether a verdict rests on the real roots. Every surface that shows a verdict shows this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// AMD's and Microsoft's published roots.
    Production,
    /// Anything else: a laptop's simulation, a test.
    NotProduction,
}

impl Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::NotProduction => "NOT PRODUCTION",
        })
    }
}

/// The roots that a verifier believes, and the revocation lists that it brings.
#[derive(Clone, Debug)]
pub struct Anchors {
    trust: Trust,
    roots: Vec<Root>,
    /// Issuers of endorsements of utility VMs: did:x509.
    endorsers: Vec<String>,
    lists: Vec<Crl>,
    /// SHA-256 of the roots of virtual TPMs.
    vtpm_roots: Vec<[u8; 32]>,
}

/// AMD's root and intermediate of one generation.
#[derive(Clone, Debug)]
struct Root {
    product: Product,
    ark_sha256: [u8; 32],
    /// ASK and ARK, for evidence that brings the leaf alone.
    chain: Vec<Certificate>,
}

impl Anchors {
    /// AMD's published roots, and Microsoft's issuer of endorsements.
    #[must_use]
    pub fn production() -> Self {
        use sev::certs::snp::builtin::{genoa, milan, turin};
        let roots = AMD_ROOTS.map(|(product, pin)| {
            let (ask, ark) = match product {
                Product::Milan => (milan::ASK, milan::ARK),
                Product::Genoa => (genoa::ASK, genoa::ARK),
                Product::Turin => (turin::ASK, turin::ARK),
            };
            let chain = built_in(ask).chain(built_in(ark)).collect();
            Root { product, ark_sha256: pinned(pin), chain }
        });
        Self {
            trust: Trust::Production,
            roots: roots.into(),
            endorsers: vec![uvm::MICROSOFT.to_owned()],
            vtpm_roots: vec![pinned(AZURE_VTPM_ROOT)],
            lists: Vec::new(),
        }
    }

    /// The same with a revocation list that the verifier brings, beside whatever the evidence does. It counts
    /// for chains of the root that it names, and refuses them if that root did not sign it.
    #[must_use]
    pub fn with_list(mut self, list: Crl) -> Self {
        self.lists.push(list);
        self
    }

    /// Whether these are the published ones.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// SHA-256 of the believed ARKs of a generation. More than one only if a danger anchor was given twice.
    pub(crate) fn ark_digests(&self, product: Product) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.of(product).map(|root| root.ark_sha256)
    }

    /// ASK and ARK of a generation as this verifier knows them, for evidence that brings none.
    pub(crate) fn chain(&self, product: Product) -> Option<&[Certificate]> {
        self.of(product).map(|root| root.chain.as_slice()).find(|chain| chain.len() == 2)
    }

    /// The issuers whose endorsements of utility VMs are believed: did:x509, to be compared byte for byte.
    pub(crate) fn endorsers(&self) -> &[String] {
        &self.endorsers
    }

    /// The revocation lists that name this root.
    pub(crate) fn lists<'a>(&'a self, root: &'a Certificate) -> impl Iterator<Item = &'a Crl> {
        self.lists.iter().filter(|list| list.names_as_issuer(root))
    }

    /// Whether the attestation keys of virtual TPMs may descend from this certificate.
    pub(crate) fn believes_vtpm_root(&self, sha256: &[u8; 32]) -> bool {
        self.vtpm_roots.contains(sha256)
    }

    fn of(&self, product: Product) -> impl Iterator<Item = &Root> {
        self.roots.iter().filter(move |root| root.product == product)
    }
}

fn pinned(digest: &str) -> [u8; 32] {
    let mut out = [0; 32];
    hex::decode_to_slice(digest, &mut out).expect("a constant of 64 hexadecimal digits");
    out
}

/// The text comes from the `sev` crate. Were it unreadable, the chain would be missing and evidence without
/// one refused; a test reads them all.
fn built_in(pem: &[u8]) -> impl Iterator<Item = Certificate> {
    let text = std::str::from_utf8(pem).unwrap_or_default();
    Certificate::sequence_from_pem(text).unwrap_or_default().into_iter()
}

/// Anchors that are not AMD's: for simulations and tests, never for a service that people rely on.
pub mod danger {
    use super::{Certificate, CertificateError, Product, Root, Trust};
    use crate::encoding::to_b64u;

    /// A PEM text holds no usable root.
    #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum AnchorsError {
        /// Not certificates.
        #[error(transparent)]
        Certificate(#[from] CertificateError),
        /// A certificate is neither ARK-* nor SEV-* nor a root of its own.
        #[error(
            "a certificate of {0:?} is neither ARK-<generation> nor SEV-<generation>, nor a self-signed authority"
        )]
        Name(String),
        /// No ARK among them.
        #[error("there is no ARK-<generation> among the certificates")]
        NoRoot,
    }

    /// Namespace of the dangerous constructors.
    #[derive(Debug)]
    pub struct Anchors;

    impl Anchors {
        /// Believes the ARKs of a PEM text; ASKs beside them serve evidence that brings the leaf alone. Any other
        /// self-signed authority is believed to endorse utility VMs, by leaves for confidential containers;
        /// without one, no endorsement is.
        ///
        /// # Errors
        ///
        /// [`AnchorsError`].
        pub fn from_pem(text: &str) -> Result<super::Anchors, AnchorsError> {
            let (mut arks, mut asks, mut endorsers) = (Vec::new(), Vec::new(), Vec::new());
            for certificate in Certificate::sequence_from_pem(text)? {
                let name = certificate.subject_cn().unwrap_or_default();
                let product = |prefix| Product::from_product_name(name.strip_prefix(prefix)?);
                match (product("ARK-"), product("SEV-")) {
                    (Some(product), _) => arks.push((product, certificate)),
                    (None, Some(product)) => asks.push((product, certificate)),
                    (None, None) if is_root(&certificate) => endorsers.push(endorser(&certificate)),
                    (None, None) => return Err(AnchorsError::Name(name)),
                }
            }
            if arks.is_empty() {
                return Err(AnchorsError::NoRoot);
            }
            let roots = arks
                .into_iter()
                .map(|(product, ark)| {
                    let ask = asks.iter().find(|(of, _)| *of == product).map(|(_, ask)| ask);
                    let ark_sha256 = ark.fingerprint();
                    Root {
                        product,
                        ark_sha256,
                        chain: ask.cloned().into_iter().chain([ark]).collect(),
                    }
                })
                .collect();
            let trust = Trust::NotProduction;
            let (vtpm_roots, lists) = (Vec::new(), Vec::new());
            Ok(super::Anchors { trust, roots, endorsers, vtpm_roots, lists })
        }

        /// The same anchors, which from now on are not production's, believing the certificates of a PEM text
        /// as roots of virtual TPMs, and no others.
        ///
        /// # Errors
        ///
        /// [`AnchorsError::Certificate`].
        pub fn with_vtpm_roots(
            anchors: super::Anchors,
            text: &str,
        ) -> Result<super::Anchors, AnchorsError> {
            let roots = Certificate::sequence_from_pem(text)?;
            let vtpm_roots = roots.iter().map(Certificate::fingerprint).collect();
            Ok(super::Anchors { trust: Trust::NotProduction, vtpm_roots, ..anchors })
        }
    }

    fn is_root(certificate: &Certificate) -> bool {
        certificate.is_authority()
            && certificate.names_as_issuer(certificate)
            && certificate.verify_signature(certificate).is_ok()
    }

    /// Leaves for confidential containers below this root, as Microsoft's identifier says it of its own.
    fn endorser(root: &Certificate) -> String {
        let fingerprint = to_b64u(&root.fingerprint());
        format!("did:x509:0:sha256:{fingerprint}::eku:1.3.6.1.4.1.311.76.59.1.2")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_certificates_are_the_pinned_ones() {
        let anchors = Anchors::production();
        assert_eq!(anchors.trust(), Trust::Production);
        for product in Product::ALL {
            let [ask, ark] = anchors.chain(product).unwrap() else { panic!("as built") };
            assert_eq!(anchors.ark_digests(product).collect::<Vec<_>>(), [ark.fingerprint()]);
            assert_eq!(ark.subject_cn().unwrap(), format!("ARK-{product}"));
            assert_eq!(ask.subject_cn().unwrap(), format!("SEV-{product}"));
            ask.verify_pss_sha384(ark).unwrap();
            ark.verify_pss_sha384(ark).unwrap();
        }
    }

    #[test]
    fn a_verdict_says_loudly_what_it_rests_on() {
        assert_eq!(Trust::Production.to_string(), "production");
        assert_eq!(Trust::NotProduction.to_string(), "NOT PRODUCTION");
    }

    #[test]
    fn anchors_from_pem_are_never_production() {
        let pem = std::str::from_utf8(sev::certs::snp::builtin::milan::ARK).unwrap();
        assert_eq!(danger::Anchors::from_pem(pem).unwrap().trust(), Trust::NotProduction);
        assert_eq!(
            danger::Anchors::from_pem("").unwrap_err(),
            danger::AnchorsError::Certificate(CertificateError::Pem)
        );
        let ask = std::str::from_utf8(sev::certs::snp::builtin::milan::ASK).unwrap();
        assert_eq!(danger::Anchors::from_pem(ask).unwrap_err(), danger::AnchorsError::NoRoot);
    }

    #[test]
    fn a_danger_root_endorses_and_is_not_believed_in_production() {
        let ark = std::str::from_utf8(sev::certs::snp::builtin::milan::ARK).unwrap();
        assert!(danger::Anchors::from_pem(ark).unwrap().endorsers().is_empty());

        let maker = crate::testing::Maker::new();
        let text = format!("{ark}\n{}", maker.root_pem());
        let anchors = danger::Anchors::from_pem(&text).unwrap();
        assert_eq!(anchors.trust(), Trust::NotProduction);
        assert_eq!(anchors.endorsers(), [maker.did()]);
        assert_eq!(Anchors::production().endorsers(), [uvm::MICROSOFT]);

        assert_eq!(
            danger::Anchors::from_pem(&maker.root_pem()).unwrap_err(),
            danger::AnchorsError::NoRoot,
            "no world without processors"
        );
    }

    #[test]
    fn only_a_self_signed_authority_is_a_root() {
        let ark = std::str::from_utf8(sev::certs::snp::builtin::milan::ARK).unwrap();
        let maker = crate::testing::Maker::new();
        for pem in [maker.leaf_pem(), maker.intermediate_pem(), maker.lone_leaf_pem()] {
            let refused = danger::Anchors::from_pem(&format!("{ark}\n{pem}")).unwrap_err();
            assert!(matches!(refused, danger::AnchorsError::Name(_)), "{refused}");
        }
    }

    #[test]
    fn microsofts_identifier_is_one() {
        let did: crate::did_x509::Did = uvm::MICROSOFT.parse().unwrap();
        assert_eq!(did.id(), uvm::MICROSOFT);
    }
}
