//! `/v1/models` for a key that may not use every model: it lists those that the key may use.
//!
//! Must not know how requests name their models.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue,
    TRANSFER_ENCODING,
};
use http::response::Parts;
use http::{Method, Response, Uri};
use serde_json::Value as Json;

use crate::body::{Body, Streamed, full};
use crate::error::Refusal;
use crate::openai::access::Models;
use crate::openai::decoded;

/// The longest list that is read, in bytes.
const LONGEST: usize = 4 * 1024 * 1024;

/// An answer that names models.
pub(crate) struct Listing(Models);

impl Listing {
    /// Whether a request asks for such an answer, and its key may not see all of it. One model is asked for by its name: it
    /// is refused at once.
    pub(crate) fn of(method: &Method, uri: &Uri, models: &Models) -> Result<Option<Self>, Refusal> {
        if !models.are_limited() || *method != Method::GET {
            return Ok(None);
        }
        // As broadly as any server may understand the path: too much is filtered rather than too little.
        let path = decoded(uri.path());
        let Some((_, rest)) = path.split_once("/models") else { return Ok(None) };
        match rest.strip_prefix('/').map(|model| model.trim_end_matches('/')) {
            None | Some("") => {}
            Some(model) => models.admit(model)?,
        }
        Ok(Some(Self(models.clone())))
    }

    /// The answer with the models that may be used.
    pub(crate) async fn filtered(
        self,
        mut parts: Parts,
        body: Streamed,
    ) -> Result<Response<Body>, Refusal> {
        let length = service::body::read(body, LONGEST).await.map_err(|_| Refusal::Upstream)?;
        let mut bytes = length;
        if parts.status.is_success() {
            if parts.headers.contains_key(CONTENT_ENCODING) {
                return Err(Refusal::Upstream);
            }
            let list = serde_json::from_slice(&bytes).map_err(|_| Refusal::Upstream)?;
            bytes = self.filter(list).to_string().into();
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            // The next key's list is another one.
            parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
            parts.headers.remove(ETAG);
        }
        parts.headers.remove(TRANSFER_ENCODING);
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        Ok(Response::from_parts(parts, full(bytes)))
    }

    /// OpenAI's list has its models in `data`, Ollama's and others' in `models`, and one model stands for itself. Of what is
    /// no list and names no model that may be used, nothing is left.
    fn filter(&self, list: Json) -> Json {
        let may_be_seen = |model: &Json| {
            let id = model.get("id").and_then(Json::as_str).or_else(|| model.as_str());
            id.is_some_and(|id| self.0.hold(id))
        };
        match list {
            Json::Object(mut object) if object.get("id").is_none() => {
                for (name, value) in &mut object {
                    match value {
                        Json::Array(models) => models.retain(may_be_seen),
                        // Where a list has no models, `first_id` and `last_id` name some.
                        Json::String(id) if name.ends_with("_id") && !self.0.hold(id) => {
                            *value = Json::Null;
                        }
                        _ => {}
                    }
                }
                Json::Object(object)
            }
            Json::Array(mut models) => {
                models.retain(may_be_seen);
                Json::Array(models)
            }
            one if may_be_seen(&one) => one,
            _ => Json::Object(serde_json::Map::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::keys::ApiKey;

    fn models(list: Option<&[&str]>) -> Models {
        let models = list.map(|list| list.iter().map(|&name| name.to_owned()).collect());
        Models::of(Arc::new(ApiKey { models, ..ApiKey::default() }))
    }

    #[test]
    fn only_models_that_may_be_used_are_seen() {
        let listing = Listing(models(Some(&["a", "b/c"])));
        let model = |id: &str| json!({"id": id, "object": "model"});
        let list = json!({"object": "list", "data": [model("a"), model("x"), model("b/c"), 7]});
        let seen = json!({"object": "list", "data": [model("a"), model("b/c")]});
        assert_eq!(listing.filter(list), seen);
        let paged =
            json!({"data": [model("x")], "first_id": "x", "last_id": "a", "has_more": false});
        let seen = json!({"data": [], "first_id": null, "last_id": "a", "has_more": false});
        assert_eq!(listing.filter(paged), seen);
        assert_eq!(listing.filter(json!([model("x"), "a", "x"])), json!(["a"]));
        assert_eq!(listing.filter(model("a")), model("a"));
        assert_eq!(listing.filter(model("x")), json!({}));
        assert_eq!(listing.filter(json!("x")), json!({}));
    }

    #[test]
    fn one_model_is_asked_for_by_its_name() {
        let limited = models(Some(&["a", "b/c"]));
        let asked = |path: &str| Listing::of(&Method::GET, &path.parse().unwrap(), &limited);
        for path in [
            "/v1/models",
            "/v1/models/",
            "/v1/models?x",
            "/v1/models/a",
            "/v1/models/b%2Fc",
            "/v1/m%6fdels",
        ] {
            assert!(asked(path).unwrap().is_some(), "{path}");
        }
        for path in ["/v1/models/x", "/v1/models/b", "/v1/models/a/../x"] {
            assert!(asked(path).is_err(), "{path}");
        }
        assert!(asked("/v1/files").unwrap().is_none());
        let free = Listing::of(&Method::GET, &"/v1/models".parse().unwrap(), &models(None));
        assert!(free.unwrap().is_none(), "a key for all models sees the upstream's own bytes");
    }
}
