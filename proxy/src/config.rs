//! What the environment says.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use service::env::{Class, Reader, Var};
use service::listen::Local;
use service::roots::{self, Roots};
use url::{Host, Url};

use crate::address::{self, Trusted};
use crate::clients::{ANCHORS_VAR, Acceptance, POLICY_VAR};
use crate::forward::{self, Passing};
use crate::keys::Place;
use crate::neighbour::Neighbour;
use crate::openai::padding;
use crate::prices::{self, Prices};
use crate::secrets::{self, Origin};
use crate::store;
use crate::tls::rotation::Schedule;
use crate::{metrics, settings};

/// The role's variables.
pub const VARS: &[Var] = &[
    Var {
        name: "PROXY_ADDRESS",
        class: Class::Measured,
        default: Some("0.0.0.0"),
        help: "The IP address that clients reach.",
    },
    Var {
        name: "PORT",
        class: Class::Measured,
        default: Some("8080"),
        help: "The port that clients reach.",
    },
    Var {
        name: "PROXY_GRPC_LISTEN",
        class: Class::Measured,
        default: Some("127.0.0.1:50010"),
        help: "Where health and Info are answered by gRPC: host:port on loopback, or unix:/path.",
    },
    Var {
        name: "PROXY_HOSTNAMES",
        class: Class::Measured,
        default: Some("localhost,127.0.0.1"),
        help: "Names and IP addresses, comma separated, under which clients reach the proxy: into the \
               certificate and the manifest.",
    },
    Var {
        name: "TLS_MODE",
        class: Class::Measured,
        default: None,
        help: "`attested`: the key is made in this process, and evidence for it is in the certificate. \
               `released`: from TLS_CERT_FILE; its key is skr-sidecar's TLS_KID, released by the owner's vault. \
               `files`: from TLS_CERT_FILE and TLS_KEY_FILE. `off`: plain HTTP. Unset: `files` if \
               TLS_CERT_FILE is set, else `attested`.",
    },
    Var {
        name: "TLS_CERT_FILE",
        class: Class::Measured,
        default: None,
        help: "Certificate chain in PEM, for TLS_MODE=released, which reads it again when it changes, and \
               TLS_MODE=files.",
    },
    Var {
        name: "TLS_KEY_FILE",
        class: Class::Measured,
        default: None,
        help: "Its private key in PEM, for TLS_MODE=files.",
    },
    Var {
        name: "TLS_CERT_LIFETIME",
        class: Class::Measured,
        default: Some("86400"),
        help: "For TLS_MODE=attested: seconds from a certificate's beginning to its end, and the longest that a \
               connection lives.",
    },
    Var {
        name: "TLS_CERT_ROTATION",
        class: Class::Measured,
        default: None,
        help: "For TLS_MODE=attested: seconds until new connections get another key and certificate, fewer than \
               TLS_CERT_LIFETIME. Unset: half of it.",
    },
    Var {
        name: "PROXY_PLAIN_HTTP",
        class: Class::Measured,
        default: Some("loopback"),
        help: "`anywhere` lets TLS_MODE=off serve on an address that others can reach. Everything can then be \
               read on the way.",
    },
    Var {
        name: "UPSTREAM_URL",
        class: Class::Measured,
        default: Some("http://127.0.0.1:8081"),
        help: "The OpenAI-compatible server that requests go to.",
    },
    Var {
        name: "UPSTREAM_PLAIN_HTTP",
        class: Class::Measured,
        default: Some("loopback"),
        help: "`anywhere` lets UPSTREAM_URL be plain http to a host that is not on loopback. Prompts and answers can \
               then be read on the way.",
    },
    forward::FIRST_BYTE_VAR,
    forward::IDLE_VAR,
    forward::MAX_BODY_VAR,
    padding::VAR,
    Var {
        name: "API_KEYS_FILE",
        class: Class::Measured,
        default: Some("/app/secrets/api_keys.json"),
        help: "File of API keys, read again when it changes. It may be absent. Named here, it is where new keys go; else they go to the database, if there is one. Whoever can write it can add keys and revoke others, also with PROXY_SECRETS=sealed: let it lie where the host cannot.",
    },
    settings::FILE_VAR,
    settings::REQUESTS_VAR,
    settings::WINDOW_VAR,
    settings::IP_REQUESTS_VAR,
    settings::IP_WINDOW_VAR,
    address::TRUST_VAR,
    address::HOPS_VAR,
    Var {
        name: "FORCE_HTTPS",
        class: Class::Measured,
        default: None,
        help: "Whether requests that came by plain HTTP are refused, but for /health: where TLS ends in a trusted proxy \
               before this one (TRUST_PROXY). Unset: unless TLS_MODE=off.",
    },
    Var {
        name: "PBKDF2_SALT",
        class: Class::Harmless,
        default: None,
        help: "Not used: the proxy before this one needed it. If it is set, it must have at least 16 bytes, as there.",
    },
    metrics::LISTEN_VAR,
    metrics::KEYS_VAR,
    metrics::SECONDS_VAR,
    Var {
        name: "USAGE_FILE",
        class: Class::Measured,
        default: Some("/app/data/usage.json"),
        help: "Usage as the proxy before this one kept it.",
    },
    Var {
        name: "ADMIN_ACCESS",
        class: Class::Measured,
        default: Some("proved"),
        help: "`proved`: with TLS_MODE=attested or released, admin pages are shown only on connections that were \
               proved, so through `pmc connect`. `public`: on every connection, and the manifest says so.",
    },
    Var {
        name: "ATTEST_SIDECAR",
        class: Class::Measured,
        default: Some("127.0.0.1:50051"),
        help: "Where `attest-sidecar` answers by gRPC.",
    },
    Var {
        name: "SKR_SIDECAR",
        class: Class::Measured,
        default: Some("127.0.0.1:50000"),
        help: "Where `skr-sidecar` answers by gRPC: host:port on loopback, unix:/path, or `off`: there is none, and no owner signs proofs.",
    },
    store::STATE_VAR,
    store::KEY_VAR,
    prices::FILE_VAR,
    secrets::MODE_VAR,
    secrets::UPSTREAM_KEY_VAR,
    secrets::API_KEYS_VAR,
    secrets::ADMIN_PASSWORD_VAR,
    POLICY_VAR,
    ANCHORS_VAR,
    roots::VAR,
];

