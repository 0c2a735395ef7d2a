//! What is sealed here is read there: `client`'s reader, with evidence from a simulated machine.

use std::fs;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use attestation::certificate::Certificate;
use attestation::log_record::Readers;
use attestation::policy::Hex;
use attestation::{Anchors, Expect, Policy, danger};
use client::logs::{
    End, Identities, Log, OpenError, Problem, Reader, Report, Source, What, open, sign_readers,
};
use client::secrets::OperatorKey;
use proto::attest::Evidence;
use service::clock::unix_now;
use sim::machine::{Guest, Machine, default_measurement};
use sim::pki::KeyRing;
use sim::pki::amd::AmdAuthority;
use sim::seed::Seed;
use sim::tcb::Product;

use crate::common::http::{Http, JSON};
use crate::common::otlp::{long, say};
use crate::common::sidecar::Attester;
use crate::common::{Place, Sealer};

/// A container group on a simulated machine.
pub(crate) struct Group {
    pub(crate) attester: Attester,
    anchors: Anchors,
    policy: Policy,
}

pub(crate) fn group() -> Group {
    let seed = Seed::default();
    let state = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sim-state");
    let keys = KeyRing::new(seed.clone(), Some(state));
    let amd = Arc::new(AmdAuthority::derive(&keys, Product::Milan).unwrap());
    let machine = Machine::derive(amd, &seed, "host", Product::Milan.current_tcb());
    let guest = Guest {
        policy: "package policy".to_owned(),
        measurement: default_measurement(&seed),
        debug: false,
        launch: "first".to_owned(),
    };
    let anchors = danger::Anchors::from_pem(&machine.amd().chain_pem().unwrap()).unwrap();
    let mut policy = Policy::for_host_data(Expect::Value(vec![Hex(guest.host_data())]));
    policy.endorsement = Expect::unchecked("this machine endorses nothing");
    policy.measurement = Some(Expect::unchecked("this machine endorses nothing"));
    let attester: Attester = Arc::new(move |report_data| {
        let mut report = guest.report(&machine, &seed);
        report.report_data = report_data;
        let host = machine.host_certificate(machine.tcb()).unwrap();
        Evidence {
            report: report.sign(&machine.vcek(machine.tcb()).unwrap().key).unwrap().to_vec(),
            vek: der(&host.vcek_cert),
            chain: der(&host.certificate_chain),
            ..Evidence::default()
        }
    });
    Group { attester, anchors, policy }
}

fn der(pem: &str) -> Vec<u8> {
    let certificates = Certificate::sequence_from_pem(pem).unwrap();
    certificates.iter().flat_map(|certificate| certificate.der().to_vec()).collect()
}

/// Seals three records in three segments.
async fn sealed(group: &Group) -> Place {
    let sealer = Sealer::start_without_evidence(&[("LOG_SEGMENT_BYTES", "4096")]).await;
    sealer.sidecar.attest_with(group.attester.clone());
    sealer.ready().await;
    for (body, seq) in ["one", "two", "three"].into_iter().zip(1..) {
        say(&sealer.channel, "a", [long(body)]).await;
        sealer.sealed(seq).await;
    }
    sealer.stop().await
}

pub(crate) fn read(
    source: &Source,
    place: &Place,
    group: &Group,
) -> Result<(Report, String), OpenError> {
    let identities = Identities::from_text(place.reader.to_string().expose_secret()).unwrap();
    let Group { anchors, policy, .. } = group;
    let reader = Reader { identities: &identities, anchors, policy, at: unix_now() };
    let mut text = Vec::new();
    let report = open(source, &reader, &mut |document| document.write_text(&mut text))?;
    Ok((report, String::from_utf8(text).unwrap()))
}

#[tokio::test]
async fn a_log_is_read_whole() {
    let group = group();
    let place = sealed(&group).await;
    let (report, text) = read(&Source::Folder(place.folder()), &place, &group).unwrap();
    assert!(report.is_sound());
    let [boot] = report.boots.as_slice() else { panic!("one boot") };
    assert_eq!((boot.end, boot.segments, boot.records, boot.lost), (End::Stopped, 3, 3, 0));
    let lines: Vec<&str> = text.lines().collect();
    for (line, body) in lines.iter().zip(["one", "two", "three"]) {
        let expected = format!("2023-11-14T22:13:20.000000001Z INFO a {body} xxx");
        assert!(line.starts_with(&expected), "{line}");
        assert!(line.ends_with("test.attribute=\"its value\""), "{line}");
    }
    assert_eq!(lines.len(), 3);
}

