//! `stack bench` runs, and says all its figures. What they are is for people.

use stack::bench::tls;

use crate::support::{fail, options};

#[tokio::test]
async fn every_figure_of_tls_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    let say = |line: &str| lines.push(line.to_owned());
    let outcome = Box::pin(tls::run(options(folder.path()), tls::Effort::SMOKE, say)).await;
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
