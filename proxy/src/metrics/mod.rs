//! What is counted for the operator: requests, times, tokens, money, limits, failures. Sums only: no content, no credential,
//! nobody's address. Aggregated in memory, written as Prometheus text on a loopback address, and sent to `log-sealer`.
//!
//! Must not know how usage is read or limits are counted.

mod listen;
mod names;
mod otlp;
mod push;
mod watched;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use service::env::{Class, Reader, Var};
use service::listen::Local;

use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::error::Refusal;
use crate::limits::Limit;
use crate::money::Money;
use crate::neighbour::Neighbour;
use crate::usage::Call;

use names::{Failed, Http, Key, Limited, Model, Operation, Series, Shared, Tokens};

pub(crate) use listen::serve;
pub(crate) use push::Push;

const LISTEN: &str = "PROXY_METRICS_LISTEN";
const KEYS: &str = "PROXY_METRICS_KEYS";
const SECONDS: &str = "PROXY_METRICS_SECONDS";

/// Where they are shown.
pub(crate) const LISTEN_VAR: Var = Var {
    name: LISTEN,
    class: Class::Measured,
    default: Some("127.0.0.1:9464"),
    help: "Where metrics are shown as Prometheus text, at /metrics: host:port on loopback, unix:/path, or `off`.",
};

/// Whose.
pub(crate) const KEYS_VAR: Var = Var {
    name: KEYS,
    class: Class::Measured,
    default: Some("false"),
    help: "Whether metrics have requests, tokens and money of each key as well, by its id: of the first 1,000 keys that \
           are used, and of all others together.",
};

/// How often they are sent.
pub(crate) const SECONDS_VAR: Var = Var {
    name: SECONDS,
    class: Class::Measured,
    default: Some("60"),
    help: "Seconds, 1 to 3600, between two times that metrics are sent to LOG_SEALER by OTLP/gRPC, unless that is `off`.",
};

/// The longest time between two.
const LONGEST: u64 = 3600;

/// Keys that are told apart.
const MOST_KEYS: usize = 1000;

/// Models that are told apart.
const MOST_MODELS: usize = 64;

/// What stands for all that are not told apart.
const OTHER: &str = "other";

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where they are shown, if they are.
    pub(crate) listen: Option<Local>,
    pub(crate) with_keys: bool,
    /// How often they are sent.
    pub(crate) every: Duration,
}

impl Config {
    /// Reads its variables.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let listen = env.parse::<Neighbour>(LISTEN);
        let with_keys = env.flag(KEYS);
        let every = env.parse::<u64>(SECONDS);
        let within = every.filter(|seconds| (1..=LONGEST).contains(seconds));
        if every.is_some() && within.is_none() {
            env.refuse(SECONDS, &format!("must be 1 to {LONGEST}"));
        }
        let every = Duration::from_secs(within?);
        Some(Self { listen: listen?.0, with_keys: with_keys?, every })
    }
}

/// What serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Attestation,
    KeyInfo,
    Admin,
    Upstream,
    /// Nothing is there.
    Nothing,
}

impl Route {
    fn label(self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Attestation => "/attestation",
            Self::KeyInfo => "/auth/key-info",
            Self::Admin => "/admin",
            Self::Upstream => "upstream",
            Self::Nothing => "none",
        }
    }
}

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    series: Series,
    models: HashSet<Arc<str>>,
    other: Shared,
    /// The ids of keys that are told apart; `None`: keys are not counted.
    keys: Option<Mutex<HashSet<Arc<str>>>>,
}

