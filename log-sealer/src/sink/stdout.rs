//! Standard output, for platforms that capture it: one JSON object a line,
//! `{"record":"<JWS>","segment":"<base64>"}`, `segment` null where a record has none. Lifecycle names stand
//! between them as plain lines; no line of theirs begins with a brace.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Sealed, SinkError, blocking, failed};

/// The output, and whether the last line on it may have been cut off.
#[derive(Clone, Default)]
pub(crate) struct Stdout {
    torn: Arc<Mutex<bool>>,
}

#[derive(Serialize)]
struct Line<'a> {
    record: &'a str,
    segment: Option<String>,
}

impl Stdout {
    pub(super) async fn put(&self, sealed: &Arc<Sealed>) -> Result<(), SinkError> {
        let (stdout, sealed) = (self.clone(), sealed.clone());
        blocking(move || {
            let line = line(&sealed).map_err(failed("encoding a line"))?;
            // the lock keeps lifecycle lines out of this one
            stdout.write(&mut io::stdout().lock(), &line).map_err(failed("writing to stdout"))
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

fn line(sealed: &Sealed) -> io::Result<Vec<u8>> {
    let segment = sealed.segment.as_ref().map(|segment| STANDARD.encode(segment));
    let mut line = serde_json::to_vec(&Line { record: &sealed.record, segment })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn sealed(segment: Option<Vec<u8>>) -> Sealed {
        Sealed { boot: String::new(), seq: 0, record: "a.b.c".to_owned(), segment }
    }

    #[test]
    fn a_record_is_one_line() {
        let with = line(&sealed(Some(vec![0xfb, 0xff]))).unwrap();
        assert_eq!(with, b"{\"record\":\"a.b.c\",\"segment\":\"+/8=\"}\n");
        let without = line(&sealed(None)).unwrap();
        assert_eq!(without, b"{\"record\":\"a.b.c\",\"segment\":null}\n");
    }

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