/// How clients' connections are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Attested,
    Released { chain: PathBuf, skr: Local },
    Files { certificate: PathBuf, key: PathBuf },
    Off,
}

impl TlsMode {
    /// As the manifest names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Attested => "attested",
            Self::Released { .. } => "released",
            Self::Files { .. } => "files",
            Self::Off => "off",
        }
    }
}

/// On which connections admin pages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminAccess {
    /// On proved ones, where a mode makes its own proofs the way in.
    Proved,
    /// On all.
    Public,
}

impl FromStr for AdminAccess {
    type Err = NotAnAccess;

    fn from_str(text: &str) -> Result<Self, NotAnAccess> {
        match text {
            "proved" => Ok(Self::Proved),
            "public" => Ok(Self::Public),
            _ => Err(NotAnAccess),
        }
    }
}

/// Not one of them.
#[derive(Debug, thiserror::Error)]
#[error("must be proved or public")]
pub(crate) struct NotAnAccess;

/// The role's configuration.
pub struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) grpc: Local,
    pub(crate) hostnames: Vec<String>,
    pub(crate) tls: TlsMode,
    pub(crate) schedule: Schedule,
    pub(crate) admin: AdminAccess,
    pub(crate) upstream: Url,
    pub(crate) passing: Passing,
    pub(crate) keys_file: PathBuf,
    pub(crate) settings: settings::Origin,
    pub(crate) trusted: Trusted,
    pub(crate) force_https: bool,
    pub(crate) metrics: metrics::Config,
    /// Whether the environment names it, so that new keys go there.
    pub(crate) keys_file_is_named: bool,
    /// Usage of the proxy before this one.
    pub(crate) usage_file: PathBuf,
    pub(crate) state: store::Settings,
    pub(crate) prices: Prices,
    pub(crate) secrets: Origin,
    pub(crate) attest: Local,
    /// `None`: there is none.
    pub(crate) skr: Option<Local>,
    /// `None` if logs are off.
    pub(crate) log: Option<Local>,
    /// Acceptable attested clients; `None`: nobody.
    pub(crate) clients: Option<Acceptance>,
    pub(crate) roots: Roots,
}

impl Config {
    /// Whether only the public's roots are believed, of everybody.
    pub(crate) fn is_production(&self) -> bool {
        self.roots.are_public() && self.clients.as_ref().is_none_or(Acceptance::is_production)
    }

