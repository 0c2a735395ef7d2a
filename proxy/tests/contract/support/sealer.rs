//! What stands for `log-sealer` where its log is watched: it shows what a test tells it to, to whoever watches.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::Stream;
use proto::log::log_server::{Log, LogServer};
use proto::log::{GetHeadRequest, Head, WatchRequest, Watched, WatchedRecord};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::{Code, Request, Response, Status};

type Shown = Result<Watched, Status>;

/// It runs until this is dropped.
pub(crate) struct Sealer {
    _runtime: Runtime,
    views: Arc<Views>,
}

#[derive(Default)]
struct Views {
    refusal: Mutex<Option<Code>>,
    asked: Mutex<Vec<WatchRequest>>,
    open: Mutex<Vec<mpsc::UnboundedSender<Shown>>>,
}

struct Service(Arc<Views>);

#[tonic::async_trait]
impl Log for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Shown> + Send>>;

    async fn get_head(&self, _: Request<GetHeadRequest>) -> Result<Response<Head>, Status> {
        Ok(Response::new(Head::default()))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if let Some(code) = *self.0.refusal.lock().unwrap() {
            return Err(Status::new(code, "as a test wants it"));
        }
        self.0.asked.lock().unwrap().push(request.into_inner());
        let (sender, shown) = mpsc::unbounded_channel();
        self.0.open.lock().unwrap().push(sender);
        let shown = futures_util::stream::unfold(shown, |mut shown| async {
            Some((shown.recv().await?, shown))
        });
        Ok(Response::new(Box::pin(shown)))
    }
}

impl Sealer {
    /// At a Unix socket.
    pub(crate) fn start(socket: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(socket).unwrap()
        };
        let incoming = futures_util::stream::unfold(listener, |listener| async move {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        let views = Arc::new(Views::default());
        let server = tonic::transport::Server::builder()
            .add_service(LogServer::new(Service(views.clone())))
            .serve_with_incoming(incoming);
        runtime.spawn(server);
        Self { _runtime: runtime, views }
    }

    /// From now on nobody may watch.
    pub(crate) fn refuses(&self, code: Code) {
        *self.views.refusal.lock().unwrap() = Some(code);
    }

    /// What was asked for up to now: service, least severity, and by whom.
    pub(crate) fn asked(&self) -> Vec<(String, u32, String)> {
        let asked = self.views.asked.lock().unwrap();
        asked.iter().map(|one| (one.service.clone(), one.least_severity, one.who.clone())).collect()
    }

    /// Shows these to whoever watches.
    pub(crate) fn shows(&self, records: &[WatchedRecord], missed: u64) {
        for view in self.views.open.lock().unwrap().iter() {
            let _ = view.send(Ok(Watched { records: records.to_vec(), missed }));
        }
    }

    /// Ends all views.
    pub(crate) fn ends(&self) {
        self.views.open.lock().unwrap().clear();
    }

    /// Waits until so many watch, and no more.
    pub(crate) fn until_watched_by(&self, count: usize) {
        let begin = Instant::now();
        loop {
            let open = self.views.open.lock().unwrap();
            let watching = open.iter().filter(|view| !view.is_closed()).count();
            drop(open);
            if watching == count {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{watching} watch, not {count}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
