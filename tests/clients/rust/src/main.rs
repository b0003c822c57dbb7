//! A driver of `phoenix_channels_client`, as `adapters/driver.mjs` describes them. The library has no join parameters, shows no
//! join reply and does not reconnect.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use phoenix_channels_client::{Channel, ChannelError, Client, Config, Payload, SendError};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// The library wants to know which events to listen for.
const EVENTS: [&str; 5] = ["update", "snapshot", "pong", "shout", "news"];
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(10));

#[derive(Default)]
struct Driver {
    client: Option<Client>,
    channels: HashMap<String, Arc<Channel>>,
}

fn tell(message: &Value) {
    println!("{message}");
}

fn value(payload: &Payload) -> Value {
    match payload {
        Payload::Value(value) => value.clone(),
        Payload::Binary(bytes) => json!(bytes),
    }
}

impl Driver {
    async fn obey(&mut self, command: Value) {
        let id = command["id"].clone();
        let topic = command["topic"].as_str().unwrap_or_default().to_owned();
        let event = command["event"].as_str().unwrap_or_default().to_owned();
        match command["do"].as_str() {
            Some("connect") => self.connect(&command).await,
            Some("join") => return self.join(id, topic).await,
            Some("push") => {
                let channel = Arc::clone(&self.channels[&topic]);
                tokio::spawn(async move {
                    let (status, response) =
                        match channel.send_with_timeout(event, command["payload"].clone(), TIMEOUT).await {
                            Ok(payload) => ("ok", value(&payload)),
                            Err(SendError::Reply(payload)) => ("error", value(&payload)),
                            Err(other) => ("timeout", json!(other.to_string())),
                        };
                    tell(&json!({"id": id, "status": status, "response": response}));
                });
                return;
            }
            Some("cast") => {
                self.channels[&topic].send_noreply(event, command["payload"].clone()).await.expect("a joined channel")
            }
            Some("leave") => self.channels.remove(&topic).expect("a joined channel").leave().await,
            other => panic!("unknown command {other:?}"),
        }
        tell(&json!({"id": id, "status": "ok", "response": null}));
    }

    async fn connect(&mut self, command: &Value) {
        let url = format!("{}/websocket", command["url"].as_str().expect("a url"));
        let mut config = Config::new(url.as_str()).expect("a url");
        for (key, value) in command["params"].as_object().into_iter().flatten() {
            config.set(key.as_str(), value.as_str().unwrap_or_default());
        }
        let mut client = Client::new(config).expect("a configuration");
        client.connect().await.expect("a connection");
        self.client = Some(client);
    }

    async fn join(&mut self, id: Value, topic: String) {
        let client = self.client.as_ref().expect("connected");
        let channel = match client.join(&topic, TIMEOUT).await {
            Ok(channel) => channel,
            Err(ChannelError::JoinFailed(payload)) => {
                return tell(&json!({"id": id, "status": "error", "response": value(&payload)}));
            }
            Err(other) => return tell(&json!({"id": id, "status": "timeout", "response": other.to_string()})),
        };
        for event in EVENTS {
            let handler = move |channel: Arc<Channel>, payload: &Payload| {
                tell(&json!({"topic": channel.topic(), "event": event, "payload": value(payload)}));
            };
            channel.on(event, handler).await.expect("a joined channel");
        }
        self.channels.insert(topic.clone(), channel);
        tell(&json!({"topic": topic, "joined": {}}));
        tell(&json!({"id": id, "status": "ok", "response": {}}));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut driver = Driver::default();
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("a line") {
        driver.obey(serde_json::from_str(&line).expect("a command")).await;
    }
}
