//! OTLP by gRPC: `Export` of the collector's services for logs, traces and metrics.
//!
//! The generated servers would decode a message before anybody could look at it, and a few megabytes on the
//! wire can become a gigabyte. Here a message stays bytes.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use prost::bytes::Buf as _;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstEncoder;
use tower_service::Service;
use zeroize::Zeroizing;

use super::{ARRIVAL, Admitted, EXPORT, Exports, Form, MESSAGE, Message, Signal};
use crate::error::{self, Refused};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One of the collector's services.
pub(crate) trait Collector: Send + Sync + 'static {
    /// What is exported to it.
    const SIGNAL: Signal;
    /// Its name.
    const NAME: &'static str;
}

/// `LogsService`.
pub(crate) struct Logs;

/// `TraceService`.
pub(crate) struct Traces;

/// `MetricsService`.
pub(crate) struct Metrics;

impl Collector for Logs {
    const SIGNAL: Signal = Signal::Logs;
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl Collector for Traces {
    const SIGNAL: Signal = Signal::Traces;
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl Collector for Metrics {
    const SIGNAL: Signal = Signal::Metrics;
    const NAME: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
}

/// The service for one signal.
pub(crate) struct ExportService<C> {
    exports: Exports,
    of: PhantomData<C>,
}

impl<C: Collector> ExportService<C> {
    pub(crate) fn new(exports: &Exports) -> Self {
        Self { exports: exports.clone(), of: PhantomData }
    }
}

impl<C> Clone for ExportService<C> {
    fn clone(&self) -> Self {
        Self { exports: self.exports.clone(), of: PhantomData }
    }
}

impl<C: Collector> NamedService for ExportService<C> {
    const NAME: &'static str = C::NAME;
}

impl<C, B> Service<http::Request<B>> for ExportService<C>
where
    C: Collector,
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let exports = self.exports.clone();
        Box::pin(async move {
            let known = request.uri().path().strip_prefix('/');
            if known.and_then(|path| path.strip_prefix(C::NAME)) != Some("/Export") {
                return Ok(Status::unimplemented("this service has the method Export").into_http());
            }
            let answer = timeout(EXPORT, answer(exports, C::SIGNAL, request)).await;
            Ok(answer.unwrap_or_else(|_| refusal(Refused::Slow)))
        })
    }
}

async fn answer<B>(
    exports: Exports,
    signal: Signal,
    request: http::Request<B>,
) -> http::Response<Body>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let admitted = Some(exports.admit().await);
    let mut grpc = Grpc::new(Raw)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MESSAGE);
    let (arrives, arrived) = oneshot::channel();
    let export = Export { exports, signal, admitted, arrives: Some(arrives) };
    let late = async {
        // it ends well with the message, or with the call
        if timeout(ARRIVAL, arrived).await.is_ok() {
            pending::<()>().await;
        }
    };
    let response = tokio::select! {
        response = grpc.unary(export, request) => response,
        () = late => return refusal(Refused::Slow),
    };
    // tonic says so of a message that is too long, before or after decompression, and exporters would send it again
    let too_long = [Code::OutOfRange, Code::ResourceExhausted];
    if code(&response).is_some_and(|code| too_long.contains(&code)) {
        refusal(Refused::TooMuch)
    } else {
        response
    }
}

fn refusal(why: Refused) -> http::Response<Body> {
    error::status(why).into_http()
}

fn code(response: &http::Response<Body>) -> Option<Code> {
    Status::from_header_map(response.headers()).map(|status| status.code())
}

/// The method `Export`, for one call.
struct Export {
    exports: Exports,
    signal: Signal,
    admitted: Option<Admitted>,
    /// Dropped when the message is there.
    arrives: Option<oneshot::Sender<Infallible>>,
}

impl UnaryService<Message> for Export {
    /// Each of the services' answers is empty when all was accepted.
    type Response = ();
    type Future = Boxed<Result<Response<()>, Status>>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        drop(self.arrives.take());
        let (exports, signal, admitted) = (self.exports.clone(), self.signal, self.admitted.take());
        Box::pin(async move {
            let admitted = admitted.ok_or_else(|| Status::internal("one call, one message"))?;
            let accepted = exports.accept(admitted, signal, request.into_inner()).await;
            accepted.map(Response::new).map_err(error::status)
        })
    }
}

/// Requests as they are on the wire, answers by prost.
struct Raw;

impl Codec for Raw {
    type Encode = ();
    type Decode = Message;
    type Encoder = ProstEncoder<()>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for Raw {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        let mut bytes = Zeroizing::new(vec![0; from.remaining()]);
        from.copy_to_slice(&mut bytes);
        Ok(Some(Message { bytes, form: Form::Protobuf, gzip: false }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body::Frame;
    use tokio::time::Instant;
    use tonic::codegen::Bytes;

    use super::*;
    use crate::intake::Intake;

    /// A body of which nothing comes.
    struct Idle;

    impl http_body::Body for Idle {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_holds_nobody_up_for_long() {
        let exports = Exports::new(Arc::new(Intake::default()), Vec::new());
        let mut service = ExportService::<Logs>::new(&exports);
        let began = Instant::now();
        let idle = http::Request::post(format!("/{}/Export", Logs::NAME))
            .header("content-type", "application/grpc")
            .body(Idle)
            .unwrap();
        let Ok(answer) = service.call(idle).await;
        assert_eq!(code(&answer), Some(Code::Unavailable));
        assert_eq!(began.elapsed(), ARRIVAL);
    }
}
