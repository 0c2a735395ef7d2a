//! Those who are measured in turns: whom to ask, which processes are theirs, and what was seen of them so far.

use std::time::Duration;

use super::client::Target;
use super::load::{Fleet, Rate};
use super::threads::Threads;
use crate::bench::figures::{Times, shown};
use crate::bench::{BenchError, cpu, memory};

/// One of them.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) target: Target,
    /// Its processes; none: it is in this one, and its processor time is that of the model server's thread.
    pub(crate) pids: Vec<u32>,
}

impl Side {
    /// Processor time of all its processes so far.
    pub(crate) fn used(&self) -> Result<Duration, BenchError> {
        let all: Result<Vec<Duration>, BenchError> =
            self.pids.iter().map(|pid| cpu::used(*pid)).collect();
        Ok(all?.into_iter().sum())
    }

    /// Resident memory of all its processes, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, BenchError> {
        let all: Result<Vec<memory::Memory>, BenchError> =
            self.pids.iter().map(|pid| memory::held(*pid)).collect();
        Ok(all?.into_iter().map(|held| held.rss).sum())
    }
}

/// What was seen of one side under one load.
#[derive(Default)]
pub(crate) struct Seen {
    times: Times,
    answered: u32,
    elapsed: Duration,
    used: Duration,
    generator: Duration,
}

impl Seen {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.answered) / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Processor time of the side, an answer.
    pub(crate) fn each(&self) -> Duration {
        self.used / self.answered.max(1)
    }

    /// Processor time of whoever asks, an answer.
    pub(crate) fn generator(&self) -> Duration {
        self.generator / self.answered.max(1)
    }

    pub(crate) fn median(&self) -> Duration {
        self.times.median()
    }

    /// As people read it.
    pub(crate) fn line(&self, side: &Side) -> String {
        let processor = if side.pids.is_empty() {
            String::new()
        } else {
            format!(", processor {}", shown(self.each()))
        };
        format!(
            "{} {:.0}/s p50 {} p99 {}{processor}",
            side.target.name,
            self.rate(),
            shown(self.times.median()),
            shown(self.times.quantile(0.99))
        )
    }
}

/// How a load is put on each of some sides.
#[derive(Clone, Copy)]
pub(crate) struct Turns {
    pub(crate) connections: usize,
    pub(crate) rate: Rate,
    pub(crate) rounds: u32,
    /// How long each turn takes.
    pub(crate) turn: Duration,
}

impl Turns {
    /// All sides in turns, each with a turn before that does not count.
    pub(crate) async fn take(
        self,
        clients: &Threads,
        sides: &[Side],
    ) -> Result<Vec<Seen>, BenchError> {
        let mut lanes = Vec::new();
        for side in sides {
            let fleet = clients.run(Fleet::connect(side.target.clone(), self.connections)).await?;
            let (fleet, _) = clients.run(fleet.run(self.rate, self.turn / 4)).await?;
            lanes.push((side, fleet, Seen::default()));
        }
        for _ in 0..self.rounds {
            let mut next = Vec::new();
            for (side, fleet, mut seen) in lanes {
                let (before, asked) = (side.used()?, clients.used()?);
                let (fleet, outcome) = clients.run(fleet.run(self.rate, self.turn)).await?;
                seen.used += side.used()?.saturating_sub(before);
                seen.generator += clients.used()?.saturating_sub(asked);
                seen.elapsed += outcome.elapsed;
                seen.answered += u32::try_from(outcome.times.len()).unwrap_or(u32::MAX);
                outcome.times.into_iter().for_each(|time| seen.times.push(time));
                next.push((side, fleet, seen));
            }
            lanes = next;
        }
        Ok(lanes.into_iter().map(|(_, _, seen)| seen).collect())
    }
}
