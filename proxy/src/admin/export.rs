//! Usage to take along: as CSV for spreadsheets and as JSON for programs, all rows of all tables.

use std::fmt::Write as _;

use http::Response;
use serde_json::{Value, json};

use super::asking::Asking;
use super::audit::Action;
use super::error::AdminError;
use super::session::Open;
use super::usage_page::{Asked, name_of, names};
use super::{Admin, aside, respond, view};
use crate::body::Body;
use crate::keys::Keys;
use crate::ledger::Totals;

const HEADER: &str = "group,id,name,requests,prompt_tokens,completion_tokens,cached_tokens,total_tokens,audio_bytes,\
                      audio_seconds,cost_eur,estimated_requests\r\n";

/// As CSV (RFC 4180).
pub(super) async fn csv(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
) -> Result<Response<Body>, AdminError> {
    let asked = Asked::of(admin, asking).await?;
    let name = format!("usage-{}.csv", asked.name());
    let keys = admin.parts.keys.clone();
    let text = aside(move || table(&keys, &asked)).await;
    admin.record(Action::UsageExported, session, "", "csv");
    Ok(respond::download(text, "text/csv; charset=utf-8", &name))
}

fn table(keys: &Keys, asked: &Asked) -> String {
    let names = names(keys);
    let mut text = HEADER.to_owned();
    let summary = &asked.summary;
    line(&mut text, ["all", "", ""], &summary.all);
    for (id, totals) in &summary.by_key {
        line(&mut text, ["key", id, &name_of(&names, id)], totals);
    }
    for (model, totals) in &summary.by_model {
        line(&mut text, ["model", model, model], totals);
    }
    for (endpoint, totals) in &summary.by_endpoint {
        line(&mut text, ["endpoint", endpoint.label(), endpoint.label()], totals);
    }
    for (day, totals) in &summary.by_day {
        let day = view::day(*day);
        line(&mut text, ["day", &day, &day], totals);
    }
    text
}

/// As JSON.
pub(super) async fn json(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
) -> Result<Response<Body>, AdminError> {
    let asked = Asked::of(admin, asking).await?;
    let name = format!("usage-{}.json", asked.name());
    let text = document(admin, asked).await;
    admin.record(Action::UsageExported, session, "", "json");
    Ok(respond::download(text, "application/json", &name))
}

/// The sums as JSON, written.
pub(super) async fn document(admin: &Admin, asked: Asked) -> String {
    let keys = admin.parts.keys.clone();
    aside(move || object(&keys, &asked).to_string()).await
}

fn object(keys: &Keys, asked: &Asked) -> Value {
    let names = names(keys);
    let summary = &asked.summary;
    let of = |name: &str, value: Value, totals: &Totals| {
        let mut sums = sums(totals);
        if let Some(object) = sums.as_object_mut() {
            object.insert(name.to_owned(), value);
        }
        sums
    };
    let keys = summary.by_key.iter().map(|(id, totals)| {
        let mut one = of("key_id", json!(id), totals);
        if let Some(object) = one.as_object_mut() {
            object.insert("description".to_owned(), json!(name_of(&names, id)));
        }
        one
    });
    let models = summary.by_model.iter().map(|(model, one)| of("model", json!(model), one));
    let endpoints = summary.by_endpoint.iter();
    let endpoints = endpoints.map(|(label, one)| of("endpoint", json!(label.label()), one));
    let days = summary.by_day.iter().map(|(day, one)| of("day", json!(view::day(*day)), one));
    json!({
        "period": asked.name(),
        "key_id": asked.key,
        "all": sums(&summary.all),
        "by_key": keys.collect::<Vec<_>>(),
        "by_model": models.collect::<Vec<_>>(),
        "by_endpoint": endpoints.collect::<Vec<_>>(),
        "by_day": days.collect::<Vec<_>>(),
    })
}

fn sums(totals: &Totals) -> Value {
    json!({
        "requests": totals.requests,
        "prompt_tokens": totals.prompt,
        "completion_tokens": totals.completion,
        "cached_tokens": totals.cached,
        "total_tokens": totals.total,
        "audio_bytes": totals.audio_bytes,
        "audio_milliseconds": totals.audio_milliseconds,
        "cost_eur": totals.cost.euros(),
        "estimated_requests": totals.estimated,
    })
}

fn line(text: &mut String, names: [&str; 3], totals: &Totals) {
    let names = names.map(quoted).join(",");
    let seconds = totals.audio_milliseconds / 1000;
    let Totals {
        requests, prompt, completion, cached, total, audio_bytes, cost, estimated, ..
    } = totals;
    let euros = cost.euros();
    write!(
        text,
        "{names},{requests},{prompt},{completion},{cached},{total},{audio_bytes},{seconds},{euros},{estimated}\r\n"
    )
    .expect("writing to a String cannot fail");
}

/// A text as a field. What a spreadsheet would take for a formula gets a quote before it: names of models are an
/// upstream's.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) || formula {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_field_and_no_formula() {
        assert_eq!(quoted("gpt-oss-120b"), "gpt-oss-120b");
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
    }

    #[test]
    fn a_line_has_as_many_fields_as_the_header() {
        let mut text = String::new();
        line(&mut text, ["all", "", ""], &Totals::default());
        assert_eq!(text.matches(',').count(), HEADER.matches(',').count());
        assert!(text.ends_with("\r\n"));
    }
}