    /// Where new keys go: to the file that the environment names, or that is there and all there is; else to the database.
    pub(crate) fn home_of_keys(&self) -> Place {
        let is_all = self.state.place == store::Place::Memory && self.keys_file.exists();
        if self.keys_file_is_named || is_all { Place::File } else { Place::Database }
    }

    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let address = env.parse::<IpAddr>("PROXY_ADDRESS");
        let port = env.parse::<u16>("PORT");
        let grpc = env.parse("PROXY_GRPC_LISTEN");
        let hostnames = env.parse::<Hostnames>("PROXY_HOSTNAMES");
        let skr = env.parse::<Neighbour>("SKR_SIDECAR");
        let at = skr.as_ref().and_then(|skr| skr.0.as_ref());
        let tls = tls_mode(env, at);
        let schedule = schedule(env);
        let admin = admin(env, tls.as_ref());
        let plain = env.parse::<String>("PROXY_PLAIN_HTTP");
        let upstream = upstream(env);
        let passing = Passing::read(env);
        let keys_file = env.parse("API_KEYS_FILE");
        let settings = settings::Origin::read(env);
        let trusted = Trusted::read(env);
        let force_https = env.flag("FORCE_HTTPS");
        let metrics = metrics::Config::read(env);
        salt(env);
        let usage_file = env.parse::<PathBuf>("USAGE_FILE");
        let secrets = Origin::read(env, at);
        let attest = env.parse("ATTEST_SIDECAR");
        let state = store::Settings::read(env, tls.as_ref(), usage_file.as_deref(), at);
        let prices = Prices::read(env);
        let log = env.parse::<String>("LOG_SEALER").filter(|address| address != "off");
        let clients = Acceptance::read(env);
        let roots = Roots::read(env);

        if tls == Some(TlsMode::Off)
            && address.is_some_and(|address| !address.is_loopback())
            && plain.as_deref() != Some("anywhere")
        {
            let why = "off serves plain HTTP, here on an address that others can reach: set \
                       PROXY_ADDRESS=127.0.0.1, or say PROXY_PLAIN_HTTP=anywhere as well";
            env.refuse("TLS_MODE", &why);
        }
        let tls = tls?;
        Some(Self {
            listen: SocketAddr::new(address?, port?),
            grpc: grpc?,
            hostnames: hostnames?.0,
            force_https: force_https.unwrap_or(tls != TlsMode::Off),
            tls,
            schedule: schedule?,
            admin: admin?,
            upstream: upstream?,
            passing: passing?,
            keys_file: keys_file?,
            settings: settings?,
            trusted: trusted?,
            metrics: metrics?,
            keys_file_is_named: env.is_set("API_KEYS_FILE"),
            usage_file: usage_file?,
            state: state?,
            prices: prices?,
            secrets: secrets?,
            attest: attest?,
            skr: skr?.0,
            log: log.and_then(|address| address.parse().ok()),
            clients: clients?,
            roots: roots?,
        })
    }
}

/// What is set at all is checked as it was before: who relies on it should know that it is of no use.
fn salt(env: &mut Reader<'_>) {
    let salt = env.optional::<String>("PBKDF2_SALT");
    if salt.is_some_and(|salt| salt.len() < 16) {
        env.refuse(
            "PBKDF2_SALT",
            &"must have at least 16 bytes; it is not used any more: unset it",
        );
    }
}

fn tls_mode(env: &mut Reader<'_>, skr: Option<&Local>) -> Option<TlsMode> {
    let mode = env.optional::<String>("TLS_MODE");
    let certificate = env.optional("TLS_CERT_FILE");
    let key = env.optional("TLS_KEY_FILE");
    let mode = mode.unwrap_or_else(|| {
        if certificate.is_some() { "files".to_owned() } else { "attested".to_owned() }
    });
    match (mode.as_str(), certificate, key) {
        ("attested", ..) => Some(TlsMode::Attested),
        ("off", ..) => Some(TlsMode::Off),
        ("released", Some(chain), None) => match skr {
            Some(skr) => Some(TlsMode::Released { chain, skr: skr.clone() }),
            None => {
                env.refuse("TLS_MODE", &"released needs skr-sidecar: set SKR_SIDECAR");
                None
            }
        },
        ("released", None, _) => {
            env.refuse(
                "TLS_MODE",
                &"released needs TLS_CERT_FILE, the chain of skr-sidecar's TLS_KID",
            );
            None
        }
        ("released", _, Some(_)) => {
            env.refuse("TLS_KEY_FILE", &"is not used with TLS_MODE=released: remove it");
            None
        }
        ("files", Some(certificate), Some(key)) => Some(TlsMode::Files { certificate, key }),
        ("files", ..) => {
            env.refuse("TLS_MODE", &"files needs both TLS_CERT_FILE and TLS_KEY_FILE");
            None
        }
        _ => {
            env.refuse("TLS_MODE", &"must be attested, released, files or off");
            None
        }
    }
}

