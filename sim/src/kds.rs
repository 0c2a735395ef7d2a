//! The key distribution services: AMD's, and Azure's cache of it.
//!
//! Must not know: which host asks. Both give the certificate of a chip for a TCB version, and
//! neither knows chips that AMD did not make: those are 404. Sources: VCEK Certificate and KDS
//! Interface Specification (AMD publication 57230) for the paths below `/vcek` and `/vlek`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use der::Encode as _;
use serde_json::json;
use x509_cert::Certificate;

use crate::faults::{Control, CrlFault, KdsFault, Switch};
use crate::http::answer;
use crate::machine::Machine;
use crate::pki::amd::AmdAuthority;
use crate::pki::{KeyRing, PkiError, certificate};
use crate::tally::Tally;
use crate::tcb::{Product, Tcb};

/// The API version of Azure's cache.
const CACHE_API_VERSION: &str = "2020-10-15-preview";

/// What the services know.
#[derive(Debug)]
pub struct Kds {
    /// Every chip that was ever made.
    pub machines: Vec<Machine>,
    /// Serials on the revocation lists.
    pub revoked: Vec<u32>,
    /// Where the VLEK chain comes from.
    pub keys: KeyRing,
    /// Keys of another world, for the fault that shows its revocation list.
    pub foreign: KeyRing,
    /// How they misbehave.
    pub faults: KdsFaults,
    /// How often they were asked.
    pub calls: KdsCalls,
}

/// The switches of the services.
#[derive(Debug, Clone, Default)]
pub struct KdsFaults {
    /// Of AMD's certificates.
    pub certificates: Switch<KdsFault>,
    /// Of AMD's revocation lists.
    pub crl: Switch<CrlFault>,
    /// Of Azure's cache.
    pub cache: Switch<KdsFault>,
}

/// How often the services were asked since the start, refusals and faults included.
#[derive(Debug, Default)]
pub struct KdsCalls {
    /// AMD, for the certificate of a chip.
    pub vcek: Tally,
    /// AMD, for a revocation list.
    pub crl: Tally,
    /// Azure's cache.
    pub cache: Tally,
}

/// The routes alone.
pub(crate) fn routes(kds: Arc<Kds>) -> Router {
    Router::new()
        .route("/vcek/v1/{product}/cert_chain", get(vcek_chain))
        .route("/vcek/v1/{product}/crl", get(crl))
        .route("/vcek/v1/{product}/{hwid}", get(vcek))
        .route("/vlek/v1/{product}/cert_chain", get(vlek_chain))
        .route("/vlek/v1/{product}/crl", get(crl))
        .route("/SevSnpVM/certificates/{hwid}/{tcb}", get(cached))
        .with_state(kds)
}

/// The switches by their names.
pub(crate) fn control(control: Control, faults: &KdsFaults) -> Control {
    control
        .with("kds", &faults.certificates)
        .with("kds-crl", &faults.crl)
        .with("azure-cache", &faults.cache)
}

/// The routes as a server of their own, with `/_sim/faults`.
pub fn router(kds: Arc<Kds>) -> Router {
    let control = control(Control::default(), &kds.faults);
    routes(kds).merge(control.router())
}

const DER: &str = "application/octet-stream";
const PEM: &str = "application/x-pem-file";

enum Refusal {
    /// 400: a parameter is missing or out of range.
    Parameter,
    /// 404: no such product or chip.
    Unknown,
    /// 500.
    Internal,
}

impl From<PkiError> for Refusal {
    fn from(_: PkiError) -> Self {
        Self::Internal
    }
}

