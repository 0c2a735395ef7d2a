//! Every metric that there is, its name and its labels. Each label has its values from a closed list, or from a bounded one
//! of the operator's: nothing that a client sends can make a series, or be read in one.
//!
//! Names are OpenTelemetry's where its semantic conventions have one (HTTP and generative AI, 1.37), written as its
//! specification says for Prometheus: `http.server.request.duration` in seconds is `http_server_request_duration_seconds`.
//! Must not know when anything is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// A text that many series share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shared(pub(super) Arc<str>);

impl EncodeLabelValue for Shared {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.as_ref().encode(encoder)
    }
}

/// A request to this server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Http {
    /// What serves it: [`Route::label`](super::Route::label).
    pub(super) http_route: &'static str,
    /// `2xx` and its like.
    pub(super) status: &'static str,
}

/// A call to a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Operation {
    /// The endpoint.
    pub(super) gen_ai_operation_name: &'static str,
    /// `2xx` and its like.
    pub(super) status: &'static str,
}

/// What a model used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Tokens {
    pub(super) gen_ai_operation_name: &'static str,
    /// A model of the price list, or `other`.
    pub(super) gen_ai_response_model: Shared,
    /// `input`, `cached_input` (a part of it) or `output`.
    pub(super) gen_ai_token_type: &'static str,
}

/// What it cost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Model {
    pub(super) gen_ai_operation_name: &'static str,
    /// A model of the price list, or `other`.
    pub(super) gen_ai_response_model: Shared,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Limited {
    pub(super) limit: &'static str,
}

/// A kind of error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Failed {
    pub(super) error_type: &'static str,
}

/// The holder of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Key {
    /// The id of a key, or `other` where there are more than are told apart.
    pub(super) key_id: Shared,
}

/// Seconds: from a local answer to the longest of streams.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

pub(super) type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds<L: Clone + std::hash::Hash + Eq>() -> Seconds<L> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// An amount of euros that grows.
pub(super) type Euros = Counter<f64, AtomicU64>;

/// All of them.
pub(super) struct Series {
    pub(super) http: Seconds<Http>,
    pub(super) duration: Seconds<Operation>,
    pub(super) first_token: Seconds<Operation>,
    pub(super) tokens: Family<Tokens, Counter>,
    pub(super) cost: Family<Model, Euros>,
    pub(super) limits: Family<Limited, Counter>,
    pub(super) upstream_errors: Family<Failed, Counter>,
    pub(super) unsent: Counter,
    pub(super) connections: Gauge,
    pub(super) streams: Gauge,
    pub(super) key_requests: Family<Key, Counter>,
    pub(super) key_tokens: Family<Key, Counter>,
    pub(super) key_cost: Family<Key, Euros>,
}

impl Series {
    /// Empty ones, registered under their names. `with_keys`: those of each key as well.
    pub(super) fn register(registry: &mut Registry, with_keys: bool) -> Self {
        let series = Self {
            http: seconds(),
            duration: seconds(),
            first_token: seconds(),
            tokens: Family::default(),
            cost: Family::default(),
            limits: Family::default(),
            upstream_errors: Family::default(),
            unsent: Counter::default(),
            connections: Gauge::default(),
            streams: Gauge::default(),
            key_requests: Family::default(),
            key_tokens: Family::default(),
            key_cost: Family::default(),
        };
        registry.register_with_unit(
            "http_server_request_duration",
            "From a request's head to its answer's",
            Unit::Seconds,
            series.http.clone(),
        );
        registry.register_with_unit(
            "gen_ai_server_request_duration",
            "From a call's head to the last byte of its answer",
            Unit::Seconds,
            series.duration.clone(),
        );
        registry.register_with_unit(
            "gen_ai_server_time_to_first_token",
            "From a call's head to the first bytes of its answer's body",
            Unit::Seconds,
            series.first_token.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of calls that have ended",
            series.tokens.clone(),
        );
        registry.register("proxy_cost_euros", "What calls cost", series.cost.clone());
        registry.register(
            "proxy_limits_exceeded",
            "Requests that a limit was in the way of",
            series.limits.clone(),
        );
        registry.register(
            "proxy_upstream_errors",
            "Calls that the upstream did not answer well",
            series.upstream_errors.clone(),
        );
        registry.register(
            "proxy_metrics_unsent",
            "Times that log-sealer did not take all metrics",
            series.unsent.clone(),
        );
        registry.register(
            "proxy_connections",
            "Connections of clients that are open",
            series.connections.clone(),
        );
        registry.register(
            "proxy_answers_in_flight",
            "Answers of the upstream that flow to clients",
            series.streams.clone(),
        );
        if with_keys {
            registry.register(
                "proxy_key_requests",
                "Calls of a key that have ended",
                series.key_requests.clone(),
            );
            registry.register("proxy_key_tokens", "Tokens of a key", series.key_tokens.clone());
            registry.register("proxy_key_cost_euros", "What a key spent", series.key_cost.clone());
        }
        series
    }
}
