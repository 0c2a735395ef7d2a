//! From what the reference is told, by arguments and by variables, to the environment that this role reads. All of it
//! becomes variables, so that the digest of the configuration covers the command line as well.
//!
//! Must not know what the variables do.

use std::str::FromStr as _;

use service::env::Environment;

use super::Name;
use super::args::{ArgsError, CertificateCache, SideCarArgs};
use super::flags::{FlagError, Flags};

/// Where HTTP is answered if nothing is said.
const PORT: u16 = 8080;

/// Where the `attest-sidecar` of this container listens: a file that no other container sees.
const PRIVATE: &str = "unix:/attest-sidecar.sock";

/// Where the image holds its program.
const PROGRAM: &str = "/attest-sidecar";

/// What the reference calls itself at MAA.
const USER_AGENT: &str = "ConfidentialSkrContainer";

/// What the reference can be told, of whichever origin.
#[derive(Debug, Default)]
struct Told {
    args: Option<String>,
    port: Option<String>,
    log_file: Option<String>,
    log_level: Option<String>,
    server_type: Option<String>,
}

/// Why there is no environment. Values are not repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvironmentError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error("SkrSideCarArgs cannot be used: {0}")]
    Args(#[from] ArgsError),
    #[error("the port must be a number from 0 to 65535")]
    Port,
    #[error(
        "not a valid logrus Level: it must be trace, debug, info, warning, error, fatal or panic"
    )]
    LogLevel,
    #[error("{name} is set, and {by} says the same: remove one of them")]
    Twice { name: &'static str, by: &'static str },
}

/// The environment of the role, for a process that was started by this name, with these arguments after it.
pub(super) fn environment(
    of_process: Environment,
    name: Name,
    arguments: Vec<String>,
) -> Result<Environment, EnvironmentError> {
    let told = match name {
        Name::Script => told_to_the_script(&of_process, arguments),
        Name::Binary => told_by_flags(Flags::parse(arguments)?),
    };
    let mut folded = Folded(told.written_into(of_process));
    folded.logs(&told)?;
    folded.doors(&told)?;
    let args = told.args.as_deref().map(SideCarArgs::read).transpose()?;
    folded.args(args.unwrap_or_default())?;
    folded.attest_sidecar();
    // As the reference: whoever may call reads any key to wrap with.
    folded.default("SKR_WRAP_KEYS", "/");
    Ok(folded.0)
}

/// The script takes variables; the first two arguments stand in for those that are not set.
fn told_to_the_script(environment: &Environment, arguments: Vec<String>) -> Told {
    let mut arguments =
        arguments.into_iter().map(|argument| Some(argument).filter(|a| !a.is_empty()));
    let (first, second) = (arguments.next().flatten(), arguments.next().flatten());
    let value = |name| environment.value(name).map(ToOwned::to_owned);
    Told {
        args: value("SkrSideCarArgs").or(first),
        port: value("Port").or(second),
        log_file: value("LogFile"),
        log_level: value("LogLevel"),
        server_type: value("ServerType"),
    }
}

/// The binary takes flags and looks at none of the script's variables.
fn told_by_flags(flags: Flags) -> Told {
    let Flags { base64, log_level, log_file, port, server_type, .. } = flags;
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    Told {
        args: said(base64),
        port: said(port),
        log_file: said(log_file),
        log_level: said(log_level),
        server_type: said(server_type),
    }
}

impl Told {
    /// The variables of the reference say what it was told, and nothing else.
    fn written_into(&self, environment: Environment) -> Environment {
        let written = [
            ("SkrSideCarArgs", &self.args),
            ("Port", &self.port),
            ("LogFile", &self.log_file),
            ("LogLevel", &self.log_level),
            ("ServerType", &self.server_type),
        ];
        written.into_iter().fold(environment, |environment, (name, value)| match value {
            Some(value) => environment.with(name, value),
            None => environment.without(name),
        })
    }
}

struct Folded(Environment);

impl Folded {
    fn has(&self, name: &str) -> bool {
        self.0.value(name).is_some()
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0 = std::mem::take(&mut self.0).with(name, value);
    }

    /// Sets a variable that nobody has set.
    fn default(&mut self, name: &'static str, value: impl Into<String>) {
        if !self.has(name) {
            self.set(name, value);
        }
    }

