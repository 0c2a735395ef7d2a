//! Azure Blob Storage, as far as append blobs need it: Put Blob, Append Block, Get Blob, its properties, Delete Blob, List
//! Blobs.
//!
//! Must not know: what is in a blob. Sources: the REST reference of Blob Storage for these operations. Every request
//! needs an access token of the identity provider for storage, and a version that knows such tokens; or, to read, a
//! signature of the account's.

mod error;
mod list;
pub mod sas;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, IF_NONE_MATCH, LOCATION, RANGE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

use self::error::Refusal;
use self::list::Wanted;
use self::sas::NotSigned;
use self::store::Store;
use crate::clock;
use crate::faults::{BlobFault, BlobReadFault, Control, Switch};
use crate::http::{answer, body};
use crate::identity::{IdentityProvider, STORAGE_RESOURCE};
use crate::tally::Tally;

/// The first version of the API that takes access tokens.
const OLDEST: &str = "2017-11-09";
/// The longest block, of version 2022-11-02 and later; bounded further by what a laptop has.
const MAX_BLOCK: usize = 32 * 1024 * 1024;
/// The most blocks of one append blob.
pub const MAX_BLOCKS: usize = 50_000;
/// The most blobs of a page of a list.
pub const MAX_PAGE: usize = 5000;
/// What the key of the account's signatures is derived under.
pub const KEY: &str = "storage account key";
/// What the account is called.
const ACCOUNT: &str = "simulated";

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
    /// The most blobs of a page of a list; [`MAX_PAGE`] in Azure.
    pub max_page: usize,
    /// What its signatures are made with.
    pub key: [u8; 32],
    /// How it misbehaves when something is appended.
    pub faults: Switch<BlobFault>,
    /// How it misbehaves when something is read.
    pub reads: Switch<BlobReadFault>,
    /// How many blocks came, those that it refused or hid included.
    pub appends: Tally,
}

struct Account {
    config: BlobConfig,
    store: Mutex<Store>,
}

/// The query.
type Parameters = BTreeMap<String, String>;

