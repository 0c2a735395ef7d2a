//! What the environment says.

use service::env::{Class, Reader, Var};
use service::listen::Local;
use service::roots::{self, Roots};
use url::Url;

use crate::certificates::{AzureCachePlace, Order, Places};
use crate::device::Source;
use crate::security_context::ContextPlace;
use crate::user_agent::UserAgent;

/// The role's variables.
pub const VARS: &[Var] = &[
    Var {
        name: "ATTEST_LISTEN",
        class: Class::Measured,
        default: Some("127.0.0.1:50051"),
        help: "Where the other roles reach this one by gRPC: host:port on loopback, or unix:/path.",
    },
    Var {
        name: "ATTEST_DEVICE",
        class: Class::Measured,
        default: Some("auto"),
        help: "`auto` takes /dev/sev-guest, else /dev/sev, else /sys/kernel/config/tsm/report; or one of these \
               three; or socket:/path of a security processor that answers guest messages on a Unix socket.",
    },
    Var {
        name: "ATTEST_CERTIFICATE_SOURCES",
        class: Class::Measured,
        default: Some("context,thim,azure-cache,kds"),
        help: "Where certificates of this machine come from, in the order in which the sources are asked: what the \
               platform mounted, Azure's THIM, Azure's cache of AMD's service, AMD's service, which also gives \
               the revocation list.",
    },
    Var {
        name: "ATTEST_THIM_URL",
        class: Class::Measured,
        default: Some("http://169.254.169.254/metadata/THIM/amd/certification"),
        help: "Azure's THIM, on this machine.",
    },
    Var {
        name: "ATTEST_AZURE_CACHE_URL",
        class: Class::Measured,
        default: Some("https://global.acccache.azure.net"),
        help: "Azure's cache of AMD's key distribution service: what stands before the tee type.",
    },
    Var {
        name: "ATTEST_AZURE_CACHE_TEE_TYPE",
        class: Class::Measured,
        default: Some("SevSnpVM"),
        help: "How Azure's cache names this kind of machine.",
    },
    Var {
        name: "ATTEST_AZURE_CACHE_API_VERSION",
        class: Class::Measured,
        default: Some("2020-10-15-preview"),
        help: "The version of the cache's interface.",
    },
    Var {
        name: "ATTEST_AZURE_CACHE_CLIENT_ID",
        class: Class::Measured,
        default: Some("ConfidentialACI"),
        help: "Who asks the cache: its `clientId`.",
    },
    Var {
        name: "ATTEST_KDS_URL",
        class: Class::Measured,
        default: Some("https://kdsintf.amd.com"),
        help: "AMD's key distribution service: what stands before /vcek/v1.",
    },
    Var {
        name: "MAA_ENDPOINT",
        class: Class::Measured,
        default: Some("https://sharedeus.eus.attest.azure.net"),
        help: "The instance of Microsoft Azure Attestation that is asked for tokens.",
    },
    Var {
        name: "ATTEST_MAA_HOSTS",
        class: Class::Measured,
        default: None,
        help: "Further hosts, comma separated, that may be asked for tokens besides MAA_ENDPOINT and Azure's own.",
    },
    Var {
        name: "ATTEST_MAA_USER_AGENT",
        class: Class::Measured,
        default: None,
        help: "What this role calls itself at MAA. Without it, nothing.",
    },
    Var {
        name: "UVM_SECURITY_CONTEXT_DIR",
        class: Class::Harmless,
        default: None,
        help: "Set by the platform: the folder with its policy, endorsement and certificates. Everything in it \
               is verified by whoever relies on it.",
    },
    Var {
        name: "UVM_HOST_AMD_CERTIFICATE",
        class: Class::Harmless,
        default: None,
        help: "Set by the platform where it mounts no folder: its certificates, base64.",
    },
    Var {
        name: "UVM_SECURITY_POLICY",
        class: Class::Harmless,
        default: None,
        help: "Set by the platform where it mounts no folder: the enforcement policy, base64.",
    },
    Var {
        name: "UVM_REFERENCE_INFO",
        class: Class::Harmless,
        default: None,
        help: "Set by the platform where it mounts no folder: the utility VM's endorsement, base64.",
    },
    roots::VAR,
];

/// The role's configuration.
#[derive(Debug)]
pub struct Config {
    pub(crate) listen: Local,
    pub(crate) device: Source,
    pub(crate) certificates: Places,
    pub(crate) maa: Url,
    pub(crate) maa_hosts: Vec<String>,
    pub(crate) maa_agent: Option<UserAgent>,
    pub(crate) roots: Roots,
}

