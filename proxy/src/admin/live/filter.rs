//! Which records a view shows: those of a service, those that are severe enough.

use super::super::form::Form;
use super::super::values::Problems;

/// The longest name of a service, in bytes: `log-sealer` takes no longer one.
const LONGEST: usize = 200;

/// Names, the first `SeverityNumber` of each (OpenTelemetry protocol, logs.proto), and what people read.
const LEVELS: [(&str, u32, &str); 6] = [
    ("trace", 1, "Trace"),
    ("debug", 5, "Debug"),
    ("info", 9, "Info"),
    ("warn", 13, "Warning"),
    ("error", 17, "Error"),
    ("fatal", 21, "Fatal"),
];

/// What somebody wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    service: String,
    /// A row of [`LEVELS`].
    level: Option<(&'static str, u32)>,
}

impl Filter {
    /// As the query of a page says it: `service`, `level`.
    ///
    /// # Errors
    ///
    /// What is wrong with which field.
    pub(super) fn of(query: &Form) -> Result<Self, Problems> {
        let service = query.text("service").to_owned();
        if service.len() > LONGEST {
            return Err(Problems::one("service", "must have at most 200 bytes"));
        }
        let name = query.text("level");
        let level = LEVELS.iter().find(|(other, ..)| *other == name);
        if level.is_none() && !name.is_empty() {
            let levels = "must be trace, debug, info, warn, error or fatal";
            return Err(Problems::one("level", levels));
        }
        Ok(Self { service, level: level.map(|(name, number, _)| (*name, *number)) })
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// 0: any.
    pub(super) fn least_severity(&self) -> u32 {
        self.level.map_or(0, |(_, number)| number)
    }

    /// For the audit log, which keeps no text that somebody typed: what there is a filter of, and of levels which.
    pub(super) fn names(&self) -> String {
        let service = (!self.service.is_empty()).then(|| "service".to_owned());
        let level = self.level.map(|(name, _)| format!("level={name}"));
        service.into_iter().chain(level).collect::<Vec<_>>().join(" ")
    }

    /// The query that says the same; empty, or with its `?`.
    pub(super) fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
        if !self.service.is_empty() {
            query.append_pair("service", &self.service);
        }
        if let Some((name, _)) = self.level {
            query.append_pair("level", name);
        }
        let query = query.finish();
        if query == "?" { String::new() } else { query }
    }

    /// For the form: name, words, whether it is this one.
    pub(super) fn levels(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let own = self.least_severity();
        LEVELS.into_iter().map(move |(name, number, words)| (name, words, number == own))
    }
}

/// What people call a severity that has a number but no word of its own.
pub(super) fn name_of(severity: u32) -> &'static str {
    let level = LEVELS.iter().rev().find(|(_, first, _)| severity >= *first && severity <= 24);
    level.map_or("", |(name, ..)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Filter, Problems> {
        Filter::of(&Form::urlencoded(query.as_bytes()))
    }

    #[test]
    fn a_query_comes_back_the_same() {
        for (query, names, least) in [
            ("", "", 0),
            ("?service=a%26b", "service", 0),
            ("?level=warn", "level=warn", 13),
            ("?service=x&level=error", "service level=error", 17),
        ] {
            let filter = of(query.trim_start_matches('?')).ok().unwrap();
            assert_eq!((filter.query().as_str(), filter.names().as_str()), (query, names));
            assert_eq!(filter.least_severity(), least);
        }
        assert_eq!(of("service=&level=").ok().unwrap().query(), "", "an empty form is no filter");
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(of("level=loud").err().unwrap().first(), Some("level"));
        let long = format!("service={}", "x".repeat(201));
        assert_eq!(of(&long).err().unwrap().first(), Some("service"));
    }

    #[test]
    fn severities_have_names() {
        let names = [0, 1, 9, 12, 16, 24, 25].map(name_of);
        assert_eq!(names, ["", "trace", "info", "info", "warn", "fatal", ""]);
    }
}
