//! The demo channel: it does what it is told.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tickwire_channels::{Channel, Context, Flow, JoinRequest, Joined, Joining, Kind, Payload, Refusal, Status, Stop};

use super::{TokenOf, json, parse, refuse};

/// How many messages one event may ask for: more than any test needs, and no more than a worker hands out without holding up others.
const MESSAGES_MAX: u64 = 100_000;
/// How many bytes one event may ask for.
const BYTES_MAX: u64 = 16 << 20;
/// How late a late reply is.
const LATE: Duration = Duration::from_millis(100);

/// The kind of the topics `room:*` and `lobby`.
pub(super) struct Playground {
    pub(super) token_of: TokenOf,
}

/// What a join may ask for. What is of another shape asks for nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct JoinParams {
    echo_params: Value,
    push_on_join: Value,
}

impl Kind for Playground {
    fn join(&self, request: JoinRequest) -> Joining {
        match request.topic.as_str() {
            "room:forbidden" => return Refusal::reason("unauthorized").into(),
            "room:crash_join" => crash("the join crashes, as this topic does"),
            _ => {}
        }
        let asked: JoinParams = parse(&request.params).unwrap_or_default();
        let mut joined = Joined::new(Room { token_of: self.token_of });
        if asked.echo_params == json!(true) {
            // The very bytes: going through values would lose digits.
            let reply = [b"{\"params\":", request.params.bytes().as_ref(), b"}"].concat();
            joined = joined.reply(Payload::Json(reply.into()));
        }
        if asked.push_on_join == json!(true) {
            joined = joined.push("hello", Payload::empty());
        }
        joined.into()
    }
}

/// One joined topic.
struct Room {
    token_of: TokenOf,
}

impl Channel for Room {
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
        match event {
            "echo" | "binary_echo" => context.reply(Status::Ok, payload.clone()),
            "echo_error" | "binary_error" => context.reply(Status::Error, payload.clone()),
            "reply_status_only" => context.reply(Status::Ok, Payload::empty()),
            "noreply" => {}
            "late_reply" => late_reply(payload.clone(), context),
            "push_me" => context.push("pushed", payload.clone()),
            "binary_push" => context.push("binary_pushed", payload.clone()),
            "binary_out" => binary_out(payload, context),
            "shout" | "binary_shout" => shout(event, payload, context),
            "shout_from" => shout_from(event, payload, context),
            "shout_reply" => {
                shout("shout", payload, context);
                context.reply(Status::Ok, Payload::empty());
            }
            "push_n" => sequence(payload, context, |context, payload| context.push("seq", payload)),
            "shout_n" => sequence(payload, context, |context, payload| shout("seq", &payload, context)),
            "connect_info" => self.connect_info(context),
            "presence_list" | "update_meta" | "untrack" => {
                refuse(context, "presence is not available in this version");
            }
            "crash" => crash("the channel crashes, as it was told"),
            "stop" | "stop_noreply" | "stop_shutdown" | "stop_reason" => return stop(event, payload, context),
            _ => refuse(context, "unknown event"),
        }
        Flow::Continue
    }
}

impl Room {
    fn connect_info(&self, context: &mut Context<'_>) {
        let socket = context.socket();
        let params: Map<_, _> = socket.params.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let info = json!({"auth_token": (self.token_of)(socket), "params": params});
        context.reply(Status::Ok, json(&info));
    }
}

/// Other events are handled meanwhile.
fn late_reply(payload: Payload, context: &mut Context<'_>) {
    context.defer(async move {
        tokio::time::sleep(LATE).await;
        (Status::Ok, payload)
    });
}

fn shout(event: &str, payload: &Payload, context: &mut Context<'_>) {
    if let Err(busy) = context.broadcast(event, payload.clone()) {
        refuse(context, &busy.to_string());
    }
}

fn shout_from(event: &str, payload: &Payload, context: &mut Context<'_>) {
    if let Err(busy) = context.broadcast_from(event, payload.clone()) {
        refuse(context, &busy.to_string());
    }
}

/// Sends as many messages as the payload says, `{"i": 0}` the first, then answers.
fn sequence(payload: &Payload, context: &mut Context<'_>, mut send: impl FnMut(&mut Context<'_>, Payload)) {
    #[derive(Deserialize)]
    struct Wish {
        n: u64,
    }
    match parse(payload) {
        Some(Wish { n }) if n <= MESSAGES_MAX => {
            for i in 0..n {
                send(context, Payload::Json(Bytes::from(format!("{{\"i\":{i}}}"))));
            }
            context.reply(Status::Ok, Payload::empty());
        }
        _ => refuse(context, &format!("expected {{\"n\": how many}}, at most {MESSAGES_MAX}")),
    }
}

/// Pushes bytes.
fn binary_out(payload: &Payload, context: &mut Context<'_>) {
    #[derive(Deserialize)]
    struct Wish {
        n: u64,
        #[serde(default)]
        b: u8,
        #[serde(default)]
        event: Option<String>,
    }
    let wish: Option<Wish> = parse(payload).filter(|wish: &Wish| wish.n <= BYTES_MAX);
    let Some((wish, len)) = wish.and_then(|wish| usize::try_from(wish.n).ok().map(|len| (wish, len))) else {
        return refuse(
            context,
            &format!("expected {{\"n\": how many, \"b\": which byte, \"event\": name}}, at most {BYTES_MAX} bytes"),
        );
    };
    context.push(wish.event.as_deref().unwrap_or("binary_pushed"), Payload::Binary(vec![wish.b; len].into()));
    context.reply(Status::Ok, Payload::empty());
}

/// Ends the channel in the way that the event names.
fn stop(event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
    Flow::Stop(match event {
        "stop" => {
            context.reply(Status::Ok, payload.clone());
            Stop::Normal
        }
        "stop_noreply" => Stop::Normal,
        "stop_shutdown" => Stop::Shutdown,
        _ => Stop::Failed("as it was told".to_owned()),
    })
}

#[expect(clippy::panic, reason = "a client asks for it, to see that nobody else notices")]
fn crash(why: &str) -> ! {
    panic!("{why}")
}
