//! OTLP by HTTP (OTLP specification, "OTLP/HTTP"): `POST /v1/logs`, `/v1/traces` and `/v1/metrics`, as protobuf
//! or JSON, compressed or not. Answers are written as the request was.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use serde_json::json;
use service::body::{self, BodyError};
use service::http::Answer;
use tokio::time::timeout;
use tonic_types::pb;
use zeroize::Zeroizing;

use super::{ARRIVAL, EXPORT, Exports, Form, MESSAGE, Message, Signal};
use crate::error::{self, Refused};

/// Where each signal goes.
static PATHS: [(&str, Signal); 3] =
    [("/v1/logs", Signal::Logs), ("/v1/traces", Signal::Traces), ("/v1/metrics", Signal::Metrics)];

/// The most of a message that is too long that is read all the same, in bytes, …
const THROWN_AWAY: usize = 64 << 20;

/// … and for how long.
const LINGER: Duration = Duration::from_secs(3);

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers a request.
pub(crate) async fn answer<B: Body<Data = Bytes>>(exports: Exports, request: Request<B>) -> Answer {
    let (head, body) = request.into_parts();
    let found = PATHS.iter().find(|(path, _)| *path == head.uri.path());
    let Some((_, signal)) = found else {
        let why = "send OTLP to /v1/logs, /v1/traces or /v1/metrics\n";
        return text(StatusCode::NOT_FOUND, why, None);
    };
    if head.method != Method::POST {
        let allow = (ALLOW, HeaderValue::from_static("POST"));
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST only\n", Some(allow));
    }
    let Some(form) = form(&head.headers) else {
        let why = "Content-Type: send application/x-protobuf or application/json\n";
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why, None);
    };
    let Some(gzip) = is_gzip(&head.headers) else {
        // RFC 9110, section 12.5.3
        let accept = (ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let why = "Content-Encoding: send gzip, or none\n";
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why, Some(accept));
    };
    let accepted = timeout(EXPORT, accept(&exports, *signal, form, gzip, body)).await;
    match accepted.unwrap_or(Err(Refused::Slow)) {
        Ok(()) => success(form),
        Err(why) => refusal(form, why),
    }
}

async fn accept<B: Body<Data = Bytes>>(
    exports: &Exports,
    signal: Signal,
    form: Form,
    gzip: bool,
    body: B,
) -> Result<(), Refused> {
    let admitted = exports.admit().await;
    let mut body = pin!(body);
    let read = timeout(ARRIVAL, body::read(body.as_mut(), MESSAGE)).await;
    let bytes = match read.map_err(|_| Refused::Slow)? {
        Ok(bytes) => bytes,
        Err(BodyError::TooLarge(_)) => {
            drop(admitted);
            let _ = timeout(LINGER, throw_away(body)).await;
            return Err(Refused::TooMuch);
        }
        Err(BodyError::Broken(_)) => return Err(Refused::Malformed),
    };
    let bytes = Zeroizing::new(Vec::from(bytes));
    exports.accept(admitted, signal, Message { bytes, form, gzip }).await
}

/// Reads what a sender is still writing. Without that it would find its connection broken, not the answer, and would
/// send the same again.
async fn throw_away<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) {
    let mut rest = THROWN_AWAY;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(left) = rest.checked_sub(length) else { return };
        rest = left;
    }
}

/// How the message is written; `None`: in a way that is not known here. Parameters such as `charset` say nothing
/// that OTLP has not said.
fn form(headers: &HeaderMap) -> Option<Form> {
    let value = only(headers, &CONTENT_TYPE)?;
    match value.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Form::Protobuf),
        "application/json" => Some(Form::Json),
        _ => None,
    }
}

/// Whether the message is compressed; `None`: in a way that is not known here.
fn is_gzip(headers: &HeaderMap) -> Option<bool> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Some(false);
    }
    match only(headers, &CONTENT_ENCODING)?.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Some(true),
        "identity" | "" => Some(false),
        _ => None,
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// All was accepted: an answer without a member, of any of the three services.
fn success(form: Form) -> Answer {
    match form {
        Form::Protobuf => written(StatusCode::OK, PROTOBUF, Bytes::new()),
        Form::Json => written(StatusCode::OK, JSON, Bytes::from_static(b"{}")),
    }
}

