//! The file of values to seal: TOML or JSON with `group`, `version` and `values`.
//!
//! An envelope cannot be opened by who made it, so this file is where the operator's numbering lives. Nothing of its
//! text is repeated in errors: any line may hold a secret, in the wrong place too. What the parsers of TOML and JSON
//! keep of it is not zeroed; the machine is the operator's own.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;

use attestation::json;
use attestation::secrets::{MAX_ENVELOPE, Refusal, Secrets};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Failure, private_file};

/// The file, as its readers have it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    group: String,
    version: NonZeroU64,
    values: BTreeMap<String, String>,
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Secrets, Failure> {
    let text = private_file::read(path, MAX_ENVELOPE)?;
    let secrets = parse(&text).and_then(|secrets| {
        secrets.check().map_err(|refusal: Refusal| refusal.to_string())?;
        Ok(secrets)
    });
    secrets.map_err(|why| Failure::Unusable(format!("{}: {why}", path.display())))
}

fn parse(text: &[u8]) -> Result<Secrets, String> {
    const FORM: &str = "must have `group` (a text), `version` (1 or more) and `values` (texts by name), in TOML or \
                        JSON, and nothing else";
    let is_json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let file: File = if is_json {
        let document = json::parse(text).map_err(|error| error.to_string())?;
        serde_json::from_value(document).map_err(|_| FORM.to_owned())?
    } else {
        let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8".to_owned())?;
        toml::from_str(text).map_err(|error| at_line(text, &error, FORM))?
    };
    let File { group, version, values } = file;
    let values = values.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
    Ok(Secrets { version, group, values })
}

fn at_line(text: &str, error: &toml::de::Error, form: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {form}")
}

/// The text of such a file.
pub(super) fn text(secrets: &Secrets) -> Result<Zeroizing<String>, Failure> {
    let values = &secrets.values;
    let file = File {
        group: secrets.group.clone(),
        version: secrets.version,
        values: values.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
    };
    let text = toml::to_string(&file).map(Zeroizing::new);
    for mut value in file.values.into_values() {
        zeroize::Zeroize::zeroize(&mut value);
    }
    text.map_err(|_| Failure::Unusable("the version is too high for TOML".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "group = \"g\"\nversion = 7\n[values]\nA = \"x'\\\"\\\\ü\"\n";

    #[test]
    fn both_forms_are_read_and_what_is_written_reads_back() {
        let secrets = parse(TOML.as_bytes()).ok().unwrap();
        assert_eq!((secrets.group.as_str(), secrets.version.get()), ("g", 7));
        assert_eq!(secrets.values["A"].as_str(), "x'\"\\ü");
        let json = r#" {"group":"g","version":7,"values":{"A":"x'\"\\ü"}}"#;
        assert!(parse(json.as_bytes()).ok().unwrap() == secrets);
        assert!(parse(text(&secrets).unwrap().as_bytes()).ok().unwrap() == secrets);
    }

    #[test]
    fn a_mistake_is_named_by_its_line_and_no_value_is_repeated() {
        for (text, line) in [
            ("group = \"g\"\nversion = \"s3cret\"\n[values]\n", "line 2: "),
            ("group = \"g\"\nversion = 0\n[values]\n", "line 2: "),
            ("group = \"g\"\nversion = 1\n[values]\nA = s3cret\n", "line 4: "),
            ("group = \"g\"\nversion = 1\ns3cret = 1\n[values]\n", "line 3: "),
            ("{\"group\":\"g\",\"version\":1,\"values\":{\"A\":\"s3cret\",\"A\":\"b\"}}", "twice"),
            ("{\"group\":\"g\",\"version\":\"s3cret\",\"values\":{}}", "must have"),
            ("group = \"g\"\n", "must have"),
        ] {
            let why = parse(text.as_bytes()).err().unwrap();
            assert!(why.contains(line) && !why.contains("s3cret"), "{why}");
        }
    }
}
