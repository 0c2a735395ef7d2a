//! Where certificates come from: each source alone, their order, and what becomes of wrong, slow and missing answers.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use proto::attest::TlsCertificate;
use proto::attest::evidence_request::Purpose;
use sim::faults::{DeviceFault, KdsFault, ThimFault};
use sim::tcb::Product;
use sim::world::World;
use tonic::Code;

use crate::bench::{Bench, PATIENCE, channel, evidence, foreign_keys, until};

const ALL: &str = "context,thim,azure-cache,kds";

fn certificate() -> Purpose {
    Purpose::TlsCertificate(TlsCertificate { spki_sha256: vec![3; 32], not_after: 77 })
}

/// How often THIM, Azure's cache and AMD were asked for certificates.
fn calls(bench: &Bench) -> [u64; 3] {
    let calls = &bench.world.key_distribution().calls;
    [bench.group().thim_calls(), calls.cache.get(), calls.vcek.get()]
}

fn thim(world: &World, fault: ThimFault) {
    world.groups().first().unwrap().imds_faults().thim.until_cleared(fault);
}

#[tokio::test]
async fn each_source_alone_is_enough() {
    for (source, expected) in [
        ("context", [0, 0, 0]),
        ("thim", [1, 0, 0]),
        ("azure-cache", [0, 1, 0]),
        ("kds", [0, 0, 1]),
    ] {
        let bench = Bench::with(source, |_| {}, |_| {}).await;
        for _ in 0..3 {
            bench.holds().await;
        }
        assert_eq!(calls(&bench), expected, "{source}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn every_generation_is_served_by_amd_and_azures_cache() {
    for product in [Product::Genoa, Product::Turin] {
        for source in ["azure-cache", "kds"] {
            let bench =
                Bench::with(source, |config| config.groups[0].product = product, |_| {}).await;
            bench.holds().await;
            bench.stop().await;
        }
    }
}

/// Such a report does not state its processor: AMD is asked for Milan, says 404, and for Genoa.
#[tokio::test]
async fn the_generation_behind_a_report_of_version_2_is_found() {
    let change = |config: &mut sim::world::WorldConfig| {
        config.groups[0].product = Product::Genoa;
        config.groups[0].amend = |report| {
            report.version = 2;
            report.cpuid = [0; 3];
        };
    };
    let bench = Bench::with("kds", change, |_| {}).await;
    bench.holds().await;
    assert_eq!(calls(&bench), [0, 0, 2]);
    bench.stop().await;

    // A certificate of the chip for another TCB tells its generation.
    let bench = Bench::with("context,kds", change, |_| {}).await;
    bench.holds().await;
    bench.group().device_faults().until_cleared(DeviceFault::OldTcb);
    bench.holds().await;
    assert_eq!(calls(&bench), [0, 0, 1]);
    bench.stop().await;
}

#[tokio::test]
async fn sources_are_asked_in_order_until_one_has_certificates_that_fit() {
    let bench = Bench::with(
        "thim,azure-cache,kds",
        |_| {},
        |world| {
            thim(world, ThimFault::NotFound);
            world.key_distribution().faults.cache.until_cleared(KdsFault::NotFound);
        },
    )
    .await;
    bench.holds().await;
    assert_eq!(calls(&bench), [1, 1, 1]);
    bench.stop().await;

    let bench = Bench::with("kds,azure-cache,thim", |_| {}, |_| {}).await;
    bench.holds().await;
    assert_eq!(calls(&bench), [0, 0, 1]);
    bench.stop().await;
}

#[tokio::test]
async fn certificates_of_another_chip_world_or_tcb_are_refused_and_the_next_source_is_asked() {
    for fault in [KdsFault::WrongChip, KdsFault::StaleTcb, KdsFault::Garbage, KdsFault::Oversized] {
        let bench = Bench::with(
            "thim,azure-cache,kds",
            |_| {},
            |world| {
                foreign_keys(world);
                thim(world, ThimFault::ForeignChain);
                world.key_distribution().faults.cache.until_cleared(fault.clone());
            },
        )
        .await;
        bench.holds().await;
        assert_eq!(calls(&bench), [1, 1, 1], "{fault:?}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn certificates_that_do_not_fit_never_leave_whoever_sends_them() {
    for (fault, says) in [
        (KdsFault::WrongChip, "the leaf is another chip's"),
        (KdsFault::StaleTcb, "doesn't match Certificate TCB value"),
        (KdsFault::Garbage, "its answer cannot be used"),
        (KdsFault::Oversized, "answered with more than 65536 bytes"),
    ] {
        let bench = Bench::with(
            "azure-cache,kds",
            |_| {},
            |world| {
                world.key_distribution().faults.cache.until_cleared(fault.clone());
                world.key_distribution().faults.certificates.until_cleared(fault.clone());
            },
        )
        .await;
        let status = bench.evidence(certificate()).await.err().unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{fault:?}");
        assert_eq!(status.message().matches(says).count(), 2, "{fault:?}: {status}");
        bench.stop().await;
    }
}

/// The firmware is rolled back, then forward again: new certificates are fetched, and the old ones are still there.
#[tokio::test]
async fn when_the_tcb_moves_new_certificates_are_fetched_and_the_old_ones_kept() {
    let bench = Bench::with(ALL, |_| {}, |_| {}).await;
    let current = bench.holds().await;
    assert_eq!(calls(&bench), [0, 0, 0]);

    bench.group().device_faults().until_cleared(DeviceFault::OldTcb);
    let previous = bench.holds().await;
    assert_ne!(previous, current);
    // What is mounted and THIM are of the current firmware; the cache is asked for the one that is reported.
    assert_eq!(calls(&bench), [1, 1, 0]);

    bench.group().device_faults().clear();
    assert_eq!(bench.holds().await, current);
    bench.group().device_faults().until_cleared(DeviceFault::OldTcb);
    assert_eq!(bench.holds().await, previous);
    assert_eq!(calls(&bench), [1, 1, 0]);
    bench.stop().await;
}

/// The one source has the certificates of the present firmware, and the first report is from before the update.
#[tokio::test]
async fn a_report_from_before_the_tcb_moved_is_made_anew() {
    let moving = |world: &World| {
        world.groups().first().unwrap().device_faults().once(DeviceFault::OldTcb);
    };
    let bench = Bench::with("thim", |_| {}, moving).await;
    bench.holds().await;
    bench.stop().await;
}

#[tokio::test]
async fn security_patch_levels_above_127_are_read_as_they_are() {
    for source in ["thim", "azure-cache", "kds"] {
        let change = |config: &mut sim::world::WorldConfig| {
            let tcb = Product::Milan.current_tcb();
            config.groups[0].tcb = Some(sim::tcb::Tcb { microcode: 0xd5, ..tcb });
        };
        let bench = Bench::with(source, change, |_| {}).await;
        assert_eq!(bench.holds().await[7], 0xd5);
        let vek = evidence(bench.evidence(certificate()).await.unwrap().evidence.as_ref()).vek;
        // INTEGER 213 in DER has a leading zero byte.
        assert!(vek.windows(4).any(|bytes| bytes == [0x02, 0x02, 0x00, 0xd5]), "{source}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_source_that_throttles_is_left_alone_for_as_long_as_it_asks() {
    // A second is waited for …
    let started = Instant::now();
    let bench = Bench::with(
        "azure-cache,kds",
        |_| {},
        |world| {
            let fault = KdsFault::TooManyRequests { retry_after: 1 };
            world.key_distribution().faults.cache.next_calls(fault, NonZeroU32::MIN);
        },
    )
    .await;
    bench.holds().await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(calls(&bench), [0, 2, 0]);
    bench.stop().await;

    // … ten minutes are not, and while they last the source is not asked again.
    let bench = Bench::with(
        "azure-cache,kds",
        |_| {},
        |world| {
            let fault = KdsFault::TooManyRequests { retry_after: 600 };
            world.key_distribution().faults.cache.next_calls(fault, NonZeroU32::MIN);
        },
    )
    .await;
    bench.holds().await;
    assert_eq!(calls(&bench), [0, 1, 1]);
    bench.group().device_faults().until_cleared(DeviceFault::OldTcb);
    bench.holds().await;
    assert_eq!(calls(&bench), [0, 1, 2]);
    bench.stop().await;
}

#[tokio::test]
async fn many_who_wait_cause_one_question() {
    const CALLERS: u64 = 32;
    let stall = |world: &World| thim(world, ThimFault::Stall);
    let bench = Bench::with("thim", |_| {}, stall).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = bench.client.clone();
        let request = proto::attest::EvidenceRequest { purpose: Some(certificate()) };
        callers.spawn(async move { client.get_evidence(request).await.map(|_| ()) });
    }
    let reported = async {
        while bench.group().processor().reports() < CALLERS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reported).await.unwrap();
    bench.group().imds_faults().thim.clear();
    while let Some(answered) = callers.join_next().await {
        answered.unwrap().unwrap();
    }
    assert_eq!(calls(&bench), [1, 0, 0]);
    bench.stop().await;
}

/// Those who waited for a question that failed get its answer, instead of asking the same again one after the other.
#[tokio::test]
async fn many_who_wait_share_a_failure() {
    let bench = Bench::with(
        "kds",
        |_| {},
        |world| {
            world.key_distribution().faults.certificates.until_cleared(KdsFault::NotFound);
        },
    )
    .await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let mut client = bench.client.clone();
        let request = proto::attest::EvidenceRequest { purpose: Some(certificate()) };
        callers.spawn(async move { client.get_evidence(request).await.err().unwrap() });
    }
    while let Some(status) = callers.join_next().await {
        assert_eq!(status.unwrap().code(), Code::Unavailable);
    }
    let asked = calls(&bench)[2];
    assert!(asked <= 2, "AMD was asked {asked} times");
    bench.stop().await;
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_end_what_others_wait_for() {
    let bench = Bench::with("thim", |_| {}, |world| thim(world, ThimFault::Stall)).await;
    let gone = tokio::time::timeout(Duration::from_millis(300), bench.evidence(certificate()));
    assert!(gone.await.is_err());
    bench.group().imds_faults().thim.clear();
    bench.holds().await;
    assert_eq!(calls(&bench), [1, 0, 0]);
    bench.stop().await;
}

#[tokio::test]
async fn when_every_source_fails_the_error_says_which_why_and_what_to_do() {
    let bench = Bench::with(
        "thim,azure-cache,kds",
        |_| {},
        |world| {
            thim(world, ThimFault::NotFound);
            world.key_distribution().faults.cache.until_cleared(KdsFault::NotFound);
            world.key_distribution().faults.certificates.until_cleared(KdsFault::NotFound);
        },
    )
    .await;
    let status = bench.prove(vec![channel()]).await.err().unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    for part in [
        "thim: ",
        "azure-cache: ",
        "kds: ",
        "http response status equal to 404",
        "ATTEST_CERTIFICATE_SOURCES",
    ] {
        assert!(status.message().contains(part), "{part}: {}", status.message());
    }

    // When they are back, so is evidence, without a restart.
    bench.world.key_distribution().faults.certificates.clear();
    until(|| async { bench.evidence(certificate()).await.is_ok() }).await;
    bench.holds().await;
    bench.stop().await;
}

/// A source that answers nothing costs its share of the time, and no more than once.
#[tokio::test]
async fn a_source_that_stalls_is_passed_over() {
    let bench = Bench::with("thim,kds", |_| {}, |world| thim(world, ThimFault::Stall)).await;
    bench.holds().await;
    assert_eq!(calls(&bench)[2], 1);
    bench.group().device_faults().until_cleared(DeviceFault::OldTcb);
    let started = Instant::now();
    bench.evidence(certificate()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    bench.stop().await;
}