type Content = (&'static str, Vec<u8>);

/// `GET /vcek/v1/<Product>/<chip id>?blSPL=…&teeSPL=…&snpSPL=…&ucodeSPL=…`: DER.
async fn vcek(
    State(kds): State<Arc<Kds>>,
    Path((product, hwid)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    kds.calls.vcek.count();
    let fault = match struck(&kds.faults.certificates).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    give(kds, move |kds| {
        let machine = kds.machine(&hwid)?;
        if machine.product().name() != product {
            return Err(Refusal::Unknown);
        }
        let tcb = tcb_of(&query, machine.product()).ok_or(Refusal::Parameter)?;
        let certificate = leaf(machine, tcb, fault.as_ref())?;
        Ok((DER, certificate.to_der().map_err(PkiError::Der)?))
    })
    .await
}

/// `GET /vcek/v1/<Product>/cert_chain`: ASK and ARK, PEM.
async fn vcek_chain(State(kds): State<Arc<Kds>>, Path(product): Path<String>) -> Response {
    if let Err(response) = struck(&kds.faults.certificates).await {
        return response;
    }
    give(kds, move |kds| Ok((PEM, kds.amd(&product)?.chain_pem()?.into_bytes()))).await
}

/// `GET /vlek/v1/<Product>/cert_chain`: ASVK and ARK, PEM.
async fn vlek_chain(State(kds): State<Arc<Kds>>, Path(product): Path<String>) -> Response {
    if let Err(response) = struck(&kds.faults.certificates).await {
        return response;
    }
    give(kds, move |kds| {
        let amd = kds.amd(&product)?;
        let chain = certificate::to_pem_chain([amd.asvk(&kds.keys)?, amd.ark()])?;
        Ok((PEM, chain.into_bytes()))
    })
    .await
}

/// `GET /{vcek,vlek}/v1/<Product>/crl`: DER.
async fn crl(State(kds): State<Arc<Kds>>, Path(product): Path<String>) -> Response {
    kds.calls.crl.count();
    let fault = match struck_list(&kds.faults.crl).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    give(kds, move |kds| Ok((DER, list(kds, kds.amd(&product)?, fault.as_ref())?))).await
}

/// `GET /SevSnpVM/certificates/<chip id>/<tcb, hexadecimal>?api-version=…`: VCEK, ASK, ARK, PEM.
async fn cached(
    State(kds): State<Arc<Kds>>,
    Path((hwid, tcb)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    kds.calls.cache.count();
    let fault = match struck(&kds.faults.cache).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    give(kds, move |kds| {
        if query.get("api-version").map(String::as_str) != Some(CACHE_API_VERSION) {
            return Err(Refusal::Parameter);
        }
        let machine = kds.machine(&hwid)?;
        let tcb = u64::from_str_radix(&tcb, 16).map_err(|_| Refusal::Parameter)?;
        let tcb = Tcb::from_bytes(tcb.to_le_bytes(), machine.product());
        let leaf = certificate::to_pem(&leaf(machine, tcb, fault.as_ref())?)?;
        Ok((PEM, (leaf + &machine.amd().chain_pem()?).into_bytes()))
    })
    .await
}

impl Kds {
    /// Chip ids are looked up by the bytes that the product uses; a padded one is known too.
    fn machine(&self, hwid: &str) -> Result<&Machine, Refusal> {
        let hwid = hex::decode(hwid).map_err(|_| Refusal::Parameter)?;
        self.machines
            .iter()
            .find(|machine| {
                let id = machine.chip_id();
                hwid == id || id.get(..machine.product().chip_id_len()) == Some(hwid.as_slice())
            })
            .ok_or(Refusal::Unknown)
    }

    fn amd(&self, product: &str) -> Result<&AmdAuthority, Refusal> {
        self.machines
            .iter()
            .map(Machine::amd)
            .find(|amd| amd.product().name() == product)
            .ok_or(Refusal::Unknown)
    }
}

fn tcb_of(query: &BTreeMap<String, String>, product: Product) -> Option<Tcb> {
    let level = |name: &str| query.get(name)?.parse::<u8>().ok();
    Some(Tcb {
        fmc: if product == Product::Turin { level("fmcSPL")? } else { 0 },
        bootloader: level("blSPL")?,
        tee: level("teeSPL")?,
        snp: level("snpSPL")?,
        microcode: level("ucodeSPL")?,
    })
}

/// The leaf that was asked for, or the one of a fault.
fn leaf(machine: &Machine, tcb: Tcb, fault: Option<&KdsFault>) -> Result<Certificate, PkiError> {
    match fault {
        Some(KdsFault::StaleTcb) => Ok(machine.vcek(tcb.older())?.certificate),
        Some(KdsFault::WrongChip) => {
            let mut other = *machine.chip_id();
            other.iter_mut().take(1).for_each(|byte| *byte ^= 0xff);
            Ok(machine.amd().vcek(&other, tcb)?.certificate)
        }
        _ => Ok(machine.vcek(tcb)?.certificate),
    }
}

fn list(kds: &Kds, amd: &AmdAuthority, fault: Option<&CrlFault>) -> Result<Vec<u8>, PkiError> {
    match fault {
        Some(CrlFault::Outdated) => amd.crl_until(&kds.revoked, certificate::NOT_BEFORE + 1),
        Some(CrlFault::RevokesIssuer) => amd.crl(&[amd.ask_serial()]),
        Some(CrlFault::ForeignSigner) => {
            AmdAuthority::derive(&kds.foreign, amd.product())?.crl(&kds.revoked)
        }
        _ => amd.crl(&kds.revoked),
    }
}

/// The fault of a call for certificates: one that is the whole answer, or one that changes it.
async fn struck(switch: &Switch<KdsFault>) -> Result<Option<KdsFault>, Response> {
    let Some(mut active) = switch.strike() else { return Ok(None) };
    match &active.fault {
        KdsFault::NotFound => Err(error(StatusCode::NOT_FOUND, "not found")),
        KdsFault::TooManyRequests { retry_after } => Err(throttled(*retry_after)),
        KdsFault::ServerError => Err(internal()),
        KdsFault::Garbage => Err(garbage()),
        KdsFault::Oversized => Err(answer::oversized(&json!({}))),
        KdsFault::WrongChip | KdsFault::StaleTcb => Ok(Some(active.fault)),
        KdsFault::Stall => {
            active.stall().await;
            Ok(None)
        }
    }
}

/// The same of a call for a revocation list.
async fn struck_list(switch: &Switch<CrlFault>) -> Result<Option<CrlFault>, Response> {
    let Some(mut active) = switch.strike() else { return Ok(None) };
    match &active.fault {
        CrlFault::TooManyRequests { retry_after } => Err(throttled(*retry_after)),
        CrlFault::ServerError => Err(internal()),
        CrlFault::Garbage => Err(garbage()),
        CrlFault::Outdated | CrlFault::ForeignSigner | CrlFault::RevokesIssuer => {
            Ok(Some(active.fault))
        }
        CrlFault::Stall => {
            active.stall().await;
            Ok(None)
        }
    }
}

fn throttled(seconds: u32) -> Response {
    answer::retry_after(error(StatusCode::TOO_MANY_REQUESTS, "too many requests"), seconds)
}

fn garbage() -> Response {
    ([(CONTENT_TYPE, "text/html")], "<html>back soon</html>").into_response()
}

fn internal() -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}

/// Carries out `make`, which signs certificates and so may take a while.
async fn give<F>(kds: Arc<Kds>, make: F) -> Response
where
    F: FnOnce(&Kds) -> Result<Content, Refusal> + Send + 'static,
{
    match tokio::task::spawn_blocking(move || make(&kds)).await {
        Ok(Ok((content_type, bytes))) => ([(CONTENT_TYPE, content_type)], bytes).into_response(),
        Ok(Err(Refusal::Parameter)) => error(StatusCode::BAD_REQUEST, "invalid parameter"),
        Ok(Err(Refusal::Unknown)) => error(StatusCode::NOT_FOUND, "not found"),
        Ok(Err(Refusal::Internal)) | Err(_) => internal(),
    }
}

fn error(status: StatusCode, message: &str) -> Response {
    answer::json(status, &json!({"error": message}))
}
