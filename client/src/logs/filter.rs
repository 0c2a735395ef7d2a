//! Which records of a log are shown.

use std::str::FromStr;

/// What is shown; by default everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this second on, in Unix seconds by the clocks of the sources.
    pub since: Option<u64>,
    /// Before this second.
    pub until: Option<u64>,
    /// Of one of these services (`service.name`); of any, if there is none.
    pub services: Vec<String>,
    /// At least this severe. What has no severity, as spans and metrics have none, is not shown then.
    pub level: Option<Level>,
    /// Of this trace: its id in hexadecimal. What belongs to no trace is not shown then.
    pub trace: Option<String>,
}

/// How severe (OpenTelemetry protocol, logs.proto, `SeverityNumber`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 1 to 4.
    Trace,
    /// 5 to 8.
    Debug,
    /// 9 to 12.
    Info,
    /// 13 to 16.
    Warn,
    /// 17 to 20.
    Error,
    /// 21 to 24.
    Fatal,
}

/// The text names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be trace, debug, info, warn, error or fatal")]
pub struct NotALevel;

impl FromStr for Level {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, NotALevel> {
        match text.to_ascii_lowercase().as_str() {
            "trace" => Ok(Self::Trace),
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" | "warning" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            "fatal" => Ok(Self::Fatal),
            _ => Err(NotALevel),
        }
    }
}

impl Level {
    /// From a `SeverityNumber`.
    pub(super) fn of_number(number: u32) -> Option<Self> {
        Some(match number {
            1..=4 => Self::Trace,
            5..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warn,
            17..=20 => Self::Error,
            21..=24 => Self::Fatal,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// What is known of a record, a span or a metric.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts<'a> {
    /// In nanoseconds since 1970.
    pub(super) time: Option<u64>,
    pub(super) level: Option<Level>,
    pub(super) trace: Option<&'a str>,
}

impl Filter {
    /// Whether everything is shown.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn keeps_service(&self, service: Option<&str>) -> bool {
        self.services.is_empty()
            || service.is_some_and(|service| self.services.iter().any(|one| one == service))
    }

    /// What does not say when it was, how severe or of which trace, is not shown where that is asked for.
    pub(super) fn keeps(&self, facts: Facts<'_>) -> bool {
        let second = facts.time.map(|time| time / 1_000_000_000);
        self.since.is_none_or(|since| second.is_some_and(|second| second >= since))
            && self.until.is_none_or(|until| second.is_some_and(|second| second < until))
            && self.level.is_none_or(|level| facts.level.is_some_and(|one| one >= level))
            && self
                .trace
                .as_ref()
                .is_none_or(|trace| facts.trace.is_some_and(|one| one.eq_ignore_ascii_case(trace)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_is_held() {
        let facts = Facts {
            time: Some(10_999_999_999),
            level: Some(Level::Warn),
            trace: Some("0AF7651916cd43dd8448eb211c80319c"),
        };
        let all = Filter::default();
        assert!(all.is_everything() && all.keeps(Facts::default()) && all.keeps_service(None));
        for (filter, kept) in [
            (Filter { since: Some(10), ..all.clone() }, true),
            (Filter { since: Some(11), ..all.clone() }, false),
            (Filter { until: Some(11), ..all.clone() }, true),
            (Filter { until: Some(10), ..all.clone() }, false),
            (Filter { level: Some(Level::Warn), ..all.clone() }, true),
            (Filter { level: Some(Level::Error), ..all.clone() }, false),
            (
                Filter {
                    trace: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
                    ..all.clone()
                },
                true,
            ),
            (
                Filter {
                    trace: Some("1af7651916cd43dd8448eb211c80319c".to_owned()),
                    ..all.clone()
                },
                false,
            ),
        ] {
            assert_eq!(filter.keeps(facts), kept, "{filter:?}");
            assert!(!filter.keeps(Facts::default()), "what says nothing: {filter:?}");
        }
        let of = Filter { services: vec!["a".to_owned(), "b".to_owned()], ..all };
        assert!(of.keeps_service(Some("b")) && !of.keeps_service(Some("c")));
        assert!(!of.keeps_service(None) && of.keeps(Facts::default()));
    }

    #[test]
    fn levels_have_names_and_numbers() {
        for number in 1..=24 {
            let level = Level::of_number(number).unwrap();
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert_eq!((Level::of_number(0), Level::of_number(25)), (None, None));
        assert_eq!("Warning".parse(), Ok(Level::Warn));
        assert_eq!("loud".parse::<Level>(), Err(NotALevel));
    }
}
