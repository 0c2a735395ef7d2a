//! A page of a container's list of blobs (REST reference of Blob Storage, "List Blobs").
//!
//! Must not know which blobs are a log's.

use super::xml::{Event, NotXml, Reader};

/// The longest marker of the next page.
const LONGEST_MARKER: usize = 4096;

/// The longest text of one element that is kept.
const LONGEST_TEXT: usize = 4096;

/// A blob that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    /// In bytes.
    pub(super) length: u64,
    /// When it was made, as the account writes it: another blob under the same name has another time.
    pub(super) created: Option<String>,
}

/// A page of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) blobs: Vec<Found>,
    /// How to ask for the next page; `None`: this is the last one.
    pub(super) next: Option<String>,
}

/// Not a page of such a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAListing {
    /// Not XML as it writes it.
    #[error("it is not plain XML")]
    Xml,
    /// Other elements, or other values.
    #[error("it does not list blobs")]
    Form,
}

impl From<NotXml> for NotAListing {
    fn from(NotXml: NotXml) -> Self {
        Self::Xml
    }
}

/// What is known of a blob while its element is open.
#[derive(Default)]
struct Partial {
    name: Option<String>,
    length: Option<String>,
    created: Option<String>,
}

/// Reads a page.
pub(super) fn parse(body: &[u8]) -> Result<Page, NotAListing> {
    let text = str::from_utf8(body).map_err(|_| NotAListing::Xml)?;
    let mut reader = Reader::new(text)?;
    let mut page = Page { blobs: Vec::new(), next: None };
    let (mut path, mut partial) = (Vec::new(), Partial::default());
    while let Some(event) = reader.next()? {
        match event {
            Event::Open(name) => path.push(name),
            Event::Text(text) => {
                let member = match path.as_slice() {
                    ["EnumerationResults", "NextMarker"] => &mut page.next,
                    ["EnumerationResults", "Blobs", "Blob", rest @ ..] => match rest {
                        ["Name"] => &mut partial.name,
                        ["Properties", "Content-Length"] => &mut partial.length,
                        ["Properties", "Creation-Time"] => &mut partial.created,
                        _ => continue,
                    },
                    _ => continue,
                };
                let is_new = member.replace(text.into_owned()).is_none();
                let fits = member.as_ref().is_some_and(|text| text.len() <= LONGEST_TEXT);
                if !is_new || !fits {
                    return Err(NotAListing::Form);
                }
            }
            Event::Close => {
                if path.as_slice() == ["EnumerationResults", "Blobs", "Blob"] {
                    page.blobs.push(std::mem::take(&mut partial).whole()?);
                }
                if path.pop() != Some("EnumerationResults") && path.is_empty() {
                    return Err(NotAListing::Form);
                }
            }
        }
    }
    let is_marker = |marker: &String| {
        marker.len() <= LONGEST_MARKER && marker.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if page.next.as_ref().is_some_and(|marker| !is_marker(marker)) {
        return Err(NotAListing::Form);
    }
    Ok(page)
}

impl Partial {
    fn whole(self) -> Result<Found, NotAListing> {
        let length = self.length.and_then(|length| length.trim().parse().ok());
        match (self.name, length) {
            (Some(name), Some(length)) => Ok(Found { name, length, created: self.created }),
            _ => Err(NotAListing::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the reference shows one, with what a delimiter adds.
    const PAGE: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\
        <EnumerationResults ServiceEndpoint=\"https://a.blob.core.windows.net/\" ContainerName=\"logs\">\
        <Prefix>x/</Prefix><MaxResults>2</MaxResults><Delimiter>/</Delimiter><Blobs>\
        <Blob><Name>x/a&amp;b.jsonl</Name><Properties><Creation-Time>Mon, 23 Nov 2026 10:00:00 GMT</Creation-Time>\
        <Etag>0x8D</Etag><Content-Length>12</Content-Length><Content-Encoding /><BlobType>AppendBlob</BlobType>\
        </Properties><OrMetadata /></Blob>\
        <BlobPrefix><Name>x/y/</Name></BlobPrefix>\
        <Blob><Name>x/c</Name><Properties><Content-Length>0</Content-Length></Properties>\
        <Metadata><Name>not the blob's</Name></Metadata></Blob>\
        </Blobs><NextMarker>2!8!eA--</NextMarker></EnumerationResults>";

    #[test]
    fn a_page_says_which_blobs_there_are_and_whether_more_follow() {
        let page = parse(PAGE.as_bytes()).unwrap();
        let created = Some("Mon, 23 Nov 2026 10:00:00 GMT".to_owned());
        let first = Found { name: "x/a&b.jsonl".to_owned(), length: 12, created };
        let second = Found { name: "x/c".to_owned(), length: 0, created: None };
        assert_eq!(page, Page { blobs: vec![first, second], next: Some("2!8!eA--".to_owned()) });
        let last = PAGE.replace("<NextMarker>2!8!eA--</NextMarker>", "<NextMarker />");
        assert_eq!(parse(last.as_bytes()).unwrap().next, None);
    }

    #[test]
    fn what_lists_no_blobs_is_refused() {
        for (from, to) in [
            ("<Content-Length>12</Content-Length>", ""),
            ("<Content-Length>12<", "<Content-Length>-1<"),
            ("<Content-Length>12<", "<Content-Length>18446744073709551616<"),
            ("<Name>x/c</Name>", ""),
            ("<Name>x/c</Name>", "<Name>x/c</Name><Name>x/d</Name>"),
            ("2!8!eA--", "a b"),
            ("2!8!eA--", "a&#10;b"),
            ("2!8!eA--", "a</NextMarker><NextMarker>b"),
            ("EnumerationResults", "Error"),
        ] {
            let changed = PAGE.replace(from, to);
            assert_eq!(parse(changed.as_bytes()), Err(NotAListing::Form), "{from} {to}");
        }
        let long = PAGE.replace("2!8!eA--", &"a".repeat(LONGEST_TEXT + 1));
        assert_eq!(parse(long.as_bytes()), Err(NotAListing::Form));
        assert_eq!(parse(&PAGE.as_bytes()[..PAGE.len() - 1]), Err(NotAListing::Xml));
        assert_eq!(parse(b"\xff"), Err(NotAListing::Xml));
        let bomb = PAGE.replace("<Prefix>", "<!DOCTYPE x [<!ENTITY a \"aa\">]><Prefix>&a;");
        assert_eq!(parse(bomb.as_bytes()), Err(NotAListing::Xml));
    }
}
