//! What may leave in the clear: instruments, the keys of their attributes, and the values of those, all from
//! closed lists. They are those that the proxy sends, which `stack/tests/metrics.rs` holds; what counts single keys is not
//! here.

/// What takes the place of a value that is not on its list.
pub(super) const OTHER: &str = "other";

/// An instrument.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Instrument {
    /// As it is forwarded.
    pub(super) name: &'static str,
    /// In UCUM, as OpenTelemetry has it.
    pub(super) unit: &'static str,
    attributes: &'static [Attribute],
}

/// An attribute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) key: &'static str,
    values: &'static [&'static str],
}

const STATUS: Attribute = Attribute { key: "status", values: &["1xx", "2xx", "3xx", "4xx", "5xx"] };

const OPERATION: Attribute = Attribute {
    key: "gen_ai.operation.name",
    values: &[
        "chat",
        "completions",
        "embeddings",
        "transcriptions",
        "translations",
        "responses",
        "messages",
    ],
};

/// The models that the proxy knows prices of without being told.
const MODEL: Attribute = Attribute {
    key: "gen_ai.response.model",
    values: &[
        "gpt-oss-120b",
        "llama-3.3-70b",
        "gemma-3-27b",
        "qwen3-coder-30b-a3b",
        "multilingual-e5",
        "qwen3-embedding-4b",
        "whisper-large-v3",
    ],
};

const ROUTE: Attribute = Attribute {
    key: "http.route",
    values: &["/health", "/attestation", "/auth/key-info", "/admin", "upstream", "none"],
};

const TOKEN: Attribute =
    Attribute { key: "gen_ai.token.type", values: &["input", "cached_input", "output"] };

const LIMIT: Attribute =
    Attribute { key: "limit", values: &["address", "key", "global", "tokens", "budget"] };

const ERROR: Attribute = Attribute {
    key: "error.type",
    values: &["unreachable", "timeout", "limited", "refused", "server_error"],
};

/// All of them, by the names and units that the proxy sends them with.
static INSTRUMENTS: [Instrument; 10] = [
    instrument("http.server.request.duration", "s", &[ROUTE, STATUS]),
    instrument("gen_ai.server.request.duration", "s", &[OPERATION, STATUS]),
    instrument("gen_ai.server.time_to_first_token", "s", &[OPERATION, STATUS]),
    instrument("gen_ai.client.token.usage", "{token}", &[OPERATION, MODEL, TOKEN]),
    instrument("proxy.cost", "EUR", &[OPERATION, MODEL]),
    instrument("proxy.limits.exceeded", "{request}", &[LIMIT]),
    instrument("proxy.upstream.errors", "{call}", &[ERROR]),
    instrument("proxy.metrics.unsent", "{export}", &[]),
    instrument("proxy.connections", "{connection}", &[]),
    instrument("proxy.answers.in_flight", "{answer}", &[]),
];

const fn instrument(
    name: &'static str,
    unit: &'static str,
    attributes: &'static [Attribute],
) -> Instrument {
    Instrument { name, unit, attributes }
}

static SERVICES: [&str; 4] = ["attest-sidecar", "log-sealer", "proxy", "skr-sidecar"];

/// The instrument of this name, or of the one that Prometheus has for it: dots are `_` there, and the unit and `_total` may
/// stand at the end.
pub(super) fn instrument_of(name: &str) -> Option<&'static Instrument> {
    let bare = name.strip_suffix("_total").unwrap_or(name);
    INSTRUMENTS.iter().find(|listed| {
        let unit = match listed.unit {
            "s" => "_seconds",
            "EUR" => "_euros",
            _ => "",
        };
        same(listed.name, bare.strip_suffix(unit).unwrap_or(bare))
    })
}

/// The name of a source: of a role, or `other`.
pub(super) fn service(name: &str) -> &'static str {
    SERVICES.iter().find(|service| **service == name).copied().unwrap_or(OTHER)
}

impl Instrument {
    /// The attribute of this name.
    pub(super) fn attribute(&self, key: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|listed| same(listed.key, key))
    }
}

impl Attribute {
    /// The value of this name, or `other`.
    pub(super) fn value(&self, value: &str) -> &'static str {
        self.values.iter().find(|listed| **listed == value).copied().unwrap_or(OTHER)
    }
}

fn same(listed: &str, name: &str) -> bool {
    let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
    listed.bytes().map(plain).eq(name.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_known() {
        let tokens = instrument_of("gen_ai.client.token.usage").unwrap();
        assert_eq!(instrument_of("gen_ai_client_token_usage_total"), Some(tokens));
        for (sent, scraped) in [
            ("http.server.request.duration", "http_server_request_duration_seconds"),
            ("proxy.cost", "proxy_cost_euros_total"),
        ] {
            assert_eq!(instrument_of(sent).unwrap().name, sent);
            assert_eq!(instrument_of(scraped), instrument_of(sent));
        }
        let model = tokens.attribute("gen_ai_response_model").unwrap();
        assert_eq!(model.key, "gen_ai.response.model");
        assert_eq!(model.value("gpt-oss-120b"), "gpt-oss-120b");
        assert_eq!(model.value("my patient's name"), OTHER);
        assert!(tokens.attribute("key_id").is_none());
        for name in ["", "proxy_key_tokens", "proxy_connections_", "PROXY_CONNECTIONS"] {
            assert!(instrument_of(name).is_none(), "{name}");
        }
        assert_eq!([service("proxy"), service("app")], ["proxy", OTHER]);
    }
}