    /// Sets a variable that nobody else may have set: of two values, one would have no effect.
    fn say(
        &mut self,
        name: &'static str,
        value: impl Into<String>,
        by: &'static str,
    ) -> Result<(), EnvironmentError> {
        if self.has(name) {
            return Err(EnvironmentError::Twice { name, by });
        }
        self.set(name, value);
        Ok(())
    }

    fn logs(&mut self, told: &Told) -> Result<(), EnvironmentError> {
        self.default("LOG_SEALER", "off");
        let Some(level) = &told.log_level else {
            self.default("LOG_LEVEL", "warn");
            return Ok(());
        };
        let level = match level.to_ascii_lowercase().as_str() {
            "trace" | "debug" => "debug",
            "info" => "info",
            "warn" | "warning" => "warn",
            "error" | "fatal" | "panic" => "error",
            _ => return Err(EnvironmentError::LogLevel),
        };
        self.say("LOG_LEVEL", level, "LogLevel")
    }

    /// The host is never said: it is this one alone.
    fn doors(&mut self, told: &Told) -> Result<(), EnvironmentError> {
        let port = told.port.as_deref().map(u16::from_str).transpose();
        let port = port.map_err(|_| EnvironmentError::Port)?;
        let at = format!("127.0.0.1:{}", port.unwrap_or(PORT));
        match told.server_type.as_deref() {
            None if port.is_none() => self.default("SKR_HTTP_LISTEN", at),
            None => self.say("SKR_HTTP_LISTEN", at, "Port")?,
            Some("grpc") => {
                self.say("SKR_LISTEN", at, "ServerType")?;
                self.say("SKR_HTTP_LISTEN", "off", "ServerType")?;
            }
            Some(_) => {
                self.say("SKR_HTTP_LISTEN", at, "ServerType")?;
                self.say("SKR_LISTEN", "off", "ServerType")?;
            }
        }
        Ok(())
    }

    /// The reference is one container; here two roles are in it, unless the other one is said to be elsewhere.
    fn attest_sidecar(&mut self) {
        if !self.has("ATTEST_SIDECAR") {
            self.set("ATTEST_SIDECAR", PRIVATE);
            self.default("SKR_ATTEST_PROGRAM", PROGRAM);
        }
        if self.has("SKR_ATTEST_PROGRAM") {
            self.default("ATTEST_MAA_USER_AGENT", USER_AGENT);
        }
    }

