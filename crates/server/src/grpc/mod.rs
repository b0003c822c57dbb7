//! The public gRPC API: publish, follow and read quotes; health and reflection.
//!
//! The service is dispatched here rather than by generated code: its codec knows the limits of this node, and looks at a message before it
//! decodes it.

mod call;
mod codec;
mod encode;
mod fault;
mod publish;
mod read;
#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::post,
};
use futures_util::Stream;
use tickwire_proto::v1::market_service_server::SERVICE_NAME;
use tonic::{Request, Status, Streaming, server::Grpc, service::Routes};
use tonic_health::ServingStatus;
use tower::service_fn;

#[cfg(feature = "testing")]
pub(crate) use self::codec::count_quotes;
use self::{
    call::Call,
    codec::{Codec, Decoded, Read},
    encode::Answer,
};
use crate::{app::Node, follow::TOPICS_COUNTED};

/// The longest message that is read; a batch of 10,000 quotes has about one megabyte.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What a client sends.
type Incoming<D> = Streaming<Decoded<D>>;

/// What a client gets.
type Answers<E> = Pin<Box<dyn Stream<Item = Result<E, Status>> + Send>>;

/// Everything that the gRPC port answers.
pub(crate) fn router(node: &Arc<Node>) -> Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    let watched = Arc::clone(node);
    node.accepting.spawn("grpc health", async move {
        reporter.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
        watched.stop.drained().await;
        reporter.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await;
        reporter.set_service_status("", ServingStatus::NotServing).await;
        watched.accepting.cancelled().cancelled().await;
    });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tickwire_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().expect("the embedded descriptors are valid, which a test states");
    let v1alpha = reflection().build_v1alpha().expect("the embedded descriptors are valid, which a test states");
    let routes = Routes::default().add_service(health).add_service(v1).add_service(v1alpha);
    let quotes = node.market.config().batch_max;
    let router = routes.prepare().into_axum_router();
    let router = method(router, node, "Publish", quotes, publish::once);
    let router = method(router, node, "PublishAcked", quotes, publish::acked);
    let router = method(router, node, "Subscribe", TOPICS_COUNTED, read::subscribe);
    method(router, node, "GetQuote", 0, read::get_quote)
}

/// Adds a method. All four are served as streams in both directions, which on the wire a single message is as well: one way to read, to
/// count, to time and to refuse.
fn method<E, D, F, A>(router: Router, node: &Arc<Node>, name: &'static str, limit: usize, answer: F) -> Router
where
    E: Answer,
    D: Read,
    F: Fn(Arc<Node>, Request<Incoming<D>>, Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Answers<E>, fault::Fault>> + Send + 'static,
{
    let node = Arc::clone(node);
    let serve = move |request: axum::extract::Request| {
        let (node, answer) = (Arc::clone(&node), answer.clone());
        async move {
            if !is_grpc(&request) {
                return not_grpc();
            }
            let call = Call::begin(name, request.headers());
            let service = service_fn(move |request: Request<Incoming<D>>| {
                let work = answer(Arc::clone(&node), request, call.clone());
                call.clone().run(work)
            });
            let mut grpc = Grpc::new(Codec::<E, D>::new(limit)).max_decoding_message_size(MESSAGE_BYTES_MAX);
            grpc.streaming(service, request).await.map(Body::new)
        }
    };
    router.route(&format!("/{SERVICE_NAME}/{name}"), post(serve))
}

/// "If Content-Type does not begin with `application/grpc`, gRPC servers SHOULD respond with HTTP status of 415" (gRPC over HTTP2).
fn is_grpc(request: &axum::extract::Request) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn not_grpc() -> Response {
    let mut response = Response::new(Body::from("This port speaks gRPC; the HTTP API is at listen.http.\n"));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
