//! The thread that a connection lives on: it does what it is asked for, one thing after the other, and lets its residents
//! work from time to time.
//!
//! Must not know what any of them does.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::StoreError;
use super::serving::Serving;

/// Work that may wait. What is beyond that is refused: whoever asks is a person, and can ask again.
const QUEUE: usize = 64;

/// How often residents work: what they hold is on the disk this much later.
const TICK: Duration = Duration::from_millis(100);

/// How often it is looked whether another process changed the database.
const LOOK: Duration = Duration::from_millis(500);

/// How long residents may take to finish when the process stops. Docker's patience is 10 seconds.
const FINISH: Duration = Duration::from_secs(5);

/// Something that lives on the thread.
pub(crate) trait Resident: Send {
    /// Its work, about every [`TICK`]. Whether nothing of it is left to do.
    fn tick(&mut self, connection: &mut Connection) -> bool;

    /// Another process changed the database. Whether that could be read; if not, this is called again.
    fn changed(&mut self, connection: &mut Connection) -> bool;
}

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

enum Job {
    Work(Work),
    SettleIn(Box<dyn Resident>),
    Stop(oneshot::Sender<()>),
}

/// The other end of the thread's queue. The thread ends when it is told to, or when all of these are gone.
#[derive(Clone)]
pub(super) struct Worker(SyncSender<Job>);

impl Worker {
    pub(super) fn start(
        connection: Connection,
        name: &'static str,
        serving: Option<Serving>,
    ) -> Result<Self, StoreError> {
        let (sender, jobs) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name(name.to_owned());
        let spawned = thread.spawn(move || Thread::new(connection, serving).run(&jobs));
        spawned.map_err(|source| StoreError::File {
            what: "no thread for",
            path: name.to_owned(),
            source,
        })?;
        Ok(Self(sender))
    }

    pub(super) fn give(&self, work: Work) -> Result<(), StoreError> {
        self.send(Job::Work(work))
    }

    pub(super) fn settle_in(&self, resident: Box<dyn Resident>) -> Result<(), StoreError> {
        self.send(Job::SettleIn(resident))
    }

    /// Returns when residents have finished, or took too long.
    pub(super) async fn stop(&self) {
        let (sender, stopped) = oneshot::channel();
        let mut job = Job::Stop(sender);
        let begin = Instant::now();
        while let Err(TrySendError::Full(again)) = self.0.try_send(job) {
            if begin.elapsed() > FINISH {
                return;
            }
            job = again;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = stopped.await;
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        self.0.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }
}

struct Thread {
    connection: Connection,
    residents: Vec<Box<dyn Resident>>,
    /// SQLite's counter of changes by others (`PRAGMA data_version`).
    version: Option<i64>,
    looked: Instant,
    /// The last of these, so that it is given back when the connection is closed.
    _serving: Option<Serving>,
}

impl Thread {
    fn new(connection: Connection, serving: Option<Serving>) -> Self {
        let version = data_version(&connection);
        let looked = Instant::now();
        Self { connection, residents: Vec::new(), version, looked, _serving: serving }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        let mut next = Instant::now() + TICK;
        loop {
            match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Job::Work(work)) => work(&mut self.connection),
                Ok(Job::SettleIn(resident)) => self.residents.push(resident),
                Ok(Job::Stop(done)) => {
                    self.finish();
                    // The file is closed, and its log moved into it, before anybody is told.
                    drop(self);
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            // Also when the queue never empties.
            if Instant::now() >= next {
                self.tick();
                next = Instant::now() + TICK;
            }
        }
    }

    fn tick(&mut self) -> bool {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            let version = data_version(&self.connection);
            if version.is_some() && version != self.version {
                let mut all = true;
                for resident in &mut self.residents {
                    all &= resident.changed(&mut self.connection);
                }
                // What could not be read is looked at again: it may be that a key was revoked.
                if all {
                    self.version = version;
                }
            }
        }
        let mut done = true;
        for resident in &mut self.residents {
            done &= resident.tick(&mut self.connection);
        }
        done
    }

    fn finish(&mut self) {
        let begin = Instant::now();
        while !self.tick() {
            if begin.elapsed() > FINISH {
                tracing::error!("the database could not be written before the end");
                return;
            }
            std::thread::sleep(TICK);
        }
    }
}

fn data_version(connection: &Connection) -> Option<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0)).ok()
}
