//! As much of XML 1.0 as a storage account's answers are written in: elements, attributes, text, and the entities that
//! need no declaration. A document type, with which entities are declared and bombs are built, is refused, and so is
//! whatever else such an answer has no use for. Nothing that is read becomes longer than it was.
//!
//! Must not know what elements mean.

use std::borrow::Cow;

/// How deep elements may stand in each other.
const DEEPEST: usize = 16;

/// The longest name of an element or attribute.
const LONGEST_NAME: usize = 128;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// An element begins.
    Open(&'a str),
    /// Text in an element.
    Text(Cow<'a, str>),
    /// The innermost element ends.
    Close,
}

/// Not such XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the plain XML of a storage account")]
pub(super) struct NotXml;

/// Reads a document, piece by piece.
pub(super) struct Reader<'a> {
    rest: &'a str,
    open: Vec<&'a str>,
    /// The innermost element was written as an empty one.
    is_empty: bool,
    /// The document's element has begun.
    has_begun: bool,
}

impl<'a> Reader<'a> {
    /// Begins with the declaration, if there is one.
    pub(super) fn new(text: &'a str) -> Result<Self, NotXml> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let rest = match text.strip_prefix("<?xml ") {
            Some(declaration) => declaration.split_once("?>").ok_or(NotXml)?.1,
            None => text,
        };
        Ok(Self { rest, open: Vec::new(), is_empty: false, has_begun: false })
    }

    /// The next piece; `None` at the end of a document that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Event<'a>>, NotXml> {
        if std::mem::take(&mut self.is_empty) {
            self.open.pop();
            return Ok(Some(Event::Close));
        }
        let (text, rest) = self.rest.split_at(self.rest.find('<').unwrap_or(self.rest.len()));
        self.rest = rest;
        if self.open.is_empty() {
            if !text.trim().is_empty() {
                return Err(NotXml);
            }
        } else if !text.is_empty() {
            return Ok(Some(Event::Text(plain(text)?)));
        }
        let Some(tag) = self.rest.strip_prefix('<') else {
            let is_whole = self.has_begun && self.open.is_empty();
            return if is_whole { Ok(None) } else { Err(NotXml) };
        };
        match tag.strip_prefix('/') {
            Some(tag) => {
                let (name, rest) = tag.split_once('>').ok_or(NotXml)?;
                self.rest = rest;
                if self.open.pop() != Some(name.trim_end()) {
                    return Err(NotXml);
                }
                Ok(Some(Event::Close))
            }
            None => self.begin(tag).map(Some),
        }
    }

    fn begin(&mut self, tag: &'a str) -> Result<Event<'a>, NotXml> {
        let is_second = self.has_begun && self.open.is_empty();
        if is_second || self.open.len() >= DEEPEST {
            return Err(NotXml);
        }
        let (name, mut rest) = name(tag)?;
        loop {
            let inner = rest.trim_start();
            if let Some(rest) = inner.strip_prefix("/>") {
                (self.rest, self.is_empty) = (rest, true);
                break;
            }
            if let Some(rest) = inner.strip_prefix('>') {
                self.rest = rest;
                break;
            }
            if inner.len() == rest.len() {
                return Err(NotXml);
            }
            rest = after_attribute(inner)?;
        }
        self.has_begun = true;
        self.open.push(name);
        Ok(Event::Open(name))
    }
}

/// A name, and what follows it.
fn name(text: &str) -> Result<(&str, &str), NotXml> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let end = text.find(|c| !is_of_name(c)).ok_or(NotXml)?;
    let (name, rest) = text.split_at(end);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.len() <= LONGEST_NAME { Ok((name, rest)) } else { Err(NotXml) }
}

/// What follows an attribute, whose value nobody asks for.
fn after_attribute(text: &str) -> Result<&str, NotXml> {
    let (_, rest) = name(text)?;
    let rest = rest.trim_start().strip_prefix('=').ok_or(NotXml)?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(NotXml)?;
    let (value, rest) =
        rest.strip_prefix(quote).and_then(|rest| rest.split_once(quote)).ok_or(NotXml)?;
    if value.contains('<') { Err(NotXml) } else { Ok(rest) }
}

/// Text without its entities.
fn plain(text: &str) -> Result<Cow<'_, str>, NotXml> {
    if !text.contains('&') {
        return Ok(Cow::Borrowed(text));
    }
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (entity, rest) = part.split_once(';').ok_or(NotXml)?;
        plain.push(character(entity).ok_or(NotXml)?);
        plain.push_str(rest);
    }
    Ok(Cow::Owned(plain))
}

fn character(entity: &str) -> Option<char> {
    Some(match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = entity.strip_prefix('#').filter(|number| number.len() <= 8)?;
            let number = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(number.ok()?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Event<'_>>, NotXml> {
        let mut reader = Reader::new(text)?;
        let mut events = Vec::new();
        while let Some(event) = reader.next()? {
            events.push(event);
        }
        Ok(events)
    }

    fn text(text: &str) -> Event<'_> {
        Event::Text(Cow::Borrowed(text))
    }

    #[test]
    fn elements_and_their_text_come_in_order() {
        let document = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<a:b x=\"1 > 0\" y = 'z'>t<c/><d ></d\t>&lt;&#x41;&#66;&amp;</a:b>\n";
        let (open, close) = (Event::Open, || Event::Close);
        let expected =
            [open("a:b"), text("t"), open("c"), close(), open("d"), close(), text("<AB&"), close()];
        assert_eq!(read(document).unwrap(), expected);
        assert_eq!(read("<a/>").unwrap(), [open("a"), close()]);
    }

    #[test]
    fn what_entities_are_declared_with_is_refused() {
        for bomb in [
            "<!DOCTYPE a [<!ENTITY x \"xx\">]><a>&x;</a>",
            "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
            "<a><!ENTITY x \"y\"></a>",
            "<a>&x;</a>",
            "<a>&#x110000;</a>",
            "<a>&#xD800;</a>",
            "<a>&#123456789;</a>",
            "<a>&</a>",
            "<a><![CDATA[x]]></a>",
            "<a><!-- x --></a>",
            "<a><?php x ?></a>",
        ] {
            assert_eq!(read(bomb), Err(NotXml), "{bomb}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a></a>x",
            "<a/><b/>",
            "</a>",
            "<a",
            "<a b></a>",
            "<a b=c></a>",
            "<a b=\"<\"></a>",
            "<a b=\"x\"c=\"y\"/>",
            "<1/>",
            "<?xml <a/>",
            "< a/>",
        ] {
            assert_eq!(read(bad), Err(NotXml), "{bad}");
        }
        let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(read(&nested(DEEPEST)).is_ok());
        assert_eq!(read(&nested(DEEPEST + 1)), Err(NotXml));
        assert_eq!(read(&format!("<{}/>", "a".repeat(LONGEST_NAME + 1))), Err(NotXml));
    }
}
