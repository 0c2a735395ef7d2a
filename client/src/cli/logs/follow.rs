//! `pmc logs follow`: a log that grows.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::place::{Place, Trouble};
use super::{Chosen, Format, Identity, Screen, Subject, both};
use crate::cli::{Failure, runtime, say};
use crate::clock;
use crate::logs::{Log, OpenError, Report};

/// How often the log is looked at: here, and in a storage account, where each look is a call that is paid for.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// Options of `pmc logs follow`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Follow {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    chosen: Chosen,
    /// How records are shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// End when the newest boot has ended in order.
    #[arg(long)]
    until_stop: bool,
}

/// Runs until it is stopped, or the log is taken away.
pub(super) fn run(options: &Follow) -> Result<(), Failure> {
    let identities = options.identity.read()?;
    let mut screen = Screen::new(&options.chosen, options.format);
    let mut place = options.subject.place()?;
    let report = options.subject.read(&mut place, &identities, |log, place| {
        runtime()?.block_on(follow(log, place, options, &mut screen))
    })?;
    let shown = screen.flush();
    both(options.subject.tell(&report, &place), shown)
}

async fn follow(
    mut log: Log<'_>,
    place: &mut Place,
    options: &Follow,
    screen: &mut Screen,
) -> Result<Report, Failure> {
    // One for the whole time: what comes while the log is read is not lost.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|error| Failure::unusable(&error))?;
    // Why the storage account could not be asked at the last look.
    let mut unreached = None;
    let mut is_first = true;
    loop {
        let refreshed = tokio::select! {
            refreshed = place.refresh() => refreshed,
            _ = interrupts.recv() => {
                if place.is_elsewhere() {
                    unreached = Some("it was being copied".to_owned());
                }
                break;
            }
        };
        match refreshed {
            Ok(()) => unreached = None,
            Err(Trouble::Storage(error)) if error.is_loss() && !is_first => {
                return Ok(log.taken_away(OpenError::Storage(error)));
            }
            Err(trouble) if is_first => return Err(Failure::Unusable(trouble.text())),
            // Whoever cannot be reached has taken nothing away, and a token may be renewed.
            Err(trouble) => {
                let why = trouble.text();
                if unreached.as_ref() != Some(&why) {
                    say(Some(&why));
                }
                unreached = Some(why);
            }
        }
        log.set_time(options.subject.at.unwrap_or_else(clock::unix_now));
        match log.advance(&mut |document| screen.show(document)) {
            Ok(()) => {}
            // What was there is gone: what was read of it is what there is to say.
            Err(error @ (OpenError::Source(..) | OpenError::Replaced(_))) if !is_first => {
                return Ok(log.taken_away(error));
            }
            Err(error) => return Err(Failure::unusable(&error)),
        }
        is_first = false;
        screen.flush()?;
        log.news().iter().for_each(|news| say(Some(news)));
        if options.until_stop && log.is_stopped() {
            break;
        }
        let look = if place.is_elsewhere() { LOOKS.1 } else { LOOKS.0 };
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            _ = interrupts.recv() => break,
        }
    }
    // What is here may be half of a file: whoever judged that as a whole would find it cut.
    if let Some(why) = unreached {
        let why = format!("the end was not read: {why}; all that was shown was verified");
        screen.flush()?;
        return Err(Failure::Unusable(why));
    }
    let report = log.finish(&mut |document| screen.show(document));
    report.map_err(|error| Failure::unusable(&error))
}
