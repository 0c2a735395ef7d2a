//! Ends the run when a test hangs, and says which. A test that waits for what never comes would otherwise hold up
//! whoever waits for the tests, and its name would not be told.

use std::io::{self, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;
use std::{process, thread};

/// No test takes a fifth of it on two cores that are busy.
const LONGEST: Duration = Duration::from_mins(15);

/// Watches over the test that holds it.
pub(crate) struct Watchdog(#[expect(dead_code, reason = "its end is the message")] Sender<()>);

impl Watchdog {
    /// For the test that calls it, on the thread that the test runner named after it.
    pub(crate) fn start() -> Self {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let (held, gone) = mpsc::channel();
        thread::spawn(move || {
            if gone.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                // Written past the runner, which keeps what a test prints until it ends.
                let told = writeln!(io::stderr(), "{test} hangs: it has not ended in {LONGEST:?}");
                drop(told);
                process::abort();
            }
        });
        Self(held)
    }
}
