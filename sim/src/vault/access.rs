//! Who may do what in a vault.
//!
//! Must not know: keys. Callers show access tokens of the identity provider; permissions are
//! given to object ids, one by one.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};

use super::Service;
use super::error::Refusal;
use crate::identity::{AccessTokenError, IdentityProvider};

/// A permission on keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Read public keys and attributes.
    Get,
    /// Make keys.
    Create,
    /// Bring keys.
    Import,
    /// Change attributes and policies.
    Update,
    /// Have keys released.
    Release,
}

impl Permission {
    const fn operation(self) -> &'static str {
        match self {
            Self::Get => "read",
            Self::Create => "create",
            Self::Import => "import",
            Self::Update => "update",
            Self::Release => "release",
        }
    }
}

/// Permissions by object id.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    pub(super) granted: BTreeMap<String, BTreeSet<Permission>>,
}

impl Access {
    /// Refuses callers without a good token, then callers without the permission.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        needed: Permission,
        provider: &IdentityProvider,
        service: Service,
        now: u64,
    ) -> Result<(), Refusal> {
        let token = bearer(headers).ok_or_else(|| {
            let message = "AKV10000: Request is missing a Bearer or PoP token.";
            Refusal::Unauthorized(message.to_owned())
        })?;
        let caller = provider
            .verify(token, service.resource(), now)
            .map_err(|error| Refusal::Unauthorized(unauthorized(&error, service)))?;
        let granted = self.granted.get(&caller);
        if granted.is_some_and(|granted| granted.contains(&needed)) {
            Ok(())
        } else {
            Err(Refusal::Permission { operation: needed.operation() })
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn unauthorized(error: &AccessTokenError, service: Service) -> String {
    match error {
        AccessTokenError::Audience { actual } => {
            format!("AKV10022: Invalid audience. Expected {}, found: {actual}.", service.resource())
        }
        _ => format!("Error validating token: {error}."),
    }
}
