//! `pmc logs follow`: a log that grows.

use std::time::Duration;

use clap::Args;

use super::{Chosen, Format, Identity, Screen, Subject, both};
use crate::cli::{Failure, runtime, say};
use crate::clock;
use crate::logs::{Log, OpenError, Report};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_secs(1);

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
    let report = options
        .subject
        .read(&identities, |log| runtime()?.block_on(follow(log, options, &mut screen)))?;
    let shown = screen.flush();
    both(options.subject.tell(&report), shown)
}

async fn follow(
    mut log: Log<'_>,
    options: &Follow,
    screen: &mut Screen,
) -> Result<Report, Failure> {
    let mut is_first = true;
    loop {
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
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    log.finish(&mut |document| screen.show(document)).map_err(|error| Failure::unusable(&error))
}
