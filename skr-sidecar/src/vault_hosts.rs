//! Which vaults may be given the group's identity token.
//!
//! Whoever holds the token is the group, as far as Azure is concerned. Callers name vaults freely, so only
//! hosts that Azure itself runs get it, and those that measured configuration adds.

use std::str::FromStr;

use crate::host::{Host, NotAHost};

/// Domains under which Azure runs its vaults, and the resource that a token for them is issued for. Sources:
/// Azure's lists of endpoints of the public cloud, of Azure China (21Vianet) and of Azure Government.
const CLOUDS: [(&str, &str); 6] = [
    ("vault.azure.net", VAULT),
    ("managedhsm.azure.net", MANAGED_HSM),
    ("vault.azure.cn", "https://vault.azure.cn"),
    ("managedhsm.azure.cn", "https://managedhsm.azure.cn"),
    ("vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
    ("managedhsm.usgovcloudapi.net", "https://managedhsm.usgovcloudapi.net"),
];

const VAULT: &str = "https://vault.azure.net";
const MANAGED_HSM: &str = "https://managedhsm.azure.net";

/// The hosts of configuration, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostList(pub(crate) Vec<Host>);

impl FromStr for HostList {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        text.split(',').map(|host| host.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// Everybody who may be given the token.
#[derive(Clone, Debug)]
pub(crate) struct VaultHosts {
    configured: Vec<Host>,
}

impl VaultHosts {
    /// Azure's own hosts and these.
    pub(crate) fn new(configured: Vec<Host>) -> Self {
        Self { configured }
    }

    /// The resource that an identity token for this vault must be issued for. `None`: no token of ours may go
    /// there.
    pub(crate) fn resource(&self, vault: &Host) -> Option<&'static str> {
        let under = |domain: &str| {
            let rest = vault.name().strip_suffix(domain);
            vault.port().is_none() && rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        if let Some((_, resource)) = CLOUDS.iter().find(|(domain, _)| under(domain)) {
            return Some(resource);
        }
        // Of a vault under a name of its own, the name is all there is to tell its kind by, as callers are used to.
        let resource = if vault.name().contains("managedhsm") { MANAGED_HSM } else { VAULT };
        self.configured.contains(vault).then_some(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(configured: &str, vault: &str) -> Option<&'static str> {
        let HostList(configured) =
            if configured.is_empty() { HostList::default() } else { configured.parse().unwrap() };
        VaultHosts::new(configured).resource(&vault.parse().unwrap())
    }

    #[test]
    fn the_clouds_own_vaults_are_allowed() {
        for (vault, expected) in [
            ("a.vault.azure.net", "https://vault.azure.net"),
            ("a.vault.azure.net:443", "https://vault.azure.net"),
            ("a.managedhsm.azure.net", "https://managedhsm.azure.net"),
            ("a.b.managedhsm.azure.net", "https://managedhsm.azure.net"),
            ("a.vault.azure.cn", "https://vault.azure.cn"),
            ("a.managedhsm.usgovcloudapi.net", "https://managedhsm.usgovcloudapi.net"),
        ] {
            assert_eq!(resource("", vault), Some(expected), "{vault}");
        }
    }

    #[test]
    fn nobody_else_is() {
        for vault in [
            "vault.azure.net",
            "avault.azure.net",
            "a.vault.azure.net.evil.test",
            "a.vault.azure.net:8443",
            "evil.test",
            "azure.net",
            "127.0.0.1",
        ] {
            assert_eq!(resource("", vault), None, "{vault}");
        }
    }

    #[test]
    fn configuration_adds_exact_hosts() {
        let list = "vault.sim:8443, managedhsm.sim";
        assert_eq!(resource(list, "VAULT.sim:8443"), Some(VAULT));
        assert_eq!(resource(list, "managedhsm.sim"), Some(MANAGED_HSM));
        assert_eq!(resource(list, "vault.sim"), None);
        assert_eq!(resource(list, "a.vault.sim:8443"), None);
        for bad in ["a,", ",a", "a,,b", "https://a"] {
            assert!(bad.parse::<HostList>().is_err(), "{bad}");
        }
    }
}
