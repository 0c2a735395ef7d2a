//! The certificate is renewed under load, and nobody notices.

use std::time::Duration;

use client::AttestedClient;
use client::forwarder::{Forwarder, Port};
use stack::RoleName;
use stack::load::Load;

use crate::support::{fail, start_set};

/// A new certificate every second; connections end with theirs.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_certificates_change() {
    let variables = [("TLS_CERT_LIFETIME", "5"), ("TLS_CERT_ROTATION", "1")];
    let variables =
        variables.map(|(name, value)| (RoleName::Proxy, name, value.to_owned())).to_vec();
    let running = start_set(|_| {}, variables).await;
    let url = running.stack.group.url().await.unwrap();
    let connector = running.stack.connector().await.unwrap();
    let client = AttestedClient::connect(connector).await.unwrap_or_else(|error| fail(&error));
    let port = Port::bind("127.0.0.1:0".parse().unwrap()).await;
    let forwarder = Forwarder::new(port.unwrap_or_else(|error| fail(&error)), client, None);
    let load = Load {
        server: url.trim_start_matches("https://").parse().unwrap(),
        forwarder: Some(forwarder.address().unwrap()),
        api_key: running.stack.api_key.clone(),
        clients: 4,
        duration: Duration::from_secs(8),
    };
    let forwarder = tokio::spawn(forwarder.serve());
    let outcome = load.run().await;
    forwarder.abort();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert!(outcome.answered > 100, "{outcome:?}");
    // Every straight client had to go to another connection at least once.
    assert!(outcome.connections >= 16, "{outcome:?}");
    assert!(outcome.certificates.len() >= 3, "{outcome:?}");
    running.stop().await;
}
