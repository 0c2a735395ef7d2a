//! Key release policies: the grammar, and its evaluation against a token's claims.
//!
//! Must not know: signatures or keys. Source: Azure Key Vault secure key release policy grammar,
//! version 1.0.0. A policy is a list of authorities, each with a tree of conditions. What the
//! grammar does not know is refused when the policy is stored, never skipped when it is judged.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// Deepest nesting of `allOf` and `anyOf`.
const MAX_DEPTH: usize = 8;
/// Most conditions in one policy.
const MAX_CONDITIONS: usize = 128;
/// Longest policy, in bytes.
const MAX_LEN: usize = 16 * 1024;

/// A policy that is not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON, or too long.
    #[error("the release policy is no JSON text of at most {MAX_LEN} bytes")]
    Json,
    /// JSON of another form than the grammar's.
    #[error("the release policy does not follow the grammar: {0}")]
    Grammar(String),
}

/// A parsed policy.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasePolicy {
    authorities: Vec<Authority>,
}

/// One issuer of tokens with its conditions.
#[derive(Debug, Clone, PartialEq)]
struct Authority {
    issuer: String,
    condition: Group,
}

#[derive(Debug, Clone, PartialEq)]
struct Group {
    all: bool,
    members: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Group(Group),
    Claim { claim: String, operator: Operator, operand: Scalar },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    NotEquals,
    Less,
    LessOrEquals,
    Greater,
    GreaterOrEquals,
    Exists,
}

impl Operator {
    const ALL: [(&'static str, Self); 7] = [
        ("equals", Self::Equals),
        ("notEquals", Self::NotEquals),
        ("less", Self::Less),
        ("lessOrEquals", Self::LessOrEquals),
        ("greater", Self::Greater),
        ("greaterOrEquals", Self::GreaterOrEquals),
        ("exists", Self::Exists),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, operator)| *operator == self).map_or("", |(name, _)| name)
    }
}

/// A value that can be compared; objects, arrays and null cannot.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
}

impl ReleasePolicy {
    /// Parses the JSON text of a policy.
    ///
    /// # Errors
    /// [`PolicyError`] for anything that the grammar does not know.
    pub fn parse(json: &[u8]) -> Result<Self, PolicyError> {
        if json.len() > MAX_LEN {
            return Err(PolicyError::Json);
        }
        let policy: Map<String, Value> =
            serde_json::from_slice(json).map_err(|_| PolicyError::Json)?;
        only(&policy, &["version", "anyOf"])?;
        if policy.get("version").and_then(Value::as_str) != Some("1.0.0") {
            return Err(grammar("version must be 1.0.0"));
        }
        let mut parser = Parser { conditions: 0 };
        let authorities = policy
            .get("anyOf")
            .and_then(Value::as_array)
            .filter(|authorities| !authorities.is_empty())
            .ok_or_else(|| grammar("anyOf must be a list of authorities"))?
            .iter()
            .map(|authority| parser.authority(authority))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { authorities })
    }

    /// Whether tokens of this issuer are looked at, at all.
    #[must_use]
    pub fn names(&self, issuer: &str) -> bool {
        self.authorities.iter().any(|authority| authority.is(issuer))
    }

    /// Whether the claims of a verified token of `issuer` satisfy the policy.
    #[must_use]
    pub fn allows(&self, issuer: &str, claims: &Map<String, Value>) -> bool {
        self.authorities
            .iter()
            .any(|authority| authority.is(issuer) && authority.condition.holds(claims))
    }

    /// The text as Key Vault stores it: no white space, and its own order of members. Observed
    /// on the service, which does not give back the bytes that it was given.
    #[must_use]
    pub fn canonical(&self) -> String {
        let authorities: Vec<String> = self
            .authorities
            .iter()
            .map(|authority| {
                format!(
                    r#"{{"authority":{},{}}}"#,
                    Value::from(authority.issuer.as_str()),
                    authority.condition.canonical()
                )
            })
            .collect();
        format!(r#"{{"version":"1.0.0","anyOf":[{}]}}"#, authorities.join(","))
    }
}

impl Authority {
    /// A slash at the end makes no difference.
    fn is(&self, issuer: &str) -> bool {
        self.issuer.trim_end_matches('/') == issuer.trim_end_matches('/')
    }
}

struct Parser {
    conditions: usize,
}

impl Parser {
    fn authority(&mut self, value: &Value) -> Result<Authority, PolicyError> {
        let object = value.as_object().ok_or_else(|| grammar("an authority is no object"))?;
        only(object, &["authority", "allOf", "anyOf"])?;
        let issuer = object
            .get("authority")
            .and_then(Value::as_str)
            .filter(|issuer| issuer.starts_with("https://"))
            .ok_or_else(|| grammar("authority must be an https URL"))?;
        Ok(Authority { issuer: issuer.to_owned(), condition: self.group(object, 1)? })
    }

