//! The key distribution services of AMD and Azure.

use der::{Decode as _, Encode as _};
use reqwest::StatusCode;
use sim::clock;
use sim::faults::{CrlFault, KdsFault};
use sim::pki::amd::vcek_facts;
use sim::pki::chain;
use sim::tcb::Product;
use sim::world::HttpsConfig;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;

use crate::support::{Stage, stage};

const LEVELS: &str = "ucodeSPL=219&snpSPL=24&teeSPL=0&blSPL=4";

fn chip_id(stage: &Stage) -> String {
    hex::encode(stage.group().machine().chip_id())
}

#[tokio::test]
async fn a_known_chip_gets_its_certificate_and_an_unknown_one_does_not() {
    let stage = stage(|config| config.kds = Some(HttpsConfig::default())).await;
    let machine = stage.group().machine();
    for base in [stage.world.kds().unwrap().url.clone(), stage.group().imds_url()] {
        let url = format!("{base}/vcek/v1/Milan/{}?{LEVELS}", chip_id(&stage));
        let answer = stage.get(&url).await;
        assert_eq!(answer.status, StatusCode::OK);
        let own = machine.vcek(machine.tcb()).unwrap().certificate;
        assert_eq!(answer.body, own.to_der().unwrap());

        let stranger = hex::encode([9; 64]);
        let url = format!("{base}/vcek/v1/Milan/{stranger}?{LEVELS}");
        assert_eq!(stage.get(&url).await.status, StatusCode::NOT_FOUND);
        let url = format!("{base}/vcek/v1/Genoa/{}?{LEVELS}", chip_id(&stage));
        assert_eq!(stage.get(&url).await.status, StatusCode::NOT_FOUND);
        for query in ["", "blSPL=4", "ucodeSPL=256&snpSPL=24&teeSPL=0&blSPL=4"] {
            let url = format!("{base}/vcek/v1/Milan/{}?{query}", chip_id(&stage));
            assert_eq!(stage.get(&url).await.status, StatusCode::BAD_REQUEST, "{query}");
        }
    }
}

#[tokio::test]
async fn chain_and_revocation_list_belong_to_the_root() {
    let stage = stage(|config| config.revoked = vec![0x1_0001]).await;
    let base = stage.group().imds_url();
    let amd = stage.group().machine().amd();
    let chain = stage.get(&format!("{base}/vcek/v1/Milan/cert_chain")).await;
    assert_eq!(chain.text(), amd.chain_pem().unwrap());
    let written = std::fs::read_to_string(stage.world.folder().join("amd-chain.pem")).unwrap();
    assert_eq!(chain.text(), written);
    let crl = stage.get(&format!("{base}/vcek/v1/Milan/crl")).await;
    assert_eq!(crl.body, amd.crl(&[0x1_0001]).unwrap());
    let vlek = stage.get(&format!("{base}/vlek/v1/Milan/cert_chain")).await;
    assert_eq!(vlek.text().matches("BEGIN CERTIFICATE").count(), 2);
}

