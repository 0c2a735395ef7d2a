//! A fake of the instance metadata service's tokens.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;

use super::http::{Answer, answer, serve};

/// The token that it gives.
pub(crate) const TOKEN: &str = "the.groups.token-canary";

#[derive(Clone)]
pub(crate) struct FakeIdentity {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    refusals: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
}

impl FakeIdentity {
    pub(crate) async fn start() -> Self {
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let refusals: Arc<Mutex<VecDeque<(u16, &'static str)>>> = Arc::default();
        let (record, refuse) = (requests.clone(), refusals.clone());
        let address = serve(None, move |request| {
            record.lock().unwrap().push(request.uri().to_string());
            let refusal = refuse.lock().unwrap().pop_front();
            std::future::ready(respond(&request, refusal))
        })
        .await;
        Self { address, requests, refusals }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests are answered so, one after the other.
    pub(crate) fn refuse(&self, refusals: impl IntoIterator<Item = (u16, &'static str)>) {
        self.refusals.lock().unwrap().extend(refusals);
    }

    /// Path and query of every request.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn respond(request: &Request<Bytes>, refusal: Option<(u16, &'static str)>) -> Answer {
    if let Some((status, body)) = refusal {
        return answer(status, body);
    }
    if request.headers().get("metadata").is_none_or(|value| value != "true") {
        return answer(400, r#"{"error":"invalid_request"}"#);
    }
    answer(200, format!(r#"{{"access_token":"{TOKEN}","expires_in":"86400"}}"#))
}
