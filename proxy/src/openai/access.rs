//! Which models a key may use, and which requests it may make at all if it may not use every model, or only so many tokens
//! or so much money.
//!
//! Such a key gets no request to the upstream of which this proxy cannot tell the model and count the usage. Where readers
//! differ (two names, odd encodings, other spellings of a path), the request is refused rather than understood.
//!
//! Must not know how a body is read.

use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Uri};

use crate::endpoint::Endpoint;
use crate::error::Refusal;
use crate::keys::ApiKey;

/// What a request says of its model.
pub(crate) enum Said {
    /// Nothing up to here.
    NotYet,
    /// This one.
    Model(String),
    /// That cannot be told, for this reason.
    Unknown(&'static str),
}

/// The models of a key.
#[derive(Clone)]
pub(crate) struct Models(Arc<ApiKey>);

/// The paths on which a model is named in the body, and how.
const PATHS: [(&str, Form); 7] = [
    ("/v1/chat/completions", Form::Json),
    ("/v1/completions", Form::Json),
    ("/v1/embeddings", Form::Json),
    ("/v1/responses", Form::Json),
    ("/v1/messages", Form::Json),
    ("/v1/audio/transcriptions", Form::Multipart),
    ("/v1/audio/translations", Form::Multipart),
];

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One JSON object.
    Json,
    /// `multipart/form-data` (RFC 7578).
    Multipart,
    /// That is not this proxy's business.
    Opaque,
}

impl Form {
    /// How bodies of an endpoint are written. What is encoded cannot be read.
    pub(crate) fn of(endpoint: Endpoint, headers: &HeaderMap) -> Self {
        match endpoint {
            _ if headers.contains_key(CONTENT_ENCODING) => Self::Opaque,
            Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Responses
            | Endpoint::Messages => Self::Json,
            Endpoint::Transcriptions | Endpoint::Translations => Self::Multipart,
            Endpoint::Other => Self::Opaque,
        }
    }
}

impl Models {
    pub(crate) fn of(key: Arc<ApiKey>) -> Self {
        Self(key)
    }

    /// Whether there are any that it may not use.
    pub(crate) fn are_limited(&self) -> bool {
        self.0.models.is_some()
    }

    /// Whether nothing may pass of which model and usage cannot be told: whoever pays by what is read could choose what is.
    pub(crate) fn must_be_told(&self) -> bool {
        let Self(key) = self;
        self.are_limited() || key.monthly_budget.is_some() || key.tokens_per_minute.is_some()
    }

    /// Whether it may use this one.
    pub(crate) fn hold(&self, model: &str) -> bool {
        self.0.models.as_ref().is_none_or(|models| models.iter().any(|known| known == model))
    }

    /// Refuses a model that it may not use.
    pub(crate) fn admit(&self, model: &str) -> Result<(), Refusal> {
        if self.hold(model) { Ok(()) } else { Err(Refusal::ModelNotAllowed) }
    }

    /// Refuses a request of which the model cannot be told, for this reason.
    pub(crate) fn admit_unknown(&self, why: &'static str) -> Result<(), Refusal> {
        if self.must_be_told() { Err(Refusal::ModelUnknown(why)) } else { Ok(()) }
    }

    /// Refuses a request whose head leaves room for another model than its body names.
    pub(crate) fn admit_head(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        has_body: bool,
    ) -> Result<(), Refusal> {
        if !self.must_be_told() {
            return Ok(());
        }
        let unknown = |why| Err(Refusal::ModelUnknown(why));
        let query = uri.query().unwrap_or_default().as_bytes();
        let mut names = url::form_urlencoded::parse(query);
        if names.any(|(name, _)| name.eq_ignore_ascii_case("model")) {
            return unknown("name it in the body, not in the query");
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            if has_body {
                return unknown("GET and HEAD take no body");
            }
            // What others stored at the upstream is not this key's to read; and of models it learns those that are its own.
            let path = uri.path();
            let lists = path == "/v1/models" || path.starts_with("/v1/models/");
            if self.are_limited() && !lists {
                return unknown("of what can be read, only /v1/models is open to it");
            }
            return Ok(());
        }
        let Some((_, form)) = PATHS.iter().find(|(path, _)| *path == uri.path()) else {
            return unknown("only the paths of OpenAI's and Anthropic's models are open to it");
        };
        if headers.contains_key(CONTENT_ENCODING) {
            return unknown("send the body without Content-Encoding");
        }
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        match (types.next().and_then(|value| value.to_str().ok()), types.next(), form) {
            (Some(value), None, Form::Json) if is_json(value) => Ok(()),
            (Some(value), None, Form::Multipart) if essence(value) == "multipart/form-data" => {
                Ok(())
            }
            (_, _, Form::Multipart) => unknown("send Content-Type: multipart/form-data"),
            (_, _, Form::Json | Form::Opaque) => unknown("send Content-Type: application/json"),
        }
    }
}