#[tokio::test]
async fn azures_cache_gives_the_chain_for_an_unpadded_tcb() {
    let stage = stage(|config| config.maa = None).await;
    let base = stage.group().imds_url();
    let path = format!("{base}/SevSnpVM/certificates/{}", chip_id(&stage));
    let version = "api-version=2020-10-15-preview";
    let url = format!("{path}/db18000000000004?{version}&clientId=ConfidentialACI");
    let answer = stage.get(&url).await;
    assert_eq!(answer.text().matches("BEGIN CERTIFICATE").count(), 3);
    let url = format!("{path}/db18000000000004");
    assert_eq!(stage.get(&url).await.status, StatusCode::BAD_REQUEST);
    let url = format!("{path}/nonsense?{version}");
    assert_eq!(stage.get(&url).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn turins_chips_have_eight_bytes_and_one_level_more() {
    let stage = stage(|config| config.groups[0].product = Product::Turin).await;
    let (base, machine) = (stage.group().imds_url(), stage.group().machine());
    assert!(machine.chip_id()[8..].iter().all(|byte| *byte == 0));
    let hwid = hex::encode(&machine.chip_id()[..8]);
    let levels = "fmcSPL=1&blSPL=1&teeSPL=1&snpSPL=4&ucodeSPL=76";
    let answer = stage.get(&format!("{base}/vcek/v1/Turin/{hwid}?{levels}")).await;
    let vcek = Certificate::from_der(&answer.body).unwrap();
    let amd = machine.amd();
    chain::verify(&[vcek, amd.ask().clone()], &[amd.ark().clone()], clock::now()).unwrap();
    let without_fmc = "blSPL=1&teeSPL=1&snpSPL=4&ucodeSPL=76";
    let answer = stage.get(&format!("{base}/vcek/v1/Turin/{hwid}?{without_fmc}")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_service_throttles_when_told_to() {
    let stage = stage(|config| config.kds = Some(HttpsConfig::default())).await;
    let kds = stage.world.kds().unwrap();
    kds.faults.once(KdsFault::TooManyRequests { retry_after: 2 });
    let url = format!("{}/vcek/v1/Milan/cert_chain", kds.url);
    let answer = stage.get(&url).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), "2");
    assert_eq!(stage.get(&url).await.status, StatusCode::OK);
}

#[tokio::test]
async fn faults_give_other_chips_older_firmware_and_what_is_no_certificate() {
    let stage = stage(|config| config.maa = None).await;
    let (base, machine) = (stage.group().imds_url(), stage.group().machine());
    let faults = &stage.world.key_distribution().faults;
    let amd = format!("{base}/vcek/v1/Milan/{}?{LEVELS}", chip_id(&stage));
    let azure = format!(
        "{base}/SevSnpVM/certificates/{}/db18000000000004?api-version=2020-10-15-preview",
        chip_id(&stage)
    );
    for (url, switch) in [(&amd, &faults.certificates), (&azure, &faults.cache)] {
        let leaf = async || {
            let answer = stage.get(url).await;
            assert_eq!(answer.status, StatusCode::OK);
            let leaf = Certificate::from_der(&answer.body)
                .ok()
                .or_else(|| Certificate::load_pem_chain(&answer.body).ok()?.into_iter().next());
            leaf.map(|leaf| vcek_facts(&leaf).unwrap())
        };
        switch.once(KdsFault::WrongChip);
        let facts = leaf().await.unwrap();
        assert_ne!(facts.hwid, machine.chip_id());
        assert_eq!(facts.tcb, machine.tcb());
        switch.once(KdsFault::StaleTcb);
        let facts = leaf().await.unwrap();
        assert_eq!(
            (facts.hwid.as_slice(), facts.tcb),
            (&machine.chip_id()[..], machine.tcb().older())
        );
        switch.once(KdsFault::Garbage);
        assert!(leaf().await.is_none());
        switch.once(KdsFault::NotFound);
        assert_eq!(stage.get(url).await.status, StatusCode::NOT_FOUND);
        assert_eq!(leaf().await.unwrap().hwid, machine.chip_id());
    }
    let calls = &stage.world.key_distribution().calls;
    assert_eq!((calls.vcek.get(), calls.cache.get(), calls.crl.get()), (5, 5, 0));
}

#[tokio::test]
async fn faults_give_lists_that_are_outdated_foreign_or_revoke_the_issuer() {
    let stage = stage(|config| config.maa = None).await;
    let url = format!("{}/vcek/v1/Milan/crl", stage.group().imds_url());
    let kds = stage.world.key_distribution();
    let amd = stage.group().machine().amd();
    let list = async || {
        let answer = stage.get(&url).await;
        CertificateList::from_der(&answer.body).unwrap().tbs_cert_list
    };
    let sound = list().await;
    assert!(sound.revoked_certificates.is_none());
    kds.faults.crl.once(CrlFault::Outdated);
    let next = list().await.next_update.unwrap().to_unix_duration().as_secs();
    assert!(next < clock::now());
    kds.faults.crl.once(CrlFault::RevokesIssuer);
    let revoked = list().await.revoked_certificates.unwrap();
    assert_eq!(revoked[0].serial_number, amd.ask().tbs_certificate.serial_number);
    kds.faults.crl.once(CrlFault::ForeignSigner);
    let foreign = list().await;
    assert_eq!(foreign.issuer, sound.issuer);
    assert_ne!(foreign.crl_extensions, sound.crl_extensions);
    kds.faults.crl.once(CrlFault::TooManyRequests { retry_after: 7 });
    assert_eq!(stage.get(&url).await.header("retry-after"), "7");
    assert_eq!(kds.calls.crl.get(), 5);
}