/// The longest life of a certificate: a stolen key is of use for no longer, to whoever does not verify.
const LONGEST_LIFETIME: u64 = 31 * 86_400;

fn schedule(env: &mut Reader<'_>) -> Option<Schedule> {
    let lifetime = env.parse::<u64>("TLS_CERT_LIFETIME");
    let rotation = env.optional::<u64>("TLS_CERT_ROTATION");
    let lifetime = lifetime?;
    if !(2..=LONGEST_LIFETIME).contains(&lifetime) {
        env.refuse("TLS_CERT_LIFETIME", &format!("must be 2 to {LONGEST_LIFETIME} seconds"));
        return None;
    }
    let rotation = rotation.unwrap_or(lifetime / 2);
    if !(1..lifetime).contains(&rotation) {
        let why = "must be at least 1 second and fewer than TLS_CERT_LIFETIME";
        env.refuse("TLS_CERT_ROTATION", &why);
        return None;
    }
    Some(Schedule { lifetime, rotation })
}

/// A mode whose key others may hold has no proof to wait for: its admin pages are as public as the server.
fn admin(env: &mut Reader<'_>, tls: Option<&TlsMode>) -> Option<AdminAccess> {
    let asked = env.parse("ADMIN_ACCESS")?;
    match tls? {
        TlsMode::Attested | TlsMode::Released { .. } => Some(asked),
        TlsMode::Files { .. } | TlsMode::Off => Some(AdminAccess::Public),
    }
}

fn upstream(env: &mut Reader<'_>) -> Option<Url> {
    let plain = env.parse::<String>("UPSTREAM_PLAIN_HTTP");
    let url = env.parse::<Url>("UPSTREAM_URL")?;
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "http" && !loopback && plain.as_deref() != Some("anywhere") {
        let why = "is plain http to a host that is not on loopback, so that prompts can be read on the way: use \
                   https, or say UPSTREAM_PLAIN_HTTP=anywhere as well";
        env.refuse("UPSTREAM_URL", &why);
        return None;
    }
    let usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if usable {
        return Some(url);
    }
    env.refuse("UPSTREAM_URL", &"must be http(s)://host[:port][/path], without credentials");
    None
}

/// A list of DNS names and IP addresses.
struct Hostnames(Vec<String>);

/// Not such a list.
#[derive(Debug, thiserror::Error)]
#[error("must be DNS names or IP addresses, comma separated")]
struct NotHostnames;

impl FromStr for Hostnames {
    type Err = NotHostnames;

    fn from_str(text: &str) -> Result<Self, NotHostnames> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        let valid = |name: &String| rustls_pki_types::ServerName::try_from(name.as_str()).is_ok();
        if names.iter().all(valid) { Ok(Self(names)) } else { Err(NotHostnames) }
    }
}

