//! The routes that callers of the reference implementation know (contract `skr.md` part 1.1), and the two GET
//! forms of them (`wire.md` part 5).
//!
//! Must not know how a report, a token or a key comes about.

pub(crate) mod answer;
pub(crate) mod base64;
pub(crate) mod request;

use std::sync::Arc;
use std::time::Duration;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::uri::Uri;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use serde::Serialize;
use service::http::Answer;

use self::request::{Field, Shape};
use crate::attest::Attest;
use crate::error::Error;
use crate::host::Host;
use crate::release::{self, Releases};
use crate::strict::Statuses;

/// What the routes need.
pub(crate) struct Routes {
    /// `attest-sidecar`.
    pub(crate) attest: Attest,
    /// Releases of keys.
    pub(crate) releases: Arc<Releases>,
    /// The MAA instance of a request that names none. `None`: that of `attest-sidecar`.
    pub(crate) maa: Option<Host>,
    /// Which statuses failures have.
    pub(crate) statuses: Statuses,
}

/// What there is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Status,
    Raw,
    RawOfNothing,
    Combined,
    Maa,
    MaaOfNothing,
    Release,
}

static ROUTES: [(Method, &str, Route); 7] = [
    (Method::GET, "/status", Route::Status),
    (Method::GET, "/attest/raw", Route::RawOfNothing),
    (Method::POST, "/attest/raw", Route::Raw),
    (Method::POST, "/attest/combined", Route::Combined),
    (Method::GET, "/attest/maa", Route::MaaOfNothing),
    (Method::POST, "/attest/maa", Route::Maa),
    (Method::POST, "/key/release", Route::Release),
];

/// The runtime data of the GET forms: nothing, said in JSON, because MAA takes nothing else.
const NOTHING: &[u8] = b"{}";

const RAW: Shape<1> = Shape {
    name: "RawAttestData",
    fields: [Field { json: "runtime_data", required: Some("RuntimeData") }],
};

const MAA: Shape<2> = Shape {
    name: "MAAAttestData",
    fields: [
        Field { json: "maa_endpoint", required: Some("MAAEndpoint") },
        Field { json: "runtime_data", required: Some("RuntimeData") },
    ],
};

/// The last two are this implementation's own.
const RELEASE: Shape<6> = Shape {
    name: "KeyReleaseData",
    fields: [
        Field { json: "maa_endpoint", required: Some("MAAEndpoint") },
        Field { json: "akv_endpoint", required: Some("AKVEndpoint") },
        Field { json: "kid", required: Some("KID") },
        Field { json: "access_token", required: None },
        Field { json: "release_policy", required: None },
        Field { json: "cache_seconds", required: None },
    ],
};

impl Routes {
    /// Answers a request.
    pub(crate) async fn answer<B: Body<Data = Bytes>>(&self, request: Request<B>) -> Answer {
        let Some(route) = find(request.method(), request.uri().path()) else {
            return elsewhere(request.method(), request.uri());
        };
        let answer = self.answer_at(route, request.into_body()).await;
        answer.unwrap_or_else(|error| {
            let code = crate::error::status(&error).grpc;
            tracing::warn!(?route, ?code, "a request failed");
            answer::failure(&error, self.statuses.head(&error))
        })
    }

    async fn answer_at<B: Body<Data = Bytes>>(
        &self,
        route: Route,
        body: B,
    ) -> Result<Answer, Error> {
        match route {
            Route::Status => Ok(status()),
            Route::RawOfNothing => self.raw(NOTHING.to_vec()).await,
            Route::Raw => {
                let [runtime_data] = RAW.read(body).await?;
                self.raw(base64::decode(&runtime_data)?).await
            }
            Route::Combined => {
                let [runtime_data] = RAW.read(body).await?;
                self.combined(base64::decode(&runtime_data)?).await
            }
            Route::MaaOfNothing => self.maa(NOTHING.to_vec(), self.maa.as_ref()).await,
            Route::Maa => {
                let [maa, runtime_data] = MAA.read(body).await?;
                let runtime_data = base64::decode(&runtime_data)?;
                let maa = maa.parse().map_err(Error::MaaHost)?;
                self.maa(runtime_data, Some(&maa)).await
            }
            Route::Release => {
                let [maa, vault, kid, access_token, policy, keep] = RELEASE.read(body).await?;
                let policy = base64::decode(&policy).map_err(Error::ReleasePolicy)?;
                let keep = if keep.is_empty() { 0 } else { keep.parse()? };
                let keep = Duration::from_secs(keep);
                let (kid, vault, maa, policy) = (&kid, &vault, &maa, &policy);
                let request = release::Request { kid, vault, maa, access_token, policy, keep };
                self.release(request).await
            }
        }
    }

    async fn raw(&self, runtime_data: Vec<u8>) -> Result<Answer, Error> {
        #[derive(Serialize)]
        struct Raw {
            report: String,
        }

        let reply = self.attest.report(runtime_data).await.map_err(Error::Raw)?;
        Ok(answer::ok(&Raw { report: hex::encode(reply.report) }))
    }

    async fn combined(&self, runtime_data: Vec<u8>) -> Result<Answer, Error> {
        #[derive(Serialize)]
        struct Combined {
            endorsed_tcb: String,
            endorsements: String,
            evidence: String,
            uvm_endorsements: String,
        }

        let reply = self.attest.report(runtime_data).await.map_err(Error::Combined)?;
        Ok(answer::ok(&Combined {
            endorsed_tcb: reply.endorsed_tcb,
            endorsements: STANDARD.encode(reply.certificates),
            evidence: STANDARD.encode(reply.report),
            uvm_endorsements: reply.uvm_endorsements,
        }))
    }

    async fn maa(&self, runtime_data: Vec<u8>, maa: Option<&Host>) -> Result<Answer, Error> {
        #[derive(Serialize)]
        struct Maa {
            token: String,
        }

        let token = self.attest.token(runtime_data, maa).await.map_err(Error::Maa)?;
        Ok(answer::ok(&Maa { token: token.0 }))
    }

    async fn release(&self, request: release::Request<'_>) -> Result<Answer, Error> {
        #[derive(Serialize)]
        struct Released<'a> {
            key: &'a str,
        }

        let jwk = self.releases.release(request).await?;
        Ok(answer::ok(&Released { key: jwk.as_str() }))
    }
}

fn status() -> Answer {
    #[derive(Serialize)]
    struct Status {
        message: &'static str,
    }

    answer::ok(&Status { message: "Status OK" })
}

fn find(method: &Method, path: &str) -> Option<Route> {
    let found = ROUTES.iter().find(|(of, at, _)| of == method && *at == path);
    found.map(|(_, _, route)| *route)
}

/// A path with a slash too many leads to the one without; the method decides whether it is kept.
fn elsewhere(method: &Method, uri: &Uri) -> Answer {
    let Some(path) = uri.path().strip_suffix('/').filter(|path| find(method, path).is_some())
    else {
        return answer::not_found();
    };
    let status = if method == Method::GET {
        StatusCode::MOVED_PERMANENTLY
    } else {
        StatusCode::TEMPORARY_REDIRECT
    };
    let location = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    HeaderValue::try_from(location)
        .map_or_else(|_| answer::not_found(), |location| answer::moved(status, location))
}
