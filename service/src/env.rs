//! The environment, read once, through a table.
//!
//! The host sets the environment of every container, so each variable of ours is a row of a role's `VARS`
//! table with a class that says what the host may do with it (contract `wire.md` part 4). Nothing else in
//! the group reads the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};
use std::str::FromStr;

use aws_lc_rs::digest;

/// What the host may do with a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes what the group does or trusts. A literal of the enforcement policy, and part of the role's
    /// [`digest`](measured_digest).
    Measured,
    /// A secret. Belongs into the sealed secrets; taken from the environment only with a warning and a mark
    /// in the manifest.
    Sealed,
    /// May be anything: log level, labels.
    Harmless,
}

impl Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measured => "measured",
            Self::Sealed => "sealed",
            Self::Harmless => "harmless",
        })
    }
}

/// One row of a role's table of variables.
#[derive(Clone, Copy, Debug)]
pub struct Var {
    /// The name in the environment.
    pub name: &'static str,
    /// What the host may do with it.
    pub class: Class,
    /// The value that an absent variable has, as it would be written. `None`: absent means absent.
    pub default: Option<&'static str>,
    /// One sentence for the operator.
    pub help: &'static str,
}

/// Prefixes that are ours: a variable that begins with one of them and stands in no table is an error, since
/// it is a typing mistake or an attempt to set something that is not measured (`wire.md` part 4).
const PREFIXES: [&str; 11] = [
    "PROXY_",
    "ATTEST_",
    "SKR_",
    "LOG_",
    "SECRETS_",
    "OWNER_",
    "TLS_",
    "ADMIN_",
    "UPSTREAM_",
    "RATE_LIMIT_",
    "IP_RATE_LIMIT_",
];

/// Variables that every role has.
pub const COMMON: [Var; 2] = [
    Var {
        name: "LOG_SEALER",
        class: Class::Measured,
        default: Some("127.0.0.1:4317"),
        help: "Where this role sends its logs by OTLP/gRPC: host:port on loopback, unix:/path, or `off`.",
    },
    Var {
        name: "LOG_LEVEL",
        class: Class::Harmless,
        default: Some("info"),
        help: "error, warn, info or debug. No level logs prompts, answers, keys or evidence.",
    },
];

/// The variables of a process, so that tests need not touch the real ones.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. What is not UTF-8 is marked by U+FFFD.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    #[must_use]
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .map(|(name, value)| {
                    (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
                })
                .collect(),
        )
    }

    /// The value of a variable that is set and not empty: for whoever makes another environment of this one. A role reads
    /// its own by a [`Reader`].
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The same with this variable as well, or with this value of it.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The same without this variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Everything that is wrong with the environment, for a person, all at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads variables by their row and collects what is wrong with them.
///
/// A role's `read` calls [`Reader::parse`] and its like for every variable first and only then asks with `?`
/// whether all are there, so that the operator sees all mistakes in one go.
#[derive(Debug)]
pub struct Reader<'a> {
    env: &'a Environment,
    vars: Vec<Var>,
    problems: Vec<String>,
    unsealed: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    /// A reader for the role's own table; [`COMMON`] is added to it.
    #[must_use]
    pub fn new(env: &'a Environment, vars: &[Var]) -> Self {
        let vars: Vec<Var> = vars.iter().chain(&COMMON).copied().collect();
        let problems = env
            .0
            .keys()
            .filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .filter(|name| vars.iter().all(|var| var.name != name.as_str()))
            .map(|name| {
                format!("{name} is not a variable of this role: remove it or correct its name")
            })
            .collect();
        Self { env, vars, problems, unsealed: BTreeSet::new() }
    }

    /// Whether the role has this variable at all.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.vars.iter().any(|var| var.name == name)
    }

    /// The value as it stands, or the default of its row. An empty value counts as absent, because templates
    /// pass empty strings for parameters that nobody set.
    fn raw(&mut self, name: &'static str) -> Option<String> {
        let Some(var) = self.vars.iter().find(|var| var.name == name).copied() else {
            self.problems.push(format!("{name} has no row in the table of variables (a bug)"));
            return None;
        };
        let set = self.env.get(name).filter(|value| !value.is_empty());
        if set.is_some() && var.class == Class::Sealed {
            self.unsealed.insert(var.name);
        }
        set.or(var.default).map(str::to_owned)
    }

    /// Whether the environment says something for this variable, and not its row's default.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.env.value(name).is_some()
    }

    /// A value that may be absent.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        let raw = self.raw(name)?;
        match raw.parse() {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(name, &why);
                None
            }
        }
    }

    /// A value that must be there, by the environment or by the default of its row.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        if self.raw(name).is_none() {
            self.problems.push(format!("{name} is not set: {}", self.help(name)));
            return None;
        }
        self.optional(name)
    }

    /// `true`, `1` or `yes` in any case; `false`, `0` or `no`; anything else is a problem.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        let raw = self.raw(name)?;
        match raw.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Some(true),
            "false" | "0" | "no" => Some(false),
            _ => {
                self.refuse(name, &"must be true or false");
                None
            }
        }
    }

    /// Records that a value that could be read cannot be used. The value itself is never repeated: it may be
    /// a secret in the wrong variable.
    pub fn refuse(&mut self, name: &str, why: &dyn Display) {
        self.problems.push(format!("{name}: {why}"));
    }

    fn help(&self, name: &str) -> &'static str {
        self.vars.iter().find(|var| var.name == name).map_or("", |var| var.help)
    }

    /// The configuration, or every problem that was found.
    ///
    /// # Errors
    ///
    /// [`Problems`], never empty.
    pub fn finish<C>(mut self, config: Option<C>) -> Result<(C, Measured), Problems> {
        match config {
            Some(config) if self.problems.is_empty() => Ok((
                config,
                Measured {
                    digest: measured_digest(self.env, &self.vars),
                    unsealed: self.unsealed.into_iter().collect(),
                },
            )),
            _ => {
                if self.problems.is_empty() {
                    self.problems.push("the configuration is incomplete (a bug)".to_owned());
                }
                Err(Problems(self.problems))
            }
        }
    }
}