#[cfg(test)]
mod tests {
    use service::env::Environment;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let env: Environment = pairs.iter().copied().collect();
        let mut reader = Reader::new(&env, VARS);
        let config = Config::read(&mut reader);
        reader.finish(config).map(|(config, _)| config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn certificates_are_rotated_at_half_their_life_or_as_is_said() {
        let schedule = |pairs: &[_]| read(pairs).map(|config| config.schedule);
        let a_day = Schedule { lifetime: 86_400, rotation: 43_200 };
        assert_eq!(schedule(&[]), Ok(a_day));
        let shorter = Schedule { lifetime: 600, rotation: 300 };
        assert_eq!(schedule(&[("TLS_CERT_LIFETIME", "600")]), Ok(shorter));
        let said = [("TLS_CERT_LIFETIME", "5"), ("TLS_CERT_ROTATION", "1")];
        assert_eq!(schedule(&said), Ok(Schedule { lifetime: 5, rotation: 1 }));
        for (lifetime, rotation, wrong) in [
            ("5", "5", "TLS_CERT_ROTATION: "),
            ("5", "0", "TLS_CERT_ROTATION: "),
            ("1", "1", "TLS_CERT_LIFETIME: "),
            ("99999999", "1", "TLS_CERT_LIFETIME: "),
            ("a day", "1", "TLS_CERT_LIFETIME: "),
        ] {
            let pairs = [("TLS_CERT_LIFETIME", lifetime), ("TLS_CERT_ROTATION", rotation)];
            let problems = schedule(&pairs).unwrap_err();
            assert!(problems.contains(wrong), "{lifetime} {rotation}: {problems}");
        }
    }

    #[test]
    fn case_116_a_salt_may_be_absent_but_not_short() {
        assert!(read(&[]).is_ok());
        assert!(read(&[("PBKDF2_SALT", "0123456789abcdef")]).is_ok());
        let refused = read(&[("PBKDF2_SALT", "0123456789abcde")]).err().unwrap();
        assert!(refused.contains("unset it") && !refused.contains("0123"), "{refused}");
    }

    #[test]
    fn https_is_forced_where_tls_is_on() {
        let forced = |pairs: &[_]| read(pairs).map(|config| config.force_https);
        assert_eq!(forced(&[]), Ok(true));
        assert_eq!(forced(&[("FORCE_HTTPS", "no")]), Ok(false));
        let off = [("TLS_MODE", "off"), ("PROXY_ADDRESS", "127.0.0.1")];
        assert_eq!(forced(&off), Ok(false));
        let plain = [off[0], off[1], ("FORCE_HTTPS", "Yes")];
        assert_eq!(forced(&plain), Ok(true));
    }

    #[test]
    fn without_skr_sidecar_what_needs_it_is_refused() {
        let off = ("SKR_SIDECAR", "off");
        for rest in [&[][..], &[("TLS_CERT_FILE", "/c.pem"), ("TLS_KEY_FILE", "/k.pem")]] {
            assert_eq!(read(&[&[off], rest].concat()).ok().unwrap().skr, None);
        }
        for (rest, wrong) in [
            (&[("TLS_MODE", "released"), ("TLS_CERT_FILE", "/c.pem")][..], "TLS_MODE: "),
            (&[("PROXY_SECRETS", "sealed")], "PROXY_SECRETS: "),
            (&[("PROXY_STATE", "/state/proxy.db")], "PROXY_STATE_KEY: "),
            (&[("PROXY_STATE_KEY", "released")], "PROXY_STATE_KEY: "),
        ] {
            let problems = read(&[&[off], rest].concat()).err().unwrap();
            assert!(problems.contains(wrong) && problems.contains("SKR_SIDECAR"), "{problems}");
        }
    }

    #[test]
    fn limits_that_stop_everybody_or_nobody_are_refused() {
        for (name, value) in [
            ("RATE_LIMIT_REQUESTS", "0"),
            ("RATE_LIMIT_WINDOW", "0"),
            ("IP_RATE_LIMIT_REQUESTS", "-1"),
            ("IP_RATE_LIMIT_WINDOW", "86401"),
            ("PROXY_TRUSTED_HOPS", "0"),
            ("TRUST_PROXY", "perhaps"),
            ("PROXY_METRICS_LISTEN", "0.0.0.0:9464"),
        ] {
            let problems = read(&[(name, value)]).err().unwrap();
            assert!(problems.contains(name), "{problems}");
        }
    }

    #[test]
    fn admin_pages_wait_for_a_proof_where_there_is_one() {
        let admin = |pairs: &[_]| read(pairs).map(|config| config.admin);
        assert_eq!(admin(&[]), Ok(AdminAccess::Proved));
        assert_eq!(admin(&[("ADMIN_ACCESS", "public")]), Ok(AdminAccess::Public));
        let files = [("TLS_CERT_FILE", "/c.pem"), ("TLS_KEY_FILE", "/k.pem")];
        assert_eq!(admin(&files), Ok(AdminAccess::Public));
        assert!(admin(&[("ADMIN_ACCESS", "yes")]).unwrap_err().contains("ADMIN_ACCESS: "));
    }
}
