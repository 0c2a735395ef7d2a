//! Metrics that leave the group in the clear, because its measured configuration says so.
//!
//! What leaves is made anew of numbers, and of names that stand in this program ([`allowed`]): their type,
//! `&'static str`, keeps out whatever a sender wrote. Everything else is sealed with the logs.

mod allowed;
pub(crate) mod azure;
pub(crate) mod forward;
mod otlp;
pub(crate) mod select;

use self::allowed::Instrument;

/// One metric of one source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    /// A role, or `other`.
    service: &'static str,
    instrument: &'static Instrument,
    shape: Shape,
    points: Vec<Point>,
}

/// How its points are to be understood (metrics.proto, `Metric`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Gauge,
    Sum { temporality: u64, monotonic: bool },
    Histogram { temporality: u64 },
}

/// One point (metrics.proto, `NumberDataPoint` and `HistogramDataPoint`). Times are in Unix nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Point {
    attributes: Vec<(&'static str, &'static str)>,
    start: u64,
    time: u64,
    value: Number,
    count: u64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    bounds: Vec<f64>,
    buckets: Vec<u64>,
}

/// The value of a point that is a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Number {
    #[default]
    None,
    Int(i64),
    Double(f64),
}
