//! OTLP in: `opentelemetry.proto.collector.logs.v1.LogsService` over gRPC.
//!
//! The generated server would decode a message before anybody could look at it, and a few megabytes on the
//! wire can become a gigabyte. Here a message stays bytes until it was weighed, few messages are in hand at
//! once, and one is decoded at a time: memory is bounded whatever is sent.
//!
//! Handling an export logs nothing, at any level: this role's own events arrive here too.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::SERVICE_NAME;
use prost::bytes::Buf as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstEncoder;
use tower_service::Service;
use zeroize::Zeroizing;

use crate::error::{self, Refused};
use crate::intake::Intake;
use crate::lines;

/// The longest message, in bytes, after decompression.
const MESSAGE: usize = 4 << 20;

/// Messages that are received at the same time. Others wait, unread, on their connections.
const RECEIVING: usize = 8;

/// The longest that an export may take, from its first byte to the answer.
const EXPORT: Duration = Duration::from_secs(20);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The service. Clones share the queue and the bounds.
#[derive(Clone)]
pub(crate) struct LogsService {
    intake: Arc<Intake>,
    receiving: Arc<Semaphore>,
    decoding: Arc<Semaphore>,
}

impl LogsService {
    pub(crate) fn new(intake: Arc<Intake>) -> Self {
        Self {
            intake,
            receiving: Arc::new(Semaphore::new(RECEIVING)),
            decoding: Arc::new(Semaphore::new(1)),
        }
    }

    async fn answer<B>(&self, request: http::Request<B>) -> http::Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let Ok(permit) = self.receiving.clone().acquire_owned().await else {
            return refusal(Refused::Stopping);
        };
        let mut grpc = Grpc::new(Raw)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MESSAGE);
        let method = Export { service: self.clone(), receiving: Some(permit) };
        let response = grpc.unary(method, request).await;
        // tonic says OUT_OF_RANGE for a message that is too long, and OTLP would have it sent again and again
        if is(&response, Code::OutOfRange) { refusal(Refused::TooMuch) } else { response }
    }

    async fn export(
        &self,
        message: Message,
        receiving: Option<OwnedSemaphorePermit>,
    ) -> Result<ExportLogsServiceResponse, Status> {
        let decoding = self.decoding.clone().acquire_owned().await;
        let work = move || {
            // held to the end of the work, which goes on when a caller goes away
            let _permits = (receiving, decoding);
            lines::encode(&message.0)
        };
        let encoded = tokio::task::spawn_blocking(work).await;
        let lines = encoded.map_err(|_| Status::internal("the export was not handled"))?;
        let stored = lines.and_then(|lines| self.intake.push(lines)).map_err(error::status)?;
        stored.wait().await.map_err(error::status)?;
        Ok(ExportLogsServiceResponse::default())
    }
}

fn refusal(why: Refused) -> http::Response<Body> {
    error::status(why).into_http()
}

fn is(response: &http::Response<Body>, code: Code) -> bool {
    Status::from_header_map(response.headers()).is_some_and(|status| status.code() == code)
}

impl NamedService for LogsService {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for LogsService
where
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
        let service = self.clone();
        Box::pin(async move {
            let known =
                request.uri().path().strip_prefix('/').and_then(|p| p.strip_prefix(SERVICE_NAME));
            if known != Some("/Export") {
                return Ok(Status::unimplemented("this service has the method Export").into_http());
            }
            let answer = timeout(EXPORT, service.answer(request)).await;
            Ok(answer.unwrap_or_else(|_| refusal(Refused::Slow)))
        })
    }
}

/// The method `Export`, for one call.
struct Export {
    service: LogsService,
    receiving: Option<OwnedSemaphorePermit>,
}

impl UnaryService<Message> for Export {
    type Response = ExportLogsServiceResponse;
    type Future = Boxed<Result<Response<ExportLogsServiceResponse>, Status>>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        let (service, receiving) = (self.service.clone(), self.receiving.take());
        Box::pin(
            async move { service.export(request.into_inner(), receiving).await.map(Response::new) },
        )
    }
}

/// The bytes of a request. Wiped when dropped; without `Debug`.
struct Message(Zeroizing<Vec<u8>>);

/// Requests as they are on the wire, answers by prost.
struct Raw;

impl Codec for Raw {
    type Encode = ExportLogsServiceResponse;
    type Decode = Message;
    type Encoder = ProstEncoder<ExportLogsServiceResponse>;
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
        Ok(Some(Message(bytes)))
    }
}
