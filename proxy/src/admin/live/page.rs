//! A view for people: a page that never stops coming. No script: the browser shows what is there so far.
//!
//! What records hold was written by programs that strangers talk to. Nothing of it gets into the page that was not escaped, a record
//! stays one line, and control characters and those that turn the direction of writing are spelt out.

use askama::Template;
use http::{Response, StatusCode};
use proto::log::{Watched, WatchedRecord};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::asking::Asking;
use super::super::error::AdminError;
use super::super::session::Open;
use super::super::shell::Shell;
use super::super::{Admin, respond};
use super::feed::Form;
use super::filter::{Filter, name_of};
use super::{End, may_open, open};
use crate::body::Body;
use crate::page::escape;
use crate::printable::printable;

/// Where the records come, between the two halves of the page. Nothing else in it can be this: `<` is escaped elsewhere.
const HERE: &str = "<!--records-->";

#[derive(Template)]
#[template(path = "admin/logs.html")]
struct LogsPage<'a> {
    shell: Shell<'a>,
    filter: &'a Filter,
}

/// The page.
pub(in super::super) async fn page(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
) -> Result<Response<Body>, AdminError> {
    may_open(asking)?;
    let filter = Filter::of(&asking.query)?;
    let template = LogsPage { shell: Shell::new(admin, asking, session, "logs"), filter: &filter };
    if asking.is_head {
        return Ok(respond::page(StatusCode::OK, &template));
    }
    let text = template.render().expect("writing to a String cannot fail");
    let (head, foot) = text.split_once(HERE).expect("the template has this comment");
    let again = format!("{}admin/logs{}", asking.up(), escape(&filter.query()));
    let growing = Growing { head: head.to_owned(), foot: foot.to_owned(), again };
    let body = open(admin, session, &filter, growing).await?;
    Ok(respond::page_of(StatusCode::OK, body))
}

/// The page as it grows.
struct Growing {
    head: String,
    foot: String,
    /// The same page once more, as it stands in a link.
    again: String,
}

impl Form for Growing {
    fn beginning(&mut self) -> String {
        std::mem::take(&mut self.head)
    }

    fn records(&self, watched: &Watched) -> String {
        let missed = match watched.missed {
            0 => String::new(),
            1 => "<li class=\"missed\">1 record is left out here: it came too fast.</li>\n"
                .to_owned(),
            many => format!(
                "<li class=\"missed\">{many} records are left out here: they came too fast.</li>\n"
            ),
        };
        missed + &watched.records.iter().map(item).collect::<String>()
    }

    fn alive(&self) -> &'static str {
        "<!-- -->\n"
    }

    fn end(&self, why: End) -> String {
        let Self { foot, again, .. } = self;
        let words = if why == End::Session { "Log in and watch on" } else { "Watch on" };
        let why = why.text();
        // the two elements that the records stand in
        format!(
            "</ol>\n</div>\n<p class=\"said\" role=\"status\">{why} <a href=\"{again}\">{words}</a></p>\n{foot}"
        )
    }
}

/// A record as an item of the list.
fn item(record: &WatchedRecord) -> String {
    let WatchedRecord {
        time_unix_nano,
        service,
        severity_number,
        severity_text,
        event_name,
        body,
        attributes,
        trace_id,
        span_id,
        cut,
    } = record;
    let class = name_of(*severity_number);
    let severity = if severity_text.is_empty() { class } else { severity_text.as_str() };
    let time = time_of(*time_unix_nano);
    let mut out = format!("<li class=\"record is-{class}\"><p>");
    if let Some(time) = &time {
        // hours to milliseconds
        let short = time.get(11..23).unwrap_or(time);
        out += &format!("<time datetime=\"{time}\" title=\"{time}\">{short}</time> ");
    }
    for (class, text) in [("severity", severity), ("service", service), ("event", event_name)] {
        if !text.is_empty() {
            out += &format!("<span class=\"{class}\">{}</span> ", shown(text));
        }
    }
    out += &format!("<span class=\"body\">{}</span></p>", shown(body));
    let ids = [("trace_id", trace_id), ("span_id", span_id)];
    let ids = ids.into_iter().filter(|(_, id)| !id.is_empty());
    let pairs = attributes.iter().map(|one| (one.key.as_str(), &one.value)).chain(ids);
    let pairs: String = pairs
        .map(|(key, value)| format!("<code>{}={}</code> ", shown(key), shown(value)))
        .collect();
    if !pairs.is_empty() {
        out += &format!("<p class=\"more\">{pairs}</p>");
    }
    if *cut {
        out += "<p class=\"more\">This record is longer: the sealed log has all of it.</p>";
    }
    out + "</li>\n"
}

