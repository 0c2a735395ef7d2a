//! What the proxy sends of its metrics, and what `log-sealer` lets out in the clear, are two lists in two roles that do not
//! know each other: here they are held together.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

/// The proxy's instruments: name in the text, name, unit, kind.
const SENT: &str = include_str!("../../proxy/src/metrics/otlp.rs");

/// The sealer's: name, unit, attributes.
const ALLOWED: &str = include_str!("../../log-sealer/src/metrics/allowed.rs");

/// Names and units of a list, which are `skip` words behind each `instrument(`.
fn instruments(source: &str, skip: usize) -> Vec<(&str, &str)> {
    let (_, list) = source.split_once("INSTRUMENTS: [Instrument; ").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    list.split("instrument(")
        .skip(1)
        .map(|entry| {
            let mut words = entry.split('"').skip(1).step_by(2).skip(skip);
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect()
}

#[test]
fn what_the_proxy_counts_of_all_may_leave_and_what_it_counts_of_keys_may_not() {
    let allowed = instruments(ALLOWED, 0);
    let sent = instruments(SENT, 1);
    let (of_keys, of_all): (Vec<_>, Vec<_>) =
        sent.into_iter().partition(|(name, _)| name.starts_with("proxy.key."));
    assert_eq!(of_keys.len(), 3);
    assert_eq!(of_all, allowed);
}

/// Where the proxy says which values an attribute has: a source, and what stands before and after the place in it.
struct Values {
    /// The sealer's list of them.
    list: &'static str,
    source: &'static str,
    from: &'static str,
    to: &'static str,
}

const METRICS: &str = include_str!("../../proxy/src/metrics/mod.rs");

const VALUES: [Values; 6] = [
    Values { list: "ROUTE", source: METRICS, from: "impl Route {", to: "\n}\n" },
    Values {
        list: "OPERATION",
        source: include_str!("../../proxy/src/endpoint.rs"),
        from: "fn label(self)",
        to: "\n    }\n",
    },
    Values {
        list: "LIMIT",
        source: include_str!("../../proxy/src/limits/exceeded.rs"),
        from: "fn label(self)",
        to: "\n    }\n",
    },
    Values { list: "ERROR", source: METRICS, from: "let error_type = ", to: "};\n" },
    Values {
        list: "TOKEN",
        source: METRICS,
        from: "for (gen_ai_token_type, amount) in",
        to: "\n        {\n",
    },
    Values { list: "STATUS", source: METRICS, from: "fn class(", to: "\n}\n" },
];

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).unwrap().0
}

/// The texts in quotes.
fn texts(code: &str) -> BTreeSet<&str> {
    code.split('"').skip(1).step_by(2).collect()
}

/// The values that the sealer lets out for an attribute.
fn listed(list: &str) -> BTreeSet<&'static str> {
    let listed = between(ALLOWED, &format!("const {list}: Attribute"), ";\n");
    texts(between(listed, "values: &[", "]"))
}

/// A value that is not on its list is forwarded as `other`: nothing would leak, and nobody would see what it was.
#[test]
fn every_value_that_the_proxy_sends_is_on_the_list_of_what_may_leave() {
    for Values { list, source, from, to } in VALUES {
        let mut sent = texts(between(source, from, to));
        // the name that stands for all others, here and there
        sent.remove("other");
        assert!(sent.len() >= 3, "{list}: {sent:?}");
        assert_eq!(sent, listed(list), "{list}");
    }
}

#[test]
fn so_is_every_model_whose_price_is_built_in() {
    let prices = include_str!("../../proxy/src/prices.rs");
    let prices = between(prices, "const BUILT_IN: &str = r#\"", "\"#;");
    let prices: serde_json::Value = serde_json::from_str(prices).unwrap();
    let models = prices["prices"][0]["models"].as_object().unwrap();
    let sent: BTreeSet<&str> = models.keys().map(String::as_str).collect();
    assert_eq!(sent, listed("MODEL"));
}