/// All routes of an account, with `/_sim/faults`.
pub fn router(config: BlobConfig) -> Router {
    let control = Control::default().with("blob", &config.faults).with("blob-read", &config.reads);
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
        let path = request.uri().path().to_owned();
        let (container, blob) =
            path.trim_start_matches('/').split_once('/').unwrap_or((&path[1..], ""));
        let value = |name: &str| parameters.get(name).map(String::as_str);
        let (method, comp) = (request.method().as_str(), value("comp"));
        let is_list = blob.is_empty() && comp == Some("list");
        let permission = match method {
            "GET" | "HEAD" => Some(if is_list { 'l' } else { 'r' }),
            _ => None,
        };
        self.authorize(container, &parameters, permission, request.headers())?;
        if !self.config.containers.contains(container) {
            return Err(Refusal::ContainerNotFound);
        }
        let name = format!("{container}/{blob}");
        match (method, comp) {
            ("GET", Some("list")) if is_list && value("restype") == Some("container") => {
                self.list(container, &parameters).await
            }
            (_, _) if blob.is_empty() => Err(Refusal::Unsupported),
            ("PUT", None) => self.create(&name, request.headers()),
            ("PUT", Some("appendblock")) => self.append(name, request).await,
            ("GET" | "HEAD", None) => self.read(&name, &parameters, request.headers()).await,
            ("DELETE", None) => {
                self.store().delete(&name)?;
                Ok(StatusCode::ACCEPTED.into_response())
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    /// `permission`: what a signature has to allow; `None` if none can.
    fn authorize(
        &self,
        container: &str,
        parameters: &Parameters,
        permission: Option<char>,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        if parameters.contains_key("sig") && !headers.contains_key(AUTHORIZATION) {
            let now = iso_8601(clock::now());
            let permission = permission.ok_or(Refusal::Permission)?;
            return sas::verify(&self.config.key, container, parameters, permission, &now).map_err(
                |error| match error {
                    NotSigned::Authentication => Refusal::Signature,
                    NotSigned::Permission => Refusal::Permission,
                },
            );
        }
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

    async fn read(
        &self,
        name: &str,
        parameters: &Parameters,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let mut range = text(headers, "x-ms-range").or_else(|| text(headers, RANGE.as_str()));
        match self.read_fault().await {
            Some(BlobReadFault::WholeBlob) => range = None,
            Some(fault) => {
                if let Some(misread) = misread(&fault, parameters) {
                    return misread;
                }
            }
            None => {}
        }
        let store = self.store();
        let blob = store.get(name)?;
        let length = blob.content.len();
        let mut headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("x-ms-blob-type", "AppendBlob".to_owned()),
            ("x-ms-blob-committed-block-count", blob.blocks.to_string()),
        ];
        let (status, content) = match range {
            None => (StatusCode::OK, blob.content.clone()),
            Some(range) => {
                let (from, to) = span(range, length).ok_or(Refusal::Range)?;
                let content = blob.content.get(from..to).ok_or(Refusal::Range)?;
                let said = format!("bytes {from}-{}/{length}", to - 1);
                headers.push(("content-range", said));
                (StatusCode::PARTIAL_CONTENT, content.to_vec())
            }
        };
        let mut response = (status, content).into_response();
        for (name, value) in headers {
            let value = value.try_into().map_err(|_| Refusal::Internal)?;
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }

    async fn list(&self, container: &str, parameters: &Parameters) -> Result<Response, Refusal> {
        let xml = match self.read_fault().await {
            Some(BlobReadFault::EntityBomb) => list::BOMB.to_owned(),
            Some(BlobReadFault::EndlessList) => list::ENDLESS.to_owned(),
            fault => {
                if let Some(misread) = fault.and_then(|fault| misread(&fault, parameters)) {
                    return misread;
                }
                self.page(container, parameters)?
            }
        };
        Ok((StatusCode::OK, [(CONTENT_TYPE, "application/xml")], xml).into_response())
    }

    fn page(&self, container: &str, parameters: &Parameters) -> Result<String, Refusal> {
        let value = |name: &str| parameters.get(name).map(String::as_str);
        let asked = value("maxresults").map(|number| {
            number.parse().ok().filter(|number| *number > 0).ok_or(Refusal::Parameter)
        });
        let most = asked.transpose()?.unwrap_or(MAX_PAGE).min(self.config.max_page);
        let wanted = Wanted {
            container,
            prefix: value("prefix").unwrap_or_default(),
            delimiter: value("delimiter"),
            marker: value("marker"),
            most,
        };
        let store = self.store();
        list::page(&wanted, store.list(container)).ok_or(Refusal::Parameter)
    }

    async fn read_fault(&self) -> Option<BlobReadFault> {
        let mut active = self.config.reads.strike()?;
        if active.fault == BlobReadFault::Stall {
            active.stall().await;
            return None;
        }
        Some(active.fault)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Faults that are the same for everything that is read; `None`: this one is for something else.
fn misread(fault: &BlobReadFault, parameters: &Parameters) -> Option<Result<Response, Refusal>> {
    Some(match fault {
        BlobReadFault::ServerBusy { retry_after } => Err(Refusal::Busy(*retry_after)),
        BlobReadFault::Forbidden => Err(Refusal::Permission),
        BlobReadFault::ContainerNotFound => Err(Refusal::ContainerNotFound),
        BlobReadFault::Redirect { location } => {
            let location = [(LOCATION, location.clone())];
            Ok((StatusCode::TEMPORARY_REDIRECT, location).into_response())
        }
        BlobReadFault::Echo => {
            let signature = parameters.get("sig").cloned().unwrap_or_default();
            let echo = [("x-ms-error-code", signature.clone())];
            Ok((StatusCode::FORBIDDEN, echo, signature).into_response())
        }
        BlobReadFault::Stall
        | BlobReadFault::WholeBlob
        | BlobReadFault::EntityBomb
        | BlobReadFault::EndlessList => return None,
    })
}

/// As signatures write times: `2026-11-23T10:00:00Z` (the civil calendar from days since 1970).
fn iso_8601(now: u64) -> String {
    let (days, seconds) = (now / 86_400 + 719_468, now % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
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
    fn times_are_those_of_signatures() {
        for (now, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_795_392_000, "2026-11-23T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(iso_8601(now), text);
        }
    }

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
