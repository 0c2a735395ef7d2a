//! What the proxy sends of its metrics, and what `log-sealer` lets out in the clear, are two lists in two roles that do not
//! know each other: here they are held together.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

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