/// When it was: RFC 3339 in UTC, with nine decimals; `None` if that is unknown.
pub(super) fn time_of(nanoseconds: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into()).ok();
    let time = time.filter(|_| nanoseconds > 0)?;
    // Rfc3339 leaves zeros out
    let seconds = time.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()?;
    Some(format!("{}.{:09}Z", seconds.trim_end_matches('Z'), time.nanosecond()))
}

/// A text of a record, in a page.
fn shown(text: &str) -> String {
    escape(&printable(text))
}

#[cfg(test)]
mod tests {
    use proto::log::WatchedAttribute;

    use super::*;

    const EVIL: &str = "</li></ol><script>alert(1)</script><!-- \"' & a\nb\u{1b}[2J\u{202e}\u{9b}";

    #[test]
    fn nothing_of_a_record_is_more_than_text() {
        let evil = || EVIL.to_owned();
        let record = WatchedRecord {
            service: evil(),
            severity_text: evil(),
            event_name: evil(),
            body: evil(),
            attributes: vec![WatchedAttribute { key: evil(), value: evil() }],
            trace_id: evil(),
            span_id: evil(),
            severity_number: 17,
            time_unix_nano: u64::MAX,
            cut: true,
        };
        let item = item(&record);
        let tags: Vec<&str> =
            item.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
        let known = ["li", "/li", "p", "/p", "span", "/span", "code", "/code", "time", "/time"];
        for tag in &tags {
            let name = tag.split(' ').next().unwrap();
            assert!(known.contains(&name), "{tag}");
            assert!(!tag.contains("script") && tag.matches('"').count().is_multiple_of(2), "{tag}");
        }
        assert!(item.ends_with("</li>\n") && item.matches('\n').count() == 1, "one line");
        let is_seen = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(item.trim_end().chars().all(is_seen), "{item:?}");
        assert!(item.contains("&lt;script&gt;") && item.contains("\\u{1b}[2J\\u{202e}\\u{9b}"));
        assert!(item.contains("the sealed log has all of it"));
    }

    #[test]
    fn a_record_without_anything_is_still_an_item() {
        let item = item(&WatchedRecord::default());
        assert_eq!(item, "<li class=\"record is-\"><p><span class=\"body\"></span></p></li>\n");
    }

    #[test]
    fn times_have_all_their_digits() {
        assert_eq!(time_of(0), None);
        assert_eq!(time_of(1_700_000_000_000_000_000).unwrap(), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(time_of(1_700_000_000_100_000_001).unwrap(), "2023-11-14T22:13:20.100000001Z");
    }

    #[test]
    fn the_page_says_what_is_missing_and_why_it_ended() {
        let again = "../admin/logs?level=warn".to_owned();
        let page = Growing { head: String::new(), foot: "</main>".to_owned(), again };
        let watched = |missed| Watched { records: Vec::new(), missed };
        assert!(page.records(&watched(0)).is_empty());
        assert!(page.records(&watched(1)).contains(">1 record is left out"));
        assert!(page.records(&watched(7)).contains(">7 records are left out"));
        for (why, words) in [(End::Time, "15 minutes"), (End::Session, "Log in and watch on")] {
            let end = page.end(why);
            assert!(end.contains(words) && end.ends_with("</main>"), "{end}");
            assert!(end.contains("href=\"../admin/logs?level=warn\""));
        }
    }
}