impl Metrics {
    /// Nothing yet. `models`: names that may stand in a label.
    pub(crate) fn new<'a>(with_keys: bool, models: impl IntoIterator<Item = &'a str>) -> Self {
        let mut registry = Registry::default();
        let series = Series::register(&mut registry, with_keys);
        Self {
            registry,
            series,
            models: models.into_iter().take(MOST_MODELS).map(Arc::from).collect(),
            other: Shared(OTHER.into()),
            keys: with_keys.then(Mutex::default),
        }
    }

    /// All of it as text (OpenMetrics 1.0, which Prometheus reads).
    fn text(&self) -> String {
        let mut out = String::new();
        let written = text::encode(&mut out, &self.registry);
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        out
    }

    /// A request of any kind was answered.
    pub(crate) fn request(&self, route: Route, status: StatusCode, begin: Instant) {
        let labels = Http { http_route: route.label(), status: class(status) };
        self.series.http.get_or_create(&labels).observe(begin.elapsed().as_secs_f64());
    }

    /// A limit was in the way of a request.
    pub(crate) fn limited(&self, limit: Limit) {
        self.series.limits.get_or_create(&Limited { limit: limit.label() }).inc();
    }

    /// `log-sealer` did not take them.
    fn unsent(&self) {
        self.series.unsent.inc();
    }

    /// A client connected. It is gone when what comes back is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Open {
        self.series.connections.inc();
        Open(self.clone())
    }

    /// The upstream answered a call, or did not. The answer is watched until its last byte.
    pub(crate) fn answered(
        self: &Arc<Self>,
        endpoint: Endpoint,
        begin: Instant,
        answer: Result<Response<Body>, Refusal>,
    ) -> Result<Response<Body>, Refusal> {
        let error_type = match &answer {
            Err(Refusal::Upstream) => Some("unreachable"),
            Err(Refusal::UpstreamTimeout) => Some("timeout"),
            Err(_) => None,
            Ok(response) => match response.status() {
                StatusCode::TOO_MANY_REQUESTS => Some("limited"),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some("refused"),
                status if status.is_server_error() => Some("server_error"),
                _ => None,
            },
        };
        if let Some(error_type) = error_type {
            self.series.upstream_errors.get_or_create(&Failed { error_type }).inc();
        }
        answer.map(|response| {
            let labels = Operation {
                gen_ai_operation_name: endpoint.label(),
                status: class(response.status()),
            };
            response.map(|body| watched::body(body, self.clone(), labels, begin))
        })
    }

    /// A call is in the ledger.
    pub(crate) fn settled(&self, call: &Call, cost: Money) {
        let usage = &call.usage;
        let gen_ai_operation_name = call.endpoint.label();
        let gen_ai_response_model = self.model(call.model.as_deref());
        for (gen_ai_token_type, amount) in
            [("input", usage.prompt), ("cached_input", usage.cached), ("output", usage.completion)]
        {
            if amount > 0 {
                let gen_ai_response_model = gen_ai_response_model.clone();
                let labels =
                    Tokens { gen_ai_operation_name, gen_ai_response_model, gen_ai_token_type };
                self.series.tokens.get_or_create(&labels).inc_by(amount);
            }
        }
        let labels = Model { gen_ai_operation_name, gen_ai_response_model };
        self.series.cost.get_or_create(&labels).inc_by(cost.euros());
        if let Some(key) = self.key(&call.key.id) {
            self.series.key_requests.get_or_create(&key).inc();
            self.series.key_tokens.get_or_create(&key).inc_by(usage.total);
            self.series.key_cost.get_or_create(&key).inc_by(cost.euros());
        }
    }

    fn model(&self, name: Option<&str>) -> Shared {
        let known = name.and_then(|name| self.models.get(name));
        known.map_or_else(|| self.other.clone(), |name| Shared(name.clone()))
    }

    fn key(&self, id: &str) -> Option<Key> {
        let mut known = self.keys.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.get(id) {
            return Some(Key { key_id: Shared(id.clone()) });
        }
        if known.len() >= MOST_KEYS {
            return Some(Key { key_id: self.other.clone() });
        }
        let id: Arc<str> = id.into();
        known.insert(id.clone());
        Some(Key { key_id: Shared(id) })
    }
}

/// A connection that is open.
pub(crate) struct Open(Arc<Metrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.series.connections.dec();
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ApiKey;
    use crate::usage::Usage;

    pub(super) fn call(key: &str, model: Option<&str>) -> Call {
        let key = ApiKey { id: key.to_owned(), ..ApiKey::default() };
        Call {
            at: 0,
            key: Arc::new(key),
            model: model.map(str::to_owned),
            endpoint: Endpoint::Chat,
            usage: Usage { prompt: 10, completion: 20, cached: 4, total: 30, ..Usage::default() },
        }
    }

    #[test]
    fn what_calls_used_and_cost() {
        let metrics = Metrics::new(false, ["gpt-oss-120b"]);
        metrics.settled(&call("k", Some("gpt-oss-120b")), Money::from_nanos(150_000));
        metrics.settled(&call("k", Some("gpt-oss-120b")), Money::from_nanos(150_000));
        metrics.limited(Limit::Tokens);
        let text = metrics.text();
        for line in [
            r#"gen_ai_client_token_usage_total{gen_ai_operation_name="chat",gen_ai_response_model="gpt-oss-120b",gen_ai_token_type="output"} 40"#,
            r#"gen_ai_token_type="cached_input"} 8"#,
            r#"proxy_cost_euros_total{gen_ai_operation_name="chat",gen_ai_response_model="gpt-oss-120b"} 0.0003"#,
            r#"proxy_limits_exceeded_total{limit="tokens"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("key_id"));
        assert!(text.ends_with("# EOF\n"));
    }

    /// What a client may choose freely makes no series, and is read in none.
    #[test]
    fn a_model_that_has_no_price_is_another() {
        let metrics = Metrics::new(false, ["gpt-oss-120b"]);
        for n in 0..10_000 {
            metrics.settled(&call("k", Some(&format!("SECRET\"}} 1\n{n}"))), Money::ZERO);
        }
        metrics.settled(&call("k", None), Money::ZERO);
        let text = metrics.text();
        assert!(!text.contains("SECRET"));
        assert!(
            text.contains(r#"gen_ai_response_model="other",gen_ai_token_type="input"} 100010"#)
        );
        assert!(text.lines().count() < 50);
    }

    #[test]
    fn keys_are_told_apart_up_to_a_bound() {
        let metrics = Metrics::new(true, []);
        for n in 0..MOST_KEYS + 500 {
            metrics.settled(&call(&format!("key_{n}"), None), Money::ZERO);
        }
        let text = metrics.text();
        let requests = text.lines().filter(|line| line.starts_with("proxy_key_requests_total{"));
        assert_eq!(requests.count(), MOST_KEYS + 1);
        assert!(text.contains(r#"proxy_key_requests_total{key_id="other"} 500"#));
    }
}