/// A list that is there when a boot begins counts from the first segment on.
#[tokio::test]
async fn new_readers_come_by_the_operators_word_and_are_on_record() {
    let group = group();
    let (operator, _) = OperatorKey::generate().ok().unwrap();
    let (host, _) = OperatorKey::generate().ok().unwrap();
    let successor = Identity::generate();
    let lists = tempfile::tempdir().unwrap();
    let file = lists.path().join("readers.jws");
    let list = |recipient: String, key: &OperatorKey| {
        let group = "group".to_owned();
        let readers = Readers { group, version: NonZeroU64::MIN, recipients: vec![recipient] };
        std::fs::write(&file, sign_readers(&readers, key).unwrap() + "\n").unwrap();
    };
    let (path, signer) = (file.display().to_string(), operator.signer().to_text());
    let changes = [
        ("LOG_RECIPIENTS_FILE", path.as_str()),
        ("LOG_RECIPIENTS_SIGNER", &signer),
        ("LOG_RECIPIENTS_GROUP", "group"),
        ("LOG_RECIPIENTS_MIN_VERSION", "1"),
    ];
    let sealed = async || {
        let sealer = Sealer::start_without_evidence(&changes).await;
        sealer.sidecar.attest_with(group.attester.clone());
        sealer.ready().await;
        say(&sealer.channel, "a", ["said".to_owned()]).await;
        sealer.stop().await
    };
    let read = |place: &Place, reader: &Identity| {
        let identities = Identities::from_text(reader.to_string().expose_secret()).unwrap();
        let Group { anchors, policy, .. } = &group;
        let reader = Reader { identities: &identities, anchors, policy, at: unix_now() };
        let log = Log::new(&Source::Folder(place.folder()), &reader);
        log.with_signer(Some(operator.signer())).finish(&mut |_| Ok(())).unwrap()
    };

    list(successor.to_public().to_string(), &operator);
    let place = sealed().await;
    let report = read(&place, &successor);
    assert!(report.is_sound(), "{:?}", report.boots[0].problems);
    assert_eq!(report.boots[0].records, 1);
    let changed = report.boots[0].timeline.iter().any(|moment| {
        matches!(&moment.what, What::Readers { version: 1, recipients }
            if *recipients == [successor.to_public().to_string()])
    });
    assert!(changed);
    let before = read(&place, &place.reader);
    assert!(matches!(before.boots[0].problems.as_slice(), [Problem::NotAReader { .. }]));

    // Somebody else's list changes nothing.
    list(successor.to_public().to_string(), &host);
    let place = sealed().await;
    assert!(read(&place, &place.reader).is_sound());
    let refused = read(&place, &successor);
    assert!(matches!(refused.boots[0].problems.as_slice(), [Problem::NotAReader { .. }]));
}

#[tokio::test]
async fn spans_and_data_points_are_counted_and_their_documents_given() {
    let group = group();
    let sealer = Sealer::start_without_evidence(&[]).await;
    sealer.sidecar.attest_with(group.attester.clone());
    sealer.ready().await;
    let mut http = Http::connect(&sealer.place).await;
    for (path, payload) in [
        ("/v1/logs", include_str!("payloads/go-logs.json")),
        ("/v1/traces", include_str!("payloads/dotnet-traces.json")),
        ("/v1/metrics", include_str!("payloads/go-metrics.json")),
    ] {
        assert_eq!(http.post(path, JSON, payload.as_bytes()).await.status, 200);
    }
    let place = sealer.stop().await;
    let (report, text) = read(&Source::Folder(place.folder()), &place, &group).unwrap();
    assert!(report.is_sound(), "{:?}", report.boots[0].problems);
    let boot = &report.boots[0];
    assert_eq!([boot.records, boot.spans, boot.points, boot.lost], [2, 2, 2, 0]);
    assert_eq!(text.lines().count(), 6, "each is a line");
}

#[tokio::test]
async fn whoever_tampers_with_it_is_noticed() {
    let group = group();
    let place = sealed(&group).await;
    let boot = read(&Source::Folder(place.folder()), &place, &group).unwrap().0.boots.remove(0).id;
    let name = |seq: u8, kind: &str| place.folder().join(format!("{boot}-{seq:08}.{kind}"));
    let problem = || {
        let (mut report, _) = read(&Source::Folder(place.folder()), &place, &group).unwrap();
        assert_eq!(report.boots[0].problems.len(), 1, "{:?}", report.boots[0].problems);
        report.boots[0].problems.remove(0)
    };

    let segment = fs::read(name(2, "age")).unwrap();
    fs::copy(name(1, "age"), name(2, "age")).unwrap();
    assert!(matches!(problem(), Problem::WrongDigest { seq: 2 }));
    fs::remove_file(name(2, "age")).unwrap();
    assert!(matches!(problem(), Problem::RecordWithoutSegment { seq: 2 }));
    fs::write(name(2, "age"), segment).unwrap();

    let [second, third] = [2, 3].map(|seq| fs::read(name(seq, "jws")).unwrap());
    fs::write(name(2, "jws"), &third).unwrap();
    fs::write(name(3, "jws"), &second).unwrap();
    assert!(matches!(problem(), Problem::BrokenChain { seq: 2, .. }));
    fs::remove_file(name(2, "jws")).unwrap();
    fs::remove_file(name(2, "age")).unwrap();
    assert!(matches!(problem(), Problem::Missing { first: 2, last: 2 }));

    let group = self::group();
    let other = Policy { host_data: Expect::Value(vec![Hex([7; 32])]), ..group.policy };
    let twin = Group { policy: other, ..group };
    let (report, text) = read(&Source::Folder(place.folder()), &place, &twin).unwrap();
    assert!(matches!(report.boots[0].problems.as_slice(), [Problem::Evidence(_)]));
    assert!(text.is_empty());
}
