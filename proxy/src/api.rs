//! A request to the model, from top to bottom: whose it is, whether it may go on, the upstream's answer, what it used.
//!
//! Must not know how keys are kept, limits are counted, or answers are read.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, Request, Response};
use service::clock::unix_now;

use crate::asked::Asked;
use crate::body::Body;
use crate::clients::Clients;
use crate::connection::Connection;
use crate::ending::Ending;
use crate::endpoint::Endpoint;
use crate::error::Refusal;
use crate::forward::Upstream;
use crate::key_info;
use crate::keys::{ApiKey, Keys};
use crate::ledger::Ledger;
use crate::limits::{Admitted, Demand, Exceeded, Limits, Month, Spending};
use crate::metrics::Metrics;
use crate::money::Money;
use crate::openai::{self, Begun, Most};
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::upload::Upload;
use crate::usage::{Call, Usage};

/// Everything that requests to the model need.
pub(crate) struct Api {
    pub(crate) keys: Arc<Keys>,
    pub(crate) upstream: Upstream,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    /// `None`: no attested client is acceptable.
    pub(crate) clients: Option<Clients>,
}

impl Api {
    /// Takes newer secrets. A request that has begun goes on with those before.
    pub(crate) fn renew(&self, secrets: &Secrets) {
        self.keys.renew(secrets.api_keys());
        self.upstream.renew(secrets.upstream_key());
    }

    /// Returns when what was changed in the files of keys and settings up to now is in force.
    pub(crate) async fn refresh(&self) {
        tokio::join!(self.keys.refresh(), self.settings.refresh());
    }

    /// Answers one request.
    pub(crate) async fn call(
        &self,
        connection: &Connection,
        request: Request<Upload>,
    ) -> Result<Response<Body>, Refusal> {
        let begin = Instant::now();
        let key = self.keys.authenticate(request.headers(), unix_now())?;
        admit_client(connection, &key)?;
        let endpoint = openai::endpoint(request.uri());
        let demand = Demand::of(endpoint, request.method(), request.headers());
        let asked = Asked::of(&request).cloned();
        let admitted = self.admit(&key, demand, asked.as_ref())?;
        let (admitted, begun) = self.begin(&key, request, admitted, demand).await?;
        let standing = *admitted.standing();
        let request_id = asked.as_ref().map_or("", |asked| asked.id.as_str());

        let response = match begun {
            Ok(begun) => {
                self.exchange(&key, begun, Ending::new(admitted, self.metrics.clone())).await
            }
            Err(refusal) => Err(refusal),
        };
        let response = self.metrics.answered(endpoint, begin, response);
        // What was counted is said of refusals and failures as well.
        let mut response = response.unwrap_or_else(|refusal| refusal.response());
        standing.write(response.headers_mut());
        let status = response.status().as_u16();
        tracing::info!(key_id = key.id, request_id, status, "a request was forwarded");
        Ok(response)
    }

    /// Tells the holder of a key about it. Counts like any request, and can be asked when nothing else can be paid.
    pub(crate) async fn key_info(
        &self,
        connection: &Connection,
        request: &Request<Upload>,
    ) -> Result<Response<Body>, Refusal> {
        let now = unix_now();
        let key = self.keys.authenticate(request.headers(), now)?;
        admit_client(connection, &key)?;
        let admitted = self.admit(&key, Demand::NOTHING, Asked::of(request))?;
        let mut response = key_info::response(&key, self, now).await;
        admitted.standing().write(response.headers_mut());
        Ok(response)
    }

    /// Counts a request of this key, if no limit is in its way.
    fn admit(
        &self,
        key: &ApiKey,
        demand: Demand,
        asked: Option<&Asked>,
    ) -> Result<Admitted, Refusal> {
        let numbers = asked.map_or_else(|| self.settings.current(), |asked| asked.numbers);
        let demand = self.priced(key, demand);
        Ok(self.limits.admit(key, &numbers, demand, self.spending(key))?)
    }

    /// Reads the beginning of a request, and sets aside what it asks for, if there is room for that.
    async fn begin(
        &self,
        key: &Arc<ApiKey>,
        request: Request<Upload>,
        admitted: Admitted,
        demand: Demand,
    ) -> Result<(Admitted, Result<Begun, Refusal>), Exceeded> {
        let begun = openai::begin(&self.upstream, key, request).await;
        let Ok(read) = &begun else { return Ok((admitted, begun)) };
        let Most { tokens, answers } = read.most();
        let length = read.size().unwrap_or(self.upstream.passing().max_body as u64);
        let demand = demand.measured(length).answering(tokens, answers);
        let demand = self.priced(key, demand);
        let admitted = admitted.set_aside(key, demand, self.spending(key))?;
        Ok((admitted, begun))
    }

    /// With the money of the dearest model, for a key that has a budget.
    fn priced(&self, key: &ApiKey, demand: Demand) -> Demand {
        match key.monthly_budget {
            Some(_) if demand.is_paid => demand.priced(self.ledger.dearest(&demand.usage())),
            Some(_) | None => demand,
        }
    }

    fn spending(&self, key: &ApiKey) -> Spending<impl FnOnce() -> Money> {
        let now = unix_now();
        Spending { month: Month::of(now), spent: move || self.ledger.spent_in_month(&key.id, now) }
    }

    /// The upstream's part of it.
    async fn exchange(
        &self,
        key: &Arc<ApiKey>,
        begun: Begun,
        ending: Ending,
    ) -> Result<Response<Body>, Refusal> {
        let at_end: AtEnd = Box::new(move |call, cost| ending.settled(call, cost));
        let settlement = Settlement::new(self.ledger.clone(), key.clone(), begun.head(), at_end);
        openai::exchange(&self.upstream, settlement, begun).await
    }
}

/// What else is done with a call that is in the ledger, and with its cost. A call that used nothing drops it without
/// calling it; either comes once, when the last byte of the answer has gone.
pub(crate) type AtEnd = Box<dyn FnOnce(&Call, Money) + Send>;

/// The end of a call, which comes once.
pub(crate) struct Settlement {
    ledger: Arc<Ledger>,
    key: Arc<ApiKey>,
    endpoint: Endpoint,
    /// Whether the call can use anything: what only looks does not (case 85).
    counts: bool,
    at_end: AtEnd,
}

impl Settlement {
    /// For a request of this key.
    pub(crate) fn new(ledger: Arc<Ledger>, key: Arc<ApiKey>, head: &Parts, at_end: AtEnd) -> Self {
        let endpoint = openai::endpoint(&head.uri);
        let counts = !matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        Self { ledger, key, endpoint, counts, at_end }
    }

    /// What was called.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Enters the call into the ledger.
    pub(crate) fn settle(self, model: Option<String>, usage: Usage) {
        if !self.counts {
            return;
        }
        let call = Call { at: unix_now(), key: self.key, model, endpoint: self.endpoint, usage };
        let cost = self.ledger.settle(&call);
        (self.at_end)(&call, cost);
    }
}

/// A key for attested clients is good only on a connection whose client has proved itself.
fn admit_client(connection: &Connection, key: &ApiKey) -> Result<(), Refusal> {
    if !key.attested_client {
        return Ok(());
    }
    let key_id = attestation::crypto::sha256(key.id.as_bytes());
    let proven = connection.clients.holds(&key_id, Instant::now());
    proven.then_some(()).ok_or(Refusal::ClientNotAttested)
}
