//! What happens when more comes in than can be sealed: no evidence yet, no sink, too much at once.

use std::time::Duration;

use attestation::log_record::Event;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic_types::StatusExt as _;

use crate::common::otlp::{export, long, record, request, say};
use crate::common::{Sealer, eventually, reader};

#[tokio::test]
async fn records_from_before_the_evidence_arrive_after_it() {
    let sealer = Sealer::start_without_evidence(&[]).await;
    say(&sealer.channel, "a", ["early".to_owned()]).await;
    eventually(async || (sealer.sidecar.asked() >= 2).then_some(())).await;
    assert_eq!(sealer.health().await, Some(false));
    assert!(sealer.head().await.digest.is_empty(), "nothing is sealed without evidence");
    assert!(sealer.head().await.public_key.len() > 100);
    assert_eq!(std::fs::read_dir(sealer.place.folder()).unwrap().count(), 0);

    sealer.sidecar.give_evidence();
    sealer.ready().await;
    sealer.sealed(1).await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].bodies("a"), ["early"]);
}

#[tokio::test]
async fn a_full_queue_tells_senders_to_come_back_and_loses_nothing_of_what_it_took() {
    let sealer = Sealer::start_without_evidence(&[]).await;
    let mut accepted = 0;
    let refused = loop {
        let body = format!("{accepted} {}", "z".repeat(1 << 20));
        match export(&sealer.channel, request("a", [record(&body)])).await {
            Ok(()) => accepted += 1,
            Err(status) => break status,
        }
        assert!(accepted < 100, "the queue has no end");
    };
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert!((28..=32).contains(&accepted), "{accepted} MiB");

    sealer.sidecar.give_evidence();
    let again = async || export(&sealer.channel, request("a", [record("again")])).await.ok();
    eventually(again).await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    let bodies = boots[0].bodies("a");
    assert_eq!(bodies.len(), accepted + 1);
    for (n, body) in bodies.iter().take(accepted).enumerate() {
        assert!(body.starts_with(&format!("{n} ")));
    }
    assert_eq!(bodies[accepted], "again");
}

#[tokio::test]
async fn a_stop_without_evidence_is_an_error_that_says_what_was_lost() {
    let sealer = Sealer::start_without_evidence(&[]).await;
    say(&sealer.channel, "a", ["one".to_owned(), "two".to_owned()]).await;
    // nothing but time would end this now
    tokio::time::pause();
    let (place, outcome) = sealer.try_stop().await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("2 log records are lost"), "{error}");
    assert_eq!(std::fs::read_dir(place.folder()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_sink_that_fails_holds_everything_up_until_it_works_again() {
    let sealer = Sealer::start(&[("LOG_SEGMENT_BYTES", "4096")]).await;
    let (folder, away) = (sealer.place.folder(), sealer.place.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    say(&sealer.channel, "a", [long("one"), long("two")]).await;
    sealer.not_ready().await;
    assert_eq!(sealer.head().await.seq, 0);

    std::fs::rename(&away, &folder).unwrap();
    sealer.ready().await;
    sealer.sealed(2).await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].bodies("a"), [long("one"), long("two")]);
    assert!(boots[0].chain.is_stopped());
    assert!(!boots[0].events.iter().any(|event| matches!(event, Event::Loss { .. })));
}

#[tokio::test]
async fn what_is_too_much_is_refused_for_good() {
    let sealer = Sealer::start(&[]).await;
    let too_long = request("a", [record(&"x".repeat(4 << 20))]);
    let too_many = request("a", vec![LogRecord::default(); 70_000]);
    for request in [too_long, too_many] {
        let status = export(&sealer.channel, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("smaller"), "{status:?}");
    }
    say(&sealer.channel, "a", ["small".to_owned()]).await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].bodies("a"), ["small"]);
}

#[tokio::test]
async fn gzip_is_taken_and_a_bomb_is_not() {
    let sealer = Sealer::start(&[]).await;
    let gzip = CompressionEncoding::Gzip;
    let mut client = LogsServiceClient::new(sealer.channel.clone()).send_compressed(gzip);
    client.export(request("a", [record("packed")])).await.unwrap();
    let bomb = request("a", [record(&"x".repeat(64 << 20))]);
    let status = client.export(bomb).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let place = sealer.stop().await;
    assert_eq!(reader::read(&place.folder(), &place.reader)[0].bodies("a"), ["packed"]);
}

#[tokio::test]
async fn a_method_that_there_is_not_is_said_so() {
    let sealer = Sealer::start(&[]).await;
    let mut client = tonic::client::Grpc::new(sealer.channel.clone());
    client.ready().await.unwrap();
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Import".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let status = client.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    sealer.stop().await;
}
