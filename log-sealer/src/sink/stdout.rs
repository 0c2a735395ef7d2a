//! Standard output, for platforms that capture it: one JSON object a line. Lifecycle names stand between them as
//! plain lines; no line of theirs begins with a brace.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::{SinkError, blocking};
use crate::sealed::Sealed;
use crate::whole_file::failed;

/// The output, and whether the last line on it may have been cut off.
#[derive(Clone, Default)]
pub(crate) struct Stdout {
    torn: Arc<Mutex<bool>>,
}

impl Stdout {
    pub(super) async fn put(&self, sealed: &Arc<Sealed>) -> Result<(), SinkError> {
        let (stdout, sealed) = (self.clone(), sealed.clone());
        blocking(move || {
            let line = sealed.line();
            // the lock keeps lifecycle lines out of this one
            let written = stdout.write(&mut io::stdout().lock(), &line);
            Ok(written.map_err(failed("writing to stdout"))?)
        })
        .await
    }

    /// After a failure the next try begins with a line end, so that it is not appended to half a line.
    fn write(&self, to: &mut impl Write, line: &[u8]) -> io::Result<()> {
        let mut torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        let again = std::mem::replace(&mut *torn, true);
        if again {
            to.write_all(b"\n")?;
        }
        to.write_all(line)?;
        to.flush()?;
        *torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// Takes a few bytes, then fails once.
    struct Breaks {
        taken: Vec<u8>,
        room: Option<usize>,
    }

    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            if let Some(room) = &mut self.room {
                if length == 0 {
                    return Err(ErrorKind::BrokenPipe.into());
                }
                *room -= length;
            }
            self.taken.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_broke_off_is_written_again_on_its_own() {
        let stdout = Stdout::default();
        let mut to = Breaks { taken: Vec::new(), room: Some(5) };
        assert!(stdout.write(&mut to, b"whole line\n").is_err());
        to.room = None;
        stdout.write(&mut to, b"whole line\n").unwrap();
        stdout.write(&mut to, b"next\n").unwrap();
        assert_eq!(to.taken, b"whole\nwhole line\nnext\n");
    }
}
