//! The revocation list in evidence: there when it can be, and never in the way.

use attestation::verify;
use proto::attest::TlsCertificate;
use proto::attest::evidence_request::Purpose;
use sim::faults::CrlFault;
use sim::world::World;

use crate::bench::{Bench, evidence, foreign_keys, now, until};

fn certificate() -> Purpose {
    Purpose::TlsCertificate(TlsCertificate { spki_sha256: vec![3; 32], not_after: 77 })
}

async fn revocation_list(bench: &Bench) -> Option<Vec<u8>> {
    evidence(bench.evidence(certificate()).await.unwrap().evidence.as_ref()).crl
}

#[tokio::test]
async fn evidence_carries_the_revocation_list_once_it_is_there() {
    let revoked = |config: &mut sim::world::WorldConfig| config.revoked = vec![0x2_0001];
    let bench = Bench::with("context,kds", revoked, |_| {}).await;
    until(|| async { revocation_list(&bench).await.is_some() }).await;
    let expected = bench.group().machine().amd().crl(&[0x2_0001]).unwrap();
    assert_eq!(revocation_list(&bench).await, Some(expected));
    assert_eq!(bench.world.key_distribution().calls.crl.get(), 1);
    bench.holds().await;
    bench.stop().await;

    // Also one that revokes the machine's own issuer: to judge is for those who rely on evidence.
    let revokes = |world: &World| {
        world.key_distribution().faults.crl.until_cleared(CrlFault::RevokesIssuer);
    };
    let bench = Bench::with("context,kds", |_| {}, revokes).await;
    until(|| async { revocation_list(&bench).await.is_some() }).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_revocation_list_that_is_missing_late_or_wrong_never_holds_evidence_up() {
    for fault in [
        CrlFault::ServerError,
        CrlFault::TooManyRequests { retry_after: 1 },
        CrlFault::Stall,
        CrlFault::Garbage,
        CrlFault::Outdated,
        CrlFault::ForeignSigner,
    ] {
        let broken = |world: &World| {
            foreign_keys(world);
            world.key_distribution().faults.crl.until_cleared(fault.clone());
        };
        let bench = Bench::with("context,kds", |_| {}, broken).await;
        let calls = || bench.world.key_distribution().calls.crl.get();
        // The second question shows that the first answer was not taken. A stalled one stays the only one.
        let enough = if fault == CrlFault::Stall { 1 } else { 2 };
        until(|| async {
            bench.holds().await;
            calls() >= enough
        })
        .await;
        let whole = evidence(bench.evidence(certificate()).await.unwrap().evidence.as_ref());
        assert!(whole.crl.is_none(), "{fault:?}");
        assert!(verify(&whole, &bench.anchors(), now()).is_ok());

        bench.world.key_distribution().faults.crl.clear();
        until(|| async { revocation_list(&bench).await.is_some() }).await;
        bench.stop().await;
    }
}

#[tokio::test]
async fn without_amds_service_there_is_no_revocation_list() {
    let bench = Bench::with("context,thim,azure-cache", |_| {}, |_| {}).await;
    assert_eq!(revocation_list(&bench).await, None);
    assert_eq!(bench.world.key_distribution().calls.crl.get(), 0);
    bench.stop().await;
}
