//! `stack bench` runs, and says all its figures. What they are is for people.

use stack::bench::{logs, proxy, skr, tls};
use stack::soak;

use crate::support::{fail, options};

#[tokio::test]
async fn every_figure_of_tls_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    let say = |line: &str| lines.push(line.to_owned());
    let (options, parts) = (options(folder.path()), &tls::Part::ALL);
    let outcome = Box::pin(tls::run(options, tls::Effort::SMOKE, parts, say)).await;
    outcome.unwrap_or_else(|error| fail(&error));
    for figure in [
        "first request: ",
        "later requests: ",
        "a short request: ",
        "a download of 4 MiB: ",
        "processor time",
        "20 proofs at once",
        "a rotation every second for 2 s",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(figure)), "{figure} {lines:?}");
    }
}

#[tokio::test]
async fn every_figure_of_the_log_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    let say = |line: &str| lines.push(line.to_owned());
    let outcome = Box::pin(logs::run(options(folder.path()), logs::Effort::SMOKE, say)).await;
    outcome.unwrap_or_else(|error| fail(&error));
    for figure in [
        "memory idle: ",
        "8 senders, exports of 512 records: ",
        "processor time of a record: ",
        "memory loaded: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(figure)), "{figure} {lines:?}");
    }
}

#[tokio::test]
async fn every_figure_of_skr_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let mut lines = Vec::new();
    let say = |line: &str| lines.push(line.to_owned());
    let (program, folder, state) = (options.program, options.folder, options.state);
    let run = skr::run(program, folder, state, skr::Effort::SMOKE, &skr::Part::ALL, say);
    let outcome = Box::pin(run).await;
    outcome.unwrap_or_else(|error| fail(&error));
    for figure in [
        "start to first answer: ",
        "memory idle: ",
        "a wrapping key of RSA-3072: ",
        "a release: ",
        "processor time of a release: ",
        "processor time of /attest/raw: ",
        "releases with a dry pool, ",
        "memory loaded: ",
        "size of the binaries: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(figure)), "{figure} {lines:?}");
    }
}

#[tokio::test]
async fn every_figure_of_the_proxy_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (program, folder, state) = (options.program, options.folder, options.state);
    let setting = proxy::Setting { program, folder, state, rows: None };
    let mut lines = Vec::new();
    let say = |line: &str| lines.push(line.to_owned());
    let outcome = Box::pin(proxy::run(setting, proxy::Effort::SMOKE, say)).await;
    outcome.unwrap_or_else(|error| fail(&error));
    for figure in [
        "saturated, 1 connections: server ",
        "saturated, 4 connections: proxy ",
        "equal load, ",
        "1 streams, 50 chunks/s each: server: first event ",
        "4 streams, 20 chunks/s each: proxy: first event ",
        "4 idle streams: proxy ",
        "1 and 50 keys: few keys ",
        "rows of usage: ",
        "TLS_MODE: from files",
        "goal: added delay of a chunk",
        "goal: memory of an idle stream",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(figure)), "{figure} {lines:?}");
    }
}

/// Short: what memory and times do in it says nothing, but a descriptor that stays open a request shows.
#[tokio::test]
async fn the_sidecars_keep_no_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let mut windows = 0;
    let say = |line: &str| windows += u32::from(line.starts_with("window "));
    let plan = soak::Plan { attestations: 2000, releases: 80 };
    let (program, folder, state) = (options.program, options.folder, options.state);
    let grown = Box::pin(soak::run(program, folder, state, plan, say)).await;
    let grown = grown.unwrap_or_else(|error| fail(&error));
    let descriptors: Vec<_> =
        grown.iter().filter(|what| what.starts_with("descriptors ")).collect();
    assert!(descriptors.is_empty(), "{descriptors:?}");
    assert_eq!(windows, 40);
}
