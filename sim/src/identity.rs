//! The identity provider: managed identities and their access tokens.
//!
//! Must not know: who asks for tokens, or what they open. Tokens are JWTs as Microsoft Entra
//! issues them to managed identities (version 1.0): RS256, `aud` the resource, `oid` the caller.

use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};

use crate::jose::{self, JoseError, Jws};
use crate::pki::{KeyError, KeyRing};
use crate::seed::Seed;

/// The resource of Key Vault.
pub const VAULT_RESOURCE: &str = "https://vault.azure.net";
/// The resource of Managed HSM.
pub const MANAGED_HSM_RESOURCE: &str = "https://managedhsm.azure.net";
/// The resource of Azure Storage.
pub const STORAGE_RESOURCE: &str = "https://storage.azure.com";

/// Seconds that a token lives.
pub const TOKEN_LIFE: u64 = 86_400;
/// Clock difference that a service tolerates.
const SKEW: u64 = 300;

/// A managed identity. All its identifiers derive from seed and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What a configuration calls it.
    pub name: String,
    /// `appid` of its tokens; what callers choose it by.
    pub client_id: String,
    /// `oid` of its tokens; what permissions are given to.
    pub object_id: String,
    /// `xms_az_rid` of its tokens: the resource that it is attached to.
    pub resource_id: String,
}

impl Identity {
    /// The identity of that name.
    #[must_use]
    pub fn derive(seed: &Seed, name: &str) -> Self {
        let subscription = seed.uuid("subscription");
        Self {
            name: name.to_owned(),
            client_id: seed.uuid(&format!("identity/client/{name}")),
            object_id: seed.uuid(&format!("identity/object/{name}")),
            resource_id: format!(
                "/subscriptions/{subscription}/resourcegroups/simulated/providers/\
                 Microsoft.ContainerInstance/containerGroups/{name}"
            ),
        }
    }
}

/// Issues and verifies access tokens.
#[derive(Debug, Clone)]
pub struct IdentityProvider {
    key: RsaPrivateKey,
    tenant: String,
}

/// An access token that a service does not take.
#[derive(Debug, thiserror::Error)]
pub enum AccessTokenError {
    /// Not a token of this provider.
    #[error("the access token does not verify")]
    Invalid(#[from] JoseError),
    /// Another tenant's, or no `iss` at all.
    #[error("the access token has another issuer")]
    Issuer,
    /// For another service.
    #[error("the access token is for {actual:?}")]
    Audience {
        /// The `aud` that came.
        actual: String,
    },
    /// Expired or not valid yet.
    #[error("the access token is expired or not valid yet")]
    Time,
    /// Without `oid`.
    #[error("the access token names no caller")]
    Caller,
}

impl IdentityProvider {
    /// Derives the signing key and the tenant.
    ///
    /// # Errors
    /// [`KeyError`] when the key cannot be derived.
    pub fn derive(keys: &KeyRing) -> Result<Self, KeyError> {
        Ok(Self { key: keys.rsa("identity", 2048)?, tenant: keys.seed().uuid("tenant") })
    }

    /// The tenant's identifier.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// An access token for `resource`, issued at `now`.
    ///
    /// # Errors
    /// [`JoseError`] when it cannot be signed.
    pub fn issue(
        &self,
        identity: &Identity,
        resource: &str,
        now: u64,
    ) -> Result<String, JoseError> {
        let kid = jose::thumbprint(&RsaPublicKey::from(&self.key));
        let header = json!({"typ": "JWT", "alg": "RS256", "x5t": kid, "kid": kid});
        let claims = json!({
            "aud": resource,
            "iss": self.issuer(),
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_LIFE,
            "appid": identity.client_id,
            "appidacr": "2",
            "idp": self.issuer(),
            "idtyp": "app",
            "oid": identity.object_id,
            "sub": identity.object_id,
            "tid": self.tenant,
            "ver": "1.0",
            "xms_az_rid": identity.resource_id,
            "xms_mirid": identity.resource_id,
        });
        jose::sign(&header, &claims, &self.key)
    }

    /// The `oid` of a token for `audience` that is valid at `now`.
    ///
    /// # Errors
    /// [`AccessTokenError`] with the first thing that is wrong.
    pub fn verify(
        &self,
        token: &str,
        audience: &str,
        now: u64,
    ) -> Result<String, AccessTokenError> {
        let jws = Jws::parse(token)?;
        jws.verify(&RsaPublicKey::from(&self.key))?;
        let text = |claim: &str| jws.payload.get(claim).and_then(Value::as_str);
        let time = |claim: &str| jws.payload.get(claim).and_then(Value::as_u64);
        if text("iss") != Some(&self.issuer()) {
            return Err(AccessTokenError::Issuer);
        }
        let actual = text("aud").unwrap_or_default();
        if actual.trim_end_matches('/') != audience {
            return Err(AccessTokenError::Audience { actual: actual.to_owned() });
        }
        let (from, until) = (time("nbf"), time("exp"));
        if from.is_none_or(|from| from > now + SKEW) || until.is_none_or(|until| until <= now) {
            return Err(AccessTokenError::Time);
        }
        text("oid").map(str::to_owned).ok_or(AccessTokenError::Caller)
    }

    fn issuer(&self) -> String {
        format!("https://sts.windows.net/{}/", self.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_token_opens_its_own_audience_while_it_lives() {
        let seed = Seed::default();
        let provider =
            IdentityProvider::derive(&KeyRing::new(seed.clone(), testing::state())).unwrap();
        let identity = Identity::derive(&seed, "group");
        let token = provider.issue(&identity, VAULT_RESOURCE, 1000).unwrap();
        assert_eq!(provider.verify(&token, VAULT_RESOURCE, 1000).unwrap(), identity.object_id);
        assert!(matches!(
            provider.verify(&token, MANAGED_HSM_RESOURCE, 1000),
            Err(AccessTokenError::Audience { .. })
        ));
        for now in [1000 + TOKEN_LIFE, 0] {
            assert!(matches!(
                provider.verify(&token, VAULT_RESOURCE, now),
                Err(AccessTokenError::Time)
            ));
        }
        let other = KeyRing::new(Seed::new("another world"), testing::state());
        let foreign = IdentityProvider::derive(&other).unwrap();
        let token = foreign.issue(&identity, VAULT_RESOURCE, 1000).unwrap();
        assert!(matches!(
            provider.verify(&token, VAULT_RESOURCE, 1000),
            Err(AccessTokenError::Invalid(_))
        ));
    }
}
