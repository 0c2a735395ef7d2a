//! The XML of List Blobs, a page at a time, with a delimiter or without.
//!
//! Must not know: who asks.

use crate::encoding::{b64u, from_b64u};

/// What a page is asked with.
pub(super) struct Wanted<'a> {
    pub(super) container: &'a str,
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    /// What the page before gave.
    pub(super) marker: Option<&'a str>,
    /// The most blobs and prefixes of a page.
    pub(super) most: usize,
}

/// A blob of the list.
pub(super) struct Listed<'a> {
    pub(super) name: &'a str,
    pub(super) length: usize,
    pub(super) created: &'a str,
}

/// A list that makes an entity of entities, as an account might that wants to fill a reader's memory.
pub(super) const BOMB: &str = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">\
     <!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]>\
     <EnumerationResults><Blobs><Blob><Name>&c;</Name></Blob></Blobs><NextMarker /></EnumerationResults>";

/// A page without a blob, and the promise of another one.
pub(super) const ENDLESS: &str = "<?xml version=\"1.0\"?><EnumerationResults><Blobs />\
     <NextMarker>again</NextMarker></EnumerationResults>";

/// One page of these blobs, which stand in order; `None`: the marker is none.
pub(super) fn page<'a>(
    wanted: &Wanted<'_>,
    blobs: impl Iterator<Item = Listed<'a>>,
) -> Option<String> {
    let from = match wanted.marker {
        Some(marker) => String::from_utf8(from_b64u(marker).ok()?).ok()?,
        None => String::new(),
    };
    let Wanted { container, prefix, .. } = wanted;
    let mut xml = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
         ServiceEndpoint=\"https://simulated/\" ContainerName=\"{container}\"><Prefix>{}</Prefix><Blobs>",
        escaped(prefix)
    );
    let (mut count, mut next) = (0, None);
    let mut folder = String::new();
    for Listed { name, length, created } in blobs {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let below = wanted.delimiter.and_then(|delimiter| {
            let (part, _) = rest.split_once(delimiter)?;
            Some(format!("{prefix}{part}{delimiter}"))
        });
        let item = below.as_deref().unwrap_or(name);
        if item < from.as_str() || item == folder {
            continue;
        }
        if count == wanted.most {
            next = Some(b64u(item.as_bytes()));
            break;
        }
        count += 1;
        match below {
            Some(below) => {
                let name = escaped(&below);
                xml.push_str(&format!("<BlobPrefix><Name>{name}</Name></BlobPrefix>"));
                folder = below;
            }
            None => xml.push_str(&format!(
                "<Blob><Name>{}</Name><Properties><Creation-Time>{created}</Creation-Time>\
                 <Content-Length>{length}</Content-Length><Content-Encoding />\
                 <BlobType>AppendBlob</BlobType></Properties><OrMetadata /></Blob>",
                escaped(name)
            )),
        }
    }
    let next = next.map_or_else(
        || "<NextMarker />".to_owned(),
        |next| format!("<NextMarker>{next}</NextMarker>"),
    );
    xml.push_str(&format!("</Blobs>{next}</EnumerationResults>"));
    Some(xml)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &Wanted<'_>) -> (Vec<String>, Option<String>) {
        let all = ["a", "b/1", "b/2", "c&d", "e"];
        let blobs = all.iter().map(|name| Listed { name, length: 1, created: "now" });
        let xml = page(wanted, blobs).unwrap();
        let inner = |tag: &str| {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let parts = xml.split(&open).skip(1);
            let parts = parts.filter_map(|part| Some(part.split_once(&close)?.0.to_owned()));
            parts.collect::<Vec<_>>()
        };
        (inner("Name"), inner("NextMarker").pop())
    }

    #[test]
    fn pages_follow_each_other_and_a_prefix_stands_for_what_is_below_it() {
        let wanted = |marker, delimiter, most| Wanted {
            container: "logs",
            prefix: "",
            delimiter,
            marker,
            most,
        };
        let (all, next) = names(&wanted(None, None, 5));
        assert_eq!((all.join(" ").as_str(), next), ("a b/1 b/2 c&amp;d e", None));
        let (first, next) = names(&wanted(None, Some("/"), 2));
        assert_eq!(first.join(" "), "a b/");
        let (second, next) = names(&wanted(next.as_deref(), Some("/"), 2));
        assert_eq!((second.join(" ").as_str(), next), ("c&amp;d e", None));
        let below = Wanted { prefix: "b/", ..wanted(None, Some("/"), 5) };
        assert_eq!(names(&below).0.join(" "), "b/1 b/2");
    }
}
