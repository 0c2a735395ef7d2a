//! What the person expects: anchors and policy, from options and files.

use std::path::{Path, PathBuf};

use attestation::policy::Hex;
use attestation::{Anchors, Expect, Policy, danger, json};
use clap::Args;

use super::Failure;
use crate::offline;

/// Options that say whom to believe and what to accept.
#[derive(Debug, Args)]
pub(super) struct Expectations {
    #[command(flatten)]
    group: GroupOptions,
    #[command(flatten)]
    roots: Roots,
}

/// Options that say which group is meant.
#[derive(Debug, Args)]
pub(super) struct GroupOptions {
    /// Reference values of the group: a policy file (TOML or JSON).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// SHA-256 of an enforcement policy that is allowed (64 hexadecimal digits); may be given several times.
    #[arg(long, value_name = "HEX")]
    host_data: Vec<Hex<32>>,
}

/// The option that says whom to believe.
#[derive(Debug, Args)]
pub(super) struct Roots {
    /// DANGER: believe the roots in this PEM file instead of AMD's and Microsoft's, for simulations.
    #[arg(long, value_name = "PEM")]
    danger_anchors: Option<PathBuf>,
    /// AMD's revocation list (PEM or DER), beside whatever the evidence brings; may be given several times.
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
}

impl Roots {
    /// The anchors to hold.
    pub(super) fn anchors(&self) -> Result<Anchors, Failure> {
        self.crl.iter().try_fold(self.roots()?, |anchors, path| {
            let list = offline::list(path).map_err(|error| Failure::unusable(&error))?;
            Ok(anchors.with_list(list))
        })
    }

    fn roots(&self) -> Result<Anchors, Failure> {
        let Some(path) = &self.danger_anchors else { return Ok(Anchors::production()) };
        let text = text_of(path)?;
        danger::Anchors::from_pem(&text)
            .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))
    }
}

impl Expectations {
    /// The anchors to hold.
    pub(super) fn anchors(&self) -> Result<Anchors, Failure> {
        self.roots.anchors()
    }

    /// See [`GroupOptions::policy`].
    pub(super) fn policy(&self, otherwise: Expect<Vec<Hex<32>>>) -> Result<Policy, Failure> {
        self.group.policy(otherwise)
    }
}

impl GroupOptions {
    /// The policy to hold; `otherwise` stands where neither a file nor digests are given.
    pub(super) fn policy(&self, otherwise: Expect<Vec<Hex<32>>>) -> Result<Policy, Failure> {
        let digests = Expect::Value(self.host_data.clone());
        let given = !self.host_data.is_empty();
        let Some(path) = &self.policy else {
            return Ok(Policy::for_host_data(if given { digests } else { otherwise }));
        };
        let mut policy = parse(&text_of(path)?, path)?;
        if given {
            policy.host_data = digests;
        }
        Ok(policy)
    }
}

fn parse(text: &str, path: &Path) -> Result<Policy, Failure> {
    let parsed = if text.trim_start().starts_with('{') {
        // Of two rows for one generation, say, serde would take the last.
        json::parse(text.as_bytes())
            .map_err(|error| error.to_string())
            .and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()))
    } else {
        toml::from_str(text).map_err(|error| error.to_string())
    };
    parsed.map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))
}

/// The longest policy or set of anchors that is read, in bytes.
const MAX_LENGTH: usize = 1024 * 1024;

fn text_of(path: &Path) -> Result<String, Failure> {
    let bytes = offline::read(path, MAX_LENGTH).map_err(|error| Failure::unusable(&error))?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::Unusable(format!("{} is not text", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_everything_or_why_not() {
        let path = Path::new("policy.toml");
        let whole = format!(
            "host_data = [\"{}\"]\nminimum_tcb = {{ unchecked = \"a test\" }}\n",
            "00".repeat(32)
        );
        let policy = parse(&whole, path).unwrap();
        assert_eq!(policy.host_data, Expect::Value(vec![Hex([0; 32])]));
        assert_eq!(policy.minimum_tcb, Expect::unchecked("a test"));
        assert_eq!(policy.vmpl, Expect::Value(0));

        for (text, names) in [
            ("minimum_tcb = { unchecked = \"x\" }", "host_data"),
            (&format!("{whole}hostdata = []"), "hostdata"),
            ("host_data = [\"zz\"]\nminimum_tcb = { unchecked = \"x\" }", "host_data"),
            ("host_data = { unchecked = \" \" }\nminimum_tcb = { unchecked = \"x\" }", "host_data"),
            (
                "host_data = []\nminimum_tcb = { unchecked = \"x\", milan = { bootloader = 9, tee = 9, \
                 snp = 9, microcode = 9 } }",
                "minimum_tcb",
            ),
        ] {
            let Err(Failure::Unusable(why)) = parse(text, path) else { panic!("{text}") };
            assert!(why.contains(names), "{why}");
        }
        let silent = parse("host_data = []", path).unwrap();
        let built_in = Policy::for_host_data(Expect::Value(vec![]));
        assert_eq!(silent, built_in, "what is not said is as strict as it can be");

        // As the documentation of `attestation::policy` has it.
        let parts = "host_data = []\nvmpl = { unchecked = \"a paravisor\" }\n[minimum_tcb.milan]\n\
                     bootloader = 4\ntee = 0\nsnp = 24\nmicrocode = 219\n[guest_policy]\n\
                     required = [\"single-socket\"]\n[firmware]\n\
                     minimum = { major = 1, minor = 55, build = 29 }\n[revocation]\n\
                     list = \"required\"\n";
        assert!(parse(parts, path).is_ok());

        let json = r#"{"host_data":{"unchecked":"looking"},"minimum_tcb":{"milan":{"bootloader":3,"tee":0,"snp":8,"microcode":115}}}"#;
        assert!(parse(json, path).is_ok());
        let row =
            |level| format!(r#""milan":{{"bootloader":{level},"tee":0,"snp":0,"microcode":0}}"#);
        let twice = format!(r#"{{"host_data":[],"minimum_tcb":{{{},{}}}}}"#, row(9), row(0));
        assert!(parse(&twice, path).is_err(), "a row that stands twice");
    }
}
