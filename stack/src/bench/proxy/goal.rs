//! What the figures are held against.

/// A figure, and the most or the least that it may be.
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
}

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.value <= most,
            Bound::AtLeast(least) => self.value >= least,
        }
    }

    /// As people read it.
    pub(crate) fn line(&self) -> String {
        let Self { what, value, unit, bound } = self;
        let (word, bound) = match bound {
            Bound::AtMost(most) => ("at most", most),
            Bound::AtLeast(least) => ("at least", least),
        };
        let verdict = if self.is_met() { "met" } else { "NOT MET" };
        format!("goal: {what}: {value:.2} {unit} ({word} {bound:.2}): {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_on_its_own_side_of_the_bound() {
        let line = |value, bound| {
            Goal { what: "a figure".to_owned(), value, unit: "x nginx", bound }.line()
        };
        assert_eq!(
            line(1.4, Bound::AtMost(1.5)),
            "goal: a figure: 1.40 x nginx (at most 1.50): met"
        );
        assert!(line(1.6, Bound::AtMost(1.5)).ends_with("NOT MET"));
        assert!(line(0.7, Bound::AtLeast(0.65)).ends_with(": met"));
        assert!(line(0.6, Bound::AtLeast(0.65)).ends_with("NOT MET"));
        assert!(line(f64::NAN, Bound::AtMost(1.5)).ends_with("NOT MET"), "no figure, no goal");
    }
}
