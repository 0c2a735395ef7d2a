//! `/_sim/faults`: the schedules of one process, over HTTP.
//!
//! Must not know: which simulators there are; they register their switches by name. The body is
//! `{"<simulator>": [{"fault": {"kind": "…"}, "times": 2}, …], …}`: `PUT` replaces the schedules
//! that it names, `GET` shows all, `DELETE` clears all.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};

use super::{Scheduled, Switch};
use crate::http::body;

const MAX_BODY: usize = 64 * 1024;

/// The named switches of one process.
#[derive(Clone, Default)]
pub(crate) struct Control {
    switches: BTreeMap<&'static str, Arc<dyn Schedules>>,
}

impl Control {
    pub(crate) fn with<F>(mut self, name: &'static str, switch: &Switch<F>) -> Self
    where
        F: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.switches.insert(name, Arc::new(switch.clone()));
        self
    }

    /// The routes `/_sim/faults` and `/_sim/health`.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/_sim/health", get(|| async { Json(json!({"status": "healthy"})) }))
            .route("/_sim/faults", get(show).put(replace).delete(clear))
            .with_state(self)
    }
}

/// A switch whose kind of fault is not known here.
trait Schedules: Send + Sync {
    fn read(&self, schedule: &Value) -> Result<Apply<'_>, String>;
    fn show(&self) -> Value;
    fn clear(&self);
}

type Apply<'a> = Box<dyn FnOnce() + Send + 'a>;

impl<F> Schedules for Switch<F>
where
    F: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn read(&self, given: &Value) -> Result<Apply<'_>, String> {
        let schedule =
            Vec::<Scheduled<F>>::deserialize(given).map_err(|error| error.to_string())?;
        let understood = serde_json::to_value(&schedule).map_err(|error| error.to_string())?;
        if has_more(given, &understood) {
            return Err("a member is unknown".to_owned());
        }
        Ok(Box::new(move || self.replace(schedule)))
    }

    fn show(&self) -> Value {
        serde_json::to_value(self.scheduled()).unwrap_or(Value::Null)
    }

    fn clear(&self) {
        Switch::clear(self);
    }
}

/// Whether `given` has members that `understood` lacks. A variant without fields lets any member
/// pass, `deny_unknown_fields` or not, and a misspelt parameter would go unnoticed.
fn has_more(given: &Value, understood: &Value) -> bool {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => given.iter().any(|(name, value)| {
            understood.get(name).is_none_or(|understood| has_more(value, understood))
        }),
        (Value::Array(given), Value::Array(understood)) => {
            given.iter().zip(understood).any(|(given, understood)| has_more(given, understood))
        }
        _ => false,
    }
}

async fn show(State(control): State<Control>) -> Json<BTreeMap<&'static str, Value>> {
    Json(control.switches.iter().map(|(name, switch)| (*name, switch.show())).collect())
}

async fn clear(State(control): State<Control>) -> StatusCode {
    for switch in control.switches.values() {
        switch.clear();
    }
    StatusCode::NO_CONTENT
}

/// All or nothing: a body with one bad schedule changes none.
async fn replace(State(control): State<Control>, request: Request) -> Response {
    let refuse = |message: String| {
        (StatusCode::BAD_REQUEST, Json(json!({"error": message}))).into_response()
    };
    let bytes = match body::read(request.into_body(), MAX_BODY).await {
        Ok(bytes) => bytes,
        Err(error) => return refuse(error.to_string()),
    };
    let schedules: BTreeMap<String, Value> = match serde_json::from_slice(&bytes) {
        Ok(schedules) => schedules,
        Err(error) => return refuse(error.to_string()),
    };
    let mut changes = Vec::new();
    for (name, schedule) in schedules {
        let Some(switch) = control.switches.get(name.as_str()) else {
            return refuse(format!("no simulator {name:?} here"));
        };
        match switch.read(&schedule) {
            Ok(change) => changes.push(change),
            Err(error) => return refuse(format!("{name}: {error}")),
        }
    }
    for change in changes {
        change();
    }
    StatusCode::NO_CONTENT.into_response()
}
