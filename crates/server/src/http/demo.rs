//! `/demo/…`: what a conformance suite does to the demo endpoint from outside. No key is asked for; without `demo.enabled` there is nothing
//! here.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderValue, Method, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use tickwire_channels::{CloseReason, handshake::Params, json::canonical};
use tickwire_pubsub::{Broadcast, Payload, Topic};

use super::{
    Writer, body,
    problem::{self, Problem},
    quotes::json_answer,
};
use crate::app::Node;

/// The binary form of the wire has one byte for the length of a name.
const NAME_BYTES_MAX: usize = 255;

/// `POST /demo/publish?topic=T&event=E`: the JSON object in the body to everyone on the topic.
pub(super) async fn publish(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let Control { params, body } = control(&node, request).await?;
    let payload = canonical(&body)
        .map_err(|error| Problem::bad_request("invalid_json", format!("The body: {error}; expected a JSON object.")))?;
    if payload.first() != Some(&b'{') {
        return Err(Problem::bad_request("invalid_json", "The body is JSON, but no object; wrap the value in one."));
    }
    broadcast(&node, &params, Payload::Json(payload))
}

/// `POST /demo/publish_binary?topic=T&event=E`: the body's bytes to everyone on the topic whose wire format has a form for them.
pub(super) async fn publish_binary(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let Control { params, body } = control(&node, request).await?;
    for name in ["topic", "event"] {
        let len = required(&params, name)?.len();
        if len > NAME_BYTES_MAX {
            let detail = format!("{name} has {len} bytes, expected at most {NAME_BYTES_MAX} in a binary message.");
            return Err(Problem::bad_request("invalid_parameter", detail));
        }
    }
    broadcast(&node, &params, Payload::Binary(body))
}

/// `POST /demo/disconnect?id=ID`: closes the sockets of that id, 1001.
pub(super) async fn disconnect(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let Control { params, .. } = control(&node, request).await?;
    let id = required(&params, "id")?.to_owned();
    node.workers.close_where(move |socket| socket.id.as_deref() == Some(&id), CloseReason::Disconnected);
    Ok(done())
}

/// A request to one of the controls, after all that they have in common.
struct Control {
    params: Params,
    body: Bytes,
}

async fn control(node: &Arc<Node>, request: Request) -> Result<Control, Problem> {
    let live = node.live();
    let (mut parts, body) = request.into_parts();
    if !live.config.demo.enabled {
        return Err(problem::not_found(parts.uri).await);
    }
    if parts.method != Method::POST {
        return Err(problem::wrong_method(parts.method, parts.uri)
            .await
            .header(header::ALLOW, HeaderValue::from_static("POST")));
    }
    // Anybody may, but not the pages of others in the name of their visitors.
    Writer::from_request_parts(&mut parts, node).await?;
    let Parts { uri, headers, .. } = parts;
    let params = Params::parse(uri.query().unwrap_or_default())
        .map_err(|error| Problem::bad_request("bad_query", format!("{error}.")))?;
    let body = body::read(&headers, body, live.config.limits.body_bytes).await?;
    Ok(Control { params, body })
}

fn required<'a>(params: &'a Params, name: &'static str) -> Result<&'a str, Problem> {
    params.get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
        let detail = format!("The parameter {name} is missing, for example /demo/publish?topic=room:a&event=news.");
        Problem::bad_request("invalid_parameter", detail)
    })
}

fn broadcast(node: &Node, params: &Params, payload: Payload) -> Result<Response, Problem> {
    let topic = Topic::new(required(params, "topic")?)
        .map_err(|error| Problem::bad_request("invalid_topic", format!("{error}.")))?;
    let event = required(params, "event")?;
    let busy = |_| Problem::busy("The consumers of this node have no room; nothing was sent.");
    node.pubsub.admit().map_err(busy)?;
    node.pubsub.broadcast(&[Arc::new(Broadcast::lossless(topic, event.into(), payload, Instant::now()))]);
    Ok(done())
}

fn done() -> Response {
    json_answer(Bytes::from_static(br#"{"status":"ok"}"#))
}