impl Config {
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let listen = env.parse("ATTEST_LISTEN");
        let device = env.parse("ATTEST_DEVICE");
        let order = env.parse::<Order>("ATTEST_CERTIFICATE_SOURCES");
        let thim = source_url(env, "ATTEST_THIM_URL");
        let azure_cache = source_url(env, "ATTEST_AZURE_CACHE_URL");
        let tee_type = env.parse("ATTEST_AZURE_CACHE_TEE_TYPE");
        let api_version = env.parse("ATTEST_AZURE_CACHE_API_VERSION");
        let client_id = env.parse("ATTEST_AZURE_CACHE_CLIENT_ID");
        let kds = source_url(env, "ATTEST_KDS_URL");
        let maa = env.parse::<Url>("MAA_ENDPOINT").filter(|url| {
            let https = url.scheme() == "https" && url.path() == "/" && url.query().is_none();
            if !https {
                env.refuse("MAA_ENDPOINT", &"must be https://host without a path");
            }
            https
        });
        let maa_hosts = env.optional::<String>("ATTEST_MAA_HOSTS").unwrap_or_default();
        let maa_hosts = maa_hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
        let maa_hosts = maa_hosts.map(str::to_ascii_lowercase).collect();
        let maa_agent = env.optional("ATTEST_MAA_USER_AGENT");
        let context = ContextPlace {
            root: "/".into(),
            folder: env.optional("UVM_SECURITY_CONTEXT_DIR"),
            certificates: env.optional("UVM_HOST_AMD_CERTIFICATE"),
            security_policy: env.optional("UVM_SECURITY_POLICY"),
            reference_info: env.optional("UVM_REFERENCE_INFO"),
        };
        let roots = Roots::read(env);
        Some(Self {
            listen: listen?,
            device: device?,
            certificates: Places {
                order: order?,
                context,
                thim: thim?,
                azure_cache: AzureCachePlace {
                    base: azure_cache?,
                    tee_type: tee_type?,
                    api_version: api_version?,
                    client_id: client_id?,
                },
                kds: kds?,
            },
            maa: maa?,
            maa_hosts,
            maa_agent,
            roots: roots?,
        })
    }
}

/// A source may be reached in the clear: what it says is verified by whoever relies on it.
fn source_url(env: &mut Reader<'_>, name: &'static str) -> Option<Url> {
    env.parse::<Url>(name).filter(|url| {
        let http = matches!(url.scheme(), "https" | "http") && url.query().is_none();
        if !http {
            env.refuse(name, &"must be http or https, without a query");
        }
        http
    })
}

#[cfg(test)]
mod tests {
    use service::env::Environment;

    use super::*;

    fn problems(pairs: &[(&str, &str)]) -> Option<String> {
        let env: Environment = pairs.iter().copied().collect();
        let mut reader = Reader::new(&env, VARS);
        let config = Config::read(&mut reader);
        reader.finish(config).err().map(|problems| problems.to_string())
    }

    #[test]
    fn the_defaults_are_a_configuration() {
        assert_eq!(problems(&[]), None);
    }

    #[test]
    fn sources_and_their_addresses_are_checked_together() {
        let wrong = problems(&[
            ("ATTEST_CERTIFICATE_SOURCES", "thim,thim"),
            ("ATTEST_THIM_URL", "http://thim.example/?x=y"),
            ("ATTEST_AZURE_CACHE_URL", "file:///etc"),
            ("ATTEST_KDS_URL", "kdsintf.amd.com"),
            ("ATTEST_AZURE_CACHE_TEE_TYPE", "../other"),
            ("ATTEST_AZURE_CACHE_API_VERSION", "1&a=b"),
            ("ATTEST_AZURE_CACHE_CLIENT_ID", "a b"),
        ]);
        let wrong = wrong.unwrap();
        for name in VARS.iter().map(|var| var.name).filter(|name| {
            let source = name.ends_with("_URL") || name.starts_with("ATTEST_AZURE_CACHE_");
            source || *name == "ATTEST_CERTIFICATE_SOURCES"
        }) {
            assert!(wrong.contains(&format!("{name}: ")), "{name}: {wrong}");
        }
        assert_eq!(problems(&[("ATTEST_KDS_URL", "http://mirror.example/amd")]), None);
    }
}
