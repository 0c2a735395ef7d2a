//! What passes is fed in pieces of every size, and what must not pass is tried.

mod documents;
mod exchange;
mod forms;
mod requests;
mod streams;

use std::sync::Arc;

use bytes::Bytes;

use super::access::Models;
use crate::endpoint::Endpoint;
use crate::keys::ApiKey;

#[test]
fn an_endpoint_is_known_in_every_spelling() {
    for (path, endpoint) in [
        ("/v1/chat/completions", Endpoint::Chat),
        ("/v1/chat%2Fcompletions", Endpoint::Chat),
        ("/v1/chat/%63omplet%69ons", Endpoint::Chat),
        ("/v1/chat%252Fcompletions", Endpoint::Other),
        ("/v1/%+1%zz%", Endpoint::Other),
    ] {
        assert_eq!(super::endpoint(&path.parse().unwrap()), endpoint, "{path}");
    }
    assert_eq!(super::decoded("/%zz%+1%4a%"), "/%zz%+1J%");
}

/// A text in two pieces, cut at every place; in single bytes; and whole.
fn cuts(text: &[u8]) -> impl Iterator<Item = Vec<Bytes>> {
    let text = Bytes::copy_from_slice(text);
    let single = text.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect();
    let cut = move |at| vec![text.slice(..at), text.slice(at..)];
    let length = cut(0).concat().len();
    (0..=length).map(cut).chain([single])
}

/// The models of a key that may use these only.
fn only(models: &[&str]) -> Models {
    let models = Some(models.iter().map(|&name| name.to_owned()).collect());
    Models::of(Arc::new(ApiKey { models, ..ApiKey::default() }))
}

/// The models of a key that may use all.
fn all() -> Models {
    Models::of(Arc::default())
}
