//! A policy as people write it: TOML or JSON, read strictly.
//!
//! This module must not know where the text comes from.

use crate::json;
use crate::policy::Policy;

/// A text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// Not TOML, or a name or value that a policy does not have.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// Not JSON.
    #[error(transparent)]
    Json(#[from] json::NotStrict),
    /// JSON with a name or value that a policy does not have.
    #[error(transparent)]
    Members(#[from] serde_json::Error),
}

/// Reads a policy. A text that begins with `{` is JSON.
///
/// # Errors
///
/// [`PolicyFileError`]. What is not said is as strict as it can be; an unknown name is an error.
pub fn parse(text: &str) -> Result<Policy, PolicyFileError> {
    if text.trim_start().starts_with('{') {
        // Of two rows for one generation, say, serde would take the last.
        Ok(serde_json::from_value(json::parse(text.as_bytes())?)?)
    } else {
        Ok(toml::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Expect, Hex};

    #[test]
    fn a_policy_says_everything_or_why_not() {
        let whole = format!(
            "host_data = [\"{}\"]\nminimum_tcb = {{ unchecked = \"a test\" }}\n",
            "00".repeat(32)
        );
        let policy = parse(&whole).unwrap();
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
            let why = parse(text).unwrap_err().to_string();
            assert!(why.contains(names), "{why}");
        }
        let silent = parse("host_data = []").unwrap();
        let built_in = Policy::for_host_data(Expect::Value(vec![]));
        assert_eq!(silent, built_in, "what is not said is as strict as it can be");

        // As the documentation of `attestation::policy` has it.
        let parts = "host_data = []\nvmpl = { unchecked = \"a paravisor\" }\n[minimum_tcb.milan]\n\
                     bootloader = 4\ntee = 0\nsnp = 24\nmicrocode = 219\n[guest_policy]\n\
                     required = [\"single-socket\"]\n[firmware]\n\
                     minimum = { major = 1, minor = 55, build = 29 }\n[revocation]\n\
                     list = \"required\"\n";
        assert!(parse(parts).is_ok());

        let json = r#"{"host_data":{"unchecked":"looking"},"minimum_tcb":{"milan":{"bootloader":3,"tee":0,"snp":8,"microcode":115}}}"#;
        assert!(parse(json).is_ok());
        let row =
            |level| format!(r#""milan":{{"bootloader":{level},"tee":0,"snp":0,"microcode":0}}"#);
        let twice = format!(r#"{{"host_data":[],"minimum_tcb":{{{},{}}}}}"#, row(9), row(0));
        assert!(parse(&twice).is_err(), "a row that stands twice");
    }
}