    fn args(&mut self, args: SideCarArgs) -> Result<(), EnvironmentError> {
        const BY: &str = "SkrSideCarArgs";
        let SideCarArgs { certificates, client_id, user_agent } = args;
        let workload = ["AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"];
        // Of a managed identity, and before the environment's, as in the reference. A workload identity's is not here.
        if let Some(client_id) = client_id
            && !workload.iter().any(|name| self.has(name))
        {
            self.set("AZURE_CLIENT_ID", client_id);
        }
        let mut say = |name, value: String| self.say(name, value, BY);
        user_agent.map_or(Ok(()), |user_agent| say("ATTEST_MAA_USER_AGENT", user_agent))?;
        match certificates {
            None => {}
            Some(CertificateCache::LocalThim(url)) => {
                say("ATTEST_CERTIFICATE_SOURCES", "context,thim".to_owned())?;
                say("ATTEST_THIM_URL", url.into())?;
            }
            Some(CertificateCache::Amd(url)) => {
                say("ATTEST_CERTIFICATE_SOURCES", "context,thim,kds".to_owned())?;
                say("ATTEST_KDS_URL", url.into())?;
            }
            Some(CertificateCache::AzureCache { base, tee_type, api_version, client_id }) => {
                say("ATTEST_CERTIFICATE_SOURCES", "context,thim,azure-cache".to_owned())?;
                say("ATTEST_AZURE_CACHE_URL", base.into())?;
                let words = [
                    ("ATTEST_AZURE_CACHE_TEE_TYPE", tee_type),
                    ("ATTEST_AZURE_CACHE_API_VERSION", api_version),
                    ("ATTEST_AZURE_CACHE_CLIENT_ID", client_id),
                ];
                for (name, word) in words {
                    word.map_or(Ok(()), |word| say(name, word))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;

    use super::*;

    fn fold(
        name: Name,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Environment, EnvironmentError> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        environment(variables.iter().copied().collect(), name, arguments)
    }

    fn script(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        fold(Name::Script, variables, &[])
    }

    #[track_caller]
    fn holds(environment: &Environment, expected: &[(&str, &str)]) {
        for (name, value) in expected {
            assert_eq!(environment.value(name).unwrap_or_default(), *value, "{name}");
        }
    }

    #[test]
    fn told_nothing_it_is_where_the_reference_is_with_its_neighbour_inside() {
        for name in [Name::Script, Name::Binary] {
            let environment = fold(name, &[("KEPT", "as it is")], &[]).unwrap();
            holds(
                &environment,
                &[
                    ("SKR_HTTP_LISTEN", "127.0.0.1:8080"),
                    ("SKR_LISTEN", ""),
                    ("LOG_SEALER", "off"),
                    ("LOG_LEVEL", "warn"),
                    ("ATTEST_SIDECAR", "unix:/attest-sidecar.sock"),
                    ("SKR_ATTEST_PROGRAM", "/attest-sidecar"),
                    ("ATTEST_MAA_USER_AGENT", "ConfidentialSkrContainer"),
                    ("SKR_WRAP_KEYS", "/"),
                    ("KEPT", "as it is"),
                ],
            );
        }
    }

    #[test]
    fn variables_of_ours_that_are_set_stay() {
        let environment = script(&[
            ("LOG_SEALER", "127.0.0.1:4317"),
            ("LOG_LEVEL", "debug"),
            ("SKR_HTTP_LISTEN", "unix:/s"),
            ("ATTEST_SIDECAR", "127.0.0.1:50051"),
        ])
        .unwrap();
        holds(
            &environment,
            &[
                ("LOG_SEALER", "127.0.0.1:4317"),
                ("LOG_LEVEL", "debug"),
                ("SKR_HTTP_LISTEN", "unix:/s"),
                ("ATTEST_SIDECAR", "127.0.0.1:50051"),
                ("SKR_ATTEST_PROGRAM", ""),
                ("ATTEST_MAA_USER_AGENT", ""),
            ],
        );
    }

    #[test]
    fn the_kind_of_server_narrows_and_the_port_follows_it() {
        let listens = |variables: &[(&str, &str)]| {
            let environment = script(variables).unwrap();
            let value = |name| environment.value(name).unwrap_or_default().to_owned();
            (value("SKR_HTTP_LISTEN"), value("SKR_LISTEN"))
        };
        let pair = |http: &str, grpc: &str| (http.to_owned(), grpc.to_owned());
        assert_eq!(listens(&[("Port", "9")]), pair("127.0.0.1:9", ""));
        let grpc = [("ServerType", "grpc"), ("Port", "50000")];
        assert_eq!(listens(&grpc), pair("off", "127.0.0.1:50000"));
        assert_eq!(listens(&[("ServerType", "grpc")]), pair("off", "127.0.0.1:8080"));
        for http in ["http", "GRPC", "anything"] {
            assert_eq!(listens(&[("ServerType", http)]), pair("127.0.0.1:8080", "off"), "{http}");
        }
        for bad in ["http", "65536", "-1", "80 "] {
            assert_eq!(script(&[("Port", bad)]).err(), Some(EnvironmentError::Port), "{bad}");
        }
    }

    #[test]
    fn levels_are_those_that_are_known() {
        for (theirs, ours) in [
            ("trace", "debug"),
            ("debug", "debug"),
            ("info", "info"),
            ("Warning", "warn"),
            ("error", "error"),
            ("fatal", "error"),
            ("panic", "error"),
        ] {
            holds(&script(&[("LogLevel", theirs)]).unwrap(), &[("LOG_LEVEL", ours)]);
        }
        assert_eq!(script(&[("LogLevel", "loud")]).err(), Some(EnvironmentError::LogLevel));
    }

    #[test]
    fn the_script_takes_variables_first_and_the_binary_flags_only() {
        let empty = STANDARD.encode("{}");
        let given = fold(Name::Script, &[("Port", "1")], &[&empty, "2"]).unwrap();
        holds(&given, &[("Port", "1"), ("SkrSideCarArgs", &empty)]);
        let given = fold(Name::Script, &[], &["", "2"]).unwrap();
        holds(&given, &[("Port", "2"), ("SKR_HTTP_LISTEN", "127.0.0.1:2")]);

        let variables = [("Port", "1"), ("ServerType", "grpc"), ("SkrSideCarArgs", "nonsense")];
        let flags = ["-port=3", "--loglevel", "info", "-logfile", "/log"];
        let given = fold(Name::Binary, &variables, &flags).unwrap();
        holds(
            &given,
            &[
                ("Port", "3"),
                ("ServerType", ""),
                ("SkrSideCarArgs", ""),
                ("LogFile", "/log"),
                ("LOG_LEVEL", "info"),
                ("SKR_HTTP_LISTEN", "127.0.0.1:3"),
            ],
        );
        let unknown = fold(Name::Binary, &[], &["-prot=3"]).err();
        assert!(matches!(unknown, Some(EnvironmentError::Flag(FlagError::NotDefined(_)))));
    }

    #[test]
    fn the_arguments_become_variables() {
        let with = |json: &str, more: &[(&str, &str)]| {
            let args = STANDARD.encode(json);
            script(&[&[("SkrSideCarArgs", args.as_str())], more].concat())
        };
        let thim = r#"{"certcache":{"endpoint_type":"LocalTHIM","endpoint":"127.0.0.1:1/thim"},
            "identity":{"client_id":"args"},"maaconfig":{"user_agent":"me"}}"#;
        holds(
            &with(thim, &[("AZURE_CLIENT_ID", "environment")]).unwrap(),
            &[
                ("ATTEST_CERTIFICATE_SOURCES", "context,thim"),
                ("ATTEST_THIM_URL", "http://127.0.0.1:1/thim"),
                ("AZURE_CLIENT_ID", "args"),
                ("ATTEST_MAA_USER_AGENT", "me"),
            ],
        );
        let workload = [
            ("AZURE_CLIENT_ID", "workload"),
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
        ];
        holds(&with(thim, &workload).unwrap(), &[("AZURE_CLIENT_ID", "workload")]);
        let half = with(thim, &workload[1..]).unwrap();
        holds(&half, &[("AZURE_CLIENT_ID", "")]);
        let cache = r#"{"certcache":{"endpoint_type":"AzCache","endpoint":"c.example",
            "tee_type":"T","api_version":"api-version=1","client_id":"clientId=C"}}"#;
        holds(
            &with(cache, &[]).unwrap(),
            &[
                ("ATTEST_CERTIFICATE_SOURCES", "context,thim,azure-cache"),
                ("ATTEST_AZURE_CACHE_URL", "https://c.example/"),
                ("ATTEST_AZURE_CACHE_TEE_TYPE", "T"),
                ("ATTEST_AZURE_CACHE_API_VERSION", "1"),
                ("ATTEST_AZURE_CACHE_CLIENT_ID", "C"),
            ],
        );
        let amd = r#"{"certcache":{"endpoint_type":"AMD","endpoint":"k.example/vcek/v1"}}"#;
        holds(
            &with(amd, &[]).unwrap(),
            &[
                ("ATTEST_CERTIFICATE_SOURCES", "context,thim,kds"),
                ("ATTEST_KDS_URL", "https://k.example/"),
            ],
        );
        assert!(matches!(with("[", &[]).err(), Some(EnvironmentError::Args(_))));
    }

    #[test]
    fn nothing_is_said_twice() {
        for (variables, name) in [
            ([("Port", "1"), ("SKR_HTTP_LISTEN", "127.0.0.1:2")], "SKR_HTTP_LISTEN"),
            ([("ServerType", "http"), ("SKR_LISTEN", "127.0.0.1:2")], "SKR_LISTEN"),
            ([("LogLevel", "info"), ("LOG_LEVEL", "debug")], "LOG_LEVEL"),
            // {"maaconfig":{"user_agent":"me"}}
            (
                [
                    ("SkrSideCarArgs", "eyJtYWFjb25maWciOnsidXNlcl9hZ2VudCI6Im1lIn19"),
                    ("ATTEST_MAA_USER_AGENT", "another"),
                ],
                "ATTEST_MAA_USER_AGENT",
            ),
        ] {
            let error = script(&variables).err().unwrap();
            assert!(matches!(error, EnvironmentError::Twice { name: of, .. } if of == name));
        }
    }
}