/// What the environment contributes to the identity of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// [`measured_digest`] of the role's variables.
    pub digest: [u8; 32],
    /// Sealed variables whose value came from the environment after all.
    pub unsealed: Vec<&'static str>,
}

/// SHA-256 over `LP(name) ‖ LP(value)` of every measured variable that is set, in name order; `LP(x)` is the
/// length of x as u32 big-endian, then x (`wire.md` part 4). An empty value counts as not set.
#[must_use]
pub fn measured_digest(env: &Environment, vars: &[Var]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let measured: BTreeSet<&str> =
        vars.iter().filter(|var| var.class == Class::Measured).map(|var| var.name).collect();
    for name in measured {
        if let Some(value) = env.get(name).filter(|value| !value.is_empty()) {
            for part in [name.as_bytes(), value.as_bytes()] {
                let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                context.update(&length.to_be_bytes());
                context.update(part);
            }
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The table as Markdown rows, for the generated documentation: name, class, default, help.
#[must_use]
pub fn markdown(vars: &[Var]) -> String {
    let mut rows = vars.to_vec();
    rows.sort_by_key(|var| var.name);
    let mut out =
        String::from("| variable | class | default | what it does |\n|---|---|---|---|\n");
    for Var { name, class, default, help } in rows {
        let default = default.map_or_else(String::new, |value| format!("`{value}`"));
        writeln!(out, "| `{name}` | {class} | {default} | {help} |")
            .expect("writing to a String cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARS: [Var; 3] = [
        Var {
            name: "PROXY_LISTEN",
            class: Class::Measured,
            default: Some("127.0.0.1:1"),
            help: "Where.",
        },
        Var { name: "UPSTREAM_URL", class: Class::Measured, default: None, help: "Set it." },
        Var { name: "ADMIN_PASSWORD", class: Class::Sealed, default: None, help: "Secret." },
    ];

    fn read(pairs: &[(&str, &str)]) -> Result<((std::net::SocketAddr, String), Measured), String> {
        let env: Environment = pairs.iter().map(|(n, v)| (*n, *v)).collect();
        let mut reader = Reader::new(&env, &VARS);
        let listen = reader.parse("PROXY_LISTEN");
        let upstream = reader.parse("UPSTREAM_URL");
        let _ = reader.optional::<String>("ADMIN_PASSWORD");
        let config = listen.zip(upstream);
        reader.finish(config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn every_problem_is_reported_at_once_and_no_value_is_repeated() {
        let problems = read(&[
            ("PROXY_LISTEN", "s3cret"),
            ("PROXY_LISTN", "127.0.0.1:2"),
            ("UPSTREAM_URL", ""),
        ])
        .unwrap_err();
        assert!(problems.contains("PROXY_LISTEN: "), "{problems}");
        assert!(problems.contains("PROXY_LISTN is not a variable of this role"), "{problems}");
        assert!(problems.contains("UPSTREAM_URL is not set: Set it."), "{problems}");
        assert!(!problems.contains("s3cret"), "{problems}");
    }

    #[test]
    fn foreign_variables_are_left_alone() {
        let ((listen, upstream), _) =
            read(&[("PATH", "/bin"), ("UPSTREAM_URL", "http://u"), ("OTELX", "y")]).unwrap();
        assert_eq!(listen.port(), 1);
        assert_eq!(upstream, "http://u");
    }

    #[test]
    fn a_secret_from_the_environment_is_marked() {
        let (_, measured) = read(&[("UPSTREAM_URL", "u"), ("ADMIN_PASSWORD", "p")]).unwrap();
        assert_eq!(measured.unsealed, ["ADMIN_PASSWORD"]);
    }

    #[test]
    fn only_measured_variables_change_the_digest() {
        let digest = |pairs: &[(&str, &str)]| read(pairs).unwrap().1.digest;
        let base = digest(&[("UPSTREAM_URL", "u")]);
        assert_eq!(base, digest(&[("UPSTREAM_URL", "u"), ("ADMIN_PASSWORD", "p")]));
        assert_eq!(base, digest(&[("UPSTREAM_URL", "u"), ("LOG_LEVEL", "debug")]));
        assert_eq!(base, digest(&[("UPSTREAM_URL", "u"), ("PROXY_LISTEN", "")]));
        assert_ne!(base, digest(&[("UPSTREAM_URL", "v")]));
        assert_ne!(base, digest(&[("UPSTREAM_URL", "u"), ("PROXY_LISTEN", "127.0.0.1:1")]));
    }

    #[test]
    fn the_digest_is_the_one_of_the_contract() {
        // sha256( 0000000c "UPSTREAM_URL" 00000001 "u" ), computed with coreutils
        let (_, measured) = read(&[("UPSTREAM_URL", "u")]).unwrap();
        assert_eq!(
            hex::encode(measured.digest),
            "5cb84ef61c8d96e9c596eb2a0cc6968f0803ef1b92588ec2a22c3c51475c9aaa"
        );
    }
}
