//! `GET /attestation` for a person in a browser: what this server is, what a proof covers and what not, how to check it.
//!
//! The text is `page.html`; here its gaps are filled, and nothing gets into it that was not escaped. The page has no
//! script and loads nothing. It must not know where manifest and evidence come from.

use std::fmt::Write as _;

use attestation::crypto::sha256;
use attestation::wire::Manifest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const TEMPLATE: &str = include_str!("page.html");

/// What the page tells.
pub(crate) struct Facts<'a> {
    /// The manifest's exact bytes.
    pub(crate) manifest: &'a [u8],
    /// How the proxy does TLS, as the manifest names it.
    pub(crate) mode: &'a str,
    /// The first of the server's names.
    pub(crate) hostname: &'a str,
    /// The instance of Azure Attestation, as URL.
    pub(crate) maa: &'a str,
    /// Unix seconds.
    pub(crate) made: u64,
}

/// What the page may do: show its own style, by its digest, and nothing else.
#[derive(Clone)]
pub(crate) struct ContentSecurityPolicy(pub(crate) HeaderValue);

impl ContentSecurityPolicy {
    pub(crate) fn of_page() -> Self {
        let digest = STANDARD.encode(sha256(style(TEMPLATE).as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Self(HeaderValue::try_from(policy).expect("base64 and ASCII are a header"))
    }
}

/// What stands in the page's one style element.
fn style(page: &str) -> &str {
    let inside = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
    inside.map_or("", |(style, _)| style)
}

/// Writes the page.
pub(crate) fn page(facts: &Facts<'_>) -> String {
    let manifest: Option<Manifest> = serde_json::from_slice(facts.manifest).ok();
    let url = format!("https://{}", facts.hostname);
    fill(TEMPLATE, |gap| {
        Some(match gap {
            "key" => key(facts.mode).to_owned(),
            "url" => escape(&url),
            "maa" => escape(facts.maa),
            "made" => moment(facts.made),
            "facts" => rows(manifest.iter().flat_map(told)),
            "manifest" => escape(&String::from_utf8_lossy(facts.manifest)),
            "checks" => {
                rows(attestation::checks::guest().map(|one| (one.id, one.title.to_owned())))
            }
            _ => return None,
        })
    })
}

fn key(mode: &str) -> &'static str {
    if mode == "attested" {
        "Its TLS key was made inside and has never left, and the hardware's evidence for that is in its certificate."
    } else if mode == "released" {
        "Its TLS key is the owner's, released by a vault to this group, and signs inside. Whoever can release it elsewhere \
         can pose as this server to everybody who does not verify the connection itself."
    } else {
        "Its TLS key came from outside: whoever else holds it can pose as this server to everybody who does not verify \
         the connection itself."
    }
}

/// A manifest as names and values.
pub(crate) fn told(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let or = |value: &Option<String>, without: &str| value.clone().unwrap_or(without.to_owned());
    let head = manifest.log_head.as_ref();
    let head = head.map(|head| format!("record {}, {}", head.seq, hex::encode(head.digest)));
    let mut told = vec![
        ("service", manifest.service.clone()),
        ("version", manifest.version.clone()),
        ("started", moment(manifest.started)),
        ("boot", manifest.boot_id.clone()),
        ("names", manifest.hostnames.join(", ")),
        ("TLS mode", manifest.tls.mode.clone()),
        ("roots that its roles believe", manifest.anchors.clone()),
        ("owner's key", or(&manifest.owner_key, "none")),
        ("key of the sealed log", or(&manifest.log_key, "none yet")),
        ("newest log record", or(&head, "none yet")),
        ("admin pages", or(&manifest.admin, "only on proved connections")),
    ];
    for (role, digest) in &manifest.config {
        let digest = or(digest, "this role did not answer");
        told.push(("digest of measured variables", format!("{role}: {digest}")));
    }
    for secret in &manifest.unsealed {
        told.push(("secret that came from the environment", secret.clone()));
    }
    told
}

fn moment(unix: u64) -> String {
    let time =
        i64::try_from(unix).ok().and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| unix.to_string())
}

fn rows(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut out = String::new();
    for (name, value) in rows {
        writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(&value))
            .expect("writing to a String cannot fail");
    }
    out
}

/// Fills the gaps, `{{name}}`, in one pass, so that what fills one is never read as another. A gap that nobody knows
/// stays as it is.
fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let filled = after.split_once("}}").and_then(|(gap, left)| Some((value(gap)?, left)));
        if let Some((text, left)) = filled {
            out.push_str(&text);
            rest = left;
        } else {
            out.push_str("{{");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Text that is text, in an element and in a quoted attribute alike.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "</pre><script>alert(1)</script><img src=x onerror='a()'>\"&{{key}}{{facts}}";

    fn manifest(text: &str) -> Vec<u8> {
        let manifest = serde_json::json!({
            "v": 1, "service": text, "version": text, "boot_id": text, "started": 1_764_000_000,
            "hostnames": [text], "tls": {"mode": text}, "owner_key": text, "log_key": text,
            "log_head": {"seq": 7, "digest": attestation::encoding::to_b64u(&[1; 32])},
            "config": {text: text}, "anchors": text, "unsealed": [text], "admin": text,
        });
        serde_json::to_vec(&manifest).unwrap()
    }

    fn with(manifest: &[u8], text: &str) -> String {
        page(&Facts { manifest, mode: "attested", hostname: text, maa: text, made: 1_764_000_001 })
    }

    #[test]
    fn everything_that_is_told_is_on_the_page_and_every_gap_is_filled() {
        let page = with(&manifest("witness"), "group.example");
        for part in [
            "pmc verify https://group.example --policy",
            "<tr><th>newest log record</th><td>record 7, 0101",
            "<tr><th>digest of measured variables</th><td>witness: witness</td></tr>",
            "<tr><th>C1</th><td>",
            "<tr><th>B3</th><td>",
            "2025-11-24T16:00:01Z",
            "was made inside",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("{{"), "{page}");
        let from_files = Facts {
            manifest: b"not JSON",
            mode: "files",
            hostname: "h",
            maa: "https://maa.example",
            made: u64::MAX,
        };
        assert!(super::page(&from_files).contains("came from outside"));
    }

    #[test]
    fn hostile_text_stays_text() {
        let honest = with(&manifest("honest"), "honest");
        let hostile = with(&manifest(HOSTILE), HOSTILE);
        assert_eq!(tags(&honest), tags(&hostile), "no tag came in");
        assert!(!hostile.contains("<script") && !hostile.contains("<img"));
        assert!(hostile.contains("&lt;script&gt;") && hostile.contains("{{facts}}"));
        // Nor by a manifest that cannot be read as one.
        let garbage = with(HOSTILE.as_bytes(), "honest");
        assert!(!garbage.contains("<script") && garbage.contains("&lt;script&gt;"));
    }

    fn tags(page: &str) -> usize {
        page.matches('<').count() + page.matches('"').count() + page.matches('\'').count()
    }

    #[test]
    fn the_policy_names_the_style_that_is_there_and_nothing_is_loaded() {
        let page = with(&manifest("witness"), "group.example");
        let policy = ContentSecurityPolicy::of_page().0;
        let digest = STANDARD.encode(sha256(style(&page).as_bytes()));
        assert!(style(&page).contains("max-width"));
        assert!(policy.to_str().unwrap().contains(&format!("style-src 'sha256-{digest}'")));
        assert!(policy.to_str().unwrap().starts_with("default-src 'none';"));
        for loader in ["<script", "src=", "href=", "style=", "@import", "url("] {
            assert!(!page.contains(loader), "{loader}");
        }
    }
}
