//! The kinds of answers that the admin gives. None of them is kept by anybody on the way.

use askama::Template;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::{Body, full};
use crate::page::ContentSecurityPolicy;

/// What a page may do: show the stylesheet and pictures of this server, send forms to it, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// A page.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Response<Body> {
    let text = template.render().expect("writing to a String cannot fail");
    page_of(status, full(text.into()))
}

/// A page that comes by and by.
pub(super) fn page_of(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.extensions_mut().insert(ContentSecurityPolicy(HeaderValue::from_static(POLICY)));
    kind(&mut response, "text/html; charset=utf-8");
    unstored(response)
}

/// Sends a browser to another page of ours, by GET.
pub(super) fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::FOUND;
    let location = HeaderValue::from_str(location).expect("ids are encoded in paths");
    response.headers_mut().insert(LOCATION, location);
    unstored(response)
}

/// An answer to a program.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    written_json(status, value.to_string())
}

/// The same, written already.
pub(super) fn written_json(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    *response.status_mut() = status;
    kind(&mut response, "application/json");
    unstored(response)
}

/// An answer to a program, of a JSON document a line, that comes by and by.
pub(super) fn json_lines(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    kind(&mut response, "application/x-ndjson");
    unstored(response)
}

/// A file to be kept by whoever asked.
pub(super) fn download(text: String, of: &'static str, name: &str) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    kind(&mut response, of);
    let name = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    let name = name.expect("names of files are made of letters and digits here");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    unstored(response)
}

/// Not to be kept.
pub(super) fn unstored(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn kind(response: &mut Response<Body>, kind: &'static str) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
}
