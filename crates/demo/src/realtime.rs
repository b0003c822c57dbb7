//! The topics `realtime:*`: what supabase's `realtime-js` asks of a channel, as far as it is about broadcasts.
//!
//! That client speaks Phoenix Channels with one event `broadcast` for all of the application's own. Its join says whether a sender wants
//! its own messages back (`self`) and an answer to each (`ack`).

use serde::Deserialize;
use serde_json::{Value, json};
use tickwire_channels::{Channel, Context, Flow, JoinRequest, Joined, Joining, Kind, Payload, Refusal, Status};

use super::{json, parse, refuse};

/// The kind of these topics.
pub(super) struct Realtime;

/// The join's payload. What is of another shape is as if it were absent.
#[derive(Deserialize, Default)]
#[serde(default)]
struct JoinParams {
    config: Config,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    broadcast: Broadcast,
    postgres_changes: Vec<Value>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
struct Broadcast {
    ack: bool,
    #[serde(rename = "self")]
    own: bool,
}

impl Kind for Realtime {
    fn join(&self, request: JoinRequest) -> Joining {
        let JoinParams { config } = parse(&request.params).unwrap_or_default();
        if !config.postgres_changes.is_empty() {
            // The client compares what it asked for with the answer: one that leaves out its wishes would be refused there, without a reason.
            return Refusal::reason("postgres_changes is not available: there is no database behind this server")
                .into();
        }
        Joined::new(Room { broadcast: config.broadcast }).reply(json(&json!({"postgres_changes": []}))).into()
    }
}

/// One joined topic.
struct Room {
    broadcast: Broadcast,
}

impl Channel for Room {
    fn handle(&mut self, event: &str, payload: &Payload, context: &mut Context<'_>) -> Flow {
        match event {
            "broadcast" => self.broadcast(payload, context),
            // A new token of the client's own: nothing here depends on it, and the client waits for no answer.
            "access_token" => {}
            "presence" => refuse(context, "presence is not available in this version"),
            _ => refuse(context, "unknown event"),
        }
        Flow::Continue
    }
}

impl Room {
    fn broadcast(&self, payload: &Payload, context: &mut Context<'_>) {
        let sent = match self.broadcast.own {
            true => context.broadcast("broadcast", payload.clone()),
            false => context.broadcast_from("broadcast", payload.clone()),
        };
        match sent {
            Ok(()) if self.broadcast.ack => context.reply(Status::Ok, Payload::empty()),
            Ok(()) => {}
            Err(busy) => refuse(context, &busy.to_string()),
        }
    }
}