    fn group(&mut self, object: &Map<String, Value>, depth: usize) -> Result<Group, PolicyError> {
        if depth > MAX_DEPTH {
            return Err(grammar("conditions are nested too deeply"));
        }
        let (all, members) = match (object.get("allOf"), object.get("anyOf")) {
            (Some(members), None) => (true, members),
            (None, Some(members)) => (false, members),
            _ => return Err(grammar("exactly one of allOf and anyOf is needed")),
        };
        let members = members
            .as_array()
            .filter(|members| !members.is_empty())
            .ok_or_else(|| grammar("allOf and anyOf must be lists that are not empty"))?
            .iter()
            .map(|member| self.condition(member, depth))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Group { all, members })
    }

    fn condition(&mut self, value: &Value, depth: usize) -> Result<Condition, PolicyError> {
        let object = value.as_object().ok_or_else(|| grammar("a condition is no object"))?;
        let Some(claim) = object.get("claim") else {
            only(object, &["allOf", "anyOf"])?;
            return Ok(Condition::Group(self.group(object, depth + 1)?));
        };
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(grammar("too many conditions"));
        }
        let claim = claim.as_str().filter(|claim| !claim.is_empty());
        let claim = claim.ok_or_else(|| grammar("claim must be a name"))?.to_owned();
        let mut rest = object.iter().filter(|(name, _)| name.as_str() != "claim");
        let (Some((name, operand)), None) = (rest.next(), rest.next()) else {
            return Err(grammar("a claim needs exactly one operator"));
        };
        let operator = Operator::ALL.iter().find(|(known, _)| known == name);
        let (_, operator) =
            operator.ok_or_else(|| PolicyError::Grammar(format!("unknown operator {name:?}")))?;
        let operand =
            Scalar::of(operand).ok_or_else(|| grammar("an operand must be a plain value"))?;
        if *operator == Operator::Exists && operand.as_bool().is_none() {
            return Err(grammar("exists takes true or false"));
        }
        Ok(Condition::Claim { claim, operator: *operator, operand })
    }
}

impl Group {
    fn holds(&self, claims: &Map<String, Value>) -> bool {
        if self.all {
            self.members.iter().all(|member| member.holds(claims))
        } else {
            self.members.iter().any(|member| member.holds(claims))
        }
    }

    fn canonical(&self) -> String {
        let members: Vec<String> = self.members.iter().map(Condition::canonical).collect();
        let name = if self.all { "allOf" } else { "anyOf" };
        format!(r#""{name}":[{}]"#, members.join(","))
    }
}

impl Condition {
    fn holds(&self, claims: &Map<String, Value>) -> bool {
        let (claim, operator, operand) = match self {
            Self::Group(group) => return group.holds(claims),
            Self::Claim { claim, operator, operand } => (claim, operator, operand),
        };
        let value = lookup(claims, claim);
        if *operator == Operator::Exists {
            return operand.as_bool() == Some(value.is_some());
        }
        let Some(value) = value else { return false };
        let ordering = || value.numeric_cmp(operand);
        match operator {
            Operator::Equals => value.equals(operand),
            Operator::NotEquals => !value.equals(operand),
            Operator::Less => ordering() == Some(Ordering::Less),
            Operator::LessOrEquals => ordering().is_some_and(Ordering::is_le),
            Operator::Greater => ordering() == Some(Ordering::Greater),
            Operator::GreaterOrEquals => ordering().is_some_and(Ordering::is_ge),
            Operator::Exists => false,
        }
    }

    fn canonical(&self) -> String {
        match self {
            Self::Group(group) => format!("{{{}}}", group.canonical()),
            Self::Claim { claim, operator, operand } => format!(
                r#"{{"claim":{},"{}":{}}}"#,
                Value::from(claim.as_str()),
                operator.name(),
                operand.to_json()
            ),
        }
    }
}

/// Dots step into objects. Only plain values can be reached.
fn lookup(claims: &Map<String, Value>, claim: &str) -> Option<Scalar> {
    let mut steps = claim.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step)).and_then(Scalar::of)
}

impl Scalar {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => Some(Self::Number(number.clone())),
            Value::Bool(flag) => Some(Self::Bool(*flag)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Bool(flag) => Value::Bool(*flag),
        }
    }

    /// Policies write `"false"` and `"0"` where claims hold `false` and `0`: text is compared
    /// with the kind of the other side.
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(own), Self::Text(other)) => own == other,
            (Self::Bool(_), _) | (_, Self::Bool(_)) => {
                self.as_bool().is_some() && self.as_bool() == other.as_bool()
            }
            _ => self.numeric_cmp(other) == Some(Ordering::Equal),
        }
    }

    fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            Self::Text(text) => text.parse().ok(),
            Self::Number(_) => None,
        }
    }

    fn numeric_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.as_integer(), other.as_integer()) {
            (Some(own), Some(other)) => Some(own.cmp(&other)),
            _ => self.as_float()?.partial_cmp(&other.as_float()?),
        }
    }

    fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Number(number) => {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
            }
            Self::Text(text) => text.parse().ok(),
            Self::Bool(_) => None,
        }
    }

    fn as_float(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            Self::Text(text) => text.parse().ok(),
            Self::Bool(_) => None,
        }
    }
}

fn only(object: &Map<String, Value>, members: &[&str]) -> Result<(), PolicyError> {
    match object.keys().find(|name| !members.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(PolicyError::Grammar(format!("unknown member {name:?}"))),
    }
}

fn grammar(message: &str) -> PolicyError {
    PolicyError::Grammar(message.to_owned())
}

#[cfg(test)]
mod tests;
