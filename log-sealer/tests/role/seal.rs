//! From OTLP in to sealed segments in a folder, and back.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::common::http::{Http, JSON};
use crate::common::otlp::{export, long, record, request, say};
use crate::common::{Place, Sealer, reader};
use age::x25519::Identity;
use attestation::encoding::to_b64u;
use attestation::log_record::Event;
use proto::info::GetInfoRequest;
use proto::info::info_client::InfoClient;

const CANARY: &str = "canary-8f3a5c71-prompt-and-key";

#[tokio::test]
async fn every_record_comes_out_once_and_in_order() {
    let sealer = Sealer::start(&[("LOG_SEGMENT_BYTES", "4096")]).await;
    let first: Vec<String> = (0..40).map(|n| format!("first {n}")).collect();
    let second: Vec<String> = (0..40).map(|n| format!("second {n}")).collect();
    tokio::join!(
        say(&sealer.channel, "a", first.clone()),
        say(&sealer.channel, "b", second.clone()),
    );
    let place = sealer.stop().await;

    let boots = reader::read(&place.folder(), &place.reader);
    let [boot] = boots.as_slice() else { panic!("one boot") };
    assert_eq!(boot.bodies("a"), first);
    assert_eq!(boot.bodies("b"), second);
    assert!(boot.events.len() > 4, "several segments");
    assert!(boot.chain.is_stopped());
    assert!(!boot.events.iter().any(|event| matches!(event, Event::Loss { .. })));
    let one = boot.records("a").next().unwrap();
    assert_eq!(one["timeUnixNano"], "1700000000000000001");
    assert_eq!(one["severityText"], "INFO");
    assert_eq!(one["attributes"][0]["value"]["stringValue"], "its value");
}

#[tokio::test]
async fn the_head_is_the_newest_record_in_the_sink() {
    let sealer = Sealer::start(&[("LOG_SEGMENT_BYTES", "4096")]).await;
    let start = sealer.head().await;
    assert_eq!(start.seq, 0);
    say(&sealer.channel, "a", [long("one")]).await;
    let head = sealer.sealed(1).await;
    assert_eq!(head.boot_id, sealer.identity.boot_id);
    assert_ne!(head.digest, start.digest);

    let boots = reader::read(&sealer.place.folder(), &sealer.place.reader);
    assert_eq!((head.seq, head.digest), (1, boots[0].chain.head().1.to_vec()));
    let record = std::fs::read_to_string(
        sealer.place.folder().join(format!("{}-00000000.jws", head.boot_id)),
    );
    let record = attestation::jws::Jws::parse(&record.unwrap(), 1 << 20)
        .unwrap()
        .unverified::<attestation::log_record::Record>()
        .unwrap();
    assert_eq!(head.public_key, to_b64u(&record.identity.unwrap().public_key));
    sealer.stop().await;
}

#[tokio::test]
async fn who_it_is_can_be_asked() {
    let sealer = Sealer::start(&[]).await;
    let mut client = InfoClient::new(sealer.channel.clone());
    let info = client.get(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.role, "log-sealer");
    assert_eq!(info.boot_id, sealer.identity.boot_id);
    assert_eq!(info.config_digest, sealer.identity.measured.digest);
    assert_eq!(info.listening["grpc"], sealer.place.socket("log.sock"));
    assert_eq!(info.listening["http"], sealer.place.socket("http.sock"));
    assert!(info.production_anchors);
    assert!(info.unsealed.is_empty());
    sealer.stop().await;
}

#[tokio::test]
async fn lengths_do_not_tell_how_much_was_logged() {
    let sealer = Sealer::start(&[("LOG_SEGMENT_BYTES", "100000")]).await;
    say(&sealer.channel, "a", ["one".to_owned()]).await;
    sealer.sealed(1).await;
    let many = (0..200).map(|n| record(&format!("one of many {n}")));
    export(&sealer.channel, request("a", many)).await.unwrap();
    sealer.sealed(2).await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].lengths, [4096, 4096]);
}

