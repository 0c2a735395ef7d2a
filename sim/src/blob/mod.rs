//! Azure Blob Storage, as far as append blobs need it: Put Blob, Append Block, Get Blob, its properties, List Blobs.
//!
//! Must not know: what is in a blob. Sources: the REST reference of Blob Storage for these operations. Every request
//! needs an access token of the identity provider for storage, and a version that knows such tokens.

mod error;
mod store;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, IF_NONE_MATCH, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use self::error::Refusal;
use self::store::Store;
use crate::clock;
use crate::faults::{BlobFault, Control, Switch};
use crate::http::{answer, body};
use crate::identity::{IdentityProvider, STORAGE_RESOURCE};
use crate::tally::Tally;

/// The first version of the API that takes access tokens.
const OLDEST: &str = "2017-11-09";
/// The longest block, of version 2022-11-02 and later; bounded further by what a laptop has.
const MAX_BLOCK: usize = 32 * 1024 * 1024;
/// The most blocks of one append blob.
pub const MAX_BLOCKS: usize = 50_000;

/// One storage account.
#[derive(Debug, Clone)]
pub struct BlobConfig {
    /// Whose tokens are believed.
    pub provider: IdentityProvider,
    /// Object ids of those who may read and write.
    pub contributors: BTreeSet<String>,
    /// Its containers.
    pub containers: BTreeSet<String>,
    /// The most blocks of one blob; [`MAX_BLOCKS`] in Azure.
    pub max_blocks: usize,
    /// How it misbehaves.
    pub faults: Switch<BlobFault>,
    /// How many blocks came, those that it refused or hid included.
    pub appends: Tally,
}

struct Account {
    config: BlobConfig,
    store: Mutex<Store>,
}

#[derive(Debug, Deserialize)]
struct Parameters {
    comp: Option<String>,
    restype: Option<String>,
    prefix: Option<String>,
}

/// All routes of an account, with `/_sim/faults`.
pub fn router(config: BlobConfig) -> Router {
    let control = Control::default().with("blob", &config.faults);
    let account = Account { config, store: Mutex::default() };
    control.router().merge(Router::new().fallback(dispatch).with_state(Arc::new(account)))
}