/// The media type without its parameters, in lower case.
pub(crate) fn essence(content_type: &str) -> String {
    let (essence, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    essence.trim().to_ascii_lowercase()
}

/// JSON in the one encoding that it has (RFC 8259, 8.1).
fn is_json(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1);
    let utf8 = |parameter: &str| {
        let parameter = parameter.trim().to_ascii_lowercase();
        matches!(parameter.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"")
    };
    essence(content_type) == "application/json" && parameters.into_iter().all(utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited() -> Models {
        let models = Some(vec!["gpt-oss-120b".to_owned()]);
        Models::of(Arc::new(ApiKey { models, ..ApiKey::default() }))
    }

    fn admitted(method: &Method, target: &str, headers: &[(&str, &str)], has_body: bool) -> bool {
        let pair = |(name, value): &(&str, &str)| {
            let name: http::HeaderName = name.parse().unwrap();
            (name, value.parse::<http::HeaderValue>().unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(pair) {
            map.append(name, value);
        }
        let uri: Uri = target.parse().unwrap();
        let free = Models::of(Arc::default()).admit_head(method, &uri, &map, has_body);
        assert!(free.is_ok(), "a key without a list is not touched");
        limited().admit_head(method, &uri, &map, has_body).is_ok()
    }

    #[test]
    fn a_key_that_pays_by_what_is_read_sends_what_can_be_read() {
        let euro = crate::money::Money::from_euros(1.0);
        for key in [
            ApiKey { monthly_budget: euro, ..ApiKey::default() },
            ApiKey { tokens_per_minute: Some(1), ..ApiKey::default() },
        ] {
            let models = Models::of(Arc::new(key));
            let admit = |method: Method, target: &str, encoding: Option<&str>| {
                let mut headers = HeaderMap::new();
                headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
                if let Some(encoding) = encoding {
                    headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
                }
                let uri = target.parse().unwrap();
                models.admit_head(&method, &uri, &headers, method == Method::POST).is_ok()
            };
            assert!(admit(Method::POST, "/v1/chat/completions", None));
            assert!(admit(Method::GET, "/v1/files", None));
            assert!(!admit(Method::POST, "/v1/chat/completions", Some("identity")));
            assert!(!admit(Method::POST, "/v1/batches", None));
            assert!(!admit(Method::POST, "/v1/audio//transcriptions", None));
        }
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn a_head_that_leaves_no_doubt_goes_on() {
        for (path, _) in &PATHS[..5] {
            assert!(admitted(&Method::POST, path, &[JSON], true), "{path}");
        }
        let utf8 = ("content-type", "Application/JSON; charset=UTF-8");
        assert!(admitted(&Method::POST, "/v1/messages?beta=true", &[utf8], true));
        let form = ("content-type", "multipart/form-data; boundary=x");
        assert!(admitted(&Method::POST, "/v1/audio/translations", &[form], true));
        for path in ["/v1/models", "/v1/models/gpt-oss-120b"] {
            assert!(admitted(&Method::GET, path, &[], false), "{path}");
        }
        for path in ["/v1/files", "/v1/responses/r", "/v1/Models", "/v1/m%6fdels", "/v1/modelsx"] {
            assert!(!admitted(&Method::GET, path, &[], false), "{path}");
        }
    }

    #[test]
    fn a_head_that_leaves_room_for_another_model_does_not() {
        let chat = "/v1/chat/completions";
        for target in [
            "/v1/chat/completions?model=other",
            "/v1/chat/completions?a=b&%6dodel=other",
            "/v1/chat/completions?MODEL=other",
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/v1/chat%2Fcompletions",
            "/v1/./chat/completions",
            "/openai/deployments/other/chat/completions",
            "/v1/images/generations",
            "/v1/files",
        ] {
            assert!(!admitted(&Method::POST, target, &[JSON], true), "{target}");
        }
        for wrong in [
            &[("content-type", "application/x-www-form-urlencoded")][..],
            &[("content-type", "application/json; charset=utf-16")],
            &[("content-type", "text/plain")],
            &[("content-type", "multipart/form-data; boundary=x")],
            &[JSON, JSON],
            &[JSON, ("content-encoding", "gzip")],
            &[JSON, ("content-encoding", "identity")],
            &[],
        ] {
            assert!(!admitted(&Method::POST, chat, wrong, true), "{wrong:?}");
        }
        assert!(!admitted(&Method::GET, chat, &[JSON], true), "a GET with a body");
        assert!(!admitted(&Method::DELETE, "/v1/files/1", &[], false));
        assert!(!admitted(&Method::GET, "/v1/realtime?model=other", &[], false));
        assert!(!admitted(&Method::POST, "/v1/audio/translations", &[JSON], true));
    }
}