#[tokio::test]
async fn a_quiet_boot_is_a_start_and_a_stop() {
    let place = Sealer::start(&[]).await.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    let [start, stop] = boots[0].events.as_slice() else { panic!("a start and a stop") };
    let Event::Start { previous, heartbeat_seconds, recipients } = start else { panic!("a start") };
    assert_eq!((previous, *heartbeat_seconds), (&None, 60));
    assert_eq!(recipients, &[place.reader.to_public().to_string()]);
    assert!(*stop == Event::Stop);
}

#[tokio::test]
async fn a_crash_leaves_a_chain_without_its_end() {
    let sealer = Sealer::start(&[("LOG_SEGMENT_BYTES", "4096")]).await;
    say(&sealer.channel, "a", [long("one")]).await;
    sealer.sealed(1).await;
    let place = sealer.crash().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].bodies("a"), [long("one")]);
    assert!(!boots[0].chain.is_stopped());
}

#[tokio::test]
async fn every_reader_of_the_list_can_read_and_the_records_name_the_list() {
    let second = Identity::generate();
    let sealer = {
        let place = Place::new();
        let list = format!("{}, {}", place.reader.to_public(), second.to_public());
        drop(place);
        Sealer::start(&[("LOG_RECIPIENTS", &list)]).await
    };
    say(&sealer.channel, "a", ["for two".to_owned()]).await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &second);
    assert_eq!(boots[0].bodies("a"), ["for two"]);
}

#[tokio::test]
async fn no_byte_of_a_record_is_in_any_file() {
    let place = Place::new();
    let spool = place.spool().display().to_string();
    let changes = [("LOG_SEGMENT_BYTES", "4096"), ("LOG_SPOOL", &spool)];
    let sealer = Sealer::start_at(place, &changes).await;
    sealer.sidecar.give_evidence();
    sealer.ready().await;
    for part in 0..8 {
        let mut said = record(&format!("{CANARY} {part} {}", "y".repeat(1000)));
        said.severity_text = CANARY.to_owned();
        said.event_name = CANARY.to_owned();
        said.attributes.push(crate::common::otlp::attribute(CANARY, CANARY));
        export(&sealer.channel, request(CANARY, [said])).await.unwrap();
    }
    let document = serde_json::json!({"resourceSpans": [{"scopeSpans": [{"spans": [
        {"name": CANARY, "attributes": [{"key": CANARY, "value": {"stringValue": CANARY}}]}
    ]}], "resource": {"attributes": []}, "schemaUrl": CANARY}]});
    let mut http = Http::connect(&sealer.place).await;
    let answer = http.post("/v1/traces", JSON, document.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200);
    let refused = document.to_string().replace("\"name\":", "\"kind\":");
    let answer = http.post("/v1/traces", JSON, refused.as_bytes()).await;
    assert_eq!(answer.status, 400);
    assert!(!contains(&answer.body));
    // what is refused must not show up either
    let mut deep = crate::common::otlp::text(CANARY);
    for _ in 0..40 {
        use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, any_value::Value};
        deep = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![deep] })) };
    }
    let mut said = record(CANARY);
    said.body = Some(deep);
    let refused = export(&sealer.channel, request(CANARY, [said])).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(!format!("{refused:?}").contains(CANARY));

    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].records(CANARY).count(), 8, "it was logged");
    assert!(files(place.path()) > 4);
    assert!(files(&place.spool()) > 2);
}

/// Looks for the canary in every name and every file below, and counts the files.
fn files(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(!contains(path.as_os_str().as_bytes()), "{}", path.display());
        if path.is_dir() {
            count += files(&path);
        } else if path.is_file() {
            assert!(!contains(&std::fs::read(&path).unwrap()), "{}", path.display());
            count += 1;
        }
    }
    count
}

fn contains(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}