/// A `google.rpc.Status`, with RetryInfo where it may succeed later.
fn refusal(form: Form, why: Refused) -> Answer {
    let head = error::status(why);
    let status = match why {
        Refused::Malformed | Refused::TooDeep(_) => StatusCode::BAD_REQUEST,
        Refused::TooMuch => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::Full | Refused::Slow | Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        // they are on record as lost, and some exporters send again after every 5xx
        Refused::Dropped | Refused::Unsealed => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let retry = error::retry(why);
    let mut answer = match form {
        Form::Protobuf => {
            let mut body = head.details().to_vec();
            if body.is_empty() {
                let (code, message) = (head.code().into(), head.message().to_owned());
                body = pb::Status { code, message, details: Vec::new() }.encode_to_vec();
            }
            written(status, PROTOBUF, body.into())
        }
        Form::Json => {
            let code = i32::from(head.code());
            let details = retry.map(|pause| {
                let kind = "type.googleapis.com/google.rpc.RetryInfo";
                json!({"@type": kind, "retryDelay": format!("{}s", pause.as_secs())})
            });
            let details: Vec<_> = details.into_iter().collect();
            let body = json!({"code": code, "message": head.message(), "details": details});
            written(status, JSON, body.to_string().into())
        }
    };
    if let Some(pause) = retry {
        answer.headers_mut().insert(RETRY_AFTER, pause.as_secs().into());
    }
    answer
}

/// Where no form was agreed on.
fn text(
    status: StatusCode,
    why: &'static str,
    header: Option<(HeaderName, HeaderValue)>,
) -> Answer {
    let mut answer = written(status, TEXT, Bytes::from_static(why.as_bytes()));
    answer.headers_mut().extend(header);
    answer
}

fn written(status: StatusCode, kind: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Answer::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_form_is_what_the_header_says() {
        let form = |value| super::form(&headers(&[(CONTENT_TYPE, value)]));
        assert_eq!(form("application/x-protobuf"), Some(Form::Protobuf));
        assert_eq!(form("Application/JSON; charset=utf-8"), Some(Form::Json));
        for other in ["text/plain", "", "application/jsonl", "application/grpc"] {
            assert_eq!(form(other), None, "{other}");
        }
        assert_eq!(super::form(&HeaderMap::new()), None);
        let mut two = headers(&[(CONTENT_TYPE, "application/json")]);
        two.append(CONTENT_TYPE, PROTOBUF);
        assert_eq!(super::form(&two), None, "which one?");
    }

    #[test]
    fn so_is_the_compression() {
        let gzip = |value| is_gzip(&headers(&[(CONTENT_ENCODING, value)]));
        assert_eq!(gzip("gzip"), Some(true));
        assert_eq!(gzip("identity"), Some(false));
        assert_eq!(gzip("gzip, gzip"), None);
        assert_eq!(gzip("zstd"), None);
        assert_eq!(is_gzip(&HeaderMap::new()), Some(false));
    }

    #[test]
    fn a_refusal_says_the_same_in_both_forms() {
        for why in [Refused::Dropped, Refused::Unsealed] {
            assert!(refusal(Form::Json, why).status().is_client_error(), "never sent again");
        }
        for why in [Refused::Malformed, Refused::TooMuch, Refused::Full, Refused::Failed] {
            let [protobuf, json] = [Form::Protobuf, Form::Json].map(|form| refusal(form, why));
            assert_eq!(protobuf.status(), json.status());
            let retry = [&protobuf, &json].map(|answer| answer.headers().get(RETRY_AFTER).cloned());
            assert_eq!(retry[0], retry[1]);
            assert_eq!(retry[0].is_some(), error::retry(why).is_some());
        }
    }
}
