//! The derived certificates verify, repeat, and look like AMD's own.

use std::fs;
use std::path::Path;

use super::*;
use crate::clock;
use crate::pki::certificate::{from_der, from_pem_chain, to_pem};
use crate::testing;

fn keys(seed: &str) -> KeyRing {
    KeyRing::new(Seed::new(seed), testing::state())
}

#[test]
fn the_derived_chain_verifies_up_to_its_own_root_only() {
    let amd = AmdAuthority::derive(&keys("laptop"), Product::Milan).unwrap();
    let other = AmdAuthority::derive(&keys("another world"), Product::Milan).unwrap();
    let tcb = Product::Milan.current_tcb();
    let vcek = amd.vcek(&[7; 64], tcb).unwrap().certificate;
    let chain = [vcek.clone(), amd.ask().clone(), amd.ark().clone()];
    chain::verify(&chain, &[amd.ark().clone()], clock::now()).unwrap();
    chain::verify(&chain[..2], &[amd.ark().clone()], clock::now()).unwrap();
    assert!(chain::verify(&chain, &[other.ark().clone()], clock::now()).is_err());
    assert!(chain::verify(&chain[..2], &[other.ark().clone()], clock::now()).is_err());
    assert!(chain::verify(&chain, &[amd.ark().clone()], 4_000_000_000).is_err());

    let facts = vcek_facts(&vcek).unwrap();
    assert_eq!(facts, VcekFacts { product: Product::Milan, tcb, hwid: vec![7; 64] });
}

#[test]
fn certificates_are_the_same_bytes_every_time() {
    let make = || {
        let amd = AmdAuthority::derive(&keys("laptop"), Product::Milan).unwrap();
        let vcek = amd.vcek(&[7; 64], Product::Milan.current_tcb()).unwrap();
        (amd.chain_pem().unwrap(), to_pem(&vcek.certificate).unwrap(), amd.crl(&[3]).unwrap())
    };
    assert_eq!(make(), make());
}

#[test]
fn the_vlek_chain_and_the_revocation_list_verify() {
    let keys = keys("laptop");
    let amd = AmdAuthority::derive(&keys, Product::Milan).unwrap();
    let vlek = amd.vlek(&keys, "CN=cloud.example", Product::Milan.current_tcb()).unwrap();
    let chain = [vlek.certificate, amd.asvk(&keys).unwrap().clone()];
    chain::verify(&chain, &[amd.ark().clone()], clock::now()).unwrap();

    use der::Decode as _;
    let crl = x509_cert::crl::CertificateList::from_der(&amd.crl(&[0x1_0001]).unwrap()).unwrap();
    crate::pki::signer::verify(
        &crl.signature_algorithm,
        &amd.ark().tbs_certificate.subject_public_key_info,
        &crl.tbs_cert_list.to_der().unwrap(),
        crl.signature.raw_bytes(),
    )
    .unwrap();
    let revoked = crl.tbs_cert_list.revoked_certificates.unwrap();
    assert_eq!(revoked[0].serial_number.as_bytes(), [1, 0, 1]);
}

fn pem(folder: &Path, name: &str) -> Certificate {
    from_pem_chain(&fs::read_to_string(folder.join(name)).unwrap()).unwrap().remove(0)
}

/// Everything but keys, key identifiers, validity and signatures is as AMD has it.
fn same_profile(own: &Certificate, real: &Certificate) {
    let (own, real) = (&own.tbs_certificate, &real.tbs_certificate);
    assert_eq!(own.serial_number, real.serial_number);
    assert_eq!(own.signature, real.signature);
    assert_eq!(own.issuer, real.issuer);
    assert_eq!(own.subject, real.subject);
    assert_eq!(own.subject_public_key_info.algorithm, real.subject_public_key_info.algorithm);
    let list = |certificate: &x509_cert::TbsCertificate| {
        certificate
            .extensions
            .iter()
            .flatten()
            .map(|extension| {
                let own_value =
                    ["2.5.29.14", "2.5.29.35"].contains(&extension.extn_id.to_string().as_str());
                let value = extension.extn_value.as_bytes();
                let value = if own_value { &[] } else { value };
                (extension.extn_id, extension.critical, value.to_vec())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(list(own), list(real));
}

#[test]
fn the_profiles_are_those_of_amds_certificates() {
    let Some(folder) = testing::vectors() else { return };
    let keys = keys("laptop");
    for product in Product::ALL {
        let amd = AmdAuthority::derive(&keys, product).unwrap();
        let name = product.name().to_lowercase();
        let real =
            fs::read_to_string(folder.join(format!("trustee/roots/{name}_ask_ark_asvk.pem")));
        let real = from_pem_chain(&real.unwrap()).unwrap();
        same_profile(amd.ask(), &real[0]);
        same_profile(amd.ark(), &real[1]);
        same_profile(amd.asvk(&keys).unwrap(), &real[2]);
        chain::verify(&real[..2], &real[1..2], clock::now()).unwrap();
        assert!(chain::verify(&real[..2], &[amd.ark().clone()], clock::now()).is_err());
    }
}

#[test]
fn the_leaves_are_those_of_amds_key_service() {
    let Some(folder) = testing::vectors() else { return };
    let keys = keys("laptop");
    let turin = fs::read(folder.join("virtee-sev/certs_data/vcek_turin.der")).unwrap();
    for (product, real) in [
        (Product::Milan, pem(&folder, "aci-reports/milan_vcek.pem")),
        (Product::Genoa, pem(&folder, "aci-reports/genoa_vcek.pem")),
        (Product::Turin, from_der(&turin).unwrap()),
    ] {
        let facts = vcek_facts(&real).unwrap();
        assert_eq!(facts.product, product);
        let mut chip_id = [0; 64];
        chip_id[..facts.hwid.len()].copy_from_slice(&facts.hwid);
        let amd = AmdAuthority::derive(&keys, product).unwrap();
        same_profile(&amd.vcek(&chip_id, facts.tcb).unwrap().certificate, &real);
    }
    let vlek = from_der(&fs::read(folder.join("trustee/snp/test-vlek.der")).unwrap()).unwrap();
    let amd = AmdAuthority::derive(&keys, Product::Milan).unwrap();
    let tcb = Tcb { fmc: 0, bootloader: 4, tee: 0, snp: 0x18, microcode: 0xd9 };
    let own = amd.vlek(&keys, "CN=cc-us-east-2.amazonaws.com", tcb).unwrap();
    same_profile(&own.certificate, &vlek);
}
