//! `POST /v1/topics/{topic}/broadcast`: an event to everyone on a topic.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tickwire_channels::json::canonical;
use tickwire_market::Moment;
use tickwire_pubsub::{Payload, Topic};

use super::{
    PathText, Writer, body,
    problem::{Problem, shown},
};
use crate::{
    app::Node,
    auth::{Principal, Who},
    idempotency::{Claim, KEY_BYTES_MAX, Key},
};

/// The longest name of an event: enough for any, and a bound to what all who are joined have to read.
const EVENT_CHARS_MAX: usize = 255;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with event and payload")]
struct Wish {
    event: String,
    payload: Option<Box<RawValue>>,
}

/// Sends the event, once for each `Idempotency-Key`.
pub(super) async fn publish(
    State(node): State<Arc<Node>>,
    writer: Writer,
    PathText(rest): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    writer.principal.may_publish()?;
    let topic = rest
        .strip_suffix("/broadcast")
        .ok_or_else(|| Problem::not_found("no_such_path", "Topics are written to at /v1/topics/TOPIC/broadcast."))?;
    let live = node.live();
    let setting = live.channel_of(topic);
    let Some((setting, rule)) = setting.and_then(|setting| Some((setting, setting.room.as_ref()?))) else {
        return Err(match setting {
            Some(_) => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not_a_room",
                "This topic takes no broadcasts",
                format!("{:?} has the values of a symbol; publish quotes at /v1/quotes.", shown(topic)),
            ),
            None => Problem::not_found(
                "unmatched_topic",
                format!("{:?} matches no [[channel]] of this server.", shown(topic)),
            ),
        });
    };
    let wish: Wish = body::read_json(&headers, body, live.config.limits.body_bytes).await?;
    check(&wish)?;
    let topic = Topic::new(topic).map_err(|error| Problem::bad_request("invalid_topic", format!("{error}.")))?;
    let payload = wish.payload.as_ref().map_or("{}", |payload| payload.get());
    let payload = canonical(&Bytes::copy_from_slice(payload.as_bytes()))
        .map_err(|error| Problem::bad_request("invalid_json", format!("payload: {error}.")))?;
    tracing::debug!(channel = %setting.rule.pattern, "broadcast over HTTP");
    let send = || {
        node.rooms
            .publish(rule, &topic, &wish.event, &Payload::Json(payload.clone()), None, Moment::now())
            .map_err(|_| Problem::busy("The consumers of this node have no room; nothing was sent."))
    };
    let Some(key) = idempotency_key(&headers, &writer.principal)? else {
        send()?;
        return Ok(accepted(false));
    };
    let fingerprint = fingerprint(&topic, &wish.event, &payload);
    match node.idempotency.claim(&key, fingerprint, std::time::Instant::now()) {
        Claim::First => {
            let sent = send();
            node.idempotency.finish(&key, sent.is_ok());
            sent.map(|()| accepted(false))
        }
        Claim::Done => Ok(accepted(true)),
        Claim::UnderWay => Err(Problem::new(
            StatusCode::CONFLICT,
            "idempotency_under_way",
            "The request is being done",
            "A request with this Idempotency-Key has not been answered yet; try again in a moment.",
        )),
        Claim::Different => Err(Problem::new(
            StatusCode::CONFLICT,
            "idempotency_key_reused",
            "The Idempotency-Key belongs to another request",
            "This Idempotency-Key was used for another topic, event or payload; take a new one for each new request.",
        )),
    }
}

fn check(wish: &Wish) -> Result<(), Problem> {
    let length = wish.event.chars().count();
    if !(1..=EVENT_CHARS_MAX).contains(&length) {
        let detail = format!("event has {length} characters, expected 1 to {EVENT_CHARS_MAX}.");
        return Err(Problem::bad_request("invalid_event", detail));
    }
    // A client takes these for the protocol's own words, and would tear its channel down.
    if wish.event.starts_with("phx_") {
        return Err(Problem::bad_request("invalid_event", "Events that begin with phx_ belong to the protocol."));
    }
    Ok(())
}

fn idempotency_key(headers: &HeaderMap, principal: &Principal) -> Result<Option<Key>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_key =
        |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = value.to_str().ok().filter(is_key).filter(|_| values.next().is_none());
    let key = key.ok_or_else(|| {
        let detail = format!(
            "Idempotency-Key must be there once, with 1 to {KEY_BYTES_MAX} visible ASCII characters and no space, such as a UUID."
        );
        Problem::bad_request("invalid_idempotency_key", detail)
    })?;
    let owner = match principal.who() {
        Who::Stranger => String::new(),
        Who::Key(name) => format!("key:{name}"),
        Who::User(user) => format!("user:{}", user.as_deref().unwrap_or_default()),
    };
    Ok(Some(Key { owner, key: key.to_owned() }))
}

fn fingerprint(topic: &Topic, event: &str, payload: &[u8]) -> [u8; 32] {
    // The lengths keep two different splits of the same bytes apart.
    let head = format!("{}:{}:{topic}{event}", topic.len(), event.len());
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &[head.as_bytes(), payload].concat()).as_ref());
    out
}

fn accepted(replayed: bool) -> Response {
    let mut response =
        (StatusCode::ACCEPTED, [(header::CACHE_CONTROL, "no-store")], axum::Json(json!({"accepted": true})))
            .into_response();
    if replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}
