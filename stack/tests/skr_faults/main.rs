//! Secure key release while a party misbehaves, with everything between caller and party as it ships: a failure names
//! the party and the step, over both protocols, and holds no secret; the process lives, and the next good release is
//! fine. Every fault of the simulated vault, attestation service, identity service and security processor is here.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on, fails"
)]

mod attestation;
mod bench;

use sim::faults::{DeviceFault, IdentityFault, MaaFault, ThimFault, VaultFault};
use tonic::Code;

use crate::bench::{Bench, Told, tells};

const VAULT: &str = "releasing the key key failed: ";
const REFUSED: &str = "pulling AKV response body failed: ";
const MAA: &str = "Retrieving MAA token from MAA endpoint failed: ";
const IDENTITY: &str = "retrieving authentication token failed: ";

/// Longer than any deadline of ours: such a pause is not begun.
const LONG: u32 = 600;

#[tokio::test]
async fn a_vault() {
    let bench = Bench::start().await;
    let faults = &bench.world.vault().unwrap().faults;
    bench.is_fine("before", "").await;
    let reachable = "AKV post request failed: the key vault ";
    let rows: [(VaultFault, Code, &[&str]); 15] = [
        (VaultFault::Unauthorized, Code::Unauthenticated, &[REFUSED, "equal to 401 Unauthorized"]),
        (VaultFault::Forbidden, Code::PermissionDenied, &[REFUSED, "equal to 403 Forbidden"]),
        (VaultFault::NotFound, Code::NotFound, &[REFUSED, "equal to 404 Not Found"]),
        (
            VaultFault::TooManyRequests { retry_after: LONG },
            Code::Unavailable,
            &[REFUSED, "equal to 429 Too Many Requests"],
        ),
        (VaultFault::ServerError, Code::Unavailable, &[REFUSED, "equal to 500 Internal Server"]),
        (VaultFault::Truncated, Code::Unavailable, &[reachable, "cannot be reached"]),
        (VaultFault::Oversized, Code::Internal, &[reachable, "more than 524288 bytes"]),
        (VaultFault::EmptyX5c, Code::Internal, &["must bring 1 to 8 certificates in x5c"]),
        (
            VaultFault::ForeignX5c,
            Code::Internal,
            &["verification of leaf's certificate chain failed: x509: "],
        ),
        (VaultFault::WrongEnc, Code::Internal, &["for another enc than"]),
        (VaultFault::WrongKid, Code::Internal, &["for another kid than"]),
        (
            VaultFault::ShortCiphertext,
            Code::Internal,
            &["aes key unwrap failed: ", "impossible length of 100 bytes"],
        ),
        (VaultFault::ReplayPrevious, Code::Internal, &["for another nonce than"]),
        (VaultFault::KeySwapped, Code::Internal, &[]),
        (VaultFault::Stall, Code::Unavailable, &[reachable, "did not answer in time"]),
    ];
    for (fault, code, fragments) in rows {
        let what = format!("{fault:?}");
        let swapped = fault == VaultFault::KeySwapped;
        faults.until_cleared(fault);
        // A key under another's name is noticed when it is unwrapped: then the text is about the key.
        let step = if swapped {
            "the released key is another one than the vault published"
        } else {
            VAULT
        };
        let fragments: Vec<&str> = fragments.iter().copied().chain([step]).collect();
        bench.fails(&what, "", &Told { code, fragments: &fragments }).await;
        faults.clear();
        bench.is_fine(&what, "").await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn an_attestation_service() {
    let bench = Bench::start().await;
    let faults = &bench.world.maa().unwrap().faults;
    let (pulling, post) = ("pulling maa post response failed: ", "maa post request failed: ");
    let believed = "MAA's token is not believed: ";
    let rows: [(MaaFault, Code, &[&str]); 11] = [
        (MaaFault::BadRequest, Code::FailedPrecondition, &[pulling, "equal to 400 Bad Request"]),
        (
            MaaFault::TooManyRequests { retry_after: LONG },
            Code::Unavailable,
            &[pulling, "equal to 429 Too Many Requests"],
        ),
        (MaaFault::ServerError, Code::Unavailable, &[pulling, "equal to 500 Internal Server"]),
        (MaaFault::Truncated, Code::Unavailable, &[post, "MAA cannot be reached"]),
        (MaaFault::Oversized, Code::Internal, &[pulling, "more than 262144 bytes"]),
        (MaaFault::ForeignKey, Code::Internal, &[believed, "J4 ("]),
        (MaaFault::WrongIssuer, Code::Internal, &[believed, "J1 ("]),
        (MaaFault::Expired, Code::Internal, &[believed, "J5 ("]),
        (MaaFault::AlgNone, Code::Internal, &[believed, "J3 ("]),
        (MaaFault::OtherRuntimeData, Code::Internal, &[believed, "J9 (", "J12 ("]),
        (MaaFault::Stall, Code::DeadlineExceeded, &[post, "MAA did not answer in time"]),
    ];
    for (fault, code, fragments) in rows {
        let what = format!("{fault:?}");
        let fragments: Vec<&str> = fragments.iter().copied().chain([MAA]).collect();
        let told = Told { code, fragments: &fragments };
        faults.until_cleared(fault.clone());
        bench.fails(&what, "", &told).await;
        if fault != MaaFault::Stall {
            let (status, text) = bench.maa().await.err().unwrap();
            assert_eq!(status, 403, "{what}: {text}");
            assert!(text.starts_with("attestation failed\n"), "{what}: {text}");
            // A caller's own runtime data is not compared as JSON.
            let fragments: Vec<_> =
                fragments.into_iter().filter(|fragment| *fragment != "J12 (").collect();
            tells(&what, &text, &Told { code, fragments: &fragments });
        }
        faults.clear();
        bench.is_fine(&what, "").await;
    }
    assert!(bench.maa().await.unwrap()["token"].as_str().unwrap().starts_with("eyJ"));
    bench.stop().await;
}

/// In between, a caller's own token releases, so that none of the group's is at hand yet when the identity fails.
#[tokio::test]
async fn an_identity_service() {
    let bench = Bench::start().await;
    let faults = &bench.world.groups().first().unwrap().imds_faults().identity;
    let own = bench.callers_token();
    let refused = "pulling http get authentication token response failed: ";
    let rows: [(IdentityFault, Code, &[&str]); 6] = [
        (IdentityFault::NotFound, Code::FailedPrecondition, &[refused, "equal to 404 Not Found"]),
        (IdentityFault::NotReady, Code::FailedPrecondition, &[refused, "equal to 400 Bad Request"]),
        (IdentityFault::ServerError, Code::Unavailable, &[refused, "equal to 500 Internal Server"]),
        (
            IdentityFault::TooManyRequests { retry_after: 1 },
            Code::Unavailable,
            &[refused, "equal to 429 Too Many Requests"],
        ),
        (
            IdentityFault::Stall,
            Code::Unavailable,
            &["http get authentication token failed: the identity service did not answer in time"],
        ),
        // Another resource's token: the vault says so.
        (
            IdentityFault::WrongAudience,
            Code::Unauthenticated,
            &[VAULT, REFUSED, "equal to 401 Unauthorized"],
        ),
    ];
    for (fault, code, fragments) in rows {
        let what = format!("{fault:?}");
        let step = if fault == IdentityFault::WrongAudience { "" } else { IDENTITY };
        let fragments: Vec<&str> = fragments.iter().copied().chain([step]).collect();
        faults.until_cleared(fault);
        bench.fails(&what, "", &Told { code, fragments: &fragments }).await;
        bench.is_fine(&what, &own).await;
        faults.clear();
    }
    bench.is_fine("with the group's own identity again", "").await;
    bench.stop().await;
}

#[tokio::test]
async fn a_security_processor_and_its_certificates() {
    let bench = Bench::start().await;
    bench.is_fine("before", "").await;
    let group = bench.world.groups().first().unwrap();
    let (faults, thim) = (group.device_faults(), &group.imds_faults().thim);
    let party = "attest-sidecar gave no evidence: ";
    let (report, chain) =
        ("failed to retrieve attestation report", "Refreshing CertChain failed: ");
    let rows: [(DeviceFault, Code, &[&str]); 6] = [
        (DeviceFault::Status { status: 0x16 }, Code::Unavailable, &[party, report, "status: 22"]),
        (DeviceFault::CloseMidAnswer, Code::Unavailable, &[party, report]),
        // Whoever waits behind a question that stalls learns no more than whom it waited for.
        (DeviceFault::Stall, Code::Unavailable, &["attest-sidecar "]),
        (
            DeviceFault::OldTcb,
            Code::Unavailable,
            &[party, chain, "SNP reported TCB value: ", "doesn't match Certificate TCB value: "],
        ),
        // Certificates of this chip and TCB are at hand: it is the attestation service that looks at a signature.
        (DeviceFault::BadSignature, Code::FailedPrecondition, &[MAA, "equal to 400 Bad Request"]),
        (
            DeviceFault::WrongReportData,
            Code::FailedPrecondition,
            &[MAA, "equal to 400 Bad Request"],
        ),
    ];
    for (fault, code, fragments) in rows {
        let what = format!("{fault:?}");
        faults.until_cleared(fault);
        bench.fails(&what, "", &Told { code, fragments }).await;
        faults.clear();
        bench.is_fine(&what, "").await;
    }
    // The firmware moves, and the source of the new certificates is down.
    faults.until_cleared(DeviceFault::OldTcb);
    thim.until_cleared(ThimFault::ServerError);
    let fragments = [party, chain, "failed to retrieve cert chain: ", "thim: "];
    let told = Told { code: Code::Unavailable, fragments: &fragments };
    bench.fails("THIM", "", &told).await;
    faults.clear();
    thim.clear();
    bench.is_fine("THIM", "").await;
    bench.stop().await;
}
