//! What the holder of a key is told about it: the five members that today's clients read (`proxy.md` cases 30 to 33), and
//! beside them its limits, what is left of them, and what it used this month.
//!
//! Must not know who may ask: that is settled before.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde_json::{Value, json};
use service::clock::unix_now;

use crate::api::Api;
use crate::body::{Body, full};
use crate::keys::ApiKey;
use crate::ledger::{Range, Totals};
use crate::limits::{Month, Quota, whole_seconds};
use crate::money::Money;

/// The answer to `GET /auth/key-info`.
pub(crate) async fn response(key: &ApiKey, api: &Api, now: u64) -> Response<Body> {
    let month = Month::of(now);
    let (first, last) = month.days();
    let used = api.ledger.summary(Range { first, last }, Some(&key.id)).await.all;
    let mut response =
        Response::new(full(document(key, api, month, now, &used).to_string().into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn document(key: &ApiKey, api: &Api, month: Month, now: u64, used: &Totals) -> Value {
    let numbers = api.settings.current();
    let (standing, reserved) = api.limits.standing(key, &numbers);
    let requests = quota(standing.requests, numbers.window.as_secs());
    let budget = key.monthly_budget.map(|budget| {
        let spent = api.ledger.spent_in_month(&key.id, now);
        let left = (budget - spent - reserved).max(Money::ZERO);
        json!({
            "eur": budget.euros(),
            "spent_eur": spent.euros(),
            "reserved_eur": reserved.euros(),
            "remaining_eur": left.euros(),
            "reset": month.end(),
        })
    });
    json!({
        "key_id": key.id,
        "created_at": seconds(key.created_at),
        "expires_at": seconds(key.expires_at),
        "rate_limit": key.rate_limit,
        "description": key.description,
        "owner": key.owner,
        "limits": {
            "requests": requests,
            "requests_of_all_keys": key.rate_limit.is_none(),
            "tokens": standing.tokens.map(|tokens| quota(tokens, 60)),
            "monthly_budget": budget,
            "models": key.models,
            "attested_client": key.attested_client,
        },
        "usage": {
            "month": month.name(),
            "requests": used.requests,
            "prompt_tokens": used.prompt,
            "completion_tokens": used.completion,
            "cached_tokens": used.cached,
            "total_tokens": used.total,
            "audio_seconds": used.audio_milliseconds / 1000,
            "cost_eur": used.cost.euros(),
            "estimated_requests": used.estimated,
        },
    })
}

fn quota(quota: Quota, window: u64) -> Value {
    json!({
        "limit": quota.limit,
        "remaining": quota.remaining,
        "window_seconds": window,
        "reset": unix_now() + whole_seconds(quota.reset),
    })
}

/// A time as it was written: whole seconds without a fraction.
fn seconds(time: Option<f64>) -> Value {
    let Some(time) = time else { return Value::Null };
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, which an i64 holds")]
    if time.fract() == 0.0 && time.abs() < 9e15 {
        return json!(time as i64);
    }
    json!(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_they_were_written() {
        assert_eq!(seconds(None).to_string(), "null");
        assert_eq!(seconds(Some(1_700_000_000.0)).to_string(), "1700000000");
        assert_eq!(seconds(Some(1_700_000_000.25)).to_string(), "1700000000.25");
        assert_eq!(seconds(Some(1e300)).to_string(), "1e+300");
    }
}
