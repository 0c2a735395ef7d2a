//! Bars over time, drawn by the server as SVG: no script, and the same numbers stand in a table below.
//!
//! Must not know what is counted.

/// The width and height of the drawing, in its own units.
pub(super) const WIDTH: f64 = 600.0;
pub(super) const HEIGHT: f64 = 120.0;

/// The most bars that can be told apart. More days are drawn in groups.
const BARS: usize = 62;

/// A bar.
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
    /// What it stands for.
    pub(super) label: String,
}

/// Bars over time.
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    /// Under its left and right end.
    pub(super) from: String,
    pub(super) to: String,
    /// How high the drawing is.
    pub(super) top: String,
}

impl Chart {
    /// Of each day's value, the oldest first. Days that follow one another and are too many are added up.
    pub(super) fn of(
        days: &[(u32, f64)],
        day: impl Fn(u32) -> String,
        amount: impl Fn(f64) -> String,
    ) -> Self {
        let together = days.len().div_ceil(BARS).max(1);
        let groups: Vec<(u32, u32, f64)> = days
            .chunks(together)
            .filter_map(|group| {
                let sum = group.iter().map(|(_, value)| value).sum();
                Some((group.first()?.0, group.last()?.0, sum))
            })
            .collect();
        let top = groups.iter().map(|(_, _, value)| *value).fold(0.0, f64::max);
        #[expect(clippy::cast_precision_loss, reason = "at most 62 bars")]
        let step = WIDTH / groups.len().max(1) as f64;
        let bars = groups.iter().enumerate().map(|(place, (first, last, value))| {
            let share = if top > 0.0 { value / top } else { 0.0 };
            // What is not nothing is seen.
            let height = if *value > 0.0 { (share * HEIGHT).max(2.0) } else { 0.0 };
            let days = if first == last {
                day(*first)
            } else {
                format!("{} to {}", day(*first), day(*last))
            };
            #[expect(clippy::cast_precision_loss, reason = "at most 62 bars")]
            let x = place as f64 * step;
            Bar {
                x: format!("{:.2}", x + step * 0.1),
                y: format!("{:.2}", HEIGHT - height),
                width: format!("{:.2}", (step * 0.8).min(48.0)),
                height: format!("{height:.2}"),
                label: format!("{days}: {}", amount(*value)),
            }
        });
        let end = |group: Option<&(u32, u32, f64)>, last: bool| {
            group.map(|group| day(if last { group.1 } else { group.0 })).unwrap_or_default()
        };
        Self {
            from: end(groups.first(), false),
            to: end(groups.last(), true),
            top: amount(top),
            bars: bars.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fit_and_many_days_are_added_up() {
        let days: Vec<_> = (0..365).map(|day| (day, f64::from(day % 7))).collect();
        let chart = Chart::of(&days, |day| day.to_string(), |value| value.to_string());
        assert!(chart.bars.len() <= BARS);
        assert_eq!((chart.from.as_str(), chart.to.as_str()), ("0", "364"));
        for bar in &chart.bars {
            let [x, y, width, height] =
                [&bar.x, &bar.y, &bar.width, &bar.height].map(|text| text.parse::<f64>().unwrap());
            assert!(x >= 0.0 && x + width <= WIDTH && y >= 0.0 && y + height <= HEIGHT + 0.01);
        }
        let empty = Chart::of(&[], |day| day.to_string(), |value| value.to_string());
        assert!(empty.bars.is_empty());
        let nothing = Chart::of(&[(1, 0.0)], |day| day.to_string(), |value| value.to_string());
        assert_eq!(nothing.bars[0].height, "0.00");
    }
}