async fn dispatch(
    State(account): State<Arc<Account>>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Response {
    let headless = request.method() == Method::HEAD;
    match account.handle(parameters, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.respond(headless),
    }
}

impl Account {
    async fn handle(&self, parameters: Parameters, request: Request) -> Result<Response, Refusal> {
        self.authorize(request.headers())?;
        let path = request.uri().path().to_owned();
        let (container, blob) =
            path.trim_start_matches('/').split_once('/').unwrap_or((&path[1..], ""));
        if !self.config.containers.contains(container) {
            return Err(Refusal::ContainerNotFound);
        }
        let name = format!("{container}/{blob}");
        let comp = parameters.comp.as_deref();
        match (request.method().as_str(), comp) {
            ("GET", Some("list"))
                if blob.is_empty() && parameters.restype.as_deref() == Some("container") =>
            {
                Ok(self.list(container, &parameters.prefix.unwrap_or_default()))
            }
            (_, _) if blob.is_empty() => Err(Refusal::Unsupported),
            ("PUT", None) => self.create(&name, request.headers()),
            ("PUT", Some("appendblock")) => self.append(name, request).await,
            ("GET" | "HEAD", None) => self.read(&name, request.headers()),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let version = text(headers, "x-ms-version").unwrap_or_default();
        if version < OLDEST {
            return Err(Refusal::Unauthenticated("the version knows no access tokens"));
        }
        if !headers.contains_key("x-ms-date") && !headers.contains_key(DATE) {
            return Err(Refusal::Header("x-ms-date"));
        }
        let token = text(headers, AUTHORIZATION.as_str())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(Refusal::Unauthenticated("no access token"))?;
        let caller = self
            .config
            .provider
            .verify(token, STORAGE_RESOURCE, clock::now())
            .map_err(|_| Refusal::Unauthenticated("the access token is not accepted"))?;
        if self.config.contributors.contains(&caller) { Ok(()) } else { Err(Refusal::Permission) }
    }

    fn create(&self, name: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        if text(headers, "x-ms-blob-type") != Some("AppendBlob") {
            return Err(Refusal::Header("x-ms-blob-type"));
        }
        if text(headers, CONTENT_LENGTH.as_str()).is_some_and(|length| length != "0") {
            return Err(Refusal::Header("content-length"));
        }
        let fresh = text(headers, IF_NONE_MATCH.as_str()) == Some("*");
        self.store().create(name, fresh)?;
        Ok(StatusCode::CREATED.into_response())
    }

    async fn append(&self, name: String, request: Request) -> Result<Response, Refusal> {
        self.config.appends.count();
        let fault = match self.config.faults.strike() {
            None => None,
            Some(mut active) => {
                if active.fault == BlobFault::Stall {
                    active.stall().await;
                }
                Some(active.fault)
            }
        };
        match fault {
            Some(BlobFault::ServerBusy { retry_after }) => return Err(Refusal::Busy(retry_after)),
            Some(BlobFault::ServerError) => return Err(Refusal::Internal),
            Some(BlobFault::Unauthorized) => {
                return Err(Refusal::Unauthenticated("the access token is not accepted"));
            }
            Some(BlobFault::Forbidden) => return Err(Refusal::Permission),
            Some(BlobFault::WrongPosition) => return Err(Refusal::AppendPosition),
            None | Some(BlobFault::Stall | BlobFault::LostAnswer) => {}
        }
        let position = match text(request.headers(), "x-ms-blob-condition-appendpos") {
            None => None,
            Some(position) => {
                let header = Refusal::Header("x-ms-blob-condition-appendpos");
                Some(position.parse::<usize>().map_err(|_| header)?)
            }
        };
        let block =
            body::read(request.into_body(), MAX_BLOCK).await.map_err(|error| match error {
                body::BodyError::TooLarge { .. } => Refusal::TooLarge,
                body::BodyError::Broken => Refusal::Header("content-length"),
            })?;
        if block.is_empty() {
            return Err(Refusal::Header("content-length"));
        }
        let (offset, blocks) =
            self.store().append(&name, &block, position, self.config.max_blocks)?;
        if fault == Some(BlobFault::LostAnswer) {
            return Ok(answer::truncated(&serde_json::json!("appended, and nobody hears of it")));
        }
        let headers = [
            ("x-ms-blob-append-offset", offset.to_string()),
            ("x-ms-blob-committed-block-count", blocks.to_string()),
        ];
        Ok((StatusCode::CREATED, headers).into_response())
    }

    fn read(&self, name: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        let range = text(headers, "x-ms-range").or_else(|| text(headers, RANGE.as_str()));
        let store = self.store();
        let blob = store.get(name)?;
        let (status, content) = match range {
            None => (StatusCode::OK, blob.content.clone()),
            Some(range) => {
                let (from, to) = span(range, blob.content.len()).ok_or(Refusal::Range)?;
                let content = blob.content.get(from..to).ok_or(Refusal::Range)?;
                (StatusCode::PARTIAL_CONTENT, content.to_vec())
            }
        };
        let headers = [
            (CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
            ("x-ms-blob-type", "AppendBlob".to_owned()),
            ("x-ms-blob-committed-block-count", blob.blocks.to_string()),
        ];
        Ok((status, headers, content).into_response())
    }

    fn list(&self, container: &str, prefix: &str) -> Response {
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
             ContainerName=\"{container}\"><Blobs>"
        );
        for (name, length) in self.store().list(container, prefix) {
            xml.push_str(&format!(
                "<Blob><Name>{name}</Name><Properties><Content-Length>{length}</Content-Length>\
                 <BlobType>AppendBlob</BlobType></Properties></Blob>"
            ));
        }
        xml.push_str("</Blobs><NextMarker /></EnumerationResults>");
        (StatusCode::OK, [(CONTENT_TYPE, "application/xml")], xml).into_response()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes=<first>-` or `bytes=<first>-<last>`, as far as there is anything; Azure knows no ranges from the end.
fn span(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok().filter(|first| *first < length)?;
    let end = if last.is_empty() { length } else { last.parse::<usize>().ok()?.checked_add(1)? };
    (first < end).then_some((first, end.min(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_and_never_begin_behind_it() {
        assert_eq!(span("bytes=0-", 10), Some((0, 10)));
        assert_eq!(span("bytes=2-4", 10), Some((2, 5)));
        assert_eq!(span("bytes=2-40", 10), Some((2, 10)));
        for bad in ["bytes=10-", "bytes=4-2", "bytes=-5", "2-4", "bytes=a-"] {
            assert_eq!(span(bad, 10), None, "{bad}");
        }
    }
}
